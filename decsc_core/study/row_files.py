"""Rows on disk: a table, what it was computed from, and an array where one goes with them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from decsc_core.atomic import write_text, write_whole


class RowFiles:
    """`<name>.csv`, `.json` and, with an array, `.npy`; the `.json` is written last, and removed first, so it vouches for the others."""

    def __init__(self, folder: Path | str, name: str, array: bool = False) -> None:
        self.csv, self.json, self.npy = (Path(folder) / f"{name}.{end}" for end in ("csv", "json", "npy"))
        self.array = array

    def hold(self, inputs: dict) -> bool:
        """Whether complete rows of these inputs are there; not if the `.json` is damaged."""
        if not all(path.is_file() for path in (self.csv, self.json, *[self.npy] * self.array)):
            return False
        try:
            return json.loads(self.json.read_text())["inputs"] == inputs
        except (ValueError, KeyError, TypeError):
            return False

    def write(self, rows: pd.DataFrame, sidecar: dict, array: np.ndarray | None = None) -> None:
        """Write all; `sidecar` has the `inputs`."""
        self.json.unlink(missing_ok=True)
        if self.array:
            write_whole(self.npy, lambda path: np.save(path, array))
        write_whole(self.csv, lambda path: rows.to_csv(path, index=False))
        write_text(self.json, json.dumps(sidecar, indent=1))
