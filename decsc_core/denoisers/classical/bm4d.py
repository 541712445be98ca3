"""BM4D: block matching and 4-D filtering (Maggioni, Katkovnik, Egiazarian, Foi, IEEE TIP 22(1), 2013)."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor
from tqdm.auto import tqdm

from decsc_core.denoisers.base import Record
from decsc_core.denoisers.classical.matching import gather, grid, nearest, scatter_add, spread
from decsc_core.denoisers.classical.base import NoiseAware, check_counts, check_least
from decsc_core.transforms import cosines

THRESHOLDING_SIDE, WIENER_SIDE = 4, 5
FARTHEST_NOISY, FARTHEST_PILOT = 25000 / 255**2, 3500 / 255**2
"""Squared difference per voxel above which a cube does not join a group, for the noisy volume and for the pilot."""
SMALLEST_SIGMA = 1e-4
"""Noise level, in the working range [0.15, 0.85], that a group is given at least."""
CHUNK = 2**25
"""Bytes of one array of groups."""

Shrink = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""From the coefficients (groups, cubes, coefficients) of the noisy volume and of the guide: the shrunk, the weights."""


class BM4D(NoiseAware):
    """Collaborative filtering of groups of similar cubes, in two passes.

    Every cube of voxels is grouped with the cubes most like it, the group is decorrelated by a separable 4-D
    transform T (three axes of the cube, one along the group), shrunk there, and put back. A voxel becomes the weighted
    mean of all estimates of it. There is no single objective; each pass is the shrinkage of every group G:

    1. Cubes of 4 voxels a side, matched in the noisy volume; T is Haar on all four axes. Coefficients c of T G are kept
       where ``|c| > threshold * sigma``; the group's weight is ``1 / (sigma^2 max(number kept, 1))``.
    2. Cubes of 5, matched in the estimate of pass 1; T is the DCT on the cube, Haar along the group. With p the
       coefficients of the estimate, c is multiplied by the empirical Wiener factor ``w = p^2 / (p^2 + sigma^2)``; the
       group's weight is ``1 / (sigma^2 sum(w^2))``.

    This is the "modified profile" of the legacy release (version 3), which the comparisons in the literature ran: of
    the paper's steps (Sec. III) it has no Kaiser window in the aggregation, and its biorthogonal 1.5 wavelet is, on 4
    points, Haar. References lie every `step` voxels and at the far end of each axis; a group keeps the largest power of
    two of its cubes. The volume is first mapped onto [0.15, 0.85], and nothing is clipped.

    On noise that differs from band to band neither kind of sigma always wins: against the true mean, `group_variance`
    gained 0.4 dB on one scene of CAVE and lost 1.8 dB on another, the estimated mean gained 0.1 and 0.0 dB. Where
    impulses, stripes or dead columns come on top, the true Gaussian level is too low: the estimated mean counts them as
    noise and gained 3.2 and 3.0 dB, `group_variance` 2.1 and 2.4 dB.

    Parameters
    ----------
    sigma : float, optional
        Standard deviation of the noise on the 0-255 scale, the mean over the bands; default: estimated.
    group : int
        Most cubes in a group, a power of two.
    half_window : int
        Cubes are sought up to so many voxels away along each axis.
    step : int
        Distance of the references [voxels].
    threshold : float
        Hard threshold of pass 1 in units of sigma.
    group_variance : bool
        Measure sigma in each group, as 1.4826 times the median magnitude of all its coefficients but those of the
        group's mean: the release's automatic mode, whose choice of coefficients is not public (this one comes within
        0.01 dB of it).
    device : str
        See `ModelDriven`.

    Raises
    ------
    ValueError
        If a parameter is out of its range, or `sigma` is given together with `group_variance`.

    Notes
    -----
    With N voxels, R = N / step^3 references: R (2 half_window + 1)^3 distances, each from differences of N / R voxels,
    and R x group x side^3 coefficients a pass. Memory: a few volumes, and 24 R x group bytes for the matches.
    On one core of a CPU, 96x96x31 takes 4 s and 512x512x31 under 4 minutes and 1.3 GB.
    With fewer than 5 bands the cubes are as deep as there are bands (a power of two in pass 1).
    """

    name = "bm4d"
    smallest = (WIENER_SIDE, WIENER_SIDE, 1)
    dtype = torch.float32

    def __init__(
        self, *, sigma: float | None = None, group: int = 32, half_window: int = 5, step: int = 3,
        threshold: float = 2.8, group_variance: bool = False, device: str = "auto",
    ) -> None:
        super().__init__(sigma=sigma, device=device)
        check_counts(0, group=group, half_window=half_window, step=step)
        if group < 1 or group & (group - 1):
            raise ValueError(f"group={group} must be a power of two")
        if not 1 <= step <= THRESHOLDING_SIDE:
            raise ValueError(f"step={step} must be 1 to {THRESHOLDING_SIDE}, for the cubes to cover the volume")
        check_least(0, threshold=threshold)
        if group_variance and sigma is not None:
            raise ValueError("group_variance measures the noise itself; leave sigma out")
        self.group = group
        self.half_window = half_window
        self.step = step
        self.threshold = threshold
        self.group_variance = group_variance

    def _restore_at(self, noisy: Tensor, sigma: float, bar: tqdm) -> tuple[Tensor, list[Record] | None]:
        bar.total = 2
        white = noisy / sigma
        low, high = white.amin(), white.amax()
        if low == high:
            return noisy, None
        scale = 0.7 / (high - low)
        volume = 0.15 + (white - low) * scale
        known = None if self.group_variance else scale

        def threshold(noisy: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
            sigma = _group_sigma(noisy) if known is None else known
            kept = noisy.abs() > self.threshold * sigma
            return noisy * kept, 1 / (sigma**2 * kept.sum((1, 2), keepdim=True).clamp(min=1))

        def wiener(noisy: Tensor, pilot: Tensor) -> tuple[Tensor, Tensor]:
            variance = (_group_sigma(noisy) if known is None else known) ** 2
            factor = pilot.square() / (pilot.square() + variance)
            return noisy * factor, 1 / (variance * factor.square().sum((1, 2), keepdim=True).clamp(min=1e-9))

        bands = noisy.shape[2]
        axes = [_haar(side) for side in _sides(THRESHOLDING_SIDE, 2 ** (bands.bit_length() - 1))]
        pilot = self._filter(volume, volume, axes, FARTHEST_NOISY, threshold)
        bar.update()
        axes = [cosines(side) for side in _sides(WIENER_SIDE, bands)]
        restored = self._filter(volume, pilot, axes, FARTHEST_PILOT, wiener)
        bar.update()
        return ((restored - 0.15) / scale + low) * sigma, None

    def _filter(
        self, volume: Tensor, guide: Tensor, axes: list[Tensor], farthest: float, shrink: Shrink
    ) -> Tensor:
        """One pass: match in the guide, shrink each group's coefficients, aggregate; `axes` transform the cubes."""
        side = [len(axis) for axis in axes]
        transform = reduce(torch.kron, axes).to(volume)
        corners = grid(volume.shape, side, self.step, end="last")
        matches = nearest(guide, corners, side, self.half_window, self.group)
        estimate, weights = torch.zeros_like(volume), torch.zeros_like(volume)
        for chunk in matches.split(CHUNK // (self.group * len(transform) * volume.element_size()) + 1):
            cubes = gather(guide, chunk, side)
            near = (cubes - cubes[:, :1]).square().sum(2) <= farthest * len(transform)
            sizes = 2 ** (near.sum(1).float().frexp().exponent - 1)
            for size in sizes.unique().tolist():
                along = _haar(size).to(volume)
                members = chunk[sizes == size, :size]
                guiding = along @ cubes[sizes == size, :size] @ transform.T
                noisy = guiding if guide is volume else along @ gather(volume, members, side) @ transform.T
                shrunk, weight = shrink(noisy, guiding)
                scatter_add(estimate, members, weight * (along.T @ shrunk @ transform), side)
                scatter_add(weights, members, weight.expand(*members.shape[:2], 1), 1)
        return estimate / spread(weights, side)


def _group_sigma(coefficients: Tensor) -> Tensor:
    """Noise level (groups, 1, 1), from the median magnitude of the coefficients that differ along each group."""
    detail = coefficients[:, 1:] if coefficients.shape[1] > 1 else coefficients
    return 1.4826 * detail.abs().flatten(1).median(1).values.clamp(min=SMALLEST_SIGMA)[:, None, None]


def _sides(side: int, most: int) -> tuple[int, int, int]:
    """Sides of the cubes, of which the third, along the bands, is `most` at most."""
    return side, side, min(side, most)


def _haar(length: int) -> Tensor:
    """The orthonormal Haar matrix of a power of two, its first row constant."""
    matrix = torch.ones(1, 1, dtype=torch.float64)
    while len(matrix) < length:
        pair = torch.eye(len(matrix), dtype=torch.float64)
        coarse = torch.kron(matrix, torch.tensor([[1.0, 1.0]], dtype=torch.float64))
        matrix = torch.cat([coarse, torch.kron(pair, torch.tensor([[1.0, -1.0]], dtype=torch.float64))]) / 2**0.5
    return matrix
