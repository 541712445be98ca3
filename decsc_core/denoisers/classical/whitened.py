"""A method that takes noise for equal in all bands, on bands that were made so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from decsc_core.denoisers.base import Denoiser, Estimate
from decsc_core.denoisers.classical.noise_level import noise_level

LEAST = 0.01
"""No band is taken for less noisy than that share of the mean level, or a clean one would outgrow all others."""


class Whitened(Denoiser):
    """Another denoiser between a division of each band by its noise level, over the mean of all, and the multiplication back.

    Not in the papers of the methods here, though NGMeet's release has it, commented out. It is for methods with one noise level or
    one low-rank basis for all bands, where the noise differs from band to band (`benchmarks/README.md` has what it is worth).
    Impulses, stripes and dead columns count as noise of their bands. A cube without noise is not divided.

    Parameters
    ----------
    method : Denoiser
        Its noise level, where it takes one, still is the mean over the bands.
    """

    def __init__(self, method: Denoiser) -> None:
        self.method, self.name, self.kind, self.params = method, f"{method.name}-white", method.kind, method.params

    def _denoise(self, noisy: np.ndarray, progress: bool) -> Estimate:
        level = noise_level(torch.from_numpy(noisy)).numpy()
        unit = np.maximum(level / level.mean(), LEAST).astype(np.float32) if level.any() else np.ones_like(noisy[0, 0])
        estimate = self.method._denoise(noisy / unit, progress)
        return replace(estimate, cube=estimate.cube * unit, spread=None if estimate.spread is None else estimate.spread * unit)
