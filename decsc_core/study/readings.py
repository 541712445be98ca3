"""What hangs on how "mixture" is read: the scores of some methods under both readings, over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from tempfile import TemporaryDirectory

import pandas as pd

from decsc_core.checks import check_not_empty
from decsc_core.study import paper
from decsc_core.study.captions import describe_rows, provenance
from decsc_core.study.evaluate import NOISY
from decsc_core.study.rows import gather
from decsc_core.study.tables import METRICS

READINGS = {"mixture-disjoint": "disjoint", "mixture-independent": "independent"}
"""The noise cases that are readings of the paper's mixture, and what they are called in the table."""
GAUSSIAN = "gauss-95"
"""What both begin with."""


def score(
    profile: str, dataset: str, methods: Sequence[str], *, seeds: Sequence[int], crop: int | None,
    weights: Mapping[str, str] | None = None,
) -> tuple[pd.DataFrame, str, dict]:
    """Score every method under both readings, with each seed, and the noisy cube of their Gaussian part alone.

    Parameters
    ----------
    methods : sequence of str
        Beside the noisy cube, which is scored in any case.
    seeds : sequence of int
        Of the noise. Both readings draw the same sigmas from one seed, then the rest.

    Returns
    -------
    rows : DataFrame
        As `evaluate.score_rows` has them.
    about : str
        What a caption must say of them.
    traced : dict
        Their provenance.
    """
    check_not_empty(seeds=seeds)
    parts, methods = [], list(dict.fromkeys([NOISY, *methods]))
    with TemporaryDirectory() as folder, redirect_stdout(None):
        for seed in seeds:
            own, shared = f"{folder}/{seed}", {"seed": seed, "crop": crop, "weights": weights}
            mixed = gather(profile, dataset, list(READINGS), methods, folder=own, **shared)
            parts += [mixed, gather(profile, dataset, [GAUSSIAN], [NOISY], folder=own, **shared)]
        both = pd.concat(parts, ignore_index=True)
        about, traced = describe_rows(both[both["case"].isin(READINGS)], own), provenance(mixed, own)
    return both, about, traced | {"seed": list(seeds)}


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Both readings beside each other.

    Parameters
    ----------
    rows : DataFrame
        From `score`.

    Returns
    -------
    DataFrame
        A row for each method (as printed) and metric: `method`, `index`, the mean over scenes and seeds of either
        reading, named as in `READINGS`; `difference`, independent less disjoint, and `deviation`, the standard deviation
        of that over the seeds; `seeds`, the standard deviation over the seeds of the disjoint reading. Each seed counts
        with its mean over the scenes.
    """
    mixed = rows[rows["case"].isin(READINGS)]
    by_seed = mixed.groupby(["method", "case", "seed"], sort=False)[METRICS].mean()
    by_seed = by_seed.rename_axis(columns="index").stack().unstack("case").rename(columns=READINGS)
    by_seed["difference"] = by_seed["independent"] - by_seed["disjoint"]
    grouped = by_seed.groupby(["method", "index"], sort=False)
    found = grouped.mean().assign(deviation=grouped["difference"].std(), seeds=grouped["disjoint"].std()).reset_index()
    return found.assign(method=found["method"].map(paper.label))


def losses(rows: pd.DataFrame) -> pd.DataFrame:
    """How much MPSNR [dB] the noisy cube of either reading loses to that of `GAUSSIAN`, and the paper's does.

    Returns
    -------
    DataFrame
        `of`, what it is, and `loss`.
    """
    means = rows[rows["method"] == NOISY].groupby("case")["psnr"].mean()
    found = [(name, means[GAUSSIAN] - means[case]) for case, name in READINGS.items()]
    for number, data in ((2, "ICVL"), (3, "Houston 2018")):
        printed = paper.table(number).query("method == @NOISY").set_index("case")["psnr"]
        found.append((f"the paper, {data}", printed[GAUSSIAN] - printed["mixture"]))
    return pd.DataFrame(found, columns=["of", "loss"])
