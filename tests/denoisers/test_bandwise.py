"""What someone who denoises a cube with the band-wise methods would notice."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage import data

from decsc_core.denoisers import CubeError
from decsc_core.denoisers.bandwise import BandWise, NonLocalMeans, TotalVariation, Wavelet
from decsc_core.metrics import mpsnr, psnr_per_band
from decsc_core.noise import add_noise

METHODS = [TotalVariation, Wavelet, NonLocalMeans]
pytestmark = pytest.mark.filterwarnings("error", "ignore:the cube (looks like physical units|is dark or flat)")


@pytest.fixture(params=METHODS, ids=lambda method: method.name)
def denoiser(request) -> BandWise:
    return request.param()


def photo(height: int = 81, width: int = 90, bands: int = 4) -> np.ndarray:
    """A part of a photograph, smoothed to take out its own grain, brighter from band to band."""
    image = gaussian_filter(data.camera() / 255, 1.5)[60 : 60 + height, 180 : 180 + width]
    return (image[..., None] * np.linspace(0.5, 1, bands)).astype(np.float32)


def noisy_photo(*size: int, sigma: float = 0.15) -> np.ndarray:
    clean = photo(*size)
    return clean + np.float32(sigma) * np.random.default_rng(0).standard_normal(clean.shape, dtype=np.float32)


@pytest.mark.parametrize(("case", "gain"), [("gauss-15", 4.0), ("gauss-55", 6.5), ("gauss-95", 7.5), ("corr", 7.0)])
def test_noise_goes_down(denoiser, case, gain):
    clean = photo()
    noisy, _ = add_noise(clean, case, np.random.default_rng(0))
    assert mpsnr(clean, denoiser(noisy).cube) > mpsnr(clean, noisy) + gain


def test_each_band_is_treated_by_its_own_noise_level(denoiser):
    """A strong setting for all would blur the nearly clean band; a weak one would leave the noisy band noisy."""
    clean = photo(bands=2)
    noise = np.random.default_rng(0).standard_normal(clean.shape)
    noisy = clean + np.array([0.01, 0.3]) * noise
    before, after = psnr_per_band(clean, noisy), psnr_per_band(clean, denoiser(noisy).cube)
    assert after[0] > before[0]
    assert after[1] > before[1] + 8


def test_bands_do_not_mix(denoiser):
    noisy = noisy_photo(40, 40, 3)
    together = denoiser(noisy).cube
    for band in range(3):
        np.testing.assert_array_equal(together[..., [band]], denoiser(noisy[..., [band]]).cube)


@pytest.mark.parametrize("shape", [(6, 6, 1), (7, 41, 2), (33, 6, 3), (13, 17, 46)])
def test_any_size_and_number_of_bands(denoiser, shape):
    noisy = np.random.default_rng(0).normal(0.5, 0.2, shape).astype(np.float32)
    cube = denoiser(noisy).cube
    assert cube.shape == shape and cube.dtype == np.float32
    assert cube.std() < noisy.std()


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 50, 3), (50, 5, 3), (2, 2, 31)])
def test_an_image_too_small_to_measure_its_noise_comes_back_as_it_is(denoiser, shape):
    noisy = np.random.default_rng(0).random(shape, dtype=np.float32)
    np.testing.assert_array_equal(denoiser(noisy).cube, noisy)


def test_a_band_without_noise_comes_back_as_it_is(denoiser):
    noisy = noisy_photo(32, 32, 4)
    noisy[..., 0] = 0
    noisy[..., 1] = 0.7
    noisy[..., 2] = np.linspace(0, 1, 32)[:, None]
    cube = denoiser(noisy).cube
    np.testing.assert_array_equal(cube[..., :3], noisy[..., :3])
    assert not np.array_equal(cube[..., 3], noisy[..., 3])


@pytest.mark.parametrize(("factor", "shift"), [(1.0, 3.0), (1.0, -2.0), (1000.0, 0.0), (0.001, 0.0)])
def test_values_outside_0_to_1_are_not_clipped(denoiser, factor, shift):
    """The unit and the zero of the cube do not matter: the estimate moves with them."""
    noisy = noisy_photo(48, 48, 2)
    expected = factor * denoiser(noisy).cube + shift
    np.testing.assert_allclose(denoiser(factor * noisy + shift).cube, expected, atol=2e-3 * factor)


def test_the_same_cube_gives_the_same_estimate_and_is_left_alone(denoiser):
    noisy = noisy_photo(40, 40, 2)
    before = noisy.copy()
    np.testing.assert_array_equal(denoiser(noisy).cube, denoiser(noisy).cube)
    np.testing.assert_array_equal(noisy, before)


def test_progress_is_shown_only_when_asked_for(denoiser, capsys):
    noisy = noisy_photo(24, 24, 3)
    denoiser(noisy)
    assert capsys.readouterr() == ("", "")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        denoiser(noisy, progress=True)
    shown = capsys.readouterr().err
    assert denoiser.name in shown and "3/3" in shown


def test_a_cube_with_missing_values_is_refused(denoiser):
    noisy = noisy_photo(24, 24, 3)
    noisy[3, 4, 1] = np.nan
    with pytest.raises(CubeError, match="1 NaN"):
        denoiser(noisy)


def test_names_and_kind():
    assert [method.name for method in METHODS] == ["tv", "wavelet", "nlm"]
    assert {(method.kind, method.params) for method in METHODS} == {("band-wise", 0)}


def test_real_scene(denoiser, shared):
    """A validation scene of CAVE under the heaviest Gaussian case: at least 11 dB better than the noisy cube."""
    stored = np.load(shared / "data" / "cave_pompoms.npz")
    window = stored["cube"][80:176, 80:176, ::6].astype(np.float32)
    clean = window * np.float32(stored["scale"]) + np.float32(stored["offset"])
    noisy, _ = add_noise(clean, "gauss-95", np.random.default_rng(0))
    assert mpsnr(clean, denoiser(noisy).cube) > mpsnr(clean, noisy) + 11
