"""A scene: one hyperspectral cube in [0, 1], its wavelengths, and the way back to the units it came in."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from decsc_core.gaps import stand_in, without_image
from decsc_core.scale import DARKEST, LARGEST, REFLECTANCE_LIKE, REFLECTANCE_SPAN, dark_level

FILL_SHARE, FILL_GAP = 0.001, 3
"""An extreme value that this share of all values has, this many ranges of all others away from them, is no datum."""
NO_DATA = (-999, -9999, -32767, -32768)
"""Nor is one of these, however rare, where all others are less than half as low."""
SATURATED = (1.0, 1023, 2047, 4095, 8191, 16383)
"""Where floats that are reflectances, and sensors of 10 to 14 bits, saturate: these values are data. So is 255, of integers."""
DECLARE = "declare it as no-data in the file, or make it NaN"
"""What would be right of a value that is no datum."""


class SceneError(ValueError):
    """A scene that cannot be read, written or built; the message is one line that says what would be right."""


@dataclass(frozen=True, eq=False)
class Scene:
    """One cube with what is needed to show it, denoise it, and write it back as it came.

    Parameters
    ----------
    cube : ndarray, shape (H, W, B), float32
        Nominally in [0, 1]; never clipped.
    name : str
    wavelengths : ndarray, shape (B,), optional
        Band centres [nm].
    scale, offset : float
        ``physical = cube * scale + offset``, in the units of the file.
    nodata : ndarray of bool, shape (H, W), optional
        True where the file has no data in any band; `cube` holds a filled-in value there.
    metadata : dict
        What a writer needs to keep: georeference, header fields, variable names, values of bad bands.

    Raises
    ------
    SceneError
        If the cube is not three-dimensional, real and finite, the wavelengths are not finite, or an array beside the cube has
        another size.
    """

    cube: np.ndarray
    name: str
    wavelengths: np.ndarray | None = None
    scale: float = 1.0
    offset: float = 0.0
    nodata: np.ndarray | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        with np.errstate(over="ignore"):
            cube = np.ascontiguousarray(as_cube(self.cube, self.name), dtype=np.float32)
        count = cube.size - int(np.isfinite(cube).sum())
        if count:
            raise SceneError(f"{self.name}: {count} values are NaN, infinite or beyond float32; a cube must be finite")
        object.__setattr__(self, "cube", cube)
        if self.wavelengths is not None:
            wavelengths = np.asarray(self.wavelengths, dtype=np.float64)
            if wavelengths.shape != cube.shape[2:]:
                raise SceneError(f"{self.name}: {wavelengths.size} wavelengths for {cube.shape[2]} bands; give as many")
            if not np.isfinite(wavelengths).all():
                raise SceneError(f"{self.name}: the wavelengths hold NaN or infinity; leave them out if they are not known")
            object.__setattr__(self, "wavelengths", wavelengths)
        if self.nodata is not None:
            nodata = np.asarray(self.nodata, dtype=bool)
            if nodata.shape != cube.shape[:2]:
                raise SceneError(f"{self.name}: the no-data mask is {nodata.shape} but must be {cube.shape[:2]}")
            object.__setattr__(self, "nodata", nodata)

    @classmethod
    def from_physical(
        cls, data: np.ndarray, name: str, *, missing: np.ndarray | None = None, bad: np.ndarray | None = None, **fields: Any
    ) -> Scene:
        """Build a scene from the values of a file.

        Integers, and floats that do not look like reflectance (see `REFLECTANCE_LIKE`, `REFLECTANCE_SPAN`, `DARKEST`), are mapped
        so that the 0.1 and 99.9 percentiles of the valid values become 0 and 1; values beyond them go outside [0, 1].
        Other floats are kept as they are. Bands of a single value, as dead ones are, and areas of one spectrum, as borders are, do
        not count.

        Parameters
        ----------
        data : ndarray, shape (H, W, B)
            Values in the units of the file.
        name : str
        missing : ndarray of bool, shape (H, W, B), optional
            True where the file declares that it has no data. These values are filled by reflection about the nearest pixel that has
            data in the band, so that the noise there is like that of the data; bands without any data have a single value.
        bad : ndarray of bool, shape (B,), optional
            True for bands that the file marks as bad, not all of them: they have a single value in the cube, so that nothing is
            made of them, and `physical` gives their own back.
        **fields
            `wavelengths` and `metadata` of the scene.

        Raises
        ------
        SceneError
            If values that are not declared missing are NaN, infinite, beyond float32 or an obvious fill value (see
            `FILL_SHARE`, `NO_DATA`, `LARGEST`), if a mask has another shape, or if no value or no good band is left.
        """
        data = as_cube(data, name)
        for mask, of, shape in ((missing, "missing", data.shape), (bad, "bad", data.shape[2:])):
            if mask is not None and np.shape(mask) != shape:
                raise SceneError(f"{name}: the mask `{of}` is {np.shape(mask)} but must be {shape}")
        metadata = dict(fields.pop("metadata", {}))
        valid = np.isfinite(data) if missing is None else np.isfinite(data) | missing
        if not valid.all():
            declared = f"give them the file's no-data value, {metadata['nodata']:g}" if "nodata" in metadata else DECLARE
            raise SceneError(
                f"{name}: {valid.size - int(valid.sum())} values are NaN or infinite and not declared as no-data; "
                f"repair them, or {declared}"
            )
        nodata = None
        if missing is not None and missing.any():
            if missing.all():
                raise SceneError(f"{name}: every value is declared as no-data; at least one pixel must have data")
            used = ~missing.all(axis=(0, 1))
            nodata = missing[:, :, used].all(axis=2)
            nodata = nodata if nodata.any() else None
            data = _filled(data, missing)
            if nodata is None or not np.array_equal(missing, np.broadcast_to(nodata[:, :, None], missing.shape)):
                metadata["missing"] = missing
        if bad is not None and bad.all():
            raise SceneError(f"{name}: every band is marked as bad; at least one must be good")
        if bad is not None and bad.any():
            metadata["bad_bands"] = {int(band): data[:, :, band].copy() for band in np.flatnonzero(bad)}
            data = np.where(bad, data.dtype.type(np.median(data[:, :, ~bad])), data)
        dead, aside = without_image(data)
        alive = ~dead
        values = data if alive.all() else data[:, :, alive]
        _refuse_fill_value(values, name)
        low, high = float(values.min()), float(values.max())
        known = values if missing is None else values[~missing[:, :, alive]]
        if aside.any():
            seen = values[~aside] if missing is None else values[~(aside[:, :, None] | missing[:, :, alive])]
            known = seen if seen.size and seen.min() < seen.max() else known
        plain = data.dtype.kind == "f" and _spans_0_to_1(known) and dark_level(values[stand_in(aside)] if aside.any() else values) >= DARKEST
        scale, offset = (1.0, 0.0) if plain else _affine(known)
        far = max(low, high, key=lambda value: abs(value - offset))
        if max(-low, high) > float(np.finfo(np.float32).max):
            raise SceneError(f"{name}: values reach {far:g}, beyond what float32 holds; give them smaller units")
        if (away := abs(far - offset) / abs(scale)) > LARGEST:
            raise SceneError(f"{name}: the value {far:g} is {away:.1g} times the range of nearly all others away; repair it, or {DECLARE}")
        if (scale, offset) != (1.0, 0.0):
            data = (data - np.float64(offset)) / scale
        return cls(data, name, scale=scale, offset=offset, nodata=nodata, metadata=metadata, **fields)

    def physical(self) -> np.ndarray:
        """The cube in the units of its file, (H, W, B) float32; filled-in values stay filled in, bad bands are as they were."""
        plain = (self.scale, self.offset) == (1.0, 0.0)
        values = self.cube.copy() if plain else (self.cube * np.float64(self.scale) + self.offset).astype(np.float32)
        for band, own in self.metadata.get("bad_bands", {}).items():
            values[:, :, band] = own
        return values

    def missing(self) -> np.ndarray | None:
        """True where the file has no data, (H, W, B) bool, or None if it has data everywhere."""
        if "missing" in self.metadata:
            return self.metadata["missing"]
        if self.nodata is None or not self.nodata.any():
            return None
        return np.broadcast_to(self.nodata[:, :, None], self.cube.shape)

    def with_cube(self, cube: np.ndarray) -> Scene:
        """The same scene around another cube of the same shape (else SceneError), such as a noisy or a denoised one."""
        if hasattr(cube, "cube"):
            raise SceneError(f"{self.name}: the new cube is of type {type(cube).__name__}; give its .cube")
        if np.shape(cube) != self.cube.shape:
            raise SceneError(f"{self.name}: the new cube is {np.shape(cube)} but the scene is {self.cube.shape}")
        return replace(self, cube=cube)

    def sha256(self) -> str:
        """SHA-256 of the cube's shape and its little-endian float32 values in C order, hexadecimal."""
        digest = hashlib.sha256(repr(self.cube.shape).encode())
        digest.update(self.cube.astype("<f4", copy=False).tobytes())
        return digest.hexdigest()


def as_cube(data: Any, name: str) -> np.ndarray:
    """`data` as an array, or a SceneError if it is not (H, W, B) of real numbers."""
    array = np.asarray(data)
    if array.ndim != 3 or 0 in array.shape:
        raise SceneError(f"{name}: the array is {array.shape} but a cube is (rows, columns, bands), none of them 0")
    if np.ma.is_masked(data):
        raise SceneError(f"{name}: {np.ma.count_masked(data)} values are masked; give `Scene.from_physical` the mask as `missing`, and the array without it")
    if array.dtype.kind not in "iuf":
        raise SceneError(f"{name}: the values are {array.dtype} but must be integers or real floats")
    return array


def _refuse_fill_value(data: np.ndarray, name: str) -> None:
    """A SceneError if the smallest or the largest value marks what has no data, undeclared; see `FILL_SHARE`, `NO_DATA`."""
    saturated = (*SATURATED, 255) if data.dtype.kind != "f" else SATURATED
    for fill in map(float, (data.min(), data.max())):
        share = (data == fill).mean()
        others = data[data != fill] if share >= FILL_SHARE or fill in NO_DATA else data[:0]
        if others.size == 0:
            continue
        low, high = float(others.min()), float(others.max())
        far = share >= FILL_SHARE and fill not in saturated and high > low and max(low - fill, fill - high) > FILL_GAP * (high - low)
        if far or (fill in NO_DATA and low > fill / 2):
            raise SceneError(
                f"{name}: {100 * share:.2g} % of the values are {fill:g}, far from all others ({low:g} to {high:g}); {DECLARE}"
            )


def _spans_0_to_1(values: np.ndarray) -> bool:
    """Whether the valid values of a file span about [0, 1]."""
    low, dark, bright, high = np.percentile(values, [0.1, 5, 95, 99.9])
    return REFLECTANCE_LIKE[0] <= dark and bright <= REFLECTANCE_LIKE[1] and high - low >= REFLECTANCE_SPAN


def _affine(values: np.ndarray) -> tuple[float, float]:
    """(scale, offset) that brings the 0.1 and 99.9 percentiles of the valid values of a file to 0 and 1."""
    low, high = (float(q) for q in np.percentile(values, [0.1, 99.9]))
    if high == low:
        low, high = float(values.min()), float(values.max())
    return (high - low if high > low else 1.0), low


def _filled(data: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """`data` with missing values taken from their `stand_in`; bands without any get the median of the nearest that has some."""
    out = data.copy()
    empty = missing.all(axis=(0, 1))
    previous, source = None, None
    for band in np.flatnonzero(~empty):
        mask = missing[:, :, band]
        if not mask.any():
            continue
        if previous is None or not np.array_equal(mask, previous):
            previous, source = mask, stand_in(mask)
        out[:, :, band] = data[:, :, band][source]
    used = np.flatnonzero(~empty)
    for band in np.flatnonzero(empty):
        out[:, :, band] = np.median(out[:, :, used[np.argmin(np.abs(used - band))]])
    return out
