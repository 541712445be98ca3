"""The misfit R in X = K (x) S + D * H + R: what the two dictionaries cannot tell of a scene, and its posterior mean.

Not in the paper. What trained networks miss of clean scenes is mostly smooth: on CAVE the power of its cosine coefficients falls as
frequency^-1.5, and is highest for the levels of whole bands. Noise is white. So of what a reconstruction leaves over of a noisy
image the low frequencies are misfit, and can be given back.
"""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor

KNEE, SLOPE = 0.2, 1.5
"""Frequency [cycles per pixel] at which a cosine coefficient of R has the variance e^2, and how fast that falls with frequency."""
GROSS = 4.0
"""In units of e: how far a pixel of R may be from its band's level where there is no noise; see `limits`."""
LEVEL_PIXELS = 240
"""The median of a band is trusted as the mean of that many pixels: dead columns, stripes and impulses pull at it, however large the image."""


def posterior_mean(rest: Tensor, sigma: Tensor, e: float) -> Tensor:
    """The mean of R given `rest` = R + noise, band by band; (N, B, H, W) like `rest`.

    R and the noise are Gaussian, the noise white with `sigma`, or with the deviation of `rest` where that is less: texture is taken
    for noise by the first, misfit by the second. R has the variance e^2 (KNEE / frequency)^SLOPE at each frequency, so each cosine
    coefficient keeps the share that is R's in its variance. The level of a band is estimated by the median. What is further
    from the level than the `limits` is a gross error, as an impulse is, and cut down to that. Gradients do not see level and sigma.

    Parameters
    ----------
    rest : (N, B, H, W)
        In [0, 1], as `e`: the noisy image less its reconstruction.
    sigma : (N, B)
        Noise levels of the bands.
    """
    height, width = rest.shape[-2:]
    level, own = deviation(rest)
    sigma = torch.minimum(sigma[..., None, None], own)
    most = limits(rest - level, sigma, e)
    down, across = (_cosines(side).to(rest) for side in (height, width))
    spectrum = (down @ (rest - level).clamp(-most, most) @ across.T) * _share(height, width, e, sigma)
    return level * e**2 / (e**2 + sigma**2 / min(height * width, LEVEL_PIXELS)) + down.T @ spectrum @ across


@torch.no_grad()
def deviation(rest: Tensor) -> tuple[Tensor, Tensor]:
    """The median of each band of (N, B, H, W), and the standard deviation that the median distance from it tells: (N, B, 1, 1) each."""
    flat = rest.flatten(2)
    level = flat.median(-1, keepdim=True).values
    return level[..., None], (flat - level).abs().median(-1).values[..., None, None] / 0.6745


@torch.no_grad()
def limits(distance: Tensor, sigma: Tensor, e: float, deviations: float = 1.0) -> Tensor:
    """How far each pixel (N, B, H, W) may be from its band's level and not be a gross error.

    ((deviations sigma)^2 + (GROSS e)^2)^(1/2), and in proportion more where not only this band is further off than its sigma, but
    the median one: misfit, as of a highlight, is common to the bands of a pixel, and gross errors come band by band.

    Parameters
    ----------
    distance : (N, B, H, W)
        From the level.
    sigma : (N, B, 1, 1)
    """
    common = (distance.abs() / sigma.clamp(min=1e-3)).median(1, keepdim=True).values
    return ((deviations * sigma) ** 2 + (GROSS * e) ** 2).sqrt() * common.clamp(min=1)


def _share(height: int, width: int, e: float, sigma: Tensor) -> Tensor:
    """R's share in the variance of each cosine coefficient (N, B, H, W); 0 for the mean, which the level stands for."""
    fy, fx = (torch.arange(side).to(sigma) / (2 * side) for side in (height, width))
    frequency = (fy[:, None] ** 2 + fx**2).sqrt()
    frequency[0, 0] = torch.inf
    variance = e**2 * (KNEE / frequency) ** SLOPE
    return variance / (variance + sigma**2 + torch.finfo(sigma.dtype).tiny)


def _cosines(side: int) -> Tensor:
    """The orthonormal cosine transform of type II as a matrix, (frequency, pixel)."""
    at = torch.arange(side, dtype=torch.float64)
    basis = torch.cos(pi / side * at[:, None] * (at + 0.5)) * (2 / side) ** 0.5
    basis[0] /= 2**0.5
    return basis
