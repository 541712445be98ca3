"""Block matching against plain loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from decsc_core.denoisers.classical import matching

SHAPES = [(13, 17), (9, 10, 6)]


def image(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).random(shape))


def patch(volume: torch.Tensor, corner: tuple[int, ...], side: int) -> torch.Tensor:
    return volume[tuple(slice(i, i + side) for i in corner)]


def neighbours(volume: torch.Tensor, corner: tuple[int, ...], side: int, half_window: int) -> list[tuple[int, ...]]:
    """The corners in the search window, by distance, literally."""
    last = [length - side for length in volume.shape]
    ranges = [range(max(i - half_window, 0), min(i + half_window, end) + 1) for i, end in zip(corner, last)]
    here = patch(volume, corner, side)
    return sorted(itertools.product(*ranges), key=lambda c: float((patch(volume, c, side) - here).square().sum()))


@pytest.mark.parametrize(("end", "rows"), [("last", [0, 4, 8, 10]), ("all", [0, 4, 8, 9, 10])])
def test_grid(end, rows):
    corners = matching.grid((13, 11), 3, 4, end=end)
    assert corners.tolist() == [[row, column] for row in rows for column in (0, 4, 8)]


@pytest.mark.parametrize("end", ["last", "all"])
def test_grid_of_an_image_as_small_as_the_patch(end):
    assert matching.grid((3, 5, 3), 3, 2, end=end).tolist() == [[0, 0, 0], [0, 2, 0]]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("budget", [1, 2**27])
def test_nearest_is_the_sorted_search_window(shape, budget, monkeypatch):
    monkeypatch.setattr(matching, "BUDGET", budget)
    volume = image(*shape)
    corners = matching.grid(shape, 3, 4, end="all")
    found = matching.nearest(volume, corners, 3, 2, 7)
    assert found.shape == (len(corners), 7, len(shape))
    for corner, ours in zip(corners.tolist(), found.tolist()):
        assert [tuple(c) for c in ours] == neighbours(volume, tuple(corner), 3, 2)[:7]


def test_nearest_takes_any_references():
    volume = image(12, 12)
    corners = torch.tensor([[5, 2], [0, 9], [5, 2], [3, 3]])
    found = matching.nearest(volume, corners, 3, 4, 5)
    for corner, ours in zip(corners.tolist(), found.tolist()):
        assert [tuple(c) for c in ours] == neighbours(volume, tuple(corner), 3, 4)[:5]


def test_nearest_takes_no_more_than_the_smallest_window_holds():
    volume = image(6, 30)
    corners = matching.grid(volume.shape, 4, 3, end="last")
    found = matching.nearest(volume, corners, 4, 2, 50)
    assert found.shape == (len(corners), 9, 2)
    assert found.amin() >= 0 and (found <= torch.tensor([2, 26])).all()


def test_the_reference_comes_first_where_all_patches_are_equal():
    corners = matching.grid((12, 12), 4, 3, end="last")
    found = matching.nearest(torch.ones(12, 12), corners, 4, 3, 6)
    assert torch.equal(found[:, 0], corners)
    assert len({tuple(c) for c in found[4].tolist()}) == 6


@pytest.mark.parametrize("shape", [*SHAPES, (8, 9, 4)])
def test_gather_and_scatter_add(shape):
    """With corners of two coordinates the third axis is taken whole."""
    volume, axes = image(*shape), 3 if shape == SHAPES[1] else 2
    corners = torch.tensor([[[0, 1, 2], [4, 4, 3]], [[5, 2, 0], [4, 5, 1]]])[..., :axes]
    patches = matching.gather(volume, corners, 3)
    assert patches.shape == (2, 2, 3**axes, *shape[axes:])
    total, expected = torch.ones(shape, dtype=torch.float64), torch.ones(shape, dtype=torch.float64)
    matching.scatter_add(total, corners, patches, 3)
    for i, j in itertools.product(range(2), repeat=2):
        corner = tuple(corners[i, j].tolist())
        torch.testing.assert_close(patches[i, j], patch(volume, corner, 3).reshape(patches[i, j].shape))
        patch(expected, corner, 3).add_(patch(volume, corner, 3))
    torch.testing.assert_close(total, expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_spread_is_the_sum_of_the_weights_of_the_covering_patches(shape):
    corners = matching.grid(shape, 3, 2, end="last")
    weights = torch.arange(1.0, len(corners) + 1)
    at_corners, expected = torch.zeros(shape), torch.zeros(shape)
    matching.scatter_add(at_corners, corners, weights, 1)
    for corner, weight in zip(corners.tolist(), weights):
        patch(expected, tuple(corner), 3).add_(weight)
    torch.testing.assert_close(matching.spread(at_corners, 3), expected)


def test_a_side_for_each_axis():
    """Cubes as deep as the volume are the patches of all its bands."""
    volume = image(9, 10, 2)
    sides = (3, 4, 2)
    corners = matching.grid(volume.shape, sides, 3, end="last")
    assert corners.tolist() == [[row, column, 0] for row in (0, 3, 6) for column in (0, 3, 6)]
    found = matching.nearest(volume, corners, sides, 2, 5)
    cubes = matching.gather(volume, found, sides)
    for here, ours in zip(found[:, 0].tolist(), cubes):
        row, column, _ = here
        center = volume[row : row + 3, column : column + 4].flatten()
        nearby = [
            volume[i : i + 3, j : j + 4].flatten()
            for i in range(max(row - 2, 0), min(row + 2, 6) + 1)
            for j in range(max(column - 2, 0), min(column + 2, 6) + 1)
        ]
        nearby.sort(key=lambda cube: float((cube - center).square().sum()))
        torch.testing.assert_close(ours, torch.stack(nearby[:5]))
    at_corners, expected = torch.zeros(volume.shape), torch.zeros(volume.shape)
    matching.scatter_add(at_corners, corners, torch.ones(len(corners)), 1)
    matching.scatter_add(expected, corners, torch.ones(len(corners), 24), sides)
    torch.testing.assert_close(matching.spread(at_corners, sides), expected)
