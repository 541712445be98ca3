"""The nonlocal low-rank step against singular value decompositions and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from decsc_core.denoisers.classical import nonlocal_groups
from decsc_core.denoisers.classical.nonlocal_groups import NonlocalGroups, remaining_noise


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def literally(cube, image, noise, side, step, half_window, count, strength) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the low-rank patches at each pixel, group by group."""
    total, weight = np.zeros(cube.shape), np.zeros((*cube.shape[:2], 1))
    last = [length - side for length in cube.shape[:2]]

    def keys(end):
        full = list(range(0, end + 1, step))
        return full + list(range(full[-1] + 1, end + 1))

    def window(centre, end):
        return range(max(centre - half_window, 0), min(centre + half_window, end) + 1)

    def distance(a, b):
        return ((image[a[0]:a[0] + side, a[1]:a[1] + side] - image[b[0]:b[0] + side, b[1]:b[1] + side]) ** 2).sum()

    kept = []
    for key in [(row, column) for row in keys(last[0]) for column in keys(last[1])]:
        found = [(row, column) for row in window(key[0], last[0]) for column in window(key[1], last[1])]
        found = sorted(found, key=lambda place: distance(key, place))[:count]
        matrix = np.stack([cube[r:r + side, c:c + side].ravel() for r, c in found], axis=1)
        mean = matrix.mean(1, keepdims=True)
        u, s, vt = np.linalg.svd(matrix - mean, full_matrices=False)
        c = 2 * strength * np.sqrt(count) * noise[key] ** 2
        shrunk = [(value + np.sqrt(value**2 - 4 * c)) / 2 if value**2 > 4 * c else 0 for value in s]
        kept.append(np.count_nonzero(shrunk) / len(shrunk))
        for (row, column), patch in zip(found, ((u * shrunk) @ vt + mean).T):
            total[row:row + side, column:column + side] += patch.reshape(side, side, -1)
            weight[row:row + side, column:column + side] += 1
    assert 0.1 < np.mean(kept) < 0.9, "the threshold must matter"
    return total, weight


@pytest.mark.parametrize(("bands", "strength"), [(1, 4.0), (5, 10.0)])
@pytest.mark.parametrize("budget", [1, 2**26])
def test_low_rank_is_its_definition(bands, strength, budget, monkeypatch):
    """With patches that have fewer samples than the group has patches, and more; group by group and all together."""
    monkeypatch.setattr(nonlocal_groups, "BUDGET", budget)
    cube, image, noise = gaussian(12, 14, bands), gaussian(12, 14, seed=1), 0.2 + 0.1 * gaussian(10, 12, seed=2).abs()
    groups = NonlocalGroups(12, 14, side=3, step=3, half_window=4, count=30)
    groups.match(image)
    total, weight = groups.low_rank(cube, noise, strength)
    expected = literally(cube.numpy(), image.numpy(), noise.numpy(), 3, 3, 4, 20, strength)
    np.testing.assert_allclose(total, expected[0], atol=1e-6)
    np.testing.assert_array_equal(weight, expected[1])


def test_groups_become_smaller_with_each_matching_but_not_empty():
    groups = NonlocalGroups(20, 20, side=4, step=3, half_window=10, count=25)
    sizes = []
    for _ in range(4):
        groups.match(gaussian(20, 20))
        sizes.append(groups.members.shape[1])
    assert sizes == [15, 5, 1, 1]


def test_groups_are_as_large_as_a_small_image_allows():
    groups = NonlocalGroups(9, 8, side=4, step=3, half_window=30, count=300)
    groups.match(gaussian(9, 8))
    assert groups.members.shape == (12, 30, 2)


def test_patches_without_noise_come_back():
    cube = gaussian(11, 10, 3)
    groups = NonlocalGroups(11, 10, side=3, step=2, half_window=5, count=20)
    groups.match(cube.mean(2))
    total, weight = groups.low_rank(cube, torch.zeros(9, 8, dtype=cube.dtype), 10.0)
    torch.testing.assert_close(total / weight, cube, rtol=0, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.1, 1.5])
def test_remaining_noise_is_its_definition(sigma):
    estimate, noisy = gaussian(7, 8, 4), gaussian(7, 8, 4, seed=1)
    levels = remaining_noise(estimate, noisy, sigma, 3)
    assert levels.shape == (5, 6)
    for (row, column), level in np.ndenumerate(levels.numpy()):
        patch = np.s_[row:row + 3, column:column + 3]
        expected = np.sqrt(abs(sigma**2 - ((estimate[patch] - noisy[patch]) ** 2).mean().item()))
        assert level == pytest.approx(expected)
