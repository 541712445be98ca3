"""How many times brighter a dark image and its dark bands are made for a network whose misfit and noise floor are of bands that span [0, 1].

Not in the paper. Of a scene that spans [0, 1], some tiles and windows of bands are dark, and their texture no larger than what is taken
for misfit there: it is smoothed away. On 20 crops of training scenes the networks of the package gain 0.5 dB by it with `gauss-15` and
0.2 dB in `mixture` in the mean, dark ones up to 2.2 dB, and lose 0.1 dB with stronger Gaussian noise, none more than 0.9 dB; short trained
networks, whose reconstruction errs in proportion to the brightness, gain less, and lose up to 2.3 dB on some crops.

Of radiance some bands are dark in all the image. They are made brighter beyond that, where they stand out of their noise: crops of two
remote-sensing scenes, with and without the sun's spectrum, gain 0.1 to 6.1 dB; of five close-range crops one loses 0.5 dB.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import median_filter
from torch import Tensor

BRIGHT, NOISY, MOST = 0.7, 0.5, 4.0
"""A dark image is made brighter until its brightest areas are that bright or the noise of some band is that strong, at most so many times."""
DARK, CLEAR, MOST_OF_A_BAND = 0.25, 5.0, 16.0
"""A band is made brighter until its brightest areas are that share of those of the brightest band, or so many times its noise, at most so
many times."""
AREA, SHARE = 5, 0.999
"""Side of an area in pixels, whose median no impulse and no narrow stripe raises; and the share of all areas that are no brighter."""


def gain(image: Tensor, noise: Tensor) -> Tensor:
    """The factor of each band, (1, B, 1, 1), at least 1, for one image (1, B, H, W), noisy or an estimate, and the noise levels of its bands."""
    areas = median_filter(image[0].cpu().numpy(), size=(1, AREA, AREA))
    of_bands = np.quantile(areas, SHARE, axis=(1, 2)).clip(1e-6)
    levels = noise.flatten().cpu().numpy().clip(1e-6)
    whole = np.clip(min(BRIGHT / max(np.quantile(areas, SHARE), 1e-6), NOISY / levels.max()), 1, MOST)
    own = np.clip(np.minimum(DARK * of_bands.max() / of_bands, of_bands / levels / CLEAR), 1, MOST_OF_A_BAND)
    return torch.from_numpy(whole * own).to(image)[None, :, None, None]
