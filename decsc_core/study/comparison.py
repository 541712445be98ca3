"""The learned methods side by side: networks after short trainings on the same scenes with the same noise, scored on the same cubes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from decsc_core.denoisers.registry import LEARNED, METHODS
from decsc_core.networks.catalog import method_of, parameters
from decsc_core.scenes import DATASETS
from decsc_core.study.captions import describe_data, describe_noise, describe_scenes, seconds_of, trainings
from decsc_core.study.figures import TEXT_WIDTH
from decsc_core.study.paper import label
from decsc_core.study.provenance import device
from decsc_core.study.recipes import TrainConfig

UNTRAINED = tuple(name for name in METHODS if name not in LEARNED)
"""The methods that learn nothing."""
NAMES = {"adam": "Adam", "adamw": "AdamW", "muon": "Muon"}
"""Of the optimizers, in print."""


def minutes(story: dict) -> float:
    """Minutes of a training and of those that it began from: of a core's time, or of the clock on a GPU."""
    return sum(map(seconds_of, trainings(story))) / 60


def devices(story: dict) -> str:
    """What a training, and those that it began from, ran on, in their order: ``"CPU"``, ``"NVIDIA H200 and CPU"``."""
    return " and ".join(dict.fromkeys(device(part["environment"]).split(",")[0] for part in trainings(story)))


def best_untrained(rows: pd.DataFrame) -> pd.DataFrame:
    """The best of the methods that learn nothing in each noise case: `method` and `psnr` [dB], by `case`."""
    means = rows[rows["method"].isin(UNTRAINED)].groupby(["case", "method"], sort=False)["psnr"].mean()
    best = means.loc[means.groupby("case", sort=False).idxmax()]
    return best.reset_index("method")


def table(
    groups: Sequence[Sequence[str]], rows: pd.DataFrame, stories: Mapping[str, dict], runs: Mapping[str, TrainConfig],
    untrained: pd.DataFrame,
) -> pd.DataFrame:
    """A row a training, means over scenes and its seeds, and one for the best of the methods that learn nothing.

    Parameters
    ----------
    groups : sequence of sequences
        From `campaign.alike`.
    rows : DataFrame
        From `ablation.scores`, of all those runs and one or several noise cases.
    stories : mapping
        What the weights of each run tell.
    untrained : DataFrame
        From `best_untrained`, of the same cases.

    Returns
    -------
    DataFrame
        `method`; `optimizer`, `device`, `minutes` and `patches` of a training; `parameters`; `seeds`; a column a noise case, MPSNR [dB];
        `spread`, the largest difference between two seeds in any of the cases [dB], missing with a single one.
    """
    cases, found = list(rows["case"].unique()), []
    for names in groups:
        by_seed = rows[rows["run"].isin(names)].groupby(["case", "train_seed"], sort=False)["psnr"].mean().unstack()
        several = len(by_seed.columns) > 1
        found.append({
            "method": label(method_of(runs[names[0]].model)),
            "optimizer": optimizers(stories[names[0]]),
            "device": devices(stories[names[0]]),
            "minutes": sum(minutes(stories[name]) for name in names) / len(names),
            "patches": sum(part["patches"] for part in trainings(stories[names[0]])),
            "parameters": parameters(runs[names[0]].model),
            "seeds": len(by_seed.columns),
            **by_seed.mean(axis=1)[cases],
            "spread": (by_seed.max(axis=1) - by_seed.min(axis=1)).max() if several else float("nan"),
        })
    found.append({"method": "best without training", **untrained.loc[cases, "psnr"]})
    whole = ["parameters", "patches", "seeds"]
    return pd.DataFrame(found).astype(dict.fromkeys(whole, "Int64"))


def tuned_table(
    tuned: Mapping[str, str], rows: pd.DataFrame, stories: Mapping[str, dict], runs: Mapping[str, TrainConfig], untrained: pd.DataFrame
) -> pd.DataFrame:
    """A row for each of `campaign.tuned`: its network in its noise case beside the one for all cases that it began from, means over scenes.

    Parameters
    ----------
    rows : DataFrame
        From `ablation.scores`, of those runs, each in its case, and of those that they began from.
    stories : mapping
        What the weights of each of those runs tell.
    untrained : DataFrame
        From `best_untrained`.

    Returns
    -------
    DataFrame
        `method`, `case`; `device`, `minutes` and `patches` of the further training; `before` and `after` it, MPSNR [dB], `gain`;
        `untrained`, the best of the methods that learn nothing [dB].
    """
    means, found = rows.groupby(["run", "case"])["psnr"].mean(), []
    for name, start in tuned.items():
        (case,), story = runs[name].cases, stories[name]
        before, after = means[start, case], means[name, case]
        found.append({
            "method": label(method_of(runs[name].model)), "case": case,
            "device": device(story["environment"]), "minutes": seconds_of(story) / 60, "patches": story["patches"],
            "before": before, "after": after, "gain": after - before, "untrained": untrained.loc[case, "psnr"],
        })
    return pd.DataFrame(found, columns=["method", "case", "device", "minutes", "patches", "before", "after", "gain", "untrained"])


def describe(traced: dict, untrained: pd.DataFrame) -> str:
    """The sentences of a caption on trainings, scenes and data; `traced` is what `ablation.provenance` gives."""
    stories = [run["weights"]["story"] for run in traced["runs"].values()]
    one, budgets = stories[0]["training"], []
    by_device: dict[str, list[float]] = {}
    for story in stories:
        by_device.setdefault(devices(story), []).append(minutes(story))
    shared = any("shared" in device(part["environment"]) for story in stories for part in trainings(story))
    for name, taken in by_device.items():
        least, most = f"{min(taken):.0f}", f"{max(taken):.0f}"
        each = " each" * (len(taken) > 1)
        unit = f"minutes of CPU time{each}" if name == "CPU" else f"minutes{each} on {name}{', shared as `training.md` tells' * shared}"
        budgets.append(f"{len(taken)} network{'s' * (len(taken) > 1)} for {least if least == most else f'{least} to {most}'} {unit}")
    best = ", ".join(f"{label(method)} ({case})" for case, method in untrained["method"].items())
    several = dict.fromkeys(f"{label(one['training']['method'])} by {optimizers(one)}" for one in stories if one["training"].get("model", {}).get("gross_errors"))
    again = f"{' and '.join(several)}: with further estimates where the first one shows gross errors. " if several else ""
    return (
        f"Trained from scratch on {DATASETS[one['dataset']].title} with {describe_noise(one['case'])}: {'; '.join(budgets)}, "
        f"validations on the way included: small budgets. {again}"
        f"Means over {describe_scenes(len(traced['scenes']), traced['crop'])}. Best without training: {best}. {describe_data(traced['dataset'])}"
    )


def draw(
    groups: Sequence[Sequence[str]], rows: pd.DataFrame, stories: Mapping[str, dict], runs: Mapping[str, TrainConfig],
    untrained: pd.DataFrame,
) -> Figure:
    """MPSNR of each method, a panel a noise case: a mark a seed of training, a bar for their mean, a colour and a shape a device, others where Muon trained.

    The methods are ordered by the best of their means over the cases; the broken line is the best that learns nothing.
    """
    cases = list(rows["case"].unique())
    scores = rows.groupby(["run", "case"], sort=False)["psnr"].mean().unstack()[cases]
    of = [method_of(runs[names[0]].model) for names in groups]
    on = [devices(story) + ", by Muon" * ("Muon" in optimizers(story)) for story in (stories[names[0]] for names in groups)]
    best = pd.Series([scores.loc[names].mean(axis=None) for names in groups]).groupby(of).max()
    order = list(best.sort_values(ascending=False).index)
    looks = {
        where: {"color": colour, "marker": marker, "markersize": 3.5}
        for where, colour, marker in zip(dict.fromkeys(on), cycle(("C0", "C2", "C3", "C4")), cycle("oD^sv"))
    }
    figure, axes = plt.subplots(
        1, len(cases), figsize=(TEXT_WIDTH, 1.1 + 0.2 * len(order)), sharey=True, squeeze=False
    )
    for axis, case in zip(axes[0], cases):
        for names, method, where in zip(groups, of, on):
            place, look = order.index(method), looks[where]
            axis.plot(scores.loc[names, case], [place] * len(names), alpha=0.7, linestyle="none", **look)
            axis.plot([scores.loc[names, case].mean()] * 2, [place - 0.3, place + 0.3], color=look["color"], linestyle="-", linewidth=1.5)
        axis.axvline(untrained.loc[case, "psnr"], color="C1", linestyle="--", linewidth=1)
        axis.set_title(case)
    axes[0, 0].set_yticks(range(len(order)), [label(method) for method in order])
    axes[0, 0].set_ylim(len(order) - 0.5, -0.5)
    figure.supxlabel("MPSNR [dB]", fontsize=8)
    millions = pd.Series([parameters(runs[names[0]].model) / 1e6 for names in groups]).groupby(on)
    sizes = {where: f"{' to '.join(dict.fromkeys(f'{size:.2g}' for size in (own.min(), own.max())))} M parameters" for where, own in millions}
    handles = [Line2D([], [], linestyle="none", label=f"trained on {where}, {sizes[where]}", **look) for where, look in looks.items()]
    handles.append(Line2D([], [], color="C1", linestyle="--", linewidth=1, label="best without training"))
    figure.legend(handles=handles, loc="outside upper center", ncols=2, frameon=False)
    return figure


def optimizers(story: dict) -> str:
    """Those of a training and of those that it began from, in their order; the first trainings told of none."""
    return " and ".join(dict.fromkeys(NAMES[part["training"].get("optimizer", TrainConfig.optimizer)] for part in trainings(story)))
