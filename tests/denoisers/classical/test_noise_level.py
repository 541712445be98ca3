from __future__ import annotations

import numpy as np
import pytest
import torch

from decsc_core.denoisers.classical.noise_level import noise_level
from decsc_core.denoisers.registry import make


@pytest.fixture
def smooth():
    """A cube (40, 50, 31) of rank 3 without noise."""
    rng = np.random.default_rng(0)
    return rng.random((40, 50, 3)) @ rng.random((3, 31))


def literal(cube: np.ndarray) -> np.ndarray:
    """Each band regressed on all others by least squares."""
    bands = cube.reshape(-1, cube.shape[2])
    levels = []
    for index in range(bands.shape[1]):
        others = np.delete(bands, index, axis=1)
        weights = np.linalg.lstsq(others, bands[:, index], rcond=None)[0]
        levels.append(np.sqrt(np.sum((bands[:, index] - others @ weights) ** 2) / (len(bands) - others.shape[1])))
    return np.array(levels)


def test_it_is_what_the_other_bands_do_not_predict(smooth):
    noisy = smooth + np.random.default_rng(1).normal(0, 0.1, smooth.shape)
    np.testing.assert_allclose(noise_level(torch.from_numpy(noisy)).numpy(), literal(noisy), rtol=1e-4)


def test_how_many_pixels_are_taken_at_a_time_changes_nothing(smooth, monkeypatch):
    noisy = torch.from_numpy(smooth + np.random.default_rng(1).normal(0, 0.1, smooth.shape))
    whole = noise_level(noisy)
    monkeypatch.setattr("decsc_core.denoisers.classical.noise_level.AT_ONCE", 100)
    torch.testing.assert_close(noise_level(noisy), whole)


def waves(*shape: int) -> tuple[np.ndarray, np.ndarray]:
    """A smooth cube and the same with noise of a standard deviation of 0.1."""
    clean = 0.5 + 0.2 * np.sin(np.indices(shape).T @ (0.1, 0.15, 0.2)).T
    return clean, clean + np.random.default_rng(0).normal(0, 0.1, shape)


@pytest.mark.parametrize("side, bands", [(8, 31), (8, 63), (9, 31), (12, 140), (24, 224), (32, 189)])
def test_few_pixels_of_many_bands_tell_it_too(side, bands):
    found = noise_level(torch.from_numpy(waves(side, side, bands)[1]))
    assert float(found.mean()) == pytest.approx(0.1, rel=0.2)


@pytest.mark.parametrize("name", ["bm4d", "llrt"])
def test_images_smaller_than_the_patches_of_a_method_are_denoised(name):
    clean, noisy = waves(6, 6, 31)
    found = make(name, device="cpu")(noisy).cube
    assert np.square(found - clean).mean() < 0.4 * np.square(noisy - clean).mean()


def test_bands_of_different_levels_are_told_apart(smooth):
    levels = np.linspace(0.02, 0.3, 31)
    noisy = smooth + levels * np.random.default_rng(1).standard_normal(smooth.shape)
    found = noise_level(torch.from_numpy(noisy)).numpy()
    np.testing.assert_allclose(found[8:], levels[8:], rtol=0.1)
    assert (found[:8] > 0.9 * levels[:8]).all(), "nearly clean bands are over-estimated, never under"


@pytest.mark.parametrize("cube, mean", [("a_gauss", 51.8), ("b_gauss", 50.1), ("a_mixture", 72.5), ("b_mixture", 69.2)])
def test_golden_levels(golden, cube, mean):
    """The recorded means are those of the residuals, not corrected for the 30 weights that 9216 pixels were fitted with."""
    found = 255 * float(noise_level(torch.from_numpy(golden.noisy(cube))).mean())
    assert found * ((9216 - 30) / 9216) ** 0.5 == pytest.approx(mean, abs=0.05)


@pytest.mark.parametrize("bands", [1, 2, 3])
def test_with_few_bands_the_details_of_the_image_tell(bands):
    noisy = 0.5 + np.random.default_rng(0).normal(0, 0.1, (64, 64, bands))
    np.testing.assert_allclose(noise_level(torch.from_numpy(noisy)).numpy(), 0.1, rtol=0.2)


@pytest.mark.parametrize("unit", [1e-9, 1e-4, 255, 65535, 1e6])
def test_the_unit_does_not_matter(smooth, unit):
    noisy = torch.from_numpy(smooth + np.random.default_rng(1).normal(0, 0.001, smooth.shape))
    torch.testing.assert_close(noise_level(unit * noisy), unit * noise_level(noisy), rtol=1e-7, atol=0)


@pytest.mark.parametrize("unit", [1, 65535, 1e8])
def test_equal_bands_predict_each_other(smooth, unit):
    noisy = smooth + np.random.default_rng(1).normal(0, 0.1, smooth.shape)
    twice = torch.from_numpy(unit * noisy[..., [*range(31), 3, 30]])
    found = noise_level(twice)
    assert not found[[3, 30, 31, 32]].any()
    fewer_degrees = (1970 / 1968) ** 0.5  # 2000 pixels, 30 other bands and 32
    np.testing.assert_allclose(found[:3], unit * fewer_degrees * noise_level(torch.from_numpy(noisy))[:3], rtol=1e-5)


@pytest.mark.filterwarnings("ignore:the cube looks like physical units")
@pytest.mark.parametrize("name", ["bm4d", "mtsnmf", "llrt", "ngmeet", "logtnn"])
def test_methods_take_counts_of_a_camera_with_equal_bands(name):
    cube = 65535 * (0.5 + np.random.default_rng(0).normal(0, 0.1, (16, 16, 6))).clip(0, 1)
    cube[..., 4] = cube[..., 3]
    method = make(name, device="cpu")
    method.iterations = 5
    assert np.isfinite(method(cube).cube).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bands", [1, 3])
def test_a_constant_band_of_few_has_none(bands):
    noisy = torch.from_numpy(0.5 + np.random.default_rng(0).normal(0, 0.1, (64, 64, bands)))
    noisy[..., 0] = 0
    found = noise_level(noisy)
    assert found[0] == 0 and (found[1:] > 0.08).all()


def test_a_constant_cube_and_a_tiny_one_have_none():
    assert not noise_level(torch.full((20, 20, 8), 0.3)).any()
    assert not noise_level(torch.rand(3, 3, 2)).any()
