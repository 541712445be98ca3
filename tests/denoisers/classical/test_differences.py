"""Periodic differences and their Fourier forms."""

from __future__ import annotations

import pytest
import torch

from decsc_core.denoisers.classical.differences import adjoint_difference, difference, squared_transfer, transfer_function


def gaussian(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def test_differences_literally():
    values = torch.tensor([[1.0, 4.0, 9.0], [0.0, 2.0, 7.0]])
    assert difference(values, 1).tolist() == [[3, 5, -8], [2, 5, -7]]
    assert difference(values, 0).tolist() == [[-1, -2, -2], [1, 2, 2]]
    assert adjoint_difference(values, 1).tolist() == [[8, -3, -5], [7, -2, -5]]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_adjoint_is_the_adjoint(axis):
    one, other = gaussian(4, 5, 6), gaussian(6, 5, 4).permute(2, 1, 0)
    torch.testing.assert_close((difference(one, axis) * other).sum(), (one * adjoint_difference(other, axis)).sum())


@pytest.mark.parametrize("length", [1, 2, 7, 8])
def test_transfer_function_is_the_difference_in_the_fourier_domain(length):
    values = gaussian(3, length)
    half, whole = transfer_function(length), transfer_function(length, half=False)
    torch.testing.assert_close(torch.fft.rfft(difference(values, 1)), half * torch.fft.rfft(values))
    torch.testing.assert_close(torch.fft.fft(adjoint_difference(values, 1)), whole.conj() * torch.fft.fft(values))


@pytest.mark.parametrize("shape", [(7,), (4, 5), (4, 5, 6), (5, 4, 7), (1, 1, 1)])
def test_squared_transfer_is_the_spectrum_of_all_differences_and_their_adjoints(shape):
    values = gaussian(*shape)
    expected = sum(adjoint_difference(difference(values, axis), axis) for axis in range(len(shape)))
    found = torch.fft.irfftn(squared_transfer(shape) * torch.fft.rfftn(values), s=shape)
    torch.testing.assert_close(found, expected)


def test_squared_transfer_of_the_bands_alone_goes_with_a_cube():
    values = gaussian(3, 4, 7)
    found = torch.fft.irfft(squared_transfer((7,)) * torch.fft.rfft(values), n=7)
    torch.testing.assert_close(found, adjoint_difference(difference(values, 2), 2))


def test_precision_is_that_asked_for():
    assert transfer_function(6, dtype=torch.float32).dtype == torch.complex64
    assert squared_transfer((4, 5), dtype=torch.float32).dtype == torch.float32
