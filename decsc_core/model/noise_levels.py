"""How noisy each band of an image is, and how far a data term trusts it."""

from __future__ import annotations

import torch
from torch import Tensor

NOISE_FLOOR, MEAN_WEIGHT = 0.05, 0.45


@torch.no_grad()
def noise_levels(noisy: Tensor) -> Tensor:
    """Noise levels of the bands of (N, B, H, W), in its unit: (N, B), 0 where an image is a single pixel.

    The median absolute value of a band's diagonal 2 x 2 differences (Donoho and Johnstone, Biometrika 1994, with the Haar wavelet);
    of the differences along it where an image is a single row or column.
    """
    axes = [axis for axis in (-2, -1) if noisy.shape[axis] > 1]
    if not axes:
        return noisy.new_zeros(noisy.shape[:2])
    details = noisy
    for axis in axes:
        details = details.diff(dim=axis)
    return (details.flatten(2) / 2 ** (len(axes) / 2)).abs().median(-1).values / 0.6745


@torch.no_grad()
def band_weights(noisy: Tensor) -> Tensor:
    """Inverse noise levels of the bands of (N, B, H, W), in proportion: (N, B, 1, 1), 1 for the cleanest band, or less.

    `NOISE_FLOOR` [0, 1] is added to the `noise_levels` in quadrature, so that no band is trusted without limit.
    Inverse variances would be the likelihood's own weights, but they hold the noisiest bands so loosely that the solver
    crawls: 0.08 against 0.005 of residual after 20 evaluations, for two networks after 160 patches.

    All weights of an image are scaled down until their mean is at most `MEAN_WEIGHT`, which hardly ever acts on `gauss-95`.
    Without it bands of one level would all weigh 1, a far longer step than the network was trained for, and the
    iteration may explode: white noise of sigma 50 gave -6 dB, with the bound 31 dB.
    """
    variance = noise_levels(noisy) ** 2 + NOISE_FLOOR**2
    weights = (variance.amin(1, keepdim=True) / variance).sqrt()
    return (weights * (MEAN_WEIGHT / weights.mean(1, keepdim=True)).clamp(max=1))[..., None, None]
