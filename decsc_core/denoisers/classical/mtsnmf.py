"""Multitask sparse non-negative matrix factorisation.

M. Ye, Y. Qian, J. Zhou, "Multitask Sparse Nonnegative Matrix Factorization for Joint Spectral-Spatial Hyperspectral
Imagery Denoising", TGRS 53(5), 2015; solved by accelerated HALS: N. Gillis, F. Glineur, Neural Computation 24(4), 2012.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from tqdm.auto import tqdm

from decsc_core.denoisers.base import Record
from decsc_core.denoisers.classical.matching import coverage, gather, grid, scatter_add
from decsc_core.denoisers.classical.base import NoiseAware, check_counts, check_least

KEPT = 2**30
"""Bytes of patches that are kept; more are gathered anew in every pass."""

CHUNK = 2**25
"""Bytes of patches that are multiplied together."""

CACHED = 2**22
"""Bytes of a factor that are updated together on a CPU: what its cache holds."""

GROUP = 14
"""Rows of a factor between which the others are multiplied by one matrix product."""


class MTSNMF(NoiseAware):
    """Multitask sparse NMF: the patches of all bands share one sparse code, each band has a dictionary of its own.

    Overlapping patches of n = p^2 pixels of band k are the columns of X_k (n, N), on one grid for all bands, and

        min_(A_k >= 0, S >= 0)  1/2 sum_k ||X_k - A_k S||_F^2 + (sum_k lambda_k) ||S||_1

    with dictionaries A_k (n, r) and the codes S (r, N) gives the patches A_k S, which are averaged where they overlap.
    As S is shared, this is one sparse NMF of the stacked X (n B, N); that is how it is solved here. After the cube was
    scaled by its minimum and maximum to [0, 1], and A and S were drawn from U(0, 1), it repeats

    1. the rows of S in random order: S_j <- max(S_j + (U_j - V_j S - sum_k lambda_k) / V_jj, eps) with
       U = A^T X, V = A^T A and eps = 1e-16 max(S);
    2. the columns of A likewise, without penalty, from U = X S^T and V = S S^T.

    A step sweeps over its factor until a sweep changes it by less than 0.2 of the change since the step began, but at
    most 1 + rho times, where rho is how much more the products cost than a sweep (accelerated HALS). The published
    solver asks this of each band's dictionary; here it is asked of all together, which does not show in the estimate.

    Parameters
    ----------
    sigma : float, optional
        Noise level on the 0-255 scale, the mean over the bands; see `NoiseAware`. lambda_k = sigma sqrt(2 log r).
    patch : int
        p, the side of a patch in pixels.
    atoms : int, optional
        r; by default 2 p^2, but at most a sixth of the patches and of their length n B, or the product could be the noisy patches
        themselves: that is so below 12 bands or 31 x 31 pixels.
    stride : int, optional
        Distance of neighbouring patches in pixels, at most `patch`; the last row and column always have patches.
        Default: 2, as in the public comparisons, if that gives at least 10 n B patches (31 bands: from about 256 x 256
        pixels), else 1. With few patches the atoms fit the noise: stride 2 costs up to 0.5 dB at 10 n B and 2 dB at 1.4 n B.
    tolerance : float
        Stop when the objective changes by less than this fraction. A smaller one makes the estimate worse, as the noise
        is fitted last.
    iterations : int
        The most repetitions of the two steps.
    seed : int
        Of the random numbers.
    device : str
        See `ModelDriven`.

    Notes
    -----
    The atoms are not normalised, as in the release: the penalty can always be lowered by a smaller S and a larger A, so
    it fades with the iterations, and an atom whose row of S is at the floor eps grows without bound while its product
    stays finite. That takes float64. The estimate is not clipped to the range of the noisy cube. A constant cube is
    returned as it is. The residuals of the record are the relative changes of the objective, the first from S = 0.

    An iteration takes O(n B r N) for the products, and O(r^2 (N + n B)) for each of about 4 and 5 sweeps. The stacked
    patches take 8 n B N bytes, 0.8 GB for 512 x 512 x 31 at stride 2, but never more than 1 GiB.

    Raises
    ------
    ValueError
        If a parameter is out of range, or the device cannot be used.
    """

    name = "mtsnmf"

    def __init__(
        self, *, sigma: float | None = None, patch: int = 7, atoms: int | None = None, stride: int | None = None,
        tolerance: float = 1e-3, iterations: int = 3000, seed: int = 0, device: str = "auto",
    ) -> None:
        super().__init__(sigma=sigma, device=device)
        check_counts(patch=patch, atoms=atoms, stride=stride, iterations=iterations)
        if stride is not None and stride > patch:
            raise ValueError(f"stride={stride} must not exceed patch={patch}: pixels would be left out")
        check_least(0, tolerance=tolerance)
        self.patch, self.atoms, self.stride = patch, atoms, stride
        self.tolerance, self.iterations, self.seed = tolerance, iterations, seed
        self.smallest = (patch, patch, 1)

    def _restore_at(self, noisy: Tensor, sigma: float, bar: tqdm) -> tuple[Tensor, list[Record] | None]:
        low, high = noisy.aminmax()
        if low == high:
            return noisy, None
        image = (noisy - low) / (high - low)
        patches = _Patches(image, self._corners(image), self.patch)
        atoms = self.atoms or max(1, min(2 * self.patch**2, min(patches.shape) // 6))
        penalty = noisy.shape[2] * sigma / float(high - low) * math.sqrt(2 * math.log(atoms))
        dictionary, code, record = self._factorise(patches, atoms, penalty, bar)
        return low + (high - low) * patches.average(dictionary, code), [record]

    def _corners(self, image: Tensor) -> Tensor:
        height, width, bands = image.shape
        stride = self.stride
        if stride is None:
            sparse = grid((height, width), self.patch, 2, end="last")
            stride = min(2, self.patch) if len(sparse) >= 10 * self.patch**2 * bands else 1
        return grid((height, width), self.patch, stride, end="last").to(image.device)

    def _factorise(self, patches: _Patches, rank: int, penalty: float, bar: tqdm) -> tuple[Tensor, Tensor, Record]:
        """Return A^T (r, n B), S (r, N) and how the objective changed."""
        generator = torch.Generator().manual_seed(self.seed)
        count, length = patches.shape
        bands, pixels = length // self.patch**2, self.patch**2
        dictionary, code = (
            torch.rand(rank, size, generator=generator, dtype=self.dtype).to(self.device) for size in (length, count)
        )
        code_cost = ((2 * pixels + 1) * (count + rank) * bands + 2 * (rank + 1) * count) / (2 * count * (rank + 4))
        dictionary_cost = (2 * (pixels * count + count * rank + pixels * rank) + pixels) / (pixels * (2 * rank + 7))

        energy = patches.energy()
        objective, residuals, converged = energy, [], False
        bar.total = self.iterations
        while len(residuals) < self.iterations and not converged:
            cross, gram = patches.times_dictionary(dictionary), dictionary @ dictionary.T
            _sweep(code, cross - penalty, gram, int(1 + code_cost), generator)
            cross, gram = patches.times_code(code), code @ code.T
            _sweep(dictionary, cross, gram, int(1 + dictionary_cost), generator)
            before = objective
            fit = energy - (dictionary * cross).sum() + 0.5 * (dictionary @ dictionary.T * gram).sum()
            objective = float(fit + penalty * code.sum())
            residuals.append(abs(before - objective) / max(objective, 1e-20))
            converged = residuals[-1] < self.tolerance
            bar.update()
        return dictionary, code, Record(residuals, len(residuals), converged)


def _sweep(factor: Tensor, cross: Tensor, gram: Tensor, most: int, generator: torch.Generator) -> None:
    """Minimise 1/2 <factor, gram factor> - <factor, cross> over factor (r, n) >= 0 by rows, roughly and in place.

    Rows are updated in random order, in at most `most` sweeps. No value gets smaller than 1e-16 of the largest.
    """
    diagonal = gram.diagonal()[:, None].clone()
    weights, target = (gram / diagonal).fill_diagonal_(0), cross / diagonal
    piece = max(CACHED // (len(factor) * factor.element_size()), 1) if factor.device.type == "cpu" else factor.shape[1]
    start = factor.clone()
    for _ in range(most):
        before = factor.clone()
        floor = 1e-16 * float(factor.max())
        order = torch.randperm(len(factor), generator=generator).to(factor.device)
        for some, aim in zip(factor.split(piece, dim=1), target.split(piece, dim=1)):
            for group in order.split(GROUP):
                some[group] = _update_rows(some, aim[group], weights[group], group, floor)
        if torch.dist(factor, before) < 0.2 * torch.dist(factor, start):
            break


def _update_rows(factor: Tensor, target: Tensor, weights: Tensor, group: Tensor, floor: float) -> Tensor:
    """The rows `group` of the factor, each updated after those before it: max(target - weights factor, floor).

    What the rows outside the group weigh is subtracted from all at once.
    """
    aim = target - weights.index_fill(1, group, 0) @ factor
    within, rows = weights[:, group], factor[group]
    for i in range(len(group)):
        rows[i] = torch.addmv(aim[i], rows.T, within[i], alpha=-1).clamp_(min=floor)
    return rows


class _Patches:
    """The stacked patches X^T (N, n B) of a cube at given corners, gathered in chunks."""

    def __init__(self, cube: Tensor, corners: Tensor, side: int) -> None:
        self.cube, self.corners, self.side = cube, corners, side
        self.shape = len(corners), side**2 * cube.shape[2]
        row = self.shape[1] * cube.element_size()
        self.chunk = max(CHUNK // row, 1)
        self.kept = list(self._gathered()) if len(corners) * row <= KEPT else None

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.kept) if self.kept else self._gathered()

    def _gathered(self) -> Iterator[Tensor]:
        return (gather(self.cube, some, self.side).flatten(1) for some in self.corners.split(self.chunk))

    def energy(self) -> float:
        """1/2 ||X||_F^2"""
        return 0.5 * sum(float(some.square().sum()) for some in self)

    def times_dictionary(self, dictionary: Tensor) -> Tensor:
        """A^T X (r, N)"""
        product = dictionary.new_empty(len(dictionary), self.shape[0])
        for part, some in zip(product.split(self.chunk, dim=1), self):
            part.copy_(dictionary @ some.T)
        return product

    def times_code(self, code: Tensor) -> Tensor:
        """S X^T (r, n B)"""
        return sum(part @ some for part, some in zip(code.split(self.chunk, dim=1), self))

    def average(self, dictionary: Tensor, code: Tensor) -> Tensor:
        """The cube whose overlapping patches are A S, averaged."""
        total = torch.zeros_like(self.cube)
        for some, part in zip(self.corners.split(self.chunk), code.split(self.chunk, dim=1)):
            patches = (part.T @ dictionary).view(len(some), self.side**2, -1)
            scatter_add(total, some, patches, self.side)
        return total / coverage(self.corners, total, self.side)
