from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.fft

from decsc_core import metrics, noise
from decsc_core.denoisers import equilibrium
from decsc_core.denoisers import wiener as module
from decsc_core.denoisers.registry import make
from decsc_core.denoisers.wiener import wiener
from decsc_core.scenes import photos

BANDS, SIDE, SIGMA = 31, 48, 0.1


def normal(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def noisy_version(clean: np.ndarray, sigma: float | np.ndarray = SIGMA) -> np.ndarray:
    return (clean + sigma * normal(*clean.shape, seed=1)).astype(np.float32)


def off_by(clean: np.ndarray, error: float) -> np.ndarray:
    """An estimate with errors in all directions."""
    return (clean + error * normal(*clean.shape, seed=2)).astype(np.float32)


def rms(cube: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(cube, dtype=np.float64))))


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    """Mixtures of three spectra, smooth in space."""
    spectra = np.sin(np.outer([1, 2, 3], np.linspace(0.2, 3, BANDS)))
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    abundances = np.stack([np.sin(7 * x) * y, np.cos(9 * y), x * y], axis=2)
    return (0.5 + 0.15 * abundances @ spectra).astype(np.float32)


def test_it_is_the_mean_over_all_windows_of_filtered_cosines_literally() -> None:
    """Of one band, twice, with the noise that its finest details tell."""
    given = noisy_version(np.full((11, 9, 1), 0.5, np.float32), 0.05)
    pilot = off_by(given, 0.02)
    unit = np.hypot(module._band_noise(given), module.LEAST)
    mean = pilot.mean()
    before, image = (pilot[..., 0] - mean) / unit, (given[..., 0] - mean) / unit
    for _ in range(2):
        total, held = np.zeros((11, 9)), np.zeros((11, 9))
        for top in range(4):
            for left in range(2):
                window = np.s_[top : top + 8, left : left + 8]
                power = scipy.fft.dctn(before[window], norm="ortho") ** 2
                total[window] += scipy.fft.idctn(scipy.fft.dctn(image[window], norm="ortho") * power / (power + module.NOISE), norm="ortho")
                held[window] += 1
        before = total / held
    np.testing.assert_allclose(wiener(pilot, given, given)[..., 0], before * unit + mean, atol=1e-5)


def test_strips_do_not_show(clean, monkeypatch) -> None:
    noisy = noisy_version(clean)
    whole = wiener(off_by(clean, 0.02), noisy, noisy)
    monkeypatch.setattr(module, "ROWS", 7)
    np.testing.assert_allclose(wiener(off_by(clean, 0.02), noisy, noisy), whole, atol=1e-5)


def test_errors_outside_of_the_few_spectra_go(clean) -> None:
    """The estimate keeps its type and is not written on."""
    noisy, estimate = noisy_version(clean), off_by(clean, 0.02)
    before = estimate.copy()
    better = wiener(estimate, noisy, noisy)
    assert better.dtype == np.float32
    assert rms(better - clean) < 0.4 * rms(estimate - clean)
    np.testing.assert_array_equal(estimate, before)


def test_what_was_blurred_comes_back_where_there_is_little_noise(clean) -> None:
    """Half of a texture was lost everywhere; the bands have the more noise the later they come."""
    texture = 0.05 * normal(SIDE, SIDE, 1, seed=3)
    own = (clean + texture).astype(np.float32)
    sigma = np.geomspace(0.002, 0.3, BANDS)
    noisy, estimate = noisy_version(own, sigma), (clean + 0.5 * texture).astype(np.float32)
    error = wiener(estimate, noisy, noisy) - own
    assert rms(error[..., :8]) < 0.25 * 0.025
    assert rms(error[..., -8:]) < 0.025


def test_a_spectrum_of_a_single_pixel_is_kept(clean) -> None:
    own = clean.copy()
    own[20, 20] += np.where(np.arange(BANDS) % 2, 0.15, -0.15).astype(np.float32)
    noisy = noisy_version(own, 0.03)
    lost = wiener(off_by(own, 0.01), noisy, noisy) - own
    assert rms(lost[20, 20]) < 0.2 * 0.15


def test_a_clean_band_of_a_noisy_scene_is_kept(clean) -> None:
    """Noisy bands do not tell it, so that a regression on them takes it for noise."""
    own, noisy = clean.copy(), noisy_version(clean)
    own[..., 7] = noisy[..., 7] = np.linspace(0.2, 0.8, SIDE, dtype=np.float32) ** 2
    estimate = off_by(own, 0.02)
    estimate[..., 7] = own[..., 7]
    error = wiener(estimate, noisy, noisy) - own
    assert rms(error[..., 7]) < 1e-3
    assert rms(np.delete(error, 7, 2)) < 0.4 * 0.02


@pytest.mark.parametrize("shared", [2, 4])
def test_noise_that_neighbours_share_does_not_come_back(clean, shared) -> None:
    """Each band's neighbours tell its noise, so that it looks like none."""
    own = 0.02 * normal(SIDE, SIDE, -(-BANDS // shared), seed=5)
    noisy = (clean + np.repeat(own, shared, axis=2)[..., :BANDS]).astype(np.float32)
    estimate = (clean + 0.2 * (noisy - clean)).astype(np.float32)
    assert rms(wiener(estimate, noisy, noisy) - clean) < 0.35 * 0.02 < rms(noisy - clean) / 2


def test_gross_errors_do_not_come_back(clean) -> None:
    """In their places the estimate stands for the noisy image."""
    noisy, estimate = noisy_version(clean, 0.02), off_by(clean, 0.01)
    struck = normal(*clean.shape, seed=4) > 1.5
    noisy[struck] = 1
    trusted = np.where(struck, estimate, noisy)
    assert rms(wiener(estimate, noisy, trusted) - clean) < 0.01 < rms(wiener(estimate, noisy, noisy) - clean)


@pytest.mark.parametrize("shape", [(1, 1, 31), (1, 40, 5), (30, 30, 1), (9, 7, 60), (8, 8, 3)])
@pytest.mark.parametrize("level", [0.0, 0.05])
def test_any_size_comes_back_finite_and_a_flat_estimate_as_it_is(shape, level) -> None:
    given = noisy_version(np.full(shape, 0.5, np.float32), level)
    flat = np.full(shape, 0.5, np.float32)
    np.testing.assert_allclose(wiener(flat, given, given), flat, atol=1e-6)
    better = wiener(given, given, given)
    assert better.shape == shape and np.isfinite(better).all()


def test_errors_of_windows_of_bands_are_told_together() -> None:
    """A factor's strength varies over the bands; a window of them that tells it alone by its noise is helped by the others."""
    pattern = 0.1 * normal(SIDE, SIDE, 1, seed=6)
    clean = (0.5 + pattern * np.linspace(0.02, 1, 2 * BANDS)).astype(np.float32)
    noisy, estimate, dark = noisy_version(clean), off_by(clean, 0.01), np.s_[..., :BANDS]
    together, alone = wiener(estimate, noisy, noisy), wiener(estimate[dark], noisy[dark], noisy[dark])
    assert rms((together - clean)[dark]) < 0.8 * rms(alone - clean[dark])


@pytest.fixture(scope="module")
def photo() -> tuple[np.ndarray, np.ndarray]:
    scene = photos.build("chelsea").cube[40:88, 60:108]
    return scene, noise.add_noise(scene, "gauss-55", np.random.default_rng(0))[0]


def test_the_denoiser_gains_by_it(photo, monkeypatch) -> None:
    after = make("decsc", shifts=1, device="cpu")(photo[1]).cube
    monkeypatch.setattr(equilibrium, "wiener", lambda estimate, *_: estimate)
    before = make("decsc", shifts=1, device="cpu")(photo[1]).cube
    assert metrics.mpsnr(photo[0], after) > metrics.mpsnr(photo[0], before) + 1


def test_the_denoiser_tells_it_of_gross_errors(photo, monkeypatch) -> None:
    clean, rng = photo[0], np.random.default_rng(0)
    struck = (rng.random(clean.shape) < 0.15) & (np.arange(BANDS) % 3 == 0)
    noisy = np.where(struck, 1, clean + 0.05 * rng.standard_normal(clean.shape)).astype(np.float32)
    given = []
    monkeypatch.setattr(equilibrium, "wiener", lambda estimate, *others: given.append((estimate, *others)) or estimate)
    make("decsc", shifts=1, device="cpu")(noisy)
    ((estimate, seen, trusted, _),) = given
    np.testing.assert_array_equal(seen, noisy)
    replaced, kept = (np.isclose(trusted, cube, atol=1e-6) for cube in (estimate, noisy))
    assert (replaced | kept).all() and replaced[struck].mean() > 0.9 and kept[~struck].mean() > 0.9


def test_a_network_as_in_the_paper_is_left_alone(photo, monkeypatch) -> None:
    monkeypatch.setattr(equilibrium, "wiener", lambda *_: 1 / 0)
    denoise = make("decsc", shifts=1, device="cpu")
    denoise.weights.model.config = replace(denoise.weights.model.config, misfit=0.0)
    assert np.isfinite(denoise(photo[1]).cube).all()
