"""ENVI images: a data file (bsq, bil or bip) with a text header beside it."""

from __future__ import annotations

import logging
import os
import re
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import spectral.io.envi as spy
from rasterio.errors import RasterioError
from spectral.io.spyfile import SpyFile

from .georeference import envi_georeference, georeference, opened, scaled, values_with_nodata, where_missing
from .scene import Scene, SceneError, as_cube
from .wavelengths import to_nanometres

DATA_EXTENSIONS = (".img", ".dat", ".bsq", ".bil", ".bip", ".raw", ".bin", ".pix", ".rfl")
INTERLEAVES = ("bsq", "bil", "bip")
LAYOUT = (
    "lines", "samples", "bands", "header offset", "file type", "data type", "interleave", "byte order",
    "reflectance scale factor", "data ignore value",
)  # fmt: skip
"""Header fields that describe the bytes on disk; a writer makes them anew."""
NUMBERS = {
    **dict.fromkeys(("lines", "samples", "bands"), (r"0*[1-9]\d*", "a whole number above 0")),
    "header offset": (r"\d+", "a whole number of at least 0"),
    "data type": ("|".join(spy.envi_to_dtype), f"one of {', '.join(spy.envi_to_dtype)}"),
    "byte order": ("[01]", "0 or 1"),
    **dict.fromkeys(
        ("data ignore value", "reflectance scale factor"), (r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?|[-+]?(nan|inf|infinity)", "a number")
    ),
}
"""Header fields that are numbers and have no check of their own: the pattern of their values, and that in words."""
BAND_SCALING = {"data gain values": 1.0, "data offset values": 0.0}
"""Header fields of a scale and an offset for each band, and what each is if it is not there."""
PER_BAND = ("wavelength", "fwhm", "bbl", "band names")
PLACES = {"transform": "map info", "gcps": "geo points", "rpcs": "rpc info"}
"""What tells where a scene lies: its name in `Scene.metadata` and in a header."""


def read_envi(path: Path) -> Scene:
    """Read an ENVI image from its header or its data file.

    Values are multiplied by the header's `data gain values` and get its `data offset values` added or, if these change nothing, are
    divided by its `reflectance scale factor`; they are written without. `data ignore value` and NaN mark no-data, 0 in the list `bbl` a bad band;
    wavelengths are converted to nm from the header's unit, or left out, with a warning that says why. SceneError if the header is damaged, or
    header and data do not belong together.
    """
    header_path, data_path = _both_files(path)
    for file in (header_path, data_path):
        if not os.access(file, os.R_OK):
            raise SceneError(f"{file}: you have no permission to read it")
    image = _opened(header_path, data_path)
    if not isinstance(image, SpyFile):
        raise SceneError(f"{path}: this is a spectral library; a scene is an ENVI image (rows, columns, bands)")
    header = dict(image.metadata)
    if header["interleave"].lower() not in INTERLEAVES:
        raise SceneError(f"{header_path}: the header's interleave {header['interleave']!r} is not bsq, bil or bip")
    if str(header.get("file compression", "0")) != "0":
        raise SceneError(f"{header_path}: the image is compressed (file compression); unpack it first")
    if not 0 < image.scale_factor < np.inf:
        factor = header["reflectance scale factor"]
        raise SceneError(f"{header_path}: the header's reflectance scale factor {factor} is not a number above 0")
    expected = image.offset + image.nrows * image.ncols * image.nbands * image.sample_size
    if data_path.stat().st_size < expected:
        raise SceneError(
            f"{data_path}: the file has {data_path.stat().st_size} bytes but its header {header_path.name} asks for "
            f"{expected}; it is truncated or the header is of another image"
        )
    data = as_cube(np.array(image.open_memmap(interleave="bip")), data_path.stem)
    nodata = float(header["data ignore value"]) if "data ignore value" in header else None
    missing = where_missing(data, nodata)
    gains, offsets = (_of_bands(header_path, header, field, image.nbands) for field in BAND_SCALING)
    if set(gains) != {1.0} or set(offsets) != {0.0}:
        data = scaled(data, gains, offsets)
    elif image.scale_factor != 1:
        data = (data / np.float64(image.scale_factor)).astype(np.float32)
    metadata: dict[str, Any] = {"format": "envi", "interleave": header["interleave"].lower()}
    if nodata is not None:
        metadata["nodata"] = nodata
    if "band names" in header:
        metadata["band_names"] = tuple(_listed(header, "band names"))
    if any(field in header for field in PLACES.values()):
        try:
            with opened(data_path) as dataset:
                metadata |= georeference(dataset)
        except RasterioError:
            pass  # the header's own fields are kept below, so an ENVI copy still has them
    metadata["envi"] = {key: value for key, value in header.items() if key not in (*LAYOUT, *BAND_SCALING)}
    wavelengths, reason = _wavelengths(header, image.nbands)
    if reason:
        warnings.warn(f"{header_path}: wavelengths are left out: {reason}", stacklevel=2)
    return Scene.from_physical(
        data, data_path.stem, missing=missing, bad=_bad_bands(header_path, header, image.nbands), wavelengths=wavelengths, metadata=metadata
    )


def _bad_bands(header_path: Path, header: dict[str, Any], bands: int) -> np.ndarray | None:
    """True for bands (B,) that the header's bad band list marks as bad; None if it has none, or one that cannot be used, which it warns of."""
    listed = _listed(header, "bbl")
    if not listed:
        return None
    try:
        good = np.array(listed, dtype=float) != 0
    except ValueError:
        good = np.array([])
    if good.size == bands and good.any():
        return ~good
    warnings.warn(f"{header_path}: the list of bad bands (bbl) is not used: it must have a number for each of the {bands} bands, not all 0", stacklevel=3)
    return None


def _opened(header_path: Path, data_path: Path) -> Any:
    """SPy's image of a data file, by a header in UTF-8, with or without a mark at its beginning, or in Latin-1."""
    content = header_path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Parameters with non-lowercase names")
        copy = Path(folder) / "decoded.hdr"
        copy.write_text(text)
        _check(header_path, spy.read_envi_header(str(copy)))
        logger = logging.getLogger("spectral")  # it warns of wavelengths on stderr; `read_envi` does so itself
        level = logger.level
        logger.setLevel(logging.ERROR)
        try:
            return spy.open(str(copy), str(data_path))
        finally:
            logger.setLevel(level)


def _check(header_path: Path, header: dict[str, Any]) -> None:
    """A SceneError for the first field of a header, as SPy reads it, that cannot be what it says."""
    for field, (pattern, right) in NUMBERS.items():
        if field in header and not re.fullmatch(pattern, str(header[field]), re.IGNORECASE):
            raise SceneError(f"{header_path}: the header's {field} is {header[field]!r} but must be {right}")


def _listed(header: dict[str, Any], field: str) -> list[str]:
    """The values of a header's field, of one without braces, too; none if it is not there."""
    values = header.get(field, [])
    return values if isinstance(values, list) else [values]


def _of_bands(header_path: Path, header: dict[str, Any], field: str, bands: int) -> list[float]:
    """The numbers of one of `BAND_SCALING`, one a band."""
    listed = _listed(header, field) if field in header else [BAND_SCALING[field]] * bands
    try:
        numbers = [float(number) for number in listed]
    except ValueError as error:
        raise SceneError(f"{header_path}: the header's {field} must be numbers ({error})") from None
    if len(numbers) != bands:
        raise SceneError(f"{header_path}: the header's {field} are {len(numbers)} for {bands} bands; give as many")
    return numbers


def envi_targets(path: Path) -> tuple[Path, Path]:
    """The data file and the header that writing to `path` makes; SceneError if that would replace a header of another data file."""
    if path.suffix.lower() == ".hdr":
        header_path, data_path = path, path.with_suffix(".img")
    else:
        header_path, data_path = path.with_suffix(".hdr"), path
    for header in (header_path, *filter(Path.is_file, headers(data_path))):
        others = [file for file in data_files(header) if file != data_path]
        if others:
            raise SceneError(f"{path}: {others[0].name} is already beside {header.name}; choose another name")
        if header.is_file() and not data_path.exists():
            raise SceneError(f"{path}: {header.name} is already there, of another image than {data_path.name}; choose another name")
    return data_path, header_path


def remove_other_headers(data_path: Path, header_path: Path) -> None:
    """Remove the headers by which other programs would read a data file that has just been written with `header_path`."""
    for other in headers(data_path):
        if other.is_file() and not other.samefile(header_path):
            other.unlink()


def write_envi(scene: Scene, data_path: Path, header_path: Path) -> None:
    """Write the physical values as float32 with the source's header fields, interleaved as the source was.

    A data file named `.bsq`, `.bil` or `.bip` is interleaved as its name says.
    """
    values, nodata = values_with_nodata(scene)
    named = data_path.suffix.lower()[1:]
    interleave = named if named in INTERLEAVES else scene.metadata.get("interleave", "bsq")
    header = _header(scene)
    if nodata is not None:
        header["data ignore value"] = nodata
    spy.save_image(
        str(header_path), values, dtype=np.float32, interleave=interleave, ext=data_path.suffix, metadata=header
    )


def _header(scene: Scene) -> dict[str, Any]:
    """The header fields of `scene` other than its layout on disk."""
    bands = scene.cube.shape[2]
    header = dict(scene.metadata.get("envi", {}))
    for key in PER_BAND:
        if key in header and len(_listed(header, key)) != bands:
            del header[key]
    if "band names" not in header and len(scene.metadata.get("band_names", ())) == bands:
        header["band names"] = list(scene.metadata["band_names"])
    if scene.wavelengths is not None:
        stored, _ = _wavelengths(header, bands)
        if stored is None or not np.allclose(stored, scene.wavelengths):
            header.pop("fwhm", None)
            header["wavelength"] = [repr(float(value)) for value in scene.wavelengths]
            header["wavelength units"] = "Nanometers"
    if "bad_bands" in scene.metadata and "bbl" not in header:
        header["bbl"] = [int(band not in scene.metadata["bad_bands"]) for band in range(bands)]
    if "map info" not in header:
        header |= envi_georeference(scene.metadata)
    names = {"gcps": "ground control points", "rpcs": "RPCs"}
    lost = [name for key, name in names.items() if key in scene.metadata and PLACES[key] not in header]
    if lost:
        warnings.warn(f"{' and '.join(lost)} left out: they are written to GeoTIFF only", stacklevel=2)
    if isinstance(header.get("coordinate system string"), list):
        header["coordinate system string"] = "{" + ",".join(header["coordinate system string"]) + "}"
    return header


def _wavelengths(header: dict[str, Any], bands: int) -> tuple[np.ndarray | None, str]:
    """Band centres [nm] from a header, or None, and why those that it lists cannot be used."""
    values, unit = _listed(header, "wavelength"), "".join(header.get("wavelength units", ""))
    if not values or unit.strip().lower() == "index":
        return None, ""
    if len(values) != bands:
        return None, f"there are {len(values)} wavelengths for {bands} bands"
    try:
        return to_nanometres(values, unit), ""
    except ValueError as error:
        return None, str(error)


def data_files(header_path: Path) -> list[Path]:
    """The data files that may belong to a header: `scene.hdr` to `scene.img`, `scene.img.hdr` to `scene.img`."""
    bare = header_path.stem
    return sorted(
        file
        for file in header_path.parent.iterdir()
        if (file.name == bare or (file.stem == bare and file.suffix.lower() in DATA_EXTENSIONS)) and file.is_file()
    )


def _both_files(path: Path) -> tuple[Path, Path]:
    """(header, data file) from either of them."""
    if path.suffix.lower() == ".hdr":
        found = data_files(path)
        if not found:
            raise SceneError(
                f"{path}: no data file beside it; expected {path.stem} or {path.stem} with one of "
                f"{', '.join(DATA_EXTENSIONS)}"
            )
        if len(found) > 1:
            raise SceneError(
                f"{path}: several data files beside it ({', '.join(file.name for file in found)}); give the data file"
            )
        return path, found[0]
    header_path = header_beside(path)
    if header_path is None:
        expected = f"{path.with_suffix('.hdr').name} or {path.name}.hdr"
        raise SceneError(f"{path}: no ENVI header beside it; expected {expected}")
    return header_path, path


def header_beside(path: Path) -> Path | None:
    """The ENVI header of a data file, or None if there is none."""
    return next(filter(Path.is_file, headers(path)), None)


def headers(data_path: Path) -> tuple[Path, ...]:
    """What the header of a data file may be called: `scene.hdr` or `scene.img.hdr`, and those there that are so called but in capitals."""
    names = data_path.with_suffix(".hdr"), data_path.with_name(f"{data_path.name}.hdr")
    beside = sorted(data_path.parent.glob("*.[hH][dD][rR]")) if data_path.parent.is_dir() else []
    return tuple(dict.fromkeys([*names, *(file for file in beside if file.stem in (data_path.stem, data_path.name))]))
