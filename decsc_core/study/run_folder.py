"""The folder of a training: whose run it holds, who trains there, and its log.

It holds `config.json` (with the fingerprints of the scene files), `log.jsonl`, `checkpoint.pt` and at the end `weights.safetensors`.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from pooch import file_hash

from decsc_core.atomic import write_text
from decsc_core.outputs import json_text
from decsc_core.scenes import fingerprints
from decsc_core.study.recipes import TrainConfig


def claim(folder: Path, after: ExitStack) -> None:
    """Keep other trainings out of a folder, or raise FileExistsError if one is there; a process that is killed lets go of it."""
    held = os.open(folder, os.O_RDONLY)
    after.callback(os.close, held)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise FileExistsError(f"{folder}: another training is running there; wait for it, or choose another folder") from None
    except OSError:
        pass  # the file system has no such locks


def is_finished(folder: Path, config: TrainConfig, resume: bool) -> bool:
    """Whether `folder` holds the finished run of that configuration; FileExistsError if it holds another run, or files of none."""
    kept = [path for path in (folder / "checkpoint.pt", folder / "weights.safetensors") if path.exists()]
    if not (folder / "config.json").exists():
        if there := [path for path in (*kept, folder / "log.jsonl") if path.exists()]:
            raise FileExistsError(f"{there[0]}: is there, but no config.json that tells of its training; choose another folder")
        return False
    if not kept:  # it ended before there was anything to keep
        try:
            _told(folder)
        except (TypeError, ValueError) as error:
            raise FileExistsError(f"{folder / 'config.json'}: tells of no training ({error}); choose another folder") from None
        return False
    if not resume:
        raise FileExistsError(f"{folder}: holds a training run; resume it or choose another folder")
    if what := unlike(folder, config):
        raise FileExistsError(f"{folder}: holds a run {what}; choose another folder")
    return (folder / "weights.safetensors").exists()


def unlike(folder: Path, config: TrainConfig) -> str:
    """What tells the run in `folder` from that of a configuration, in a few words; empty if nothing, or if there is none."""
    path = folder / "config.json"
    if not path.exists():
        return ""
    try:
        there, began, files = _told(folder)
    except (TypeError, ValueError) as error:
        return f"whose config.json cannot be used ({error})"
    if began and config.start:  # the hash says which weights, wherever they lie
        there = replace(there, start=config.start)
    if what := there.difference(config):
        return f"with another configuration ({what})"
    if began and Path(config.start).exists() and file_hash(config.start) != began:
        return f"that began from other weights than {config.start} has"
    if files and any((now := scene_fingerprints(config)).values()) and (what := changed(files, now)):  # or they are not on this machine any more
        return f"on other scenes ({what})"
    return ""


def _told(folder: Path) -> tuple[TrainConfig, str | None, dict | None]:
    """What `config.json` tells: the configuration, the hash of the weights that it began from, the fingerprints of the scenes."""
    told = dict(json.loads((folder / "config.json").read_text()))
    began, files = told.pop("start_sha256", None), told.pop("files", None)
    return TrainConfig.from_json(told), began, files


def scene_fingerprints(config: TrainConfig) -> dict[str, dict[str, str]]:
    """The `fingerprints` of the scenes of a training, by split."""
    return {split: fingerprints(config.dataset, split) for split in ("train", "validation")}


def changed(before: dict[str, dict[str, str]], data: dict[str, dict[str, str]]) -> str:
    """The first scene in which the data of a run differ from those there are, and how; empty if none."""
    for split in data:
        for scene in dict.fromkeys([*before[split], *data[split]]):
            if before[split].get(scene) != data[split].get(scene):
                how = "is gone" if scene not in data[split] else "has changed" if scene in before[split] else "is new"
                return f"{scene} of its {split} split {how}"
    return ""


def log_rows(path: Path) -> list[dict]:
    """The complete lines of a training's log, NaN for what was not finite; none if there is no log."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append({name: math.nan if value is None else value for name, value in json.loads(line).items()})
        except json.JSONDecodeError:  # the line that an interruption cut
            break
    return rows


class Log:
    """JSON lines; on resuming, lines after the checkpoint are dropped, for those steps are taken again."""

    def __init__(self, path: Path, step: int) -> None:
        write_text(path, "".join(json_text(row) + "\n" for row in log_rows(path) if row["step"] <= step))
        self.path = path

    def write(self, row: dict) -> None:
        """Append one object."""
        with open(self.path, "a") as file:
            file.write(json_text(row) + "\n")
