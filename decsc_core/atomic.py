"""Files that are either whole or not there."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(*targets: Path) -> Iterator[tuple[Path, ...]]:
    """Temporary names beside `targets`, of different suffixes, that take their place, in this order, if the block succeeds.

    The names are short and end like those of the targets, for writers that go by the suffix; whatever else a writer leaves beside
    them under such a name is removed. OSError if a target is there and no file: a device or pipe would be gone.
    """
    for target in targets:
        if target.exists() and not target.is_file():
            raise OSError(f"{target}: is a folder, device or pipe; give the name of a file")
    token = secrets.token_hex(4)
    temporary = tuple(target.with_name(f".{token}-new{target.suffix}") for target in targets)
    try:
        yield temporary
        for source, target in zip(temporary, targets, strict=True):
            os.replace(source, target)
    finally:
        for leftover in targets[0].parent.glob(f".{token}-*"):
            leftover.unlink()


def followed(path: Path) -> Path:
    """`path`, or where it leads if it is a link."""
    return path.resolve() if path.is_symlink() else path


def write_whole(path: Path | str, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file that then takes the place of `path`, or of what that links to; its folder is made if need be."""
    path = followed(Path(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as (temporary,):
        write(temporary)


def remove_leftovers(folder: Path) -> None:
    """Remove what writers that were killed left in `folder`; no other process may be writing there."""
    for leftover in folder.glob(f".{'[0-9a-f]' * 8}-*"):
        leftover.unlink()


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
