"""NumPy files (`.npy`, `.npz`)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from .scene import Scene, SceneError, as_cube
from .wavelengths import WAVELENGTH_NAMES, find_wavelengths, refuse_bands_first, to_nanometres


def read_npy(path: Path) -> Scene:
    """Read an (H, W, B) array; NaN is no-data."""
    with _of_numbers(path):
        array = np.load(path, allow_pickle=False)
    data = as_cube(array, path.stem)
    return Scene.from_physical(data, path.stem, missing=np.isnan(data), metadata={"format": "npy"})


def write_npy(scene: Scene, path: Path) -> None:
    """Write the physical values, NaN where there are no data."""
    with open(path, "wb") as file:
        np.save(file, values_or_nan(scene))


def read_npz(path: Path) -> Scene:
    """Read `cube` with optional `scale`, `offset`, `wavelengths_nm`, `name` and `nodata` (H, W) or (H, W, B); NaN is no-data, too.

    Without `wavelengths_nm` the first vector that has another of `WAVELENGTH_NAMES` and may be wavelengths is taken, as of MATLAB files;
    a SceneError if there are as many as the first axis of the cube is long, and not the last.
    """
    with _of_numbers(path), open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
        if "cube" not in archive:
            raise SceneError(f"{path}: there is no array 'cube' among {sorted(archive.files)}; name the cube 'cube'")
        known = {"cube", "scale", "offset", "name", "nodata", "wavelengths_nm"}
        fields = {key: archive[key] for key in archive.files if key in known or key.lower() in WAVELENGTH_NAMES}
    cube = fields["cube"]
    for key, kinds, right in (("scale", "iuf", "number for the whole cube"), ("offset", "iuf", "number for the whole cube"), ("name", "U", "text")):
        if key in fields and (fields[key].size != 1 or fields[key].dtype.kind not in kinds):
            raise SceneError(f"{path}: {key} is {fields[key].dtype} of shape {fields[key].shape}; it must be one {right}")
    scale, offset = (float(np.ravel(fields.get(key, value))[0]) for key, value in (("scale", 1.0), ("offset", 0.0)))
    if not np.isfinite([scale, offset]).all() or scale == 0:
        raise SceneError(f"{path}: scale {scale:g} and offset {offset:g} must be finite, and scale not 0")
    name = str(fields["name"].item()) if "name" in fields else path.stem
    cube = as_cube(cube, name)
    if (scale, offset) != (1.0, 0.0):
        cube = (cube * np.float64(scale) + offset).astype(np.float32)
    missing = np.isnan(cube)
    if "nodata" in fields:
        mask = fields["nodata"].astype(bool)
        if mask.shape not in (cube.shape, cube.shape[:2]):
            wanted = f"it is a mask of the cube's {cube.shape} or of its {cube.shape[:2]} pixels, True where there are no data"
            raise SceneError(f"{path}: nodata is {mask.shape}; {wanted}")
        missing = missing | np.broadcast_to(mask[:, :, None] if mask.ndim == 2 else mask, cube.shape)
    if "wavelengths_nm" in fields:
        wavelengths = np.ravel(fields["wavelengths_nm"])
        refuse_bands_first(path, cube.shape, wavelengths.size)
        try:
            wavelengths = to_nanometres(wavelengths, "nm")
        except ValueError as error:
            warnings.warn(f"{path}: wavelengths are left out: {error}", stacklevel=2)
            wavelengths = None
    else:
        named = {key: array for key, array in fields.items() if key.lower() in WAVELENGTH_NAMES and array.dtype.kind in "iuf"}
        _, wavelengths = find_wavelengths(path, cube.shape, named)
    return Scene.from_physical(cube, name, missing=missing, wavelengths=wavelengths, metadata={"format": "npz"})


def write_npz(scene: Scene, path: Path) -> None:
    """Write the physical values as `cube` (NaN where there are no data) with what else the format carries."""
    fields = {"cube": values_or_nan(scene), "scale": 1.0, "offset": 0.0, "name": scene.name}
    if scene.wavelengths is not None:
        fields["wavelengths_nm"] = scene.wavelengths
    nodata = scene.metadata.get("missing", scene.nodata)
    if nodata is not None:
        fields["nodata"] = nodata
    with open(path, "wb") as file:
        np.savez_compressed(file, **fields)


@contextmanager
def _of_numbers(path: Path) -> Iterator[None]:
    """Say of a file that is text, or holds Python objects, what it should be; NumPy would advise to unpickle it."""
    try:
        yield
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        kind = path.suffix.lower()
        function = "numpy.savez" if kind == ".npz" else "numpy.save"
        raise SceneError(f"{path}: this is no {kind} file of numbers; save the cube as an array of numbers with {function}") from None


def values_or_nan(scene: Scene) -> np.ndarray:
    """The physical values with NaN where the source had no data, for formats that cannot declare a value."""
    values, missing = scene.physical(), scene.missing()
    if missing is not None:
        values[missing] = np.nan
    return values
