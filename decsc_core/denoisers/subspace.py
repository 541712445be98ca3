"""The few spectra that a scene has: what of an estimate lies in others is error.

Not in the paper. The spectra of a scene are mixtures of a few, while the errors of a network, mostly noise that it has let through, point
everywhere. So the principal components of an estimate, in units of each band's noise, hold signal where their variance is large, and
error where it is small; they are shrunk by that. It takes all bands at once, also where a network saw them in windows. The constants
were set on crops of training and validation scenes, and 13 such gain 0.1 to 3.8 dB, least with noise that neighbouring bands share
(notebook 13); nearly clean ones, with noise of 0.25 / 255 or less, may lose.
"""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange

from decsc_core.denoisers.classical.noise_level import noise_level
from decsc_core.model.decsc import noise_levels

EDGE = 0.016
"""Variance of a component that is half signal, half error, for one band and one pixel: in proportion to the bands, for noise that a
network lets through is common to many, and falling as the fourth root of the pixels, that is less of it in any one component."""
FLOOR, LEAST = 0.02, 3.0
"""Errors that are none of the noise: [0, 1], and in noise levels at most, or clean bands would lose by it."""
LIMIT = 2.0
"""A pixel is changed by so many times the median pixel's change at most: a rare spectrum, as of a small object, is no error."""


def shrink(estimate: np.ndarray, noisy: np.ndarray) -> np.ndarray:
    """The estimate (H, W, B), float32 in [0, 1], less what of its spectra is error, given the noisy cube that it is of."""
    height, width, bands = estimate.shape
    noise = _noise(torch.from_numpy(noisy)).numpy()
    unit = np.sqrt(noise**2 + np.clip(LEAST * noise, 1e-6, FLOOR) ** 2)
    mean = estimate.mean((0, 1), dtype=np.float64)
    covariance = sum(white.T @ white for white in ((row - mean) / unit for row in estimate)) / (height * width)
    variance, axes = np.linalg.eigh(covariance)
    edge = EDGE * bands / (height * width) ** 0.25
    error = 1 / (1 + (variance.clip(min=0) / edge) ** 2)
    of_error, change = (axes * -error) @ axes.T, np.empty_like(estimate)
    for row, out in zip(estimate, change):
        out[:] = (row - mean) / unit @ of_error
    size = np.linalg.norm(change, axis=2, keepdims=True)
    change *= np.minimum(1, LIMIT * np.median(size) / size.clip(min=np.finfo(np.float32).tiny))
    change *= unit.astype(np.float32)
    return estimate + change


def _noise(noisy: torch.Tensor) -> torch.Tensor:
    """The lower of two levels of each band, (B,): of what the other bands do not tell, as all of a clean band that noisy ones surround, and of
    the finest details, as texture.
    """
    fine = torch.cat([noise_levels(rearrange(band, "h w -> 1 1 h w"))[0] for band in noisy.unbind(2)])
    return torch.minimum(noise_level(noisy), fine.double())
