"""What a caption must say: which data these are, what they stand in for, and what the training of the weights cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from decsc_core.model import preset
from decsc_core.networks.catalog import PRIORS, configure, parameters, restore
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
REMOTE_SENSING = ("houston2018", "eo1", "gf5", "remote", "real-noise", "own")
"""The data sets of the catalogue that are remote sensing, or may be."""


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
    """The noise that a training or a parameter names, one case or several; ValueError if there is no such case."""
    cases = [case] if isinstance(case, str) else case
    if unknown := [one for one in cases if one not in CASES]:
        raise ValueError(f"there is no noise case {unknown[0]!r}; there are {', '.join(CASES)}")
    return "all five noise cases" if set(cases) == set(EVERY_CASE) else " or ".join(CASES[one] for one in cases)


def describe_weights(known: Iterable[tuple[str, Mapping | None]]) -> str:
    """A sentence on how weights came about, methods that were trained alike together; empty if nothing was learned.

    The file is named if there is one; those of several stand in the sidecar.

    Parameters
    ----------
    known : pairs of a method and a mapping or None
        `file`, `sha256` and `story`, as a sidecar of the evaluation has them.
    """
    files = {weights["sha256"]: (method, weights) for method, weights in known if weights}
    if not files:
        return ""
    if len(files) == 1:
        (method, weights), = files.values()
        trained = _training(weights["story"])
        told = trained and f", {trained}, {_cost(weights['story'])}"
        return f"Weights: {label(method)}, {weights['file']} (SHA-256 {weights['sha256'][:12]}){told}."
    alike: dict[str, dict[str, list[str]]] = {}
    for method, weights in files.values():
        costs = alike.setdefault(_training(weights["story"]) or "of a training that they do not tell", {})
        costs.setdefault(_cost(weights["story"]), []).append(label(method))
    sentences = []
    for trained, costs in alike.items():
        told = [" ".join(filter(None, [", ".join(dict.fromkeys(methods)), cost])) for cost, methods in costs.items()]
        sentences.append(f"Weights {trained}: {'; '.join(told)}.")
    return " ".join(sentences)


def describe_denoiser(weights: Mapping | None) -> str:
    """A sentence on what DECSC has otherwise than the paper's: atoms, stride, and steps beyond the network; empty without a misfit or a story."""
    model = weights and weights["story"].get("training", {}).get("model", {})
    if not model or not model.get("misfit"):
        return ""
    own, paper = (f"{one['shared_atoms']} + {one['unshared_atoms']} atoms and a stride of {one['stride']}" for one in (model, asdict(preset("paper"))))
    size = f"has {own}, the paper's {paper}, and" if own != paper else "is of the paper's size, but"
    return f"{label('decsc')} {size} gives back what its dictionaries miss and filters the noisy cube by its estimate, which the paper's does not."


def describe_reconstruction(weights: Mapping | None) -> str:
    """What our MTSNN++ is, and whether networks with such weights estimate images with gross errors again."""
    again = weights and weights["story"].get("training", {}).get("model", {}).get("gross_errors")
    when = ", with further estimates where the first one shows gross errors, as DECSC's denoiser makes further passes" if again else ""
    return f"{RECONSTRUCTED} is our reconstruction from an abstract{when}."


def describe_sizes(known: Iterable[tuple[str, Mapping | None]]) -> str:
    """A sentence on peers whose networks have another size than the published ones; empty if none has, or tells.

    Parameters
    ----------
    known
        As for `describe_weights`.
    """
    told = {}
    for method, weights in {weights["sha256"]: (method, weights) for method, weights in known if weights}.values():
        training = weights["story"].get("training", {})
        if not training or method in PRIORS:
            continue
        own = restore(method, training["model"])
        published = configure(method, **{"bands": own.bands} if hasattr(own, "bands") else {})
        counts = [parameters(config) for config in (own, published)]
        if counts[0] != counts[1]:
            told[label(method)] = "{:.2g} M parameters in place of {:.2g}".format(*(count / 1e6 for count in counts))
    return f"Not of the published size: {'; '.join(f'{name}, {size}' for name, size in told.items())}." if told else ""


def trainings(story: Mapping) -> list[Mapping]:
    """The stories of the trainings that weights went through, the first one first; none if they tell of none."""
    stories = [story] if "seconds" in story else []
    while "ancestor" in story:
        story = story["ancestor"]["story"]
        stories.append(story)
    return stories[::-1]


def seconds_of(training: Mapping) -> float:
    """What one training took, by its story: a core's time on a CPU, the clock's on a GPU."""
    return training["cpu_seconds" if device(training["environment"]) == "CPU" else "seconds"]


def _training(story: Mapping) -> str:
    """Scenes of all trainings and the noise of the last one; empty if the weights do not tell."""
    stories = trainings(story)
    if not stories:
        return ""
    scenes = dict.fromkeys(DATASETS[each["training"]["dataset"]].title for each in stories)
    return f"trained on {', then on '.join(scenes)} with {describe_noise(stories[-1]['training']['case'])}"


def _cost(story: Mapping) -> str:
    """The time of all trainings by device, CPU time on a CPU; empty if the weights do not tell."""
    spent: dict[str, float] = {}
    for each in trainings(story):
        name, *shared = (device(each["environment"]) or "an unknown device").split(", ")
        where = "of CPU time" if name == "CPU" else f"on {'a shared ' * bool(shared)}{name}"
        spent[where] = spent.get(where, 0) + seconds_of(each)
    return " and ".join(f"{_duration(seconds)} {where}" for where, seconds in spent.items())


def missing_peers(methods: Sequence[str]) -> str:
    """A sentence that names the paper's rows that a table of these methods lacks; empty if it lacks none."""
    absent = [name for method, name in METHODS.items() if method not in methods]
    return f"Rows of the paper that are not here: {', '.join(absent)}." if absent else ""


def describe_scenes(count: int, crop: int | None, split: str = "test") -> str:
    """How many scenes of a split, and how much of each."""
    where = f", of {'each' if count > 1 else 'it'} at most the central {crop} x {crop} pixels" if crop else ""
    return f"{count} {split} scene{'s' * (count > 1)}{where}"


def describe_rows(rows: pd.DataFrame, folder: Path | str) -> str:
    """The sentences that a table or figure of rows of one data set needs: noise, scenes, data, weights."""
    dataset, count = rows["dataset"].iloc[0], rows["scene"].nunique()
    noise = "; ".join(CASES[case] for case in rows["case"].unique())
    known = [
        (method, sidecar(folder, dataset, case, method))
        for (method, case), _ in rows.groupby(["method", "case"], sort=False)
    ]
    scenes, seeds = describe_scenes(count, known[0][1]["inputs"]["crop"]), rows["seed"].astype(str).unique()
    drawn = f", drawn once, seed {seeds[0]}" if len(seeds) == 1 else f", drawn with the seeds {', '.join(seeds)}"
    if (rows["case"] == AS_IS).all():
        drawn = ""
    told = [f"{noise[0].upper()}{noise[1:]}{drawn}; {scenes}.", describe_data(dataset)]
    weights = [(method, story["weights"]) for method, story in known]
    of = dict(weights)
    told += [describe_weights(weights), describe_sizes(weights), describe_denoiser(of.get("decsc"))]
    if "mtsnnpp" in of:
        told.append(describe_reconstruction(of["mtsnnpp"]))
    if "ngmeet-white" in rows["method"].unique():
        told.append(f"{label('ngmeet-white')} is ours: each band divided by its noise level before, multiplied after.")
    return " ".join(filter(None, told))


def provenance(rows: pd.DataFrame, folder: Path | str) -> dict:
    """Where rows of one data set come from, for a sidecar: inputs, code and weights of each method, and the story of all weights by their hash."""
    dataset = rows["dataset"].iloc[0]
    methods: dict[str, dict] = {}
    weights: dict[str, dict] = {}
    for (method, case), own in rows.groupby(["method", "case"], sort=False):
        known = sidecar(folder, dataset, case, method)
        used = known["weights"]
        methods.setdefault(method, {})[case] = {"code": own["code"].iloc[0], "weights": used and used["sha256"]}
        weights |= {used["sha256"]: used} if used else {}
    shared = {key: known["inputs"][key] for key in ("profile", "dataset", "seed", "crop", "scenes")}
    return shared | {"cases": list(rows["case"].unique()), "methods": methods, "weights": weights, "environment": environment()}


def _duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever reads best."""
    for limit, unit, digits, name in ((120, 1, 0, "seconds"), (3 * 3600, 60, 0, "minutes"), (float("inf"), 3600, 1, "hours")):
        if seconds < limit:
            return f"{round(seconds / unit, digits):g} {name}"
