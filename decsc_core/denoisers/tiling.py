"""Cutting large images into overlapping tiles and long spectra into windows, and putting the pieces together again."""

from __future__ import annotations

from itertools import product

import numpy as np

OVERLAP = 32
"""Pixels over which neighbouring tiles of a network are blended."""


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
    """Tiles blended over `overlap` pixels, as few of at most tile x tile pixels as cover the image, and as small as they may be.

    With bands to spare, each tile is cut into half-overlapping windows of `bands` bands; with too few, there is one window, of the
    bands that `reflect_bands` extends the cube to. Returns where each piece of a cube of `shape` (H, W, B) lies, and its weights (h, w, 1).
    """
    overlap = min(overlap, tile // 4)
    (tops, height), (lefts, width) = (_cover(length, tile, overlap) for length in shape[:2])
    blend = ramp(height, overlap)[:, None, None] * ramp(width, overlap)[None, :, None]
    corners = product(tops, lefts, starts(max(shape[2], bands), bands, max(bands // 2, 1)))
    return [
        (np.s_[top : top + height, left : left + width, first : first + bands], blend) for top, left, first in corners
    ]


def _cover(length: int, tile: int, overlap: int) -> tuple[list[int], int]:
    """First samples and side of as few tiles as cover `length` samples, `overlap` of them shared by neighbours."""
    count = len(starts(length, tile, tile - overlap))
    side = min(length, -(-(length + (count - 1) * overlap) // count))
    return starts(length, side, max(side - overlap, 1)), side
