from __future__ import annotations

import numpy as np
import pytest
import torch

from decsc_core import metrics, noise
from decsc_core.denoisers import equilibrium
from decsc_core.denoisers.registry import make
from decsc_core.model.brightness import gain
from decsc_core.scenes import photos

DARK, BANDS = 0.2, 15


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    """64 x 64 pixels, 31 bands, the brightest areas near 1."""
    cube = photos.build("chelsea").cube[40:104, 60:124]
    return np.ascontiguousarray(cube / cube.max())


def flat(level: float) -> torch.Tensor:
    return torch.full((1, BANDS, 40, 40), level)


def levels(*some: float) -> torch.Tensor:
    return torch.tensor([[*some] + [0.0] * (BANDS - len(some))])


@pytest.mark.parametrize(
    "brightest, noise, factor",
    [(0.35, 0.01, 2), (0.7, 0.01, 1), (1.0, 0.01, 1), (0.02, 0.01, 4), (0.0, 0.0, 4), (0.1, 0.25, 2), (0.1, 0.6, 1), (-0.1, 0.25, 2)],
)
def test_an_image_is_made_as_bright_as_its_noise_allows(brightest, noise, factor):
    np.testing.assert_allclose(gain(flat(brightest), levels(0.01, noise)).flatten(), factor, rtol=1e-5)


def test_impulses_and_narrow_stripes_do_not_make_an_image_bright_and_an_object_does():
    image = flat(0.175)
    where = torch.rand((40, 40), generator=torch.Generator().manual_seed(0)) < 0.1
    image[0, 0][where] = 1.0
    image[0, 1, :, 20:22] = 1.0
    np.testing.assert_allclose(gain(image, levels(0.01)).flatten(), 4, rtol=1e-5)
    image[0, 2:, 5:20, 5:20] = 0.35
    assert gain(image, levels(0.01))[0, 2] == pytest.approx(2)


def test_dark_bands_are_made_brighter_as_far_as_they_stand_out_of_their_noise():
    image = flat(0.8)
    image[0, 1:5] = torch.tensor([0.1, 0.1, 0.001, -0.1])[:, None, None]
    factors = gain(image, levels(0.01, 0.001, 0.015, 0.0, 0.001))
    np.testing.assert_allclose(factors.flatten()[:6], [1, 2, 0.1 / 0.015 / 5, 16, 1, 1], rtol=1e-5)


@pytest.fixture
def given(monkeypatch) -> list[torch.Tensor]:
    """What the network is given, pass by pass."""
    images = []
    solve = equilibrium.Equilibrium._solve

    def seen(self, model, image, bar):
        images.append(image)
        return solve(self, model, image, bar)

    monkeypatch.setattr(equilibrium.Equilibrium, "_solve", seen)
    return images


def brightest(image: torch.Tensor) -> float:
    return float(image.quantile(0.99))


def test_a_dark_image_is_denoised_better_for_being_made_brighter(clean, given, monkeypatch):
    dark = DARK * clean
    noisy, _ = noise.add_noise(dark, "gauss-15", np.random.default_rng(0))
    denoise = make("decsc", device="cpu", shifts=2, spread=True)
    monkeypatch.setattr(equilibrium, "wiener", lambda estimate, *_: estimate)
    better = denoise(noisy)
    monkeypatch.setattr(equilibrium, "gain", lambda image, noise: torch.ones(1))
    before = denoise(noisy)
    assert len(given) == 2 and torch.allclose(given[0], given[1] * 0.7 / DARK, rtol=0.15)
    assert metrics.mpsnr(dark, better.cube) > metrics.mpsnr(dark, before.cube) + 0.5
    assert better.spread.max() < 2 * before.spread.max(), "the deviation over shifts is that of the dark image"


def test_a_bright_image_is_given_to_the_network_as_it_is(clean, given):
    noisy, _ = noise.add_noise(clean, "gauss-15", np.random.default_rng(0))
    make("decsc", device="cpu", shifts=1)(noisy)
    np.testing.assert_array_equal(given[0][0].permute(1, 2, 0), noisy)


def test_radiance_is_denoised_better_for_its_dark_bands_being_made_brighter(clean, monkeypatch):
    """Where the sun is weak bands are dark, and stand out of their noise as the others do."""
    radiance = clean * np.geomspace(1, 0.03, clean.shape[2], dtype=np.float32)
    noisy = radiance + radiance.std((0, 1)) / 15 * np.random.default_rng(1).standard_normal(clean.shape).astype(np.float32)
    denoise = make("decsc", device="cpu", shifts=1)
    monkeypatch.setattr(equilibrium, "wiener", lambda estimate, *_: estimate)

    def of_signal(cube: np.ndarray) -> np.ndarray:
        return np.log10(radiance.var((0, 1)) / np.square(cube - radiance).mean((0, 1))) * 10

    better = of_signal(denoise(noisy).cube)
    monkeypatch.setattr("decsc_core.model.brightness.DARK", 0.0)
    before = of_signal(denoise(noisy).cube)
    assert better.mean() > before.mean() + 0.5 and better[-8:].min() > before[-8:].min() + 2


def test_how_dark_an_image_with_gross_errors_is_its_first_estimate_shows(clean, given):
    dark = DARK * clean
    noisy, _ = noise.add_noise(dark, "mixture", np.random.default_rng(0))
    make("decsc", device="cpu", shifts=1)(noisy)
    assert len(given) == 3
    of_bands = given[0][0].flatten(1).norm(dim=1) / torch.from_numpy(noisy).flatten(0, 1).norm(dim=0)
    assert of_bands.median() == pytest.approx(1)
    assert [brightest(image) > 1.2 * brightest(given[0]) for image in given[1:]] == [True, True]
