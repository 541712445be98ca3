"""study.train: learns, resumes as if nothing had happened, and tells where its weights come from."""

from __future__ import annotations

import json
import shutil
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from pooch import file_hash
from torch import Tensor

from decsc_core import metrics, weights
from decsc_core.model import DECSC, SolverConfig, decsc, preset
from decsc_core.model.shifts import all_shifts
from decsc_core.networks.catalog import build, configure
from decsc_core.noise import add_noise
from decsc_core.scenes import Scene
from decsc_core.study import campaign, patches, run_folder, train as module
from decsc_core.study.patches import patch_batch, validation_set
from decsc_core.study.recipes import TrainConfig, halved, training
from decsc_core.study.train import train, validate

BANDS = 4


def smooth_scene(name: str, height: int, width: int, seed: int) -> Scene:
    """A few waves in space and spectrum, in [0, 1]."""
    rng = np.random.default_rng(seed)
    y, x, b = np.meshgrid(np.arange(height), np.arange(width), np.arange(BANDS), indexing="ij")
    cube = sum(np.sin(f * y + g * x + h * b + p) for f, g, h, p in rng.uniform(0, 0.5, (4, 4)) * [1, 1, 1, 12])
    return Scene(0.5 + cube / 8, name)


SCENES = {
    "train": [smooth_scene("hills", 20, 26, 1), smooth_scene("dunes", 24, 18, 2)],
    "validation": [smooth_scene("plain", 18, 20, 3)],
}


def in_place_of_the_catalogues(monkeypatch, scenes: dict[str, list[Scene]]) -> None:
    """Synthetic scenes, and what tells their files."""
    monkeypatch.setattr(module, "load", lambda dataset, split: scenes[split])
    monkeypatch.setattr(run_folder, "fingerprints", lambda dataset, split: {scene.name: scene.sha256()[:8] for scene in scenes[split]})


@pytest.fixture(autouse=True)
def scenes(monkeypatch) -> dict[str, list[Scene]]:
    in_place_of_the_catalogues(monkeypatch, SCENES)
    return SCENES


def config(**fields) -> TrainConfig:
    """A training of less than a second."""
    model = preset("tiny", bands=BANDS, depth=1, shifts=1, solver=SolverConfig(max_iter=4), phantom=(1.0, 1.0))
    defaults = {"steps": 6, "batch": 2, "patch": 12, "learning_rate": 3e-3, "clip": 0.5, "evaluations": (2, 4),
                "validate_every": 2, "checkpoint_seconds": 0.0, "case": "gauss-55", "dataset": "synthetic"}
    return TrainConfig(**{"model": model} | defaults | fields)


def rows(folder: Path) -> list[dict]:
    """The log without its clock."""
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


def interrupt_at(monkeypatch, step: int, batch: int = 2):
    """Let the training stop at the beginning of `step`, as a kill would."""
    def patch_batch_or_die(scenes, config, indices):
        if indices[0] >= step * batch:
            raise KeyboardInterrupt
        return patch_batch(scenes, config, indices)

    monkeypatch.setattr(patches, "patch_batch", patch_batch_or_die)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The folder of a training of six steps that nothing interrupted."""
    folder = tmp_path_factory.mktemp("run") / "whole"
    with pytest.MonkeyPatch.context() as monkeypatch:
        in_place_of_the_catalogues(monkeypatch, SCENES)
        train(config(), folder, progress=False)
    return folder


def assert_same_run(folder: Path, other: Path) -> None:
    """Same weights and same log, bit for bit, clocks apart."""
    one, two = weights.load(folder / "weights.safetensors"), weights.load(other / "weights.safetensors")
    for name, tensor in one.model.state_dict().items():
        assert torch.equal(tensor, two.model.state_dict()[name]), name
    assert rows(folder) == rows(other)
    for key in ("steps", "patches", "best_step", "validation_psnr", "training", "data"):
        assert one.story[key] == two.story[key]


# Learning


def test_loss_falls_on_one_patch(tmp_path, monkeypatch):
    """A scene as large as a patch, always with the same noise: the network can learn it by heart."""
    scene = smooth_scene("only", 12, 12, 5)
    monkeypatch.setattr(module, "load", lambda dataset, split: [scene])

    def one_patch(scenes: list[Scene], config: TrainConfig, indices) -> tuple[Tensor, Tensor]:
        return patch_batch(scenes, config, [0] * len(indices))

    monkeypatch.setattr(patches, "patch_batch", one_patch)
    made = config(steps=40, learning_rate=1e-2, validate_every=40, evaluations=(4, 4), schedule=halved(1))
    train(made, tmp_path / "run", progress=False)
    losses = [row["loss"] for row in rows(tmp_path / "run")]
    clean, noisy = patch_batch([scene], made, [0])
    noise = (noisy - clean).square().mean().item()
    assert np.mean(losses[-5:]) < 0.1 * losses[0]
    assert np.mean(losses[-5:]) < 0.5 * noise


def test_the_best_validated_weights_are_kept(finished):
    log = rows(finished)
    validated = {row["step"]: row["validation_psnr"] for row in log if "validation_psnr" in row}
    assert list(validated) == [2, 4, 6]
    loaded = weights.load(finished / "weights.safetensors")
    assert loaded.story["validation_psnr"] == max(validated.values())
    assert validated[loaded.story["best_step"]] == max(validated.values())
    found = validate(loaded.model, validation_set(SCENES["validation"], config()), torch.device("cpu"))
    assert found["psnr"] == pytest.approx(loaded.story["validation_psnr"], abs=1e-4)


def test_the_best_weights_may_be_earlier_ones(tmp_path, monkeypatch):
    scores = iter([20.0, 30.0, 25.0])
    states = []

    def scripted(model, pairs, device) -> dict:
        states.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return {"psnr": next(scores)}

    monkeypatch.setattr(module, "validate", scripted)
    loaded = weights.load(train(config(), tmp_path / "run", progress=False))
    assert loaded.story["best_step"] == 4 and loaded.story["validation_psnr"] == 30.0
    for name, tensor in loaded.model.state_dict().items():
        assert torch.equal(tensor, states[1][name])
    assert any(not torch.equal(states[1][name], states[2][name]) for name in states[1])


def test_every_step_is_logged(finished):
    lines = [json.loads(line) for line in (finished / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line["patches"] for line in lines] == [2, 4, 6, 8, 10, 12]
    seconds = [line["seconds"] for line in lines]
    assert seconds == sorted(seconds) and seconds[0] > 0
    for line in lines:
        assert line["loss"] > 0 and line["gradient_norm"] > 0 and 2 <= line["iterations"] <= 4 and line["residual"] > 0
        assert ("validation_residual" in line) == ("validation_iterations" in line) == (line["step"] % 2 == 0)


def test_the_first_loss_is_the_mean_squared_error_of_the_first_patches(finished):
    """Eq. (25), from the initial weights, with the shifts and the solver of step 0."""
    made = config()
    model = decsc.DECSC(made.model, torch.Generator().manual_seed(made.seed))
    clean, noisy = patch_batch(SCENES["train"], made, range(2))
    losses = []
    for cap in range(made.evaluations[0], made.evaluations[1] + 1):
        for shift in all_shifts(3):
            with torch.no_grad():
                output = model(noisy, [shift], cap)
            losses.append((output.image - clean).square().mean().item())
    assert min(abs(np.array(losses) / rows(finished)[0]["loss"] - 1)) < 1e-5


# Schedules


@pytest.mark.parametrize("halvings, expected", [
    (0, [1] * 6), (1, [1] * 3 + [0.5] * 3), (2, [1, 1, 0.5, 0.5, 0.25, 0.25]),
])
def test_the_learning_rate_is_halved_at_equal_parts_of_the_budget(halvings, expected, tmp_path):
    train(config(schedule=halved(halvings), validate_every=6), tmp_path / "run", progress=False)
    rates = [row["learning_rate"] for row in rows(tmp_path / "run")]
    assert rates == [3e-3 * factor for factor in expected]


def test_every_step_draws_its_shifts_and_its_evaluations(tmp_path, monkeypatch):
    drawn = []

    def watched(image: Tensor, kernel: int, stride: int, shifts: list) -> Tensor:
        drawn.append(list(shifts))
        return split(image, kernel, stride, shifts)

    split = decsc.split_shifts
    monkeypatch.setattr(decsc, "split_shifts", watched)
    made = config(steps=20, validate_every=20)
    made = replace(made, model=replace(made.model, train_shifts=2, solver=SolverConfig(rel_tol=0.0)))
    train(made, tmp_path / "run", progress=False)
    steps = drawn[:20]
    assert all(len(set(shifts)) == 2 and set(shifts) <= set(all_shifts(3)) for shifts in steps)
    assert len({tuple(shifts) for shifts in steps}) > 8
    assert {shift for shifts in steps for shift in shifts} == set(all_shifts(3))
    assert {row["iterations"] for row in rows(tmp_path / "run")} == {2.0, 3.0, 4.0}


def test_gradients_are_clipped(tmp_path, monkeypatch):
    """With clipping to nothing, Adam still steps by its own scale, but the logged norm is that before clipping."""
    norms = []
    step = torch.optim.Adam.step

    def watched(self, *arguments, **keywords):
        gradients = [p.grad.flatten() for group in self.param_groups for p in group["params"]]
        norms.append(torch.cat(gradients).norm().item())
        return step(self, *arguments, **keywords)

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    train(config(clip=1e-3, steps=3), tmp_path / "run", progress=False)
    assert len(norms) == 3 and all(norm <= 1.001e-3 for norm in norms)
    assert all(row["gradient_norm"] > 1e-2 for row in rows(tmp_path / "run"))


def test_a_penalty_on_the_jacobian_is_logged_and_pulls_it_down(tmp_path):
    logged = {}
    for weight in (1e-9, 10.0):
        made = config(jacobian_penalty=weight, steps=15, validate_every=15)
        train(made, tmp_path / f"{weight}", progress=False)
        logged[weight] = [row["jacobian"] for row in rows(tmp_path / f"{weight}")]
    assert all(value > 0 for value in logged[1e-9])
    assert logged[10.0][0] == logged[1e-9][0]
    assert np.mean(logged[10.0][-5:]) < 0.8 * np.mean(logged[1e-9][-5:])


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.filterwarnings("error")
def test_recording_launches_leaves_the_network_as_it_was(fails, monkeypatch):
    """Also where it fails, which is told; the recording itself needs a GPU."""
    def record(model: torch.nn.Module, sample: tuple[Tensor], allow_unused_input: bool) -> None:
        assert sample[0].shape == (2, 9, 12, 12) and allow_unused_input
        model(*sample)  # batch norms take note
        if fails:
            raise RuntimeError("operation not permitted when stream is capturing\nSearch for it")

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", record)
    made = TrainConfig(configure("qrnn3d", "tiny"), steps=1, batch=2, patch=12)
    model = build(made.model, torch.Generator().manual_seed(0))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.warns(RuntimeWarning, match="goes on without: operation not permitted.*capturing$") if fails else nullcontext():
        module._record_launches(model, torch.zeros(2, 9, 12, 12))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("passes", [0.0, 0.5, 1.0])
def test_second_passes_are_trained_in_their_share_of_the_steps(passes, tmp_path, monkeypatch):
    """There the network takes the patches that its own estimate has cut down."""
    cuts, taken = [], []

    def watched(noisy: Tensor, image: Tensor, e: float) -> Tensor:
        assert e == 0.02 and image.shape == noisy.shape and not image.requires_grad
        cuts.append(noisy / 2)
        return cuts[-1]

    forward = DECSC.forward
    monkeypatch.setattr(module, "cut", watched)
    monkeypatch.setattr(DECSC, "forward", lambda self, noisy, *rest: (taken.append(noisy), forward(self, noisy, *rest))[1])
    made = config(passes=passes, steps=20, validate_every=20)
    train(replace(made, model=replace(made.model, misfit=0.02)), tmp_path / "run", progress=False)
    assert {0.0: 0, 1.0: 20}.get(passes, len(cuts)) == len(cuts) and (0 < len(cuts) < 20 or passes != 0.5)
    assert all(any(noisy is made for noisy in taken) for made in cuts)


@pytest.mark.parametrize("passes, misfit", [(0.5, 0.0), (1.5, 0.02), (-0.1, 0.02)])
def test_second_passes_of_a_network_that_makes_one_are_refused(passes, misfit):
    with pytest.raises(ValueError, match=f"passes={passes} must lie between 0 and 1, and above 0 only for DECSC with a misfit"):
        config(passes=passes, model=replace(config().model, misfit=misfit))


@pytest.mark.parametrize("gradient", ["unrolled", "implicit"])
@pytest.mark.filterwarnings("ignore:implicit gradient")
def test_the_other_gradients_train_too(gradient, tmp_path):
    made = config(steps=2)
    path = train(replace(made, model=replace(made.model, gradient=gradient)), tmp_path / "run", progress=False)
    assert weights.load(path).model.config.gradient == gradient
    assert ("residual" in rows(tmp_path / "run")[0]) == (gradient == "implicit")


def test_a_budget_in_minutes_stops_by_the_clock(tmp_path):
    train(config(steps=None, minutes=2 / 60, validate_every=1000, schedule=halved(5)), tmp_path / "run", progress=False)
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert log[-1]["seconds"] >= 2 and all(row["seconds"] <= 2 for row in log[:-1])  # rounded to milliseconds
    assert log[-1]["learning_rate"] < log[0]["learning_rate"] and "validation_psnr" in log[-1]
    story = weights.load(tmp_path / "run" / "weights.safetensors").story
    assert story["steps"] == len(log) and 0 < story["cpu_seconds"]


def test_the_time_of_every_validation_counts(finished, tmp_path, monkeypatch):
    """That of the weights to start from, and the last one too."""

    def slow(*arguments) -> dict:
        began = time.process_time()
        while time.process_time() - began < 0.7:
            pass
        return {"psnr": 30.0}

    monkeypatch.setattr(module, "validate", slow)
    path = train(config(steps=1, start=str(finished / "weights.safetensors")), tmp_path / "run", progress=False)
    story = weights.load(path).story
    assert story["seconds"] >= 1.4 and story["cpu_seconds"] >= 1.4 and json.loads((tmp_path / "run/log.jsonl").read_text())["seconds"] >= 1.4


def test_minutes_count_over_resumed_parts(tmp_path, monkeypatch):
    made = config(steps=None, minutes=1, validate_every=1000)
    with monkeypatch.context() as patched:
        interrupt_at(patched, 3)
        with pytest.raises(KeyboardInterrupt):
            train(made, tmp_path / "run", progress=False)
    checkpoint = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=False)
    checkpoint["progress"]["seconds"] = 59.9
    torch.save(checkpoint, tmp_path / "run" / "checkpoint.pt")
    train(made, tmp_path / "run", resume=True, progress=False)
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in log] == list(range(1, len(log) + 1))
    assert log[3]["seconds"] > 59.9 and log[-1]["seconds"] >= 60


def test_the_first_process_s_clock_decides_of_the_learning_rate_and_the_end(tmp_path, monkeypatch):
    """As on several devices, where the clocks of the others differ."""
    clock = iter([0.5, 31.0, 59.0, 60.0, 61.0])  # the last one after the validation
    broadcast = Fabric.broadcast
    monkeypatch.setattr(
        Fabric, "broadcast",
        lambda self, sent, src=0: next(clock) if isinstance(sent, float) else broadcast(self, sent, src),
    )
    train(config(steps=None, minutes=1, validate_every=1000, schedule=halved(1)), tmp_path / "run", progress=False)
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["seconds"] for row in log] == [0.5, 31, 59, 61]
    assert [row["learning_rate"] for row in log] == [3e-3, 3e-3, 1.5e-3, 1.5e-3]


# Resuming


@pytest.mark.parametrize("step", [0, 1, 3, 5])
def test_an_interrupted_run_that_is_resumed_equals_one_that_was_not(finished, step, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    with monkeypatch.context() as patched:
        interrupt_at(patched, step)
        with pytest.raises(KeyboardInterrupt):
            train(config(), folder, progress=False)
    assert len(rows(folder)) == step and not (folder / "weights.safetensors").exists()
    path = train(config(), folder, resume=True, progress=False)
    assert path == folder / "weights.safetensors"
    assert_same_run(folder, finished)
    left = {entry.name for entry in folder.iterdir()}
    assert left == {"config.json", "log.jsonl", "checkpoint.pt", "weights.safetensors"}


def test_a_run_with_two_optimizers_resumes_both(tmp_path, monkeypatch):
    made = config(optimizer="muon", weight_decay=0.1)
    train(made, tmp_path / "whole", progress=False)
    with monkeypatch.context() as patched:
        interrupt_at(patched, 3)
        with pytest.raises(KeyboardInterrupt):
            train(made, tmp_path / "run", progress=False)
    train(made, tmp_path / "run", resume=True, progress=False)
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_steps_after_the_checkpoint_are_taken_again(finished, tmp_path, monkeypatch):
    """Killed in step 6 with a checkpoint of step 3, and in the middle of writing a line."""
    folder, saved = tmp_path / "run", tmp_path / "checkpoint.pt"

    def patch_batch_or_die(scenes, config, indices):
        if indices[0] == 6:
            shutil.copy(folder / "checkpoint.pt", saved)
        if indices[0] == 10:
            raise KeyboardInterrupt
        return patch_batch(scenes, config, indices)

    with monkeypatch.context() as patched:
        patched.setattr(patches, "patch_batch", patch_batch_or_die)
        with pytest.raises(KeyboardInterrupt):
            train(config(), folder, progress=False)
    saved.replace(folder / "checkpoint.pt")
    with open(folder / "log.jsonl", "a") as file:
        file.write('{"step": 6, "patches": 12, "lo')
    train(config(), folder, resume=True, progress=False)
    assert_same_run(folder, finished)


def test_a_run_killed_between_its_last_checkpoint_and_its_weights_only_writes_them(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    (folder / "weights.safetensors").rename(folder / ".0123abcd-weights.safetensors")
    train(config(), folder, resume=True, progress=False)
    assert_same_run(folder, finished)
    assert {path.name for path in folder.iterdir()} == {path.name for path in finished.iterdir()}


def test_a_checkpoint_that_was_being_written_does_no_harm(finished, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    save = Fabric.save

    def torn(self, path, state, **keywords):
        if state["progress"]["step"] == 4:
            Path(path).write_bytes(b"torn")
            raise KeyboardInterrupt
        return save(self, path, state, **keywords)

    with monkeypatch.context() as patched:
        patched.setattr(Fabric, "save", torn)
        with pytest.raises(KeyboardInterrupt):
            train(config(), folder, progress=False)
    train(config(), folder, resume=True, progress=False)
    assert_same_run(folder, finished)


def test_a_finished_run_returns_at_once(finished, monkeypatch):
    def untouchable(*arguments):
        raise AssertionError("nothing is to be done")

    monkeypatch.setattr(module, "load", untouchable)
    before = (finished / "weights.safetensors").read_bytes()
    assert train(config(), finished, resume=True, progress=False) == finished / "weights.safetensors"
    assert (finished / "weights.safetensors").read_bytes() == before


def test_a_run_that_another_process_finished_meanwhile_is_not_gone_on_with(tmp_path, scenes, monkeypatch):
    """It was not there yet when this one looked first, and is when the scenes are read."""
    folder, load = tmp_path / "run", module.load

    def slow(*arguments):
        monkeypatch.setattr(module, "load", load)
        train(config(seed=1), folder, progress=False)
        return load(*arguments)

    monkeypatch.setattr(module, "load", slow)
    with pytest.raises(FileExistsError, match="holds a training run"):
        train(config(), folder, progress=False)
    assert json.loads((folder / "config.json").read_text())["seed"] == 1


def test_a_folder_with_a_run_is_not_taken_over(finished):
    for changes, resume, message in (
        ({}, False, "holds a training run; resume it or choose another folder"),
        ({"seed": 1}, True, "holds a run with another configuration (seed was 0, not 1); choose another folder"),
        ({"steps": 7}, True, "holds a run with another configuration (steps was 6, not 7); choose another folder"),
    ):
        with pytest.raises(FileExistsError) as error:
            train(config(**changes), finished, resume=resume, progress=False)
        assert str(error.value) == f"{finished}: {message}"


def test_resume_begins_where_there_is_nothing(tmp_path, finished):
    train(config(), tmp_path / "new", resume=True, progress=False)
    assert_same_run(tmp_path / "new", finished)


def test_another_seed_is_another_run(tmp_path, finished):
    train(config(seed=1), tmp_path / "run", progress=False)
    assert all(one["loss"] != other["loss"] for one, other in zip(rows(tmp_path / "run"), rows(finished)))


# What the weights tell


def test_the_story_tells_data_budget_and_code(finished):
    loaded = weights.load(finished / "weights.safetensors")
    story = loaded.story
    assert story["data"] == {split: {scene.name: scene.sha256() for scene in SCENES[split]} for split in SCENES}
    told = json.loads((finished / "config.json").read_text())
    assert told.pop("files") == {split: {scene.name: scene.sha256()[:8] for scene in SCENES[split]} for split in SCENES}
    assert story["training"] == told == json.loads(json.dumps(config().to_json()))
    assert (story["steps"], story["patches"]) == (6, 12) and story["seconds"] >= 0 and story["cpu_seconds"] > 0
    assert story["environment"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert story["environment"]["device"] and story["environment"]["code_version"]
    assert loaded.model.config == config().model


# Patches and validation


def test_patches_are_flips_and_rotations_of_parts_of_the_scenes():
    made = config()
    clean, noisy = patch_batch(SCENES["train"], made, range(40))
    assert clean.shape == noisy.shape == (40, BANDS, 12, 12) and clean.dtype == noisy.dtype == torch.float32
    parts = {}
    for scene in SCENES["train"]:
        windows = np.lib.stride_tricks.sliding_window_view(scene.cube, (12, 12), (0, 1))
        for row, column in np.ndindex(windows.shape[:2]):
            window = windows[row, column]
            for turn in range(4):
                for flip in (False, True):
                    patch = np.rot90(window, turn, (1, 2))
                    patch = patch[:, ::-1] if flip else patch
                    parts[np.ascontiguousarray(patch).tobytes()] = scene.name, turn, flip
    found = [parts[patch.numpy().tobytes()] for patch in clean]
    assert {name for name, _, _ in found} == {"hills", "dunes"}
    assert len({(turn, flip) for _, turn, flip in found}) == 8
    assert all(0.01 < (one - other).std() < 55 / 255 for one, other in zip(noisy, clean))


def test_a_patch_depends_on_its_index_alone():
    made = config()
    together = patch_batch(SCENES["train"], made, range(6))
    for index in range(6):
        for alone, batch in zip(patch_batch(SCENES["train"], made, [index]), together):
            assert torch.equal(alone[0], batch[index])
    assert not torch.equal(together[0][0], together[0][1])


def test_validation_is_on_centre_crops_and_always_the_same():
    scenes = [smooth_scene("wide", 20, 150, 6), smooth_scene("small", 13, 12, 7)]
    pairs = validation_set(scenes, config())
    assert [clean.shape for clean, _ in pairs] == [(20, 128, BANDS), (13, 12, BANDS)]
    np.testing.assert_array_equal(pairs[0][0], scenes[0].cube[:, 11:139])
    for (clean, noisy), (_, again) in zip(pairs, validation_set(scenes, config())):
        np.testing.assert_array_equal(noisy, again)
        assert 0 < np.std(noisy - clean) < 55 / 255


def test_several_cases_are_drawn_patch_by_patch_and_all_are_validated():
    made = config(case=["gauss-15", "corr"], batch=16)
    assert made.case == ("gauss-15", "corr")
    clean, noisy = patch_batch(SCENES["train"], made, range(16))
    sigmas = 255 * (noisy - clean).std(dim=(2, 3))  # (patch, band)
    bell = sigmas[:, BANDS // 2] > 18  # only corr is that strong, in its middle band
    assert 0 < bell.sum() < 16
    scenes = SCENES["validation"]
    pairs, alone = validation_set(scenes, made), validation_set(scenes, config(case="corr"))
    assert len(pairs) == 2 * len(scenes)
    for (_, noisy), (_, expected) in zip(pairs[len(scenes):], alone, strict=True):
        np.testing.assert_array_equal(noisy, expected)


def test_validation_scores_the_network(finished):
    model = weights.load(finished / "weights.safetensors").model
    clean = SCENES["validation"][0].cube
    noisy = add_noise(clean, "gauss-55", np.random.default_rng(0))[0]
    found = validate(model, [(clean, noisy), (noisy, noisy)], torch.device("cpu"))
    with torch.no_grad():
        output = model(torch.from_numpy(noisy.transpose(2, 0, 1)[None].copy()))
    estimate = output.image[0].numpy().transpose(1, 2, 0)
    expected = (metrics.mpsnr(clean, estimate) + metrics.mpsnr(noisy, estimate)) / 2
    assert found["psnr"] == pytest.approx(expected, abs=1e-4)
    assert found["iterations"] == output.solution.iterations.double().mean().item()
    assert found["residual"] == pytest.approx(output.solution.residuals.min().item(), rel=1e-3)


# Configurations


def test_recipes():
    paper = training("decsc", "paper", steps=10)
    assert (paper.batch, paper.learning_rate, paper.schedule, paper.patch, paper.clip) == (8, 1e-4, halved(2), 64, 1e6)
    assert paper.model == preset("paper") and paper.evaluations == (20, 20)
    tiny = training("decsc-mamba", "tiny", minutes=1.5, case="mixture", patch=20)
    assert tiny.model == preset("tiny", prior="vmamba")
    assert (tiny.patch, tiny.minutes, tiny.steps, tiny.case, tiny.evaluations) == (20, 1.5, None, "mixture", (4, 12))
    assert training("decsc", "small", steps=1).batch == 4
    with pytest.raises(ValueError, match="^preset 'huge' does not exist; choose one of paper, small, tiny$"):
        training("decsc", "huge", steps=1)


def test_digests_differ_where_trainings_do():
    assert config().digest() == TrainConfig.from_json(json.loads(json.dumps(config().to_json()))).digest()
    others = [config(), config(seed=1), config(clip=1.0), config(model=preset("tiny", bands=5)), config(case=["gauss-55"])]
    assert len({other.digest() for other in others}) == len(others)


@pytest.mark.parametrize("fields, message", [
    ({"steps": None}, "give the budget either as steps or as minutes"),
    ({"minutes": 1.0}, "give the budget either as steps or as minutes"),
    ({"case": "snow"}, "case 'snow' does not exist; choose one of gauss-15"),
    ({"case": ["corr", "snow"]}, "case 'snow' does not exist; choose one of gauss-15"),
    ({"case": []}, "case names no noise case"),
    ({"model": configure("sst", "tiny")}, "evaluations=(2, 4) is for DECSC alone, other networks have no fixed point; leave it at (20, 20)"),
])
def test_impossible_trainings_are_refused(fields, message):
    with pytest.raises(ValueError) as error:
        config(**fields)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_scenes_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ValueError, match="^synthetic: dunes is 24 x 18 pixels, smaller than patch=19$"):
        train(config(patch=19), tmp_path / "a", progress=False)
    with pytest.raises(ValueError, match="^synthetic: hills has 4 bands, the network 5$"):
        train(config(model=preset("tiny", bands=5)), tmp_path / "b", progress=False)


def test_networks_for_any_number_of_bands_need_as_many_in_all_scenes(tmp_path, scenes, monkeypatch):
    monkeypatch.setitem(scenes, "validation", [Scene(smooth_scene("plain", 18, 20, 3).cube[..., :3], "plain")])
    with pytest.raises(ValueError, match="^synthetic: plain has 3 bands, hills 4$"):
        train(config(model=configure("qrnn3d", "tiny"), evaluations=(20, 20)), tmp_path / "a", progress=False)


# Windows of bands


def numbered_bands(bands: int, name: str = "ramp") -> Scene:
    """A scene each of whose bands has its own value."""
    return Scene(np.broadcast_to(np.arange(bands, dtype=np.float32) / bands, (16, 16, bands)).copy(), name)


@pytest.mark.parametrize("model, width", [(preset("tiny", bands=4), 4), (configure("qrnn3d", "tiny"), 31)])
def test_of_scenes_with_more_bands_patches_have_adjacent_ones_from_everywhere(model, width):
    scenes = [numbered_bands(40), numbered_bands(36)]
    clean, noisy = patch_batch(scenes, config(model=model, evaluations=(20, 20)), range(600))
    assert clean.shape == noisy.shape == (600, width, 12, 12)
    drawn = clean[:, :, 0, 0].numpy()
    firsts = set()
    for bands in drawn:
        count = 40 if np.allclose(np.diff(bands), 1 / 40) else 36
        assert np.allclose(np.diff(bands), 1 / count)
        firsts.add((count, round(bands[0] * count)))
    assert {first for count, first in firsts if count == 40} >= {0, 40 - width}
    assert {first for count, first in firsts if count == 36} >= {0, 36 - width}


def test_validation_takes_a_window_for_each_case_and_scene_the_same_every_time():
    made = config(case=["gauss-15", "gauss-55", "corr"])
    scenes = [numbered_bands(40, "a"), numbered_bands(36, "b")]
    pairs = validation_set(scenes, made)
    firsts = [clean[0, 0, 0] for clean, _ in pairs]
    assert all(clean.shape == noisy.shape == (16, 16, 4) for clean, noisy in pairs)
    assert len(set(firsts)) > 3
    assert firsts == [clean[0, 0, 0] for clean, _ in validation_set(scenes, made)]


def test_a_network_is_trained_on_scenes_of_various_numbers_of_bands(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "load", lambda dataset, split: [numbered_bands(9, "a"), numbered_bands(6, "b")])
    loaded = weights.load(train(config(), tmp_path / "run", progress=False))
    assert loaded.model.config.bands == BANDS and loaded.story["validation_psnr"] > 0


def test_a_training_that_diverges_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "validate", lambda *arguments: {"psnr": float("nan")})
    with pytest.raises(RuntimeError, match="the training diverged, no validation score was finite"):
        train(config(), tmp_path / "run", progress=False)
    scores = [json.loads(line, parse_constant=pytest.fail).get("validation_psnr", "none") for line in (tmp_path / "run/log.jsonl").open()]
    assert None in scores, "JSON has no NaN"
    assert campaign.state({"run": config()}, tmp_path)["validation"].isna().all()


@pytest.mark.parametrize("fields", [
    {"steps": 40, "learning_rate": 1e9}, {"steps": 1, "learning_rate": 1e30, "clip": 1e6},
], ids=["noticed in a step", "noticed in validation"])
def test_a_training_whose_weights_grow_without_bound_says_what_to_change(tmp_path, fields):
    with pytest.raises(RuntimeError, match=r"run: the training diverged: .* weights grew too large .in training, try a smaller learning rate"):
        train(config(**fields), tmp_path / "run", progress=False)


def test_fine_tuning_starts_from_the_given_weights_and_tells_of_them(tmp_path, finished):
    before = weights.load(finished / "weights.safetensors")
    tuned = train(config(start=str(before.path), steps=1, learning_rate=1e-9), tmp_path / "tuned", progress=False)
    after = weights.load(tuned)
    for name, tensor in before.model.state_dict().items():
        torch.testing.assert_close(after.model.state_dict()[name], tensor, rtol=0, atol=1e-8)
    assert after.story["ancestor"] == {"sha256": before.sha256, "story": before.story}
    assert after.story["training"]["start"] == "weights.safetensors" and str(finished) not in json.dumps(after.story)


def test_fine_tuning_tells_what_the_weights_reached_before(tmp_path, finished, monkeypatch):
    """Also after an interruption."""
    before = weights.load(finished / "weights.safetensors")
    made, folder = config(start=str(before.path), seed=1), tmp_path / "run"
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        interrupt_at(patched, 3)
        train(made, folder, progress=False)
    story = weights.load(train(made, folder, resume=True, progress=False)).story
    pairs = validation_set(SCENES["validation"], made)
    assert story["validation_psnr_before"] == validate(before.model, pairs, torch.device("cpu"))["psnr"] != story["validation_psnr"]
    assert "validation_psnr_before" not in before.story, "a training that begins from nothing has nothing to tell"


def test_a_run_goes_on_only_with_the_weights_that_it_began_from(tmp_path, finished, monkeypatch):
    start, folder = tmp_path / "start.safetensors", tmp_path / "run"
    shutil.copy(finished / "weights.safetensors", start)
    made, refusal = config(start=str(start)), f"run: holds a run that began from other weights than {start} has; choose another folder$"
    with monkeypatch.context() as patched:
        interrupt_at(patched, 3)
        with pytest.raises(KeyboardInterrupt):
            train(made, folder, progress=False)
    shutil.copy(train(config(seed=1), tmp_path / "other", progress=False), start)
    with pytest.raises(FileExistsError, match=refusal):
        train(made, folder, resume=True, progress=False)
    shutil.copy(finished / "weights.safetensors", start)
    done = weights.load(train(made, folder, resume=True, progress=False))
    assert done.story["ancestor"]["sha256"] == file_hash(start)
    shutil.copy(tmp_path / "other" / "weights.safetensors", start)
    with pytest.raises(FileExistsError, match=refusal):
        train(made, folder, resume=True, progress=False)
    start.unlink()
    assert train(made, folder, resume=True, progress=False) == done.path, "a finished run needs its start no more"


@pytest.mark.parametrize("split, others, what", [
    ("train", [SCENES["train"][0], smooth_scene("dunes", 24, 18, 5)], "dunes of its train split has changed"),
    ("train", SCENES["train"][:1], "dunes of its train split is gone"),
    ("validation", [*SCENES["validation"], smooth_scene("lake", 18, 20, 4)], "lake of its validation split is new"),
])
def test_a_run_goes_on_only_with_the_scenes_that_it_began_with(split, others, what, tmp_path, finished, scenes, monkeypatch):
    folder = tmp_path / "run"
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        interrupt_at(patched, 3)
        train(config(), folder, progress=False)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with monkeypatch.context() as patched, pytest.raises(FileExistsError) as error:
        patched.setitem(scenes, split, others)
        train(config(), folder, resume=True, progress=False)
    assert str(error.value) == f"{folder}: holds a run on other scenes ({what}); choose another folder"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    train(config(), folder, resume=True, progress=False)
    assert_same_run(folder, finished)


@pytest.mark.parametrize("split, others, what", [
    ("train", [SCENES["train"][0], smooth_scene("dunes", 24, 18, 5)], "dunes of its train split has changed"),
    ("validation", [*SCENES["validation"], smooth_scene("lake", 18, 20, 4)], "lake of its validation split is new"),
])
def test_a_finished_run_is_not_taken_for_one_on_other_scenes(split, others, what, tmp_path, finished, scenes, monkeypatch):
    folder = shutil.copytree(finished, tmp_path / "run")
    with monkeypatch.context() as patched, pytest.raises(FileExistsError) as error:
        patched.setitem(scenes, split, others)
        train(config(), folder, resume=True, progress=False)
    assert str(error.value) == f"{folder}: holds a run on other scenes ({what}); choose another folder"
    with monkeypatch.context() as patched:
        for split in scenes:
            patched.setitem(scenes, split, [])
        assert train(config(), folder, resume=True, progress=False).exists(), "it needs its scenes no more"


def test_a_run_is_the_same_wherever_the_weights_lie_that_it_began_from(tmp_path, finished):
    start, other = (shutil.copy(finished / "weights.safetensors", tmp_path / name) for name in ("a.safetensors", "b.safetensors"))
    done = train(config(start=str(start)), tmp_path / "run", progress=False)
    start.unlink()
    before = done.stat().st_mtime_ns
    assert train(config(start=str(other)), tmp_path / "run", resume=True, progress=False) == done and done.stat().st_mtime_ns == before
    with pytest.raises(FileExistsError, match="another configuration"):
        train(config(), tmp_path / "run", resume=True, progress=False)


def test_a_folder_with_files_of_no_run_is_left_alone(tmp_path, finished):
    folder = tmp_path / "mine"
    folder.mkdir()
    mine = shutil.copy(finished / "weights.safetensors", folder)
    before = Path(mine).read_bytes()
    with pytest.raises(FileExistsError, match="mine/weights.safetensors: is there, but no config.json"):
        train(config(), folder, progress=False)
    assert Path(mine).read_bytes() == before and len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("name, content, told", [
    ("config.json", "mine", "tells of no training"), ("config.json", "[1, 2]", "tells of no training"), ("config.json", '{"colour": "red"}', "tells of no training"),
    ("log.jsonl", "mine", "is there, but no config.json"),
])
@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_with_anothers_files_is_left_alone(tmp_path, name, content, told, resume):
    (tmp_path / name).write_text(content)
    with pytest.raises(FileExistsError, match=f"{name}: {told}"):
        train(config(), tmp_path, resume=resume, progress=False)
    assert (tmp_path / name).read_text() == content and len(list(tmp_path.iterdir())) == 1


def test_evaluations_that_the_solver_refuses_are_told_before_the_training():
    model = replace(config().model, solver=replace(config().model.solver, stop="batch"))
    with pytest.raises(ValueError, match=r"evaluations=\(2, 6\) do not go with the solver: max_iter must be a whole number of at least 3"):
        config(model=model, evaluations=(2, 6))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, which comes first")
def test_a_mac_trains_where_it_denoises(tmp_path, monkeypatch):
    monkeypatch.setattr("lightning_fabric.accelerators.mps.MPSAccelerator.is_available", staticmethod(lambda: True))
    path = train(config(), tmp_path / "run", progress=False)
    assert weights.load(path).story["environment"]["device"] == "cpu"


def test_a_run_that_ended_before_there_was_anything_to_keep_begins_anew(tmp_path, finished, monkeypatch):
    """Also as another one."""
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        interrupt_at(patched, 0)
        train(config(seed=1), tmp_path / "run", progress=False)
    assert (tmp_path / "run" / "config.json").exists()
    train(config(), tmp_path / "run", progress=False)
    assert_same_run(tmp_path / "run", finished)


def test_a_folder_takes_one_training_at_a_time(tmp_path, monkeypatch):
    def another(scenes, given, indices):
        with pytest.raises(FileExistsError, match="run: another training is running there; wait for it, or choose another folder"):
            train(config(), tmp_path / "run", resume=True, progress=False)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(patches, "patch_batch", another)
        train(config(), tmp_path / "run", progress=False)
    train(config(), tmp_path / "run", resume=True, progress=False)


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-500], lambda data: b"no checkpoint"])
def test_a_damaged_checkpoint_is_named(damage, tmp_path, monkeypatch):
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        interrupt_at(patched, 3)
        train(config(), tmp_path / "run", progress=False)
    checkpoint = tmp_path / "run" / "checkpoint.pt"
    checkpoint.write_bytes(damage(checkpoint.read_bytes()))
    with pytest.raises(ValueError, match=r"run/checkpoint.pt: cannot be read \(.*\); it is damaged, remove it to begin anew"):
        train(config(), tmp_path / "run", resume=True, progress=False)


WRONG = {
    "steps": (0, -8, 2.5, True), "batch": (0,), "patch": (0,), "validate_every": (0,), "learning_rate": (0, float("nan")), "clip": (0, -1),
    "jacobian_penalty": (-1,), "weight_decay": (-1, float("inf")), "fixed_norms": ("no", 1), "evaluations": ((12, 4), (0, 4), (4,)), "precision": ("16-mixed",),
    "seed": (-1, 1.5, 10**30), "schedule": (((0.5, -3),), ((2, 3),), ((0.5, 1), (0.1, 2))),
}


@pytest.mark.parametrize("field, value", [(field, value) for field, values in WRONG.items() for value in values])
def test_a_number_out_of_range_is_named(field, value):
    with pytest.raises(ValueError, match=f"^{field}[= ]"):
        config(**{field: value})


@pytest.mark.parametrize("minutes", [0, -1, float("inf")])
def test_minutes_are_more_than_none(minutes):
    with pytest.raises(ValueError, match="^minutes="):
        config(steps=None, minutes=minutes)


def test_the_precision_of_products_is_that_of_before(tmp_path, monkeypatch):
    """On a GPU training takes TF32, and only training."""
    monkeypatch.setattr(module, "_train", lambda *given: torch.set_float32_matmul_precision("high"))
    assert torch.get_float32_matmul_precision() == "highest"
    train(config(), tmp_path / "run")
    assert torch.get_float32_matmul_precision() == "highest"


def test_a_run_from_before_a_field_came_is_resumed(tmp_path, finished):
    folder = shutil.copytree(finished, tmp_path / "run")
    told = json.loads((folder / "config.json").read_text())
    del told["kept"], told["model"]["misfit"]
    (folder / "config.json").write_text(json.dumps(told))
    own = config(model=replace(config().model, misfit=0.0))
    assert train(own, folder, resume=True) == folder / "weights.safetensors"
    for spoilt in ({**told, "colour": "red"}, {**told, "seed": 3}, {"method": "decsc"}, {}):
        (folder / "config.json").write_text(json.dumps(spoilt))
        what = "with another configuration" if "seed" in spoilt and "colour" not in spoilt else "whose config.json cannot be used"
        with pytest.raises(FileExistsError, match=f"holds a run {what}"):
            train(own, folder, resume=True)


def test_a_checkpoint_from_before_it_told_of_its_scenes_is_resumed(tmp_path, finished, monkeypatch):
    folder = tmp_path / "run"
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        interrupt_at(patched, 3)
        train(config(), folder, progress=False)
    told = torch.load(folder / "checkpoint.pt", weights_only=False)
    del told["progress"]["data"]
    torch.save(told, folder / "checkpoint.pt")
    train(config(), folder, resume=True, progress=False)
    assert_same_run(folder, finished)


def test_mixed_precision_leaves_the_noisy_image_as_it_is(tmp_path, monkeypatch):
    seen = []

    def forward(self, noisy, *arguments, original=DECSC.forward):
        seen.append((noisy.dtype, torch.is_autocast_enabled("cpu")))
        return original(self, noisy, *arguments)

    monkeypatch.setattr(DECSC, "forward", forward)
    train(config(steps=1, precision="bf16-mixed"), tmp_path / "run", progress=False)
    assert seen == [(torch.float32, True), (torch.float32, False)], "a step in mixed precision, a validation without"


def test_fine_tuning_may_keep_a_share_of_what_it_started_from(tmp_path, finished):
    before = weights.load(finished / "weights.safetensors")
    whole = weights.load(train(config(start=str(before.path), steps=2), tmp_path / "whole", progress=False)).model.state_dict()
    kept = weights.load(train(config(start=str(before.path), steps=2, kept=0.25), tmp_path / "kept", progress=False))
    for name, tensor in kept.model.state_dict().items():
        torch.testing.assert_close(tensor, 0.25 * before.model.state_dict()[name] + 0.75 * whole[name])
    pairs = validation_set(SCENES["validation"], config())
    assert kept.story["validation_psnr"] == pytest.approx(validate(kept.model.eval(), pairs, torch.device("cpu"))["psnr"], abs=1e-3)
    assert kept.story["training"]["kept"] == 0.25
    for wrong in ({"kept": 0.5}, {"kept": 1, "start": "some.safetensors"}, {"kept": -0.1, "start": "some.safetensors"}):
        with pytest.raises(ValueError, match="^kept=.* must be at least 0 and below 1, and above 0 only with weights to start from$"):
            config(**wrong)


def test_fine_tuning_may_leave_the_statistics_of_batch_norms_as_they_are(tmp_path):
    made = config(model=configure("qrnn3d", "tiny"), learning_rate=1e-4, evaluations=(20, 20))
    start = weights.load(train(made, tmp_path / "start", progress=False))
    before, tuned = start.model.eval().state_dict(), {}
    for fixed in (False, True):
        on = replace(made, start=str(start.path), fixed_norms=fixed)
        tuned[fixed] = weights.load(train(on, tmp_path / f"{fixed}", progress=False)).model.state_dict()
    for name, tensor in before.items():
        assert torch.equal(tuned[True][name], tensor) == ("running" in name), name
        assert not torch.equal(tuned[False][name], tensor), name
    clean, noisy = patch_batch(SCENES["train"], made, range(made.batch))
    assert rows(tmp_path / "True")[0]["loss"] == pytest.approx((start.model(noisy) - clean).square().mean().item(), rel=1e-4)


def test_fixed_norms_need_statistics(tmp_path, finished):
    with pytest.raises(ValueError, match="^fixed_norms is for weights to start from; there are no statistics to keep before a training$"):
        config(fixed_norms=True)
    with pytest.raises(ValueError, match="^fixed_norms: decsc has no batch normalization; leave it out$"):
        train(config(start=str(finished / "weights.safetensors"), fixed_norms=True), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_fine_tuning_may_change_what_needs_no_other_tensors(tmp_path, finished):
    start = finished / "weights.safetensors"
    changed = replace(config().model, ridge=0.3)
    tuned = weights.load(train(config(start=str(start), model=changed, steps=1, learning_rate=1e-9), tmp_path / "run", progress=False))
    torch.testing.assert_close(tuned.model.shared_threshold, weights.load(start).model.shared_threshold, rtol=0, atol=1e-8)
    assert tuned.model.config.ridge == 0.3


def test_a_network_with_the_other_prior_takes_over_all_but_the_prior(tmp_path, finished):
    before = weights.load(finished / "weights.safetensors")
    other = config(start=str(before.path), steps=1, learning_rate=1e-9)
    other = replace(other, model=replace(other.model, prior="vmamba"))
    after = weights.load(train(other, tmp_path / "tuned", progress=False))
    assert after.method == "decsc-mamba" and after.story["ancestor"]["sha256"] == before.sha256
    own, taken = after.model.state_dict(), before.model.state_dict()
    names = {name for name in own if not name.startswith("prior_shared.")}
    assert names == {name for name in taken if not name.startswith("prior_shared.")}
    for name in names:
        torch.testing.assert_close(own[name], taken[name], rtol=0, atol=1e-8)


def test_nothing_is_kept_of_a_network_with_the_other_prior(tmp_path, finished):
    other = config(start=str(finished / "weights.safetensors"), kept=0.25)
    with pytest.raises(ValueError, match="weights.safetensors: has the other prior, so there is no whole network of which to keep kept=0.25; leave kept out$"):
        train(replace(other, model=replace(other.model, prior="vmamba")), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_weights_of_another_network_are_no_start(tmp_path, finished):
    other = config(start=str(finished / "weights.safetensors"))
    other = replace(other, model=replace(other.model, unshared_atoms=6))
    with pytest.raises(ValueError, match="weights.safetensors: holds another network than the one to be trained$"):
        train(other, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
