"""How many shifted copies buy how many dB: the mean over the first 1, 2, 3, ... of them, and what each costs."""

from __future__ import annotations

import time
from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
import torch
from einops import rearrange
from matplotlib.figure import Figure

from decsc_core import metrics
from decsc_core.model import DECSC
from decsc_core.model.shifts import spread_shifts
from decsc_core.scenes import Scene
from decsc_core.study.evaluate import noisy_cube
from decsc_core.study.figures import TEXT_WIDTH


@torch.no_grad()
def study(model: DECSC, scenes: Sequence[Scene], case: str, seed: int) -> pd.DataFrame:
    """Denoise each scene with one shifted copy after the other, in the order in which a subset of them is chosen.

    Returns
    -------
    curves : DataFrame
        A row for each `scene` and each number of copies `averaged`, up to all, stride^2: `psnr` [dB], the mean over bands, of
        the image that so many copies give; `cpu_seconds` that they took.

    Raises
    ------
    ValueError
        If the bands of a scene are not the network's.
    """
    stride = model.config.stride
    rows = []
    for scene in scenes:
        noisy = rearrange(torch.from_numpy(noisy_cube(scene, case, seed)), "h w b -> 1 b h w").to(model.shared_threshold)
        total, spent = torch.zeros_like(noisy), 0.0
        for averaged, shift in enumerate(spread_shifts(stride, stride**2), 1):
            started = time.process_time()
            total += model.without_misfit(noisy, [shift]).image
            spent += time.process_time() - started
            image = rearrange(model.with_misfit(total / averaged, noisy), "1 b h w -> h w b").cpu().numpy()
            psnr = metrics.mpsnr(scene.cube, image)
            rows.append({"scene": scene.name, "averaged": averaged, "psnr": psnr, "cpu_seconds": spent})
    return pd.DataFrame(rows)


def summary(curves: pd.DataFrame) -> pd.DataFrame:
    """Means over the scenes of `study`, a row a number of copies: those columns, and `gain` [dB] over a single copy."""
    means = curves.groupby("averaged", as_index=False)[["psnr", "cpu_seconds"]].mean()
    return means.assign(gain=means["psnr"] - means["psnr"].iloc[0])


def draw(curves: pd.DataFrame, used: int) -> Figure:
    """Gain over a single copy, a thin line a scene and a thick one for their mean.

    Parameters
    ----------
    curves : DataFrame
        From `study`.
    used : int
        The number of copies that the network takes by default, marked.
    """
    figure, axis = plt.subplots(figsize=(TEXT_WIDTH / 2, 2.4))
    for _, mine in curves.groupby("scene", sort=False):
        axis.plot(mine["averaged"], mine["psnr"] - mine["psnr"].iloc[0], color="0.6", linestyle="-", linewidth=0.7)
    means = summary(curves)
    axis.plot(means["averaged"], means["gain"], "o-", markersize=3, label="mean over the scenes")
    axis.axvline(used, color="0.4", linestyle="--", linewidth=0.8, label="by default")
    axis.set(xlabel="Shifted copies averaged", ylabel="Gain over one copy [dB]")
    figure.legend(loc="outside upper center", ncols=2)
    return figure
