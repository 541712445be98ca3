"""Cutting large images into overlapping tiles and long spectra into windows, and putting the pieces together again."""

from __future__ import annotations

from itertools import product

import numpy as np


def starts(length: int, piece: int, step: int) -> list[int]:
    """First samples of evenly spaced pieces that cover `length` samples, at most `step` apart.

    One piece, at 0, where `length` does not exceed `piece`.
    """
    if length <= piece:
        return [0]
    count = 1 + -(-(length - piece) // step)
    return [round(i * (length - piece) / (count - 1)) for i in range(count)]


def ramp(side: int, overlap: int) -> np.ndarray:
    """Weights of one tile side: 1 inside, falling linearly towards both ends over `overlap` pixels, never 0."""
    distance = np.minimum(np.arange(side), np.arange(side)[::-1]) + 1
    return np.minimum(distance / (overlap + 1), 1).astype(np.float32)


def reflect_bands(cube: np.ndarray, bands: int) -> np.ndarray:
    """Extend (H, W, B) to at least `bands` bands by reflection at the last one, without repeating it."""
    return np.pad(cube, ((0, 0), (0, 0), (0, max(bands - cube.shape[2], 0))), mode="reflect" if cube.shape[2] > 1 else "edge")


def pieces(
    shape: tuple[int, int, int], tile: int, overlap: int, bands: int
) -> list[tuple[tuple[slice, ...], np.ndarray]]:
    """Tiles of at most tile x tile pixels, blended over `overlap` pixels, in half-overlapping windows of `bands` bands.

    Returns where each piece of a cube of `shape` (H, W, B >= `bands`) lies, and its weights (h, w, 1).
    """
    height, width, depth = shape
    overlap = min(overlap, tile // 4)
    step = tile - overlap
    h, w = min(tile, height), min(tile, width)
    blend = ramp(h, overlap)[:, None, None] * ramp(w, overlap)[None, :, None]
    corners = product(starts(height, tile, step), starts(width, tile, step), starts(depth, bands, bands // 2))
    return [(np.s_[top : top + h, left : left + w, first : first + bands], blend) for top, left, first in corners]
