"""Pieces of the networks that read a cube as a volume (N, C, B, H, W) of C features in every band.

Volumes lie in memory as (N, B, H, W, C). In this layout 3-D convolutions are fastest on a CPU, and linear maps of the
features, mixtures of bands and the treatment of bands as single images work without a copy.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


def features_last(volume: Tensor) -> Tensor:
    """The same volume (N, C, B, H, W), laid out in memory as (N, B, H, W, C)."""
    return volume.to(memory_format=torch.channels_last_3d)


def convolve(volume: Tensor, weight: Tensor, bias: Tensor | None = None, sampling: str = "") -> Tensor:
    """A 3x3x3 convolution with zeros around the volume; with stride 2 in the image where `sampling` is "down".

    (N, fan_in, B, H, W) -> (N, fan_out, B, H', W') by a weight (fan_out, fan_in, 3, 3, 3).

    Single features are no work for 3-D kernels. There the three bands of every output become the channels of a 2-D
    convolution, or the three contributions of every input, added up afterwards.
    """
    fan_out, fan_in = weight.shape[:2]
    if sampling == "down":
        return F.conv3d(features_last(volume), features_last(weight), bias, (1, 2, 2), padding=1)
    if fan_in == 1:
        images = rearrange(F.pad(volume, (0, 0, 0, 0, 1, 1)).unfold(2, 3, 1), "n 1 b y x k -> (n b) k y x")
        weight = rearrange(weight, "o 1 k p q -> o k p q").contiguous(memory_format=torch.channels_last)
        out = F.conv2d(images, weight, bias, padding=1)
        return rearrange(out, "(n b) o y x -> n o b y x", b=volume.shape[2])
    if fan_out <= 3:
        images = rearrange(features_last(volume), "n c b y x -> (n b) c y x")
        weight = rearrange(weight, "o c k p q -> (k o) c p q").contiguous(memory_format=torch.channels_last)
        parts = rearrange(F.conv2d(images, weight, padding=1), "(n b) (k o) y x -> k n o b y x", b=volume.shape[2], k=3)
        before, after = F.pad(parts[0, :, :, :-1], (0, 0, 0, 0, 1, 0)), F.pad(parts[2, :, :, 1:], (0, 0, 0, 0, 0, 1))
        out = before + parts[1] + after
        return out if bias is None else out + bias[:, None, None, None]
    return F.conv3d(features_last(volume), features_last(weight), bias, padding=1)


def pointwise(grid: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear map of the features of (N, B, H, W, C), as a 1x1 convolution, to which adding the bias costs nothing."""
    images = F.conv2d(rearrange(grid, "n b y x c -> (n b) c y x"), weight[:, :, None, None], bias)
    return rearrange(images, "(n b) c y x -> n b y x c", n=len(grid))


def upsample(volume: Tensor) -> Tensor:
    """(N, C, B, H, W) -> (N, C, B, 2H, 2W): every band bilinearly, corners on corners."""
    images = rearrange(volume, "n c b y x -> (n b) c y x")
    images = F.interpolate(images, scale_factor=2, mode="bilinear", align_corners=True)
    return rearrange(images, "(n b) c y x -> n c b y x", b=volume.shape[2])


class BatchNorm(nn.Module):
    """Batch normalisation over axis 1 of a tensor of any number of axes. Unlike PyTorch's it does not count batches."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, self.training)

    def affine(self) -> tuple[Tensor, Tensor]:
        """Scale and shift of every feature that the norm amounts to in evaluation mode."""
        scale = self.weight * torch.rsqrt(self.running_var + 1e-5)
        return scale, self.bias - self.running_mean * scale


class Step(NamedTuple):
    """A layer of an encoder or decoder: its widths, and whether it halves ("down") or doubles ("up") the sides."""

    fan_in: int
    fan_out: int
    sampling: str = ""


def u_shape(width: int, depth: int) -> tuple[list[Step], list[Step]]:
    """Encoder and decoder of `depth` layers each.

    The encoder's layers 1, 3, ... halve the sides and double the width; the decoder goes the same way back.
    """
    encoder = []
    for number in range(depth):
        halves = number % 2 == 1
        encoder.append(Step(width, 2 * width if halves else width, "down" if halves else ""))
        width = encoder[-1].fan_out
    decoder = [Step(step.fan_out, step.fan_in, "up" if step.sampling else "") for step in reversed(encoder)]
    return encoder, decoder


def run_u_shape(x: Tensor, encoder: nn.ModuleList, decoder: nn.ModuleList) -> Tensor:
    """Encoder, then decoder, with additive skips.

    The encoder's input and the outputs of all its layers but the last are added to the decoder's outputs of their size.
    """
    skips = []
    for layer in encoder:
        skips.append(x)
        x = layer(x)
    for layer in decoder:
        x = layer(x) + skips.pop()
    return x
