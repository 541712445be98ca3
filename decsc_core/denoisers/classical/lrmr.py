"""Low-rank matrix recovery.

H. Zhang, W. He, L. Zhang, H. Shen, Q. Yuan, "Hyperspectral Image Restoration Using Low-Rank Matrix Recovery",
TGRS 52(8), 2014; solved by GoDec: T. Zhou, D. Tao, ICML 2011.
"""

from __future__ import annotations

import torch
from torch import Tensor
from tqdm.auto import tqdm

from decsc_core.denoisers.base import Record
from decsc_core.denoisers.classical.matching import coverage, gather, grid, scatter_add
from decsc_core.denoisers.classical.base import ModelDriven, check_counts, check_least

BUDGET = {"cpu": 2**21, "cuda": 2**28}
"""Bytes of blocks that are decomposed together; on a CPU as many as its cache holds."""

_UP_TO_100_BANDS = {"rank": 2, "block": 30, "sparsity": 0.05, "step": 4}
_MORE_BANDS = {"rank": 7, "block": 20, "sparsity": 0.1, "step": 8}


class LRMR(ModelDriven):
    """Low-rank matrix recovery: every block of pixels is a low-rank matrix plus sparse corruption plus dense noise.

    Each block Y of M x M pixels, as a matrix (M^2, B) of spectra, is decomposed by

        min_(L, S)  1/2 ||Y - L - S||_F^2 + s ||S||_1   subject to   rank(L) <= r

    and the low-rank parts of the overlapping blocks are averaged. The paper bounds the number of non-zeros of S
    instead; this is the semi-soft GoDec of the authors' release, with which the published comparisons were made. From
    S = 0 it repeats

    1. L = (Y - S) Q Q^T, where Q spans the columns of (Y - S)^T (Y - S) R for a fresh Gaussian R (B, r)
       (bilateral random projection);
    2. S = soft(Y - L, s).

    Blocks start at 0, step, 2 step, ... and then at every position that remains at the end of an axis.

    Parameters
    ----------
    rank : int, optional
        r, the largest rank of a block. With no more bands than that, nothing is removed.
    block : int, optional
        M, the side of a block in pixels. A smaller image is extended; where `block` is not given to 30 x 30 pixels, the
        larger of the two defaults, whatever the number of bands.
    sparsity : float, optional
        s, the threshold of the sparse part, in the unit of the cube, which should be scaled to about [0, 1]; what
        deviates from the low rank by less is dense noise.
    step : int, optional
        Distance of neighbouring blocks in pixels, at most `block`. The default is cut to `block`.
    iterations : int
        Repetitions of the two steps. Noise takes all of them; earlier it stops only where L + S explains the blocks to
        1e-10.
    power : int
        Extra products with (Y - S)^T (Y - S) in step 1, which bring it closer to the truncated SVD. The release makes
        none, so that its estimates scatter by 0.1 to 0.2 dB with the seed. One takes the scatter away, but also 0.7 to
        1.2 dB: averaging overlapping blocks gains from their random projections.
    seed : int
        Of the random numbers.
    device : str
        See `ModelDriven`.

    Notes
    -----
    The first four default to what the number of bands asks for. Other public settings, for reference:

    ==================================================  ====  =====  ========  ====
    use                                                 rank  block  sparsity  step
    ==================================================  ====  =====  ========  ====
    up to 100 bands (default): the ICVL benchmark       2     30     0.05      4
    more bands (default): the same benchmark            7     20     0.1       8
    Gaussian noise only, Pavia and CAVE                 3     20     0.005     4
    CAVE benchmark                                      3     20     0         4
    authors' demonstration, 224 bands, impulses         7     20     0.15      8
    ==================================================  ====  =====  ========  ====

    Every band counts the same, whatever its noise level. Each iteration takes O(M^2 B r) a block, so the whole takes
    O(iterations H W B r M^2 / step^2); the memory is a few cubes. The record's residuals are the change of all low-rank
    parts together, relative to all blocks; they end at what the random projections scatter. It computes in float32:
    at thresholds near 0 rounding grows to the size of that scatter.

    Raises
    ------
    ValueError
        If a parameter is out of range, or the device cannot be used; a `step` larger than the blocks only when a cube is
        denoised.
    """

    name = "lrmr"
    dtype = torch.float32

    def __init__(
        self, *, rank: int | None = None, block: int | None = None, sparsity: float | None = None,
        step: int | None = None, iterations: int = 101, power: int = 0, seed: int = 0, device: str = "auto",
    ) -> None:
        super().__init__(device=device)
        check_counts(rank=rank, block=block, step=step, iterations=iterations)
        check_counts(0, power=power)
        check_least(0, sparsity=sparsity)
        self.rank, self.block, self.sparsity, self.step = rank, block, sparsity, step
        self.iterations, self.power, self.seed = iterations, power, seed
        side = block or max(_UP_TO_100_BANDS["block"], _MORE_BANDS["block"])
        self.smallest = (side, side, 1)

    def _restore(self, noisy: Tensor, bar: tqdm) -> tuple[Tensor, list[Record]]:
        height, width, bands = noisy.shape
        chosen = {"rank": self.rank, "block": self.block, "sparsity": self.sparsity, "step": self.step}
        setting = _UP_TO_100_BANDS if bands <= 100 else _MORE_BANDS
        setting = setting | {option: value for option, value in chosen.items() if value is not None}
        side, step = setting["block"], setting["step"]
        if self.step is None:
            step = min(step, side)
        elif step > side:
            raise ValueError(f"step={step} must not exceed block={side}: pixels would be left out")
        corners = grid((height, width), side, step, end="all").to(noisy.device)
        bar.total = len(corners)

        chunk = BUDGET["cpu" if noisy.device.type == "cpu" else "cuda"] // (side**2 * bands * noisy.element_size())
        generator = torch.Generator().manual_seed(self.seed)
        restored, change = torch.zeros_like(noisy), noisy.new_zeros(self.iterations, dtype=torch.float64)
        size, taken = 0.0, []
        for some in corners.split(max(chunk, 1)):
            blocks = gather(noisy, some, side)
            low_rank, steps = self._low_rank(blocks, setting["rank"], setting["sparsity"], generator, change)
            scatter_add(restored, some, low_rank, side)
            size += float(blocks.square().sum())
            taken.append(steps)
            bar.update(len(some))
        restored /= coverage(corners, restored, side)
        residuals = (change[: max(taken)] / max(size, 1e-20)).sqrt().tolist()
        return restored, [Record(residuals, len(residuals), max(taken) < self.iterations or None)]

    def _low_rank(
        self, blocks: Tensor, rank: int, sparsity: float, generator: torch.Generator, change: Tensor
    ) -> tuple[Tensor, int]:
        """The low-rank parts (n, M^2, B) of n blocks, and the iterations taken; add up the squares of their changes."""
        shape = self.iterations, blocks.shape[2], rank
        # One draw a block, so that the estimate does not depend on how many blocks are decomposed together.
        random = [torch.randn(shape, generator=generator, dtype=blocks.dtype) for _ in blocks]
        random = torch.stack(random, dim=1).to(blocks.device)
        low_rank = dense = blocks  # `dense` is what the sparse part leaves of the blocks: Y - S
        for done in range(self.iterations):
            span = random[done]
            for _ in range(1 + self.power):
                span = dense.mT @ (dense @ span)
            span = torch.linalg.qr(span).Q
            before, low_rank = low_rank, (dense @ span) @ span.mT
            change[done] += torch.dist(low_rank, before).square()
            noise = (blocks - low_rank).clamp_(-sparsity, sparsity)
            if torch.linalg.vector_norm(noise) < 1e-10:
                return low_rank, done + 1
            dense = noise.add_(low_rank)
        return low_rank, self.iterations
