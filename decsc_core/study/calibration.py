"""Does DECSC know where it errs? The spread of the shifted copies that it averages, beside the true error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from decsc_core.denoisers.equilibrium import Equilibrium
from decsc_core.scenes import Scene
from decsc_core.study.evaluate import noisy_cube
from decsc_core.study.figures import TEXT_WIDTH, false_colour

BINS = 10


@dataclass(frozen=True)
class ErrorMaps:
    """One scene and what is known of the error of its estimate.

    Attributes
    ----------
    scene : Scene
    estimate : ndarray, shape (H, W, B)
    error, spread : ndarray, shape (H, W)
        Root mean square over the bands of the true error, and of the standard deviation over shifted copies; in the
        unit of the cube.
    """

    scene: Scene
    estimate: np.ndarray
    error: np.ndarray
    spread: np.ndarray


def over_bands(cube: np.ndarray) -> np.ndarray:
    """The root mean square over the bands of a cube (H, W, B): (H, W)."""
    return np.sqrt(np.mean(np.square(cube, dtype=np.float64), axis=2))


def agreement(spread: np.ndarray, error: np.ndarray) -> float:
    """The correlation of two maps (H, W) over the pixels; NaN if one of them is constant."""
    return float(np.corrcoef(spread.ravel(), error.ravel())[0, 1]) if spread.std() and error.std() else float("nan")


def error_maps(denoiser: Equilibrium, scene: Scene, case: str, seed: int) -> ErrorMaps:
    """Denoise a scene and compare its spread with the error.

    Parameters
    ----------
    denoiser : Equilibrium
        One that returns its spread.

    Raises
    ------
    ValueError
        If it returns none.
    """
    found = denoiser(noisy_cube(scene, case, seed))
    if found.spread is None:
        raise ValueError("the denoiser returns no spread; make it with spread=True, which DECSC's networks take")
    return ErrorMaps(scene, found.cube, over_bands(found.cube - scene.cube), over_bands(found.spread))


def calibrate(maps: Sequence[ErrorMaps]) -> pd.DataFrame:
    """The true error against the spread: the pixels of each scene in `BINS` bins of equal number, by their spread.

    Returns
    -------
    DataFrame
        A row for each scene and bin, of which there are no more than pixels: `scene`, `bin` (from 1), `spread` and `error`, the
        means over its pixels; and, the same for all bins, `correlation` over the pixels and `factor`, the RMS error in units of
        the RMS spread, NaN where nothing spreads, as with a single shift.
    """
    parts = []
    for one in maps:
        spread, error = one.spread.ravel(), one.error.ravel()
        groups = np.array_split(np.argsort(spread, kind="stable"), min(BINS, spread.size))
        parts.append(pd.DataFrame({
            "scene": one.scene.name, "bin": range(1, len(groups) + 1),
            "spread": [spread[group].mean() for group in groups], "error": [error[group].mean() for group in groups],
            "correlation": agreement(spread, error),
            "factor": float(np.sqrt(np.mean(error**2) / np.mean(spread**2))) if spread.any() else float("nan"),
        }))
    return pd.concat(parts, ignore_index=True)


def draw(maps: ErrorMaps, calibration: pd.DataFrame) -> Figure:
    """One scene, its estimate, its error and its spread, each in a colour scale of its own; below them the calibration of all scenes.

    Parameters
    ----------
    maps : ErrorMaps
    calibration : DataFrame
        From `calibrate`.
    """
    figure = plt.figure(figsize=(TEXT_WIDTH, 4.4))
    axes = figure.subplot_mosaic([["clean", "estimate", "error", "spread"], ["curve"] * 4], height_ratios=(1.5, 1.2))
    clean, wavelengths = maps.scene.cube, maps.scene.wavelengths
    axes["clean"].imshow(false_colour(clean, wavelengths))
    axes["estimate"].imshow(false_colour(maps.estimate, wavelengths, like=clean))
    for name in ("error", "spread"):
        shown = getattr(maps, name)
        heat = axes[name].imshow(shown, cmap="magma", vmin=0, vmax=np.percentile(shown, 99))
        figure.colorbar(heat, ax=axes[name], location="bottom", label="RMS over the bands", extend="max")
    for name, title in (("clean", "Clean"), ("estimate", "Estimate"), ("error", "True error"), ("spread", "Spread (own scale)")):
        axes[name].set(xticks=[], yticks=[], title=title)
        axes[name].spines[:].set_visible(False)

    curve = axes["curve"]
    for scene, mine in calibration.groupby("scene", sort=False):
        label = f"{scene.replace('_', ' ')}, correlation {mine['correlation'].iloc[0]:.2f}"
        curve.plot(mine["spread"], mine["error"], marker="o", markersize=2.5, label=label)
    top = calibration["spread"].max()
    curve.plot((0, top), (0, top), color="0.4", linestyle="-", linewidth=0.8, label="error = spread")
    curve.set(xlabel="Spread over shifts", ylabel="True error", xlim=(0, None), ylim=(0, None))
    figure.legend(*curve.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure
