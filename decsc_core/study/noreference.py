"""What can be measured of an estimate without a reference; by most of it a constant image is the best."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from decsc_core.detail_level import detail_level


def noise_levels(cube: np.ndarray) -> np.ndarray:
    """The noise level left in each band of a cube (H, W, B), on the 0-255 scale, shape (B,).

    The median absolute wavelet coefficient of the finest scale (Donoho and Johnstone, Biometrika 1994; scikit-image's
    `estimate_sigma`). Fine texture counts as noise, stripes hardly do; a constant band has none. Areas of one value
    do not count. NaN for a single row or column, which has no diagonal details.
    """
    if 1 in cube.shape[:2]:
        return np.full(cube.shape[2], np.nan)
    return 255 * np.array([detail_level(cube[..., band]) for band in range(cube.shape[2])])


def roughness(cube: np.ndarray, axis: int) -> float:
    """Mean absolute second difference of the profiles along an axis of a cube (H, W, B), in its unit.

    With axis 0 the profiles are the row means of all bands, one value a row, that the paper shows for one band; with
    axis 1 the column means, which stripes and dead columns make rough. A straight line has none; NaN for less than three values.
    """
    differences = np.diff(cube.mean(axis=1 - axis, dtype=np.float64), n=2, axis=0)
    return float(np.abs(differences).mean()) if differences.size else float("nan")


def table(cubes: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """All measures of some cubes, a row each.

    Parameters
    ----------
    cubes : mapping of print name to ndarray (H, W, B)
        The first is the noisy cube.

    Returns
    -------
    DataFrame
        `method`; `noise` and `noise_worst`, mean and largest of `noise_levels`; `row_roughness`, `column_roughness`;
        `change`, RMS difference from the noisy cube.
    """
    noisy = next(iter(cubes.values()))
    rows = []
    for name, cube in cubes.items():
        levels = noise_levels(cube)
        rows.append({
            "method": name, "noise": levels.mean(), "noise_worst": levels.max(),
            "row_roughness": roughness(cube, 0), "column_roughness": roughness(cube, 1),
            "change": float(np.sqrt(np.mean((cube.astype(np.float64) - noisy) ** 2))),
        })
    return pd.DataFrame(rows)
