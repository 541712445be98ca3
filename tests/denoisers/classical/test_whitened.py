"""Methods with one noise level for all bands, on bands that were divided by theirs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from decsc_core.denoisers.base import Estimate
from decsc_core.denoisers.classical.bm4d import BM4D
from decsc_core.denoisers.classical.mtsnmf import MTSNMF
from decsc_core.denoisers.classical.ngmeet import NGMeet
from decsc_core.denoisers.classical.noise_level import noise_level
from decsc_core.denoisers.registry import make
from decsc_core.denoisers.classical.whitened import Whitened
from decsc_core.metrics import mpsnr

UNEVEN = np.array([0.01, 0.3, 0.02, 0.1, 0.02, 0.4, 0.05, 0.02, 0.1], np.float32)


def pair(sigma: float | np.ndarray, height: int = 32, width: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """A smooth cube of nine bands, and the same with noise of these levels [0, 1]."""
    rows, columns, bands = np.ogrid[0:1:height * 1j, 0:1:width * 1j, 0:1:9j]
    clean = (0.5 + 0.3 * np.sin(3 * rows + columns) * np.cos(2 * bands)).astype(np.float32)
    return clean, clean + np.float32(sigma) * np.random.default_rng(0).standard_normal(clean.shape, dtype=np.float32)


def methods() -> list:
    return [NGMeet(iterations=3, group=40, half_window=8), MTSNMF(patch=5, atoms=10, iterations=20)]


@pytest.mark.parametrize("method", methods(), ids=lambda method: method.name)
def test_it_helps_where_the_levels_differ(method):
    clean, noisy = pair(UNEVEN)
    assert mpsnr(clean, Whitened(method)(noisy).cube) > mpsnr(clean, method(noisy).cube) + 3


@pytest.mark.parametrize("method", methods(), ids=lambda method: method.name)
def test_it_changes_little_where_they_are_equal(method):
    clean, noisy = pair(0.1)
    assert abs(mpsnr(clean, Whitened(method)(noisy).cube) - mpsnr(clean, method(noisy).cube)) < 1


@pytest.mark.filterwarnings("ignore:the cube looks like physical units")
@pytest.mark.parametrize("sigma", [None, 20.0])
def test_the_method_sees_bands_of_equal_noise_and_of_the_same_mean(sigma):
    _, noisy = pair(np.linspace(0.05, 0.3, 9))
    level = noise_level(torch.from_numpy(noisy)).numpy()
    unit = (level / level.mean()).astype(np.float32)
    expected = unit * BM4D(sigma=sigma)(noisy / unit).cube
    np.testing.assert_allclose(Whitened(BM4D(sigma=sigma))(noisy).cube, expected, atol=1e-5)


@pytest.mark.filterwarnings("ignore:the cube looks like physical units")
def test_the_unit_of_a_band_does_not_matter():
    _, noisy = pair(0.1)
    units, method = np.array([1, 4, 0.5, 1, 2, 1, 0.3, 1, 1], np.float32), Whitened(MTSNMF(patch=5, atoms=10, iterations=20))
    np.testing.assert_allclose(method(noisy * units).cube, method(noisy).cube * units, atol=1e-3)


@pytest.mark.parametrize("sigma", [None, 25.0])
def test_what_has_no_noise_stays(sigma):
    flat = np.full((12, 13, 6), 0.4, np.float32)
    flat[3, 4] = 0.5
    estimate = make("ngmeet-white", sigma=sigma)(flat).cube
    assert np.isfinite(estimate).all() and np.abs(estimate - flat).max() < 0.11
    _, noisy = pair(0.1)
    noisy[..., 3] = np.linspace(0.2, 0.3, 30, dtype=np.float32)
    assert np.abs(make("ngmeet-white", sigma=sigma)(noisy).cube[..., 3] - noisy[..., 3]).max() < 0.05


def test_the_spread_is_in_the_unit_of_the_cube():
    class Told(BM4D):
        def _denoise(self, noisy, progress):
            return Estimate(noisy, spread=noisy)

    _, noisy = pair(UNEVEN)
    np.testing.assert_allclose(Whitened(Told())(noisy).spread, noisy, rtol=1e-5)


def test_uneven_noise_gives_no_warning_of_units(recwarn):
    make("ngmeet-white")(pair(UNEVEN)[1])
    assert not recwarn.list
