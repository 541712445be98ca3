"""NumPy files (`.npy`, `.npz`) and the folders of band images in which CAVE is distributed."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from .georeference import to_nanometres
from .scene import Scene, SceneError, as_cube

CAVE_WAVELENGTHS = np.arange(400.0, 701.0, 10.0)
"""Band centres of CAVE and ICVL [nm]."""
WAVELENGTH_NAMES = ("wavelengths", "wavelength", "wavelengths_nm", "wl", "lambda", "bands", "wave", "waves")
"""What a vector of wavelengths may be called, in MATLAB and NumPy files that state no unit."""


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


def counts_of_bands(shape: tuple[int, ...]) -> set[int]:
    """How many wavelengths a cube of that shape (H, W, B) may have, also if its bands should come first; one number beside one row is none."""
    return {shape[2]} | ({shape[0]} - {1})


def find_wavelengths(path: Path, shape: tuple[int, ...], named: dict[str, np.ndarray]) -> tuple[str | None, np.ndarray | None]:
    """The first of the arrays with names of wavelengths that may be those of a cube of that shape: its name, and they in nm.

    If there is none, a warning tells why, but of those that are often called so and are something else.

    Raises
    ------
    SceneError
        As `refuse_bands_first`.
    """
    vectors = {name: values.ravel().astype(np.float64) for name, values in named.items()}
    for name, values in vectors.items():
        if values.size in counts_of_bands(shape) and may_be_wavelengths(name, values):
            refuse_bands_first(path, shape, values.size)
            return name, to_nanometres(values)
    for name, values in vectors.items():
        wrong = values[~((0 < values) & (values < np.inf))]
        reason = f"{name} has {values.size} entries for {shape[2]} bands" if values.size != shape[2] else f"{name} holds {wrong[0]:g}" if wrong.size else ""
        if reason and name.lower() not in ("bands", "lambda"):
            warnings.warn(f"{path}: wavelengths are left out: {reason}", stacklevel=2)
    return None, None


def refuse_bands_first(path: Path, shape: tuple[int, ...], wavelengths: int) -> None:
    """A SceneError if there are as many wavelengths as the first axis of a cube is long, but not the last."""
    if wavelengths == shape[0] != shape[2]:
        raise SceneError(f"{path}: the cube is {'x'.join(map(str, shape))} with {wavelengths} wavelengths; bands come last")


def may_be_wavelengths(name: str, values: np.ndarray) -> bool:
    """Whether a vector of that name holds wavelengths: positive, not all equal, and no list of band numbers.

    Such a list counts the bands or, as ``bands``, begins with whole numbers below 100.
    """
    whole = name.lower() == "bands" and values[0] < 100 and np.array_equal(values, values.round())
    counts = whole or np.array_equal(values, np.arange(1, values.size + 1))
    return bool(((0 < values) & (values < np.inf)).all() and (values.size == 1 or np.ptp(values))) and not counts


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


def cave_images(folder: Path) -> list[Path]:
    """The 31 band images `<scene>_01.png` to `_31.png` in a folder or in the one folder inside it."""
    found = band_folders(folder)
    if not found:
        raise SceneError(f"{folder}: no band images found; a CAVE folder has *_01.png to *_31.png")
    if len(found) > 1:
        listed = ", ".join(place.name for place in found)
        raise SceneError(f"{folder}: several scenes in it: {listed}; give one of these folders")
    ((place, images),) = found.items()
    numbers = [int(file.stem[-2:]) for file in images]
    if numbers != list(range(1, len(CAVE_WAVELENGTHS) + 1)):
        raise SceneError(f"{place}: band images {numbers} found; a CAVE folder has *_01.png to *_31.png")
    return images


def band_folders(folder: Path) -> dict[Path, list[Path]]:
    """The images of a folder that `_band_images` finds, or, if there are none, of each folder in it that has some."""
    places = [folder] if _band_images(folder) else sorted(entry for entry in folder.iterdir() if entry.is_dir())
    return {place: images for place in places if (images := _band_images(place))}


def _band_images(folder: Path) -> list[Path]:
    """The images in a folder whose names end with a number of two digits, in order."""
    return sorted(file for file in folder.glob("[!.]*.png") if re.search(r"_\d\d\.png$", file.name))


def read_cave(folder: Path) -> Scene:
    """Read a CAVE folder: 1.0 is 65535 in a 16-bit image and 255 in an 8-bit one; 400 to 700 nm."""
    from skimage.io import imread

    bands = []
    for file in cave_images(folder):
        try:
            image = imread(file)
        except Exception as error:  # its plugins raise many kinds
            raise SceneError(f"{file}: cannot be read as an image ({str(error).splitlines()[0]})") from error
        if image.dtype not in (np.uint8, np.uint16):
            raise SceneError(f"{file}: the image is {image.dtype}; a CAVE band is 8 or 16 bits")
        grey = image if image.ndim == 2 else image[:, :, 0]
        bands.append(grey.astype(np.float32) / np.float32(np.iinfo(image.dtype).max))
        if bands[-1].shape != bands[0].shape:
            raise SceneError(f"{file}: the image is {bands[-1].shape} but band 1 is {bands[0].shape}; sizes must agree")
    name = re.sub(r"(_ms)?_\d\d$", "", cave_images(folder)[0].stem)
    return Scene(np.stack(bands, axis=2), name, CAVE_WAVELENGTHS, metadata={"format": "cave"})
