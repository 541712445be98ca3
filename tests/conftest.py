"""What several test files share: the shared data, and the workflow in a folder of its own, run as on a cluster."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]

# run_all.sh and all that it starts use the environment that runs the tests.
os.environ |= {"VIRTUAL_ENV": sys.prefix, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

SUBMIT = """#!/usr/bin/env bash
# A machine that is its own cluster: give the job a name, run it in the background, write down how it ended.
set -e
job=$(mktemp -d "$(dirname "$0")/job-XXXXXX")
cp "$1" "$job/script"
{ bash "$job/script" > "$job/log" 2>&1; echo $? > "$job/code"; } < /dev/null > /dev/null 2>&1 &
basename "$job"
"""
STATUS = """#!/usr/bin/env bash
case "$(cat "$(dirname "$0")/$1/code" 2> /dev/null)" in
    "") echo running ;;
    0) echo success ;;
    *) echo failed ;;
esac
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests run in one process, which makes its fixtures once; so do all that look at the one small run of the workflow."""
    for item in items:
        name = "scheduled" if "scheduled" in item.fixturenames else str(item.path)
        item.add_marker(pytest.mark.xdist_group(name))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of data and golden files beside the repository; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("DECSC_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    if not folder.is_dir():
        pytest.skip(f"no folder {folder} (set DECSC_SHARED to where the shared data lie)")
    return folder


@pytest.fixture(scope="session")
def copy_workflow() -> Callable[[Path], Path]:
    """Put the workflow in an empty folder of its own, with the package linked into it."""

    def copy(folder: Path) -> Path:
        for name in ("run_all.sh", "Snakefile"):
            shutil.copy(ROOT / name, folder / name)
        for name in ("campaigns", "config", "notebooks", "weights"):
            shutil.copytree(ROOT / name, folder / name)
        (folder / "decsc_core").symlink_to(ROOT / "decsc_core")
        return folder

    return copy


@pytest.fixture(scope="session")
def copy_small_workflow(copy_workflow) -> Callable[[Path], Path]:
    """The same with little to do in the quick profile: a noise case, few methods, 24 x 24 pixels, trainings of one step."""

    def copy(folder: Path) -> Path:
        config = copy_workflow(folder) / "config" / "quick.yaml"
        profile = yaml.safe_load(config.read_text())
        case = profile["remote"]["case"]
        settings = {"case": case, "cases": [case], "crop": 24, "size": 24, "minutes": 1e-6, "threads": 1}
        config.write_text(yaml.safe_dump(_with(profile, settings, methods=("noisy", "tv", "decsc"))))
        for campaign in ("campaign", "comparison"):
            _shorten(folder / profile[campaign])
        for path in (folder / "notebooks").glob("*.ipynb"):
            _change_parameters(path, {"side": 24, "count": 1, "shifts": 1, "evaluations": 12, "lengths": [1, 5]})
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
    """Leave the first two runs of a campaign, and of each the first step."""
    first, second, *_ = yaml.safe_load(campaign.read_text()).items()
    campaign.write_text(yaml.safe_dump({name: run | {"patches": 4} for name, run in (first, second)}, sort_keys=False))


def _change_parameters(notebook: Path, values: dict) -> None:
    """Give some parameters of a notebook other defaults, where it has them."""
    book = nbformat.read(notebook, as_version=4)
    (cell,) = (cell for cell in book.cells if "parameters" in cell.metadata.get("tags", []))
    for name, value in values.items():
        cell.source = re.sub(rf"^{name} = .*?(?=  # )", f"{name} = {value}", cell.source, flags=re.M)
    nbformat.write(book, notebook)
