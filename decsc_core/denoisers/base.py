"""What every denoiser is: a noisy cube in, an estimate of the same shape out, with the evidence it has."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, replace

import numpy as np

from decsc_core.checks import real_numbers
from decsc_core.gaps import stand_in, without_image
from decsc_core.scale import DARKEST, LARGEST, REFLECTANCE_LIKE, REFLECTANCE_SPAN, dark_level

ENORMOUS = 1e12
"""Beyond it, squares summed in single precision are no longer safe, nor are those of its inverse below that. (DECSC forms fourth powers: from 4e9 on it tells that it diverged.)"""


class CubeError(ValueError):
    """The array given to a denoiser is not a cube it can work on; the message says why."""


@dataclass(frozen=True)
class Record:
    """How an iteration went.

    Attributes
    ----------
    residuals : list of float
        Relative residual after each step.
    iterations : int
        Steps taken.
    converged : bool or None
        Whether the stopping rule was met before the steps ran out; None where the number of steps is fixed, though a rule
        may end them early.
    """

    residuals: list[float]
    iterations: int
    converged: bool | None

    def to_json(self) -> dict:
        """Return the record as a plain dict of list, int and bool."""
        return asdict(self)


@dataclass(frozen=True)
class Estimate:
    """What a denoiser returns.

    Attributes
    ----------
    cube : ndarray, shape (H, W, B), float32
        The denoised cube, in the unit of the noisy one and not clipped.
    record : list of Record or None
        One entry for each problem that was iterated (tile, band window, outer pass); None if nothing was.
    spread : ndarray, shape (H, W, B), or None
        How far apart the estimates lie that were averaged into `cube`, in its unit.
    """

    cube: np.ndarray
    record: list[Record] | None = None
    spread: np.ndarray | None = None


class Denoiser(ABC):
    """A method that maps a noisy cube to a clean one of the same shape.

    A subclass sets the attributes and writes `_denoise`; calling the object checks what goes in and comes out. A band that has
    a single value, as dead bands have, holds no image: it comes back as it is, and the method sees the others only. So do areas of
    one spectrum, as borders without data; the method sees the rest reflected there.

    Attributes
    ----------
    name : str
        Short name used in tables and file names.
    kind : str
        ``equilibrium``, ``learned``, ``model-driven`` or ``band-wise``.
    params : int
        Learnable parameters of its network; 0 if nothing is learned.
    """

    name: str
    kind: str
    params: int = 0

    def __call__(self, noisy: np.ndarray, *, progress: bool = False) -> Estimate:
        """Denoise a cube.

        Parameters
        ----------
        noisy : array, shape (H, W, B)
            Finite real numbers, nominally in [0, 1]; never changed. A UserWarning tells of one that looks like physical
            units, for which most methods are not made.
        progress : bool
            Show a progress bar.

        Returns
        -------
        Estimate

        Raises
        ------
        CubeError
            If `noisy` is not a cube of finite real numbers.
        RuntimeError
            If the method returned a cube of another shape or with values that are not finite.
        """
        cube = check_cube(noisy)
        dead, empty = without_image(cube)
        image = ~dead
        seen = cube if image.all() else np.ascontiguousarray(cube[:, :, image])
        if empty.any():
            seen = seen[stand_in(empty)]
        _warn_of_units(seen)
        estimate = self._denoise(seen, progress)
        with np.errstate(over="ignore"):
            estimate = replace(estimate, cube=np.asarray(estimate.cube, dtype=np.float32))
        if estimate.cube.shape != seen.shape:
            raise RuntimeError(f"{self.name} returned shape {estimate.cube.shape} for a cube of shape {seen.shape}")
        bad = int(np.count_nonzero(~np.isfinite(estimate.cube)))
        if bad:
            raise RuntimeError(f"{self.name} diverged: {bad} of {seen.size} values of its estimate are not finite")
        if image.all() and not empty.any():
            return estimate

        def whole(found: np.ndarray, elsewhere: np.ndarray | float) -> np.ndarray:
            values = np.zeros_like(cube)
            values[:, :, image] = found
            return np.where(image & ~empty[:, :, None], values, elsewhere)

        return replace(estimate, cube=whole(estimate.cube, cube), spread=None if estimate.spread is None else whole(estimate.spread, 0.0))

    @abstractmethod
    def _denoise(self, noisy: np.ndarray, progress: bool) -> Estimate:
        """Return the estimate for a checked float32 cube (H, W, B) that this method may overwrite."""


def _warn_of_units(cube: np.ndarray) -> None:
    """Warn the caller of a denoiser if `scenes` would not take the values of a cube for [0, 1] data, or a value for a datum."""
    least, low, high, most = np.percentile(cube, [0.1, 5, 95, 99.9])
    advice = "most methods are made for [0, 1]: read it with scenes.read or use Scene.from_physical"
    if low < REFLECTANCE_LIKE[0] or high > REFLECTANCE_LIKE[1]:
        warnings.warn(f"the cube looks like physical units, its values are mostly {low:.3g} to {high:.3g}; {advice}", UserWarning, stacklevel=3)
    elif 0 < most - least < REFLECTANCE_SPAN:
        warnings.warn(f"the cube is dark or flat, its values are mostly {least:.3g} to {most:.3g}; {advice}", UserWarning, stacklevel=3)
    far = max(cube.min(), cube.max(), key=lambda value: abs(value - low))
    if abs(far - low) > LARGEST * (most - least) > 0:
        others = f"all others ({least:.3g} to {most:.3g})"
        warnings.warn(
            f"the value {far:g} lies far from {others} and spoils its surroundings; if it means no data, fill it", UserWarning, stacklevel=3
        )
    elif low >= REFLECTANCE_LIKE[0] and (dark := dark_level(cube)) < DARKEST:
        warnings.warn(f"the darkest areas of the cube are at {dark:.3g}, not about 0; {advice}", UserWarning, stacklevel=3)


def check_cube(cube: np.ndarray) -> np.ndarray:
    """Return a float32 copy of a cube (H, W, B) in row-major order.

    Raises
    ------
    CubeError
        If it does not have three axes, is empty, does not hold real numbers, or holds NaN, infinite, masked or enormous values.
    """
    if hasattr(cube, "cube"):
        raise CubeError(f"a cube is an array, not of type {type(cube).__name__}; give its .cube")
    try:
        cube = real_numbers(cube, "the cube")
    except ValueError as error:
        raise CubeError(str(error)) from None
    if cube.ndim != 3:
        raise CubeError(f"a cube has three axes (H, W, B), not the shape {cube.shape}")
    if cube.size == 0:
        raise CubeError(f"the cube is empty: its shape is {cube.shape}")
    if cube.dtype.kind == "b":
        raise CubeError("the cube must hold real numbers, not bool")
    with np.errstate(over="ignore"):
        checked = np.array(cube, dtype=np.float32, order="C")
    bad = int(np.count_nonzero(~np.isfinite(checked)))
    if bad:
        nans = int(np.count_nonzero(np.isnan(checked)))
        raise CubeError(f"the cube has {nans} NaN and {bad - nans} infinite of {cube.size} values; fill them first")
    if (largest := float(max(-checked.min(), checked.max()))) > ENORMOUS:
        raise CubeError(f"the cube reaches {largest:.3g}; give it smaller units, best [0, 1]")
    return checked
