"""What other methods gain by the last steps of DECSC's denoiser, misfit and Wiener filter: the same after each, on the same cubes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from einops import rearrange
from torch import Tensor

from decsc_core import metrics
from decsc_core import weights as files
from decsc_core.denoisers.base import Denoiser
from decsc_core.denoisers.equilibrium import Equilibrium
from decsc_core.denoisers.learned import Learned
from decsc_core.denoisers.wiener import wiener
from decsc_core.model import DECSC
from decsc_core.model.gross import cut
from decsc_core.model.misfit import posterior_mean
from decsc_core.model.noise_levels import noise_levels
from decsc_core.scenes import Scene
from decsc_core.study.evaluate import noisy_cube


def scores(
    denoisers: Mapping[str, Denoiser], scenes: Sequence[Scene], cases: Sequence[str], seed: int, misfits: Sequence[float]
) -> pd.DataFrame:
    """MPSNR of estimates that had the mean of a misfit added and were filtered.

    Parameters
    ----------
    denoisers : mapping
        By name; networks as `alone` makes them.
    misfits : sequence of float
        Scales e; 0 is the estimate as it is.

    Returns
    -------
    DataFrame
        A row for each denoiser and misfit: `name`, `misfit`, and a column a noise case, the mean over scenes [dB].
    """
    found = []
    for name, denoise in denoisers.items():
        for case, scene in itertools.product(cases, scenes):
            noisy = noisy_cube(scene, case, seed)
            cube = denoise(noisy).cube
            for e in misfits:
                found.append({"name": name, "misfit": e, "case": case, "psnr": metrics.mpsnr(scene.cube, _last(noisy, cube, e))})
    means = pd.DataFrame(found).groupby(["name", "misfit", "case"], sort=False)["psnr"].mean().unstack()
    return means[list(cases)].reset_index()


def gains(scored: pd.DataFrame) -> pd.DataFrame:
    """A row a denoiser of `scores`, with the misfit that is best for it in the mean over the cases.

    Returns
    -------
    DataFrame
        `name`, `misfit`; a column a noise case, MPSNR with that misfit [dB]; `gain`, `least`, `most`: what it gains over
        none [dB], the mean, the least and the most of the cases.
    """
    means = scored.set_index(["name", "misfit"])
    best = means.loc[means.mean(axis=1).groupby("name", sort=False).idxmax()]
    gained = best.sub(means.xs(0, level="misfit"), level="name")
    return best.assign(gain=gained.mean(axis=1), least=gained.min(axis=1), most=gained.max(axis=1)).reset_index()


def alone(weights: files.Weights) -> Denoiser:
    """The network as a denoiser; of DECSC's own steps and shifted copies only one copy and one pass, without a misfit."""
    if not isinstance(weights.model, DECSC):
        return Learned(weights)
    model = copy(weights.model)
    model.config = replace(model.config, misfit=0)
    return Equilibrium(replace(weights, model=model), shifts=1)


def _last(noisy: np.ndarray, cube: np.ndarray, e: float) -> np.ndarray:
    """The estimate (H, W, B) after the last steps with a misfit of scale `e`, as it is for 0."""
    if not e:
        return cube
    image, estimate = _images(noisy), _images(cube)
    estimate = estimate + posterior_mean(image - estimate, noise_levels(image), e)
    trusted = torch.where(cut(image, estimate, e) == image, image, estimate)
    return wiener(_cube(estimate), noisy, _cube(trusted))


def _images(cube: np.ndarray) -> Tensor:
    return rearrange(torch.from_numpy(cube), "h w b -> 1 b h w")


def _cube(images: Tensor) -> np.ndarray:
    return rearrange(images, "1 b h w -> h w b").numpy()
