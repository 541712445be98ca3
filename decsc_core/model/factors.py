"""What bands have in common, by factor analysis: noise is each band's own, what a network has missed is not.

Not in the paper. What is left over of an image is noise and signal that was missed. The noise of a band tells nothing of another band's;
what was missed has spectra, few of them, and goes up and down in all bands together. So over the pixels the bands vary by a few common
factors, which are signal, and each by something of its own, which is noise. The constants were set on 33 crops of training and
validation scenes, and on noise that was made to be correlated (notebook 13 tells the gains).
"""

from __future__ import annotations

import torch
from torch import Tensor

FACTORS, EACH = 7, 4
"""Factors at most, and for how many bands one is allowed, of at least two."""
ALIKE, FAR, MORE = 0.3, 4, 0.22
"""Neighbouring bands share noise where the correlation of their finest details is above `ALIKE` in nine of ten pairs, and in the median by
`MORE` above that of bands `FAR` apart. With noise of their own bands keep to one of the two: signal that was missed is alike in bands far apart
as well (by 0.16 less at most on 20 crops of training scenes), or not in all. With noise of 2 or 5 / 255 that two or seven neighbours share
nine of ten correlations were above 0.46 on 28 crops, and more above those of bands far apart unless the noise was weak beside what was missed.
"""
TEXTURE = 2.0
"""In units of e: deviation of a texture that may be in a noise level, which is told by the differences of pixels."""
EVEN = 6.0
"""The factors deviate in a band no more than so many times as they do in the median band of the less noisy half. In radiance what was missed of bright
bands deviates several times as much as of dark ones; noise that two very noisy bands share, as errors of impulses, would do so far more. Set on eight
crops in four noise cases and four of radiance.
"""
LEAST = 3e-4
"""The noise of a band deviates by that [0, 1] at least."""
PIXELS = 8
"""So many pixels for each band are needed to tell a factor."""


def common(rest: Tensor, sigma: Tensor, e: float) -> Tensor:
    """The mean of what the bands of `rest` have in common: C (C + Psi)^-1 rest in each pixel; (N, B, H, W) like `rest`.

    C is the covariance that the factors make, Psi that of the noise, which is diagonal. Gradients do not see them.

    Parameters
    ----------
    rest : (N, B, H, W)
        In [0, 1], as `e`; about 0 in the mean of each band, and without gross errors.
    sigma : (N, B, 1, 1)
        Noise levels of the bands.
    e : float
        Scale of what was missed.
    """
    if rest.shape[1] < 2 * EACH:
        return torch.zeros_like(rest)
    pixels = rest.flatten(2)
    own = ~_shared_noise(rest)[:, None, None]
    return (_share(pixels, sigma.flatten(1), e) * own @ pixels).view_as(rest)


@torch.no_grad()
def _shared_noise(rest: Tensor) -> Tensor:
    """Whether neighbouring bands of each image (N, B, H, W) share noise: (N,)."""
    details = rest
    for axis in (-2, -1):
        details = details.diff(dim=axis) if rest.shape[axis] > 1 else details
    details = details.flatten(2) - details.mean((-2, -1))[..., None]
    details = details / details.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(rest.dtype).tiny)
    near, far = (details[:, apart:].mul(details[:, :-apart]).sum(-1) for apart in (1, FAR))
    return (near.quantile(0.1, dim=-1) > ALIKE) & (near.median(-1).values - far.median(-1).values > MORE)


@torch.no_grad()
def _share(rest: Tensor, sigma: Tensor, e: float) -> Tensor:
    """C (C + Psi)^-1 for each image of (N, B, pixels): (N, B, B), computed in double precision on the CPU.

    Psi is the variance that remains of a band after regression on the others, and no less than that of its noise level without a texture
    of `TEXTURE` e. Factors are principal axes of the bands in units of their noise, where they exceed the highest that noise alone would
    have (Marchenko and Pastur). None are told from too few pixels or bands, or of what is not finite.
    """
    bands, pixels = rest.shape[1:]
    count = min(FACTORS, bands // EACH)
    if pixels < PIXELS * bands:
        return rest.new_zeros(len(rest), bands, bands)
    home = "meta" if rest.is_meta else "cpu"
    unit = (sigma.to(home).double() ** 2 + LEAST**2).sqrt()
    white = rest.to(home).double() / unit[..., None]
    covariance, eye = white @ white.mT / pixels, torch.eye(bands, dtype=torch.float64, device=home)
    covariance = torch.where(covariance.isfinite().all(-1, keepdim=True).all(-2, keepdim=True), covariance, eye)
    rounding = torch.finfo(rest.dtype).eps * covariance.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None] + 1e-9
    own = pixels / (pixels - bands + 1) / torch.linalg.inv(covariance + rounding * eye).diagonal(dim1=-2, dim2=-1)
    noise = torch.maximum(own, 1 - (TEXTURE * e / unit) ** 2)
    root = noise.sqrt()
    variance, axes = torch.linalg.eigh(covariance / (root[..., None] * root[..., None, :]))
    excess = (variance - 1) * (variance > (1 + (bands / pixels) ** 0.5) ** 2)
    loadings = root[..., None] * axes[..., -count:] * excess[..., None, -count:].sqrt()
    deviation = unit * loadings.norm(dim=-1)
    quiet = (unit * root).argsort(-1)[..., : bands // 2]
    most = EVEN * deviation.gather(-1, quiet).median(-1, keepdim=True).values
    loadings = loadings * (most / deviation.clamp(min=torch.finfo(torch.float64).tiny)).clamp(max=1)[..., None]
    C = loadings @ loadings.mT
    share = C @ torch.linalg.inv(C + torch.diag_embed(noise))
    return (unit[..., None] * share / unit[..., None, :]).to(rest)
