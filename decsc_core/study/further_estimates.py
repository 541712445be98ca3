"""What peers gain by two more estimates of an image with gross errors, each from an image that is nearer to the estimate before, as MTSNN++ may make them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from decsc_core import metrics
from decsc_core.model.gross import again
from decsc_core.scenes import Scene
from decsc_core.study.evaluate import noisy_cube
from decsc_core.study.last_steps import alone, as_cube, as_images

E = 0.015
"""Scale of the misfit beside which gross errors are told: that of DECSC's networks."""


def score(networks: Mapping[str, tuple[str, Path | str]], scenes: Sequence[Scene], case: str, seed: int) -> pd.DataFrame:
    """MPSNR of the first estimate and of the last, means over scenes; of those that MTSNN++ makes by itself only the first counts.

    Parameters
    ----------
    networks : mapping
        Method and file of weights, by a name.
    case : str
        A noise case.
    seed : int
        Of the noise.

    Returns
    -------
    DataFrame
        `name`, `first` and `last` [dB], `gain`.
    """
    rows = []
    for name, (method, weights) in networks.items():
        denoise, scores = alone(method, weights), []
        for scene in scenes:
            noisy = noisy_cube(scene, case, seed)
            first = denoise(noisy).cube
            last = as_cube(again(as_images(noisy), as_images(first), lambda images: as_images(denoise(as_cube(images)).cube), E))
            scores.append([metrics.mpsnr(scene.cube, estimate) for estimate in (first, last)])
        first, last = pd.DataFrame(scores).mean()
        rows.append({"name": name, "first": first, "last": last, "gain": last - first})
    return pd.DataFrame(rows)
