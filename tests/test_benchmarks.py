"""The benchmarks, on small images: those of the model-driven methods and of a training step."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from decsc_core.model import DECSC
from decsc_core.model.decsc import Layer
from decsc_core.model.shifts import all_shifts

pytest.importorskip("tabulate")
SCRIPTS = Path(__file__).resolve().parents[1] / "benchmarks"


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return command("model_driven.py", "--repeats", "1", *arguments, **environment)


def refused(monkeypatch, capsys, script: str, *arguments: str) -> str:
    """What a benchmark says when it ends at once, in this process: starting another takes seconds."""
    main = runpy.run_path(str(SCRIPTS / script))["main"]
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr()
    assert ended.value.code and not told.out
    return ended.value.code if isinstance(ended.value.code, str) else told.err


def command(script: str, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, SCRIPTS / script, *arguments]
    return subprocess.run(words, capture_output=True, text=True, env={**os.environ, **environment})


@pytest.mark.slow
def test_the_fastest_methods_beside_the_originals(shared, tmp_path):
    out = tmp_path / "table.json", tmp_path / "table.md"
    done = run("--methods", "e3dtv", "logtnn", "--out", *out, DECSC_SHARED=str(shared))
    assert done.returncode == 0, done.stderr
    rows = json.loads(out[0].read_text())
    assert [(row["method"], row["cube"]) for row in rows] == [("e3dtv", "a_gauss"), ("logtnn", "a_gauss")]
    for row in rows:
        tolerance = 0.3 if row["method"] == "e3dtv" else 0.01  # random start; deterministic, at the true noise level
        assert row["MPSNR [dB]"] == pytest.approx(row["original [dB]"], abs=tolerance)
        assert row["times faster"] == pytest.approx(row["original [CPU s]"] / row["CPU [s]"])
        assert 5 < row["memory [MB]"] < 1000 and 0 < row["CPU [s]"] < 100 and row["wall [s]"] > 0
    assert out[1].read_text() in done.stdout and "| logtnn" in out[1].read_text()


def test_growth_with_the_image(tmp_path):
    out = tmp_path / "table.json"
    done = run("--sizes", "--methods", "e3dtv", "--sides", "32", "16", "--out", out)
    assert done.returncode == 0, done.stderr
    small, large = json.loads(out.read_text())
    assert (small["side"], large["side"]) == (16, 32)
    assert "power of pixels" not in small and -1 < large["power of pixels"] < 3


@pytest.mark.slow
def test_gains_of_options(shared, tmp_path):
    out = tmp_path / "table.json"
    done = run("--options", "--methods", "e3dtv", "--cubes", "a_gauss", "--out", out, DECSC_SHARED=str(shared))
    assert done.returncode == 0, done.stderr
    gains = {row["option"]: row["a_gauss [dB]"] for row in json.loads(out.read_text())}
    assert gains["rank 5"] > 0.3
    assert abs(gains["rank 13, 13, 8"]) < gains["rank 5"]


MODEL_DRIVEN = runpy.run_path(str(SCRIPTS / "model_driven.py"))


@pytest.mark.parametrize("method", MODEL_DRIVEN["VARIANTS"])
def test_every_option_is_one_that_the_method_takes(method):
    for options in MODEL_DRIVEN["VARIANTS"][method].values():
        MODEL_DRIVEN["built"](method, **options(25.0))


@pytest.mark.parametrize("arguments", [(), ("--options",)])
def test_absent_recordings_are_told_in_one_line(tmp_path, arguments, monkeypatch, capsys):
    monkeypatch.setenv("DECSC_SHARED", str(tmp_path))
    told = refused(monkeypatch, capsys, "model_driven.py", *arguments)
    assert "DECSC_SHARED" in told and "\n" not in told


def test_a_table_is_written_as_json_or_markdown_only(monkeypatch, capsys):
    assert "table.txt" in refused(monkeypatch, capsys, "model_driven.py", "--out", "table.txt")


@pytest.mark.parametrize("script", sorted(path.name for path in SCRIPTS.glob("*.py")))
def test_a_table_that_cannot_be_written_is_told_before_anything_is_measured(script, monkeypatch, capsys, tmp_path):
    assert f"{tmp_path}: is a folder" in refused(monkeypatch, capsys, script, "--out", str(tmp_path))


def test_patches_larger_than_the_scenes_are_refused():
    done = command("training.py", "--preset", "tiny", "--patch", "500", "--quick")
    assert done.returncode == 1 and re.fullmatch(r"photos: \w+ is \d+ x \d+ pixels, smaller than patch=500\n", done.stderr)


@pytest.mark.parametrize("arguments, told", [
    (("--seeds", "0", "0"), "--seeds 0 0: give each number once"), (("--shifts", "1", "1"), "--shifts 1 1: give each number once"),
    (("--seeds", "-1"), "--seeds -1: is below 0"),
])
def test_trainings_that_could_not_be_compared_are_refused_at_once(arguments, told, monkeypatch, capsys):
    assert told in refused(monkeypatch, capsys, "training.py", *arguments)


# A training step

TINY = ("training.py", "--preset", "tiny", "--patch", "16", "--steps", "2")


def test_a_step_beside_the_releases(tmp_path):
    out = tmp_path / "table.json", tmp_path / "table.md"
    done = command(*TINY, "--quick", "--shifts", "1", "9", "--out", *out)
    assert done.returncode == 0, done.stderr
    tables = json.loads(out[0].read_text())
    assert list(tables) == ["cost"] and out[1].read_text() in done.stdout
    release, one, all_copies = tables["cost"]
    assert [row["loop"] for row in tables["cost"]] == ["release", "package", "package"]
    assert [row["shifts"] for row in tables["cost"]] == ["9 of 9", "1 of 9", "9 of 9"]
    assert release["solver evaluations"] == 20 and 4 <= one["solver evaluations"] <= 12
    for row in (one, all_copies):
        assert row["times less CPU"] == pytest.approx(release["CPU [s]"] / row["CPU [s]"])
    assert one["CPU [s]"] < all_copies["CPU [s]"] < release["CPU [s]"]


@pytest.mark.parametrize("asked", [(*TINY, "--quick", "--shifts", "1", "10"), ("training.py", "--shifts", "12")])
def test_more_copies_than_there_are_is_told_before_the_work(asked, monkeypatch, capsys):
    assert "there are 9 copies at most" in refused(monkeypatch, capsys, *asked)


@pytest.mark.slow
def test_what_is_learned_beside_the_releases(tmp_path):
    out = tmp_path / "table.json"
    done = command(*TINY, "--shifts", "1", "--patches", "8", "--seeds", "3", "--out", out)
    assert done.returncode == 0, done.stderr
    tables = json.loads(out.read_text())
    scores = [row["MPSNR [dB]"] for row in tables["trainings"]]
    assert [(row["seeds"], row["patches"], row["MPSNR [dB]"]) for row in tables["learning"]] == [*zip([1] * 8, [2, 4, 6, 8] * 2, scores)]
    assert all(scores[at + 3] > scores[at] + 0.1 for at in (0, 4))  # they learn


def test_the_mean_of_the_seeds_and_its_standard_error():
    found = {
        ("release", 8): (20.0, 23.0), ("release", 4): (18.0, 20.0), ("package", 8): (24.0, 29.0), ("package", 4): (17.0, 20.0),
    }
    rows = pd.DataFrame(
        {"loop": loop, "shifts": "1 of 9", "patches": patches, "seed": seed, "MPSNR [dB]": score, "CPU [s]": seed}
        for (loop, patches), scores in found.items() for seed, score in zip((3, 4), scores)
    )
    table = runpy.run_path(str(SCRIPTS / "training.py"))["learning"](rows).set_index(["loop", "patches"])
    assert list(table.index) == list(found) and set(table["seeds"]) == {2} and set(table["CPU [s]"]) == {3.5}
    assert list(table["MPSNR [dB]"]) == [21.5, 19, 26.5, 18.5] and list(table["above the release [dB]"]) == [0, 0, 5, -0.5]
    assert list(table["standard error [dB]"]) == [0, 0, 1, 0.5]


def test_the_releases_step_is_that_of_its_network_and_one_evaluation_more(monkeypatch):
    script = runpy.run_path(str(SCRIPTS / "training.py"))
    released = script["Training"]("tiny", script["RELEASE"], "photos", patch=16, steps=1).model
    own = DECSC(released.config)
    own.load_state_dict(released.state_dict())
    evaluations, evaluate = [], Layer.__call__
    monkeypatch.setattr(Layer, "__call__", lambda layer, z: evaluations.append(len(z)) or evaluate(layer, z))
    image = torch.rand(1, 31, 16, 16, generator=torch.Generator().manual_seed(1))
    gradients = []
    for model, made in ((released.train(), 27), (own.train(), 26)):
        evaluations.clear()
        model(image, all_shifts(3), 20).image.square().mean().backward()
        assert evaluations == [9] * made
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(one is other is None or torch.equal(one, other) for one, other in zip(*gradients))


def test_ways_to_solve_on_a_cpu_give_one_estimate(tmp_path):
    out = tmp_path / "table.json"
    done = command("equilibrium.py", "--sides", "8", "12", "--repeats", "1", "--out", out)
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())
    assert [row["side"] for row in rows] == [8] * 5 + [12] * 5
    for first, rest in ((rows[0], rows[:3]), (rows[3], rows[3:5]), (rows[5], rows[5:8]), (rows[8], rows[8:])):
        for row in rest:
            assert row["relative"] == pytest.approx(row["CPU [s]"] / first["CPU [s]"])
            assert row["largest difference"] < 1e-5


@pytest.mark.slow
def test_the_weaker_the_noise_the_less_there_is_to_gain(shared, tmp_path):
    out = tmp_path / "table.json"
    done = command("limits.py", "--side", "16", "--shifts", "1", "--out", out, DECSC_DATA=str(shared / "data"))
    assert done.returncode == 0, done.stderr
    rows = pd.DataFrame(json.loads(out.read_text()))
    assert len(rows) == 2 * 6 + 2 * 4 and "| pompoms" in done.stdout
    for _, weak in rows[rows.case.str.startswith("sigma")].groupby("scene"):
        assert weak["mean gain [dB]"].is_monotonic_increasing and (weak["smallest gain [dB]"] <= weak["mean gain [dB]"]).all()
        assert weak["texture and noise before [sigma]"].is_monotonic_decreasing
        assert weak["worse bands [%]"].is_monotonic_decreasing and list(weak["worse bands [%]"].iloc[[0, -1]]) == [100, 0]


@pytest.mark.parametrize("command_line", [(*TINY, "--quick", "--dataset", "cave"), ("limits.py",)])
def test_scenes_that_are_not_there_are_told_in_one_line(command_line, tmp_path):
    done = command(*command_line, DECSC_DATA=str(tmp_path))
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "DECSC_DATA" in done.stderr


def test_patches_a_second_are_those_of_the_training(tmp_path):
    out = tmp_path / "table.json"
    done = command("throughput.py", "--methods", "hsdt", "--preset", "small", "--batch", "1", "--steps", "6", "--out", out)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(out.read_text())
    assert row["method"] == "HSDT" and row["patches a step"] == 1 and 0.1 < row["launched one by one [patches/s]"] < 1000
    assert ("replayed [patches/s]" in row) == torch.cuda.is_available()
    assert "| HSDT" in done.stdout


@pytest.mark.parametrize("script", ["learned.py", "throughput.py"])
def test_numbers_that_a_row_lacks_are_dashes(script, monkeypatch, capsys):
    """As those of MTSNN++, which has no official code, and of DECSC, whose training is not replayed."""
    main = runpy.run_path(str(SCRIPTS / script))["main"]
    rows = {"mtsnnpp": {"method": "MTSNN++", "official": None}, "hsdt": {"method": "HSDT", "official": 1.5, "faster": 2.25}}
    monkeypatch.setitem(main.__globals__, "measure", lambda method, *_: rows[method])
    monkeypatch.setattr(sys, "argv", [script, "--methods", "mtsnnpp", "hsdt"])
    main()
    first, second = ([cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()[-2:])
    assert first == ["MTSNN++", "–", "–"] and second == ["HSDT", "1.5", "2.25"]


@pytest.mark.parametrize("option", [("--repeats", "0"), ("--sides", "7")])
def test_solving_too_little_is_refused(option, monkeypatch, capsys):
    assert "--repeats must be at least 1 and --sides at least 8" in refused(monkeypatch, capsys, "equilibrium.py", *option)


@pytest.mark.parametrize("option, message", [(("--side", "15"), "--side must be at least 16"), (("--shifts", "0"), "shifts")])
def test_limits_of_nothing_are_refused(option, message, shared, monkeypatch, capsys):
    monkeypatch.setenv("DECSC_DATA", str(shared / "data"))
    assert message in refused(monkeypatch, capsys, "limits.py", *option)


@pytest.mark.parametrize("option", ["--repeats", "--sides"])
def test_networks_with_nothing_to_measure_are_refused(option, monkeypatch, capsys):
    assert refused(monkeypatch, capsys, "learned.py", option, "0").endswith("error: --repeats and --sides must be at least 1\n")


@pytest.mark.parametrize("option", [("--steps", "3"), ("--batch", "0")])
def test_trainings_with_nothing_to_count_are_refused(option, monkeypatch, capsys):
    assert "--batch must be at least 1 and --steps at least 4" in refused(monkeypatch, capsys, "throughput.py", *option)


@pytest.mark.parametrize("script, options, message", [
    ("model_driven.py", ("--sizes", "--cubes", "a_gauss"), "--cubes: --sizes takes an embedded scene, no recorded cubes"),
    ("model_driven.py", ("--sides", "32"), "--sides: only --sizes takes it"),
    ("training.py", ("--quick", "--seeds", "0"), "--patches, --seeds: are of the trainings that --quick leaves out"),
])
def test_options_of_another_measurement_are_refused(script, options, message, monkeypatch, capsys):
    assert f"{script}: error: {message}" in refused(monkeypatch, capsys, script, *options)
