"""study.last_steps: the misfit's mean and the Wiener filter after any method."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
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
from decsc_core.study import last_steps
from decsc_core.study.evaluate import evaluated_scene, noisy_cube

E = 0.02


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> dict:
    folder, found = tmp_path_factory.mktemp("networks"), {}
    for method in ("decsc", "qrnn3d"):
        found[method] = folder / f"{method}.safetensors"
        model = build(configure(method, "tiny"), torch.Generator().manual_seed(1))
        files.save(model, found[method], {"training": {}})
    return found


@pytest.fixture(scope="module")
def scenes() -> list:
    return [evaluated_scene("photos", name, 20) for name in ("chelsea", "coffee")]


def test_the_mean_is_added_to_each_estimate_and_the_sum_filtered(networks, scenes):
    denoisers = {name: last_steps.alone(files.load(file)) for name, file in networks.items()} | {"tv": make("tv")}
    scored = last_steps.scores(denoisers, scenes, ["gauss-15", "mixture"], 0, (0, E)).set_index(["name", "misfit"])
    assert list(scored.index) == [(name, e) for name in ("decsc", "qrnn3d", "tv") for e in (0, E)] and list(scored.columns) == ["gauss-15", "mixture"]
    for name in denoisers:
        if name == "tv":
            denoise = make("tv")
        elif name == "qrnn3d":
            denoise = Learned(files.load(networks[name]))
        else:
            loaded = files.load(networks[name])
            loaded.model.config = replace(loaded.model.config, misfit=0)
            denoise = Equilibrium(loaded, shifts=1)
        for case in scored:
            alone, added = [], []
            for scene in scenes:
                noisy = noisy_cube(scene, case, 0)
                cube = denoise(noisy).cube
                image, estimate = (torch.from_numpy(one).permute(2, 0, 1)[None] for one in (noisy, cube))
                mean = posterior_mean(image - estimate, noise_levels(image), E)
                alone.append(metrics.mpsnr(scene.cube, cube))
                trusted = torch.where(cut(image, estimate + mean, E) == image, image, estimate + mean)
                filtered = wiener(cube + mean[0].permute(1, 2, 0).numpy(), noisy, trusted[0].permute(1, 2, 0).numpy())
                added.append(metrics.mpsnr(scene.cube, filtered))
            assert scored.loc[(name, 0), case] == pytest.approx(np.mean(alone), abs=1e-3)
            assert scored.loc[(name, E), case] == pytest.approx(np.mean(added), abs=1e-3)


def test_a_network_keeps_its_configuration(networks):
    loaded = files.load(networks["decsc"])
    config = loaded.model.config
    assert last_steps.alone(loaded).weights.model.config.misfit == 0 != config.misfit
    assert loaded.model.config == config


def test_gains_are_of_the_misfit_that_is_best_in_the_mean():
    scored = pd.DataFrame({
        "name": ["one"] * 3 + ["other"] * 3, "misfit": [0, 0.01, 0.02] * 2,
        "gauss-15": [30.0, 33, 34, 36, 35, 33], "mixture": [20.0, 21, 19, 25, 24, 23],
    })
    gained = last_steps.gains(scored)
    assert gained.to_dict("records") == [
        {"name": "one", "misfit": 0.01, "gauss-15": 33.0, "mixture": 21.0, "gain": 2.0, "least": 1.0, "most": 3.0},
        {"name": "other", "misfit": 0.0, "gauss-15": 36.0, "mixture": 25.0, "gain": 0.0, "least": 0.0, "most": 0.0},
    ]
