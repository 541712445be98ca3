"""The benchmark of the model-driven methods, on its fastest methods and small images."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("tabulate")
SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "model_driven.py"


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPT, "--repeats", "1", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


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


@pytest.mark.parametrize("arguments", [(), ("--options",)])
def test_absent_recordings_are_told_in_one_line(tmp_path, arguments):
    done = run(*arguments, DECSC_SHARED=str(tmp_path))
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.count("\n") == 1 and "DECSC_SHARED" in done.stderr


def test_a_table_is_written_as_json_or_markdown_only():
    done = run("--out", "table.txt")
    assert done.returncode == 2 and "table.txt" in done.stderr
