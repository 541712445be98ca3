"""The noise level of each band, estimated from the cube itself."""

from __future__ import annotations

import torch
from torch import Tensor

from decsc_core.detail_level import detail_level

FEWEST_BANDS = 4
"""With fewer bands there is too little to predict a band from."""

FEWEST_PIXELS = 65
"""More than 8 x 8, to which some methods extend an image, with pixels that are there twice."""

FEWEST_TO_SPARE = 8
"""Pixels beyond the number of bands; with fewer nearly every band is predicted by chance."""

AT_ONCE = 2**18
"""Pixels that are held in double precision at a time."""


def noise_level(cube: Tensor) -> Tensor:
    """Standard deviation of the noise in each band, in the unit of the cube.

    Each band is predicted from all others by linear regression over the pixels; what cannot be predicted is taken for
    noise, its variance being the sum of squares over N - B + 1 of N pixels, for B - 1 weights are fitted. Impulses and dead
    columns count as noise, and a nearly clean band is over-estimated by what the regression cannot explain. With fewer than
    4 bands or 65 pixels, or hardly more pixels than bands, the finest wavelet details of each band are used instead.

    Parameters
    ----------
    cube : (H, W, B) tensor

    Returns
    -------
    (B,) float64 tensor on the cube's device; 0 where a band has no more variation than rounding.

    References
    ----------
    J. Bioucas-Dias, J. Nascimento, "Hyperspectral Subspace Identification", TGRS 2008 (the HySime estimator).
    """
    height, width, bands = cube.shape
    data = cube.reshape(-1, bands)
    largest = data.abs().amax(0).double()
    if bands < FEWEST_BANDS or len(data) < max(FEWEST_PIXELS, bands + FEWEST_TO_SPARE):
        sigma = _from_details(cube)
    else:
        parts = data.split(AT_ONCE)
        gram = sum(part.double().T @ part.double() for part in parts)
        # The ridge, in the unit of each band, is for bands that are equal or 0.
        inverse = torch.linalg.inv(gram + 1e-6 * torch.diag(largest.clamp(min=1e-30).square()))
        # Column i of the inverse, scaled, is band i minus its prediction from the others.
        weights = inverse / inverse.diagonal()
        sigma = (sum((part.double() @ weights).square().sum(0) for part in parts) / (len(data) - bands + 1)).sqrt()
    return torch.where(sigma > 1e-6 * largest, sigma, 0)


def _from_details(cube: Tensor) -> Tensor:
    """From the median of the finest diagonal wavelet coefficients of each band; 0 where the image is too small."""
    if min(cube.shape[:2]) < 6:
        return torch.zeros(cube.shape[2], dtype=torch.float64, device=cube.device)
    levels = [detail_level(band.cpu().numpy()) for band in cube.unbind(2)]
    return torch.tensor(levels, dtype=torch.float64, device=cube.device)
