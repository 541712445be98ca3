"""Parts of cubes, and numbers that say what one is like: its rank, and the PSNR that the noise drawn for it should leave."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from decsc_core.noise import Degradation


def centre(cube: np.ndarray, side: int) -> np.ndarray:
    """The centre of a cube (H, W, B), at most `side` pixels a side; ValueError if that is none."""
    if side < 1:
        raise ValueError(f"the centre of a scene, {side} pixels a side, is empty; take at least 1")
    top, left = (max(length - side, 0) // 2 for length in cube.shape[:2])
    return cube[top : top + side, left : left + side]


def lit_bands(cube: np.ndarray, bands: Sequence[int]) -> tuple[int, ...]:
    """The bands of a cube (H, W, B), from 1, nearest to those asked for that are not nearly empty: they span more than 0.1.

    What a band spans is the difference of its 0.5th and 99.5th percentiles. If all are nearly empty, those asked for.
    """
    low, high = np.percentile(cube, (0.5, 99.5), axis=(0, 1))
    lit = np.flatnonzero(high - low > 0.1) + 1
    return tuple(int(lit[np.argmin(np.abs(lit - band))]) for band in bands) if len(lit) else tuple(bands)


def numerical_rank(cube: np.ndarray, share: float = 0.9999) -> int:
    """How many singular values of the (pixels x bands) matrix of a cube (H, W, B) hold `share` of its energy."""
    matrix = cube.reshape(-1, cube.shape[2]).astype(np.float64)
    energy = np.linalg.eigvalsh(matrix.T @ matrix)[::-1]
    return int(np.searchsorted(np.cumsum(energy), share * energy.sum())) + 1


def expected_psnr_per_band(clean: np.ndarray, degradation: Degradation) -> np.ndarray:
    """The PSNR [dB] of each noisy band, from what was drawn: -10 log10 of the expected squared error, shape (B,).

    The Gaussian adds its variance; an impulse replaces it, with the given probability, by the distance to 0 or 1; a
    stripe adds its square in its columns; a deadline leaves the value itself as the error in its columns.

    Parameters
    ----------
    clean : ndarray, shape (H, W, B)
    degradation : Degradation
        What was drawn for it.
    """
    error = np.broadcast_to((np.asarray(degradation.sigmas) / 255) ** 2, clean.shape).copy()
    for band, share in degradation.impulse.items():
        x = clean[..., band].astype(np.float64)
        error[..., band] = (1 - share) * error[..., band] + share * (x**2 + (1 - x) ** 2) / 2
    for band, offsets in degradation.stripes.items():
        error[:, list(offsets), band] += np.square(list(offsets.values()))
    for band, columns in degradation.deadlines.items():
        error[:, list(columns), band] = clean[:, list(columns), band] ** 2
    return -10 * np.log10(error.mean(axis=(0, 1)))
