"""How noisy a band is by its finest details."""

from __future__ import annotations

import warnings

import numpy as np

BLANK = 0.1
"""With more than this share of zero details a band has areas of one value, which tell nothing of its noise."""


def detail_level(image: np.ndarray) -> float:
    """Standard deviation of the noise of a band (H, W), from its finest diagonal wavelet details.

    At least 2 x 2 pixels; of less than 6 x 6 they are mostly those of its reflected border. Areas of one value do not count; 0 where there is no more than rounding.
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
