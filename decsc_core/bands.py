"""Bands of a cube that hold no image."""

from __future__ import annotations

import numpy as np


def single_valued(cube: np.ndarray) -> np.ndarray:
    """True for bands (B,) of (H, W, B) that have one value in all pixels, as dead ones have; nowhere if all bands do."""
    single = (cube == cube[:1, :1]).all(axis=(0, 1))
    return single & (not single.all())
