"""The weights that this project publishes: what their names say is in them, and they denoise scenes they never saw."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from decsc_core import weights
from decsc_core.denoisers.registry import make
from decsc_core.metrics import mpsnr
from decsc_core.scenes import load_scene, scene_names
from decsc_core.study import campaign
from decsc_core.study.cubes import centre
from decsc_core.study.evaluate import noisy_cube

ROOT = Path(__file__).parents[2]
PUBLISHED = sorted([*weights.SHIPPED.glob("*.safetensors"), *(ROOT / "weights").glob("*.safetensors")])


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_published_weights_are_what_their_name_says(path):
    loaded = weights.load(path)
    method, _, case = path.stem.split("-", 2)
    training = loaded.story["training"]
    assert (loaded.method, training["method"], training["case"]) == (method, method, case)
    assert set(loaded.story["data"]["train"]) == set(scene_names(training["dataset"], "train"))
    assert loaded.story["patches"] == loaded.story["steps"] * training["batch"]


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_the_campaign_says_how_the_weights_were_trained(path, tmp_path):
    run = campaign.read(ROOT / "campaigns" / "small.yaml", tmp_path)[path.stem]
    story = weights.load(path).story
    assert campaign.difference(run, story) == ""
    assert campaign.difference(replace(run, seed=run.seed + 7), story) == f"seed was {run.seed}, not {run.seed + 7}"


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_published_weights_beat_the_noisy_cube_on_test_scenes(path, shared, monkeypatch):
    monkeypatch.setenv("DECSC_DATA", str(shared / "data"))
    method, _, case = path.stem.split("-", 2)
    denoise = make(method, weights=path, **({"shifts": 1} if method == "decsc" else {}))
    gains = []
    for name in scene_names("cave", "test")[:3]:
        scene = load_scene("cave", name)
        clean, noisy = centre(scene.cube, 64), centre(noisy_cube(scene, case, 0), 64)
        gains.append(mpsnr(clean, denoise(noisy).cube) - mpsnr(clean, noisy))
    assert np.mean(gains) > 1
