from __future__ import annotations

import pytest
import torch

from decsc_core.model import factors, misfit
from decsc_core.model.factors import EVEN, common
from decsc_core.model.misfit import posterior_mean

E = 0.015
BANDS, SIDE = 24, 48
SIGMAS = torch.linspace(0.01, 0.12, BANDS)[None, :, None, None]


def white(channels: int, seed: int = 0) -> torch.Tensor:
    """(1, channels, SIDE, SIDE): standard normal numbers."""
    return torch.randn(1, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def missed(size: float = 0.02) -> torch.Tensor:
    """(1, BANDS, SIDE, SIDE): two spectra, each in a pattern of its own, in every pixel another."""
    spectra = size * torch.stack([torch.ones(BANDS), torch.cos(torch.linspace(0, 3, BANDS))])
    return torch.einsum("kb,nkhw->nbhw", spectra, white(2, seed=1))


def noise(seed: int = 2) -> torch.Tensor:
    return SIGMAS * white(BANDS, seed=seed)


def rms(image: torch.Tensor) -> float:
    return float(image.square().mean().sqrt())


def test_what_bands_have_in_common_is_told_nearly_as_well_as_if_its_covariance_were_known():
    found = common(missed() + noise(), SIGMAS, E)
    pixels = missed().flatten(2)[0]
    covariance = pixels @ pixels.T / pixels.shape[1]
    known = covariance @ torch.linalg.inv(covariance + torch.diag(SIGMAS.flatten() ** 2)) @ (missed() + noise()).flatten(2)[0]
    best = rms(known.view_as(found) - missed())
    assert best < 0.65 * rms(missed())
    assert rms(found - missed()) < 1.1 * best


def test_a_weak_factor_is_told_among_what_noise_alone_makes_stand_out():
    pattern, sigmas = 0.01 * white(1, seed=1).expand(1, BANDS, -1, -1), torch.full((1, BANDS, 1, 1), 0.05)
    assert rms(common(pattern + 0.05 * white(BANDS, seed=2), sigmas, E) - pattern) < 0.8 * rms(pattern)


def test_noise_that_each_band_has_of_its_own_stays_out():
    assert rms(common(noise(), SIGMAS, E)) < 0.05 * rms(noise())


def smear(bands: int, reach: int) -> torch.Tensor:
    """(1, bands, SIDE, SIDE): noise of unit variance that each band shares with `reach` bands on either side."""
    apart = white(bands + reach, seed=5)
    return sum(apart[:, first : first + bands] for first in range(reach + 1)) / (reach + 1) ** 0.5


@pytest.mark.parametrize("bands", [8, 12, 16, 24, 31])
@pytest.mark.parametrize("reach", [1, 3, 5])
def test_noise_that_neighbouring_bands_share_is_not_taken_for_what_was_missed(reach, bands):
    assert not common(0.04 * smear(bands, reach), torch.full((1, bands, 1, 1), 0.04), E).any()


@pytest.mark.parametrize("reach", [1, 3, 6])
@pytest.mark.parametrize("band", ["none", "dead", "noisy"])
def test_nor_is_it_where_something_was_missed_or_a_band_is_unlike_the_others(reach, band):
    rest, sigmas = missed() + 0.04 * smear(BANDS, reach), torch.full((1, BANDS, 1, 1), 0.04)
    rest[:, 11] = {"none": rest[:, 11], "dead": 0, "noisy": 0.5 * white(1, seed=12)[:, 0]}[band]
    assert not common(rest, sigmas, E).any()


def test_many_spectra_that_were_missed_are_told():
    """Five, each of the same strength, so that no three make up most of what bands have in common."""
    spectra = torch.randn(5, BANDS, generator=torch.Generator().manual_seed(3))
    lost, sigmas = 0.02 * torch.einsum("kb,nkhw->nbhw", spectra, white(5, seed=1)), torch.full((1, BANDS, 1, 1), 0.01)
    found = common(lost + 0.01 * white(BANDS, seed=2), sigmas, E)
    assert rms(found - lost) < 0.2 * rms(lost)


def test_what_was_missed_of_some_bands_is_told_though_neighbours_are_most_alike():
    """Spectra as narrow as noise that neighbours share, but with bands in which nothing was missed."""
    centres, bands = torch.arange(0, 17, 4.0), torch.arange(float(BANDS))
    spectra = torch.exp(-(((bands - centres[:, None]) / 2.5) ** 2)) * (bands < 19)
    lost, sigmas = 0.03 * torch.einsum("kb,nkhw->nbhw", spectra, white(5, seed=1)), torch.full((1, BANDS, 1, 1), 0.01)
    found = common(lost + 0.01 * white(BANDS, seed=2), sigmas, E)
    assert rms(found - lost) < 0.3 * rms(lost)


def test_white_noise_stays_out_of_small_images_too():
    """Regression on the other bands explains some noise by chance, the more the fewer pixels there are."""
    for seed in range(20):
        small = 0.03 * white(31, seed=seed)[..., :16, :16]
        assert rms(common(small, torch.full((1, 31, 1, 1), 0.03), E)) < 0.12 * rms(small)


@pytest.mark.parametrize("size", [1e-5, 0.01, 0.05])
def test_bands_of_one_pattern_and_no_noise_stay_finite(size):
    """Their covariance has rank one, up to rounding."""
    spectrum = torch.linspace(0.5, 1, 31)[None, :, None, None]
    found = common(size * spectrum * white(1, seed=6), torch.zeros(1, 31, 1, 1), E)
    assert torch.isfinite(found).all() and found.abs().max() < 5 * size


def test_two_noisy_bands_that_vary_together_do_not_so_by_what_was_missed():
    """As impulses of two bands do, whose errors follow the brightness of the pixel."""
    rest = missed(0.01) + noise()
    rest[:, 22:] += 0.3 * white(1, seed=9)
    sigmas = SIGMAS.clone()
    sigmas[:, 22:] = 0.3
    found = common(rest, sigmas, E).square().mean((0, 2, 3)).sqrt()
    assert found[22:].max() < 2 * EVEN * 0.01


def test_what_was_missed_of_bright_bands_is_told_though_most_are_dark():
    """As in radiance: the spectra of a scene go up and down with the brightness of the bands."""
    brightness = torch.where(torch.arange(BANDS) < 18, 1.0, 5.0)[:, None, None]
    lost, sigmas = brightness * missed(0.005), torch.full((1, BANDS, 1, 1), 0.005)
    found = common(lost + 0.005 * white(BANDS, seed=2), sigmas, E)
    assert rms(found - lost) < 0.2 * rms(lost)


def test_a_noise_level_that_texture_has_raised_is_corrected():
    """Clean bands of a fine texture: differences of pixels tell it as noise."""
    told = (missed() + 0.1 * noise()).square().mean((2, 3), keepdim=True).sqrt()
    found = common(missed() + 0.1 * noise(), told, E)
    assert rms(found - missed()) < 0.2 * rms(missed())


def test_every_image_is_on_its_own_and_keeps_its_precision():
    images = torch.cat([missed() + noise(), noise(seed=3), missed(0.05) + noise(seed=4)])
    together = common(images, SIGMAS.expand(3, -1, -1, -1), E)
    assert together.dtype == torch.float32 and together.shape == images.shape
    for image, found in zip(images, together):
        torch.testing.assert_close(common(image[None], SIGMAS, E)[0], found, rtol=0, atol=1e-6)
    torch.testing.assert_close(common(images.double(), SIGMAS.double().expand(3, -1, -1, -1), E).float(), together, rtol=0, atol=1e-5)


def test_too_few_pixels_or_bands_tell_nothing():
    rest = missed() + noise()
    assert not common(rest[..., :12, :12], SIGMAS, E).any()
    assert not common(rest[:, :7], SIGMAS[:, :7], E).any()
    assert common(rest[:, :8], SIGMAS[:, :8], E).any()
    assert not common(torch.zeros_like(rest), torch.zeros_like(SIGMAS), E).any()


@pytest.mark.parametrize("spoilt", [float("nan"), float("inf"), 1e30])
def test_what_is_not_finite_spoils_its_own_image_only(spoilt):
    images = torch.cat([missed() + noise(), noise(seed=3)])
    images[1, 4, 5, 6] = spoilt
    found = common(images, SIGMAS.expand(2, -1, -1, -1), E)
    torch.testing.assert_close(found[:1], common(images[:1], SIGMAS, E))


def test_mixed_precision_tells_the_same_factors():
    rest, sigmas = missed() + 0.02 * noise(), 0.02 * SIGMAS
    alone = factors._share(rest.flatten(2), sigmas.flatten(1), E)
    assert alone.any()
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(factors._share(rest.flatten(2), sigmas.flatten(1), E), alone)


def test_the_misfit_holds_what_bands_have_in_common(monkeypatch):
    rest, sigmas = missed(0.03) + noise(), SIGMAS.flatten(1)
    found = posterior_mean(rest, sigmas, E)
    monkeypatch.setattr(misfit, "common", lambda rest, sigma, e: 0)
    without = posterior_mean(rest, sigmas, E)
    assert rms(found - missed(0.03)) < 0.75 * rms(without - missed(0.03))


def test_impulses_and_dead_columns_do_not_hide_what_bands_have_in_common():
    """They are cut down first: of two bands here, each its own."""
    rest, sigmas = missed(0.03) + noise(), SIGMAS.flatten(1)
    whole = posterior_mean(rest, sigmas, E) - missed(0.03)
    hit = rest.clone()
    hit[:, 3] += 0.8 * (white(1, seed=8)[:, 0] > 2)
    hit[:, 9, :, ::12] -= 0.6
    spoilt = posterior_mean(hit, sigmas, E) - missed(0.03)
    others = [band for band in range(BANDS) if band not in (3, 9)]
    assert rms(spoilt[:, others]) < 1.1 * rms(whole[:, others])


def test_a_gross_error_of_one_band_hardly_moves_the_others():
    rest, sigmas = missed(0.03) + noise(), SIGMAS.flatten(1)
    hit = rest.clone()
    hit[0, 1, 20, 20] += 5
    change = (posterior_mean(hit, sigmas, E) - posterior_mean(rest, sigmas, E)).abs()
    assert torch.cat([change[:, :1], change[:, 2:]], dim=1).max() < 0.02


def test_the_loss_reaches_what_is_not_given_back():
    parts = torch.zeros(1, BANDS, SIDE, SIDE, requires_grad=True)
    observed = missed() + noise()
    (slope,) = torch.autograd.grad((common(observed - parts, SIGMAS, E)).sum(), parts)
    share = factors._share(observed.flatten(2), SIGMAS.flatten(1), E)
    assert share.diagonal(dim1=1, dim2=2).min() > 1e-3
    torch.testing.assert_close(slope[0, :, 0, 0], -share[0].sum(0), rtol=1e-4, atol=1e-5)
