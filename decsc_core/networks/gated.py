"""The layer of QRNN3D: a 3-D convolution makes candidates and forget gates for a recurrence along the bands.

Wei, Fu and Huang, "3-D Quasi-Recurrent Neural Network for Hyperspectral Image Denoising", TNNLS 2020.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor, nn

from decsc_core.networks.volumes import BatchNorm, convolve, upsample


class GatedPooling(torch.autograd.Function):
    """h_b = f_b h_(b-1) + (1 - f_b) z_b along the bands, from h = `START`, summed over directions.

    (N, (1 + D) C, B, H, W) -> (N, C, B, H, W): the features are those of z, then those of f for each of D directions.
    A direction is True where the recurrence runs from the last band to the first.
    """

    START = 0.5

    @staticmethod
    def forward(ctx, gates: Tensor, directions: tuple[bool, ...]) -> Tensor:
        z, *forget = gates.chunk(1 + len(directions), dim=1)
        start, every = torch.full_like(z[:, :, 0], GatedPooling.START), []
        for f, reverse in zip(forget, directions):
            before, states = start, torch.empty_like(z, memory_format=torch.channels_last_3d)
            for band in _order(z, reverse):
                before = torch.lerp(z[:, :, band], before, f[:, :, band], out=states[:, :, band])
            every.append(states)
        ctx.save_for_backward(gates, *every)
        ctx.directions = directions
        return reduce(torch.add, every)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        gates, *every = ctx.saved_tensors
        of_gates = torch.empty_like(gates, memory_format=torch.channels_last_3d)
        (z, *forget), (of_z, *of_forget) = (part.chunk(1 + len(every), dim=1) for part in (gates, of_gates))
        start = torch.full_like(z[:, :, 0], GatedPooling.START)
        for number, (f, of_f, states, reverse) in enumerate(zip(forget, of_forget, every, ctx.directions)):
            order, passed = _order(z, reverse), torch.zeros_like(start)
            for band, previous in zip(reversed(order), [*reversed(order[:-1]), None]):
                before = start if previous is None else states[:, :, previous]
                total = gradient[:, :, band] + passed
                torch.mul(total, before - z[:, :, band], out=of_f[:, :, band])
                passed = total * f[:, :, band]
                if number:
                    of_z[:, :, band].add_(total).sub_(passed)
                else:
                    torch.sub(total, passed, out=of_z[:, :, band])
        return of_gates, None


def _order(volume: Tensor, reverse: bool) -> list[int]:
    """The bands in the order of the recurrence."""
    bands = list(range(volume.shape[2]))
    return bands[::-1] if reverse else bands


class GatedLayer(nn.Module):
    """Batch norm, up-sampling if any, 3x3x3 convolution to z = tanh Z and f = sigmoid F, recurrence along the bands.

    (N, fan_in, B, H, W) -> (N, fan_out, B, H', W'), with H' and W' halved, doubled or kept by `sampling`.

    Parameters
    ----------
    sampling : {"", "down", "up"}
    reverse : bool
        The recurrence runs from the last band to the first.
    both : bool
        Two sets of forget gates, one recurrence in each direction, results added.
    transposed : bool
        The convolution is a transposed one (of stride 1), which differs in its weight's layout and start only.
    bias : bool
        Whether the convolution has one.
    """

    def __init__(
        self, fan_in: int, fan_out: int, sampling: str = "", reverse: bool = False, both: bool = False,
        transposed: bool = False, bias: bool = False,
    ) -> None:
        super().__init__()
        self.sampling, self.directions = sampling, (False, True) if both else (reverse,)
        self.fan_out, self.transposed = fan_out, transposed
        self.bn = BatchNorm(fan_in)
        kind = nn.ConvTranspose3d if transposed else nn.Conv3d
        self.conv = kind(fan_in, (1 + len(self.directions)) * fan_out, 3, padding=1, bias=bias)

    def forward(self, volume: Tensor) -> Tensor:
        volume = self.bn(volume)
        if self.sampling == "up":
            volume = upsample(volume)
        weight, bias = self.conv.weight, self.conv.bias
        if self.transposed:
            weight = weight.flip(2, 3, 4).transpose(0, 1)
        bias = None if bias is None else self._doubled(bias)
        gates = convolve(volume, self._doubled(weight), bias, self.sampling).sigmoid()
        n = len(self.directions)
        return torch.rsub(GatedPooling.apply(gates, self.directions), -n, alpha=-2)  # 2 states - n in one pass

    def _doubled(self, parameter: Tensor) -> Tensor:
        """Weight or bias with the rows of Z doubled.

        As tanh Z = 2 sigmoid(2 Z) - 1, one sigmoid serves candidates and gates. The recurrence commutes with this
        affine map: it runs on the sigmoid from 1/2, and the result is mapped.
        """
        return torch.cat([2 * parameter[: self.fan_out], parameter[self.fan_out :]])
