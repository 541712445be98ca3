"""Initial weights drawn from an explicit generator."""

from __future__ import annotations

import math

import torch
from torch import nn

CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose2d, nn.ConvTranspose3d)
INITS = ("released", "identity")
"""Starts of a network that adds its input at its end: the release's, or one as the identity (`reset_as_identity`)."""


def default_generator() -> torch.Generator:
    """The source of initial weights where none is given."""
    return torch.Generator().manual_seed(2021)


def check_init(init: str) -> None:
    """Raise ValueError for what is not one of `INITS`."""
    if init not in INITS:
        raise ValueError(f"init={init!r}; choose one of {', '.join(INITS)}")


@torch.no_grad()
def reset_like_torch(module: nn.Module, generator: torch.Generator) -> None:
    """PyTorch's own start of a convolution or linear layer: all uniform within 1 / sqrt(inputs of an output)."""
    nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)
    if module.bias is not None:
        bound = 1 / math.sqrt(module.weight[0].numel())
        nn.init.uniform_(module.bias, -bound, bound, generator=generator)


@torch.no_grad()
def reset_qrnn3d_family(network: nn.Module, generator: torch.Generator) -> None:
    """The start that the descendants of QRNN3D share, for every layer inside `network`.

    Convolutions: Kaiming normal (fan out), bias 0. Linear maps: N(0, 0.001^2), bias 0, so that a transformer block
    starts near the identity. Layer norms: 1 and 0. Transposed convolutions: PyTorch's default. Tables of relative positions:
    normal with standard deviation 0.02, truncated. Anything else is left alone.
    """
    for module in network.modules():
        if isinstance(module, TRANSPOSED):
            reset_like_torch(module, generator)
            continue
        if isinstance(module, CONVOLUTIONS):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", generator=generator)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 1e-3, generator=generator)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
        elif hasattr(module, "relative_position_bias_table"):
            nn.init.trunc_normal_(module.relative_position_bias_table, std=0.02, generator=generator)
        if isinstance(module, (*CONVOLUTIONS, nn.Linear, nn.LayerNorm)) and module.bias is not None:
            nn.init.zeros_(module.bias)


@torch.no_grad()
def reset_as_identity(network: nn.Module, generator: torch.Generator, *last: nn.Module) -> None:
    """A start from which a network that adds its input at its end learns within hundreds of steps.

    With zeros for all parameters of the layers `last` it begins as the identity. Linear maps and convolutions of single pixels: normal with
    standard deviation 0.05, truncated, bias 0, so that gradients pass through a block, which N(0, 0.001^2) stops. Other
    convolutions: PyTorch's default. Anything else is left alone.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear) or (isinstance(module, CONVOLUTIONS) and module.weight[0, 0].numel() == 1):
            nn.init.trunc_normal_(module.weight, std=0.05, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, (*CONVOLUTIONS, *TRANSPOSED)):
            reset_like_torch(module, generator)
    for layer in last:
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)
