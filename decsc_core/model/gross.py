"""Gross errors E in Y = X + N + E, as impulses, stripes and dead columns are: found in what an estimate leaves over, and cut down.

Not in the paper, whose data term |Y - X|^2 is right for Gaussian noise. An estimate X leaves Y - X over; with what exceeds a limit in
it taken out of Y, as a Huber loss in place of the square would, the next estimate is better, and leaves the errors over more clearly.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from decsc_core.model.misfit import deviation, limits

PASSES = 3
"""Estimates at most, each from the image without the gross errors that the one before has shown."""
FAR, SHARE = 3.5, 0.005
"""A band may have gross errors if more than this share of its pixels is further off than that many deviations: of Gaussian ones, 0.0005."""
POWER = 0.16
"""An image has gross errors if they are more than this share of what is left over of some band, in power: those of mixture noise are
0.6 or more, fine texture that an estimate has missed mostly less than 0.15."""
HALF = 0.5
"""In deviations of a band, how much of what an estimate leaves over `nearer` keeps: of 0.25, 0.5 and 0.75 the best for MTSNN++ on CAVE's
validation scenes."""


@torch.no_grad()
def cut(noisy: Tensor, image: Tensor, e: float) -> Tensor:
    """The noisy image, in bands with gross errors no further from its estimate than the `limits` of a misfit of scale `e`.

    All (N, B, H, W). Bands without gross errors, and images without, stay as they are, to the bit.
    """
    rest = noisy - image
    _, sigma = deviation(rest)
    far = rest.abs() > limits(rest, sigma, e, FAR)
    most = limits(rest, sigma, e)
    beyond = (rest.abs() - most) * far
    many = _mean(far.to(rest)) > SHARE
    much = _mean(beyond**2) > POWER * _mean(rest**2)
    return torch.where(many & (many & much).any(1, keepdim=True), image + rest.clamp(-most, most), noisy)


@torch.no_grad()
def nearer(noisy: Tensor, image: Tensor, e: float) -> Tensor:
    """The noisy image, in all bands no further from its estimate than `HALF` a deviation of what that leaves over of the band, or `e`.

    All (N, B, H, W). Of estimates one after the other, each from that, a Huber loss is the data term, not far from absolute
    values. For networks that cannot tell how noisy a band is; `cut` leaves those that can the noise that they have learned.
    """
    rest = noisy - image
    most = (HALF * deviation(rest)[1]).clamp(min=e)
    return image + rest.clamp(-most, most)


def found(noisy: Tensor, image: Tensor, e: float) -> Tensor:
    """Which images (N, B, H, W) have gross errors, as their estimates show and `cut` tells: (N, 1, 1, 1) bool."""
    return (cut(noisy, image, e) != noisy).flatten(1).any(1)[:, None, None, None]


def again(noisy: Tensor, first: Tensor, estimate: Callable[[Tensor], Tensor], e: float) -> Tensor:
    """The third estimate of images with gross errors, each but the first from what is `nearer` to the one before; `first` of all others."""
    spoilt = found(noisy, first, e)
    if not spoilt.any():
        return first
    second = estimate(nearer(noisy, first, e))
    return torch.where(spoilt, estimate(nearer(noisy, second, e)), first)


def _mean(bands: Tensor) -> Tensor:
    """Over the pixels of each band: (N, B, H, W) -> (N, B, 1, 1)."""
    return bands.mean((-2, -1), keepdim=True)
