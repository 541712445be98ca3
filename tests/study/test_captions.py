from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from decsc_core.model import preset
from decsc_core.networks.catalog import configure
from decsc_core.noise import CASES
from decsc_core.scenes import DATASETS, Scene
from decsc_core.study import captions, evaluate, paper

STORY = {
    "training": {"dataset": "cave", "case": "gauss-95", "seed": 0},
    "seconds": 6000.0,
    "cpu_seconds": 5700.0,
    "patches": 22_000,
    "environment": {"device": "cpu"},
}
WEIGHTS = {"file": "decsc-small-gauss-95.safetensors", "sha256": "ab" * 32, "story": STORY}


def test_every_case_has_a_name_in_print():
    assert set(captions.CASES) == {*CASES, evaluate.AS_IS}


def test_a_noise_case_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="^there is no noise case 'gauss-99'; there are gauss-15, .*as-is$"):
        captions.describe_noise("gauss-99")


def test_stand_ins_are_named():
    assert "standing in for ICVL" in captions.describe_data("photos")
    assert captions.describe_data("icvl") == "Data: ICVL."


def test_a_single_file_is_named_with_its_training():
    text = captions.describe_weights([("noisy", None), ("decsc", WEIGHTS), ("decsc", WEIGHTS)])
    assert text == (
        "Weights: DECSC, decsc-small-gauss-95.safetensors (SHA-256 abababababab), trained on CAVE with non-i.i.d. Gaussian noise, "
        "σ in [0, 95], 95 minutes of CPU time."
    )
    both = STORY | {"training": STORY["training"] | {"case": ["gauss-15", "corr"]}}
    text = captions.describe_weights([("decsc", WEIGHTS | {"story": both})])
    assert "σ in [0, 15] or noise with spectrally correlated variance" in text
    every = STORY | {"training": STORY["training"] | {"case": ["gauss-15", "gauss-55", "gauss-95", "mixture", "corr"]}}
    assert "CAVE with all five noise cases, 95" in captions.describe_weights([("decsc", WEIGHTS | {"story": every})])
    assert captions.describe_weights([("tv", None)]) == ""
    assert captions.describe_weights([("decsc", WEIGHTS | {"story": {}})]).endswith("(SHA-256 abababababab).")


def test_methods_that_were_trained_alike_share_a_sentence():
    def weights(number, **changes):
        return {"file": "f", "sha256": f"{number}" * 64, "story": STORY | changes}

    gpu = {"environment": {"device": "NVIDIA H200, shared by four trainings"}, "seconds": 1080.0}
    elsewhere = {"training": STORY["training"] | {"dataset": "photos"}}
    text = captions.describe_weights([
        ("decsc", weights(1)), ("sst", weights(2)), ("sert", weights(3, **gpu)), ("hsdt", weights(4, **elsewhere)), ("t3sc", {**weights(5), "story": {}}),
    ])
    assert text == (
        "Weights trained on CAVE with non-i.i.d. Gaussian noise, σ in [0, 95]: DECSC, SST 95 minutes of CPU time; SERT 18 minutes on a shared NVIDIA H200. "
        "Weights trained on Embedded photographs with non-i.i.d. Gaussian noise, σ in [0, 95]: HSDT 95 minutes of CPU time. "
        "Weights of a training that they do not tell: T3SC."
    )


def test_trainings_that_came_before_are_summed_up_by_device():
    def after(story, device, seconds, dataset="cave"):
        training = STORY["training"] | {"dataset": dataset}
        return STORY | {
            "training": training, "seconds": seconds, "cpu_seconds": seconds, "environment": {"device": device}, "ancestor": {"sha256": "cd" * 32, "story": story}
        }

    tuned = after(after(after(STORY, "cpu", 300.0), "NVIDIA H200, shared by four trainings", 1080.0), "cpu", 5400.0, "remote")
    text = captions.describe_weights([("decsc", WEIGHTS | {"story": tuned})])
    assert f"trained on CAVE, then on {DATASETS['remote'].title} with" in text
    assert text.endswith(", 3.2 hours of CPU time and 18 minutes on a shared NVIDIA H200.")


@pytest.mark.parametrize(("seconds", "text"), [(90, "90 seconds"), (5700, "95 minutes"), (5 * 3600, "5 hours"), (11_880, "3.3 hours")])
def test_durations(seconds, text):
    assert f", {text} of CPU time." in captions.describe_weights([("decsc", WEIGHTS | {"story": STORY | {"cpu_seconds": seconds}})])


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
    assert text.startswith("Noise with spectrally correlated variance, drawn once, seed 2; 1 test scene. Data: Embedded photographs")
    traced = captions.provenance(rows, tmp_path)
    assert traced["scenes"] == {"north": scene.sha256()} and traced["seed"] == 2 and traced["cases"] == ["corr"]
    assert traced["methods"]["noisy"]["corr"]["code"] == rows["code"].iloc[0]


def test_a_method_of_ours_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "load_scene", lambda dataset, name: Scene(np.random.default_rng(0).random((16, 16, 5), dtype=np.float32), name))
    rows = evaluate.score_rows("quick", "photos", "corr", "ngmeet-white", seed=2, folder=tmp_path, scenes=["north"])
    told = "NGMeet (whitened) is ours: each band divided by its noise level before, multiplied after."
    assert captions.describe_rows(rows, tmp_path).endswith(told)


@pytest.mark.parametrize("changes, told", [
    ({}, "DECSC has 64 + 16 atoms and a stride of 4, the paper's 192 + 96 atoms and a stride of 7, and gives back what"),
    ({"shared_atoms": 192, "unshared_atoms": 96, "stride": 7}, "DECSC is of the paper's size, but gives back what"), ({"misfit": 0.0}, None),
])
def test_what_decsc_has_otherwise_than_the_paper_is_told(changes, told):
    story = {"training": {"model": asdict(preset("small", **changes))}}
    text = captions.describe_denoiser({"story": story})
    assert text.startswith(told) if told else text == ""
    assert captions.describe_denoiser(None) == captions.describe_denoiser({"story": {}}) == ""


@pytest.mark.parametrize("gross_errors, told", [
    (0.0, "MTSNN++ (ours) is our reconstruction from an abstract."),
    (0.015, "MTSNN++ (ours) is our reconstruction from an abstract, with further estimates where the first one shows gross errors, as DECSC's denoiser makes further passes."),
])
def test_further_estimates_of_our_reconstruction_are_told(gross_errors, told):
    story = {"training": {"model": asdict(configure("mtsnnpp", gross_errors=gross_errors))}}
    assert captions.describe_reconstruction({"story": story}) == told
    assert captions.describe_reconstruction(None) == captions.describe_reconstruction({"story": {}}) == "MTSNN++ (ours) is our reconstruction from an abstract."


def test_peers_of_another_size_than_the_published_one_are_told():
    def told(method: str, size: str, **changes) -> tuple[str, dict]:
        return method, {"sha256": f"{method} {size} {changes}", "story": {"training": {"model": asdict(configure(method, size, **changes))}}}

    paper = [told("sert", "paper"), told("hsdt", "paper"), told("qrnn3d", "paper"), told("decsc", "small"), ("tv", None), ("sst", {"sha256": "1", "story": {"official": "sst.pth"}})]
    assert captions.describe_sizes(paper) == captions.describe_sizes([told("sst", "paper", bands=12, init="identity")]) == ""
    small = [told("sst", "small"), *paper, told("sert", "small")]
    assert captions.describe_sizes(small) == "Not of the published size: SST, 0.46 M parameters in place of 4.1; SERT, 0.26 M parameters in place of 1.9."


def test_the_rows_of_decsc_tell_it(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "load_scene", lambda dataset, name: Scene(np.random.default_rng(0).random((16, 16, 31), dtype=np.float32), name))
    rows = evaluate.score_rows("quick", "photos", "corr", "decsc", seed=2, folder=tmp_path, scenes=["north"])
    assert "filters the noisy cube by its estimate, which the paper's does not" in captions.describe_rows(rows, tmp_path)
    traced = captions.provenance(rows, tmp_path)
    used = traced["methods"]["decsc"]["corr"]["weights"]
    assert used.startswith(rows["weights"].iloc[0]) and traced["weights"][used]["story"]["training"]


def test_rows_of_several_cases_and_of_crops_say_so(tmp_path, monkeypatch):
    scene = Scene(np.random.default_rng(0).random((20, 18, 31), dtype=np.float32), "north")
    monkeypatch.setattr(evaluate, "load_scene", lambda dataset, name: scene)
    given = {"seed": 2, "folder": tmp_path, "scenes": ["north"], "crop": 12}
    rows = pd.concat([evaluate.score_rows("quick", "photos", case, "noisy", **given) for case in ("corr", "mixture")])
    text = captions.describe_rows(rows, tmp_path)
    assert text.startswith(
        "Noise with spectrally correlated variance; mixture noise, drawn once, seed 2; 1 test scene, of it at most the central 12 x 12 pixels. Data: "
    )
    assert text.count("Data: ") == 1
    traced = captions.provenance(rows, tmp_path)
    assert traced["cases"] == ["corr", "mixture"] and traced["crop"] == 12
    assert traced["scenes"]["north"] == Scene(scene.cube[4:16, 3:15], "north").sha256()


def test_scenes_of_another_kind_are_told():
    assert "no remote-sensing scenes" in captions.describe_place("photos")
    assert captions.describe_place("remote") == captions.describe_place("real-noise") == captions.describe_place("own") == ""
    assert set(captions.REMOTE_SENSING) < set(DATASETS)
