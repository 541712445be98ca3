"""model.shifts: splitting and cropping, the padding of the released code, and which shifts a subset holds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from decsc_core.model.dictionary import code_side
from decsc_core.model.shifts import all_shifts, base_padding, crop_shifts, reflect_index, split_shifts, spread_shifts

GEOMETRIES = [(9, 7), (9, 4), (5, 3), (9, 9), (9, 2), (3, 1)]
"""Kernel and stride: the paper's network, the presets, and both ends of what a configuration may hold."""


def image(*shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal(shape))


@pytest.mark.parametrize("kernel, stride", GEOMETRIES)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2), (5, 7), (17, 4), (31, 33), (64, 64)])
def test_splitting_and_cropping_give_the_image_back(kernel, stride, size):
    clean, shifts = image(2, 3, *size), all_shifts(stride)
    copies = split_shifts(clean, kernel, stride, shifts)
    crops = crop_shifts(copies, size, stride, shifts)
    assert crops.shape == (len(shifts), 2, 3, *size)
    assert (crops == clean).all()


@pytest.mark.parametrize("kernel, stride", GEOMETRIES)
def test_atoms_tile_every_copy(kernel, stride):
    for side in (*range(1, 40), 64, 200):
        padded = split_shifts(image(1, 1, side, side + 1), kernel, stride, [(0, 0)]).shape[-2:]
        for length, original in zip(padded, (side, side + 1)):
            assert length >= max(kernel, original + stride), side
            assert (length - kernel) % stride == 0, side


@pytest.mark.parametrize("side, padded, codes", [
    (64, 79, 11), (128, 142, 20), (200, 219, 31), (256, 275, 39), (300, 317, 45), (512, 527, 75), (32, 51, 7),
])
def test_sizes_of_the_released_code(side, padded, codes):
    assert side + sum(base_padding(side, 9, 7)) == padded
    assert code_side(padded, 9, 7) == codes


@pytest.mark.parametrize("kernel, stride", [(9, 7), (9, 4), (5, 3)])
@pytest.mark.parametrize("size", [(32, 41), (20, 27)])
def test_padding_is_reflection(kernel, stride, size):
    clean, shifts = image(2, 3, *size), all_shifts(stride)
    (top, bottom), (left, right) = (base_padding(side, kernel, stride) for side in size)
    expected = torch.cat([
        F.pad(clean, (left - j, right + j, top - i, bottom + i), mode="reflect") for i, j in shifts
    ])
    assert torch.equal(split_shifts(clean, kernel, stride, shifts), expected)


@pytest.mark.parametrize("side", [1, 2, 3, 7])
def test_reflection_goes_on_where_one_is_not_enough(side):
    row = np.random.default_rng(1).standard_normal(side)
    expected = np.pad(row, (11, 17), mode="reflect")
    np.testing.assert_array_equal(row[reflect_index(side, 11, 17).numpy()], expected)


def test_copies_are_shift_major():
    clean, shifts = image(3, 2, 10, 11), [(2, 0), (0, 1)]
    copies = split_shifts(clean, 5, 3, shifts)
    for number, shift in enumerate(shifts):
        torch.testing.assert_close(copies[3 * number : 3 * number + 3], split_shifts(clean, 5, 3, [shift]))
    crops = crop_shifts(copies + torch.arange(2.0).repeat_interleave(3)[:, None, None, None], (10, 11), 3, shifts)
    torch.testing.assert_close(crops, torch.stack([clean, clean + 1]))


def test_a_copy_is_the_image_moved_by_its_shift():
    clean, shifts = image(1, 1, 20, 20), all_shifts(7)
    copies = split_shifts(clean, 9, 7, shifts)
    for (i, j), copy in zip(shifts, copies):
        assert torch.equal(copy[:, 7 - i : 27 - i, 7 - j : 27 - j], clean[0])


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 7])
def test_all_shifts_are_every_pair_row_major(stride):
    assert all_shifts(stride) == [divmod(k, stride) for k in range(stride**2)]


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 5, 6, 7, 8, 9])
def test_spread_shifts_are_distinct_and_nested(stride):
    longest = spread_shifts(stride, stride**2)
    assert sorted(longest) == all_shifts(stride)
    for count in range(1, stride**2):
        assert spread_shifts(stride, count) == longest[:count]


def largest_hole(stride: int, chosen: list[tuple[int, int]]) -> float:
    """Distance from the worst-served shift to the nearest of those chosen; shifts repeat with the stride."""
    def distance(a: tuple[int, int], b: tuple[int, int]) -> float:
        return math.hypot(*(min((p - q) % stride, (q - p) % stride) for p, q in zip(a, b)))

    return max(min(distance(shift, near) for near in chosen) for shift in all_shifts(stride))


@pytest.mark.parametrize("stride, count", [(7, 2), (7, 4), (7, 7), (7, 9), (7, 13), (7, 25), (4, 2), (4, 4)])
def test_spread_shifts_leave_smaller_holes_than_random_ones(stride, count):
    every, rng = all_shifts(stride), np.random.default_rng(0)
    draws = [[every[k] for k in rng.choice(len(every), count, replace=False)] for _ in range(200)]
    random = np.mean([largest_hole(stride, draw) for draw in draws])
    assert largest_hole(stride, spread_shifts(stride, count)) < 0.95 * random


@pytest.mark.parametrize("count", [0, -1, 50])
def test_impossible_numbers_of_shifts_are_refused(count):
    with pytest.raises(ValueError, match=rf"^shifts={count} must be between 1 and 49"):
        spread_shifts(7, count)
