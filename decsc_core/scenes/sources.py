"""Where the files of each data set are looked for, and how one becomes a scene as the paper uses it.

Nothing here downloads: no data set of the paper is offered as a stable file whose checksum is known. The files that
`checksums.py` knows are checked, so that a damaged one is noticed before anything is trained on it. Each data set has a function
that finds the file of a scene, or None if it is not on this machine, and one that reads it; `catalog` says in one line what to put where.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pooch

from . import files
from .cave import CAVE_WAVELENGTHS, band_folders, read_cave
from .checksums import SHA256
from .envi import DATA_EXTENSIONS, header_beside
from .scene import Scene, SceneError

BAD_BANDS: dict[str, tuple[range, ...]] = {
    "aviris_bay_champagne": (range(106, 107),),
    "aviris_jasper_ridge": (range(0, 1),),
    "aviris_sandiego_harbour": (range(139, 141), range(192, 193)),
    "enmap_potsdam_1": (range(157, 160),),
    "enmap_potsdam_2": (range(157, 160),),
    "hydice_urban_crop": (range(165, 175),),
    "pavia_centre_crop": (range(0, 5),),
    "samson": (range(0, 1),),
}
"""Bands, counted from 0, that hold real noise and are left out where a clean reference is needed."""
HOUSTON_STEMS = ("houston2018", "20170218_UH_CASI_S4_NAD83", "FullHSIDataset/20170218_UH_CASI_S4_NAD83")
ICVL_FIGURE_4 = "nachal_0823-1214"
SPLITS = ("train", "validation", "test")


def root() -> Path:
    """The folder of the data sets: the environment variable DECSC_DATA, or the platform's cache folder."""
    return Path(os.environ.get("DECSC_DATA") or pooch.os_cache("decsc"))


def find_cave(name: str) -> Path | None:
    """`cave_<name>.npz` (a crop, quantised to 11 bits) or the original folder of 31 band images."""
    folders = [*_folders("cave"), root() / "cave" / "complete_ms_data", root() / "complete_ms_data"]
    return _first(folders, [f"cave_{name}.npz", f"{name}_ms", name])


def cave(path: Path, name: str) -> Scene:
    """A CAVE scene."""
    scene = read_cave(path) if path.is_dir() else files.read(_checked(path))
    return replace(scene, name=name)


def find_icvl(name: str) -> Path | None:
    """A .mat file under its own name."""
    return _first(_folders("icvl"), [f"{name}.mat"])


def icvl(path: Path, name: str) -> Scene:
    """An ICVL scene divided by its maximum, cut to its centre: 512 x 512 for testing, 1024 x 1024 for training."""
    scene = files.read(path)
    physical = scene.physical()
    scale = float(physical.max())
    wavelengths = CAVE_WAVELENGTHS if scene.wavelengths is None else scene.wavelengths
    whole = Scene(physical / np.float32(scale), name, wavelengths, scale=scale)
    side = 512 if icvl_split(name) == "test" else 1024
    return _cut(whole, *(_centre(length, side) for length in physical.shape[:2]))


def icvl_split(name: str) -> str:
    """The split of an ICVL scene, by its name alone.

    The paper tests on 50 of the 201 scenes and prints no list of them; the published lists of other papers overlap.
    So one name in four (by CRC-32), and the scene of Fig. 4, are for testing, one in fifty for validation, and the
    rest for training; a scene added later moves no other.
    """
    if name == ICVL_FIGURE_4:
        return "test"
    share = zlib.crc32(name.encode()) % 100
    return "test" if share < 25 else "validation" if share < 27 else "train"


def icvl_splits() -> dict[str, tuple[str, ...]]:
    """The ICVL scenes on this machine, by split."""
    found = sorted(path.stem for path in (root() / "icvl").glob("[!.]*.mat"))
    return {split: tuple(name for name in found if icvl_split(name) == split) for split in SPLITS}


def find_own(name: str) -> Path | None:
    """The file of that name, less its extension, or the CAVE folder of that name in the folder of a split; SceneError if two share a name."""
    return {stem: path for own in _own_files().values() for stem, path in own.items()}.get(name)


def own(path: Path, name: str) -> Scene:
    """A user's own scene, as it is read.

    Raises
    ------
    SceneError
        If values are declared as no data or bands as bad, for those are no clean reference.
    """
    scene = files.read(path)
    if bad := scene.metadata.get("bad_bands"):
        raise SceneError(f"{path}: {len(bad)} band{'s are' if len(bad) > 1 else ' is'} marked as bad; write the scene without, for it is no clean reference")
    if (missing := scene.missing()) is not None:
        raise SceneError(f"{path}: {missing.sum()} values have no data; keep only pixels and bands that are complete")
    return replace(scene, name=name)


def own_splits() -> dict[str, tuple[str, ...]]:
    """The user's own scenes on this machine, by split.

    Raises
    ------
    SceneError
        If two files have the same name, less their extensions.
    """
    return {split: tuple(paths) for split, paths in _own_files().items()}


def _own_files() -> dict[str, dict[str, Path]]:
    """The user's own image files and CAVE folders by split and name, of ENVI images the headers; SceneError if two share a name."""
    found: dict[str, dict[str, Path]] = {split: {} for split in SPLITS}
    taken: dict[str, Path] = {}
    for split, paths in found.items():
        for path in sorted((root() / "own" / split).glob("[!.]*")):
            ending = path.suffix.lower()
            if path.is_dir():
                name = path.name if band_folders(path) else None
            else:
                described = ending in DATA_EXTENSIONS and header_beside(path)  # the header stands for both
                name = path.stem if ending in files.EXTENSIONS and not described else None
            if name in taken:
                raise SceneError(f"{path}: {taken[name]} has the same name; give each scene a name of its own")
            if name is not None:
                paths[name] = taken[name] = path
    return found


def find_houston2018(name: str) -> Path | None:
    """The whole image, of which every scene is a part."""
    return _with_any_extension("houston2018", HOUSTON_STEMS)


def houston2018(path: Path, name: str) -> Scene:
    """A part of Houston 2018: the last 46 of 48 bands; the centre 512 x 512 pixels, or a part around them.

    All parts share one scale, that of the whole image. SceneError if it is another image.
    """
    scene = files.read(path)
    height, width, bands = scene.cube.shape
    if bands not in (48, 50) or min(height, width) < 512:
        raise SceneError(
            f"{path}: the image is {height} x {width} x {bands}; Houston 2018 has 1202 x 4172 pixels and 48 bands, "
            "or 50 with the two that are not spectral"
        )
    wavelengths = np.linspace(380, 1050, 48) if scene.wavelengths is None else scene.wavelengths[:48]
    whole = Scene.from_physical(scene.physical()[:, :, 2:48], name, wavelengths=wavelengths[2:])
    rows, columns = _centre(height, 512), _centre(width, 512)
    parts = {
        "centre": (rows, columns),
        "west": (slice(None), slice(None, columns.start)),
        "east": (slice(None), slice(columns.stop, None)),
        "north": (slice(None, rows.start), columns),
        "south": (slice(rows.stop, None), columns),
    }
    return _cut(whole, *parts[name])


def find_single(dataset: str, name: str) -> Path | None:
    """The one scene of a data set, in any format."""
    return _with_any_extension(dataset, (name, dataset))


def single(path: Path, name: str) -> Scene:
    """A scene as it is on disk."""
    return replace(files.read(path), name=name)


def find_npz(dataset: str, name: str) -> Path | None:
    """A scene file of known content."""
    return _first(_folders(dataset), [f"{name}.npz"])


def known_npz(path: Path, name: str) -> Scene:
    """A scene of known content."""
    return single(_checked(path), name)


def clean(path: Path, name: str) -> Scene:
    """A remote-sensing scene without the bands of `BAD_BANDS`."""
    scene = known_npz(path, name)
    bad = [band for bands in BAD_BANDS.get(name, ()) for band in bands]
    kept = np.setdiff1d(np.arange(scene.cube.shape[2]), bad)
    return Scene.from_physical(scene.physical()[:, :, kept], name, wavelengths=scene.wavelengths[kept])


def _folders(dataset: str) -> list[Path]:
    """The folders in which a data set may lie."""
    return [root() / dataset, root()]


def _first(folders: Iterable[Path], names: Iterable[str]) -> Path | None:
    """The first of `names` that exists in one of `folders`."""
    names = list(names)
    return next((folder / name for folder in folders for name in names if (folder / name).exists()), None)


def _with_any_extension(dataset: str, stems: tuple[str, ...]) -> Path | None:
    """The file with one of `stems` in a format that can be read."""
    return _first(_folders(dataset), [stem + extension for stem in stems for extension in files.EXTENSIONS])


def _checked(path: Path) -> Path:
    """`path`, if its content is the one known by its name."""
    expected = SHA256.get(path.name)
    if expected is not None and (found := pooch.file_hash(path)) != expected:
        raise SceneError(f"{path}: SHA-256 is {found} but should be {expected}; the file is damaged, get it again")
    return path


def _centre(length: int, side: int) -> slice:
    """The middle `side` of `length` places, or all if there are fewer."""
    start = max(0, (length - side) // 2)
    return slice(start, min(length, start + side))


def _cut(scene: Scene, rows: slice, columns: slice) -> Scene:
    """A part of a scene without areas that are missing, with its scale and wavelengths."""
    return replace(scene, cube=scene.cube[rows, columns])
