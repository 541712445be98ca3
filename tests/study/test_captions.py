from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from decsc_core.noise import CASES
from decsc_core.scenes import DATASETS, Scene
from decsc_core.study import captions, evaluate, paper

STORY = {
    "training": {"dataset": "cave", "case": "gauss-95", "seed": 0},
    "seconds": 5700.0,
    "patches": 22_000,
    "environment": {"device": "cpu"},
}
WEIGHTS = {"file": "decsc-small-gauss-95.safetensors", "sha256": "ab" * 32, "story": STORY}


def test_every_case_has_a_name_in_print():
    assert set(captions.CASES) == {*CASES, evaluate.AS_IS}


def test_stand_ins_are_named():
    assert "standing in for ICVL" in captions.describe_data("photos")
    assert captions.describe_data("icvl") == "Data: ICVL."


def test_the_budget_comes_from_the_story_of_the_weights():
    text = captions.describe_weights([("noisy", None), ("decsc", WEIGHTS), ("decsc", WEIGHTS)])
    assert text.count("decsc-small") == 1
    for part in (
        "DECSC",
        "decsc-small-gauss-95.safetensors",
        "abababababab",
        "CAVE",
        "95 minutes",
        "22,000 patches",
        "CPU",
    ):
        assert part in text
    assert "22,001" in captions.describe_weights([("decsc", WEIGHTS | {"story": STORY | {"patches": 22_001}})])
    both = STORY | {"training": STORY["training"] | {"case": ["gauss-15", "corr"]}}
    text = captions.describe_weights([("decsc", WEIGHTS | {"story": both})])
    assert "σ in [0, 15] or noise with spectrally correlated variance" in text
    every = STORY | {"training": STORY["training"] | {"case": ["gauss-15", "gauss-55", "gauss-95", "mixture", "corr"]}}
    assert "with all five noise cases, seed 0" in captions.describe_weights([("decsc", WEIGHTS | {"story": every})])
    assert captions.describe_weights([("tv", None)]) == ""
    assert captions.describe_weights([("decsc", WEIGHTS | {"story": {}})]).endswith("(SHA-256 abababababab).")


def test_methods_that_were_trained_alike_share_a_sentence():
    other = WEIGHTS | {"story": STORY | {"training": STORY["training"] | {"seed": 1}}}
    text = captions.describe_weights([("decsc", WEIGHTS), ("sst", other), ("sert", WEIGHTS | {"file": "sert.safetensors"})])
    assert text.count("trained on CAVE") == 2
    first, second = text.split("Weights")[1:]
    assert "DECSC decsc" in first and "SERT sert" in first and "SST" in second and "seed 1" in second


def test_fine_tuning_is_told_with_what_came_before():
    tuned = {"training": STORY["training"] | {"dataset": "remote"}, "seconds": 600.0, "patches": 800,
             "environment": {"device": "cpu"}, "ancestor": {"sha256": "cd" * 32, "story": STORY}}
    text = captions.describe_weights([("decsc", WEIGHTS | {"story": tuned})])
    assert "; 10 minutes, 800 patches; before that 1 training on CAVE, 95 minutes on CPU)" in text


def test_what_came_before_is_summed_up_by_device():
    def after(story, device, seconds):
        return STORY | {"seconds": seconds, "environment": {"device": device}, "ancestor": {"sha256": "cd" * 32, "story": story}}

    tuned = after(after(after(STORY, "cpu", 300.0), "NVIDIA H200, shared by four trainings", 1080.0), "NVIDIA H200", 600.0)
    text = captions.describe_weights([("decsc", WEIGHTS | {"story": tuned})])
    assert "; before that 3 trainings on CAVE, 18 minutes on NVIDIA H200 and 100 minutes on CPU)" in text


@pytest.mark.parametrize(("seconds", "text"), [(90, "90 seconds"), (5700, "95 minutes"), (5 * 3600, "5 hours")])
def test_durations(seconds, text):
    assert f"; {text}, " in captions.describe_weights([("decsc", WEIGHTS | {"story": STORY | {"seconds": seconds}})])


def test_missing_peers_are_those_of_the_paper():
    assert captions.missing_peers(["noisy", "decsc", "tv"]).startswith(
        "Rows of the paper that are not here: BM4D, MTSNMF"
    )
    assert captions.missing_peers(list(paper.METHODS)) == ""


def test_rows_are_described_and_traced(tmp_path, monkeypatch):
    scene = Scene(np.random.default_rng(0).random((16, 16, 31), dtype=np.float32), "north")
    monkeypatch.setattr(evaluate, "load_scene", lambda dataset, name: scene)
    given = {"seed": 2, "folder": tmp_path, "scenes": ["north"]}
    rows = evaluate.score_rows("quick", "photos", "corr", "noisy", **given)
    text = captions.describe_rows(rows, tmp_path)
    assert text.startswith("Noise with spectrally correlated variance; 1 test scene. Data: Embedded photographs")
    traced = captions.provenance(rows, tmp_path)
    assert traced["scenes"] == {"north": scene.sha256()} and traced["seed"] == 2 and traced["cases"] == ["corr"]
    assert traced["methods"]["noisy"]["corr"]["code"] == rows["code"].iloc[0]


def test_rows_of_several_cases_and_of_crops_say_so(tmp_path, monkeypatch):
    scene = Scene(np.random.default_rng(0).random((20, 18, 31), dtype=np.float32), "north")
    monkeypatch.setattr(evaluate, "load_scene", lambda dataset, name: scene)
    given = {"seed": 2, "folder": tmp_path, "scenes": ["north"], "crop": 12}
    rows = pd.concat([evaluate.score_rows("quick", "photos", case, "noisy", **given) for case in ("corr", "mixture")])
    text = captions.describe_rows(rows, tmp_path)
    assert text.startswith(
        "Noise with spectrally correlated variance; mixture noise; 1 test scene, of each the central 12 x 12 pixels. Data: "
    )
    assert text.count("Data: ") == 1
    traced = captions.provenance(rows, tmp_path)
    assert traced["cases"] == ["corr", "mixture"] and traced["crop"] == 12
    assert traced["scenes"]["north"] == Scene(scene.cube[4:16, 3:15], "north").sha256()


def test_scenes_of_another_kind_are_told():
    assert "no remote-sensing scenes" in captions.describe_place("photos")
    assert captions.describe_place("remote") == captions.describe_place("real-noise") == ""
    assert set(captions.REMOTE_SENSING) < set(DATASETS)
