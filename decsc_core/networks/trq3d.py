"""TRQ3DNet (Pang, Gu and Cao, Remote Sensing 14(18):4598, 2022): QRNN3D beside a Uformer, joined in every layer.

One branch is QRNN3D's: a volume with a recurrence along the bands. The other is 2-D: an image whose channels start as
the bands, treated by transformer blocks in windows. Every layer hands its volume to the image, its image to the volume.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from decsc_core.checks import check_numbers
from decsc_core.networks.gated import GatedLayer
from decsc_core.networks.initialise import check_init, default_generator, reset_as_identity, reset_qrnn3d_family
from decsc_core.networks.names import renamed
from decsc_core.networks.padding import crop_to, pad_to_multiple, require_bands
from decsc_core.networks.volumes import BatchNorm, Step, u_shape
from decsc_core.model.windows import WindowAttention


@dataclass(frozen=True)
class TRQ3DConfig:
    """Everything that defines a TRQ3DNet; the defaults are the paper's, with 679,107 parameters.

    Parameters
    ----------
    bands : int
    width : int
        Features of the volume and channels of the image after the heads; every halving of the sides doubles them.
    depth : int
        Layers of the encoder, and of the decoder. Every other one changes the size.
    heads, window : int
        Of the attention in the image branch; the window's side in pixels.
    init : {"released", "identity"}
        See `initialise.INITS`; the release's start is far from the identity, which costs the first thousands of steps.
    """

    bands: int = 31
    width: int = 16
    depth: int = 4
    heads: int = 4
    window: int = 8
    init: str = "released"

    def __post_init__(self) -> None:
        check_numbers(self, bands=1, width=1, depth=1, heads=1, window=1)
        check_init(self.init)
        if self.width % self.heads:
            advice = f"use a multiple of {self.heads}"
            raise ValueError(f"width={self.width} cannot be split over {self.heads} heads; {advice}")


PRESETS = {
    "paper": {},
    "small": {"width": 8, "init": "identity"},
    "tiny": {"width": 4, "depth": 2, "heads": 2, "window": 4, "init": "identity"},
}


class Pointwise(nn.Module):
    """Batch norm, then a linear map of the features without bias: (N, fan_in, ...) -> (N, fan_out, ...)."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.bn = BatchNorm(fan_in)
        self.conv = nn.Conv2d(fan_in, fan_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.conv.weight.flatten(1)
        if self.training:
            return F.linear(self.bn(x).movedim(1, -1), weight).movedim(-1, 1)
        scale, shift = self.bn.affine()
        return F.linear(x.movedim(1, -1), weight * scale, weight @ shift).movedim(-1, 1)


class LocalMlp(nn.Module):
    """Linear, GELU, depth-wise 3x3 convolution, GELU, linear: (N, H, W, C) -> the same shape."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 2 * width)
        self.conv = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width)
        self.fc2 = nn.Linear(2 * width, width)

    def forward(self, grid: Tensor) -> Tensor:
        hidden = rearrange(F.gelu(self.fc1(grid)), "n y x c -> n c y x")
        return self.fc2(rearrange(F.gelu(self.conv(hidden)), "n c y x -> n y x c"))


class LeWinBlock(nn.Module):
    """x + attention(norm x) in windows that start at `shift`, then x + MLP(norm x): (N, H, W, C) -> the same shape."""

    def __init__(self, width: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.shift = shift
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads, window)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = LocalMlp(width)

    def forward(self, grid: Tensor) -> Tensor:
        grid = grid + self.attn(self.norm1(grid), self.shift)
        return grid + self.mlp(self.norm2(grid))


class JointLayer(nn.Module):
    """One layer of both branches: volume (N, C, B, H, W) and image (N, C, H, W) -> the same of the next width and size.

    The image takes in the incoming volume, passes two blocks and changes its size; the volume passes its gated layer,
    takes in the image that results, and is projected.
    """

    def __init__(self, step: Step, reverse: bool, transposed: bool, config: TRQ3DConfig) -> None:
        super().__init__()
        fan_in, fan_out, sampling = step
        self.gated = GatedLayer(*step, reverse=reverse, transposed=transposed)
        self.to_image = nn.ModuleList([Pointwise(fan_in, 1), Pointwise(config.bands, fan_in)])
        self.blocks = nn.Sequential(
            LeWinBlock(fan_in, config.heads, config.window, shift=0),
            LeWinBlock(fan_in, config.heads, config.window, shift=config.window // 2),
        )
        if sampling == "down":
            self.sample = nn.Conv2d(fan_in, fan_out, 4, stride=2, padding=1)
        elif sampling == "up":
            self.sample = nn.ConvTranspose2d(fan_in, fan_out, 2, stride=2)
        else:
            self.sample = nn.Identity()
        self.to_volume = nn.ModuleList([Pointwise(fan_out, config.bands), Pointwise(1, fan_out)])
        self.proj = Pointwise(fan_out, fan_out)

    def forward(self, volume: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        image = image + self.to_image[1](self.to_image[0](volume)[:, 0])
        image = self.sample(rearrange(self.blocks(rearrange(image, "n c y x -> n y x c")), "n y x c -> n c y x"))
        volume = self.gated(volume) + self.to_volume[1](self.to_volume[0](image)[:, None])
        return self.proj(volume), image


class ImageHead(nn.Module):
    """3x3 convolution, leaky ReLU, layer norm over the channels: (N, B, H, W) -> (N, C, H, W)."""

    def __init__(self, bands: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(bands, width, 3, padding=1)
        self.norm = nn.LayerNorm(width)

    def forward(self, image: Tensor) -> Tensor:
        image = F.leaky_relu(self.conv(image))
        return rearrange(self.norm(rearrange(image, "n c y x -> n y x c")), "n y x c -> n c y x")


class ImageTail(nn.Module):
    """3x3 convolution, batch norm: (N, C, H, W) -> (N, B, H, W)."""

    def __init__(self, width: int, bands: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, bands, 3, padding=1)
        self.norm = BatchNorm(bands)

    def forward(self, image: Tensor) -> Tensor:
        return self.norm(self.conv(image))


class TRQ3D(nn.Module):
    """(N, B, H, W) -> (N, B, H, W) with B = `config.bands`. `generator` draws the initial weights.

    Both branches have the widths 16 -> 16 -> 32 -> 32 -> 64 and back, at full, half and quarter size, with additive
    skips. Sides are extended to a multiple of 32, so that windows of 8 fill the quarter size, and cropped; they
    may differ.

    ======== ================================================================================= ==========
    part     layers                                                                            parameters
    ======== ================================================================================= ==========
    heads    volume: gated, both directions, 1 -> 16; image: 3x3, 31 -> 16                   1,298 + 4,512
    encoder  four joint layers, the second and fourth halving the sides                            317,824
    decoder  four joint layers, the first and third doubling them                                  347,632
    tails    gated, both directions, 16 -> 1; 3x3, 16 -> 31; each plus the input             1,331 + 4,557
    merge    linear map of both results, 62 -> 31                                                    1,953
    ======== ================================================================================= ==========

    Raises
    ------
    ValueError
        From `forward`, if the number of bands is not the network's.
    """

    def __init__(self, config: TRQ3DConfig = TRQ3DConfig(), generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config, self.bands = config, config.bands
        self.multiple = 2 ** (config.depth // 2) * config.window
        self.head = GatedLayer(1, config.width, both=True)
        self.image_head = ImageHead(config.bands, config.width)
        encoder, decoder = u_shape(config.width, config.depth)
        self.encoder = nn.ModuleList(
            JointLayer(step, reverse=number % 2 == 1, transposed=False, config=config)
            for number, step in enumerate(encoder)
        )
        self.decoder = nn.ModuleList(
            JointLayer(step, reverse=number % 2 == 1, transposed=not step.sampling, config=config)
            for number, step in enumerate(decoder, start=config.depth)
        )
        self.tail = GatedLayer(config.width, 1, both=True, transposed=True, bias=True)
        self.image_tail = ImageTail(config.width, config.bands)
        self.merge = nn.Conv2d(2 * config.bands, config.bands, 1)
        generator = generator or default_generator()
        reset_qrnn3d_family(self, generator)
        if config.init == "identity":
            reset_as_identity(self, generator, self.tail.conv, self.image_tail.norm, self.merge)
            for branch in self.merge.weight.data.split(config.bands, dim=1):
                branch[:, :, 0, 0] = torch.eye(config.bands) / 2

    def forward(self, noisy: Tensor) -> Tensor:
        require_bands(noisy, self.bands)
        padded = pad_to_multiple(noisy, self.multiple)
        volume, image, skips = self.head(padded[:, None]), self.image_head(padded), []
        for layer in self.encoder:
            skips.append((volume, image))
            volume, image = layer(volume, image)
        for layer in self.decoder:
            volume, image = (made + skip for made, skip in zip(layer(volume, image), skips.pop()))
        both = torch.cat([padded + self.tail(volume)[:, 0], padded + self.image_tail(image)], dim=1)
        return crop_to(self.merge(both), noisy)


_RENAMED = [
    (r"^feature_extractor_qrnn\.conv\.", "head."),
    (r"^feature_extractor_tr\.proj\.0\.", "image_head.conv."),
    (r"^feature_extractor_tr\.", "image_head."),
    (r"^reconstructor_qrnn\.conv\.", "tail."),
    (r"^reconstructor_tr\.proj\.0\.", "image_tail.conv."),
    (r"^reconstructor_tr\.", "image_tail."),
    (r"^(encoder|decoder)\.layers\.", r"\1."),
    (r"\.qrnn_layer\.conv\.", ".gated."),
    (r"\.sample_layer\.(?:de)?conv\.0\.", ".sample."),
    (r"\.(?:deconv|upsample_conv\.conv3d)\.", ".conv."),
    (r"\.bi_qrnn_tr\.layer_", ".to_image."),
    (r"\.bi_tr_qrnn\.layer_", ".to_volume."),
    (r"\.tr_layer\.", "."),
    (r"\.qkv\.to_(?:q|kv)\.", ".qkv."),
    (r"\.mlp\.linear(\d)\.0\.", r".mlp.fc\1."),
    (r"\.mlp\.dwconv\.0\.", ".mlp.conv."),
]


def own_key(official: str) -> str | None:
    """Our name of an official parameter, None for index tables and counters; the same for queries, keys and values."""
    if official.endswith(("relative_position_index", "num_batches_tracked")):
        return None
    return renamed(official, _RENAMED)


def from_official(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of an official state dict under our names; queries, keys and values become one projection."""
    parts = defaultdict(list)
    for key in sorted(state, key=lambda key: ".to_kv." in key):
        if name := own_key(key):
            parts[name].append(state[key])
    return {name: torch.cat(tensors) if len(tensors) > 1 else tensors[0] for name, tensors in parts.items()}


def config_of(state: dict[str, Tensor]) -> TRQ3DConfig:
    """The configuration of the network of an official state dict."""
    width, bands = state["feature_extractor_tr.proj.0.weight"].shape[:2]
    offsets, heads = state["encoder.layers.0.tr_layer.blocks.0.attn.relative_position_bias_table"].shape
    depth = len({key.split(".")[2] for key in state if key.startswith("encoder.layers.")})
    return TRQ3DConfig(bands, width, depth, heads, window=(round(offsets**0.5) + 1) // 2)
