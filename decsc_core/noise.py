"""The paper's synthetic noise, Y = X + N (Eq. 1): every case is a function of a clean cube and a generator.

| case | what it does |
|---|---|
| ``gauss-15``, ``gauss-55``, ``gauss-95`` | non-i.i.d. Gaussian: each band its own sigma, uniform in [0, s] |
| ``mixture-disjoint``, also named ``mixture`` | ``gauss-95``, then impulses, stripes, deadlines on disjoint thirds |
| ``mixture-independent`` | the same, each on a third drawn on its own, so a band may collect several |
| ``corr`` | Gaussian whose sigma follows a bell curve over the bands (Eq. 26) |

Nothing is clipped to [0, 1], and the clean cube is never changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from decsc_core.checks import real_numbers

IMPULSE_FRACTIONS = (0.1, 0.3, 0.5, 0.7)
STRIPE_AMPLITUDE = 0.25
COLUMN_SHARE = (0.05, 0.15)


@dataclass(frozen=True)
class Degradation:
    """What was done to a cube.

    Attributes
    ----------
    case : str
        Key of `CASES`; the alias ``mixture`` is recorded as ``mixture-disjoint``.
    sigmas : tuple of B floats
        Gaussian standard deviation of each band, on the 0-255 scale.
    impulse : dict band -> float
        Probability with which a pixel of that band was replaced by 0 or 1.
    stripes : dict band -> dict column -> float
        Constant added to each striped column, in the unit of the cube.
    deadlines : dict band -> tuple of int
        Columns set to 0.
    """

    case: str
    sigmas: tuple[float, ...]
    impulse: dict[int, float] = field(default_factory=dict)
    stripes: dict[int, dict[int, float]] = field(default_factory=dict)
    deadlines: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def to_json(self) -> dict:
        """Return the record as plain lists, numbers and dicts with string keys."""
        return {
            "case": self.case,
            "sigmas": list(self.sigmas),
            "impulse": {str(band): fraction for band, fraction in self.impulse.items()},
            "stripes": {
                str(band): {"columns": list(offsets), "offsets": list(offsets.values())}
                for band, offsets in self.stripes.items()
            },
            "deadlines": {str(band): list(columns) for band, columns in self.deadlines.items()},
        }


def non_iid_gaussian(
    cube: np.ndarray, rng: np.random.Generator, *, case: str, level: float
) -> tuple[np.ndarray, Degradation]:
    """Add Gaussian noise whose sigma is drawn per band, uniform in [0, `level`] (0-255 scale)."""
    cube = _checked(cube)
    sigmas = rng.uniform(0, level, cube.shape[2])
    return _add_gaussian(cube, sigmas, rng), Degradation(case, tuple(sigmas.tolist()))


def mixture(
    cube: np.ndarray, rng: np.random.Generator, *, case: str, disjoint: bool, level: float
) -> tuple[np.ndarray, Degradation]:
    """Add non-i.i.d. Gaussian noise in [0, `level`], then impulses, stripes and deadlines, each on floor(B / 3) bands.

    The paper says "one third of the bands" for each, which can be read as three disjoint thirds (`disjoint`)
    or as a third drawn independently for each noise. With fewer than three bands floor(B / 3) is 0 and only
    the Gaussian noise is added.
    """
    cube = _checked(cube)
    bands = cube.shape[2]
    third = bands // 3
    sigmas = rng.uniform(0, level, bands)
    if disjoint:
        impulsive, striped, dead = rng.permutation(bands)[: 3 * third].reshape(3, third)
    else:
        impulsive, striped, dead = (rng.choice(bands, third, replace=False) for _ in range(3))
    noisy = _add_gaussian(cube, sigmas, rng)
    return noisy, Degradation(
        case,
        tuple(sigmas.tolist()),
        impulse=_impulse(noisy, impulsive, rng),
        stripes=_stripe(noisy, striped, rng),
        deadlines=_deadline(noisy, dead, rng),
    )


def correlated(cube: np.ndarray, rng: np.random.Generator, *, level: float) -> tuple[np.ndarray, Degradation]:
    r"""Add Gaussian noise whose sigma depends smoothly on the band.

    .. math:: \sigma_i = \beta \exp\left(-\frac{(i/c - 1/2)^2}{4 \eta^2}\right), \quad i = 0, \dots, B - 1

    Source: paper Eq. (26), with beta = `level` = 23.08 (0-255 scale), eta = 0.157 and c = B; this c gives the 28.22 dB
    that Table II prints for the noisy 31-band cubes.
    """
    cube = _checked(cube)
    beta, eta = level, 0.157
    c = cube.shape[2]
    i = np.arange(c)
    sigmas = beta * np.exp(-((i / c - 0.5) ** 2) / (4 * eta**2))
    return _add_gaussian(cube, sigmas, rng), Degradation("corr", tuple(sigmas.tolist()))


CASES: dict[str, Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, Degradation]]] = {
    "gauss-15": partial(non_iid_gaussian, case="gauss-15", level=15),
    "gauss-55": partial(non_iid_gaussian, case="gauss-55", level=55),
    "gauss-95": partial(non_iid_gaussian, case="gauss-95", level=95),
    "mixture": partial(mixture, case="mixture-disjoint", disjoint=True, level=95),
    "mixture-disjoint": partial(mixture, case="mixture-disjoint", disjoint=True, level=95),
    "mixture-independent": partial(mixture, case="mixture-independent", disjoint=False, level=95),
    "corr": partial(correlated, level=23.08),
}
LEVELS: dict[str, float] = {name: case.keywords["level"] for name, case in CASES.items()}
"""The paper's level of each case, 0-255 scale: the highest sigma a band may draw; for ``corr`` beta of Eq. (26)."""


def add_noise(
    cube: np.ndarray, case: str, rng: np.random.Generator, level: float | None = None
) -> tuple[np.ndarray, Degradation]:
    """Degrade a clean cube by one of the paper's noise cases.

    Parameters
    ----------
    cube : array, shape (H, W, B)
        Clean cube of finite real numbers, nominally in [0, 1]; it is not changed.
    case : str
        A key of `CASES`.
    rng : np.random.Generator
        The only source of randomness: the same cube, case, level and generator state give the same result.
    level : float, optional
        Strength of the Gaussian part on the 0-255 scale, in place of the paper's; see `LEVELS`.

    Returns
    -------
    noisy : ndarray, shape (H, W, B), float32
        Not clipped.
    degradation : Degradation
        What was drawn.

    Raises
    ------
    ValueError
        If `case` is unknown, `level` is negative or infinite, or `cube` is not (H, W, B), is empty, or does not hold finite real
        numbers (see `checks.real_numbers`).
    """
    if case not in CASES:
        raise ValueError(f"unknown noise case {case!r}; choose one of {', '.join(CASES)}")
    if level is None:
        return CASES[case](cube, rng)
    if not 0 <= level < np.inf:
        raise ValueError(f"the noise level must be a number of at least 0, not {level}")
    return CASES[case](cube, rng, level=level)


def _checked(cube: ArrayLike) -> np.ndarray:
    """The cube as an array; a ValueError if it is not (H, W, B), none of them 0, of real numbers that are finite in float32."""
    cube = real_numbers(cube, "the cube")
    if cube.ndim != 3:
        raise ValueError(f"noise needs a cube (H, W, B), not an array of shape {cube.shape}")
    if cube.size == 0:
        raise ValueError(f"the cube is empty: its shape is {cube.shape}")
    with np.errstate(over="ignore"):
        bad = cube.size - np.count_nonzero(np.isfinite(cube.astype(np.float32, copy=False)))
    if bad:
        raise ValueError(f"{bad} of {cube.size} values of the cube are NaN, infinite or beyond float32; fill them first")
    return cube


def _add_gaussian(cube: np.ndarray, sigmas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a new float32 cube with noise of `sigmas` (B,) on the 0-255 scale."""
    noisy = rng.standard_normal(cube.shape, dtype=np.float32)
    noisy *= (sigmas / 255).astype(np.float32)
    noisy += cube
    return noisy


def _impulse(noisy: np.ndarray, bands: np.ndarray, rng: np.random.Generator) -> dict[int, float]:
    """Replace, in place, a random share of each band's pixels by 0 or 1 with equal probability."""
    height, width, _ = noisy.shape
    drawn = {}
    for band in bands.tolist():
        fraction = float(rng.choice(IMPULSE_FRACTIONS))
        chance = rng.random((height, width), dtype=np.float32)
        noisy[..., band][chance < fraction] = 1
        noisy[..., band][chance < fraction / 2] = 0
        drawn[band] = fraction
    return drawn


def _stripe(noisy: np.ndarray, bands: np.ndarray, rng: np.random.Generator) -> dict[int, dict[int, float]]:
    """Add, in place, a constant in [-0.25, 0.25] to some columns of each band."""
    drawn = {}
    for band in bands.tolist():
        columns = _columns(noisy.shape[1], np.floor, rng)
        offsets = rng.uniform(-STRIPE_AMPLITUDE, STRIPE_AMPLITUDE, columns.size).astype(np.float32)
        noisy[:, columns, band] += offsets
        drawn[band] = dict(zip(columns.tolist(), offsets.tolist()))
    return drawn


def _deadline(noisy: np.ndarray, bands: np.ndarray, rng: np.random.Generator) -> dict[int, tuple[int, ...]]:
    """Set, in place, some columns of each band to 0."""
    drawn = {}
    for band in bands.tolist():
        columns = _columns(noisy.shape[1], np.ceil, rng)
        noisy[:, columns, band] = 0
        drawn[band] = tuple(columns.tolist())
    return drawn


def _columns(width: int, rounding: Callable[[float], float], rng: np.random.Generator) -> np.ndarray:
    """Draw distinct columns, their number in [rounding(0.05 W), rounding(0.15 W)) or its lower end if that is empty."""
    fewest, end = (int(rounding(share * width)) for share in COLUMN_SHARE)
    count = int(rng.integers(fewest, max(end, fewest + 1)))
    return np.sort(rng.choice(width, count, replace=False))
