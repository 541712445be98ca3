"""Networks trained alike but for one thing: what each module (Table V), atom (Figs. 13, 14) and term (Fig. 15) is worth.

The runs of a campaign are compared with its first one, the complete network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from decsc_core import weights
from decsc_core.networks.catalog import parameters
from decsc_core.scenes import DATASETS
from decsc_core.study import campaign, paper
from decsc_core.study.captions import CASES, describe_data, describe_scenes, seconds_of
from decsc_core.study.evaluate import score_rows, sidecar
from decsc_core.study.figures import COLUMN_WIDTH
from decsc_core.study.provenance import device, environment
from decsc_core.study.recipes import TrainConfig
from decsc_core.study.tables import METRICS
from decsc_core.study.train import train

MODULES: dict[str, dict[str, Any]] = {
    "decsc": {},
    "no-swin": {"depth": 0},
    "no-difference": {"detail_parts": ("attention",)},
    "no-attention": {"detail_parts": ("difference",)},
}
"""The rows of Table V, as in `paper.ABLATIONS`, and what each changes of the complete network."""


def runs_with(runs: Mapping[str, TrainConfig], **changes: Any) -> list[str]:
    """The runs, with any seed, whose network is that of the first run with these fields changed, trained as that one."""
    first = next(iter(runs.values()))
    wanted = replace(first, model=replace(first.model, **changes))
    return [name for name, config in runs.items() if config == replace(wanted, seed=config.seed)]


def runs_by(runs: Mapping[str, TrainConfig], field: str) -> dict[Any, list[str]]:
    """The runs that differ from the first one in a field of the network alone, and in the seed, by its value, ascending."""
    kind = type(next(iter(runs.values())).model)
    values = sorted({getattr(config.model, field) for config in runs.values() if type(config.model) is kind})
    return {value: names for value in values if (names := runs_with(runs, **{field: value}))}


def scores(
    runs: Mapping[str, TrainConfig], names: Sequence[str], trained: Mapping[str, Path | str], folder: Path | str, *,
    profile: str, dataset: str, case: str, seed: int, crop: int | None,
) -> pd.DataFrame:
    """The rows of the test scenes for the networks of some runs.

    Parameters
    ----------
    trained : mapping
        Weights file of a run; a run that is not named is trained in the folder of its name inside `folder`.
    folder : path
        Rows lie in the folder of the run's name inside it; those that are there are not computed again.
    profile, dataset, case, seed, crop
        As for `evaluate.score_rows`.

    Returns
    -------
    DataFrame
        `run`, `train_seed`, then `evaluate.COLUMNS`: a row a run and scene.

    Raises
    ------
    ValueError
        If a weights file is given for a run that there is not, or does not tell of the training that its run describes.
    """
    if unknown := [name for name in trained if name not in runs]:
        raise ValueError(f"trained: there is no run {unknown[0]!r}; there are {', '.join(runs)}")
    parts, seen = [], {}
    for name in names:
        path = trained.get(name) or train(runs[name], Path(folder) / name, resume=True)
        told = weights.described(path)
        if wrong := campaign.difference(runs[name], told["story"]):
            raise ValueError(f"{path}: not the weights of the campaign's run {name!r}: {wrong}")
        rows = score_rows(
            profile, dataset, case, told["method"], seed=seed, folder=Path(folder) / name, crop=crop, weights=path, seen=seen
        )
        rows.insert(0, "run", name)
        rows.insert(1, "train_seed", runs[name].seed)
        parts.append(rows)
    return pd.concat(parts, ignore_index=True)


def changes(rows: pd.DataFrame, runs: Mapping[str, TrainConfig]) -> pd.DataFrame:
    """What leaving out a module changes, for each seed of training that both networks have, and scene.

    Returns
    -------
    DataFrame
        `network`, a key of `MODULES`; `train_seed`, `scene`, `psnr` [dB], `change` of it against the complete network.
    """
    by_run = rows.set_index("run")
    parts = [
        by_run.loc[names, ["train_seed", "scene", "psnr"]].assign(network=network)
        for network, fields in MODULES.items()
        if (names := runs_with(runs, **fields))
    ]
    every = pd.concat(parts, ignore_index=True)
    complete = every[every["network"] == "decsc"].set_index(["train_seed", "scene"])["psnr"]
    with_change = every.join(complete.rename("complete"), on=["train_seed", "scene"]).dropna(subset="complete")
    with_change["change"] = with_change["psnr"] - with_change["complete"]
    return with_change[["network", "train_seed", "scene", "psnr", "change"]].reset_index(drop=True)


def module_table(rows: pd.DataFrame, runs: Mapping[str, TrainConfig]) -> pd.DataFrame:
    """Table V: a row a network, means over scenes and seeds of training, and what the paper prints.

    Returns
    -------
    DataFrame
        `network`; `swin`, `difference` and `attention`, a tick or a cross; `psnr`, `ssim`, `sam`; `seeds`; `change` of
        the MPSNR against the complete network [dB], with `least` and `most`, their `spread`;
        `paper_psnr` and `paper_change`.
    """
    printed = paper.table(5).set_index("method")["psnr"]
    by_seed = changes(rows, runs).groupby(["network", "train_seed"])["change"].mean()
    table = []
    for network, fields in MODULES.items():
        if names := runs_with(runs, **fields):
            own, change = rows[rows["run"].isin(names)], by_seed[network]
            table.append({
                "network": paper.ABLATIONS[network],
                **{part: "×" if network == f"no-{part}" else "✓" for part in ("swin", "difference", "attention")},
                **own[METRICS].mean(), "seeds": own["train_seed"].nunique(),
                "change": change.mean(), **spread(change),
                "paper_psnr": printed[network], "paper_change": printed[network] - printed["decsc"],
            })
    return pd.DataFrame(table)


def as_methods(rows: pd.DataFrame, runs: Mapping[str, TrainConfig]) -> pd.DataFrame:
    """The rows of the networks of Table V with its keys as their methods, as the report compares them."""
    named = {name: network for network, fields in MODULES.items() for name in runs_with(runs, **fields)}
    return rows.assign(method=rows["run"].map(named)).dropna(subset="method")


def means(rows: pd.DataFrame, runs: Mapping[str, TrainConfig], by: Mapping[Any, Sequence[str]]) -> pd.DataFrame:
    """Means over scenes and seeds for each value of `runs_by`.

    Returns
    -------
    DataFrame
        `value`, `parameters`, `psnr`, `ssim`, `sam`; `seeds` of the training, and `least` and `most`, the `spread` of
        the MPSNR over them [dB].
    """
    found = []
    for value, names in by.items():
        own = rows[rows["run"].isin(names)]
        by_seed = own.groupby("train_seed")["psnr"].mean()
        found.append({
            "value": value,
            "parameters": parameters(runs[names[0]].model),
            **own[METRICS].mean(),
            "seeds": len(by_seed), **spread(by_seed),
        })
    return pd.DataFrame(found)


def spread(by_seed: pd.Series) -> dict[str, float]:
    """The range over the seeds of training, `least` and `most`; missing if there is only one."""
    several = len(by_seed) > 1
    return {"least": by_seed.min() if several else np.nan, "most": by_seed.max() if several else np.nan}


def provenance(rows: pd.DataFrame, folder: Path | str) -> dict:
    """Where the rows of `scores` come from, for a sidecar: what all runs share, and weights and code of each run, the code by case if there are several."""
    by_run = rows.groupby("run", sort=False)
    told = {run: sidecar(Path(folder) / run, *own[["dataset", "case", "method"]].iloc[0]) for run, own in by_run}
    one, single = next(iter(told.values())), rows["case"].nunique() == 1
    shared = {key: one["inputs"][key] for key in ("profile", "dataset", "seed", "crop", "scenes")}
    shared |= {"case": one["inputs"]["case"]} if single else {"cases": list(rows["case"].unique())}
    runs = {
        run: {"code": own["code"].iloc[0] if single else dict(zip(own["case"], own["code"])), "weights": told[run]["weights"]}
        for run, own in by_run
    }
    return shared | {"runs": runs, "environment": environment()}


def describe(first: TrainConfig, traced: dict) -> str:
    """The sentences of a caption on scenes, data and trainings; `traced` is what `provenance` gives, `first` the complete network's run."""
    stories = [run["weights"]["story"] for run in traced["runs"].values()]
    minutes = sorted(seconds_of(story) / 60 for story in stories)
    patches = [f"{count:,}" for count in sorted({story["patches"] for story in stories})]
    alike = ", as many for all," if len(patches) == 1 else ""
    time = f"{' to '.join(dict.fromkeys(f'{end:.0f}' for end in (minutes[0], minutes[-1])))} minutes" if minutes[-1] >= 1 else "less than a minute"
    devices = dict.fromkeys(device(story["environment"]) for story in stories)
    where = " or ".join("of CPU time" if name == "CPU" else f"on {name}" for name in devices)
    noise = CASES[traced["case"]]
    count = " to ".join(dict.fromkeys((patches[0], patches[-1])))
    return (
        f"{len(stories)} network{'s' * (len(stories) > 1)}, each trained from scratch with {count} patches of {DATASETS[first.dataset].title}{alike} "
        f"in {time} {where}: a small scale. The complete one has {first.model.shared_atoms} shared and {first.model.unshared_atoms} unshared atoms "
        f"and a stride of {first.model.stride}. {noise[0].upper()}{noise[1:]}; {describe_scenes(len(traced['scenes']), traced['crop'])}. "
        f"{describe_data(traced['dataset'])}"
    )


def draw_changes(table: pd.DataFrame) -> Figure:
    """The change of MPSNR without each module: a dot a scene and seed of training, a bar for their mean, a cross for the paper's.

    Parameters
    ----------
    table : DataFrame
        From `changes`.
    """
    printed = paper.table(5).set_index("method")["psnr"]
    networks = [network for network in MODULES if network != "decsc" and network in set(table["network"])]
    seeds = sorted(table["train_seed"].unique())
    figure, axis = plt.subplots(figsize=(COLUMN_WIDTH, 0.9 + 0.5 * len(networks)))
    for place, network in enumerate(networks):
        own = table[table["network"] == network]
        for seed, run in own.groupby("train_seed"):
            number = seeds.index(seed)
            look = {"marker": "os^v"[number % 4], "color": f"C{number}", "linestyle": "none", "label": f"seed {seed}"}
            axis.plot(run["change"], [place] * len(run), markersize=3.5, alpha=0.7, **look)
        axis.plot([own["change"].mean()] * 2, [place - 0.3, place + 0.3], color="0.2", linestyle="-", linewidth=1.5)
        axis.plot(printed[network] - printed["decsc"], place, "x", color="0.2", markersize=5, linestyle="none", label="paper")
    axis.axvline(0, color="0.6", linestyle="-", linewidth=0.8, zorder=0)
    axis.set_yticks(range(len(networks)), [paper.ABLATIONS[network] for network in networks])
    axis.set(xlabel="Change of MPSNR [dB]", ylim=(len(networks) - 0.5, -0.5))
    entries = {label: mark for mark, label in zip(*axis.get_legend_handles_labels())}
    figure.legend(entries.values(), entries, loc="outside upper right", ncols=len(entries))
    return figure


def draw_means(axis: Axes, table: pd.DataFrame) -> None:
    """MPSNR by value, from `means`, with bars for the range over the seeds."""
    axis.plot(table["value"], table["psnr"], marker="o", markersize=3)
    several = table.dropna(subset="least")
    axis.vlines(several["value"], several["least"], several["most"], linewidth=0.8)


def draw_sizes(table: pd.DataFrame, name: str, complete: int) -> Figure:
    """MPSNR against the number of atoms, from `means`; the broad line marks the complete network's."""
    figure, axis = plt.subplots(figsize=(COLUMN_WIDTH, 2.0))
    axis.axvline(complete, color="0.85", linestyle="-", linewidth=3, zorder=0)
    draw_means(axis, table)
    axis.set(xlabel=name, ylabel="MPSNR [dB]")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure
