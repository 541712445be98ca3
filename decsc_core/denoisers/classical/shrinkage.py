"""Shrinkage: what a model-driven method does to coefficients and to singular values that are mostly noise."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def reweighted_threshold(values: Tensor, constant: float | Tensor, offset: float = 0.0) -> Tensor:
    """(s - o + sqrt((s + o)^2 - 4 C)) / 2 for each s >= 0 where that root exists, 0 elsewhere; o is the `offset`, C the `constant`.

    A threshold that is C / (s + o) for what it leaves of s: the more there is, the less it takes.
    """
    root = (values + offset).square() - 4 * constant
    return torch.where(root > 0, (values - offset + root.clamp(min=0).sqrt()) / 2, 0)


def shrink_singular_values(matrices: Tensor, shrink: Callable[[Tensor], Tensor]) -> Tensor:
    """Replace the singular values of a batch of matrices, keeping the singular vectors.

    With T = U diag(s) V^H the result is U diag(shrink(s)) V^H, found as T V diag(shrink(s) / s) V^H from the
    eigenvectors V of the Gram matrix T^H T, or likewise from T T^H where T has fewer rows than columns. Singular values
    below sqrt(min(M, N) * machine epsilon) of the largest cannot be told from zero so, and become zero. In single precision
    that would be half a per cent, which is much for a cube with little noise: the eigenvectors are found in double.

    Parameters
    ----------
    matrices : (..., M, N) tensor, real or complex
    shrink : callable
        Maps the real singular values (..., min(M, N)), in ascending order, to the new ones.

    Notes
    -----
    Time O(M N min(M, N)) a matrix, of which only the singular vectors take part whose new value is not zero for every
    matrix of the batch; memory for the Gram matrices, their eigenvectors and one more batch beside the result.
    """
    if matrices.shape[-2] < matrices.shape[-1]:
        return shrink_singular_values(matrices.mH, shrink).mH
    eigenvalues, vectors = torch.linalg.eigh(_gram(matrices))
    values = eigenvalues.clamp(min=0).sqrt()
    rounding = values.shape[-1] * torch.finfo(values.dtype).eps
    reliable = values > rounding**0.5 * values[..., -1:]
    factor = torch.where(reliable, shrink(values) / values, 0)
    used = (factor != 0).reshape(-1, factor.shape[-1]).any(0)
    vectors, factor = vectors[..., used].to(matrices.dtype), factor[..., used].to(matrices.dtype)
    return matrices @ (vectors * factor.unsqueeze(-2)) @ vectors.mH


def _gram(matrices: Tensor) -> Tensor:
    """T^H T in double precision."""
    precise = matrices.to(torch.promote_types(matrices.dtype, torch.float64))
    return precise.mH @ precise
