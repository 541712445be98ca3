"""study.last_steps: the misfit's mean and the Wiener filter after any method."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pandas as pd
import pytest
import torch

from decsc_core import metrics
from decsc_core import weights as files
from decsc_core.denoisers.equilibrium import Equilibrium
from decsc_core.denoisers.learned import Learned
from decsc_core.denoisers.registry import make
from decsc_core.denoisers.wiener import wiener
from decsc_core.model.gross import cut
from decsc_core.model.misfit import posterior_mean
from decsc_core.model.noise_levels import noise_levels
from decsc_core.networks.catalog import build, configure
from decsc_core.scenes import scene_names
from decsc_core.study import last_steps
from decsc_core.study.evaluate import evaluated_scene, noisy_cube
from decsc_core.study.provenance import code_version

E = 0.02


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> dict:
    folder, found = tmp_path_factory.mktemp("networks"), {}
    for method in ("decsc", "qrnn3d"):
        found[method] = folder / f"{method}.safetensors"
        model = build(configure(method, "tiny"), torch.Generator().manual_seed(1))
        files.save(model, found[method], {"training": {}})
    return found


def scored(method: str, folder, cases=("gauss-15",), **options) -> pd.DataFrame:
    return last_steps.score("photos", cases, method, **{"seed": 0, "folder": folder, "crop": 20} | options)


def test_the_mean_is_added_to_each_estimate_and_the_sum_filtered(networks, tmp_path):
    scenes, cases = [evaluated_scene("photos", name, 20) for name in scene_names("photos", "validation")], ["gauss-15", "mixture"]
    for method in ("decsc", "qrnn3d", "tv"):
        rows = scored(method, tmp_path, cases, weights=networks.get(method))
        assert len(rows) == len(cases) * len(scenes) * len(last_steps.MISFITS) and set(rows["method"]) == {method}
        found = rows.set_index(["case", "scene", "misfit"])["psnr"]
        if method == "tv":
            denoise = make("tv")
        elif method == "qrnn3d":
            denoise = Learned(files.load(networks[method]))
        else:
            loaded = files.load(networks[method])
            loaded.model.config = replace(loaded.model.config, misfit=0)
            denoise = Equilibrium(loaded, shifts=1)
        for case, scene in itertools.product(cases, scenes):
            noisy = noisy_cube(scene, case, 0)
            cube = denoise(noisy).cube
            image, estimate = (torch.from_numpy(one).permute(2, 0, 1)[None] for one in (noisy, cube))
            mean = posterior_mean(image - estimate, noise_levels(image), E)
            trusted = torch.where(cut(image, estimate + mean, E) == image, image, estimate + mean)
            filtered = wiener(cube + mean[0].permute(1, 2, 0).numpy(), noisy, trusted[0].permute(1, 2, 0).numpy())
            assert found[case, scene.name, 0] == pytest.approx(metrics.mpsnr(scene.cube, cube), abs=1e-3)
            assert found[case, scene.name, E] == pytest.approx(metrics.mpsnr(scene.cube, filtered), abs=1e-3)


def test_rows_tell_what_they_are_of(networks, tmp_path):
    learned, untrained = scored("qrnn3d", tmp_path, weights=networks["qrnn3d"]), scored("tv", tmp_path)
    loaded = files.load(networks["qrnn3d"])
    assert set(learned["weights"]) == {loaded.sha256[:12]} and set(learned["parameters"]) == {sum(p.numel() for p in loaded.model.parameters())}
    assert set(untrained["weights"]) == {""} and untrained["parameters"].isna().all()
    assert set(learned["seed"]) == {0} and set(learned["code"]) == {code_version()}
    beside = json.loads((tmp_path / "photos-last-steps-qrnn3d.json").read_text())
    assert beside["weights"]["sha256"] == loaded.sha256 and beside["environment"]["code_version"] == code_version()


def test_rows_are_computed_once_for_the_same_and_anew_for_another(networks, tmp_path, capsys, monkeypatch):
    def computed(**options) -> bool:
        rows = scored("qrnn3d", tmp_path, **{"weights": networks["qrnn3d"]} | options)
        assert len(rows) and set(rows["misfit"]) == set(last_steps.MISFITS)
        return bool(capsys.readouterr().out)

    assert computed() and not computed()
    other = tmp_path / "other.safetensors"
    files.save(build(configure("qrnn3d", "tiny"), torch.Generator().manual_seed(2)), other, {"training": {}})
    for options in ({"seed": 1}, {"crop": 16}, {"cases": ["gauss-55"]}, {"weights": other}):
        assert computed(**options), options
        assert not computed(**options), options
    monkeypatch.setattr(last_steps, "MISFITS", (0, E))
    assert computed(weights=other)
    (tmp_path / "photos-last-steps-qrnn3d.json").write_text("{")
    assert computed(weights=other)


def test_a_job_writes_its_rows_or_tells_in_a_line_why_not(tmp_path, monkeypatch, capsys):
    given = ["--dataset", "photos", "--cases", "gauss-15", "--seed", "0", "--crop", "16", "--folder", str(tmp_path / "rows")]
    monkeypatch.setattr(last_steps, "code_version", lambda: "before")
    last_steps.main([*given, "--method", "tv"])
    capsys.readouterr()
    last_steps.main([*given, "--method", "tv"])
    assert capsys.readouterr().out == "photos-last-steps-tv.csv: kept, computed by code before; remove it to compute it anew\n"
    assert {path.name for path in (tmp_path / "rows").iterdir()} == {"photos-last-steps-tv.csv", "photos-last-steps-tv.json"}
    with pytest.raises(SystemExit, match=r"^last_steps: method 'tvv' does not exist; choose one of .*tv"):
        last_steps.main([*given, "--method", "tvv"])
    with pytest.raises(SystemExit, match=r"^last_steps: .*no-such-file"):
        last_steps.main([*given, "--method", "decsc", "--weights", "no-such-file"])


def test_gains_are_of_the_misfit_that_is_best_in_the_mean():
    psnr = {"one": {0: (30, 20), 0.01: (33, 21), 0.02: (34, 19)}, "other": {0: (36, 25), 0.01: (35, 24), 0.02: (33, 23)}}
    scored = pd.DataFrame([
        {"name": name, "misfit": misfit, "case": case, "scene": scene, "psnr": value + off}
        for name, scales in psnr.items() for misfit, values in scales.items() for case, value in zip(("gauss-15", "mixture"), values)
        for scene, off in (("a", 1.0), ("b", -1.0))
    ])
    gained = last_steps.gains(scored)
    assert gained.to_dict("records") == [
        {"name": "one", "misfit": 0.01, "gauss-15": 33.0, "mixture": 21.0, "gain": 2.0, "least": 1.0, "most": 3.0},
        {"name": "other", "misfit": 0.0, "gauss-15": 36.0, "mixture": 25.0, "gain": 0.0, "least": 0.0, "most": 0.0},
    ]
