"""The misfit R in X = K (x) S + D * H + R: what the two dictionaries cannot tell of a scene, and its posterior mean.

Not in the paper. What trained networks miss of clean scenes is mostly smooth: on CAVE the power of its cosine coefficients falls as
frequency^-1.5, and is highest for the levels of whole bands. The rest is texture, in the same pixels of all bands and with few spectra.
Noise is white, and another one in every band, and gross errors come band by band. So of what a reconstruction leaves over of a noisy
image the low frequencies, and what bands have in common (`factors`), are misfit and can be given back.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from decsc_core.model.factors import common
from decsc_core.transforms import cosines

KNEE, SLOPE = 0.2, 1.5
"""Frequency [cycles per pixel] at which a cosine coefficient of R has the variance e^2, and how fast that falls with frequency."""
GROSS = 4.0
"""In units of e: how far a pixel of R may be from its band's level where there is no noise; see `limits`."""
TEXTURE = 1.2
"""So many deviations the median band must be off in a pixel with texture."""
FLOOR = 0.003
"""Deviation [0, 1] below which no noise is told from none."""
LEVEL_PIXELS = 240
"""The median of a band is trusted as the mean of that many pixels: dead columns, stripes and impulses pull at it, however large the image."""


def posterior_mean(rest: Tensor, sigma: Tensor, e: float) -> Tensor:
    """The mean of R given `rest` = R + noise; (N, B, H, W) like `rest`.

    R and the noise are Gaussian, the noise white with `sigma`, or with the deviation of `rest` where that is less: texture is taken
    for noise by the first, misfit by the second. The smooth part of R has the variance e^2 (KNEE / frequency)^SLOPE at each
    frequency, so each cosine coefficient keeps the share that is R's in its variance; the level of a band is estimated by the
    median. Of what then is left over, what bands have in common is given back, see `factors.common`, and of what still is, the
    texture, see `_texture`. What is further from the level than the `limits` is a gross error, as an impulse is, and cut down to
    that. Gradients do not see levels, sigmas, variances and the shares of factors.

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
    down, across = (cosines(side).to(rest) for side in (height, width))
    spectrum = (down @ (rest - level).clamp(-most, most) @ across.T) * _share(height, width, e, sigma)
    smooth = level * e**2 / (e**2 + sigma**2 / min(height * width, LEVEL_PIXELS)) + down.T @ spectrum @ across
    within, own, _ = _cut(rest - smooth, sigma, e)
    found = smooth + common(within, own, e)
    return found + _texture(rest - found, sigma, e)


def _cut(rest: Tensor, sigma: Tensor, e: float) -> tuple[Tensor, Tensor, Tensor]:
    """What is left over (N, B, H, W), cut down to its `limits`, its deviation where that is less than `sigma` (N, B, 1, 1), and its `_median`."""
    sigma = torch.minimum(sigma, deviation(rest)[1])
    with torch.no_grad():
        off = _median(rest, sigma)
        most = _reach(off, sigma, e)
    return rest.clamp(-most, most), sigma, off


def _texture(rest: Tensor, sigma: Tensor, e: float) -> Tensor:
    """The mean of the misfit that has one variance in all bands of a pixel, another in each pixel; (N, B, H, W) like `rest`.

    The variance is the weighted mean over bands of rest^2 - sigma^2, by its own precision as the maximum of the likelihood wants
    it, over the neighbourhood; none where the median band is not off by more than `TEXTURE` deviations, as by noise alone.
    """
    within, sigma, off = _cut(rest, sigma, e)
    with torch.no_grad():
        variance = torch.full_like(rest[:, :1], FLOOR**2)
        for _ in range(3):
            whole = variance + sigma**2
            excess = torch.minimum(rest**2 - sigma**2, 9 * whole)
            variance = (excess / whole**2).sum(1, keepdim=True) / (1 / whole**2).sum(1, keepdim=True)
            variance = variance.clamp(min=FLOOR**2 / 100)
        variance = F.avg_pool2d(variance * (off > TEXTURE), 3, 1, 1, count_include_pad=False)
    return within * (variance / (variance + sigma**2).clamp(min=FLOOR**2 / 100))


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
    return _reach(_median(distance, sigma), deviations * sigma, e)


def _reach(off: Tensor, sigma: Tensor, e: float) -> Tensor:
    """`limits` where the median band is `off` by so many deviations."""
    return (sigma**2 + (GROSS * e) ** 2).sqrt() * off.clamp(min=1)


def _median(distance: Tensor, sigma: Tensor) -> Tensor:
    """How many deviations the median band of each pixel is off: (N, 1, H, W), some 0.7 by noise alone."""
    return (distance.abs() / (sigma**2 + FLOOR**2).sqrt()).median(1, keepdim=True).values


def _share(height: int, width: int, e: float, sigma: Tensor) -> Tensor:
    """R's share in the variance of each cosine coefficient (N, B, H, W); 0 for the mean, which the level stands for."""
    fy, fx = (torch.arange(side).to(sigma) / (2 * side) for side in (height, width))
    frequency = (fy[:, None] ** 2 + fx**2).sqrt()
    frequency[0, 0] = torch.inf
    variance = e**2 * (KNEE / frequency) ** SLOPE
    return variance / (variance + sigma**2 + torch.finfo(sigma.dtype).tiny)
