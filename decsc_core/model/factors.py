"""What bands have in common, by factor analysis: noise is each band's own, what a network has missed is not.

Not in the paper. What is left over of an image is noise and signal that was missed. The noise of a band tells nothing of another band's;
what was missed has spectra, few of them, and goes up and down in all bands together. So over the pixels the bands vary by a few common
factors, which are signal, and each by something of its own, which is noise.
"""

from __future__ import annotations

import torch
from torch import Tensor

FACTORS, SHARE = 3, 0.8
"""Factors at most, fewer of less than eight bands; and their share at least in the variance of all that stand out. Of missed signal the
first three have more than 0.9. Of noise that neighbouring bands share, up to seven of 31, they have less than 0.75: it has many.
"""
TEXTURE = 2.0
"""In units of e: deviation of a texture that a noise level, told by the differences of pixels, may have in it."""
EVEN = 1.5
"""Factors make no band deviate more than so many times as the median of the less noisy half of all bands."""
LEAST = 3e-4
"""The noise of a band deviates by that [0, 1] at least."""
PIXELS = 4
"""So many pixels for each band are needed to tell a factor."""
COPY = 1e-4
"""A band that others tell up to that share of its noise's variance is a copy, as reflection makes them: its noise is in common, too."""


def common(rest: Tensor, sigma: Tensor, e: float) -> Tensor:
    """The mean of what the bands of `rest` have in common: C (C + Psi)^-1 rest in each pixel; (N, B, H, W) like `rest`.

    C = L L^T is the covariance that the factors make, Psi that of the noise, which is diagonal. Gradients do not see them.

    Parameters
    ----------
    rest : (N, B, H, W)
        In [0, 1], as `e`; about 0 in the mean of each band, and without gross errors.
    sigma : (N, B, 1, 1)
        Noise levels of the bands.
    e : float
        Scale of what was missed.
    """
    pixels = rest.flatten(2)
    return (_share(pixels, sigma.flatten(1), e) @ pixels).view_as(rest)


@torch.no_grad()
def _share(rest: Tensor, sigma: Tensor, e: float) -> Tensor:
    """C (C + Psi)^-1 for each image of (N, B, pixels): (N, B, B).

    Psi is what remains of a band after regression on the others, and no less than its noise level allows. Factors are principal axes
    of the bands in units of their noise, where they exceed the highest that noise alone would have (Marchenko and Pastur). None are
    told from too few pixels, where bands are copies of others, or where noise seems to be correlated.
    """
    bands, pixels = rest.shape[1:]
    if pixels < PIXELS * bands:
        return rest.new_zeros(len(rest), bands, bands)
    unit = (sigma.cpu().double() ** 2 + LEAST**2).sqrt()
    white = rest / unit[..., None].to(rest)
    covariance = (white @ white.mT / pixels).cpu().double()
    rounding = 1e-6 * (1 + covariance.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None])
    own = 1 / torch.linalg.inv(covariance + rounding * torch.eye(bands)).diagonal(dim1=-2, dim2=-1)
    noise = torch.maximum(own, 1 - (TEXTURE * e / unit) ** 2).clamp(min=COPY)
    root = noise.sqrt()
    variance, axes = torch.linalg.eigh(covariance / (root[..., None] * root[..., None, :]))
    first = bands - min(FACTORS, max(bands - 2, 0) // 2)
    excess = (variance - 1) * (variance > (1 + (bands / pixels) ** 0.5) ** 2)
    few = excess[..., first:].sum(-1, keepdim=True) >= SHARE * excess.sum(-1, keepdim=True)
    excess = excess * (few & (own > COPY).all(-1, keepdim=True))
    loadings = root[..., None] * axes[..., first:] * excess[..., None, first:].sqrt()
    deviation = unit * loadings.norm(dim=-1)
    quiet = (unit * root).argsort(-1)[..., : max(1, bands // 2)]
    most = EVEN * deviation.gather(-1, quiet).median(-1, keepdim=True).values
    loadings = loadings * (most / deviation.clamp(min=LEAST**2)).clamp(max=1)[..., None]
    factors = loadings @ loadings.mT
    share = factors @ torch.linalg.inv(factors + torch.diag_embed(noise))
    return (unit[..., None] * share / unit[..., None, :]).to(rest)
