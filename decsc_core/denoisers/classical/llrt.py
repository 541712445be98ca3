"""LLRT: Y. Chang, L. Yan, S. Zhong, "Hyper-Laplacian Regularized Unidirectional Low-Rank Tensor Recovery for
Multispectral Image Denoising", CVPR 2017."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from decsc_core.denoisers.base import Record
from decsc_core.denoisers.classical.differences import adjoint_difference, difference, squared_transfer
from decsc_core.denoisers.classical.base import NoiseAware, check_counts, check_least, check_positive, relative_change
from decsc_core.denoisers.classical.nonlocal_groups import NonlocalGroups, remaining_noise

LARGEST_PATCH = 8
"""Of the table's patch sides."""

GROWTH = 1.02
"""Of both penalties, with every inner iteration."""


class LLRT(NoiseAware):
    """Hyper-Laplacian regularised unidirectional low-rank tensor recovery.

    Nonlocal groups of patches with all their bands are made low rank along the nonlocal mode alone, and the spectra
    piecewise smooth::

        min over X, L_i of  1/2 ||Y - X||^2 + rho sum_i (||R_i X - L_i||^2 + s_i^2 ||L_i||_w,*) + lambda ||D_z X||_p

    R_i taking the i-th group of patches and D_z the periodic difference of neighbouring bands. The paper has p < 1
    (hyper-Laplacian); its release, and so this class, p = 1. Beginning with E = Y and s_i = s, each outer iteration

    1. sets s_i = noise_factor sqrt(|s^2 - mean((R_i E - R_i Y)^2)|), from the second iteration on;
    2. in every odd iteration (1, 3, ...) takes 10 patches from the group size and forms the groups anew by the
       distances of patches of E's mean over the bands;
    3. makes every group low rank, see `NonlocalGroups.low_rank`; S is the sum of a pixel's patches, N their number;
    4. finds the next E by `inner` steps of ADMM from zero, with alpha and beta growing by 1.02 a step::

           X = (kappa + alpha + beta D_z^T D_z)^-1 (kappa Y + D_z^T (beta D - B) + alpha M - J)    (by FFT; E = last X)
           M = (rho S + alpha X + J) / (alpha + rho N),                 J = J + alpha (X - M)
           D = soft(D_z X + B / beta, smoothness mean(s_i)^2 / beta),    B = B + beta (D_z X - D)

    Everything is on the 0-255 scale. Defaults that are None come from the release's tables, by the noise level and the
    number of bands:

    ============  ===========  ============  ============  =============  ==========
    bands         to 50        to 50         to 50         to 100         more
    sigma         to 10.1      to 30.1       above         any            any
    ============  ===========  ============  ============  =============  ==========
    patch         6            7             8             6              5
    group         300          300           300           400            400
    noise_factor  0.54         0.56          0.58          by sigma       by sigma
    iterations    5            5             5             8              8
    step          5            5             5             5              4
    half_window   30           30            30            50             50
    strength      10 sqrt(2)   10 sqrt(2)    10 sqrt(2)    10 sqrt(2)     15 sqrt(2)
    smoothness    0.8          0.8           0.8           20             15
    ============  ===========  ============  ============  =============  ==========

    The release's quirks that change numbers are kept: p = 1, groups that are formed anew only in odd iterations and
    become smaller, no singular vectors of the mean patch, key patches on every row and column behind the last full
    step, kappa in place of the model's weight of the data, and ADMM that ends before pixels which few patches cover, as
    in the corners, have come all the way from zero. The copy of the release in common benchmarks makes 4 iterations.

    Time O(n p^2 B K (K + r)) an outer iteration for n = H W / step^2 groups of K patches of side p, r the rank that is
    kept; the eigenvectors of the groups' K x K Gram matrices and their products are nearly all of it. Memory for about
    12 cubes, n K corners of patches and 6 times 64 MB of patches.

    Parameters
    ----------
    sigma, device
        See `NoiseAware`.
    patch : int, optional
        Side of the patches. An image smaller than 8 x 8 pixels, the table's largest, is extended to that where `patch` is
        not given, whichever the noise level then asks for.
    group : int, optional
        Patches in a group, before 10 are taken away in the first iteration; fewer where the image has not as many.
    noise_factor : float, optional
        What part of the remaining noise is believed (the release's lamada).
    iterations : int, optional
        Outer iterations; there is no other stopping rule.
    step : int, optional
        Distance of the key patches, at most `patch`. The table's is cut to `patch`.
    half_window : int, optional
        How far away a group's patches may be, in pixels along rows and columns.
    strength : float, optional
        Strength of the low-rank step (c1).
    smoothness : float, optional
        Weight of the spectral differences (lambda); 0 leaves them out.
    kappa, alpha, beta, rho : float
        Weight of the noisy cube, the two penalties at the beginning, weight of the low-rank patches.
    inner : int
        Steps of ADMM in each outer iteration.

    Raises
    ------
    ValueError
        If a parameter is out of its range; a `step` larger than the patches only when a cube is denoised.
    """

    name = "llrt"
    dtype = torch.float32

    def __init__(
        self, *, sigma: float | None = None, patch: int | None = None, group: int | None = None,
        noise_factor: float | None = None, iterations: int | None = None, step: int | None = None,
        half_window: int | None = None, strength: float | None = None, smoothness: float | None = None,
        kappa: float = 0.05, alpha: float = 10, beta: float = 1, rho: float = 1, inner: int = 20, device: str = "auto",
    ) -> None:
        super().__init__(sigma=sigma, device=device)
        check_counts(patch=patch, group=group, iterations=iterations, step=step, half_window=half_window, inner=inner)
        check_positive(noise_factor=noise_factor, strength=strength, kappa=kappa, alpha=alpha, beta=beta, rho=rho)
        check_least(0, smoothness=smoothness)
        self.smallest = (patch or LARGEST_PATCH, patch or LARGEST_PATCH, 1)
        self.kappa, self.alpha, self.beta, self.rho, self.inner = kappa, alpha, beta, rho, inner
        self._given = dict(
            patch=patch, group=group, noise_factor=noise_factor, iterations=iterations, step=step,
            half_window=half_window, strength=strength, smoothness=smoothness,
        )

    def parameters(self, sigma: float, bands: int) -> dict[str, float]:
        """The table's parameters, or those given instead, for a noise level (0-255 scale) and a number of bands."""
        row = sum(sigma > limit for limit in (10.1, 30.1))
        table = dict(patch=6 + row, group=300, noise_factor=(0.54, 0.56, 0.58)[row], iterations=5, step=5,
                     half_window=30, strength=10 * 2**0.5, smoothness=0.8)
        if bands > 50:
            table |= dict(patch=6, group=400, iterations=8, half_window=50, smoothness=20)
        if bands > 100:
            table |= dict(patch=5, step=4, strength=15 * 2**0.5, smoothness=15)
        table |= {name: value for name, value in self._given.items() if value is not None}
        if self._given["step"] is None:
            table["step"] = min(table["step"], table["patch"])
        elif table["step"] > table["patch"]:
            raise ValueError(f"step={table['step']} must not exceed patch={table['patch']}: pixels would be left out")
        return table

    def _restore_at(self, noisy: Tensor, sigma: float, bar: tqdm) -> tuple[Tensor, list[Record]]:
        noisy, sigma = 255 * noisy, 255 * sigma
        p = self.parameters(sigma, noisy.shape[2])
        groups = NonlocalGroups(
            *noisy.shape[:2], side=p["patch"], step=p["step"], half_window=p["half_window"], count=p["group"]
        )
        bar.total = p["iterations"]
        estimate, residuals = noisy, []
        for iteration in range(p["iterations"]):
            if iteration % 2 == 0:
                groups.match(estimate.mean(2))
            noise = remaining_noise(estimate, noisy, sigma, p["patch"])
            noise = noise * p["noise_factor"] if iteration else torch.full_like(noise, sigma)
            total, weight = groups.low_rank(estimate, noise, p["strength"])
            before = estimate
            estimate = self._smooth_spectra(noisy, total, weight, p["smoothness"] * noise.mean().square())
            residuals.append(relative_change([estimate], [before]))
            bar.update()
        return estimate / 255, [Record(residuals, len(residuals), None)]

    def _smooth_spectra(self, noisy: Tensor, total: Tensor, weight: Tensor, smoothness: Tensor) -> Tensor:
        """Step 4 of the class: the cube near `noisy` and the low-rank patches whose spectra are piecewise smooth."""
        bands = noisy.shape[2]
        stiffness = squared_transfer((bands,), device=noisy.device, dtype=noisy.dtype)
        alpha, beta = self.alpha, self.beta
        mixed = multiplier = jumps = dual = torch.zeros_like(noisy)
        for _ in range(self.inner):
            right = self.kappa * noisy + alpha * mixed - multiplier + adjoint_difference(beta * jumps - dual, 2)
            cube = torch.fft.irfft(torch.fft.rfft(right) / (self.kappa + alpha + beta * stiffness), n=bands)
            mixed = (self.rho * total + alpha * cube + multiplier) / (alpha + self.rho * weight)
            multiplier = multiplier + alpha * (cube - mixed)
            slope = difference(cube, 2)
            jumps = F.softshrink(slope + dual / beta, float(smoothness / beta))
            dual = dual + beta * (slope - jumps)
            alpha, beta = GROWTH * alpha, GROWTH * beta
        return cube
