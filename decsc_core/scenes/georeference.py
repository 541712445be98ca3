"""What ENVI and GeoTIFF share: coordinate system, transform, scales, no-data value."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from .scene import Scene, SceneError

SIDECARS = (".aux.xml", ".ovr", ".msk")
"""Endings of files that GDAL keeps beside an image and that would be wrong of another in its place."""
HUGE = 1e30
"""No measurement is so large: a number that may be written rounded, and still means no data."""
GEOREFERENCE = ("crs", "transform", "gcps", "rpcs")
"""Keys of a scene's metadata that tell where it lies."""
ENVI_FIELDS = ("map info", "coordinate system string")


@contextmanager
def opened(path: Path | str, *args: Any, **kwargs: Any) -> Iterator[Any]:
    """`rasterio.open` of a file, or of a name that GDAL knows, without the warning that a cube has no georeference, which is usual here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path if isinstance(path, str) else path.absolute(), *args, **kwargs) as dataset:
            yield dataset


def georeference(dataset: Any) -> dict[str, Any]:
    """`crs` (WKT), `transform` (six numbers), `gcps` and `gcps_crs`, `rpcs` of an open rasterio dataset, as far as it has them."""
    found: dict[str, Any] = {}
    if dataset.crs:
        found["crs"] = dataset.crs.to_wkt()
    if not dataset.transform.is_identity:
        found["transform"] = tuple(dataset.transform)[:6]
    points, crs = dataset.gcps
    if points:
        found |= {"gcps": points, "gcps_crs": crs and crs.to_wkt()}
    if dataset.rpcs:
        found["rpcs"] = dataset.rpcs
    return found


def envi_georeference(metadata: dict[str, Any]) -> dict[str, str]:
    """The ENVI header fields `ENVI_FIELDS` for a `crs` and `transform`, as GDAL writes them.

    There are none for a transform that they cannot tell, as that of a rotated grid of oblong pixels, or without one; a warning says so.
    """
    if "transform" not in metadata:
        if "crs" in metadata:
            warnings.warn("the coordinate system is left out: ENVI has no place for one without a transform", stacklevel=2)
        return {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "georeference.img"
        shape = {"width": 1, "height": 1, "count": 1, "dtype": "uint8"}
        transform = rasterio.Affine(*metadata["transform"])
        with opened(path, "w", driver="ENVI", crs=metadata.get("crs"), transform=transform, **shape):
            pass
        with opened(path) as dataset:
            told = np.allclose(dataset.transform, transform, rtol=1e-9, atol=1e-6 * abs(transform.determinant) ** 0.5)
        if not told:
            warnings.warn("the georeference is left out: ENVI's map info has no place for its rotation", stacklevel=2)
            return {}
        lines = path.with_suffix(".hdr").read_text().splitlines()
    fields = (line.partition("=") for line in lines)
    return {key.strip(): value.strip() for key, _, value in fields if key.strip() in ENVI_FIELDS}


def values_with_nodata(scene: Scene) -> tuple[np.ndarray, float | None]:
    """The physical values with the declared no-data value where there are no data, and that value.

    A value that float32 cannot hold, or none at all beside a no-data mask, becomes NaN. Data that happen to equal the
    no-data value are moved beside it, so that they stay data.
    """
    values, missing = scene.physical(), scene.missing()
    declared = scene.metadata.get("nodata")
    if declared is None and missing is None:
        return values, None
    with np.errstate(over="ignore"):
        nodata = float(np.float32(np.nan if declared is None else declared))
    nodata = nodata if np.isfinite(nodata) else float("nan")
    # GDAL takes floats within 4.8e-7 of the no-data value, relatively, for it
    values[values == nodata] = nodata * (1 - 1e-6) or np.finfo(np.float32).tiny
    if missing is not None:
        values[missing] = nodata
    return values, nodata


def scaled(data: np.ndarray, scales: Sequence[float], offsets: Sequence[float]) -> np.ndarray:
    """`data` (H, W, B) times the scale of each band plus its offset, float32; as it is if they are 1 and 0 in all bands.

    Raises
    ------
    SceneError
        If a scale is 0, or one of them is not finite.
    """
    if set(scales) == {1.0} and set(offsets) == {0.0}:
        return data
    for band, (scale, offset) in enumerate(zip(scales, offsets, strict=True), 1):
        if not np.isfinite([scale, offset]).all() or scale == 0:
            raise SceneError(f"the scale {scale:g} and the offset {offset:g} of band {band} must be finite, and the scale not 0")
    with np.errstate(over="ignore", invalid="ignore"):  # of no-data values
        return (data * np.array(scales, dtype=np.float64) + np.array(offsets, dtype=np.float64)).astype(np.float32)


def where_missing(data: np.ndarray, nodata: float | None) -> np.ndarray | None:
    """True where `data` is the declared no-data value or NaN, or None if no value is declared and there is no NaN.

    Of floats a value from `HUGE` on may be rounded, as the limits of float32 mostly are.
    """
    empty = np.isnan(data)
    if nodata is None:
        return empty if empty.any() else None
    if data.dtype.kind == "f" and HUGE <= abs(nodata) < np.inf:
        with np.errstate(over="ignore", invalid="ignore"):
            return empty | (np.abs(data / nodata - 1) <= 1e-5)
    return empty | (data == nodata)
