"""What several test files share: the shared data, the workflow in a folder of its own, and the order of the files."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]

# run_all.sh and all that it starts use the environment that runs the tests.
os.environ |= {"VIRTUAL_ENV": sys.prefix, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: where several processes test side by side, they end at about the same time."""
    order = {name: place for place, name in enumerate(("test_runs.py", "test_workflow.py", "test_llrt.py"))}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


@pytest.fixture(autouse=True)
def seeded() -> None:
    """What a test draws without a generator of its own is the same in every run and order."""
    torch.manual_seed(0)


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
def jobs() -> Callable[[str], Counter]:
    """How many jobs of each rule Snakemake tells of; that of `all` does nothing."""

    def count(told: str) -> Counter:
        counts = re.findall(r"^(\w+) +(\d+)$", told.split("Job stats:")[1], re.M)
        return Counter({rule: int(number) for rule, number in counts if rule not in ("all", "total")})

    return count
