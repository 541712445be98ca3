"""Which values are an image in about [0, 1]."""

from __future__ import annotations

import numpy as np

REFLECTANCE_LIKE = (-0.5, 1.5)
"""Floats whose 5th to 95th percentiles lie in this interval are taken as [0, 1] data and left as they are, ..."""
REFLECTANCE_SPAN = 0.25
"""... if their 0.1 and 99.9 percentiles are at least this far apart, ..."""
DARKEST = -0.06
"""... and their darkest areas no darker than this, as those of cubes are whose mean was taken away. Of crops in [0, 1]
with noise of the paper's cases none was below -0.04."""

LARGEST = 1e3
"""A single value that lies this far from 0 where the others lie in about [0, 1] is no datum."""


def dark_level(cube: np.ndarray) -> float:
    """How bright the darkest areas of (H, W, B) are: the 5th percentile of the means of 9 x 9 pixels of a band, which noise hardly moves.

    Of many bands some 32 evenly spaced ones are enough.
    """
    from scipy.ndimage import uniform_filter

    cube = cube[:, :, :: max(cube.shape[2] // 32, 1)]
    if cube.dtype not in (np.float32, np.float64):  # the others that the filter does not take among them
        cube = cube.astype(np.float64)
    return float(np.percentile(uniform_filter(cube, (9, 9, 1)), 5))
