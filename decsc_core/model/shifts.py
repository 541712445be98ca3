"""Shift averaging: strided dictionaries see every pixel at `stride`^2 positions of their lattice (Simon and Elad, CSCNet, 2019).

Not mentioned in the paper; the released code always averages all 49 shifts of a stride of 7. Any subset works.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

Shift = tuple[int, int]


def all_shifts(stride: int) -> list[Shift]:
    """Every (row, column) shift, row-major as in the released code."""
    return [(i, j) for i in range(stride) for j in range(stride)]


def spread_shifts(stride: int, count: int) -> list[Shift]:
    """`count` of the stride^2 shifts, spread evenly by the R2 low-discrepancy sequence; the first `count` of a longer list.

    Raises
    ------
    ValueError
        If `count` is not between 1 and stride^2.
    """
    if not 1 <= count <= stride**2:
        raise ValueError(f"shifts={count} must be between 1 and {stride**2}, the number of shifts of a stride of {stride}")
    golden = 1.32471795724474602596
    chosen: dict[Shift, None] = {}
    k = 0
    while len(chosen) < count:
        chosen[int(stride * math.modf(k / golden)[0]), int(stride * math.modf(k / golden**2)[0])] = None
        k += 1
    return list(chosen)


def averaged_shifts(stride: int, count: int) -> list[Shift]:
    """The shifts of which an estimate is the mean: all, as the released code has them, or `count` spread ones.

    Raises
    ------
    ValueError
        As `spread_shifts`.
    """
    return all_shifts(stride) if count == stride**2 else spread_shifts(stride, count)


def reflect_index(side: int, before: int, after: int, device: torch.device | None = None) -> Tensor:
    """Indices that extend `side` samples by reflection without repeating the border, as often as it takes."""
    period = max(2 * (side - 1), 1)
    at = torch.arange(-before, side + after, device=device).remainder(period)
    return torch.where(at < side, at, period - at)


def base_padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Pixels added before and after one side so that atoms, at least one, tile the shifted image exactly."""
    return stride, max(stride + (-(side + stride - kernel)) % stride, kernel - side - stride)


def split_shifts(image: Tensor, kernel: int, stride: int, shifts: list[Shift]) -> Tensor:
    """Shifted, reflect-padded copies: (N, B, H, W) -> (len(shifts) * N, B, H', W'), shift-major, all of one size."""
    height, width = image.shape[-2:]
    top, bottom = base_padding(height, kernel, stride)
    left, right = base_padding(width, kernel, stride)
    copies = []
    for i, j in shifts:
        rows = reflect_index(height, top - i, bottom + i, image.device)
        columns = reflect_index(width, left - j, right + j, image.device)
        copies.append(image.index_select(-2, rows).index_select(-1, columns))
    return torch.cat(copies)


def crop_shifts(copies: Tensor, size: tuple[int, int], stride: int, shifts: list[Shift]) -> Tensor:
    """Undo `split_shifts`: (len(shifts) * N, B, H', W') -> (len(shifts), N, B, H, W) with (H, W) = `size`."""
    height, width = size
    crops = [
        copy[..., stride - i : stride - i + height, stride - j : stride - j + width]
        for (i, j), copy in zip(shifts, copies.chunk(len(shifts)))
    ]
    return torch.stack(crops)
