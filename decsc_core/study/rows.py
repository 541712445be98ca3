"""What Tables II and III and their figures are drawn from: rows of methods, estimates of one scene, row means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from decsc_core.checks import check_not_empty
from decsc_core.denoisers.registry import METHODS
from decsc_core.metrics import row_mean
from decsc_core.scenes import Scene
from decsc_core.study.evaluate import evaluated_scene, figure_estimate, score_rows, sidecar
from decsc_core.study.paper import label


def gather(
    profile: str, dataset: str, cases: Sequence[str], methods: Sequence[str], *, seed: int, folder: Path | str,
    crop: int | None = None, weights: Mapping[str, str] | None = None, scenes: Sequence[str] | None = None,
) -> pd.DataFrame:
    """The rows of every method in every noise case, as `score_rows` computes or reads them, in the order given.

    Parameters
    ----------
    weights : mapping, optional
        The weights file of a method; one that is not named uses those that come with the package.

    Raises
    ------
    ValueError
        If there are no cases or no methods, weights are given for a method that there is not, or as `score_rows` does.
    """
    check_not_empty(cases=cases, methods=methods)
    weights, seen = weights or {}, {}
    if unknown := [name for name in weights if name not in METHODS]:
        raise ValueError(f"weights: there is no method {unknown[0]!r}; there are {', '.join(METHODS)}")
    parts = [
        score_rows(
            profile, dataset, case, method, seed=seed, folder=folder, crop=crop, scenes=scenes,
            weights=weights.get(method), seen=seen,
        )
        for case in cases
        for method in methods
    ]
    return pd.concat(parts, ignore_index=True)


def of_case(rows: pd.DataFrame, case: str) -> pd.DataFrame:
    """The rows of one noise case; ValueError if there are none."""
    if case not in (there := list(rows["case"].unique())):
        raise ValueError(f"case={case!r} is none of the noise cases that were scored; choose one of {', '.join(there)}")
    return rows[rows["case"] == case]


def estimates(rows: pd.DataFrame, folder: Path | str) -> tuple[Scene, dict[str, np.ndarray], dict[str, str]]:
    """The scene of the figures, and what every method made of it.

    Parameters
    ----------
    rows : DataFrame
        Of one data set and noise case.

    Returns
    -------
    scene : Scene
        As it was evaluated.
    cubes : dict of print name to ndarray (H, W, B)
        In the order of the rows.
    notes : dict of print name to str
        The MPSNR of each, where there is a reference.
    """
    dataset, case = rows["dataset"].iloc[0], rows["case"].iloc[0]
    methods = list(rows["method"].unique())
    known = sidecar(folder, dataset, case, methods[0])
    scene = evaluated_scene(dataset, known["figure_scene"], known["inputs"]["crop"])
    cubes = {label(method): figure_estimate(folder, dataset, case, method) for method in methods}
    own = rows[(rows["scene"] == scene.name) & rows["psnr"].notna()]
    return scene, cubes, {label(row.method): f"{row.psnr:.2f} dB" for row in own.itertuples()}


def row_means(cubes: Mapping[str, np.ndarray], band: int) -> pd.DataFrame:
    """Row-mean profiles of one band, counted from 1: `row`, from 1, and a column a cube."""
    profiles = {title: row_mean(cube, band - 1) for title, cube in cubes.items()}
    rows = len(next(iter(profiles.values())))
    return pd.DataFrame({"row": range(1, rows + 1), **profiles})


def row_mean_distances(profiles: pd.DataFrame) -> pd.DataFrame:
    """RMS distance of each profile of `row_means` from the first: `method` and a column for the distance."""
    reference, *others = profiles.columns.drop("row")
    squared = profiles[others].sub(profiles[reference], axis=0) ** 2
    distance = (squared.mean() ** 0.5).rename(f"RMS difference from {reference.lower()}")
    return distance.rename_axis("method").reset_index()
