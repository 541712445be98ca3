"""What the small network changes of the release, one choice at a time: what it gains, and whether the network converges.

The runs of a campaign are compared with its first one, as in `decsc_core.study.ablation`; here those that differ in a choice
of `CHOICES` alone, whatever their seed and the number of their steps.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.figure import Figure

from decsc_core import metrics
from decsc_core.model import DECSC
from decsc_core.scenes import Scene
from decsc_core.study.ablation import spread
from decsc_core.study.convergence import TOLERANCE, Problem, radius, trace
from decsc_core.study.evaluate import noisy_cube
from decsc_core.study.figures import TEXT_WIDTH
from decsc_core.study.recipes import TrainConfig

CHOICES = {
    "init": "{} initial atoms",
    "thresholds": "{} thresholds",
    "ridge": "ridge of {}",
    "fidelity": "{} data term",
    "misfit": "misfit of {}",
    "train_shifts": "{} copies a training step",
    "evaluations": "{} evaluations a training step",
    "jacobian_penalty": "Jacobian penalty of {}",
}
"""Fields of `DECSCConfig` and of `TrainConfig` that may differ, and how a figure tells their values."""
LOWEST = 8.0
"""How far below the best MPSNR the figure goes [dB]."""
FIRST = "as it is"
"""The name of the first run among the choices."""


def changed(config: TrainConfig, first: TrainConfig) -> dict[str, Any]:
    """The fields of training and network in which a run differs from the first one, but for seed and number of steps."""
    pairs = [(config, first, field.name) for field in fields(first)]
    pairs += [(config.model, first.model, field.name) for field in fields(first.model)]
    return {
        name: getattr(one, name) for one, other, name in pairs
        if name not in ("model", "seed", "steps") and getattr(one, name) != getattr(other, name)
    }


def runs_by_choice(runs: Mapping[str, TrainConfig]) -> dict[str, list[str]]:
    """The runs of each choice, by its name: the changed fields and their values as they are set."""
    first = next(iter(runs.values()))
    found: dict[str, list[str]] = {}
    for name, config in runs.items():
        if type(config.model) is type(first.model) and set(differing := changed(config, first)) <= set(CHOICES):
            if not differing and config.steps != first.steps:  # a longer or shorter training, no choice
                continue
            choice = ", ".join(f"{field} = {_written(value)}" for field, value in differing.items())
            found.setdefault(choice or FIRST, []).append(name)
    return found


def in_words(choice: str) -> str:
    """A name of `runs_by_choice` without the names of fields."""
    parts = (part.split(" = ") for part in choice.split(", "))
    return choice if choice == FIRST else ", ".join(CHOICES[field].format(value) for field, value in parts)


def _written(value: Any) -> str:
    """A value in a few characters."""
    if isinstance(value, tuple):
        return " to ".join(map(str, dict.fromkeys(value)))
    return f"{value:g}" if isinstance(value, float) else str(value)


def depths(
    model: DECSC, scenes: Sequence[Scene], case: str, seed: int, evaluations: int
) -> tuple[pd.DataFrame, float]:
    """Follow a network's solver to its cap, or to more `evaluations`, with one shifted copy of each scene.

    Returns
    -------
    curves : DataFrame
        The rows of `convergence.trace` with `scene`.
    radius : float
        The largest spectral radius of the Jacobian of f at the points with the smallest residual.
    """
    curves, largest, solver = [], 0.0, model.config.solver
    for scene in scenes:
        noisy = noisy_cube(scene, case, seed)
        curve, solution = trace(
            model, scene.cube, noisy, solver.method, shifts=1, evaluations=max(evaluations, solver.max_iter)
        )
        curves.append(curve.assign(scene=scene.name))
        largest = max(largest, float(radius(model, noisy, solution.z, shifts=1, seed=seed).max()))
    return pd.concat(curves, ignore_index=True), largest


@torch.no_grad()
def misfits(model: DECSC, scenes: Sequence[Scene], cases: Sequence[str], seed: int, values: Sequence[float]) -> pd.DataFrame:
    """MPSNR with other misfits, the network as it is otherwise: with one copy, for the codes are the same.

    Returns
    -------
    DataFrame
        A row a value of `DECSCConfig.misfit`, a column a noise case: the mean over scenes [dB].
    """
    scores = []
    for case, scene in itertools.product(cases, scenes):
        problem = Problem(model, noisy_cube(scene, case, seed), 1)
        z, _ = model.equilibrium(problem.layer)
        for value in values:
            problem.model = copy.copy(model)
            problem.model.config = replace(model.config, misfit=value)
            scores.append({"misfit": value, "case": case, "psnr": metrics.mpsnr(scene.cube, problem.image(z))})
    means = pd.DataFrame(scores).groupby(["misfit", "case"], sort=False)["psnr"].mean().unstack()
    return means[list(cases)]


def by_weights(models: Mapping[str, DECSC], scenes: Sequence[Scene], cases: Sequence[str], seed: int) -> pd.DataFrame:
    """MPSNR of several networks, with one copy.

    Returns
    -------
    DataFrame
        A row a network, by its name, a column a noise case: the mean over scenes [dB].
    """
    scores = []
    for (name, model), case, scene in itertools.product(models.items(), cases, scenes):
        problem = Problem(model, noisy_cube(scene, case, seed), 1)
        z, _ = model.equilibrium(problem.layer)
        scores.append({"weights": name, "case": case, "psnr": metrics.mpsnr(scene.cube, problem.image(z))})
    return pd.DataFrame(scores).groupby(["weights", "case"], sort=False)["psnr"].mean().unstack()[list(cases)]


def table(
    by: Mapping[str, Sequence[str]], rows: pd.DataFrame, stories: Mapping[str, dict], radii: Mapping[str, float],
    curves: pd.DataFrame, cap: int,
) -> pd.DataFrame:
    """A row a choice, means over scenes and seeds of training.

    Parameters
    ----------
    by : mapping
        From `runs_by_choice`.
    rows : DataFrame
        From `ablation.scores`, of all those runs.
    stories : mapping
        What the weights of each run tell.
    radii : mapping
        From `depths`, by run.
    curves : DataFrame
        From `depths`, with `run`.
    cap : int
        The solver's most evaluations.

    Returns
    -------
    DataFrame
        `choice`; `seeds`; `patches` of a training; `psnr`; `change` of it [dB] against the first run of
        the same seed, with `least` and `most`, their `spread`; `converged`, the share [%] of scenes and
        seeds whose every copy got to `TOLERANCE` within the cap; `residual`, the largest; `deeper`, the change of MPSNR
        [dB] from the cap to the last evaluation of the curves that is largest in size; `radius`, the largest.
    """
    means = rows.groupby(["run", "train_seed"], sort=False)["psnr"].mean().reset_index(level="train_seed")
    first = means.loc[by[FIRST]].set_index("train_seed")["psnr"]
    found = []
    for choice, names in by.items():
        own, mean = rows[rows["run"].isin(names)], means.loc[names]
        change = (mean["psnr"] - mean["train_seed"].map(first)).dropna()
        ends = curves[curves["run"].isin(names)].groupby(["run", "scene"])["psnr"].agg(lambda psnr: psnr.iloc[-1] - psnr.iloc[min(cap, len(psnr) - 1)])
        found.append({
            "choice": choice,
            "seeds": mean["train_seed"].nunique(),
            "patches": stories[names[0]]["patches"],
            "psnr": own["psnr"].mean(),
            "change": change.mean(), **spread(change),
            "converged": 100 * (own["residual"] <= TOLERANCE).mean(),
            "residual": own["residual"].max(),
            "deeper": ends[ends.abs().idxmax()],
            "radius": max(radii[name] for name in names),
        })
    return pd.DataFrame(found)


def draw(curves: pd.DataFrame, by: Mapping[str, Sequence[str]], cap: int) -> Figure:
    """MPSNR (mean over scenes and seeds) and residual (their median) against evaluations of f, a line a choice.

    Choices whose MPSNR is below the axis all along are only named.

    Parameters
    ----------
    curves : DataFrame
        From `depths`, with `run`.
    by : mapping
        From `runs_by_choice`.
    cap : int
        The solver's most evaluations, marked.
    """
    figure, (psnr, residual) = plt.subplots(1, 2, figsize=(TEXT_WIDTH, 3.2))
    best, below = curves.groupby(["run", "evaluations"])["psnr"].mean().max(), []
    for number, (choice, names) in enumerate(by.items()):
        mine = curves[curves["run"].isin(names)].groupby("evaluations")
        if mine["psnr"].mean().max() < best - LOWEST:
            below.append(in_words(choice))
            continue
        look = {"color": f"C{number % 6}", "linestyle": ("-", "--", ":", "-.")[number // 6 % 4], "linewidth": 2 if choice == FIRST else 1}
        psnr.plot(mine["psnr"].mean(), label=in_words(choice), **look)
        residual.plot(mine["residual"].median(), **look)
    if below:
        psnr.plot([], [], linestyle="none", label=f"not shown, MPSNR below the axis: {'; '.join(below)}")
    residual.axhline(TOLERANCE, color="0.4", linestyle="-", linewidth=0.8)
    psnr.set(ylabel="MPSNR [dB], one copy", ylim=(best - LOWEST, best + 0.5))
    residual.set(yscale="log", ylabel="Relative residual")
    for panel in (psnr, residual):
        panel.axvline(cap, color="0.7", linestyle="-", linewidth=0.8, zorder=0)
        panel.set(xlabel="Evaluations of $f$", xscale="symlog")
        panel.set_xticks([0, 1, 2, 5, 10, 20, 50, 100], ["0", "1", "2", "5", "10", "20", "50", "100"], minor=False)
        panel.minorticks_off()
        panel.set_xlim(0, curves["evaluations"].max())
    figure.legend(*psnr.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure
