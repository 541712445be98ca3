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
    assert gain(flat(brightest), levels(0.01, noise)) == pytest.approx(factor)


def test_impulses_and_narrow_stripes_do_not_make_an_image_bright_and_an_object_does():
    image = flat(0.175)
    where = torch.rand((40, 40), generator=torch.Generator().manual_seed(0)) < 0.1
    image[0, 0][where] = 1.0
    image[0, 1, :, 20:22] = 1.0
    assert gain(image, levels(0.01)) == pytest.approx(4)
    image[0, 2:, 5:20, 5:20] = 0.35
    assert gain(image, levels(0.01)) == pytest.approx(2)


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
    better = denoise(noisy)
    monkeypatch.setattr(equilibrium, "gain", lambda image, noise: 1.0)
    before = denoise(noisy)
    assert len(given) == 2 and torch.allclose(given[0], given[1] * 0.7 / DARK, rtol=0.15)
    assert metrics.mpsnr(dark, better.cube) > metrics.mpsnr(dark, before.cube) + 0.5
    assert better.spread.max() < 2 * before.spread.max(), "the deviation over shifts is that of the dark image"


def test_a_bright_image_is_given_to_the_network_as_it_is(clean, given):
    noisy, _ = noise.add_noise(clean, "gauss-15", np.random.default_rng(0))
    make("decsc", device="cpu", shifts=1)(noisy)
    np.testing.assert_array_equal(given[0][0].permute(1, 2, 0), noisy)


def test_how_dark_an_image_with_gross_errors_is_its_first_estimate_shows(clean, given):
    dark = DARK * clean
    noisy, _ = noise.add_noise(dark, "mixture", np.random.default_rng(0))
    make("decsc", device="cpu", shifts=1)(noisy)
    assert len(given) == 3
    torch.testing.assert_close(given[0][0].permute(1, 2, 0), torch.from_numpy(noisy))
    assert [brightest(image) > 1.2 * brightest(given[0]) for image in given[1:]] == [True, True]
