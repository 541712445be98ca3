"""The Swin prior on the shared codes: Net_1 of Eq. (9), window attention of Eqs. (22)-(23).

Four pre-norm Swin blocks (Liu et al., ICCV 2021) on the code map, every other one shifted by half a window. Grids of any size
are zero-padded at the bottom and right to the next multiple of the window strictly above them, as the released code does
for the one size it was built for.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


@lru_cache(maxsize=32)
def _relative_position_index(window: int) -> Tensor:
    """Row of the bias table for every (query, key) pair of a window: (window^2, window^2)."""
    y, x = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
    at = torch.stack([y.flatten(), x.flatten()])
    dy, dx = at[:, :, None] - at[:, None, :] + window - 1
    return dy * (2 * window - 1) + dx


@lru_cache(maxsize=32)
def _shift_mask(height: int, width: int, window: int, shift: int) -> Tensor:
    """-100 between positions that the cyclic shift made neighbours: (windows, window^2, window^2)."""

    def regions(side: int) -> Tensor:
        at = torch.arange(side)
        return (at >= side - window).long() + (at >= side - shift).long()

    label = regions(height)[:, None] * 3 + regions(width)[None, :]
    label = rearrange(label, "(i p) (j q) -> (i j) (p q)", p=window, q=window)
    return (label[:, :, None] != label[:, None, :]) * -100.0


class WindowAttention(nn.Module):
    """Multi-head self-attention inside windows with a learned relative-position bias, Eqs. (22)-(23)."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))

    def forward(self, grid: Tensor, shift: int) -> Tensor:
        """(N, r, q, C) -> the same shape, r and q multiples of the window."""
        n, height, width, _ = grid.shape
        window = self.window
        grid = grid.roll((-shift, -shift), (1, 2))
        tokens = rearrange(grid, "n (i p) (j q) c -> n (i j) (p q) c", p=window, q=window)
        q, k, v = rearrange(self.qkv(tokens), "n g t (three h d) -> three n g h t d", three=3, h=self.heads)
        index = _relative_position_index(window).to(grid.device)
        bias = rearrange(self.relative_position_bias_table[index], "t s h -> h t s")
        if shift:
            mask = _shift_mask(height, width, window, shift).to(bias)
            bias = bias + rearrange(mask, "g t s -> g 1 t s")
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype).expand(n, q.shape[1], *bias.shape[-3:]))
        out = self.proj(rearrange(out, "n g h t d -> n g t (h d)"))
        grid = rearrange(out, "n (i j) (p q) c -> n (i p) (j q) c", i=height // window, p=window)
        return grid.roll((shift, shift), (1, 2))


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

    def __init__(self, width: int, heads: int, window: int, shift: int, mlp_ratio: int) -> None:
        super().__init__()
        self.shift = shift
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads, window)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, mlp_ratio * width)

    def forward(self, grid: Tensor) -> Tensor:
        grid = grid + self.attn(self.norm1(grid), self.shift)
        return grid + self.mlp(self.norm2(grid))


class SwinPrior(nn.Module):
    """P_S, Swin variant: (N, M, h, w) -> the same shape, any h and w.

    Parameters
    ----------
    width, depth, heads, window, mlp_ratio : int
        M, number of blocks, attention heads, window side in code positions, hidden width of the MLP over M.
    """

    def __init__(self, width: int, depth: int, heads: int, window: int, mlp_ratio: int = 4) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{width} shared atoms cannot be split over {heads} attention heads; use a multiple of {heads}")
        self.window = window
        self.blocks = nn.ModuleList(
            SwinBlock(width, heads, window, shift=(i % 2) * (window // 2), mlp_ratio=mlp_ratio) for i in range(depth)
        )

    def forward(self, codes: Tensor) -> Tensor:
        height, width = codes.shape[-2:]
        pad_y, pad_x = (self.window - side % self.window for side in (height, width))
        grid = rearrange(F.pad(codes, (0, pad_x, 0, pad_y)), "n c y x -> n y x c")
        for block in self.blocks:
            grid = block(grid)
        return rearrange(grid[:, :height, :width], "n y x c -> n c y x")
