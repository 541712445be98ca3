"""Shrinkage of coefficients and of singular values, against their definitions."""

from __future__ import annotations

import pytest
import torch

from decsc_core.denoisers.classical.shrinkage import reweighted_threshold, shrink_singular_values

SHAPES = [(5, 3), (3, 5), (4, 4), (1, 6), (6, 1), (2, 7, 3), (2, 3, 3, 8)]


def gaussian(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_reweighted_threshold_solves_its_equation(offset):
    """x + C / (x + o) = s, the larger root; 0 where there is no root."""
    values, constant = torch.linspace(0, 5, 101, dtype=torch.float64), torch.tensor(1.0)
    shrunk = reweighted_threshold(values, constant, offset)
    kept = (values + offset).square() > 4
    torch.testing.assert_close((shrunk + constant / (shrunk + offset))[kept], values[kept])
    assert (shrunk[kept] >= 1 - offset).all() and (shrunk[~kept] == 0).all()
    torch.testing.assert_close(reweighted_threshold(values, torch.tensor(0.0), offset)[1:], values[1:])


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("shape", SHAPES)
def test_singular_values_are_shrunk_as_by_a_singular_value_decomposition(shape, dtype):
    matrices = gaussian(shape, dtype)
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    for limit in (0.0, values.median().item(), 100.0):
        shrunk = shrink_singular_values(matrices, lambda found: (found - limit).clamp(min=0))
        expected = (left * (values - limit).clamp(min=0).unsqueeze(-2)) @ right
        torch.testing.assert_close(shrunk, expected, rtol=0, atol=1e-12)


def test_new_singular_values_may_be_negative_or_vanish_in_between():
    matrices = gaussian((3, 6, 4))
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)

    def shrink(found: torch.Tensor) -> torch.Tensor:
        return torch.where((found > 1) & (found < 2), 0, found - 1.5)

    expected = (left * shrink(values).unsqueeze(-2)) @ right
    torch.testing.assert_close(shrink_singular_values(matrices, shrink), expected, rtol=0, atol=1e-12)


def test_singular_values_that_rounding_hides_become_zero():
    """A zero matrix and one of rank 1, with a rule that would raise zero."""
    rank_1 = gaussian((5, 1)) @ gaussian((1, 4))
    shrunk = shrink_singular_values(torch.stack([rank_1, torch.zeros_like(rank_1)]), lambda found: found + 1)
    values = torch.linalg.svdvals(rank_1)
    torch.testing.assert_close(shrunk[0], rank_1 * (1 + 1 / values[0]), rtol=0, atol=1e-7)
    assert torch.equal(shrunk[1], torch.zeros_like(rank_1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_small_singular_values_survive_single_precision(dtype):
    values = torch.tensor([1.0, 1e-3, 1e-4], dtype=torch.float64)
    left, right = (torch.linalg.qr(gaussian((50, 3), torch.promote_types(dtype, torch.float64))).Q for _ in range(2))
    matrix = (left * values) @ right.mH
    shrunk = shrink_singular_values(matrix.to(dtype), lambda found: 0.9 * found)
    assert shrunk.dtype == dtype
    torch.testing.assert_close(torch.linalg.svdvals(shrunk)[:3].double(), 0.9 * values, rtol=5e-3, atol=0)
