"""Evaluation: one tidy row a scene, for one data set, noise case and method.

Rows lie in `<folder>/<dataset>-<case>-<method>.csv`. Beside it, `.json` holds what they were computed from and `.npy`
the estimate of one scene, for figures. Run as a program it computes one such set of files.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from decsc_core import metrics
from decsc_core.console import Refused, blaming
from decsc_core.denoisers.base import Denoiser, Estimate
from decsc_core.denoisers.registry import METHODS, make
from decsc_core.gaps import without_image
from decsc_core.noise import CASES, add_noise
from decsc_core.scenes import Scene, load_scene, scene_names
from decsc_core.scenes.sources import ICVL_FIGURE_4
from decsc_core.study.cubes import centre
from decsc_core.study.measure import peak_memory
from decsc_core.study.provenance import code_version, environment
from decsc_core.study.row_files import RowFiles
from decsc_core.weights import shipped

COLUMNS = (
    "profile",
    "dataset",
    "scene",
    "case",
    "seed",
    "method",
    "weights",
    "code",
    "psnr",
    "ssim",
    "ssim_global",
    "sam",
    "seconds",
    "memory_mb",
    "iterations",
    "residual",
)
"""A row's columns.

`weights`: first 12 digits of the file's SHA-256, empty if nothing was learned. `psnr`: the mean over bands [dB]. `sam`:
radians. `seconds`: wall time of the call; the first scene's includes what torch does once. `memory_mb`: on a GPU the
peak of the tensors during the call; else the highest resident memory of the process so far, with Python, its libraries
and the scene, so it compares methods only if each has a process of its own. `iterations`, `residual`: mean evaluations
of the iterated problems and their largest final relative residual; empty if nothing was iterated.
"""
NOISY = "noisy"
"""The method that returns the noisy cube."""
AS_IS = "as-is"
"""The case that adds no noise, for scenes that are noisy themselves; without a reference their rows have no scores."""


def noisy_cube(scene: Scene, case: str, seed: int, level: float | None = None) -> np.ndarray:
    """The noisy cube (H, W, B) of a scene, a function of the seed and the scene's name: every method sees the same.

    `level` is that of `noise.add_noise`.
    """
    if case == AS_IS:
        return scene.cube
    rng = np.random.default_rng((seed, zlib.crc32(scene.name.encode())))
    return add_noise(scene.cube, case, rng, level)[0]


def evaluated_scene(dataset: str, name: str, crop: int | None = None) -> Scene:
    """What methods are compared on: a scene, or its centre, at most `crop` pixels a side, as `scored_part` has it."""
    return scored_part(load_scene(dataset, name), crop)[0]


def scored_part(scene: Scene, side: int | None) -> tuple[Scene, np.ndarray]:
    """The centre of a scene, or all of it, without bands of a single value, as bad ones are; and which these are, (B,) bool.

    Noise added to them would be easy to remove for some methods, and scores of what is exact are infinite.
    """
    cube = scene.cube if side is None else centre(scene.cube, side).copy()  # without the rest, which a view would keep
    single = without_image(cube)[0]
    wavelengths = None if scene.wavelengths is None else scene.wavelengths[~single]
    return Scene(cube[:, :, ~single] if single.any() else cube, scene.name, wavelengths), single


def figure_scene(names: Sequence[str]) -> str:
    """The scene whose estimates are kept: that of the paper's Figs. 4 and 5 if it is among `names`, else the first."""
    return ICVL_FIGURE_4 if ICVL_FIGURE_4 in names else names[0]


def score_rows(
    profile: str,
    dataset: str,
    case: str,
    method: str,
    *,
    seed: int,
    folder: Path | str,
    scenes: Sequence[str] | None = None,
    crop: int | None = None,
    weights: Path | str | None = None,
    seen: dict[str, tuple[str, int]] | None = None,
) -> pd.DataFrame:
    """The rows of one method, computed, or read from `folder` if they are there and were computed from the same.

    Parameters
    ----------
    profile : str
        Name of the profile, for the rows.
    dataset : str
        A data set of the catalogue; its test scenes are scored.
    case : str
        A noise case, or ``"as-is"``.
    method : str
        A name of the registry, or ``"noisy"`` for the noisy cube itself.
    seed : int
        Of the noise.
    folder : path
        Where the files of these rows lie.
    scenes : sequence of str, optional
        Names of scenes instead of all test scenes.
    crop : int, optional
        Take only the centre of each scene, at most this many pixels a side; where there are scores, no less than their windows.
    weights
        See `registry.make`.
    seen : dict, optional
        SHA-256 and number of bands of scenes that calls with the same data set and crop have read; those of this one are added.

    Returns
    -------
    DataFrame
        `COLUMNS`, a row a scene.

    Raises
    ------
    ValueError
        If a name is unknown, `crop` is too small, an option does not go with the method, or the scenes need different ones of the weights that come with the package
        (SceneError, WeightsError among them).
    """
    if case not in (*CASES, AS_IS):
        raise ValueError(f"unknown noise case {case!r}; choose one of {', '.join((*CASES, AS_IS))}")
    least = 1 if case == AS_IS else metrics.SSIM_WINDOW
    if crop is not None and crop < least:
        raise ValueError(f"crop={crop} is too small: give at least {least} pixel{'s' * (least > 1)}, or leave it out for whole scenes")
    names = tuple(scenes or scene_names(dataset, "test"))
    read = lru_cache(None if crop else 1)(partial(evaluated_scene, dataset, crop=crop))  # whole scenes are large
    seen = {} if seen is None else seen
    for name in names:
        if name not in seen:
            seen[name] = read(name).sha256(), read(name).cube.shape[2]
    bands = {name: seen[name][1] for name in names}
    if weights is None and method in METHODS and METHODS[method].kind == "equilibrium" and len({shipped(method, bands=count) for count in bands.values()}) > 1:
        raise ValueError(f"{dataset}: its scenes have {min(bands.values())} to {max(bands.values())} bands, for which {method} has different weights; name one weights file for all")
    denoiser = _denoiser(method, weights, bands[names[0]])
    learned = getattr(denoiser, "weights", None)
    inputs = {
        "profile": profile,
        "dataset": dataset,
        "case": case,
        "method": method,
        "seed": seed,
        "crop": crop,
        "weights": learned.sha256 if learned else "",
        "scenes": {name: seen[name][0] for name in names},
    }
    files = _files(folder, dataset, case, method)
    if files.hold(inputs):
        return read_rows(files.csv)

    kept, rows = figure_scene(names), []
    for name in names:
        scene = read(name)
        estimate, evidence = _measure(denoiser, noisy_cube(scene, case, seed))
        scores = {} if case == AS_IS else metrics.scores(scene.cube, estimate.cube)
        row = {
            "profile": profile,
            "dataset": dataset,
            "scene": name,
            "case": case,
            "seed": seed,
            "method": method,
            "weights": inputs["weights"][:12],
            "code": code_version(),
            **scores,
            **evidence,
        }
        rows.append(row)
        told = f"{row['psnr']:.2f} dB, " if scores else ""
        print(f"{dataset} {name} {case} {method}: {told}{row['seconds']:.1f} s", flush=True)
        if name == kept:
            cube = estimate.cube
    story = learned.told() if learned else None
    sidecar = {"inputs": inputs, "figure_scene": kept, "weights": story, "environment": environment()}
    files.write(pd.DataFrame(rows, columns=list(COLUMNS)), sidecar, cube)
    return read_rows(files.csv)


def read_rows(path: Path | str) -> pd.DataFrame:
    """Rows from their `.csv`: words stay words, also those that look like numbers or like nothing, as scene names and hashes may."""
    numbers = COLUMNS[COLUMNS.index("psnr"):]
    words = dict.fromkeys(set(COLUMNS) - {"seed", *numbers}, str)
    return pd.read_csv(path, dtype=words, keep_default_na=False, na_values=dict.fromkeys(numbers, [""]))


def sidecar(folder: Path | str, dataset: str, case: str, method: str) -> dict:
    """What rows came from: `inputs`, `figure_scene`, `weights` (file, sha256, story) or None, `environment`."""
    return json.loads(_files(folder, dataset, case, method).json.read_text())


def figure_estimate(folder: Path | str, dataset: str, case: str, method: str) -> np.ndarray:
    """The estimate (H, W, B) of the `figure_scene` that was kept with the rows."""
    return np.load(_files(folder, dataset, case, method).npy)


def _files(folder: Path | str, dataset: str, case: str, method: str) -> RowFiles:
    return RowFiles(folder, f"{dataset}-{case}-{method}", array=True)


def _denoiser(method: str, weights: Path | str | None, bands: int) -> Callable[[np.ndarray], Estimate]:
    """The registry's denoiser, or the one that does nothing."""
    if method == NOISY:
        if weights is not None:
            raise ValueError(f"method {NOISY!r} does not take weights; leave that out")
        return Estimate
    if method not in METHODS:
        raise ValueError(f"method {method!r} does not exist; choose one of {NOISY}, {', '.join(METHODS)}")
    return make(method, weights=weights, bands=bands)


def _measure(denoiser: Denoiser | Callable[[np.ndarray], Estimate], noisy: np.ndarray) -> tuple[Estimate, dict]:
    """The estimate, and what the call cost and how it converged."""
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    estimate = denoiser(noisy)
    seconds = time.perf_counter() - started
    records = estimate.record or []
    return estimate, {
        "seconds": round(seconds, 3),
        "memory_mb": round(torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_initialized() else peak_memory(), 1),
        "iterations": float(np.mean([record.iterations for record in records])) if records else None,
        "residual": max(record.residuals[-1] for record in records) if records else None,
    }


def job_options(program: str) -> argparse.ArgumentParser:
    """The options that programs which compute a file of rows have in common."""
    parser = argparse.ArgumentParser(prog=f"python -m decsc_core.study.{program}", description="Compute one file of rows, as a job of the workflow.")
    for name in ("dataset", "method", "folder"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--crop", type=int, help="only the centre of each scene, at most that many pixels a side")
    parser.add_argument("--weights", nargs="?", help="a weights file; without it the one that comes with the package")
    return parser


def do_job(program: str, compute: Callable[..., pd.DataFrame], options: dict, name: str) -> None:
    """Compute the rows of a program's options, or exit with the line that tells why not; and tell if those of another code were kept as `name`."""
    try:
        with blaming():
            Path(options["folder"]).mkdir(parents=True, exist_ok=True)
            rows = compute(**options)
    except Refused as error:
        sys.exit(f"{program}: {error}")
    if others := sorted(set(rows["code"]) - {code_version()}):
        print(f"{name}: kept, computed by code {', '.join(others)}; remove it to compute it anew")


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute one file of rows, as a job of the workflow."""
    parser = job_options("evaluate")
    for name in ("profile", "case"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--scenes", nargs="+", help="some scenes instead of all test scenes")
    options = vars(parser.parse_args(arguments))
    do_job("evaluate", score_rows, options, f"{options['dataset']}-{options['case']}-{options['method']}.csv")


if __name__ == "__main__":
    main()
