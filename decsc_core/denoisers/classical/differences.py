"""Periodic forward differences, their adjoints, and what both are in the Fourier domain."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def difference(values: Tensor, axis: int) -> Tensor:
    """D x: each sample's successor along `axis` less the sample itself; the first sample follows the last."""
    return values.roll(-1, axis) - values


def adjoint_difference(values: Tensor, axis: int) -> Tensor:
    """D^T x: each sample's predecessor along `axis` less the sample itself; the last sample precedes the first."""
    return values.roll(1, axis) - values


def transfer_function(
    length: int, *, half: bool = True, device: torch.device | None = None, dtype: torch.dtype = torch.float64
) -> Tensor:
    """h with F(D x) = h F(x) and F(D^T x) = conj(h) F(x) along an axis of `length` samples: exp(2 pi i k / length) - 1.

    Parameters
    ----------
    half : bool
        Only the length // 2 + 1 frequencies that `torch.fft.rfft` gives.
    dtype : torch.dtype
        Real; the result is the complex of the same precision.
    """
    frequency = (torch.fft.rfftfreq if half else torch.fft.fftfreq)(length, device=device, dtype=dtype)
    return torch.polar(torch.ones_like(frequency), 2 * torch.pi * frequency) - 1


def squared_transfer(
    shape: Sequence[int], *, device: torch.device | None = None, dtype: torch.dtype = torch.float64
) -> Tensor:
    """Sum of |h|^2 over all axes of `shape`, laid out as the result of `torch.fft.rfftn`: the spectrum of sum D^T D.

    For the bands alone give ``(bands,)``; the result (bands // 2 + 1,) goes with ``torch.fft.rfft(cube)``.
    """
    total = torch.zeros((), device=device, dtype=dtype)
    for axis, length in enumerate(shape):
        last = axis == len(shape) - 1
        squared = transfer_function(length, half=last, device=device, dtype=dtype).abs().square()
        total = total + squared.reshape([-1 if other == axis else 1 for other in range(len(shape))])
    return total
