"""The weights that this project publishes: what their names say is in them, and they denoise scenes they never saw."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from decsc_core import weights
from decsc_core.denoisers.registry import make
from decsc_core.metrics import mpsnr
from decsc_core.networks.catalog import PRIORS
from decsc_core.scenes import load_scene, scene_names
from decsc_core.study import campaign
from decsc_core.study.cubes import centre
from decsc_core.study.evaluate import evaluated_scene, noisy_cube

ROOT = Path(__file__).parents[2]
EVERY_CASE = ["gauss-15", "gauss-55", "gauss-95", "mixture", "corr"]
NAMED = sorted([*weights.SHIPPED.glob("*.safetensors"), *(ROOT / "weights").glob("*.safetensors")])
SOME = {"all": EVERY_CASE, "remote": EVERY_CASE}
"""Noise cases by the last part of a name, where it is no case itself."""
COMPARED = sorted((ROOT / "weights" / "comparison").glob("*.safetensors"))


def cases_of(training: dict) -> list[str]:
    """The noise cases of a training."""
    return [training["case"]] if isinstance(training["case"], str) else training["case"]


@pytest.mark.parametrize("path", NAMED, ids=lambda path: path.stem)
def test_published_weights_are_what_their_name_says(path):
    loaded = weights.load(path)
    training = loaded.story["training"]
    assert path.stem.startswith(f"{loaded.method}-") and training["method"] == loaded.method
    _, case = path.stem.removeprefix(f"{loaded.method}-").split("-", 1)
    assert cases_of(training) == SOME.get(case, [case])
    assert set(loaded.story["data"]["train"]) == set(scene_names(training["dataset"], "train"))
    assert loaded.story["patches"] == loaded.story["steps"] * training["batch"]


@pytest.mark.parametrize("path", [*NAMED, *COMPARED], ids=lambda path: path.stem)
def test_the_campaign_says_how_the_weights_were_trained(path, tmp_path):
    name = "comparison" if path in COMPARED else "small"
    runs = campaign.read(ROOT / "campaigns" / f"{name}.yaml", tmp_path)
    run, story = runs[path.stem], weights.load(path).story
    assert campaign.difference(replace(run, seed=run.seed + 7), story) == f"seed was {run.seed}, not {run.seed + 7}"
    assert campaign.difference(run, story) == ""
    while run.start and Path(run.start).parent.name in runs:
        run, story = runs[Path(run.start).parent.name], story["ancestor"]["story"]
        assert campaign.difference(run, story) == ""


@cache
def pair(name: str, case: str) -> tuple[np.ndarray, np.ndarray]:
    """The centre of a test scene, clean and noisy."""
    scene = load_scene("cave", name)
    return centre(scene.cube, 40), centre(noisy_cube(scene, case, 0), 40)


@pytest.mark.parametrize("path", [*NAMED, *COMPARED], ids=lambda path: path.stem)
def test_published_weights_beat_the_noisy_cube_on_test_scenes(path, shared, monkeypatch):
    monkeypatch.setenv("DECSC_DATA", str(shared / "data"))
    training = weights.load(path).story["training"]
    method = training["method"]
    denoise = make(method, weights=path, **({"shifts": 1} if method in PRIORS else {}))
    gains = []
    for name, case in zip(scene_names("cave", "test"), itertools.cycle(cases_of(training))):
        clean, noisy = pair(name, case)
        gains.append(mpsnr(clean, denoise(noisy).cube) - mpsnr(clean, noisy))
    assert np.mean(gains) > 1


@pytest.mark.parametrize("name, case", [("flowers", "gauss-95"), ("glass_tiles", "mixture")])
def test_the_weights_of_the_package_reach_what_table_2_says(name, case, shared, monkeypatch):
    monkeypatch.setenv("DECSC_DATA", str(shared / "data"))
    rows = pd.read_csv(ROOT / "figures" / "standard" / "table2_rows.csv", dtype={"weights": str})
    row = rows.set_index(["method", "scene", "case"]).loc[("decsc", name, case)]
    scene = evaluated_scene("cave", name, yaml.safe_load((ROOT / "config" / "standard.yaml").read_text())["crop"])
    denoise = make("decsc", device="cpu")
    assert denoise.weights.sha256.startswith(row["weights"])
    assert mpsnr(scene.cube, denoise(noisy_cube(scene, case, row["seed"])).cube) == pytest.approx(row["psnr"], abs=0.005)
