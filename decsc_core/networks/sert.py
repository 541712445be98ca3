"""SERT, the spectral enhanced rectangle transformer (Li, Liu, Fu, Zhang and Dou, CVPR 2023).

Half of the channels attends in tall rectangles, the other half in wide ones; a memory of spectra, read with the mean of
a window, enhances the channels. Windows are shifted cyclically without a mask, so opposite borders of an image see each
other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from torch import Tensor, nn

from decsc_core.checks import check_numbers, check_tuples
from decsc_core.model.swin import Mlp
from decsc_core.networks.flat import FRAME, FlatTransformer, Stage
from decsc_core.networks.initialise import check_init, default_generator, reset_as_identity, reset_qrnn3d_family
from decsc_core.networks.names import count, renamed

SQUEEZE, CODE, GROUPS = 4, 8, 4
"""Width over the enhancement's hidden width, width over the length of a memory slot, groups of the channel shuffle."""


@dataclass(frozen=True)
class SERTConfig:
    """Everything that defines a SERT; the defaults are the paper's base model.

    Parameters
    ----------
    bands : int
    width, heads : int
        Channels, split over the heads; half of these attend in tall rectangles, half in wide ones.
    windows, splits : tuple of int
        For each residual stage: side of the windows, and short side of the rectangles they are split into, in pixels.
    blocks : int
        Blocks of a stage; every other block has its windows shifted by half their side.
    memory : int
        Slots of the memory of each block.
    mlp_ratio : int
        Hidden channels of an MLP over `width`.
    enhancement : float
        Weight of the spectral enhancement.
    init : {"released", "identity"}
        See `initialise.INITS`; the release's start is far from the identity, which costs the first thousands of steps.
    """

    bands: int = 31
    width: int = 96
    heads: int = 6
    windows: tuple[int, ...] = (16, 32, 32)
    splits: tuple[int, ...] = (1, 2, 4)
    blocks: int = 6
    memory: int = 128
    mlp_ratio: int = 2
    enhancement: float = 0.1
    init: str = "released"

    def __post_init__(self) -> None:
        check_numbers(self, bands=1, width=1, heads=1, blocks=1, memory=1, mlp_ratio=1)
        check_init(self.init)
        check_tuples(self, "windows", "splits")
        if not self.windows or len(self.windows) != len(self.splits):
            raise ValueError(f"windows={self.windows} and splits={self.splits} must hold one number for each stage")
        for window, split in zip(self.windows, self.splits):
            if window % split:
                raise ValueError(f"windows of {window} pixels cannot be split into rectangles of {split}")
        if self.heads % 2 or self.width % self.heads:
            raise ValueError(f"heads={self.heads} must be even and divide width={self.width}")
        if self.width % CODE:
            raise ValueError(f"width={self.width} must be a multiple of {CODE}")


PRESETS = {
    "paper": {},
    "small": {"width": 48, "windows": (16, 32), "splits": (1, 4), "blocks": 4, "memory": 64, "init": "identity"},
    "tiny": {"width": 16, "heads": 2, "windows": (8,), "splits": (2,), "blocks": 2, "memory": 8, "init": "identity"},
}


class SpectralEnhancement(nn.Module):
    """(N, H, W, C) -> the same shape: features z of every pixel times one gate a window.

    The mean of z over a window gives a short code; the slots of the memory, weighted by their softmax similarity to it,
    give the gate.
    """

    def __init__(self, width: int, window: int, memory: int) -> None:
        super().__init__()
        self.window = window
        self.features = Mlp(width, width // SQUEEZE)
        self.code = nn.Linear(width, width // CODE)
        self.memory = nn.Parameter(torch.empty(width // CODE, memory))
        self.gate = nn.Linear(width // CODE, width)

    def forward(self, grid: Tensor) -> Tensor:
        features = rearrange(self.features(grid), "n (i p) (j q) c -> n i p j q c", p=self.window, q=self.window)
        code = self.code(reduce(features, "n i p j q c -> n i j c", "mean"))
        weights = torch.softmax(code @ self.memory / math.sqrt(len(self.memory)), -1)
        gate = torch.sigmoid(self.gate(weights @ self.memory.T))
        return (features * rearrange(gate, "n i j c -> n i 1 j 1 c")).view_as(grid)


class Rectangles(nn.Module):
    """Attention in rectangles of (rows, columns), plus a depth-wise 3x3 convolution of the values inside each.

    Queries, keys and values (N, H, W, 3, C) -> (N, H, W, C).
    """

    def __init__(self, width: int, heads: int, rows: int, columns: int) -> None:
        super().__init__()
        self.heads, self.rows, self.columns = heads, rows, columns
        self.local = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, qkv: Tensor) -> Tensor:
        """(N, H, W, 3, C) -> (N, H, W, C)."""
        n, height, width = qkv.shape[:3]
        cut = {"p": self.rows, "q": self.columns}
        q, k, v = rearrange(qkv, "n (i p) (j q) three (h d) -> three (n i j) h (p q) d", three=3, h=self.heads, **cut)
        out = rearrange(F.scaled_dot_product_attention(q, k, v), "r h (p q) d -> r p q (h d)", **cut)
        local = self.local(rearrange(v, "r h (p q) d -> r (h d) p q", **cut))
        out = out + rearrange(local, "r c p q -> r p q c")
        return rearrange(out, "(n i j) p q c -> n (i p) (j q) c", n=n, i=height // self.rows, j=width // self.columns)


class RectangleAttention(nn.Module):
    """Tall and wide rectangles on half of the channels each, shuffled, plus the enhancement; then a projection.

    (N, H, W, C) -> the same shape, H and W multiples of the window.
    """

    def __init__(self, config: SERTConfig, window: int, split: int) -> None:
        super().__init__()
        half = config.width // 2, config.heads // 2
        self.enhancement = config.enhancement
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.tall = Rectangles(*half, rows=window, columns=split)
        self.wide = Rectangles(*half, rows=split, columns=window)
        self.spectral = SpectralEnhancement(config.width, window, config.memory)
        self.proj = nn.Linear(config.width, config.width)

    def forward(self, grid: Tensor) -> Tensor:
        tall, wide = rearrange(self.qkv(grid), "n y x (three half c) -> half n y x three c", three=3, half=2)
        both = torch.cat([self.tall(tall), self.wide(wide)], -1)
        both = rearrange(both, "n y x (g d) -> n y x (d g)", g=GROUPS)
        return self.proj(torch.add(both, self.spectral(grid), alpha=self.enhancement))


class Block(nn.Module):
    """x + attention(norm x) on the cyclically shifted grid, then x + MLP(norm x): (N, H, W, C) -> the same shape."""

    def __init__(self, config: SERTConfig, window: int, split: int, shift: int) -> None:
        super().__init__()
        self.shift = shift
        self.norm1 = nn.LayerNorm(config.width)
        self.attn = RectangleAttention(config, window, split)
        self.norm2 = nn.LayerNorm(config.width)
        self.mlp = Mlp(config.width, config.mlp_ratio * config.width)

    def forward(self, grid: Tensor) -> Tensor:
        tokens = self.norm1(grid)
        if self.shift:
            tokens = self.attn(tokens.roll((-self.shift, -self.shift), (1, 2))).roll((self.shift, self.shift), (1, 2))
        else:
            tokens = self.attn(tokens)
        grid = grid + tokens
        return grid + self.mlp(self.norm2(grid))


class SERT(FlatTransformer):
    """The network: (N, B, H, W) -> the same shape, nominally in [0, 1], any H and W; B = `config.bands`.

    In the paper's size it has 1,905,319 parameters: `head` 26,880, each of three stages 589,560 (a block 84,420),
    `merge` 82,944, `tail` 26,815. `generator` draws their initial values.
    """

    def __init__(self, config: SERTConfig = SERTConfig(), generator: torch.Generator | None = None) -> None:
        def stage(window: int, split: int) -> Stage:
            shifts = (i % 2 * (window // 2) for i in range(config.blocks))
            return Stage(config.width, (Block(config, window, split, shift) for shift in shifts))

        stages = map(stage, config.windows, config.splits)
        super().__init__(config.bands, config.width, stages, multiple=math.lcm(*config.windows))
        self.config = config
        generator = generator or default_generator()
        reset_qrnn3d_family(self, generator)
        for module in self.modules():
            if isinstance(module, SpectralEnhancement):
                nn.init.normal_(module.memory, generator=generator)
        if config.init == "identity":
            reset_as_identity(self, generator, self.tail)


_RENAMED = [
    *FRAME,
    (r"\.attns\.attns\.0\.get_v\.", ".attn.tall.local."),
    (r"\.attns\.attns\.1\.get_v\.", ".attn.wide.local."),
    (r"\.attns\.c_attns\.cab\.0\.", ".attn.spectral.features.fc1."),
    (r"\.attns\.c_attns\.cab\.2\.", ".attn.spectral.features.fc2."),
    (r"\.attns\.c_attns\.cab\.3\.subnet\.0\.", ".attn.spectral.code."),
    (r"\.attns\.c_attns\.cab\.3\.mb$", ".attn.spectral.memory"),
    (r"\.attns\.c_attns\.cab\.3\.upnet\.0\.", ".attn.spectral.gate."),
    (r"\.attns\.", ".attn."),
]


def own_key(official: str) -> str:
    """Our name of an official parameter; every one has a counterpart."""
    return renamed(official, _RENAMED)


def from_official(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of an official state dict under our names."""
    return {own_key(key): tensor for key, tensor in state.items()}


def config_of(state: dict[str, Tensor]) -> SERTConfig:
    """The configuration of an official state dict, as far as its tensors tell; the rest are those of the base model.

    Not in the tensors are the heads, the weight of the enhancement, and the windows and their splits. Of these the
    width tells: the released model for Urban, 192 channels wide, has smaller windows.
    """
    width, bands = state["conv_first.weight"].shape[:2]
    windows = {"windows": (8, 16, 16), "splits": (2, 4, 4)} if width == 192 else {}
    return SERTConfig(
        bands=bands, width=width, **windows,
        blocks=count(state, r"layers\.0\.smsblock\.\d+\.norm1\.weight"),
        memory=state["layers.0.smsblock.0.attns.c_attns.cab.3.mb"].shape[1],
        mlp_ratio=state["layers.0.smsblock.0.mlp.fc1.weight"].shape[0] // width,
    )
