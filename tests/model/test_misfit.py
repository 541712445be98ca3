from __future__ import annotations

import torch

from decsc_core.model import DECSC, preset
from decsc_core.model.decsc import GROSS, Layer, noise_levels

MISFIT = 0.02


def problem(misfit: float = MISFIT) -> tuple[Layer, torch.Tensor]:
    """Five bands with noise of sigma 0, 0.01, 0.05, 0.2 and 0.2, and codes whose image lies within some hundredths of them."""
    generator = torch.Generator().manual_seed(3)
    model = DECSC(preset("tiny", bands=5, depth=1, misfit=misfit), generator).double()
    side = 5 + 3 * 14
    ramp = torch.linspace(0, 0.03, side, dtype=torch.float64)
    sigmas = torch.tensor([0, 0.01, 0.05, 0.2, 0.2], dtype=torch.float64)[:, None, None]
    noisy = ramp[:, None] + ramp + sigmas * torch.randn(1, 5, side, side, generator=generator, dtype=torch.float64)
    layer = Layer(model, noisy)
    return layer, layer.initial()


def test_noise_levels_are_those_of_the_bands():
    layer, _ = problem()
    expected = torch.tensor([[0, 0.01, 0.05, 0.2, 0.2]], dtype=torch.float64)
    torch.testing.assert_close(noise_levels(layer.noisy), expected, rtol=0.06, atol=1e-6)


@torch.no_grad()
def test_the_misfit_is_the_mean_of_two_gaussians():
    layer, z = problem()
    parts = sum(layer.reconstruct(z))
    for band, sigma in enumerate(noise_levels(layer.noisy)[0].tolist()):
        rest = (layer.noisy - parts)[0, band]
        small = rest.abs() < GROSS * (sigma**2 + MISFIT**2) ** 0.5
        assert small.double().mean() > 0.9
        expected = parts[0, band] + rest / (1 + (sigma / MISFIT) ** 2)
        torch.testing.assert_close(layer.image(z)[0, band][small], expected[small], rtol=0, atol=1e-12)


@torch.no_grad()
def test_a_clean_band_is_kept_and_a_noisy_one_is_not():
    layer, z = problem()
    apart = (layer.image(z) - layer.noisy)[0].square().mean((1, 2)).sqrt()
    assert apart[0] < 1e-3
    assert apart[3] > 0.95 * (sum(layer.reconstruct(z)) - layer.noisy)[0, 3].square().mean().sqrt()


@torch.no_grad()
def test_a_gross_error_in_a_clean_band_is_not_kept():
    layer, z = problem()
    before = layer.image(z)
    layer.noisy = layer.noisy.clone()
    layer.noisy[0, 0, 20, 20] += 1
    after = layer.image(z)
    assert abs(after - before)[0, 0, 20, 20] < (GROSS + 1) * MISFIT
    after[0, 0, 20, 20] = before[0, 0, 20, 20]
    torch.testing.assert_close(after, before, rtol=0, atol=1e-6)


@torch.no_grad()
def test_without_a_misfit_the_image_is_the_paper_s():
    layer, z = problem(misfit=0.0)
    assert torch.equal(layer.image(z), sum(layer.reconstruct(z)))


def test_the_paper_has_no_misfit_and_the_small_sizes_have_one():
    assert [preset(name).misfit for name in ("paper", "small", "tiny")] == [0, 0.015, 0.015]


def test_the_loss_reaches_what_the_misfit_lets_through():
    layer, _ = problem()
    z = layer.initial().detach().requires_grad_()
    (slope,) = torch.autograd.grad(layer.image(z)[0, 0].sum(), z)
    (whole,) = torch.autograd.grad(sum(layer.reconstruct(z))[0, 0].sum(), z)
    assert slope.norm() < 0.05 * whole.norm()
    (slope,) = torch.autograd.grad(layer.image(z)[0, 3].sum(), z)
    (whole,) = torch.autograd.grad(sum(layer.reconstruct(z))[0, 3].sum(), z)
    assert slope.norm() > 0.95 * whole.norm()
