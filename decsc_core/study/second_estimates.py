"""What networks gain by a second estimate, from the image without the gross errors that the first one shows, as DECSC's denoiser makes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from decsc_core import metrics
from decsc_core.model.gross import cut
from decsc_core.scenes import Scene
from decsc_core.study.evaluate import noisy_cube
from decsc_core.study.last_steps import alone, as_cube, as_images

E = 0.015
"""Scale of the misfit beside which gross errors are told: that of DECSC's networks."""


def score(networks: Mapping[str, tuple[str, Path | str]], scenes: Sequence[Scene], case: str, seed: int) -> pd.DataFrame:
    """MPSNR of the first estimate and of the second, means over scenes; of estimates that a network makes by itself only the first counts.

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
        `name`, `first` and `second` [dB], `gain`.
    """
    found = []
    for name, (method, weights) in networks.items():
        denoise, scores = alone(method, weights), []
        for scene in scenes:
            noisy = noisy_cube(scene, case, seed)
            first = denoise(noisy).cube
            second = denoise(as_cube(cut(as_images(noisy), as_images(first), E))).cube
            scores.append([metrics.mpsnr(scene.cube, estimate) for estimate in (first, second)])
        first, second = pd.DataFrame(scores).mean()
        found.append({"name": name, "first": first, "second": second, "gain": second - first})
    return pd.DataFrame(found)
