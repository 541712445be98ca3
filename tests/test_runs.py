"""What runs leave behind: a small one of everything, as on a cluster and after being killed, and those that are published."""

from __future__ import annotations

import base64
import csv
import fcntl
import hashlib
import json
import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import matplotlib.image
import nbformat
import pandas as pd
import pytest
import yaml

from decsc_core.study.artifacts import ARTIFACTS, Artifact

ROOT = Path(__file__).resolve().parents[1]
FINISHED = [
    folder
    for folder in sorted((ROOT / "figures").glob("*/"))
    if folder.name == "standard" or all((ROOT / "runs" / folder.name / "notebooks" / f"{a.notebook}.ipynb").is_file() for a in ARTIFACTS)
]
"""What is committed, and what runs that have ended left here."""
MEASURED = {"seconds", "cpu_seconds", "minutes", "cpu_minutes", "memory_mb", "bytes"}
"""Columns of tables that hold what the clock and the system said, other in every run."""
SUBMIT = """#!/usr/bin/env bash
# A machine that is its own cluster: give the job a name, run it in the background, write down how it ended.
set -e
job=$(mktemp -d "$(dirname "$0")/job-XXXXXX")
cp "$1" "$job/script"
{ code=0; bash "$job/script" > "$job/log" 2>&1 || code=$?; echo $code > "$job/code"; } < /dev/null > /dev/null 2>&1 &
basename "$job"
"""
STATUS = """#!/usr/bin/env bash
case "$(cat "$(dirname "$0")/$1/code" 2> /dev/null)" in
    "") echo running ;;
    0) echo success ;;
    *) echo failed ;;
esac
"""


@pytest.fixture(scope="session")
def copy_small_workflow(copy_workflow) -> Callable[[Path], Path]:
    """Put the workflow in an empty folder with little to do in the quick profile: a noise case, few methods, 24 x 24 pixels, trainings of one step."""

    def copy(folder: Path) -> Path:
        config = copy_workflow(folder) / "config" / "quick.yaml"
        profile = yaml.safe_load(config.read_text())
        case = profile["remote"]["case"]
        settings = {"case": case, "cases": [case], "crop": 24, "size": 24, "minutes": 1e-6, "threads": 1}
        config.write_text(yaml.safe_dump(_with(profile, settings, methods=("noisy", "tv", "decsc"))))
        for campaign in ("campaign", "comparison"):
            _shorten(folder / profile[campaign])
        for path in (folder / "notebooks").glob("*.ipynb"):
            few = {"side": 24, "count": 1, "shifts": 1, "evaluations": 12, "lengths": [1, 5], "readings_crop": 24, "readings_seeds": [0, 1]}
            _change_parameters(path, few)
        return folder

    return copy


@pytest.fixture(scope="session")
def scheduled(copy_small_workflow, tmp_path_factory) -> Path:
    """The folder of a small run of everything, each job of which went through the scheduler in its folder `cluster`."""
    folder = copy_small_workflow(tmp_path_factory.mktemp("scheduled"))
    cluster = folder / "cluster"
    cluster.mkdir()
    for name, text in (("submit", SUBMIT), ("status", STATUS)):
        (cluster / name).write_text(text)
        (cluster / name).chmod(0o755)
    done = subprocess.run(
        [
            "./run_all.sh", "--executor", "cluster-generic", "--jobs", "2", "--seconds-between-status-checks", "1",
            "--cluster-generic-submit-cmd", "cluster/submit", "--cluster-generic-status-cmd", "cluster/status",
        ],
        cwd=folder, capture_output=True, text=True,
    )
    (cluster / "told").write_text(done.stdout + done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def _with(part: dict, settings: dict, methods: tuple[str, ...]) -> dict:
    """A part of a profile with other values of the settings that it has, and of the methods only some."""
    changed = {}
    for key, value in part.items():
        if isinstance(value, dict):
            changed[key] = _with(value, settings, methods)
        elif key == "methods":
            changed[key] = [method for method in value if method in methods]
        else:
            changed[key] = settings.get(key, value)
    return changed


def _shorten(campaign: Path) -> None:
    """Leave the first two runs of a campaign and those that begin from one of them, and of each the first step."""
    runs = yaml.safe_load(campaign.read_text())
    first = list(runs)[:2]
    kept = {name: run | {"patches": 4} for name, run in runs.items() if name in first or run.get("start") in first}
    campaign.write_text(yaml.safe_dump(kept, sort_keys=False))


def _change_parameters(notebook: Path, values: dict) -> None:
    """Give some parameters of a notebook other defaults, where it has them."""
    book = nbformat.read(notebook, as_version=4)
    (cell,) = (cell for cell in book.cells if "parameters" in cell.metadata.get("tags", []))
    for name, value in values.items():
        cell.source = re.sub(rf"^{name} = .*?(?=  # )", f"{name} = {value}", cell.source, flags=re.M)
    nbformat.write(book, notebook)


def check(folder: Path, artifact: Artifact) -> None:
    """Open all files of an artifact."""
    for name in artifact.files:
        path = folder / name
        text = path.read_bytes()
        if path.suffix == ".csv":
            assert len(pd.read_csv(path)), name
        elif path.suffix == ".json":
            told = json.loads(text)
            assert told["name"] == artifact.name and told["caption"] and told["provenance"]["environment"], name
        elif path.suffix == ".png":
            assert matplotlib.image.imread(path).std() > 0.01, f"{name} is blank"
        elif path.suffix == ".pdf":
            assert text.startswith(b"%PDF-") and text.rstrip().endswith(b"%%EOF"), name
        elif path.suffix == ".md":
            caption, _, head, rule, *rows = text.decode().splitlines()
            assert caption and re.fullmatch(r"\|(:?-+:?\|)+", rule), name
            assert len(rows) == len(pd.read_csv(path.with_suffix(".csv"))), name
        elif path.suffix == ".tex":
            assert rb"\begin{tabular}" in text and rb"\caption{" in text, name
        else:
            assert path.suffix == ".html" and b"</html>" in text, name


@pytest.mark.parametrize(
    ("folder", "artifact"),
    [pytest.param(folder, a, id=f"{folder.name}-{a.name}") for folder in FINISHED for a in ARTIFACTS],
)
def test_artifacts_of_a_finished_run_can_be_opened(folder, artifact):
    check(folder, artifact)


@pytest.mark.slow
@pytest.mark.parametrize("artifact", ARTIFACTS, ids=lambda artifact: artifact.name)
def test_artifacts_of_a_small_run_can_be_opened(scheduled, artifact):
    check(scheduled / "figures" / "quick", artifact)


@pytest.mark.slow
def test_every_job_goes_through_the_scheduler_of_a_cluster(scheduled, jobs):
    scripts = [path.read_text() for path in scheduled.glob("cluster/job-*/script")]
    submitted = [json.loads(re.search(r"^# properties = (.+)$", script, re.M)[1]) for script in scripts]
    assert Counter(job["rule"] for job in submitted) == jobs((scheduled / "cluster/told").read_text())
    assert {path.read_text().strip() for path in scheduled.glob("cluster/job-*/code")} == {"0"}
    made = {name for job in submitted for name in job["output"]}
    assert made >= {f"figures/quick/{name}" for artifact in ARTIFACTS for name in artifact.files}
    assert all((scheduled / name).is_file() for name in made)


def run_all(folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run(["./run_all.sh", "--cores", "1"], cwd=folder, capture_output=True, text=True)


def tables(folder: Path) -> dict[str, list]:
    """All tables of a run as they are written, without what was measured: columns, and the rows of costs in the report.

    Weights that were trained in the run tell how long that took, so their hashes and sizes are measured, too.
    """
    trained = {hashlib.sha256(path.read_bytes()).hexdigest()[:12] for path in folder.glob("runs/**/weights.safetensors")}
    found = {}
    for path in sorted([*folder.glob("figures/**/*.csv"), *folder.glob("runs/**/*.csv")]):
        head, *lines = csv.reader(re.sub("|".join(trained), "trained here", path.read_text()).splitlines())
        kept = [line for line in lines if "metric" not in head or line[head.index("metric")] not in MEASURED]
        columns = [number for number, column in enumerate(head) if column not in MEASURED]
        found[str(path.relative_to(folder))] = [[line[number] for number in columns] for line in [head, *kept]]
    return found


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_with_the_same_tables(scheduled, copy_small_workflow, tmp_path):
    """Killed in a notebook, after other jobs, with all that it started; the one to compare with was never interrupted."""
    folder, log = copy_small_workflow(tmp_path), tmp_path / "log"
    with log.open("w") as output:
        run = subprocess.Popen(
            ["./run_all.sh", "--cores", "1"], cwd=folder, stdout=output, stderr=output, start_new_session=True
        )
        while not (log.read_text().count("Finished jobid") > 1 and [*folder.glob("runs/*/notebooks/*.running.ipynb")]):
            assert run.poll() is None, log.read_text()
            time.sleep(0.1)
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    described = re.findall(r"^    output: (.+)\n(?:    .+\n)*?    jobid: (\d+)$", log.read_text(), re.M)
    made = {number: [folder / name.removesuffix(" (update)") for name in names.split(", ")] for names, number in described}
    *others, last = [made[number] for number in re.findall(r"^Finished jobid: (\d+)", log.read_text(), re.M)]
    ready = {path: path.stat().st_mtime_ns for paths in others for path in paths}
    assert [*folder.glob(".snakemake/locks/*")]

    with open(folder / ".snakemake/running") as another:
        fcntl.flock(another, fcntl.LOCK_SH)
        refused = run_all(folder)
    assert refused.returncode == 1 and "Directory cannot be locked" in refused.stdout + refused.stderr

    before = last[0].stat().st_mtime_ns
    for path in last:  # as if the run had been killed before it noted that this job has ended
        mark = base64.b64encode(str(path.relative_to(folder)).encode()).decode()
        (folder / ".snakemake/incomplete" / mark).write_text('{"external_jobid": null}')
    done = run_all(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ready == {path: path.stat().st_mtime_ns for path in ready}  # not made again
    assert last[0].stat().st_mtime_ns > before
    assert tables(folder) == tables(scheduled)
