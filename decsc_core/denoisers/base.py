"""What every denoiser is: a noisy cube in, an estimate of the same shape out, with the evidence it has."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, replace

import numpy as np

from decsc_core.bands import fill_from_nearest, single_valued


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
    a single value, as dead bands have, holds no image: it comes back as it is, and the method sees its nearest neighbour in its place.

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
        single, value = single_valued(cube), cube[0, 0].copy()
        fill_from_nearest(cube, single)
        _warn_of_units(cube)
        estimate = self._denoise(cube, progress)
        with np.errstate(over="ignore"):
            estimate = replace(estimate, cube=np.asarray(estimate.cube, dtype=np.float32))
        if estimate.cube.shape != cube.shape:
            raise RuntimeError(f"{self.name} returned shape {estimate.cube.shape} for a cube of shape {cube.shape}")
        bad = int(np.count_nonzero(~np.isfinite(estimate.cube)))
        if bad:
            raise RuntimeError(f"{self.name} diverged: {bad} of {cube.size} values of its estimate are not finite")
        if single.any():
            spread = None if estimate.spread is None else np.where(single, 0, estimate.spread)
            estimate = replace(estimate, cube=np.where(single, value, estimate.cube), spread=spread)
        return estimate

    @abstractmethod
    def _denoise(self, noisy: np.ndarray, progress: bool) -> Estimate:
        """Return the estimate for a checked float32 cube (H, W, B) that this method may overwrite."""


def _warn_of_units(cube: np.ndarray) -> None:
    """Warn the caller of a denoiser if `scenes` would not take the values of a cube for [0, 1] data."""
    from decsc_core.scenes.scene import REFLECTANCE_LIKE  # here, for it loads every library that reads files

    low, high = np.percentile(cube, [5, 95])
    if low < REFLECTANCE_LIKE[0] or high > REFLECTANCE_LIKE[1]:
        warnings.warn(
            f"the cube looks like physical units, its values are mostly {low:.3g} to {high:.3g}; most methods are made for "
            "[0, 1]: read it with scenes.read or use Scene.from_physical", UserWarning, stacklevel=3,
        )


def check_cube(cube: np.ndarray) -> np.ndarray:
    """Return a float32 copy of a cube (H, W, B) in row-major order.

    Raises
    ------
    CubeError
        If it does not have three axes, is empty, does not hold real numbers, or holds NaN or infinite values.
    """
    cube = np.asarray(cube)
    if cube.ndim != 3:
        raise CubeError(f"a cube has three axes (H, W, B), not the shape {cube.shape}")
    if cube.size == 0:
        raise CubeError(f"the cube is empty: its shape is {cube.shape}")
    if cube.dtype.kind not in "fiu":
        raise CubeError(f"a cube holds real numbers, not {cube.dtype}")
    with np.errstate(over="ignore"):
        checked = np.array(cube, dtype=np.float32, order="C")
    bad = int(np.count_nonzero(~np.isfinite(checked)))
    if bad:
        nans = int(np.count_nonzero(np.isnan(checked)))
        raise CubeError(f"the cube has {nans} NaN and {bad - nans} infinite of {cube.size} values; fill them first")
    return checked
