"""NGMeet: W. He, Q. Yao, C. Li, N. Yokoya, Q. Zhao, "Non-local Meets Global: An Integrated Paradigm for Hyperspectral
Denoising", CVPR 2019; with H. Zhang and L. Zhang, TPAMI 2022."""

from __future__ import annotations

import torch
from torch import Tensor
from tqdm.auto import tqdm

from decsc_core.denoisers.base import Record
from decsc_core.denoisers.classical.base import NoiseAware, check_counts, check_positive, relative_change
from decsc_core.denoisers.classical.nonlocal_groups import NonlocalGroups, remaining_noise


class NGMeet(NoiseAware):
    """Nonlocal low rank within a global spectral subspace that grows from iteration to iteration.

    The cube is Y = M x_3 A + noise, A (B x k) an orthonormal basis of spectra and M the reduced image of k bands, whose
    nonlocal groups of patches are low rank::

        min over M, A of  1/2 ||Y - M x_3 A||^2 + mu sum_i ||R_i M||_w,*   with A^T A = I

    Beginning with E = Y, iteration t = 0, 1, ...

    1. takes for A the first k = subspace + growth t left singular vectors of E (B x HW, not centred);
    2. reduces both cubes: R = E x_3 A^T and Z = Y x_3 A^T;
    3. sets s_i = noise_factor sqrt(|s^2 - mean((R_i R - R_i Z)^2)|), but s_i = s sqrt(k / B) for t = 0;
    4. for even t takes 10 patches from the group size and forms the groups anew by the distances of patches of R's mean
       over its bands;
    5. makes every group low rank, see `NonlocalGroups.low_rank`, and averages the patches at each pixel into R;
    6. goes back, E = R x_3 A, and on with E = feedback Y + (1 - feedback) E except after the last iteration.

    Everything is on the 0-255 scale. Defaults that are None come from the release's tables, by the noise level and the
    number of bands:

    ============  ===========  =========  =========  =========  =========
    parameter     bands        sigma to   sigma to   sigma to   above
                               10.1       30.1       50.1
    ============  ===========  =========  =========  =========  =========
    group         any          150        150        150        200
    subspace      to 50        8          6          5          4
    subspace      to 100       6          6          5          4
    subspace      more         5          6          5          4
    noise_factor  to 50        0.54       0.56       0.56       0.58
    noise_factor  more         0.54       0.56       0.58       0.58
    strength      to 100       5 sqrt(2), at any sigma
    strength      more         8 sqrt(2), at any sigma
    ============  ===========  =========  =========  =========  =========

    This is the CVPR release. It matches patches on the plain mean of the reduced bands, which changes with the
    arbitrary signs of the singular vectors and moves the result by 0.1 to 0.2 dB; here every vector is turned so that
    its entries sum to a positive number.

    Time O(n p^2 k K min(K, p^2 k)) an iteration for n = H W / step^2 groups of K patches of side p; memory for about 8
    cubes, n K corners of patches and 7 times 64 MB of patches.

    Parameters
    ----------
    sigma, device
        See `NoiseAware`.
    subspace : int, optional
        Dimension k of the spectral subspace in the first iteration; never more than the number of bands.
    growth : int
        Dimensions added with every further iteration (delta), at least 0.
    group : int, optional
        Patches in a group, before 10 are taken away in the first iteration; fewer where the image has not as many.
    noise_factor : float, optional
        What part of the remaining noise is believed (the release's lamada).
    strength : float, optional
        Strength of the low-rank step (c1).
    patch : int
        Side of the patches.
    step : int
        Distance of the key patches, at most `patch`.
    half_window : int
        How far away a group's patches may be, in pixels along rows and columns.
    iterations : int
        Iterations; there is no other stopping rule.
    feedback : float
        Share of the noisy cube in the next iteration's input, from 0 to below 1.

    Raises
    ------
    ValueError
        If a parameter is out of its range.
    """

    name = "ngmeet"
    dtype = torch.float32

    def __init__(
        self, *, sigma: float | None = None, subspace: int | None = None, growth: int = 2, group: int | None = None,
        noise_factor: float | None = None, strength: float | None = None, patch: int = 5, step: int = 4,
        half_window: int = 30, iterations: int = 5, feedback: float = 0.1, device: str = "auto",
    ) -> None:
        super().__init__(sigma=sigma, device=device)
        check_counts(
            subspace=subspace, group=group, patch=patch, step=step, half_window=half_window, iterations=iterations
        )
        check_positive(noise_factor=noise_factor, strength=strength)
        check_counts(0, growth=growth)
        if step > patch:
            raise ValueError(f"step={step} must not exceed patch={patch}: pixels would be left out")
        if not 0 <= feedback < 1:
            raise ValueError(f"feedback={feedback} must be from 0 to below 1")
        self.smallest = (patch, patch, 1)
        self.growth, self.patch, self.step, self.half_window = growth, patch, step, half_window
        self.iterations, self.feedback = iterations, feedback
        self._given = dict(subspace=subspace, group=group, noise_factor=noise_factor, strength=strength)

    def parameters(self, sigma: float, bands: int) -> dict[str, float]:
        """The table's parameters, or those given instead, for a noise level (0-255 scale) and a number of bands."""
        row = sum(sigma > limit for limit in (10.1, 30.1, 50.1))
        subspace, noise_factor, strength = (8, 6, 5, 4), (0.54, 0.56, 0.56, 0.58), 5 * 2**0.5
        if bands > 50:
            subspace, noise_factor = (6, 6, 5, 4), (0.54, 0.56, 0.58, 0.58)
        if bands > 100:
            subspace, strength = (5, 6, 5, 4), 8 * 2**0.5
        table = dict(subspace=subspace[row], group=200 if row == 3 else 150, noise_factor=noise_factor[row],
                     strength=strength)
        return table | {name: value for name, value in self._given.items() if value is not None}

    def _restore_at(self, noisy: Tensor, sigma: float, bar: tqdm) -> tuple[Tensor, list[Record]]:
        bands = noisy.shape[2]
        noisy, sigma = 255 * noisy, 255 * sigma
        p = self.parameters(sigma, bands)
        groups = NonlocalGroups(
            *noisy.shape[:2], side=self.patch, step=self.step, half_window=self.half_window, count=p["group"]
        )
        bar.total = self.iterations
        estimate = following = noisy
        residuals = []
        for iteration in range(self.iterations):
            basis = spectral_basis(following, p["subspace"] + self.growth * iteration)
            reduced = following @ basis
            if iteration % 2 == 0:
                groups.match(reduced.mean(2))
            noise = remaining_noise(reduced, noisy @ basis, sigma, self.patch) * p["noise_factor"]
            if iteration == 0:
                noise.fill_(sigma * (basis.shape[1] / bands) ** 0.5)
            total, weight = groups.low_rank(reduced, noise, p["strength"])
            before, estimate = estimate, (total / weight) @ basis.T
            following = self.feedback * noisy + (1 - self.feedback) * estimate
            residuals.append(relative_change([estimate], [before]))
            bar.update()
        return estimate / 255, [Record(residuals, len(residuals), None)]


def spectral_basis(cube: Tensor, size: int) -> Tensor:
    """(B, size or B): the first left singular vectors of (H, W, B) as a matrix B x HW, each with a positive sum."""
    data = cube.flatten(0, 1).double()
    vectors = torch.linalg.eigh(data.T @ data).eigenvectors.flip(1)[:, :size]
    return (vectors * torch.where(vectors.sum(0) < 0, -1, 1)).to(cube.dtype)
