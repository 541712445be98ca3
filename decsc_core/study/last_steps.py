"""What other methods gain by the last steps of DECSC's denoiser, misfit and Wiener filter: the same after each, on the same cubes.

Run as a program it computes the rows of one method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from einops import rearrange
from torch import Tensor

from decsc_core import metrics
from decsc_core.checks import check_not_empty
from decsc_core.denoisers.base import Denoiser
from decsc_core.denoisers.registry import METHODS, make
from decsc_core.denoisers.wiener import wiener
from decsc_core.model.gross import cut
from decsc_core.model.misfit import posterior_mean
from decsc_core.model.noise_levels import noise_levels
from decsc_core.scenes import scene_names
from decsc_core.study.evaluate import do_job, evaluated_scene, job_options, noisy_cube
from decsc_core.study.provenance import code_version, environment
from decsc_core.study.row_files import RowFiles

MISFITS = (0, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03)
"""Scales e of the misfit that are tried; with 0 the estimate is left as it is."""


def score(
    dataset: str, cases: Sequence[str], method: str, *, seed: int, folder: Path | str, crop: int | None = None, weights: Path | str | None = None
) -> pd.DataFrame:
    """MPSNR of a method's estimates that had the mean of a misfit added and were filtered, on the validation scenes of a data set.

    The rows are computed, or read from `folder` if they are there and were computed from the same.

    Parameters
    ----------
    method : str
        A name of the registry; of DECSC's own steps and shifted copies only one copy and one pass are left, of MTSNN++'s estimates one.
    seed, folder, crop, weights
        See `evaluate.score_rows`.

    Returns
    -------
    DataFrame
        A row for each noise case, scene and scale: `dataset`, `scene`, `case`, `seed`, `method`, `parameters` (none if nothing
        was learned), `weights` (the first 12 digits of the file's SHA-256), `code`, `misfit`, `psnr` [dB].

    Raises
    ------
    ValueError
        If there are no cases, a name is unknown, or an option does not go with the method (SceneError, WeightsError among them).
    """
    check_not_empty(cases=cases)
    denoise = alone(method, weights)
    learned = getattr(denoise, "weights", None)
    scenes = [evaluated_scene(dataset, name, crop) for name in scene_names(dataset, "validation")]
    inputs = {
        "dataset": dataset, "cases": list(cases), "method": method, "seed": seed, "crop": crop, "misfits": list(MISFITS),
        "weights": learned.sha256 if learned else "", "scenes": {scene.name: scene.sha256() for scene in scenes},
    }
    files = RowFiles(folder, f"{dataset}-last-steps-{method}")
    if not files.hold(inputs):
        about = {"seed": seed, "method": method, "parameters": denoise.params or None, "weights": inputs["weights"][:12], "code": code_version()}
        rows = []
        for case in cases:
            for scene in scenes:
                noisy = noisy_cube(scene, case, seed)
                cube = denoise(noisy).cube
                rows += [{"dataset": dataset, "scene": scene.name, "case": case, **about, "misfit": e,
                          "psnr": metrics.mpsnr(scene.cube, _last(noisy, cube, e))} for e in MISFITS]
                print(f"{dataset} {scene.name} {case} {method}: {rows[-len(MISFITS)]['psnr']:.2f} dB", flush=True)
        files.write(pd.DataFrame(rows), {"inputs": inputs, "weights": learned and learned.told(), "environment": environment()})
    return pd.read_csv(files.csv, dtype={"scene": str, "weights": str, "parameters": "Int64"}, keep_default_na=False, na_values={"parameters": [""]})


def gains(scored: pd.DataFrame) -> pd.DataFrame:
    """A row for each `name`, of the misfit that is best for it in the mean over the cases.

    Parameters
    ----------
    scored : DataFrame
        Rows of `score`, with a `name` for those that belong together.

    Returns
    -------
    DataFrame
        `name`, `misfit`; a column a noise case, MPSNR with that misfit [dB], the mean over scenes; `gain`, `least`, `most`: what
        it gains over none [dB], the mean, the least and the most of the cases.
    """
    means = scored.groupby(["name", "misfit", "case"], sort=False)["psnr"].mean().unstack()
    best = means.loc[means.mean(axis=1).groupby("name", sort=False).idxmax()]
    gained = best.sub(means.xs(0, level="misfit"), level="name")
    return best.assign(gain=gained.mean(axis=1), least=gained.min(axis=1), most=gained.max(axis=1)).reset_index().rename_axis(columns=None)


def alone(method: str, weights: Path | str | None = None) -> Denoiser:
    """The registry's denoiser; of DECSC's own steps and shifted copies only one copy and one pass, without a misfit, of MTSNN++'s estimates one."""
    own = method in METHODS and METHODS[method].kind == "equilibrium"
    denoise = make(method, weights=weights, shifts=1 if own else None)
    if own or method == "mtsnnpp":
        model = denoise.weights.model
        model.config = replace(model.config, **{"misfit" if own else "gross_errors": 0})
    return denoise


def _last(noisy: np.ndarray, cube: np.ndarray, e: float) -> np.ndarray:
    """The estimate (H, W, B) after the last steps with a misfit of scale `e`, as it is for 0."""
    if not e:
        return cube
    image, estimate = as_images(noisy), as_images(cube)
    estimate = estimate + posterior_mean(image - estimate, noise_levels(image), e)
    trusted = torch.where(cut(image, estimate, e) == image, image, estimate)
    return wiener(as_cube(estimate), noisy, as_cube(trusted))


def as_images(cube: np.ndarray) -> Tensor:
    """(H, W, B) -> (1, B, H, W)."""
    return rearrange(torch.from_numpy(cube), "h w b -> 1 b h w")


def as_cube(images: Tensor) -> np.ndarray:
    """(1, B, H, W) -> (H, W, B)."""
    return rearrange(images, "1 b h w -> h w b").numpy()


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute one file of rows, as a job of the workflow."""
    parser = job_options("last_steps")
    parser.add_argument("--cases", nargs="+", required=True)
    options = vars(parser.parse_args(arguments))
    do_job("last_steps", score, options, f"{options['dataset']}-last-steps-{options['method']}.csv")


if __name__ == "__main__":
    main()
