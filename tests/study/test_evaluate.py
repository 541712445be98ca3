from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from pooch import file_hash

from decsc_core import metrics, weights
from decsc_core.denoisers import Denoiser, Estimate, Record
from decsc_core.model import DECSC, preset
from decsc_core.scenes import Scene
from decsc_core.study import evaluate

SCENES = ("north", "south")


@pytest.fixture
def scenes(monkeypatch) -> dict[str, Scene]:
    """Two small scenes in place of a data set's; the test may change them."""
    rng = np.random.default_rng(0)
    cubes = {name: Scene(rng.random((20, 18, 31), dtype=np.float32), name) for name in SCENES}
    monkeypatch.setattr(evaluate, "load_scene", lambda dataset, name: cubes[name])
    monkeypatch.setattr(evaluate, "scene_names", lambda dataset, split: SCENES)
    return cubes


@pytest.fixture
def halving(monkeypatch) -> list[np.ndarray]:
    """A method called `decsc` that halves the cube; what it is given is listed."""
    seen = []

    class Halving(Denoiser):
        name, kind = "decsc", "model-driven"

        def _denoise(self, noisy, progress):
            seen.append(noisy.copy())
            return Estimate(noisy / 2, [Record([0.5, 0.25], 2, True), Record([0.5, 0.125, 0.0625], 4, True)])

    monkeypatch.setattr(evaluate, "make", lambda name, **options: Halving())
    return seen


def score(folder, method="decsc", **changed):
    return evaluate.score_rows("quick", "photos", "corr", method, **{"seed": 3, "folder": folder} | changed)


def test_rows_hold_the_scores_and_the_evidence(tmp_path, scenes, halving):
    rows = score(tmp_path)
    assert tuple(rows.columns) == evaluate.COLUMNS
    assert list(rows["scene"]) == list(SCENES)
    for (_, row), scene, noisy in zip(rows.iterrows(), scenes.values(), halving):
        expected = metrics.scores(scene.cube, noisy / 2)
        assert {name: row[name] for name in expected} == expected
    assert set(rows["iterations"]) == {3.0} and set(rows["residual"]) == {0.25}
    assert (rows["seconds"] >= 0).all() and (rows["memory_mb"] > 20).all()
    assert set(rows["weights"]) == {""}


def test_scenes_keep_their_names_in_rows(tmp_path, scenes, halving, monkeypatch):
    """Also such as a table might take for numbers or for nothing."""
    names = ("001", "NA")
    monkeypatch.setattr(evaluate, "scene_names", lambda dataset, split: names)
    scenes |= {name: Scene(scenes["north"].cube, name) for name in names}
    assert list(score(tmp_path)["scene"]) == list(score(tmp_path)["scene"]) == list(names)


def test_a_method_without_iterations_leaves_them_empty(tmp_path, scenes):
    rows = score(tmp_path, "noisy")
    assert rows[["iterations", "residual"]].isna().all(axis=None)
    assert rows["psnr"].iloc[0] == metrics.mpsnr(scenes["north"].cube, evaluate.noisy_cube(scenes["north"], "corr", 3))


def test_noise_depends_on_seed_and_name_alone(tmp_path, scenes, halving):
    score(tmp_path / "both")
    score(tmp_path / "one", scenes=["south"])
    assert np.array_equal(halving[1], halving[2])
    north, south = (noisy - scene.cube for noisy, scene in zip(halving, scenes.values()))
    assert not np.allclose(north, south, atol=1e-3)
    other = evaluate.noisy_cube(scenes["south"], "corr", 4)
    assert not np.array_equal(other, halving[1])


def test_the_same_inputs_are_not_computed_again(tmp_path, scenes, halving):
    first = score(tmp_path)
    again = score(tmp_path)
    assert len(halving) == 2
    pd.testing.assert_frame_equal(first, again, check_exact=True)


def test_scenes_are_read_no_more_often_than_needed(tmp_path, scenes, halving, monkeypatch):
    """Once where rows are there, for a single scene, or of crops, which are kept; else all before the first is denoised, and each again."""
    read = []
    monkeypatch.setattr(evaluate, "load_scene", lambda dataset, name: read.append(name) or scenes[name])
    for options, names in (({}, SCENES * 2), ({}, SCENES), ({"scenes": ["south"]}, ["south"]), ({"crop": 16}, SCENES)):
        score(tmp_path, **options)
        assert read == list(names)
        read.clear()


def test_a_scene_that_is_not_there_is_told_before_any_is_denoised(tmp_path, scenes, halving):
    with pytest.raises(KeyError, match="east"):
        score(tmp_path, scenes=["north", "east"])
    assert not halving


@pytest.mark.parametrize("changed", [{"seed": 4}, {"crop": 16}, {"scenes": ["south", "north"][:1]}])
def test_a_changed_option_computes_again(tmp_path, scenes, halving, changed):
    score(tmp_path)
    before = len(halving)
    score(tmp_path, **changed)
    assert len(halving) > before


def test_a_changed_scene_computes_again(tmp_path, scenes, halving):
    score(tmp_path)
    scenes["south"] = scenes["south"].with_cube(scenes["south"].cube + np.float32(0.125))
    rows = score(tmp_path)
    assert len(halving) == 4
    assert rows["psnr"].iloc[1] == metrics.mpsnr(scenes["south"].cube, halving[3] / 2)


def test_bands_of_a_single_value_are_neither_noisy_nor_scored(tmp_path, scenes, halving):
    cube = scenes["south"].cube.copy()
    cube[:, :, 3] = 0.5
    scenes["south"] = replace(scenes["south"], cube=cube, wavelengths=np.arange(400.0, 431))
    score(tmp_path)
    assert [noisy.shape[2] for noisy in halving] == [31, 30]
    assert 403 not in evaluate.evaluated_scene("photos", "south").wavelengths


def test_changed_weights_compute_again(tmp_path, scenes, monkeypatch):
    import torch

    files = []
    for seed in (0, 1):
        path = tmp_path / f"{seed}.safetensors"
        weights.save(DECSC(preset("tiny", shifts=1), torch.Generator().manual_seed(seed)), path, {"seed": seed})
        files.append(path)
    first, second, again = (score(tmp_path, weights=path, scenes=["north"]) for path in (*files, files[1]))
    assert first["weights"].iloc[0] == file_hash(files[0])[:12]
    assert first["psnr"].iloc[0] != second["psnr"].iloc[0]
    assert second["iterations"].iloc[0] >= 1 and second["residual"].iloc[0] > 0
    pd.testing.assert_frame_equal(second, again)
    assert evaluate.sidecar(tmp_path, "photos", "corr", "decsc")["weights"]["story"] == {"seed": 1}


def test_scenes_for_which_the_package_has_different_weights_are_not_scored_with_those_of_the_first(tmp_path, scenes):
    scenes["south"] = Scene(np.random.default_rng(1).random((20, 18, 40), dtype=np.float32), "south")
    with pytest.raises(ValueError, match="^photos: its scenes have 31 to 40 bands, for which decsc has different weights; name one weights file for all"):
        score(tmp_path)


@pytest.mark.parametrize("end", ["csv", "json", "npy"])
def test_incomplete_files_are_computed_again(tmp_path, scenes, halving, end):
    score(tmp_path)
    (tmp_path / f"photos-corr-decsc.{end}").unlink()
    score(tmp_path)
    assert len(halving) == 4


@pytest.mark.parametrize("damaged", [b"", b'{"inputs": {"pro', b"\xff\xfe", b"{}", b"[]", b"null"])
def test_a_damaged_sidecar_is_computed_again(tmp_path, scenes, halving, damaged):
    score(tmp_path)
    path = tmp_path / "photos-corr-decsc.json"
    path.write_bytes(damaged)
    score(tmp_path)
    assert len(halving) == 4 and json.loads(path.read_text())["inputs"]["seed"] == 3


def test_a_failure_while_writing_leaves_no_valid_rows(tmp_path, scenes, halving, monkeypatch):
    score(tmp_path)

    def fail(*_, **__):
        raise OSError("no space left")

    with monkeypatch.context() as broken, pytest.raises(OSError):
        broken.setattr(pd.DataFrame, "to_csv", fail)
        score(tmp_path, seed=4)
    rows = score(tmp_path)
    assert len(halving) == 6
    assert set(rows["seed"]) == {3}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"photos-corr-decsc.{end}" for end in ("csv", "json", "npy")
    ]


def test_the_figure_scene_is_kept(tmp_path, scenes, halving):
    score(tmp_path)
    assert evaluate.sidecar(tmp_path, "photos", "corr", "decsc")["figure_scene"] == "north"
    assert np.array_equal(evaluate.figure_estimate(tmp_path, "photos", "corr", "decsc"), halving[0] / 2)
    assert evaluate.figure_scene(["a", "nachal_0823-1214"]) == "nachal_0823-1214"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"method": "bm5d"}, "method 'bm5d' does not exist; choose one of noisy, decsc"),
        ({"method": "tv", "weights": "x.safetensors"}, "method 'tv' does not take weights"),
        ({"case": "gauss-96"}, "unknown noise case 'gauss-96'"),
        ({"method": "noisy", "weights": "x.safetensors"}, "method 'noisy' does not take weights; leave that out"),
        ({"method": "noisy", "weights": "x.safetensors"}, "method 'noisy' does not take weights; leave that out"),
        ({"crop": 10}, "crop=10 .* at least 11 pixels"),
        ({"crop": -5}, "crop=-5 .* at least 11 pixels"),
        ({"crop": 0, "case": "as-is"}, "crop=0 .* at least 1 pixel,"),
    ],
)
def test_bad_input_is_one_line(tmp_path, changed, message):
    options = {"method": "tv", "case": "corr", "seed": 0, "folder": tmp_path} | changed
    with pytest.raises(ValueError, match=message) as error:
        evaluate.score_rows("quick", "photos", **options)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_as_a_program(tmp_path):
    command = [
        sys.executable,
        "-m",
        "decsc_core.study.evaluate",
        "--profile",
        "quick",
        "--case",
        "gauss-15",
        "--seed",
        "0",
    ]
    command += ["--folder", str(tmp_path), "--method", "noisy", "--dataset"]
    done = subprocess.run([*command, "photos"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = pd.read_csv(tmp_path / "photos-gauss-15-noisy.csv")
    assert list(rows["scene"]) == ["chelsea", "coffee"] and (rows["psnr"] > 25).all()
    assert json.loads((tmp_path / "photos-gauss-15-noisy.json").read_text())["environment"]["code_version"]

    missing = subprocess.run(
        [*command, "cave"], capture_output=True, text=True, env={**os.environ, "DECSC_DATA": str(tmp_path / "nothing")}
    )
    assert missing.returncode == 1
    assert missing.stderr.startswith("evaluate: CAVE") and missing.stderr.count("\n") == 1


def test_want_of_memory_is_one_line(tmp_path, scenes, monkeypatch):
    def full(*_):
        raise MemoryError("a.npy: there is not enough memory for it")

    monkeypatch.setattr(evaluate, "load_scene", full)
    words = ["--profile", "quick", "--dataset", "photos", "--case", "corr", "--method", "noisy", "--seed", "3", "--folder", str(tmp_path)]
    with pytest.raises(SystemExit, match="^evaluate: a.npy: there is not enough memory for it$"):
        evaluate.main(words)


def test_a_folder_that_cannot_be_made_is_told_before_the_work(tmp_path, scenes, halving):
    (tmp_path / "taken").write_text("")
    words = ["--profile", "quick", "--dataset", "photos", "--case", "corr", "--method", "decsc", "--seed", "3", "--folder", str(tmp_path / "taken")]
    with pytest.raises(SystemExit, match="^evaluate: .*taken: File exists$"):
        evaluate.main(words)
    assert not halving


def test_weights_that_grew_too_large_are_one_line(tmp_path, scenes):
    model = DECSC(preset("tiny"))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1e30)
    weights.save(model, tmp_path / "w.safetensors", {})
    words = ["--profile", "quick", "--dataset", "photos", "--case", "corr", "--method", "decsc", "--seed", "3", "--folder", str(tmp_path)]
    with pytest.raises(SystemExit, match="^evaluate: decsc diverged: the first codes are not finite"):
        evaluate.main([*words, "--weights", str(tmp_path / "w.safetensors")])


def test_rows_that_other_code_computed_are_kept_and_told(tmp_path, scenes, halving, monkeypatch, capsys):
    words = ["--profile", "quick", "--dataset", "photos", "--case", "corr", "--method", "decsc", "--seed", "3", "--folder", str(tmp_path)]
    for version, told in (("before", ""), ("before", ""), ("after", "photos-corr-decsc.csv: kept, computed by code before; remove it to compute it anew")):
        monkeypatch.setattr(evaluate, "code_version", lambda version=version: version)
        evaluate.main(words)
        assert [line for line in capsys.readouterr().out.splitlines() if "kept" in line] == [told] * bool(told)
    assert len(halving) == 2


def test_only_the_centre_is_evaluated_if_asked(tmp_path, scenes, halving):
    rows = score(tmp_path, crop=16)
    assert [noisy.shape for noisy in halving] == [(16, 16, 31)] * 2
    clean = scenes["north"].cube[2:18, 1:17]
    assert rows["psnr"].iloc[0] == metrics.mpsnr(clean, halving[0] / 2)
    assert len(score(tmp_path, crop=16)) == 2 and len(halving) == 2, "read, not computed again"
    score(tmp_path)
    assert len(halving) == 4, "whole scenes are another result"


def test_a_crop_too_small_for_the_scores_is_told_before_a_scene_is_read(tmp_path, scenes, halving, monkeypatch):
    monkeypatch.setattr(evaluate, "load_scene", lambda dataset, name: pytest.fail("read"))
    words = ["--profile", "quick", "--dataset", "photos", "--case", "corr", "--method", "decsc", "--seed", "3", "--folder", str(tmp_path)]
    for crop in ("10", "0", "-5"):
        with pytest.raises(SystemExit, match=f"^evaluate: crop={crop} .*$"):
            evaluate.main([*words, "--crop", crop])


def test_the_smallest_crops(tmp_path, scenes, halving):
    """Without a reference no window of SSIM has to fit."""
    score(tmp_path, crop=11)
    evaluate.score_rows("quick", "photos", evaluate.AS_IS, "decsc", seed=2, folder=tmp_path, crop=2)
    assert [noisy.shape[:2] for noisy in halving] == [(11, 11)] * 2 + [(2, 2)] * 2


def test_a_scene_as_it_is_gets_no_noise_and_no_scores(tmp_path, scenes, halving):
    name = SCENES[0]
    rows = evaluate.score_rows(
        "quick", "photos", evaluate.AS_IS, "tv", seed=2, folder=tmp_path, scenes=[name]
    )
    np.testing.assert_array_equal(halving[-1], scenes[name].cube)
    assert rows[["psnr", "ssim", "ssim_global", "sam"]].isna().all(axis=None) and rows["seconds"].notna().all()
    kept = evaluate.figure_estimate(tmp_path, "photos", evaluate.AS_IS, "tv")
    np.testing.assert_allclose(kept, scenes[name].cube / 2)
