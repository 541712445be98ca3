from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from decsc_core import metrics, noise
from decsc_core.denoisers import equilibrium
from decsc_core.denoisers.registry import make
from decsc_core.denoisers.subspace import shrink
from decsc_core.scenes import photos

BANDS, SIDE, SIGMA = 31, 48, 0.1


def normal(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    """Mixtures of three spectra."""
    spectra = np.sin(np.outer([1, 2, 3], np.linspace(0.2, 3, BANDS)))
    return (0.5 + 0.1 * normal(SIDE, SIDE, 3, seed=0) @ spectra).astype(np.float32)


@pytest.fixture(scope="module")
def noisy(clean: np.ndarray) -> np.ndarray:
    return (clean + SIGMA * normal(*clean.shape, seed=1)).astype(np.float32)


def rms(cube: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(cube, dtype=np.float64))))


def test_errors_outside_of_the_few_spectra_go(clean, noisy) -> None:
    """Of errors in 31 directions those in 28 go; the estimate keeps its type and is not written on."""
    estimate = (clean + 0.01 * normal(*clean.shape, seed=2)).astype(np.float32)
    before = estimate.copy()
    shrunk = shrink(estimate, noisy)
    assert shrunk.dtype == np.float32
    assert rms(shrunk - clean) < 0.4 * rms(estimate - clean)
    np.testing.assert_array_equal(estimate, before)


def test_the_more_noise_the_more_is_error(clean) -> None:
    estimate = (clean + 0.01 * normal(*clean.shape, seed=2)).astype(np.float32)
    changes = [
        rms(shrink(estimate, (clean + sigma * normal(*clean.shape, seed=1)).astype(np.float32)) - estimate)
        for sigma in (0, 0.001, 0.02)
    ]
    assert changes[0] < 0.02 * changes[2] and changes[0] < changes[1] < changes[2]


def test_a_spectrum_of_a_single_pixel_is_kept(clean, noisy) -> None:
    own = clean.copy()
    own[20, 20] += np.where(np.arange(BANDS) % 2, 0.15, -0.15).astype(np.float32)
    estimate = (own + 0.01 * normal(*clean.shape, seed=2)).astype(np.float32)
    lost = shrink(estimate, noisy + own - clean) - own
    assert rms(lost[20, 20]) < 0.2 * 0.15


def test_a_clean_band_of_a_noisy_scene_is_kept(clean, noisy) -> None:
    """Noisy bands do not tell it, so that a regression on them takes it for noise."""
    smooth = np.linspace(0.2, 0.8, SIDE, dtype=np.float32) ** 2
    own, given = clean.copy(), noisy.copy()
    own[..., 7] = given[..., 7] = smooth
    estimate = (own + 0.01 * normal(*clean.shape, seed=2)).astype(np.float32)
    estimate[..., 7] = smooth
    error = shrink(estimate, given) - own
    assert rms(error[..., 7]) < 1e-3
    assert rms(np.delete(error, 7, 2)) < 0.4 * rms(np.delete(estimate - own, 7, 2))


def test_texture_is_not_taken_for_noise(clean) -> None:
    """Its fine details are, by their level alone."""
    estimate = (clean + 0.001 * normal(*clean.shape, seed=2)).astype(np.float32)
    assert rms(shrink(estimate, clean) - estimate) < 2e-4


@pytest.mark.parametrize("shape", [(1, 1, 31), (1, 40, 5), (30, 30, 1), (9, 7, 60)])
@pytest.mark.parametrize("level", [0.0, 0.05])
def test_any_size_comes_back_finite_and_a_flat_cube_as_it_is(shape, level) -> None:
    given = (0.5 + level * normal(*shape, seed=4)).astype(np.float32)
    flat = np.full(shape, 0.5, np.float32)
    np.testing.assert_allclose(shrink(flat, given), flat, atol=1e-6)
    assert np.isfinite(shrink(given, given)).all()


@pytest.fixture(scope="module")
def photo() -> tuple[np.ndarray, np.ndarray]:
    scene = photos.build("chelsea").cube[40:88, 60:108]
    return scene, noise.add_noise(scene, "gauss-55", np.random.default_rng(0))[0]


def test_the_denoiser_gains_by_it(photo, monkeypatch) -> None:
    after = make("decsc", shifts=1, device="cpu")(photo[1]).cube
    monkeypatch.setattr(equilibrium, "shrink", lambda estimate, noisy: estimate)
    before = make("decsc", shifts=1, device="cpu")(photo[1]).cube
    assert metrics.mpsnr(photo[0], after) > metrics.mpsnr(photo[0], before) + 0.5


def test_errors_of_windows_of_bands_are_told_together() -> None:
    """A factor's strength varies over the bands; a window of them that tells it alone by its noise is helped by the others."""
    pattern = 0.1 * normal(SIDE, SIDE, 1, seed=6)
    clean = (0.5 + pattern * np.linspace(0.02, 1, 2 * BANDS)).astype(np.float32)
    noisy = (clean + SIGMA * normal(*clean.shape, seed=7)).astype(np.float32)
    estimate = (clean + 0.01 * normal(*clean.shape, seed=8)).astype(np.float32)
    together, dark = shrink(estimate, noisy), np.s_[..., :BANDS]
    assert rms((together - clean)[dark]) < 0.8 * rms(shrink(estimate[dark], noisy[dark]) - clean[dark])


def test_a_network_as_in_the_paper_is_not_shrunk(photo, monkeypatch) -> None:
    monkeypatch.setattr(equilibrium, "shrink", lambda estimate, noisy: 1 / 0)
    denoise = make("decsc", shifts=1, device="cpu")
    denoise.weights.model.config = replace(denoise.weights.model.config, misfit=0.0)
    assert np.isfinite(denoise(photo[1]).cube).all()
