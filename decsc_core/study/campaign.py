"""A campaign: trainings as data, carried out one after the other, resumed where they stopped, and none done twice.

A YAML file maps the name of each run to what it is: `method` and `preset` (default: ``small``), and any field of
`decsc_core.study.recipes.TrainConfig` that its recipe does not give. `patches` may stand in place of `steps` or `minutes`; `model` holds
changed fields of the network's configuration; `start` is the name of an earlier run, of a network with the same tensors or
of DECSC with the other prior.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import fields, replace
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd
from pooch import file_hash

from decsc_core import weights
from decsc_core.networks.catalog import as_method, configure, method_of, sizes
from decsc_core.scenes import DATASETS
from decsc_core.study import schema
from decsc_core.study.provenance import device
from decsc_core.study.recipes import RECIPES, TrainConfig
from decsc_core.study.run_folder import claim, log_rows, unlike
from decsc_core.study.train import train

_NUMBER = {"type": "number", "description": "YAML writes small ones as 5.0e-4"}
_WORD = {"type": "string"}
_RUN = schema.section({"method": {"enum": list(RECIPES)}}, {
    **{field.name: _NUMBER for field in fields(TrainConfig) if field.type.split()[0] in ("int", "float")},
    **dict.fromkeys(("preset", "start", "optimizer", "precision"), _WORD),
    "dataset": {"enum": list(DATASETS)},
    "fixed_norms": {"type": "boolean"},
    "patches": _NUMBER,
    "case": {"type": ["string", "array"], "items": _WORD},
    "schedule": {"type": "array", "items": {"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 2, "description": "give two numbers"}},
    "evaluations": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
    "model": {"type": "object", "description": "give fields of the network's configuration"},
})
"""What a run must be."""


def read(file: Path | str, folder: Path | str) -> dict[str, TrainConfig]:
    """The runs of a campaign by name, in the order of the file; the weights of earlier ones are looked for in `folder`.

    Raises
    ------
    ValueError
        If the file is no such mapping or an empty one, or a run has an unknown or a wrong field; the message names file and run.
    OSError
        If the file cannot be read.
    """
    campaign = schema.read(file)
    if not isinstance(campaign, dict) or not campaign or not all(isinstance(run, dict) for run in campaign.values()):
        raise ValueError(f"{file}: expected a mapping of names to runs, as name: {{method: decsc, patches: 4000}}")
    runs: dict[str, TrainConfig] = {}
    for name, run in campaign.items():
        try:
            runs[name] = _run(name, run, runs, Path(folder))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{file}: {name}: {error}") from None
    return runs


def last(runs: Mapping[str, TrainConfig]) -> list[str]:
    """The runs on the data set and for the noise cases of the first one that no other of them begins from, at once or by steps.

    Less ablations: those that differ from one of their method above in the network alone.
    """
    first = next(iter(runs.values()))
    alike, begun = {name: config for name, config in runs.items() if (config.dataset, config.cases) == (first.dataset, first.cases)}, set()
    for config in alike.values():
        while config.start and (start := Path(config.start).parent.name) not in begun:
            begun.add(start)
            config = runs[start]
    found: dict[str, TrainConfig] = {}
    for name, config in alike.items():
        own = (other for other in found.values() if method_of(other.model) == method_of(config.model))
        if name not in begun and not any(other == replace(config, model=other.model) for other in own):
            found[name] = config
    return list(found)


def tuned(runs: Mapping[str, TrainConfig]) -> dict[str, str]:
    """The runs for one noise case alone that begin from one for several, on the same data set, and which one that is."""
    begun = {name: Path(config.start).parent.name for name, config in runs.items() if config.start}
    return {
        name: start for name, start in begun.items()
        if runs[name].dataset == runs[start].dataset and len(runs[name].cases) == 1 < len(runs[start].cases)
    }


def alike(runs: Mapping[str, TrainConfig]) -> list[list[str]]:
    """The runs, those together that differ in the seed alone."""
    groups: list[list[str]] = []
    for name, config in runs.items():
        own = next((group for group in groups if config == replace(runs[group[0]], seed=config.seed)), None)
        if own is None:
            groups.append([name])
        else:
            own.append(name)
    return groups


def difference(config: TrainConfig, story: dict) -> str:
    """What a weights file tells otherwise of its training than a run describes, in a few words; empty if nothing.

    Fields that came after the training count as it would have had them, their defaults. Of the weights that a training
    started from only counts that there were some, for their file may have had another name.
    """
    try:
        own = TrainConfig.from_json(story["training"])
    except (KeyError, TypeError, ValueError):
        return "they tell of no training that this version knows"
    return own.difference(replace(config, start=config.start and (own.start or config.start)))


def carry_out(runs: dict[str, TrainConfig], folder: Path | str, progress: bool = True) -> None:
    """Train what is not trained yet, each run in the folder of its name inside `folder`.

    A run that the file describes otherwise by now, or that began from weights that have changed, is trained anew; what was
    there is set aside, under a name that ends in ``.old-1`` or a higher number, and that is told.

    Raises
    ------
    ValueError, RuntimeError, FileExistsError
        As `decsc_core.study.train.train`; a run that another process is training is not set aside.
    """
    for name, config in runs.items():
        place = Path(folder) / name
        if os.environ.get("RANK", "0") == "0" and unlike(place, config):  # of several processes the first
            with ExitStack() as held:
                claim(place, held)
                if what := unlike(place, config):  # another process may have set it aside meanwhile
                    aside = next(path for number in count(1) if not (path := place.with_name(f"{name}.old-{number}")).exists())
                    print(f"{place}: holds a run {what}; set aside as {aside.name}", file=sys.stderr)
                    place.rename(aside)
        train(config, place, resume=True, progress=progress)


def state(
    runs: dict[str, TrainConfig], folder: Path | str, published: Mapping[str, Path] | None = None
) -> pd.DataFrame:
    """How far each run is and what came of it, from its weights or, while there are none, from its log: a row each.

    `run`, `method`, `dataset`, `case`, `seed`, `start` (the run it began from, "" for none); `device`, "" while there are no
    weights; `patches` taken so far, `minutes` and `cpu_minutes` spent; `validation` [dB], the best MPSNR, at the step
    `best_step`; `residual`, the largest relative residual at the last validation that the log tells of; `sha256` (its first 12 digits), `bytes` and `code`
    (version) of the weights; `state`: finished, under way or not begun.

    Parameters
    ----------
    published : mapping, optional
        Weights files by the name of their run; they count before those in `folder`. Weights tell of the runs that they began
        from, too. Those of a training that was not as the run describes do not count.

    Raises
    ------
    WeightsError
        If a weights file cannot be used.
    """
    results = _results(runs, Path(folder), published or {})
    rows = []
    for name, config in runs.items():
        log = log_rows(Path(folder) / name / "log.jsonl")
        residuals = [line["validation_residual"] for line in log if "validation_residual" in line]
        rows.append({
            "run": name,
            "method": method_of(config.model),
            "dataset": config.dataset,
            "case": ", ".join(config.cases),
            "seed": config.seed,
            "start": Path(config.start).parent.name if config.start else "",
            "device": "",
            **(results.get(name) or _progress(log)),
            "residual": residuals[-1] if residuals else float("nan"),
            "state": "finished" if name in results else "under way" if log else "not begun",
        })
    columns = ["run", "method", "dataset", "case", "seed", "start", "device", "patches", "minutes", "cpu_minutes", "validation",
               "residual", "best_step", "sha256", "bytes", "code", "state"]
    return pd.DataFrame(rows, columns=columns).astype({"best_step": "Int64", "bytes": "Int64"})


def _progress(log: list[dict]) -> dict:
    """What a log tells of a run that is not finished."""
    scores = {line["step"]: line["validation_psnr"] for line in log if math.isfinite(line.get("validation_psnr", math.nan))}
    best = max(scores, key=scores.get, default=None)
    return {
        "patches": log[-1]["patches"] if log else 0,
        "minutes": log[-1]["seconds"] / 60 if log else 0.0,
        "validation": scores.get(best, float("nan")),
        "best_step": best,
    }


def _results(runs: dict[str, TrainConfig], folder: Path, published: Mapping[str, Path]) -> dict[str, dict]:
    """What weights tell of each finished run."""
    found: dict[str, tuple[dict, str, int | None]] = {}
    for name in reversed(runs):  # the later ones first, for they tell of the earlier ones that they began from
        for path in (published.get(name), folder / name / "weights.safetensors"):
            if path is not None and path.exists() and not difference(runs[name], (story := weights.described(path)["story"])):
                found[name] = story, file_hash(path), path.stat().st_size
                break
        start, ancestor = runs[name].start, found[name][0].get("ancestor") if name in found else None
        begun = Path(start).parent.name if start and ancestor else ""
        if begun in runs and not difference(runs[begun], ancestor["story"]):
            found.setdefault(begun, (ancestor["story"], ancestor["sha256"], None))
    return {
        name: {
            "device": device(story["environment"]),
            "patches": story["patches"],
            "minutes": story["seconds"] / 60,
            "cpu_minutes": story["cpu_seconds"] / 60,
            "validation": story["validation_psnr"],
            "best_step": story["best_step"],
            "sha256": sha256[:12],
            "bytes": size,
            "code": story["environment"]["code_version"],
        }
        for name, (story, sha256, size) in found.items()
    }


def _run(name: str, run: dict[str, Any], earlier: dict[str, TrainConfig], folder: Path) -> TrainConfig:
    """One run; `earlier` are those above it."""
    if not isinstance(name, str) or name in ("", "..") or Path(name).name != name:
        raise ValueError(f"{name!r} cannot name a folder; give runs names that are words, without '/'")
    schema.check(run, _RUN)
    run = dict(run)
    method, preset = run.pop("method"), run.pop("preset", "small")
    if preset not in sizes(method):
        raise ValueError(f"preset: {preset!r} is not one of {', '.join(sizes(method))}")
    if len(budgets := [field for field in ("steps", "minutes", "patches") if field in run]) != 1:
        raise ValueError(f"give the budget as one of steps, minutes and patches, not as {' and '.join(budgets) or 'none of them'}")
    patches = run.pop("patches", None)
    changes = run.pop("model", {})
    if "start" in run:
        if run["start"] not in earlier:
            raise ValueError(f"start: no run {run['start']!r} above it")
        model = as_method(earlier[run["start"]].model, method)
        if method_of(model) != method:
            raise ValueError(f"start: {run['start']} trains a network of {method_of(model)}, not of {method}")
        run["start"] = str(folder / run["start"] / "weights.safetensors")
    else:
        model = configure(method, preset)
    if unknown := sorted(map(str, changes.keys() - (names := {field.name for field in fields(model)}))):
        raise ValueError(f"model: {unknown[0]!r} is not a field of {method}; it has {', '.join(sorted(names))}")
    try:
        model = replace(model, **changes)
    except (TypeError, ValueError) as error:
        raise ValueError(f"model: {error}") from None
    if (other := method_of(model)) != method:
        raise ValueError(f"model: that is a network of {other}, not of {method}; give it as the method")
    given = RECIPES[method][preset] | run
    if patches is not None:
        batch = given.get("batch", TrainConfig.batch)
        if batch < 1 or patches < 1 or patches % batch:
            raise ValueError(f"patches: {patches} is no multiple of the batch, {batch}")
        given["steps"] = patches // batch
    return TrainConfig(model, **given)
