"""Where a number comes from: code version, machine, versions of the libraries it was computed with."""

from __future__ import annotations

import platform
import subprocess
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import torch

import decsc_core


@lru_cache
def code_version() -> str:
    """Package version and, in a git checkout, the commit, marked `-dirty` if `decsc_core` differs from it."""
    here = Path(decsc_core.__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != here.parent:
            return decsc_core.__version__
        dirty = "-dirty" if git("status", "--porcelain", "--", str(here)) else ""
        return f"{decsc_core.__version__}+{git('rev-parse', '--short=12', 'HEAD')}{dirty}"
    except (OSError, subprocess.CalledProcessError):
        return decsc_core.__version__


def environment() -> dict:
    """Python, platform and the libraries that can change a number."""
    return {
        "code_version": code_version(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
        **{name: version(name) for name in ("torch", "numpy", "scikit-image")},
    }


def device(told: dict) -> str:
    """What a network was trained on, by the environment that its story tells: ``"CPU"``, the name of a GPU, or "" if it does not."""
    name = told.get("device", "")
    return "CPU" if name == "cpu" else name
