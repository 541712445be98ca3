"""Bands of a cube that hold no image, and what stands in for them."""

from __future__ import annotations

import numpy as np


def single_valued(cube: np.ndarray) -> np.ndarray:
    """True for bands (B,) of (H, W, B) that have one value in all pixels, as dead ones have; nowhere if all bands do."""
    single = (cube == cube[:1, :1]).all(axis=(0, 1))
    return single & (not single.all())


def fill_from_nearest(cube: np.ndarray, empty: np.ndarray) -> None:
    """Overwrite the bands of (H, W, B) that `empty` (B,) marks, each by the nearest one that it does not mark."""
    used = np.flatnonzero(~empty)
    for band in np.flatnonzero(empty):
        cube[:, :, band] = cube[:, :, used[np.argmin(np.abs(used - band))]]
