"""What a single band of a cube shows: whether it holds an image, and how noisy it is."""

from __future__ import annotations

import warnings

import numpy as np

BLANK = 0.1
"""With more than this share of zero details a band has areas of one value, which tell nothing of its noise."""


def single_valued(cube: np.ndarray) -> np.ndarray:
    """True for bands (B,) of (H, W, B) that have one value in all pixels, as dead ones have; nowhere if all bands do."""
    single = (cube == cube[:1, :1]).all(axis=(0, 1))
    return single & (not single.all())


def detail_level(image: np.ndarray) -> float:
    """Standard deviation of the noise of a band (H, W), at least 6 x 6 pixels, from its finest diagonal wavelet details.

    Areas of one value do not count; 0 where there is no more than rounding.
    """
    import pywt  # here, for they take half a second
    from skimage.restoration import estimate_sigma

    details = np.abs(pywt.dwtn(image, "db2")["dd"])
    zero = details <= 1e-6 * np.abs(image).mean()
    if zero.mean() > BLANK:
        return 0.0 if zero.all() else float(np.median(details[~zero]) / 0.6745)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the mean of no details, and of bands as narrow as pixels have colours
        sigma = float(estimate_sigma(image))
    return sigma if sigma > 1e-6 * np.abs(image).max() else 0.0
