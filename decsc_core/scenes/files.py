"""Read and write scenes; the extension of the file says the format."""

from __future__ import annotations

import errno
import os
import warnings
from pathlib import Path

import numpy as np

from decsc_core.atomic import followed, replacing

from . import arrays, envi, geotiff, matlab
from .cave import read_cave
from .georeference import GEOREFERENCE, SIDECARS
from .scene import Scene, SceneError

_READERS = {
    ".hdr": envi.read_envi,
    **dict.fromkeys(envi.DATA_EXTENSIONS, envi.read_envi),
    ".tif": geotiff.read_geotiff,
    ".tiff": geotiff.read_geotiff,
    ".mat": matlab.read_mat,
    ".npy": arrays.read_npy,
    ".npz": arrays.read_npz,
}
_WRITERS = {
    ".hdr": envi.write_envi,
    **dict.fromkeys(envi.DATA_EXTENSIONS, envi.write_envi),
    ".tif": geotiff.write_geotiff,
    ".tiff": geotiff.write_geotiff,
    ".mat": matlab.write_mat,
    ".npy": arrays.write_npy,
    ".npz": arrays.write_npz,
}
EXTENSIONS = tuple(_READERS)
"""The extensions that `read` and `write` know; `read` also takes a folder of CAVE band images."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, None)
"""What a write fails with for want of space; NumPy and GDAL give no number, whatever it fails for."""


def read(path: str | Path) -> Scene:
    """Read a scene.

    Parameters
    ----------
    path : str or Path
        ENVI (the `.hdr` or its data file, of any name beside a header), GeoTIFF, MATLAB up to 7.3, `.npy`, `.npz`, or
        a folder of CAVE's 31 band images. See `Scene.from_physical` for how values are brought to [0, 1].

    Returns
    -------
    Scene
        Named after the file, or as its `name` (`.npz`) or images (CAVE) say, with wavelengths [nm] if the file has them.

    Raises
    ------
    SceneError
        If the file is missing, of an unknown format, truncated, ambiguous, or holds infinity or what else
        `Scene.from_physical` refuses; NaN is no-data.
    MemoryError
        If there is not enough memory for it.
    """
    path = Path(path)
    if not path.exists():
        raise SceneError(f"{path}: there is no such file or folder")
    if path.is_dir():
        reader = read_cave
    elif _is_envi_data(path):
        reader = envi.read_envi
    else:
        reader = _by_extension(_READERS, path)
    try:
        return reader(path)
    except MemoryError as error:
        raise MemoryError(f"{path}: there is not enough memory for it ({error}); give a part of it, if its header does not claim too much") from None
    except SceneError as error:
        if path.name in str(error):
            raise
        raise SceneError(f"{path}: {str(error).removeprefix(path.stem + ': ')}") from error
    except Exception as error:  # the format libraries raise many kinds on a damaged file
        if isinstance(error, PermissionError) or not os.access(path, os.R_OK):
            raise SceneError(f"{path}: you have no permission to read it") from error
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SceneError(
            f"{path}: cannot be read as {path.suffix.lower() or 'a CAVE folder'} ({reason}); "
            "it is damaged or its extension is of another format"
        ) from error


def _is_envi_data(path: Path) -> bool:
    """Whether a file is read as the data of an ENVI image: by its extension, or as a file of any other unknown one beside a header."""
    suffix = path.suffix.lower()
    return suffix in envi.DATA_EXTENSIONS or (suffix not in _READERS and envi.header_beside(path) is not None)


def files_of(path: Path) -> list[Path]:
    """The files that a scene is read from: of an ENVI image header and data, of a folder all that are in it; none that is not there."""
    if path.is_dir():
        found = sorted(path.rglob("*"))
    elif path.suffix.lower() == ".hdr" and path.is_file():
        found = [path, *envi.data_files(path)]
    elif _is_envi_data(path):
        found = [path, *envi.headers(path)]
    else:
        found = [path]
    return list(filter(Path.is_file, found))


def targets(path: Path) -> tuple[Path, ...]:
    """The files that writing a scene to `path` makes: of ENVI the data file and the header.

    Raises
    ------
    SceneError
        If the extension is unknown, or an ENVI header there belongs to another data file.
    """
    return envi.envi_targets(path) if _by_extension(_WRITERS, path) is envi.write_envi else (path,)


def write(scene: Scene, path: str | Path) -> None:
    """Write a scene as float32 in physical units, whole or not at all; a link is followed, but for ENVI's two files.

    Wavelengths always go along where the format has a place for them, and the georeference, band names and no-data
    value and the marks of bad bands between ENVI and GeoTIFF (ground control points and RPCs not from GeoTIFF to ENVI); wavelengths, a
    georeference, a rotation or marks of bad bands that the format has no place for are left out, with a warning. Pixels without data are
    written as the declared no-data value, or as NaN in formats that cannot declare one.

    Raises
    ------
    SceneError
        If the extension is unknown, the folder does not exist, an ENVI header there belongs to another data file, a physical value is
        beyond what float32 holds, or the disk is full.
    """
    path = Path(path)
    writer = _by_extension(_WRITERS, path)
    if not path.parent.is_dir():
        raise SceneError(f"{path}: the folder {path.parent} does not exist; make it first")
    with np.errstate(over="ignore"):
        finite = np.isfinite(scene.physical())
    if not finite.all():
        count = finite.size - np.count_nonzero(finite)
        raise SceneError(f"{path}: {count} values are beyond what float32 holds; give the scene smaller units")
    made = targets(path) if writer is envi.write_envi else (followed(path),)
    with replacing(*made) as temporary:
        try:
            writer(scene, *temporary)
        except OSError as error:
            if error.errno not in FULL:
                raise
            why = "" if error.errno else f" ({error})"
            raise SceneError(f"{path}: could not be written whole{why}; is the disk full?") from error
    if writer is envi.write_envi:
        envi.remove_other_headers(*made)
    if writer in (geotiff.write_geotiff, envi.write_envi):
        for ending in SIDECARS:
            made[0].with_name(made[0].name + ending).unlink(missing_ok=True)
        return
    lost = ["wavelengths"] if scene.wavelengths is not None and writer is arrays.write_npy else []
    lost += ["georeference"] if any(key in scene.metadata for key in GEOREFERENCE) else []
    lost += ["marks of bad bands"] if "bad_bands" in scene.metadata else []
    if lost:
        warnings.warn(f"{' and '.join(lost)} left out: {path.suffix.lower()} has no place for that", stacklevel=2)


def _by_extension(table: dict, path: Path):
    """The entry of `table` for the extension of `path`."""
    try:
        return table[path.suffix.lower()]
    except KeyError:
        known = ", ".join(EXTENSIONS)
        raise SceneError(f"{path}: the extension {path.suffix!r} is not known; supported: {known}") from None
