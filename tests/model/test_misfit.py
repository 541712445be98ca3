from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import torch

from decsc_core.model import DECSC, SolverConfig, misfit, preset
from decsc_core.model.misfit import FLOOR, GROSS, KNEE, LEVEL_PIXELS, SLOPE, _texture, limits, posterior_mean
from decsc_core.model.noise_levels import noise_levels

E = 0.02
SIGMAS = (0, 0.01, 0.05, 0.2)


def noise(height: int = 60, width: int = 45, seed: int = 3) -> torch.Tensor:
    """(1, 4, H, W): white noise of `SIGMAS`."""
    generator = torch.Generator().manual_seed(seed)
    sigmas = torch.tensor(SIGMAS, dtype=torch.float64)[:, None, None]
    return sigmas * torch.randn(1, len(SIGMAS), height, width, generator=generator, dtype=torch.float64)


def levels(*values: float) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float64)


def tuned(misfit: float = E) -> DECSC:
    config = preset("tiny", bands=4, depth=1, shifts=3, misfit=misfit, solver=SolverConfig(max_iter=2))
    return DECSC(config, torch.Generator().manual_seed(3)).double().eval()


def test_noise_levels_are_those_of_the_bands():
    torch.testing.assert_close(noise_levels(noise()), levels(*SIGMAS), rtol=0.1, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1)])
def test_noise_levels_of_a_single_row_or_column_are_those_of_its_bands(size):
    torch.testing.assert_close(noise_levels(noise(*size)), levels(*SIGMAS), rtol=0.1, atol=1e-6)
    assert not noise_levels(noise(1, 1)).any()


@pytest.fixture
def smooth_only(monkeypatch):
    monkeypatch.setattr(misfit, "_texture", lambda rest, sigma, e: 0)


def test_each_cosine_coefficient_keeps_the_share_of_its_variance(smooth_only):
    """The two Gaussians by scipy's transform."""
    rest = noise()[0, 2].numpy()
    sigma = min(0.05, np.median(abs(rest - np.median(rest))) / 0.6745)
    level = np.sort(rest.ravel())[(rest.size - 1) // 2]
    every = noise()[0].flatten(1)
    away = (every - every.median(1, keepdim=True).values).abs()
    deviations = torch.minimum(away.median(1, keepdim=True).values / 0.6745, levels(*SIGMAS).T)
    common = (away / (deviations**2 + FLOOR**2).sqrt()).median(0).values.reshape(60, 45).numpy()
    limit = np.sqrt(sigma**2 + (GROSS * E) ** 2) * np.maximum(common, 1)
    coefficients = scipy.fft.dctn(np.clip(rest - level, -limit, limit), norm="ortho")
    frequency = np.hypot(np.arange(60)[:, None] / 120, np.arange(45) / 90)
    frequency[0, 0] = np.inf
    variance = E**2 * (KNEE / frequency) ** SLOPE
    kept = scipy.fft.idctn(coefficients * variance / (variance + sigma**2), norm="ortho")
    expected = kept + level * E**2 / (E**2 + sigma**2 / LEVEL_PIXELS)
    found = posterior_mean(noise(), levels(0, 0.01, 0.05, 0.2), E)
    np.testing.assert_allclose(found[0, 2].numpy(), expected, rtol=0, atol=1e-12)


def test_what_is_left_over_of_clean_bands_is_kept_and_of_noisy_ones_is_not():
    smooth = torch.linspace(-E, E, 45, dtype=torch.float64).expand(1, 4, 60, 45)
    rest = smooth + noise()
    kept = posterior_mean(rest, levels(*SIGMAS), E)
    error = (kept - smooth).square().mean((0, 2, 3)).sqrt()
    without = smooth.square().mean().sqrt()
    assert error[0] < 1e-6 * without, "a clean band"
    assert (error[1:] < 0.75 * without).all() and (error[1:] < 0.65 * torch.tensor(SIGMAS[1:])).all(), "better than nothing, and than all"
    alone = posterior_mean(noise(), levels(*SIGMAS), E).square().mean((0, 2, 3)).sqrt()
    assert (alone[2:] < 0.15 * torch.tensor(SIGMAS[2:])).all(), "noise stays out"


def test_the_level_of_a_noisy_band_is_found():
    rest = noise(96, 96) + 0.03
    found = posterior_mean(rest, levels(*SIGMAS), E).mean((0, 2, 3))
    torch.testing.assert_close(found[:3], torch.full((3,), 0.03, dtype=torch.float64), rtol=0, atol=2e-3)
    assert 0.01 < found[3] < 0.03, "a very noisy band's is not trusted as much"


@pytest.mark.parametrize("error", [0.3, 5.0])
def test_gross_errors_are_cut_down(error):
    """A pixel of one band changes the estimate by no more than the limit, however large its error is."""
    before = posterior_mean(noise(), levels(*SIGMAS), E)
    for band, sigma in enumerate(SIGMAS):
        rest = noise()
        rest[:, band, 20, 20] += error
        after = posterior_mean(rest, levels(*SIGMAS), E)
        assert (after - before).abs().max() < 2.5 * (sigma + GROSS * E)


def test_dead_columns_and_impulses_do_not_move_the_level():
    rest = noise(96, 96)
    rest[..., ::12] -= 0.6
    rest.flatten(2)[..., ::20] += 0.8
    found = posterior_mean(rest, levels(*SIGMAS), E).mean((0, 2, 3))
    assert found.abs().max() < 0.01


def test_texture_is_not_taken_for_noise_where_little_is_left_over():
    """The noise level that the image tells is an upper bound; the deviation of what is left over may be less."""
    smooth = 0.01 * torch.cos(torch.linspace(0, 9, 45, dtype=torch.float64)).expand(1, 4, 60, 45)
    found = posterior_mean(smooth, levels(0.1, 0.1, 0.1, 0.1), E)
    assert (found - smooth).abs().max() < 0.1 * smooth.abs().max()


def test_every_size_and_precision_goes():
    for height, width in ((1, 1), (1, 7), (9, 1), (2, 3)):
        found = posterior_mean(noise(height, width).float(), levels(*SIGMAS).float(), E)
        assert found.shape == (1, 4, height, width) and found.dtype == torch.float32 and torch.isfinite(found).all()
    assert not posterior_mean(torch.zeros(1, 4, 8, 8), torch.zeros(1, 4), E).any()


@torch.no_grad()
def test_the_network_adds_it_to_the_mean_of_its_parts():
    noisy = 0.5 + noise(20, 17)
    found, parts = tuned()(noisy), tuned().without_misfit(noisy).image
    without = tuned(misfit=0)(noisy)
    assert torch.equal(without.image, parts)
    expected = parts + posterior_mean(noisy - parts, noise_levels(noisy), E)
    assert torch.equal(found.image, expected)
    assert torch.equal(found.spread, without.spread)


def test_the_paper_has_no_misfit_and_the_small_sizes_have_one():
    assert [preset(name).misfit for name in ("paper", "small", "tiny")] == [0, 0.015, 0.015]


def test_the_loss_reaches_what_the_misfit_lets_through(smooth_only):
    noisy = 0.5 + noise(20, 17)
    parts = torch.full_like(noisy, 0.5).requires_grad_()
    wanted = noise(20, 17, seed=4)[:, 3:] / SIGMAS[3]
    wanted -= wanted.mean()
    (slope,) = torch.autograd.grad((tuned().with_misfit(parts, noisy) * wanted).sum(), parts)
    size = slope[0].square().mean((1, 2)).sqrt()
    assert size[0] < 1e-6 and size[3] > 0.9, "of a clean band hardly anything is left to learn"



def test_what_all_bands_miss_is_misfit_and_what_one_misses_is_a_gross_error():
    """A highlight of clean bands comes back, an impulse as bright does not."""
    rest = 0.01 * noise(seed=7) / 0.2
    rest[..., 20:23, 20:23] += 0.5
    rest[:, 1, 40, 10] += 0.5
    kept = posterior_mean(rest, levels(0.0005, 0.0005, 0.0005, 0.0005), E)
    assert (kept - rest)[..., 20:23, 20:23].abs().max() < 0.05
    assert kept[0, 1, 40, 10] < 0.15


def many_bands(sigma: float, seed: int = 5) -> torch.Tensor:
    """(1, 21, 40, 40): white noise, as of so many bands."""
    return sigma * torch.randn(1, 21, 40, 40, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_texture_that_bands_share_comes_back_and_noise_does_not():
    checks = 0.1 * torch.ones(40, 40, dtype=torch.float64)
    checks[::2, ::2], checks[1::2, 1::2] = -0.1, -0.1
    checks[:, 20:] = 0
    rest = checks + many_bands(0.02)
    found = posterior_mean(rest, torch.full((1, 21), 0.02, dtype=torch.float64), E)
    inside, outside = (found - checks)[..., 2:18], found[..., 24:]
    assert inside.square().mean().sqrt() < 0.025, "the texture, and no more than the noise"
    assert outside.square().mean().sqrt() < 0.012, "noise stays out where there is none"


def test_texture_of_a_few_bands_is_no_misfit():
    rest = many_bands(0.02)
    rest[:, :2, :, ::4] += 0.15
    found = posterior_mean(rest, torch.full((1, 21), 0.02, dtype=torch.float64), E)
    assert found[:, :2].square().mean().sqrt() < 0.04


def test_the_variance_of_texture_is_its_formula_literally():
    """Pixel by pixel: three rounds of the weighted mean of rest^2 - sigma^2, where the median band is far off; then the mean of the neighbours."""
    rest = many_bands(0.02)[:, :5, :7, :8]
    rest[..., 2:4, 3:7] += 0.08
    rest[:, 1, 2, 3] += 0.5
    given = np.array([0.03, 0.02, 0.01, 0.015, 0.02])
    image = rest[0].numpy()
    lower_median = lambda values: np.sort(values, axis=None)[(values.size - 1) // 2]  # as torch's
    own = [lower_median(abs(band - lower_median(band))) / 0.6745 for band in image]
    sigma = np.minimum(given, own)
    variance = np.zeros((7, 8))
    for y, x in np.ndindex(7, 8):
        pixel, found = image[:, y, x], FLOOR**2
        for _ in range(3):
            whole = found + sigma**2
            excess = np.minimum(pixel**2 - sigma**2, 9 * whole)
            found = max((excess / whole**2).sum() / (1 / whole**2).sum(), FLOOR**2 / 100)
        variance[y, x] = found * (np.median(abs(pixel) / np.sqrt(sigma**2 + FLOOR**2)) > 1.2)
    around = np.array([[variance[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].mean() for x in range(8)] for y in range(7)])
    most = limits(rest, torch.from_numpy(sigma)[None, :, None, None], E)[0].numpy()
    expected = image.clip(-most, most) * around / np.maximum(around + sigma[:, None, None] ** 2, FLOOR**2 / 100)
    np.testing.assert_allclose(_texture(rest, levels(*given)[..., None, None], E)[0], expected, rtol=0, atol=1e-9)
    assert 0 < np.count_nonzero(around) < around.size
