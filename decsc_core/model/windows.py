"""Square windows of a grid, and attention inside them: Eqs. (22)-(23).

What is kept from call to call is never made in inference mode, or no training could use it afterwards, nor while a graph is
traced, when tensors hold no numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn


def split_windows(grid: Tensor, window: int) -> Tensor:
    """(N, H, W, C) -> (N, windows, window^2, C), all row-major; H and W are multiples of `window`."""
    return rearrange(grid, "n (i p) (j q) c -> n (i j) (p q) c", p=window, q=window)


def merge_windows(tokens: Tensor, window: int, height: int) -> Tensor:
    """The inverse of `split_windows` for a grid of `height` rows."""
    return rearrange(tokens, "n (i j) (p q) c -> n (i p) (j q) c", i=height // window, p=window)


def _kept(build: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`build` with its last results kept, by its arguments."""
    outside = torch.inference_mode(False)(build)
    keep = lru_cache(maxsize=4)(outside)

    @wraps(build)
    def give(*arguments) -> Tensor:
        return build(*arguments) if torch.compiler.is_compiling() else keep(*arguments)

    give.cache_clear = keep.cache_clear
    return give


@_kept
def relative_position_index(window: int, device: torch.device | None = None) -> Tensor:
    """Row of the bias table for every (query, key) pair of a window: (window^2, window^2)."""
    at = torch.arange(window, device=device)
    y, x = (at.flatten() for at in torch.meshgrid(at, at, indexing="ij"))
    dy, dx = (at[:, None] - at[None, :] + window - 1 for at in (y, x))
    return dy * (2 * window - 1) + dx


@_kept
def shift_mask(rows: int, columns: int, window: int, shift: int, device: torch.device | None = None) -> Tensor:
    """-inf between positions that only the cyclic shift brought together: (rows * columns, 1, window^2, window^2).

    For `rows` x `columns` windows; wrapped positions are the last `shift` rows and columns of the grid. The usual -100
    would leave weights of 1e-44, which change nothing but slow down every product they enter.
    """
    down, across = (torch.arange(count * window, device=device) >= count * window - shift for count in (rows, columns))
    region = 2 * down[:, None] + 1 * across[None, :]
    region = rearrange(region, "(i p) (j q) -> (i j) 1 (p q)", p=window, q=window)
    apart = region[..., :, None] != region[..., None, :]
    return torch.zeros(apart.shape, device=device).masked_fill(apart, -torch.inf)


class WindowAttention(nn.Module):
    """Multi-head self-attention inside windows, with a learned bias for every relative position and a cyclic shift.

    (N, H, W, C) -> the same shape, H and W multiples of the window: Eqs. (22)-(23). Windows and images are one axis, the
    layout that PyTorch's fused attention takes on a CPU.
    """

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))

    def forward(self, grid: Tensor, shift: int = 0) -> Tensor:
        n, height, width, _ = grid.shape
        if shift:
            grid = grid.roll((-shift, -shift), (1, 2))
        tokens = split_windows(grid, self.window)
        q, k, v = rearrange(self.qkv(tokens), "n g t (three h d) -> three (n g) h t d", three=3, h=self.heads)
        index = relative_position_index(self.window, grid.device)
        bias = rearrange(self.relative_position_bias_table[index], "t s h -> 1 h t s")
        mask = None
        if shift:
            mask = shift_mask(height // self.window, width // self.window, self.window, shift, grid.device).to(bias)
            mask = repeat(mask, "g 1 t s -> (n g) 1 t s", n=n)
        out = rearrange(attend(q, k, v, bias, mask), "(n g) h t d -> n g t (h d)", n=n)
        out = merge_windows(self.proj(out), self.window, height)
        return out.roll((shift, shift), (1, 2)) if shift else out


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias + mask) v for (windows, heads, tokens, d).

    The bias is the same in all windows, (1, heads, tokens, tokens), the mask in all heads, (windows, 1, tokens,
    tokens). The fused attention gives no gradient to a bias, so training takes the three steps one by one.
    """
    if torch.is_grad_enabled():
        scores = (q * q.shape[-1] ** -0.5) @ k.mT + bias
        return torch.softmax(scores if mask is None else scores + mask, -1) @ v
    bias = bias.expand(len(q), -1, -1, -1) if mask is None else bias + mask
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
