"""Nonlocal groups: similar patches of a cube, made low rank together by weighted nuclear norms, and put back.

The step that LLRT and NGMeet share; its shrinkage is that of S. Gu, L. Zhang, W. Zuo, X. Feng, "Weighted Nuclear Norm
Minimization with Application to Image Denoising", CVPR 2014.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from decsc_core.denoisers.classical.matching import coverage, gather, grid, nearest, scatter_add
from decsc_core.denoisers.classical.shrinkage import reweighted_threshold, shrink_singular_values

BUDGET = 2**26
"""Bytes of patches that `NonlocalGroups.low_rank` takes at a time."""

FEWER = 10
"""By how many patches the groups shrink with each matching."""


class NonlocalGroups:
    """Key patches on a grid, each with the patches most like it.

    Parameters
    ----------
    height, width : int
        Size of the image, at least `side`.
    side : int
        Side of the square patches.
    step : int
        Distance of the key patches along rows and columns, at most `side`. After the last full step every remaining
        row and column is a key too, as in the releases of LLRT and NGMeet.
    half_window : int
        How far away from the key patch, along rows and columns, its group is sought.
    count : int
        Patches in a group before the first matching takes 10 away.
    """

    def __init__(self, height: int, width: int, *, side: int, step: int, half_window: int, count: int) -> None:
        self.keys = grid((height, width), side, step, end="all")
        self.side, self.half_window, self.count = side, half_window, count

    def match(self, image: Tensor) -> None:
        """Form the groups anew, each 10 patches smaller, by the squared distances of the patches of `image` (H, W)."""
        self.count = max(self.count - FEWER, 1)
        self.members = nearest(image, self.keys, self.side, self.half_window, self.count)

    def low_rank(self, cube: Tensor, noise: Tensor, strength: float) -> tuple[Tensor, Tensor]:
        """Shrink the singular values of every group's matrix, its mean patch left out.

        Of the K patches of a group, columns of a matrix, every singular value s becomes (s + sqrt(s^2 - 4 C)) / 2, or 0
        if s^2 <= 4 C, with C = 2 strength sqrt(K) noise^2: the fixed point of nuclear norms reweighted by 1 / s.

        Parameters
        ----------
        cube : (H, W, B) tensor
        noise : (H - side + 1, W - side + 1) tensor
            Noise level of each patch, at its corner.
        strength : float
            c1 of the papers.

        Returns
        -------
        total : (H, W, B) tensor
            At each pixel the sum of all low-rank patches that cover it.
        weight : (H, W, 1) tensor
            Their number.
        """
        total = torch.zeros_like(cube)
        count = self.members.shape[1]
        constants = 2 * strength * count**0.5 * noise[self.keys.unbind(1)].square()
        chunk = max(BUDGET // (count * self.side**2 * cube.shape[2] * cube.element_size()), 1)
        for members, constant in zip(self.members.split(chunk), constants.split(chunk)):
            patches = gather(cube, members, self.side).flatten(2)
            mean = patches.mean(1, keepdim=True)
            patches = mean + shrink_singular_values(patches - mean, lambda values: reweighted_threshold(values, constant[:, None]))
            scatter_add(total, members, patches, self.side)
        return total, coverage(self.members, cube, self.side)


def remaining_noise(estimate: Tensor, noisy: Tensor, sigma: float, side: int) -> Tensor:
    """sqrt(|sigma^2 - mean((estimate - noisy)^2)|), the mean over every patch and its bands.

    Parameters
    ----------
    estimate, noisy : (H, W, B) tensors
    sigma : float
        Standard deviation of the noise in `noisy`.

    Returns
    -------
    (H - side + 1, W - side + 1) tensor
    """
    removed = avg_pool2d((estimate - noisy).square().mean(2)[None], side, stride=1)[0]
    return (sigma**2 - removed).abs().sqrt()
