"""What commands write: JSON, and files of which they know before they begin that they can be written."""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

from decsc_core.atomic import followed, write_text
from decsc_core.console import Refused, blaming


def json_text(value: Any) -> str:
    """`value` as one line of JSON; numbers that JSON does not have (infinite, NaN) become null."""
    return json.dumps(_finite(value), allow_nan=False, ensure_ascii=False)


def json_tree(value: Any, indent: str = "") -> str:
    """`value` as JSON with one line for each entry of its dicts, those within dicts included."""
    if not isinstance(value, dict) or not value:
        return json_text(value)
    deeper = indent + "  "
    entries = (f"{deeper}{json_text(key)}: {json_tree(entry, deeper)}" for key, entry in value.items())
    return "{\n" + ",\n".join(entries) + f"\n{indent}}}"


def _finite(value: Any) -> Any:
    """`value` with None in place of every float that is not finite."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all."""
    write_text(path, json_tree(value) + "\n")


def check_file_target(path: Path, *others: Path) -> None:
    """Refuse a path to which no file can be written, or which is one of `others`."""
    with blaming(str(path)):
        folder = followed(path).parent
        if path.is_dir():
            raise Refused(f"{path}: is a folder; give the name of a file")
        if path.exists() and not path.is_file():
            raise Refused(f"{path}: is a device or pipe; give the name of a file")
        if not folder.is_dir():
            raise Refused(f"{path}: the folder {folder} does not exist; make it first")
        if path.exists() and not os.access(path, os.W_OK):
            raise Refused(f"{path}: is write-protected; choose another name")
        for other in others:
            if path.resolve() == other.resolve():
                raise Refused(f"{path}: is the same file as {other}; choose another name")
    _try_to_write(folder, path)


def file_target(text: str) -> Path:
    """A file to write, for `argparse` as the type of an option."""
    try:
        check_file_target(Path(text))
    except Refused as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return Path(text)


def check_folder_target(path: Path) -> None:
    """Refuse a path that cannot become a folder with files in it."""
    with blaming(str(path)):
        there = next(place for place in (path, *path.resolve().parents) if place.exists())
        if not there.is_dir():
            raise Refused(f"{path}: the place of this folder is taken by the file {there}; choose another name")
    _try_to_write(there, path)


def _try_to_write(folder: Path, path: Path) -> None:
    """Refuse `path` if no file can be made in `folder`."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        reason = f"nothing can be written to {folder} ({error.strerror})"
        raise Refused(f"{path}: {reason}; choose another folder") from error
