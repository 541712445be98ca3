"""How close an estimate is to a reference: PSNR, SSIM, SAM, and the row-mean and column-mean profiles.

Cubes are (H, W, B), nominally in [0, 1]; the reference comes first, and neither cube is clipped. PSNR and both
forms of SSIM are computed band by band and then averaged over the bands; SAM is an angle in radians. Every
function raises ValueError if cubes differ in shape, are not (H, W, B) or are empty, or do not hold real numbers; NaN is one,
and gives NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from skimage.metrics import structural_similarity

from decsc_core.checks import real_numbers

SSIM_WINDOW = 11


def psnr_per_band(reference: np.ndarray, estimate: np.ndarray) -> np.ndarray:
    """Return the peak signal-to-noise ratio of each band, for a peak of 1.

    Parameters
    ----------
    reference, estimate : ndarray, shape (H, W, B)

    Returns
    -------
    ndarray, shape (B,), float64
        -10 log10 of the mean squared error, in dB; infinite where the two bands are equal.
    """
    reference, estimate = _pair(reference, estimate)
    with np.errstate(divide="ignore"):
        return -10 * np.log10(np.mean((reference - estimate) ** 2, axis=(0, 1)))


def mpsnr(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Return the mean over bands of `psnr_per_band`, in dB; infinite if any band is reproduced exactly."""
    return float(psnr_per_band(reference, estimate).mean())


def ssim(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Return the windowed structural similarity, the paper's convention.

    Gaussian window of 11 x 11 pixels with standard deviation 1.5, K1 = 0.01, K2 = 0.03, range 1, population
    covariance, and only windows that lie wholly inside the image; mean over bands.

    Raises
    ------
    ValueError
        Also if a side of the image is shorter than the window.
    """
    reference, estimate = _pair(reference, estimate)
    if min(reference.shape[:2]) < SSIM_WINDOW:
        raise ValueError(
            f"SSIM needs images of at least {SSIM_WINDOW} x {SSIM_WINDOW} pixels, not "
            f"{reference.shape[0]} x {reference.shape[1]}"
        )
    per_band = [
        structural_similarity(
            reference[..., band],
            estimate[..., band],
            win_size=SSIM_WINDOW,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1,
        )
        for band in range(reference.shape[2])
    ]
    return float(np.mean(per_band))


def ssim_global(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Return the structural similarity of whole bands, each taken as a single window; mean over bands.

    C1 = 1e-4 and C2 = 9e-4. This is the convention of the SST and SERT evaluation code; on noisy images it is
    much higher than the windowed `ssim`, so the two must never share a column.
    """
    reference, estimate = _pair(reference, estimate)
    c1, c2 = 1e-4, 9e-4
    mean_r, mean_e = reference.mean(axis=(0, 1)), estimate.mean(axis=(0, 1))
    covariance = np.mean((reference - mean_r) * (estimate - mean_e), axis=(0, 1))
    luminance = (2 * mean_r * mean_e + c1) / (mean_r**2 + mean_e**2 + c1)
    structure = (2 * covariance + c2) / (reference.var(axis=(0, 1)) + estimate.var(axis=(0, 1)) + c2)
    return float(np.mean(luminance * structure))


def sam(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Return the mean spectral angle over the pixels, in radians.

    The norms carry a small constant and the cosine is clipped to [-1, 1], so a cube against itself gives 0 (to
    rounding) and never NaN. A pixel that is 0 in all bands of one cube has no direction and counts as a right
    angle, pi / 2, unless it is 0 in both, which counts as 0.
    """
    reference, estimate = _pair(reference, estimate)
    norm_r, norm_e = np.linalg.norm(reference, axis=2), np.linalg.norm(estimate, axis=2)
    cosine = np.sum(reference * estimate, axis=2) / (norm_r * norm_e + np.finfo(float).tiny)
    angle = np.arccos(np.clip(cosine, -1, 1))
    return float(np.mean(np.where((norm_r == 0) & (norm_e == 0), 0, angle)))


def row_mean(cube: np.ndarray, band: int) -> np.ndarray:
    """Return the row-mean profile of one band: the mean over the columns of each row, shape (H,)."""
    return np.mean(_cube(cube, "the cube")[:, :, band], axis=1, dtype=np.float64)


def column_mean(cube: np.ndarray, band: int) -> np.ndarray:
    """Return the column-mean profile of one band: the mean over the rows of each column, shape (W,)."""
    return np.mean(_cube(cube, "the cube")[:, :, band], axis=0, dtype=np.float64)


def scores(reference: np.ndarray, estimate: np.ndarray) -> dict[str, float]:
    """Return all scores of an estimate: ``psnr`` [dB], ``ssim`` (windowed), ``ssim_global``, ``sam`` [rad]."""
    return {
        "psnr": mpsnr(reference, estimate),
        "ssim": ssim(reference, estimate),
        "ssim_global": ssim_global(reference, estimate),
        "sam": sam(reference, estimate),
    }


def _cube(cube: ArrayLike, name: str) -> np.ndarray:
    """Return a cube as an array after checking that it is one (H, W, B) of real numbers."""
    cube = real_numbers(cube, name)
    if cube.ndim != 3 or cube.size == 0:
        raise ValueError(f"{name} {cube.shape} must be a cube (H, W, B), none of them 0")
    return cube


def _pair(reference: ArrayLike, estimate: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return both cubes as float64 after checking that their shapes are one and the same (H, W, B)."""
    reference, estimate = _cube(reference, "reference"), _cube(estimate, "estimate")
    if reference.shape != estimate.shape:
        raise ValueError(
            f"reference {reference.shape} and estimate {estimate.shape} must both be cubes of one shape (H, W, B)"
        )
    return reference.astype(np.float64), estimate.astype(np.float64)
