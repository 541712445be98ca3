"""The learned methods at equal cost: networks trained alike, for about the same CPU time, and scored on the same cubes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from decsc_core.denoisers.registry import METHODS
from decsc_core.networks.catalog import build, method_of
from decsc_core.scenes import DATASETS
from decsc_core.study.captions import describe_data, describe_noise
from decsc_core.study.figures import TEXT_WIDTH
from decsc_core.study.paper import label
from decsc_core.study.train import TrainConfig

UNTRAINED = tuple(name for name, method in METHODS.items() if not method.params)
"""The methods that learn nothing."""


def runs_by_method(runs: Mapping[str, TrainConfig]) -> dict[str, list[str]]:
    """The first run of each method, and those that differ from it in the seed alone, by method."""
    found: dict[str, list[str]] = {}
    for name, config in runs.items():
        mine = found.setdefault(method_of(config.model), [name])
        if name not in mine and config == replace(runs[mine[0]], seed=config.seed):
            mine.append(name)
    return found


def best_untrained(rows: pd.DataFrame) -> pd.DataFrame:
    """The best of the methods that learn nothing in each noise case: `method` and `psnr` [dB], by `case`."""
    means = rows[rows["method"].isin(UNTRAINED)].groupby(["case", "method"], sort=False)["psnr"].mean()
    best = means.loc[means.groupby("case", sort=False).idxmax()]
    return best.reset_index("method")


def table(
    by: Mapping[str, Sequence[str]], rows: pd.DataFrame, stories: Mapping[str, dict], runs: Mapping[str, TrainConfig],
    untrained: pd.DataFrame,
) -> pd.DataFrame:
    """A row a method, means over scenes and seeds of training, and one for the best of those that learn nothing.

    Parameters
    ----------
    by : mapping
        From `runs_by_method`.
    rows : DataFrame
        From `ablation.scores`, of all those runs and one or several noise cases.
    stories : mapping
        What the weights of each run tell.
    untrained : DataFrame
        From `best_untrained`, of the same cases.

    Returns
    -------
    DataFrame
        `method`; `parameters`; `patches` and `cpu_minutes` of a training; `seeds`; a column a noise case, MPSNR [dB];
        `spread`, the largest difference between two seeds in any of the cases [dB], missing with a single one.
    """
    cases, found = list(rows["case"].unique()), []
    for method, names in by.items():
        by_seed = rows[rows["run"].isin(names)].groupby(["case", "train_seed"], sort=False)["psnr"].mean().unstack()
        several = len(by_seed.columns) > 1
        found.append({
            "method": label(method),
            "parameters": sum(parameter.numel() for parameter in build(runs[names[0]].model).parameters()),
            "patches": stories[names[0]]["patches"],
            "cpu_minutes": sum(stories[name]["cpu_seconds"] for name in names) / len(names) / 60,
            "seeds": len(by_seed.columns),
            **by_seed.mean(axis=1)[cases],
            "spread": (by_seed.max(axis=1) - by_seed.min(axis=1)).max() if several else float("nan"),
        })
    found.append({"method": "best without training", **untrained.loc[cases, "psnr"]})
    whole = ["parameters", "patches", "seeds"]
    return pd.DataFrame(found).astype(dict.fromkeys(whole, "Int64"))


def describe(traced: dict, untrained: pd.DataFrame) -> str:
    """The sentences of a caption on trainings, scenes and data; `traced` is what `ablation.provenance` gives."""
    stories = [run["weights"]["story"] for run in traced["runs"].values()]
    one, minutes = stories[0]["training"], [story["cpu_seconds"] / 60 for story in stories]
    crop = f", of each the central {traced['crop']} x {traced['crop']} pixels" if traced["crop"] else ""
    best = ", ".join(f"{label(method)} ({case})" for case, method in untrained["method"].items())
    return (
        f"{len(stories)} networks, each trained from scratch on {DATASETS[one['dataset']].title} with {describe_noise(one['case'])}, "
        f"{min(minutes):.0f} to {max(minutes):.0f} minutes of CPU time each on {stories[0]['environment']['device']}, validation included: a small budget. "
        f"Means over {len(traced['scenes'])} test scenes{crop}. Best without training: {best}. {describe_data(traced['dataset'])}"
    )


def draw(by: Mapping[str, Sequence[str]], rows: pd.DataFrame, untrained: pd.DataFrame) -> Figure:
    """MPSNR of each method, a panel a noise case: a dot a seed of training, a bar for their mean.

    The methods are ordered by their mean over the cases; the broken line is the best of those that learn nothing.
    """
    cases = list(rows["case"].unique())
    scores = rows.groupby(["run", "case"], sort=False)["psnr"].mean().unstack()[cases]
    means = pd.DataFrame({method: scores.loc[names].mean() for method, names in by.items()}).T
    order = means.mean(axis=1).sort_values(ascending=False).index
    figure, axes = plt.subplots(
        1, len(cases), figsize=(TEXT_WIDTH, 0.9 + 0.2 * len(order)), sharey=True, squeeze=False
    )
    for axis, case in zip(axes[0], cases):
        for place, method in enumerate(order):
            axis.plot(scores.loc[by[method], case], [place] * len(by[method]), "o", markersize=3, color="C0", alpha=0.7, linestyle="none")
            axis.plot([means.loc[method, case]] * 2, [place - 0.3, place + 0.3], color="0.2", linestyle="-", linewidth=1.5)
        axis.axvline(untrained.loc[case, "psnr"], color="C1", linestyle="--", linewidth=1)
        axis.set_title(case)
    axes[0, 0].set_yticks(range(len(order)), [label(method) for method in order])
    axes[0, 0].set_ylim(len(order) - 0.5, -0.5)
    figure.supxlabel("MPSNR [dB]", fontsize=8)
    return figure
