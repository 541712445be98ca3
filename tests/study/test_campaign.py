"""study.campaign: every run is trained once, whatever happens in between."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from decsc_core import weights
from decsc_core.scenes import Scene
from decsc_core.study import campaign, patches, run_folder, train
from decsc_core.study.provenance import device
from decsc_core.study.recipes import RECIPES

RUNS = """
first: {method: decsc, preset: tiny, patches: 4, batch: 2, patch: 12, validate_every: 1, model: {bands: 4, depth: 1}}
second: {method: decsc, preset: tiny, start: first, seed: 3, steps: 2, batch: 2, patch: 12, validate_every: 1}
"""


@pytest.fixture(autouse=True)
def scenes(monkeypatch) -> None:
    """A smooth cube in place of the catalogue's."""
    y, x, b = np.meshgrid(np.arange(20), np.arange(22), np.arange(4), indexing="ij")
    scene = Scene((0.5 + 0.3 * np.sin(y / 4 + b) * np.cos(x / 5)).astype(np.float32), "waves")
    monkeypatch.setattr(train, "load", lambda dataset, split: [scene])
    monkeypatch.setattr(run_folder, "fingerprints", lambda dataset, split: {"waves": "as it was"})


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "runs.yaml"
    path.write_text(RUNS)
    return path


def test_runs_are_their_recipes_with_what_the_file_says(file, tmp_path):
    runs = campaign.read(file, tmp_path)
    first, second = runs["first"], runs["second"]
    assert list(runs) == ["first", "second"] and first.steps == 2 and first.model.bands == 4 and first.model.depth == 1
    assert first.clip == RECIPES["decsc"]["tiny"]["clip"]
    assert second.model == first.model and second.start == str(tmp_path / "first" / "weights.safetensors")


def test_runs_that_differ_in_the_seed_alone_are_alike(file, tmp_path):
    file.write_text("""
one: &one {method: decsc, preset: tiny, steps: 2}
other: &other {method: qrnn3d, preset: tiny, steps: 4}
other-1: {<<: *other, seed: 1}
without-swin: {<<: *one, model: {depth: 0}}
longer: {<<: *other, steps: 5}
""")
    assert campaign.alike(campaign.read(file, tmp_path)) == [["one"], ["other", "other-1"], ["without-swin"], ["longer"]]


def test_a_run_with_the_other_prior_starts_from_the_same_network(file, tmp_path):
    file.write_text(RUNS + "third: {method: decsc-mamba, preset: tiny, start: second, steps: 1}\n")
    runs = campaign.read(file, tmp_path)
    assert runs["third"].model == replace(runs["second"].model, prior="vmamba")


def test_an_interrupted_campaign_goes_on_and_repeats_nothing(file, tmp_path, monkeypatch):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    campaign.carry_out(campaign.read(file, whole), whole, progress=False)
    runs = campaign.read(file, broken)
    patch_batch = patches.patch_batch

    def die(scenes, config, indices):
        if config.start and indices[0] >= 2:
            raise KeyboardInterrupt
        return patch_batch(scenes, config, indices)

    monkeypatch.setattr(patches, "patch_batch", die)
    with pytest.raises(KeyboardInterrupt):
        campaign.carry_out(runs, broken, progress=False)
    before = campaign.state(runs, broken).set_index("run")
    assert before["state"].to_dict() == {"first": "finished", "second": "under way"}
    assert before["patches"].to_dict() == {"first": 4, "second": 2}
    finished = (broken / "first" / "weights.safetensors").stat().st_mtime_ns

    monkeypatch.setattr(patches, "patch_batch", patch_batch)
    campaign.carry_out(runs, broken, progress=False)
    assert (broken / "first" / "weights.safetensors").stat().st_mtime_ns == finished
    for name in runs:
        one, other = (weights.load(folder / name / "weights.safetensors").model.state_dict() for folder in (whole, broken))
        assert all(torch.equal(one[key], other[key]) for key in one)
    after = campaign.state(runs, broken)
    assert (after["state"] == "finished").all() and (after["validation"] > 5).all() and (after["residual"] < 1).all()


def test_a_run_that_another_process_trains_is_not_set_aside(file, tmp_path, monkeypatch):
    folder = tmp_path / "runs"
    runs = campaign.read(file, folder)
    patch_batch = patches.patch_batch

    def edit_meanwhile(*given):
        file.write_text(RUNS.replace("preset: tiny, patches", "preset: tiny, seed: 7, patches"))
        with pytest.raises(FileExistsError, match="first: another training is running there; wait for it, or choose another folder"):
            campaign.carry_out(campaign.read(file, folder), folder, progress=False)
        return patch_batch(*given)

    monkeypatch.setattr(patches, "patch_batch", edit_meanwhile)
    campaign.carry_out({"first": runs["first"]}, folder, progress=False)
    assert [path.name for path in folder.iterdir()] == ["first"]
    assert weights.load(folder / "first" / "weights.safetensors").story["training"]["seed"] == 0


def test_a_run_on_other_scenes_is_trained_anew(file, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "runs"
    runs = {"first": campaign.read(file, folder)["first"]}
    campaign.carry_out(runs, folder, progress=False)
    monkeypatch.setattr(run_folder, "fingerprints", lambda dataset, split: {"waves": "as it is"})
    campaign.carry_out(runs, folder, progress=False)
    assert capsys.readouterr().err == (
        f"{folder / 'first'}: holds a run on other scenes (waves of its train split has changed); set aside as first.old-1\n"
    )
    campaign.carry_out(runs, folder, progress=False)
    assert capsys.readouterr().err == "" and sorted(path.name for path in folder.iterdir()) == ["first", "first.old-1"]


def test_an_edited_run_and_those_that_begin_from_it_are_trained_anew(file, tmp_path, capsys):
    """What was there is set aside, and told."""
    folder = tmp_path / "runs"
    campaign.carry_out(campaign.read(file, folder), folder, progress=False)
    before = {name: (folder / name / "weights.safetensors").read_bytes() for name in ("first", "second")}
    assert capsys.readouterr().err == ""
    file.write_text(RUNS.replace("preset: tiny, patches", "preset: tiny, seed: 7, patches"))
    runs = campaign.read(file, folder)
    campaign.carry_out(runs, folder, progress=False)
    assert capsys.readouterr().err.splitlines() == [
        f"{folder / 'first'}: holds a run with another configuration (seed was 0, not 7); set aside as first.old-1",
        f"{folder / 'second'}: holds a run that began from other weights than {folder / 'first' / 'weights.safetensors'} has; set aside as second.old-1",
    ]
    assert {name: (folder / f"{name}.old-1" / "weights.safetensors").read_bytes() for name in before} == before
    first, second = (weights.load(folder / name / "weights.safetensors") for name in runs)
    assert first.story["training"]["seed"] == 7 and second.story["ancestor"]["sha256"] == first.sha256
    campaign.carry_out(runs, folder, progress=False)
    assert sorted(path.name for path in folder.iterdir()) == ["first", "first.old-1", "second", "second.old-1"], "once"
    file.write_text(RUNS)
    campaign.carry_out(campaign.read(file, folder), folder, progress=False)
    assert (folder / "first.old-2").is_dir() and (folder / "second.old-2").is_dir()


def test_a_run_goes_on_though_its_checkpoints_come_at_other_times(file, tmp_path, capsys):
    folder = tmp_path / "runs"
    campaign.carry_out(campaign.read(file, folder), folder, progress=False)
    file.write_text(RUNS.replace("patch: 12", "patch: 12, checkpoint_seconds: 7"))
    campaign.carry_out(campaign.read(file, folder), folder, progress=False)
    assert capsys.readouterr().err == "" and sorted(path.name for path in folder.iterdir()) == ["first", "second"]


def test_a_run_that_another_process_has_just_set_aside_is_not_set_aside_again(file, tmp_path, monkeypatch):
    folder = tmp_path / "runs"
    campaign.carry_out({"first": campaign.read(file, folder)["first"]}, folder, progress=False)
    file.write_text(RUNS.replace("preset: tiny, patches", "preset: tiny, seed: 7, patches"))
    runs, claim = {"first": campaign.read(file, folder)["first"]}, campaign.claim

    def late(*given):
        monkeypatch.setattr(campaign, "claim", claim)
        campaign.carry_out(runs, folder, progress=False)  # another process, as quick as can be
        claim(*given)

    monkeypatch.setattr(campaign, "claim", late)
    campaign.carry_out(runs, folder, progress=False)
    assert sorted(path.name for path in folder.iterdir()) == ["first", "first.old-1"]
    assert weights.load(folder / "first" / "weights.safetensors").story["training"]["seed"] == 7


def test_weights_tell_what_their_folders_did(file, tmp_path):
    """Also of the run that they began from, whose folder is gone and which is not published itself."""
    folder, shelf = tmp_path / "runs", tmp_path / "shelf.safetensors"
    runs = campaign.read(file, folder)
    campaign.carry_out(runs, folder, progress=False)
    before = campaign.state(runs, folder)
    first, second = (weights.load(folder / name / "weights.safetensors") for name in runs)
    second.path.rename(shelf)
    shutil.rmtree(folder)
    after = campaign.state(runs, folder, {"second": shelf})
    told = ["run", "device", "patches", "minutes", "cpu_minutes", "validation", "best_step", "sha256", "code", "state"]
    pd.testing.assert_frame_equal(after[told], before[told])
    assert list(after["sha256"]) == [first.sha256[:12], second.sha256[:12]] and list(after["patches"]) == [4, 4]
    assert list(after["validation"]) == [first.story["validation_psnr"], second.story["validation_psnr"]]
    assert set(after["device"]) == {device(first.story["environment"])} and set(campaign.state(runs, folder)["device"]) == {""}
    assert list(after["bytes"].fillna(0)) == [0, shelf.stat().st_size]
    assert (campaign.state(runs, folder)["state"] == "not begun").all()


def test_published_weights_count_before_those_here_and_those_of_another_training_not_at_all(file, tmp_path):
    folder = tmp_path / "runs"
    runs = {"first": campaign.read(file, folder)["first"]}
    campaign.carry_out(runs, folder, progress=False)
    here = weights.load(folder / "first" / "weights.safetensors")
    shelf, other = tmp_path / "shelf.safetensors", tmp_path / "other.safetensors"
    published = weights.save(here.model, shelf, here.story | {"patches": 5})
    weights.save(here.model, other, here.story | {"training": here.story["training"] | {"seed": 7}})
    assert campaign.state(runs, folder, {"first": shelf})[["sha256", "patches"]].values.tolist() == [[published[:12], 5]]
    assert campaign.state(runs, folder, {"first": other})["sha256"].tolist() == [here.sha256[:12]]
    assert campaign.state(runs, tmp_path / "none", {"first": other})["state"].tolist() == ["not begun"]


def test_the_best_step_is_that_of_a_score_that_is_a_number(file, tmp_path):
    (tmp_path / "first").mkdir()
    lines = [{"step": step, "patches": step, "seconds": step, "validation_psnr": score} for step, score in enumerate((math.nan, 30.0, 29.0), start=1)]
    (tmp_path / "first/log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    row = campaign.state(campaign.read(file, tmp_path), tmp_path).iloc[0]
    assert (row["validation"], row["best_step"], row["state"]) == (30.0, 2, "under way")


def test_weights_do_not_tell_of_a_run_that_is_described_otherwise_by_now(file, tmp_path):
    folder = tmp_path / "runs"
    campaign.carry_out(campaign.read(file, folder), folder, progress=False)
    (folder / "first" / "weights.safetensors").unlink()
    assert list(campaign.state(campaign.read(file, folder), folder)["state"]) == ["finished", "finished"]
    file.write_text(RUNS.replace("preset: tiny, patches", "preset: tiny, seed: 7, patches"))
    assert list(campaign.state(campaign.read(file, folder), folder)["state"]) == ["under way", "finished"]


@pytest.mark.parametrize("training", [{}, {"training": {"method": "decsc", "gone": 1}}, {"training": {"method": "of another time"}}])
def test_published_weights_that_tell_of_no_known_training_do_not_count(file, tmp_path, training):
    folder, shelf = tmp_path / "runs", tmp_path / "shelf.safetensors"
    runs = {"first": campaign.read(file, folder)["first"]}
    campaign.carry_out(runs, folder, progress=False)
    here = weights.load(folder / "first" / "weights.safetensors")
    weights.save(here.model, shelf, {key: value for key, value in here.story.items() if key != "training"} | training)
    assert campaign.state(runs, folder, {"first": shelf})["sha256"].tolist() == [here.sha256[:12]]


def test_a_run_that_another_one_begins_from_is_not_the_last(file, tmp_path):
    assert campaign.last(campaign.read(file, tmp_path)) == ["second"]


def test_runs_that_differ_from_one_above_in_the_network_alone_are_no_methods(file, tmp_path):
    """In the paper's own experiment the ablations stand with the other networks, which are compared."""
    folder = Path(__file__).parents[2] / "campaigns"
    assert campaign.last(campaign.read(folder / "paper.yaml", tmp_path)) == [
        "complete", "decsc-mamba", "sst", "trq3d", "sert", "t3sc", "mtsnnpp", "qrnn3d", "hsdt"
    ]
    runs = campaign.read(folder / "comparison.yaml", tmp_path)
    elsewhere = [name for name in runs if runs[name].dataset != "cave"]
    assert elsewhere and campaign.last(runs) == [name for name in runs if not name.endswith("-minutes") and name not in {*elsewhere, *campaign.tuned(runs)}]


def test_nothing_has_begun_before_it_begins(file, tmp_path):
    state = campaign.state(campaign.read(file, tmp_path), tmp_path)
    assert (state["state"] == "not begun").all() and (state["patches"] == 0).all() and state["validation"].isna().all()


# Killed as the system kills

KILLED = """
first: {method: decsc, preset: tiny, dataset: photos, steps: 25, batch: 1, patch: 12, validate_every: 20,
        checkpoint_seconds: 0, model: {shifts: 1, depth: 1, unshared_atoms: 2}}
second: {method: decsc, preset: tiny, dataset: photos, start: first, seed: 1, steps: 60, batch: 1, patch: 12,
         validate_every: 50, checkpoint_seconds: 0.2}
"""
CLOCKS = ("seconds", "cpu_seconds")


def command(folder: Path) -> subprocess.Popen:
    """`decsc train --campaign` on the file beside `folder`, in a process of its own."""
    words = ["train", "--campaign", str(folder.parent / "killed.yaml"), "--out", str(folder)]
    return subprocess.Popen(
        [sys.executable, "-c", "from decsc_core.cli import main; main()", *words],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def finish(folder: Path) -> None:
    """Let the campaign go on until it ends by itself."""
    with command(folder) as process:
        told = process.communicate(timeout=300)[0]
    assert process.returncode == 0 and told.count("finished") == 2, told


def logs(folder: Path) -> dict[str, list[str]]:
    """The lines of both logs, as they are written."""
    paths = {name: folder / name / "log.jsonl" for name in ("first", "second")}
    return {name: path.read_text().splitlines() if path.exists() else [] for name, path in paths.items()}


def taken(folder: Path) -> int:
    """Steps that the logs tell of."""
    return sum(map(len, logs(folder).values()))


def checkpointed(folder: Path) -> dict[str, list[str]]:
    """The lines of each log up to the last checkpoint; every file with a name of its own can be read to its end."""
    kept = {name: [] for name in ("first", "second")}
    for path in folder.glob("*/[!.]*"):
        if path.name == "checkpoint.pt":
            step = torch.load(path, weights_only=True)["progress"]["step"]
            kept[path.parent.name] = logs(folder)[path.parent.name][:step]
            assert len(kept[path.parent.name]) == step
        elif path.name == "weights.safetensors":
            assert weights.load(path).story["steps"] == len(logs(folder)[path.parent.name])
        else:
            lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
            assert path.name in ("config.json", "log.jsonl") and all(map(json.loads, lines))
    return kept


def without_clocks(story: dict) -> dict:
    """A story, and those within it, without how long it took, and so without the hash of the ancestor's file."""
    story = {key: value for key, value in story.items() if key not in CLOCKS}
    if "ancestor" in story:
        story["ancestor"] = without_clocks(story["ancestor"]["story"])
    return story


@pytest.mark.slow
def test_ten_kills_lose_nothing_before_the_last_checkpoint(tmp_path):
    """Lines up to a checkpoint stay as they are, clock included: no step before it is ever taken again."""
    (tmp_path / "killed.yaml").write_text(KILLED)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(whole)
    rng = np.random.default_rng(0)
    kept, finished = {"first": [], "second": []}, {}
    for _ in range(10):
        goal, delay = taken(killed) + rng.integers(1, 9), rng.uniform(0, 0.1)
        with command(killed) as process:
            while taken(killed) < goal and process.poll() is None:
                time.sleep(0.02)
            time.sleep(delay)
            process.kill()
        assert process.returncode == -9, process.stdout.read()
        before, kept = kept, checkpointed(killed)
        for name in kept:
            assert kept[name][:len(before[name])] == before[name]
        for path in killed.glob("*/weights.safetensors"):
            assert path.read_bytes() == finished.setdefault(path, path.read_bytes())
    assert kept["second"] and len(finished) == 1
    finish(killed)
    checkpointed(killed)
    for name in ("first", "second"):
        assert {path.name for path in (killed / name).iterdir()} == {
            "config.json", "log.jsonl", "checkpoint.pt", "weights.safetensors"
        }
        one, other = (weights.load(folder / name / "weights.safetensors") for folder in (whole, killed))
        states = one.model.state_dict(), other.model.state_dict()
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
        assert without_clocks(one.story) == without_clocks(other.story)
        rows = [[without_clocks(json.loads(line)) for line in logs(folder)[name]] for folder in (whole, killed)]
        assert rows[0] == rows[1]
    first, second = (weights.load(killed / name / "weights.safetensors") for name in ("first", "second"))
    assert second.story["ancestor"]["sha256"] == first.sha256


@pytest.mark.parametrize("text, told", [
    ("a: [", "not YAML"),
    ("- a", "expected a mapping of names to runs"),
    ("{}", "expected a mapping of names to runs"),
    ("a: {method: decsc, stepz: 3}", "a: Additional properties are not allowed ('stepz' was unexpected); there are method, "),
    ("a: {steps: 3}", "a: 'method' is a required property"),
    ("a: {method: sst, preset: big, steps: 3}", "a: preset: 'big' is not one of paper, small, tiny"),
    ("a: {method: sst, patches: 6}", "a: patches: 6 is no multiple of the batch, 4"),
    ("a: {method: sst, steps: 3, start: b}", "a: start: no run 'b' above it"),
    ("a: {method: sst, steps: 3, learning_rate: 5e-4}", "a: learning_rate: '5e-4' is not of type 'number'; YAML writes small ones as 5.0e-4"),
    ("a: {method: sst}", "a: give the budget as one of steps, minutes and patches, not as none of them"),
    ("a: {method: sst, steps: 4, patches: 8}", "a: give the budget as one of steps, minutes and patches, not as steps and patches"),
    ("a: {method: sst, steps: 4, steps: 6}", "not YAML ('steps' stands twice)"),
    ("a: {method: sst, steps: 4}\na: {method: sst, steps: 6}", "not YAML ('a' stands twice)"),
    ("a: {method: qrnn3d, steps: 3}\nb: {method: sst, steps: 3, start: a}", "b: start: a trains a network of qrnn3d, not of sst"),
    ("a: {method: sst, steps: 3, dataset: phtos}", "a: dataset: 'phtos' is not one of ['photos', 'cave', "),
    ("a: {method: sst, steps: 3, schedule: [[0.5, -3]]}", "a: schedule="),
    ("a: {method: sst, steps: 3, schedule: [[0.5, 0.3], [0.1, 2]]}", "a: schedule="),
    ("a: {method: sst, patches: 4, batch: 0}", "a: patches: 4 is no multiple of the batch, 0"),
    ("a: {method: [sst], steps: 3}", "a: method: ['sst'] is not one of ['decsc', "),
    ("a: {method: sst, steps: 3, dataset: [cave]}", "a: dataset: ['cave'] is not one of ['photos', "),
    ("a: {method: sst, steps: 3, case: 15}", "a: case: 15 is not of type 'string', 'array'"),
    ("a: {method: sst, steps: 3, case: [[corr]]}", "a: case.0: ['corr'] is not of type 'string'"),
    ("a: {method: sst, steps: 3, batch: true}", "a: batch: True is not of type 'number'"),
    ("a: {method: sst, steps: 3, schedule: 0.5}", "a: schedule: 0.5 is not of type 'array'"),
    ("a: {method: sst, steps: 3, schedule: [[0.5]]}", "a: schedule.0: [0.5] is too short; give two numbers"),
    ("a: {method: sst, steps: 3, evaluations: [4, 8.5]}", "a: evaluations.1: 8.5 is not of type 'integer'"),
    ("a: {method: sst, steps: 3, evaluations: [4]}", "a: evaluations: [4] is too short"),
    ("a: {method: sst, steps: 3, model: small}", "a: model: 'small' is not of type 'object'; give fields of the network's configuration"),
    ("a: {method: decsc, steps: 3, model: {shifts: many}}", "a: model: shifts='many' must be a whole number"),
    ("a: {method: sst, patches: -8}", "a: patches: -8 is no multiple of the batch"),
    ("a: {method: sst, steps: 3, seed: 1.5}", "a: seed=1.5 must be a whole number"),
    ("../a: {method: sst, steps: 3}", "../a: '../a' cannot name a folder"),
    ("3: {method: sst, steps: 3}", "3: 3 cannot name a folder"),
    ("'': {method: sst, steps: 3}", "'' cannot name a folder"),
    ("a: {method: sst, steps: 3, seed: 2024-13-45}", "not YAML (month must be in 1..12)"),
    ("a: {method: decsc, steps: 3, model: {shared_atoms: 16.5}}", "a: model: shared_atoms=16.5 must be a whole number"),
    ("a: {method: decsc, steps: 3, model: {heads: 5}}", "a: model: 64 shared atoms cannot be split over 5 attention heads; use a multiple of 5"),
    ("a: {method: decsc, steps: 3, model: {ridge: some}}", "a: model: ridge='some' must be a number"),
    ("a: {method: decsc, steps: 3, model: {solver: {memory: 2.5}}}", "a: model: memory=2.5 must be a whole number"),
    ("a: {method: trq3d, steps: 3, model: {heads: true}}", "a: model: heads=True must be a whole number"),
    ("a: {method: decsc, steps: 3, model: {prior: vmamba}}", "a: model: that is a network of decsc-mamba, not of decsc; give it as the method"),
    ("a: {method: sst, steps: 3, model: {heads: 0}}", "a: model: "),
    ("a: {method: decsc, steps: 3, model: {phantom: 1.0}}", "a: model: phantom=1.0 must be a list"),
    ("a: {method: decsc, steps: 3, model: {detail_parts: difference}}", "a: model: detail_parts='difference' must be a list"),
    ("a: {method: t3sc, steps: 3, model: {atoms: 3}}", "a: model: atoms=3 must be a list"),
    ("a: {method: decsc, steps: 3, model: {solver: {meth: x}}}", "a: model: solver: 'meth' is not one of method, "),
    ("a: {method: sst, steps: 3, model: {colour: 0}}", "a: model: 'colour' is not a field of sst; it has "),
])
def test_a_mistake_is_told_with_file_and_run(text, told, tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(ValueError) as error:
        campaign.read(path, tmp_path)
    assert str(error.value).startswith(f"{path}: ") and told in str(error.value) and "\n" not in str(error.value)


def test_the_campaigns_of_this_project_are_valid(tmp_path):
    files = sorted((Path(__file__).parents[2] / "campaigns").glob("*.yaml"))
    assert files and all(campaign.read(path, tmp_path) for path in files)
