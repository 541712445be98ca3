"""Wavelengths as files tell them: their names, units, and what is none."""

from __future__ import annotations

import unicodedata
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from .scene import SceneError

NANOMETRES = {
    "nanometers": 1.0, "nanometres": 1.0, "nanometer": 1.0, "nm": 1.0,
    "micrometers": 1e3, "micrometres": 1e3, "micrometer": 1e3, "microns": 1e3, "micron": 1e3, "um": 1e3, "\u03bcm": 1e3,
    "millimeters": 1e6, "mm": 1e6, "centimeters": 1e7, "cm": 1e7, "meters": 1e9, "m": 1e9,
    "angstroms": 0.1, "angstrom": 0.1,
}  # fmt: skip
"""Nanometres in one unit, by the unit's name in a file."""
PER_NANOMETRE = {"wavenumber": 1e7, "cm-1": 1e7, "ghz": 299_792_458.0, "mhz": 299_792_458e3}
"""Waves in a length, or in a time, at a wavelength of 1 nm: units that grow as the wavelength falls."""
WAVELENGTH_NAMES = ("wavelengths", "wavelength", "wavelengths_nm", "wl", "lambda", "bands", "wave", "waves")
"""What a vector of wavelengths may be called, in MATLAB and NumPy files that state no unit."""


def to_nanometres(values: Any, unit: str | None = None) -> np.ndarray:
    """Wavelengths in nm, of numbers or of the texts that a header has.

    Without a unit, values that are all below 100 are taken as micrometres and others as nanometres; 1, 2, 3, ... are numbers of bands.

    Raises
    ------
    ValueError
        If a value is no number above 0, the unit is not one of length or frequency, or they number the bands; the message says so.
    """
    wavelengths = np.asarray([float(value) for value in values])
    if not ((0 < wavelengths) & (wavelengths < np.inf)).all():
        raise ValueError(f"{values[np.argmin((0 < wavelengths) & (wavelengths < np.inf))]} is no wavelength")
    key = unicodedata.normalize("NFKC", unit or "unknown").strip().lower()  # which makes one of the two signs for micro
    if key == "unknown":
        if len(wavelengths) > 1 and np.array_equal(wavelengths, np.arange(len(wavelengths)) + 1):
            raise ValueError("they have no unit and number the bands")
        return wavelengths * (1e3 if wavelengths.max() < 100 else 1.0)
    if key in PER_NANOMETRE:
        return PER_NANOMETRE[key] / wavelengths
    if key not in NANOMETRES:
        raise ValueError(f"the unit {unit!r} is not known")
    return wavelengths * NANOMETRES[key]


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
