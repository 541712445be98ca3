"""The detail enhancement prior on the unshared codes: Net_2 of Eq. (9), Eq. (24) and Fig. 3.

The difference convolution is a sum of five 3x3x3 branches, each an ordinary kernel with some taps tied. Their sum is one
dense kernel, so it is fused once per weight update and the branches cost nothing per evaluation of f.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

PARTS = ("difference", "attention")
"""The two parts of the prior."""


SINGLE = 20480
"""The most channels x bands x rows of a single volume that PyTorch convolves on a CPU without oneDNN, slowly (`benchmarks/equilibrium.py`)."""


def convolve(codes: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """3x3x3 convolution with zeros around: (N, J, B, h, w) -> (N, J', B, h, w); a small single volume on a CPU band by band, in 2-D."""
    if len(codes) > 1 or codes.device.type != "cpu" or codes[0, ..., 0].numel() > SINGLE:
        return F.conv3d(codes, weight, bias, padding=1)
    triples = rearrange(F.pad(codes, (0, 0, 0, 0, 1, 1)).unfold(2, 3, 1), "1 j b y x k -> b (j k) y x")
    return rearrange(F.conv2d(triples, weight.flatten(1, 2), bias, padding=1), "b j y x -> 1 j b y x")


class FusedKernel(NamedTuple):
    """The five branches added up: weight (J, J, 3, 3, 3) and bias (J,)."""

    weight: Tensor
    bias: Tensor


class DifferenceConv3d(nn.Module):
    """Plain, central, horizontal, vertical and inter-band difference convolutions in one (Fig. 3).

    Axes of a kernel are (out, in, band, row, column).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        dense, flat = (channels, channels, 3, 3, 3), (channels, channels, 3, 3)
        self.weights = nn.ParameterDict({
            "plain": nn.Parameter(torch.zeros(dense)),
            "central": nn.Parameter(torch.zeros(dense)),
            "horizontal": nn.Parameter(torch.zeros(flat)),
            "vertical": nn.Parameter(torch.zeros(flat)),
            "spectral": nn.Parameter(torch.zeros(flat)),
        })
        self.biases = nn.ParameterDict({name: nn.Parameter(torch.zeros(channels)) for name in self.weights})

    def branch(self, name: str) -> Tensor:
        """The 3x3x3 kernel that branch `name` amounts to."""
        weight = self.weights[name]
        if name == "plain":
            return weight
        if name == "central":
            centre = weight[..., 1, 1, 1] - weight.sum((-3, -2, -1))
            return torch.cat([weight.flatten(-3)[..., :13], centre[..., None], weight.flatten(-3)[..., 14:]], -1).view_as(weight)
        axis = {"spectral": 2, "vertical": 3, "horizontal": 4}[name]
        return torch.stack([weight, torch.zeros_like(weight), -weight], dim=axis)

    def fuse(self) -> FusedKernel:
        """Add the five branches up."""
        return FusedKernel(sum(self.branch(name) for name in self.weights), sum(self.biases.values()))


class DetailEnhancement(nn.Module):
    """P_H: (N, J, B - 2, h, w) -> the same shape.

    Parameters
    ----------
    channels : int
        J.
    form : {"released", "paper"}
        ``"released"``: T = H + relu(V H), out = T sigmoid(C2 relu(C1 T)).
        ``"paper"``, Eq. (24): T = H + V H, out = T + T C2(C1 T).
    parts : collection of str
        Of `PARTS`. Without the difference convolution T = H, without the attention out = T (Table V).
    """

    def __init__(self, channels: int, form: str, parts: Collection[str] = PARTS) -> None:
        super().__init__()
        self.form, self.parts = form, parts
        if "difference" in parts:
            self.difference = DifferenceConv3d(channels)
        if "attention" in parts:
            self.reduce = nn.Conv3d(channels, channels // 2, 3, padding=1)
            self.select = nn.Conv3d(channels // 2, channels, 3, padding=1)

    def fuse(self) -> FusedKernel | None:
        """The difference convolution for the current weights; None without one."""
        return self.difference.fuse() if "difference" in self.parts else None

    def forward(self, codes: Tensor, fused: FusedKernel | None) -> Tensor:
        """Apply the prior with `fused`, the result of `fuse` for the current weights."""
        paper = self.form == "paper"
        if fused is not None:
            edges = convolve(codes, fused.weight, fused.bias)
            codes = codes + (edges if paper else F.relu(edges))
        if "attention" not in self.parts:
            return codes
        reduced = convolve(codes, self.reduce.weight, self.reduce.bias)
        if paper:
            return codes + codes * convolve(reduced, self.select.weight, self.select.bias)
        return codes * torch.sigmoid(convolve(F.relu(reduced), self.select.weight, self.select.bias))
