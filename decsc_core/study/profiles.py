"""The profiles of config/: what they must hold."""

from __future__ import annotations

from collections.abc import Iterable

from decsc_core.denoisers.registry import LEARNED, METHODS
from decsc_core.metrics import SSIM_WINDOW
from decsc_core.networks.catalog import sizes
from decsc_core.noise import CASES
from decsc_core.scenes import DATASETS
from decsc_core.study import schema
from decsc_core.study.evaluate import AS_IS, NOISY


def _one(names: Iterable[str]) -> dict:
    return {"enum": list(names)}


def _some(names: Iterable[str], **more) -> dict:
    described = {"description": "give a list of names, each once"}
    return {"type": "array", "items": _one(names), "minItems": 1, "uniqueItems": True} | described | more


def _whole(least: int) -> dict:
    return {"type": "integer", "minimum": least}


_NAME = {"type": "string", "minLength": 1}
_SCORED = [NOISY, *METHODS]
_WEIGHTS = {
    "type": "object", "propertyNames": _one(LEARNED), "additionalProperties": _NAME, "description": "give a mapping of methods to files"
}
SCHEMA = schema.section({
    "profile": _NAME,
    "seed": _whole(0),
    "dataset": _one(DATASETS),
    "cases": _some(CASES),
    "case": _one(CASES),
    "methods": _some(_SCORED),
    "crop": {"type": ["integer", "null"], "minimum": SSIM_WINDOW},
    "weights": _WEIGHTS,
    "train": schema.section({
        "method": _one(LEARNED),
        "preset": _NAME,
        "dataset": _one(DATASETS),
        "case": _one(CASES),
        "minutes": {"type": "number", "exclusiveMinimum": 0},
    }),
    "remote": schema.section(
        {"dataset": _one(DATASETS), "cases": _some(CASES), "case": _one(CASES), "methods": _some(_SCORED)}, {"weights": _WEIGHTS}
    ),
    "real": schema.section({
        "scenes": {
            "type": "object", "propertyNames": _NAME, "additionalProperties": _one(DATASETS), "minProperties": 2, "maxProperties": 2,
            "description": "give two scenes and the data set of each",
        },
        "case": _one([*CASES, AS_IS]),
        "methods": _some(
            _SCORED, prefixItems=[{"const": NOISY}], minItems=2, description=f"give {NOISY} first, with which the others are compared"
        ),
    }),
    "complexity": schema.section({
        "size": _whole(1), "shifts": {"type": ["integer", "null"], "minimum": 1}, "methods": _some(METHODS)
    }),
    "campaign": _NAME,
    "comparison": _NAME,
    "threads": _whole(1),
    "gpus": _whole(0),
    "mem_mb": _whole(1),
    "runtime": _whole(1),
})


def check(profile: dict) -> None:
    """Refuse a profile that cannot be carried out.

    Raises
    ------
    ValueError
        If a key is missing, unknown or holds what it cannot; the message is one line and names it.
    """
    schema.check(profile, SCHEMA)
    for where, part in (("", profile), ("remote.", profile["remote"])):
        if part["case"] not in part["cases"]:
            raise ValueError(f"{where}case: {part['case']!r} is not one of {where}cases, {', '.join(part['cases'])}")
    if (preset := profile["train"]["preset"]) not in (there := sizes(profile["train"]["method"])):
        raise ValueError(f"train.preset: {preset!r} is not one of {', '.join(there)}")
    if not {*profile["complexity"]["methods"]} & {*profile["methods"]}:
        raise ValueError("complexity.methods: none of them is one of methods, whose scores the table takes; add one to both")
    dataset, remote = profile["dataset"], profile["remote"]
    if remote.get("weights") and dataset in (remote["dataset"], *profile["real"]["scenes"].values()):
        raise ValueError(f"remote.weights: are for other scenes than those of {dataset!r}, the dataset; name weights for these in weights")
