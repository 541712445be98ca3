"""Square windows of a grid. Attention inside them, with relative positions and cyclic shifts, is `WindowAttention`."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor

from decsc_core.model.swin import WindowAttention

__all__ = ["WindowAttention", "merge_windows", "split_windows"]


def split_windows(grid: Tensor, window: int) -> Tensor:
    """(N, H, W, C) -> (N, windows, window^2, C), windows and their positions row-major; H and W multiples of `window`."""
    return rearrange(grid, "n (i p) (j q) c -> n (i j) (p q) c", p=window, q=window)


def merge_windows(tokens: Tensor, window: int, height: int) -> Tensor:
    """The inverse of `split_windows` for a grid of `height` rows."""
    return rearrange(tokens, "n (i j) (p q) c -> n (i p) (j q) c", i=height // window, p=window)
