"""Every learned network is trained by the same entry point and used by the same denoisers."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from decsc_core import weights
from decsc_core.denoisers.registry import METHODS, make
from decsc_core.networks.catalog import LEARNED, SIZES, build, configure, method_of, sizes
from decsc_core.scenes import Scene
from decsc_core.study import patches, train as module
from decsc_core.study.optimizers import OPTIMIZERS
from decsc_core.study.recipes import RECIPES, learning_rate, training
from decsc_core.study.train import train


@pytest.fixture
def scenes(monkeypatch) -> dict[str, list[Scene]]:
    """Smooth cubes of 31 bands in place of the catalogue's."""
    y, x, b = np.meshgrid(np.arange(26), np.arange(24), np.arange(31), indexing="ij")
    made = {
        split: [Scene((0.5 + 0.2 * np.sin(y / a + b / 9) + 0.2 * np.cos(x / 5 + b / a)).astype(np.float32), split)]
        for split, a in (("train", 4), ("validation", 5))
    }
    monkeypatch.setattr(module, "load", lambda dataset, split: made[split])
    return made


@pytest.mark.parametrize("method", LEARNED)
def test_training_lowers_the_error_and_its_weights_denoise(method, scenes, tmp_path):
    config = training(method, "tiny", steps=30, batch=2, patch=16, case="gauss-55", validate_every=10, learning_rate=2e-3)
    path = train(config, tmp_path / "run", progress=False)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert len(lines) == 30 and np.isfinite([line["loss"] for line in lines]).all()
    loaded = weights.load(path)
    clean, noisy = patches.patch_batch(scenes["train"], config, range(60))

    def error(network: torch.nn.Module) -> float:
        with torch.no_grad():
            return torch.nn.functional.mse_loss(module._as_output(network.eval()(noisy)).image, clean).item()

    assert error(loaded.model) < 0.97 * error(build(config.model, torch.Generator().manual_seed(config.seed)))
    assert loaded.method == method and loaded.story["training"]["method"] == method
    cube = scenes["validation"][0].cube
    estimate = make(method, weights=path, device="cpu")(cube)
    assert estimate.cube.shape == cube.shape and np.isfinite(estimate.cube).all()


@pytest.mark.parametrize("method", LEARNED)
def test_every_size_has_a_recipe(method):
    assert sizes(method)[:3] == SIZES
    for size in sizes(method):
        config = training(method, size, steps=1)
        assert method_of(config.model) == method and config.optimizer in OPTIMIZERS
        assert all(0 < share < 1 and factor > 0 for share, factor in config.schedule)
    assert set(RECIPES[method]) == set(sizes(method))


def test_the_peers_recipes_are_those_of_their_releases():
    sst = training("sst", steps=10)
    assert (sst.optimizer, sst.weight_decay, sst.batch, sst.learning_rate) == ("adamw", 1e-4, 8, 1e-4)
    assert learning_rate(sst, 0.59) == 1e-4 and learning_rate(sst, 0.61) == pytest.approx(1e-5)
    t3sc = training("t3sc", steps=10)
    assert [learning_rate(t3sc, share) / 3e-4 for share in (0, 0.5, 0.75)] == pytest.approx([1, 0.5, 0.25])
    assert training("hsdt", steps=10).batch == 16 and training("sert", "small", steps=10).batch == 4


def test_paper_sizes_are_the_registrys():
    for method in LEARNED:
        network = build(configure(method), torch.Generator().manual_seed(0))
        assert METHODS[method].params == sum(p.numel() for p in network.parameters()), method


def test_only_decsc_has_a_fixed_point_to_penalise():
    with pytest.raises(ValueError, match="jacobian_penalty=0.1 is for DECSC alone"):
        training("sst", "tiny", steps=1, jacobian_penalty=0.1)


def test_hsdt_draws_its_queries_by_the_step_so_that_a_resumed_run_is_the_same(scenes, tmp_path, monkeypatch):
    config = training("hsdt", "tiny", steps=6, batch=1, patch=16, case="gauss-55", validate_every=6, checkpoint_seconds=0.0)
    whole = weights.load(train(config, tmp_path / "whole", progress=False)).model.state_dict()
    draw = patches.patch_batch
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        def die(scenes, config, indices):
            if indices[0] == 3:
                raise KeyboardInterrupt
            return draw(scenes, config, indices)

        patched.setattr(patches, "patch_batch", die)
        train(config, tmp_path / "run", progress=False)
    again = weights.load(train(config, tmp_path / "run", resume=True, progress=False)).model.state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in whole.items())


@pytest.mark.slow
def test_hsdt_is_trained_by_two_processes(tmp_path):
    """Some of its parameters are not used in a step, which they must expect. The second process takes two seconds, the first one."""
    program = tmp_path / "two.py"
    program.write_text(
        "import itertools, os, time\n"
        "from decsc_core.study.recipes import training\n"
        "from decsc_core.study.train import train\n"
        "ticks = itertools.count(step=1 + int(os.environ['RANK']))\n"
        "time.process_time = lambda: next(ticks)\n"
        "config = training('hsdt', 'tiny', steps=4, batch=2, patch=16, dataset='photos', case='gauss-55', validate_every=4, checkpoint_seconds=1e9)\n"
        f"train(config, {str(tmp_path / 'run')!r}, progress=False)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", program], capture_output=True, text=True, timeout=600,
    )
    assert done.returncode == 0, done.stderr
    story = weights.load(tmp_path / "run" / "weights.safetensors").story
    assert (story["steps"], story["cpu_seconds"]) == (4, 1 + 2)
