"""What a caption must say: which data these are, what they stand in for, and what the training of the weights cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from decsc_core.scenes import DATASETS
from decsc_core.study.evaluate import sidecar
from decsc_core.study.paper import METHODS, label
from decsc_core.study.provenance import environment

CASES = {
    "gauss-15": "non-i.i.d. Gaussian noise, σ in [0, 15]",
    "gauss-55": "non-i.i.d. Gaussian noise, σ in [0, 55]",
    "gauss-95": "non-i.i.d. Gaussian noise, σ in [0, 95]",
    "mixture": "mixture noise",
    "mixture-disjoint": "mixture noise on disjoint thirds of the bands",
    "mixture-independent": "mixture noise on independent thirds of the bands",
    "corr": "noise with spectrally correlated variance",
}
"""What the noise cases are called in print."""


def describe_data(dataset: str) -> str:
    """A sentence that names a data set and says what it stands in for."""
    entry = DATASETS[dataset]
    stand_in = f", standing in for {entry.stand_in}" if entry.stand_in else ""
    return f"Data: {entry.title}{stand_in}."


def describe_weights(method: str, weights: Mapping | None) -> str:
    """A sentence on how the weights of a method came about, from their own story; empty if it has none.

    Parameters
    ----------
    method : str
    weights : mapping or None
        `file`, `sha256` and `story`, as a sidecar of the evaluation has them.
    """
    if not weights:
        return ""
    story = weights["story"]
    told = [f"{label(method)}: weights {weights['file']} (SHA-256 {weights['sha256'][:12]})"]
    training = story.get("training")
    if training:
        device = story["environment"].get("device", "an unknown device")
        told += [
            f"trained on {DATASETS[training['dataset']].title} with {CASES[training['case']]}",
            f"seed {training['seed']}",
            f"for {_duration(story['seconds'])} on {device} ({story['patches']:,} patches)",
        ]
    return ", ".join(told) + "."


def missing_peers(methods: Sequence[str]) -> str:
    """A sentence that names the paper's rows that a table of these methods lacks; empty if it lacks none."""
    absent = [name for method, name in METHODS.items() if method not in methods]
    return f"Rows of the paper that are not here: {', '.join(absent)}." if absent else ""


def describe_rows(rows: pd.DataFrame, folder: Path | str) -> str:
    """The sentences that a table or figure of rows of one data set needs: noise, scenes, data, weights."""
    dataset, count = rows["dataset"].iloc[0], rows["scene"].nunique()
    noise = "; ".join(CASES[case] for case in rows["case"].unique())
    known = [
        (method, sidecar(folder, dataset, case, method))
        for (method, case), _ in rows.groupby(["method", "case"], sort=False)
    ]
    crop = known[0][1]["inputs"]["crop"]
    where = f", of each the central {crop} x {crop} pixels" if crop else ""
    told = [f"{noise[0].upper()}{noise[1:]}; {count} test scene{'s' * (count > 1)}{where}.", describe_data(dataset)]
    told += [describe_weights(method, story["weights"]) for method, story in known]
    return " ".join(filter(None, dict.fromkeys(told)))


def provenance(rows: pd.DataFrame, folder: Path | str) -> dict:
    """Where rows of one data set come from, for a sidecar: inputs, and code and weights of each method."""
    dataset = rows["dataset"].iloc[0]
    methods: dict[str, dict] = {}
    for (method, case), own in rows.groupby(["method", "case"], sort=False):
        known = sidecar(folder, dataset, case, method)
        methods.setdefault(method, {})[case] = {
            "code": own["code"].iloc[0],
            "shifts": known["inputs"]["shifts"],
            "weights": known["weights"],
        }
    shared = {key: known["inputs"][key] for key in ("profile", "dataset", "seed", "crop", "scenes")}
    return shared | {"cases": list(rows["case"].unique()), "methods": methods, "environment": environment()}


def _duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever reads best."""
    for limit, unit, name in ((120, 1, "seconds"), (3 * 3600, 60, "minutes"), (float("inf"), 3600, "hours")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
