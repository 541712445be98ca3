"""study.rows: rows of several methods, the estimates of the scene of the figures, row means."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from decsc_core.scenes import Scene
from decsc_core.study import evaluate, paper
from decsc_core.study.rows import estimates, gather, of_case, row_mean_distances, row_means


@pytest.fixture
def rows(tmp_path, monkeypatch) -> pd.DataFrame:
    scenes = {
        name: Scene(np.random.default_rng(seed).random((20, 18, 31), dtype=np.float32), name)
        for seed, name in enumerate(("north", "south"))
    }
    monkeypatch.setattr(evaluate, "load_scene", lambda dataset, name: scenes[name])
    return gather(
        "quick", "photos", ["corr", "gauss-95"], ["noisy", "tv"], seed=2, folder=tmp_path, scenes=list(scenes), crop=16
    )


def test_rows_come_case_by_case_and_method_by_method(rows):
    order = list(rows[["case", "method"]].drop_duplicates().itertuples(index=False, name=None))
    assert order == [("corr", "noisy"), ("corr", "tv"), ("gauss-95", "noisy"), ("gauss-95", "tv")]
    assert list(rows["scene"]) == ["north", "south"] * 4


def test_rows_of_one_case_are_those_that_were_scored(rows):
    assert set(of_case(rows, "corr")["case"]) == {"corr"} and len(of_case(rows, "corr")) == 4
    with pytest.raises(ValueError, match="^case='mixture' is none of the noise cases that were scored; choose one of corr, gauss-95$"):
        of_case(rows, "mixture")


@pytest.mark.parametrize("empty", ["cases", "methods"])
def test_no_rows_can_be_asked_for_without_cases_or_methods(tmp_path, empty):
    asked = {"cases": ["corr"], "methods": ["noisy"]} | {empty: []}
    with pytest.raises(ValueError, match=f"^{empty} is empty; give at least one$"):
        gather("quick", "photos", **asked, seed=0, folder=tmp_path)


def test_weights_of_a_method_that_there_is_not_are_refused(tmp_path):
    with pytest.raises(ValueError, match="^weights: there is no method 'decs'; there are decsc, "):
        gather("quick", "photos", ["corr"], ["noisy"], seed=0, folder=tmp_path, weights={"decs": "mine.safetensors"})


def test_each_scene_is_read_once_where_all_rows_are_there(rows, tmp_path, monkeypatch):
    read, load = [], evaluate.load_scene
    monkeypatch.setattr(evaluate, "load_scene", lambda dataset, name: read.append(name) or load(dataset, name))
    again = gather("quick", "photos", ["corr", "gauss-95"], ["noisy", "tv"], seed=2, folder=tmp_path, scenes=["north", "south"], crop=16)
    pd.testing.assert_frame_equal(again, rows)
    assert read == ["north", "south"]


def test_estimates_are_those_of_the_first_scene_as_it_was_evaluated(rows, tmp_path):
    scene, cubes, notes = estimates(rows[rows["case"] == "gauss-95"], tmp_path)
    assert scene.name == "north" and scene.cube.shape == (16, 16, 31)
    assert list(cubes) == ["Noisy", "TV"]
    np.testing.assert_array_equal(cubes["Noisy"], evaluate.noisy_cube(scene, "gauss-95", 2))
    own = rows.query("case == 'gauss-95' and scene == 'north'").set_index("method")["psnr"]
    assert notes == {"Noisy": f"{own['noisy']:.2f} dB", "TV": f"{own['tv']:.2f} dB"}


def test_row_means_and_their_distances():
    clean = np.arange(24.0).reshape(2, 3, 4)
    profiles = row_means({"Clean": clean, "TV": clean + [[[3]], [[4]]]}, 2)
    assert profiles.to_dict("list") == {"row": [1, 2], "Clean": [5, 17], "TV": [8, 21]}
    table = row_mean_distances(profiles)
    assert table.to_dict("list") == {"method": ["TV"], "RMS difference from clean": [pytest.approx(12.5**0.5)]}


@pytest.mark.parametrize(
    ("figure", "bands", "shown"),
    [
        (4, 31, (31, 17, 2)),
        (5, 31, (28,)),
        (6, 46, (39, 20, 4)),
        (6, 92, (78, 40, 8)),
        (8, 166, (97, 95, 1)),
        (8, 31, (18, 18, 1)),
        (10, 166, (153, 107, 94)),
    ],
)
def test_a_figure_shows_the_papers_bands_or_those_at_the_same_place(figure, bands, shown):
    assert paper.figure_bands(figure, bands) == shown
