"""A second look at the noisy image: an empirical Wiener filter whose pilot is the estimate.

Not in the paper. A scene has few spectra, and an estimate tells which, and where along each of them there is power, and at which
frequencies; its errors point everywhere. So the noisy image is filtered once more, each cosine coefficient of each principal component
keeping the share that is the estimate's in its power (Ghael, Sayeed, Baraniuk, Proc. SPIE 3169, 1997; in BM3D the second step). What a
network has blurred comes back where there is little noise, and what it has let through goes. All bands are taken at once, also where a
network saw them in windows. The constants were set on crops of two validation and four training scenes; notebook 13 tells the gains.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from decsc_core.model.noise_levels import noise_levels
from decsc_core.transforms import cosines

PASSES = 2
"""The first pass's result is the pilot of the second."""
SIDE = 8
"""Pixels a side of the windows whose cosine coefficients are filtered; one begins at each pixel."""
NOISE = 1.6
"""Power of the noise of a coefficient, in that of its component's noise: more than 1, for some of a pilot's power is that of its errors."""
LEAST = 1e-4
"""The noise of a band deviates by that [0, 1] at least."""
NEAR = 3
"""Bands no further away may share noise, as those of sensors do that are resampled."""
AT_ONCE, ROWS = 16, 64
"""Components, and rows of windows of one, that are held at a time."""


@torch.no_grad()
def wiener(estimate: np.ndarray, noisy: np.ndarray, trusted: np.ndarray, device: torch.device | str = "cpu") -> np.ndarray:
    """The estimate (H, W, B), float32 in [0, 1], better by what the noisy cube that it is of tells; the same shape and type.

    Parameters
    ----------
    noisy : (H, W, B)
        Float32.
    trusted : (H, W, B)
        The noisy cube with the estimate in place of gross errors, as impulses are.
    device : torch.device or str
        Where components are filtered, a few at a time.
    """
    unit = np.sqrt(_band_noise(noisy) ** 2 + LEAST**2)
    mean = estimate.mean((0, 1), dtype=np.float64)
    down, across = (cosines(min(SIDE, side)).float().to(device) for side in estimate.shape[:2])
    for _ in range(PASSES):
        axes = np.linalg.eigh(sum(white.T @ white for white in ((row - mean) / unit for row in estimate)))[1]
        into, back = ((axes * scale[:, None]).astype(np.float32) for scale in (1 / unit, unit))
        found = np.broadcast_to(mean.astype(np.float32), estimate.shape).copy()
        for first in range(0, len(mean), AT_ONCE):
            some = np.s_[:, first : first + AT_ONCE]
            pilots, images = (_components(cube, mean, into[some]).to(device) for cube in (estimate, trusted))
            filtered = torch.stack([_filter(pilot, image, down, across) for pilot, image in zip(pilots, images)])
            found += rearrange(filtered, "c h w -> h w c").cpu().numpy() @ back[some].T
        estimate = found
    return estimate


def _components(cube: np.ndarray, mean: np.ndarray, axes: np.ndarray) -> Tensor:
    """What (H, W, B) less the mean of each band has along axes (B, C): (C, H, W)."""
    return rearrange(torch.from_numpy(cube @ axes - (mean @ axes).astype(np.float32)), "h w c -> c h w").contiguous()


def _band_noise(noisy: np.ndarray) -> np.ndarray:
    """The deviation of each band's noise, (B,), in the unit of (H, W, B): the lower of two levels.

    One is what bands further away than `NEAR` do not tell by linear regression (`classical.noise_level` takes all others, and so the noise that
    neighbours share for signal), all of a clean band that noisy ones surround. The other is that of the finest details, texture among them.
    With hardly more pixels than bands there is only that.
    """
    bands, pixels = noisy.shape[2], noisy.shape[0] * noisy.shape[1]
    fine = torch.cat([noise_levels(rearrange(band, "h w -> 1 1 h w"))[0] for band in torch.from_numpy(noisy).unbind(2)]).double().numpy()
    if pixels < 2 * bands:
        return fine
    mean = noisy.mean((0, 1), dtype=np.float64)
    covariance = sum(row.T @ row for row in (row - mean for row in noisy)) / pixels
    deviation = np.sqrt(covariance.diagonal()).clip(min=1e-12)
    alike = covariance / np.outer(deviation, deviation) + 1e-9 * np.eye(bands)
    untold = np.ones(bands)
    for band in range(bands):
        far = np.abs(np.arange(bands) - band) > NEAR
        untold[band] -= alike[band, far] @ np.linalg.solve(alike[np.ix_(far, far)], alike[far, band])
        untold[band] *= pixels / (pixels - far.sum())
    return np.minimum(fine, deviation * np.sqrt(untold.clip(min=0)))


def _filter(pilot: Tensor, image: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """One component (H, W), in units of its noise, filtered in all windows; the mean of those that hold a pixel."""
    total, beyond = torch.zeros_like(image), len(down) - 1
    for top in range(0, len(image) - beyond, ROWS):
        rows = slice(top, top + ROWS + beyond)
        power = _coefficients(pilot[rows], down, across).square_()
        total[rows] += _images(_coefficients(image[rows], down, across).mul_(power).div_(power.add_(NOISE)), down, across)
    return total / torch.outer(*(_windows(side, len(cosine)).to(image) for side, cosine in zip(image.shape, (down, across))))


def _coefficients(image: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """The cosine coefficients of all windows of (H, W): (1, SIDE^2, H - SIDE + 1, W - SIDE + 1) where no side is shorter."""
    rows = F.conv2d(image[None, None], down[:, None, :, None])
    return F.conv2d(rows, _each(across, len(down)), groups=len(down))


def _images(coefficients: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """The sum of the windows of these coefficients, (H, W): the transpose of `_coefficients`."""
    rows = F.conv_transpose2d(coefficients, _each(across, len(down)), groups=len(down))
    return F.conv_transpose2d(rows, down[:, None, :, None])[0, 0]


def _each(across: Tensor, count: int) -> Tensor:
    """The cosines along rows, once for each of `count` coefficients down the columns."""
    return across[:, None, None, :].repeat(count, 1, 1, 1)


def _windows(side: int, length: int) -> Tensor:
    """How many windows of `length` hold each of `side` pixels."""
    place = torch.arange(1, side + 1)
    return torch.minimum(place, place.flip(0)).clamp(max=min(length, side - length + 1))
