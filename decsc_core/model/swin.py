"""The Swin prior on the shared codes: Net_1 of Eq. (9), blocks around the window attention of Eqs. (22)-(23).

Four pre-norm Swin blocks (Liu et al., ICCV 2021) on the code map, every other one shifted by half a window. Grids of any size
are zero-padded at the bottom and right to the next multiple of the window strictly above them, as the released code does
for the one size it was built for.
"""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from decsc_core.model.windows import WindowAttention

MLP_RATIO = 4
"""Hidden width of an MLP over M, in both priors."""


class Mlp(nn.Module):
    """Linear, GELU, Linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class SwinBlock(nn.Module):
    """x + attention(norm x), then x + MLP(norm x)."""

    def __init__(self, width: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.shift = shift
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads, window)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, MLP_RATIO * width)

    def forward(self, grid: Tensor) -> Tensor:
        grid = grid + self.attn(self.norm1(grid), self.shift)
        return grid + self.mlp(self.norm2(grid))


class SwinPrior(nn.Module):
    """P_S, Swin variant: (N, M, h, w) -> the same shape, any h and w.

    Parameters
    ----------
    width, depth, heads, window : int
        M, number of blocks, attention heads, window side in code positions.
    """

    def __init__(self, width: int, depth: int, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.blocks = nn.ModuleList(SwinBlock(width, heads, window, shift=(i % 2) * (window // 2)) for i in range(depth))

    def forward(self, codes: Tensor) -> Tensor:
        height, width = codes.shape[-2:]
        pad_y, pad_x = (self.window - side % self.window for side in (height, width))
        grid = rearrange(F.pad(codes, (0, pad_x, 0, pad_y)), "n c y x -> n y x c")
        for block in self.blocks:
            grid = block(grid)
        return rearrange(grid[:, :height, :width], "n y x c -> n c y x")
