from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of data and golden files beside the repository; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("DECSC_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    if not folder.is_dir():
        pytest.skip(f"no folder {folder} (set DECSC_SHARED to where the shared data lie)")
    return folder
