"""SST, the spatial-spectral transformer (Li, Fu and Zhang, AAAI 2023).

Every block attends twice: in space, among the pixels of a window, and along the spectrum, among the channels of each
head, by their correlation over the whole image. An image and its tiles therefore have different results.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from decsc_core.checks import check_numbers
from decsc_core.model.swin import Mlp
from decsc_core.networks.flat import FRAME, FlatTransformer, Stage
from decsc_core.networks.initialise import check_init, default_generator, reset_as_identity, reset_qrnn3d_family
from decsc_core.networks.names import count, renamed
from decsc_core.model.windows import WindowAttention


@dataclass(frozen=True)
class SSTConfig:
    """Everything that defines an SST; the defaults are the paper's.

    Parameters
    ----------
    bands : int
    width, heads : int
        Channels, split over the heads of both attentions.
    stages, blocks : int
        Residual stages and blocks of each; every other block has its windows shifted by half their side.
    window : int
        Side in pixels.
    mlp_ratio : int
        Hidden channels of an MLP over `width`.
    init : {"released", "identity"}
        See `initialise.INITS`; the release's start is far from the identity, which costs the first thousands of steps.
    """

    bands: int = 31
    width: int = 90
    heads: int = 6
    stages: int = 6
    blocks: int = 6
    window: int = 8
    mlp_ratio: int = 2
    init: str = "released"

    def __post_init__(self) -> None:
        check_numbers(self, bands=1, width=1, heads=1, stages=1, blocks=1, window=1, mlp_ratio=1)
        check_init(self.init)
        if self.width % self.heads:
            advice = f"use a multiple of {self.heads}"
            raise ValueError(f"width={self.width} cannot be split over {self.heads} heads; {advice}")


PRESETS = {
    "paper": {},
    "small": {"width": 48, "stages": 3, "blocks": 4, "init": "identity"},
    "tiny": {"width": 12, "heads": 2, "stages": 1, "blocks": 2, "window": 4, "init": "identity"},
}


class SpectralAttention(nn.Module):
    """Attention among the channels of each head by their cosine over all pixels: (N, H, W, C) -> the same shape.

    Per head, with q, k, v of d channels by H W pixels: softmax(t <q_i, k_j> / (|q_i| |k_j|)) v, t learned.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Conv2d(width, 3 * width, 1, bias=False)
        self.proj = nn.Conv2d(width, width, 1, bias=False)
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))

    def forward(self, grid: Tensor) -> Tensor:
        qkv = F.linear(grid.flatten(1, 2), self.qkv.weight.flatten(1))
        q, k, v = rearrange(qkv, "n p (three h d) -> three n h p d", three=3, h=self.heads)
        norms = qkv[..., : 2 * grid.shape[-1]].square().sum(1).clamp(min=1e-24).sqrt()
        norm_q, norm_k = rearrange(norms, "n (two h d) -> two n h d", two=2, h=self.heads)
        scores = self.temperature * (q.mT @ k) / (norm_q[..., :, None] * norm_k[..., None, :])
        out = rearrange(v @ torch.softmax(scores, -1).mT, "n h p d -> n p (h d)")
        return F.linear(out, self.proj.weight.flatten(1)).view_as(grid)


class Block(nn.Module):
    """x + spectral(spatial(norm x)), then x + MLP(norm x); no skip between the two attentions.

    (N, H, W, C) -> the same shape, H and W multiples of the window.
    """

    def __init__(self, config: SSTConfig, shift: int) -> None:
        super().__init__()
        self.shift = shift
        self.norm1 = nn.LayerNorm(config.width)
        self.attn = WindowAttention(config.width, config.heads, config.window)
        self.spectral_attn = SpectralAttention(config.width, config.heads)
        self.norm2 = nn.LayerNorm(config.width)
        self.mlp = Mlp(config.width, config.mlp_ratio * config.width)

    def forward(self, grid: Tensor) -> Tensor:
        grid = grid + self.spectral_attn(self.attn(self.norm1(grid), self.shift))
        return grid + self.mlp(self.norm2(grid))


class SST(FlatTransformer):
    """The network: (N, B, H, W) -> the same shape, nominally in [0, 1], any H and W; B = `config.bands`.

    In the paper's size it has 4,144,837 parameters: `head` 25,200, each of six stages 670,266 (a block 99,546), `merge`
    72,900, `tail` 25,141. `generator` draws their initial values.
    """

    def __init__(self, config: SSTConfig = SSTConfig(), generator: torch.Generator | None = None) -> None:
        stages = (
            Stage(config.width, (Block(config, shift=i % 2 * (config.window // 2)) for i in range(config.blocks)))
            for _ in range(config.stages)
        )
        super().__init__(config.bands, config.width, stages, multiple=config.window)
        self.config = config
        generator = generator or default_generator()
        reset_qrnn3d_family(self, generator)
        if config.init == "identity":
            reset_as_identity(self, generator, self.tail)


def own_key(official: str) -> str | None:
    """Our name of an official parameter; None for the tables and masks that are computed here."""
    if official.endswith(("relative_position_index", "attn_mask")):
        return None
    return renamed(official, [*FRAME, (r"\.project_out\.", ".proj.")])


def from_official(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of an official state dict under our names."""
    return {own: tensor for key, tensor in state.items() if (own := own_key(key))}


def config_of(state: dict[str, Tensor]) -> SSTConfig:
    """The configuration of an official state dict, read from its tensors."""
    width, bands = state["conv_first.weight"].shape[:2]
    offsets, heads = state["layers.0.smsblock.0.attn.relative_position_bias_table"].shape
    return SSTConfig(
        bands=bands, width=width, heads=heads, window=(round(offsets**0.5) + 1) // 2,
        stages=count(state, r"layers\.\d+\.conv\.weight"),
        blocks=count(state, r"layers\.0\.smsblock\.\d+\.norm1\.weight"),
        mlp_ratio=state["layers.0.smsblock.0.mlp.fc1.weight"].shape[0] // width,
    )
