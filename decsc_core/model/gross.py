"""Gross errors E in Y = X + N + E, as impulses, stripes and dead columns are: found in what an estimate leaves over, and cut down.

Not in the paper, whose data term |Y - X|^2 is right for Gaussian noise. An estimate X leaves Y - X over; with what exceeds a limit in
it taken out of Y, as a Huber loss in place of the square would, the next estimate is better, and leaves the errors over more clearly.
"""

from __future__ import annotations

import torch
from torch import Tensor

from decsc_core.model.misfit import deviation, limits

PASSES = 3
"""Estimates at most, each from the image without the gross errors that the one before has shown."""
FAR, SHARE = 3.5, 0.005
"""A band has gross errors if more than this share of its pixels is further off than that many deviations: of Gaussian ones, 0.0005."""


@torch.no_grad()
def cut(noisy: Tensor, image: Tensor, e: float) -> Tensor:
    """The noisy image, in bands with gross errors no further from its estimate than the `limits` of a misfit of scale `e`.

    All (N, B, H, W). Bands without gross errors stay as they are, to the bit.
    """
    rest = noisy - image
    _, sigma = deviation(rest)
    share = (rest.abs() > limits(rest, sigma, e, FAR)).to(rest).mean((-2, -1), keepdim=True)
    most = limits(rest, sigma, e)
    return torch.where(share > SHARE, image + rest.clamp(-most, most), noisy)
