"""What a caption must say: which data these are, what they stand in for, and what the training of the weights cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from decsc_core.scenes import DATASETS
from decsc_core.study.evaluate import AS_IS, sidecar
from decsc_core.study.paper import METHODS, RECONSTRUCTED, label
from decsc_core.study.provenance import device, environment

CASES = {
    "gauss-15": "non-i.i.d. Gaussian noise, σ in [0, 15]",
    "gauss-55": "non-i.i.d. Gaussian noise, σ in [0, 55]",
    "gauss-95": "non-i.i.d. Gaussian noise, σ in [0, 95]",
    "mixture": "mixture noise",
    "mixture-disjoint": "mixture noise on disjoint thirds of the bands",
    "mixture-independent": "mixture noise on independent thirds of the bands",
    "corr": "noise with spectrally correlated variance",
    AS_IS: "noise of the sensor itself, no reference",
}
"""What the noise cases are called in print."""
EVERY_CASE = ("gauss-15", "gauss-55", "gauss-95", "mixture", "corr")
"""Those of Tables II and III."""
REMOTE_SENSING = ("houston2018", "eo1", "gf5", "remote", "real-noise")
"""The data sets of the catalogue that are remote sensing."""


def describe_data(dataset: str) -> str:
    """A sentence that names a data set and says what it stands in for."""
    entry = DATASETS[dataset]
    stand_in = f", standing in for {entry.stand_in}" if entry.stand_in else ""
    return f"Data: {entry.title}{stand_in}."


def describe_place(dataset: str) -> str:
    """A sentence for close-range scenes that take the place of remote-sensing ones; empty for remote-sensing scenes."""
    if dataset in REMOTE_SENSING:
        return ""
    return "These are no remote-sensing scenes; they only show that the comparison runs."


def describe_noise(case: str | Sequence[str]) -> str:
    """The noise that a training names, one case or several."""
    cases = [case] if isinstance(case, str) else case
    return "all five noise cases" if set(cases) == set(EVERY_CASE) else " or ".join(CASES[one] for one in cases)


def describe_weights(known: Iterable[tuple[str, Mapping | None]]) -> str:
    """Sentences on how weights came about, one for all that were trained alike; empty if nothing was learned.

    Parameters
    ----------
    known : pairs of a method and a mapping or None
        `file`, `sha256` and `story`, as a sidecar of the evaluation has them.
    """
    alike: dict[str, list[str]] = {}
    for method, weights in known:
        if not weights:
            continue
        told = [f"SHA-256 {weights['sha256'][:12]}"]
        trained = "Weights"
        if "training" in weights["story"]:
            trained += f" trained on {_training(weights['story'])}"
            told.append(f"{_duration(weights['story']['seconds'])}, {weights['story']['patches']:,} patches")
            told += _before(weights["story"])
        alike.setdefault(trained, []).append(f"{label(method)} {weights['file']} ({'; '.join(told)})")
    alike = {trained: dict.fromkeys(files) for trained, files in alike.items()}
    return " ".join(f"{trained}: {', '.join(files)}." for trained, files in alike.items())


def _training(story: Mapping) -> str:
    """Scenes, noise, seed and device of a training."""
    training, scenes = story["training"], DATASETS[story["training"]["dataset"]].title
    where = device(story["environment"]) or "an unknown device"
    return f"{scenes} with {describe_noise(training['case'])}, seed {training['seed']}, on {where}"


def _before(story: Mapping) -> list[str]:
    """What the trainings cost that the weights had before their last one, together; nothing if there were none."""
    scenes, seconds = [], {}
    while "ancestor" in story:
        story = story["ancestor"]["story"]
        scenes.append(DATASETS[story["training"]["dataset"]].title)
        where = (device(story["environment"]) or "an unknown device").split(",")[0]  # and not with how many it was shared
        seconds[where] = seconds.get(where, 0) + story["seconds"]
    if not scenes:
        return []
    spent = " and ".join(f"{_duration(took)} on {where}" for where, took in seconds.items())
    return [f"before that {len(scenes)} training{'s' * (len(scenes) > 1)} on {' and '.join(dict.fromkeys(scenes))}, {spent}"]


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
    told.append(describe_weights((method, story["weights"]) for method, story in known))
    if "mtsnnpp" in rows["method"].unique():
        told.append(f"{RECONSTRUCTED} is our reconstruction from an abstract.")
    return " ".join(filter(None, told))


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
