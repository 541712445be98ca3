"""HSDT, the hybrid spectral denoising transformer (Lai, Yan and Fu, ICCV 2023), in its three sizes.

The skeleton of QRNN3D with attention among the bands in place of the recurrence. It is cheap, for one matrix of B x B
weights serves all pixels, found from the mean features of the bands. An image and its tiles therefore have different
results.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from decsc_core.checks import check_numbers
from decsc_core.networks.initialise import CONVOLUTIONS, default_generator, reset_qrnn3d_family
from decsc_core.networks.names import renamed
from decsc_core.networks.padding import crop_to, pad_to_multiple, require_bands
from decsc_core.networks.volumes import (
    BatchNorm, Step, convolve, features_last, pointwise, run_u_shape, u_shape, upsample,
)


@dataclass(frozen=True)
class HSDTConfig:
    """Everything that defines an HSDT; the defaults are those of HSDT-M.

    Parameters
    ----------
    bands : int
        Bands of the learned queries. Any number of bands can be denoised, others without these queries.
    width : int
        Features after the head; every halving of the sides doubles them.
    depth : int
        Layers of the encoder, and of the decoder. Every other one changes the size.
    """

    bands: int = 31
    width: int = 16
    depth: int = 5

    def __post_init__(self) -> None:
        check_numbers(self, bands=1, width=1, depth=1)


PRESETS = {
    "paper": {},
    "small": {"width": 8},
    "tiny": {"width": 4, "depth": 3},
    "paper-s": {"width": 8},
    "paper-l": {"depth": 7},
}
"""`paper`, `paper-s` and `paper-l` are the published M, S and L: 521,158, 134,350 and 2,094,786 parameters."""


class S3Conv(nn.Module):
    """Two 3x3 convolutions of every band, each with a leaky ReLU, plus one of three bands at every pixel.

    (N, fan_in, B, H, W) -> (N, fan_out, B, H, W).
    """

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.spatial = nn.ModuleList([nn.Conv2d(c, fan_out, 3, padding=1, bias=False) for c in (fan_in, fan_out)])
        self.spectral = nn.Conv2d(fan_in, fan_out, (3, 1), padding=(1, 0), bias=False)

    def forward(self, volume: Tensor) -> Tensor:
        _, _, bands, height, _ = volume.shape
        images = rearrange(volume, "n c b y x -> (n b) c y x")
        for convolution in self.spatial:
            images = F.leaky_relu_(convolution(images.contiguous(memory_format=torch.channels_last)))
        weight = self.spectral.weight.contiguous(memory_format=torch.channels_last)
        spectra = F.conv2d(rearrange(volume, "n c b y x -> n c b (y x)"), weight, padding=(1, 0))
        return rearrange(images, "(n b) c y x -> n c b y x", b=bands) + spectra.unflatten(-1, (height, -1))


class Resampling(nn.Module):
    """3x3x3 convolution without bias, to half the sides or after doubling them: (N, fan_in, B, H, W) -> (N, fan_out, B, H', W')."""

    def __init__(self, fan_in: int, fan_out: int, sampling: str) -> None:
        super().__init__()
        self.sampling = sampling
        self.conv = nn.Conv3d(fan_in, fan_out, 3, padding=1, bias=False)

    def forward(self, volume: Tensor) -> Tensor:
        return convolve(upsample(volume) if self.sampling == "up" else volume, self.conv.weight, sampling=self.sampling)


class GuidedAttention(nn.Module):
    """Every band becomes a mixture of all bands, the same at every pixel: (N, B, H, W, C) -> the same shape.

    The weights are softmax(g Q^T + bias) with g (B, C) the mean features of the bands and a learned query Q (31, C), or
    softmax(g g^T). In training one of the two is drawn at every call, so that the network knows both; in evaluation
    mode it is the first where the query has the image's number of bands, the second otherwise.
    """

    def __init__(self, bands: int, width: int, draws: torch.Generator) -> None:
        super().__init__()
        self.bands, self.draws = bands, draws
        self.query = nn.Linear(width, bands)
        self.value = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, grid: Tensor) -> Tensor:
        pixels = grid.flatten(2, 3)
        mean = (pixels.new_full((1, pixels.shape[2]), 1 / pixels.shape[2]) @ pixels)[:, :, 0]
        learned = grid.shape[1] == self.bands and not (self.training and torch.rand((), generator=self.draws) < 0.5)
        weights = torch.softmax(self.query(mean) if learned else mean @ mean.mT, dim=-1)
        return self.out((weights @ self.value(grid).flatten(2)).view_as(grid))


class ModulatedMlp(nn.Module):
    """W2 gelu(W1 x) + a sigmoid(b) with (a, b) = W3 x: (N, B, H, W, C) -> the same shape, not a residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 2 * width)
        self.fc2 = nn.Linear(2 * width, width)
        self.gated = nn.Linear(width, 2 * width)

    def forward(self, grid: Tensor) -> Tensor:
        weight_a, weight_b = self.gated.weight.chunk(2)
        bias_a, bias_b = self.gated.bias.chunk(2)
        gate = torch.sigmoid(pointwise(grid, weight_b, bias_b))
        hidden = F.gelu(pointwise(grid, self.fc1.weight, self.fc1.bias))
        straight = pointwise(hidden, self.fc2.weight, self.fc2.bias)
        return torch.addcmul(straight, pointwise(grid, weight_a, bias_a), gate)


class HybridLayer(nn.Module):
    """Convolution, batch norm, x + attention(x), MLP: (N, fan_in, B, H, W) -> (N, fan_out, B, H', W')."""

    def __init__(self, step: Step, bands: int, draws: torch.Generator) -> None:
        super().__init__()
        self.conv = Resampling(*step) if step.sampling else S3Conv(step.fan_in, step.fan_out)
        self.bn = BatchNorm(step.fan_out)
        self.attention = GuidedAttention(bands, step.fan_out, draws)
        self.mlp = ModulatedMlp(step.fan_out)

    def forward(self, volume: Tensor) -> Tensor:
        grid = rearrange(features_last(self.bn(self.conv(volume))), "n c b y x -> n b y x c")
        return rearrange(self.mlp(grid + self.attention(grid)), "n b y x c -> n c b y x")


class HSDT(nn.Module):
    """(N, B, H, W) -> (N, B, H, W) for any number of bands B.

    `generator` draws the initial weights, and seeds `draws`, which chooses the queries in training.

    A head 1 -> 16, an encoder with the widths 16 -> 16 -> 32 -> 32 -> 64 -> 64 and a decoder back (HSDT-L: two layers
    more, to 128), a 3x3x3 convolution to one feature; additive skips join layers of one size, and the input is added at
    the end. Sides are extended to a multiple of 4 (HSDT-L: 8) and cropped back.
    """

    bands: int | None = None

    def __init__(self, config: HSDTConfig = HSDTConfig(), generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.multiple = 2 ** (config.depth // 2)
        generator = generator or default_generator()
        self.draws = draws = torch.Generator().manual_seed(int(torch.randint(2**31, (), generator=generator)))
        encoder, decoder = u_shape(config.width, config.depth)
        self.head = HybridLayer(Step(1, config.width), config.bands, draws)
        self.encoder = nn.ModuleList(HybridLayer(step, config.bands, draws) for step in encoder)
        self.decoder = nn.ModuleList(HybridLayer(step, config.bands, draws) for step in decoder)
        self.tail = nn.Conv3d(config.width, 1, 3, padding=1)
        reset_qrnn3d_family(self, generator)
        for module in self.modules():
            if isinstance(module, CONVOLUTIONS):
                nn.init.xavier_normal_(module.weight, generator=generator)

    def forward(self, noisy: Tensor) -> Tensor:
        require_bands(noisy, self.bands)
        padded = pad_to_multiple(noisy, self.multiple)
        volume = run_u_shape(self.head(padded[:, None]), self.encoder, self.decoder)
        return crop_to(padded + convolve(volume, self.tail.weight, self.tail.bias)[:, 0], noisy)


_RENAMED = [
    (r"^(encoder|decoder)\.layers\.", r"\1."),
    (r"\.conv\.dw_conv\.0\.", ".conv.spatial.0."),
    (r"\.conv\.dw_conv\.2\.", ".conv.spatial.1."),
    (r"\.conv\.pw_conv\.", ".conv.spectral."),
    (r"\.conv\.weight$", ".conv.conv.weight"),
    (r"\.attn\.attn\.attn_proj\.", ".attention.query."),
    (r"\.attn\.attn\.value_proj\.", ".attention.value."),
    (r"\.attn\.attn\.fc\.", ".attention.out."),
    (r"\.attn\.ffn\.w_3\.", ".mlp.gated."),
    (r"\.attn\.ffn\.w_", ".mlp.fc"),
]


def own_key(official: str) -> str | None:
    """Our name of an official parameter, None for the counters of batches."""
    if official.endswith("num_batches_tracked"):
        return None
    return renamed(official, _RENAMED)


def from_official(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of an official state dict under our names."""
    return {name: tensor for key, tensor in state.items() if (name := own_key(key))}


def config_of(state: dict[str, Tensor]) -> HSDTConfig:
    """The configuration of the network of an official state dict."""
    bands, width = state["head.attn.attn.attn_proj.weight"].shape
    depth = len({key.split(".")[2] for key in state if key.startswith("encoder.layers.")})
    return HSDTConfig(bands, width, depth)
