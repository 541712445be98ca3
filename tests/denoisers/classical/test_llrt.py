"""LLRT against the original's results, and its spectral step against dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from decsc_core.denoisers.classical.llrt import LLRT
from decsc_core.denoisers.classical.nonlocal_groups import NonlocalGroups
from decsc_core.metrics import mpsnr

CUBES = ("a_gauss", "b_mixture")  # both scenes, both kinds of noise; a run takes the better part of a minute
QUICK = dict(iterations=2, group=40, half_window=8)


@pytest.fixture(scope="module")
def runs(golden) -> dict:
    """A golden cube's gains, record and mean noise level in each iteration; each cube is denoised once."""
    done = {}

    def run(cube: str):
        if cube not in done:
            levels, original = [], NonlocalGroups.low_rank

            def low_rank(groups, estimate, noise, strength):
                levels.append(float(noise.mean()))
                return original(groups, estimate, noise, strength)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(NonlocalGroups, "low_rank", low_rank)
                estimate = LLRT(sigma=golden.sigma(cube))(golden.noisy(cube))
            done[cube] = golden.gains("llrt", cube, estimate.cube), estimate.record, levels
        return done[cube]

    return run


@pytest.mark.slow
@pytest.mark.parametrize("cube", CUBES)
def test_the_original_is_reproduced(runs, cube):
    gains, _, _ = runs(cube)
    assert abs(gains["psnr"]) < 0.005
    assert abs(gains["ssim"]) < 5e-4 and abs(gains["ssim_gauss"]) < 5e-4
    assert abs(gains["sam"]) < 5e-4


@pytest.mark.slow
def test_the_noise_falls_as_in_the_original(runs):
    _, (record,), levels = runs("a_gauss")
    np.testing.assert_allclose(levels, [50.967, 25.132, 21.079, 15.970, 10.719], atol=2e-3)
    assert record.iterations == len(record.residuals) == 5 and record.converged is None
    assert all(np.diff(record.residuals) < 0)


def literally(noisy, total, weight, smoothness, kappa, alpha, beta, rho, inner) -> np.ndarray:
    """The spectral step with matrices in place of Fourier transforms, spectrum by spectrum."""
    bands = noisy.shape[2]
    d = np.roll(np.eye(bands), -1, axis=0) - np.eye(bands)
    result = np.zeros_like(noisy)
    for pixel in np.ndindex(noisy.shape[:2]):
        y, s, n, a, b = noisy[pixel], total[pixel], weight[pixel], alpha, beta
        m, j, jumps, dual = np.zeros((4, bands))
        for _ in range(inner):
            right = kappa * y + d.T @ (b * jumps - dual) + a * m - j
            x = np.linalg.solve((kappa + a) * np.eye(bands) + b * d.T @ d, right)
            m = (rho * s + a * x + j) / (a + rho * n)
            j, a = j + a * (x - m), 1.02 * a
            soft = d @ x + dual / b
            jumps = np.sign(soft) * np.maximum(np.abs(soft) - smoothness / b, 0)
            dual, b = dual + b * (d @ x - jumps), 1.02 * b
        result[pixel] = x
    return result


@pytest.mark.parametrize("bands", [1, 2, 6, 7])
def test_the_spectral_step_is_its_definition(bands):
    rng = np.random.default_rng(0)
    noisy, total, weight = rng.normal(size=(3, 4, bands)), rng.normal(size=(3, 4, bands)), rng.random((3, 4, 1)) + 1
    parameters = dict(kappa=0.3, alpha=2, beta=1.5, rho=0.7, inner=8)
    arrays = [torch.from_numpy(array) for array in (noisy, total, weight)]
    smooth = LLRT(**parameters)._smooth_spectra(*arrays, torch.tensor(0.2, dtype=torch.float64))
    np.testing.assert_allclose(smooth, literally(noisy, total, weight, 0.2, **parameters), atol=1e-10)


@pytest.mark.parametrize(("sigma", "bands", "expected"), [
    (10.1, 31, (6, 300, 0.54, 5, 5, 30, 10, 0.8)),
    (30.1, 50, (7, 300, 0.56, 5, 5, 30, 10, 0.8)),
    (30.2, 1, (8, 300, 0.58, 5, 5, 30, 10, 0.8)),
    (50, 51, (6, 400, 0.58, 8, 5, 50, 10, 20)),
    (20, 100, (6, 400, 0.56, 8, 5, 50, 10, 20)),
    (5, 101, (5, 400, 0.54, 8, 4, 50, 15, 15)),
])
def test_parameters_come_from_the_tables(sigma, bands, expected):
    p = LLRT().parameters(sigma, bands)
    names = ("patch", "group", "noise_factor", "iterations", "step", "half_window", "strength", "smoothness")
    *others, strength, smoothness = expected
    assert p == dict(zip(names, (*others, pytest.approx(strength * 2**0.5), smoothness)))


def test_parameters_that_are_given_replace_the_tables():
    given = LLRT(patch=4, smoothness=0).parameters(50, 31)
    assert given == LLRT().parameters(50, 31) | {"patch": 4, "step": 4, "smoothness": 0}
    with pytest.raises(ValueError, match="step=7 must not exceed patch=6"):
        LLRT(step=7).parameters(5, 31)


def test_noise_goes_down_and_the_cube_is_left_alone(noisy_ramp):
    clean, noisy = noisy_ramp(32, 30, 8)
    before, estimate = noisy.copy(), LLRT(**QUICK)(noisy).cube
    assert mpsnr(clean, estimate) > mpsnr(clean, noisy) + 6
    np.testing.assert_array_equal(noisy, before)
    np.testing.assert_array_equal(LLRT(**QUICK)(noisy).cube, estimate)


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (1, 1, 31), (2, 3, 4), (9, 1, 5), (13, 17, 1), (15, 11, 31), (8, 9, 46), (7, 9, 128)]
)
def test_any_size_and_number_of_bands(noisy_ramp, shape):
    _, noisy = noisy_ramp(*shape)
    estimate = LLRT(sigma=25, **QUICK)(noisy).cube
    assert estimate.shape == shape and estimate.dtype == np.float32 and np.isfinite(estimate).all()


def test_a_patch_larger_than_the_image(noisy_ramp):
    _, noisy = noisy_ramp(9, 10, 4)
    assert np.isfinite(LLRT(sigma=25, patch=12, **QUICK)(noisy).cube).all()


def test_a_constant_cube_comes_back():
    flat = np.full((12, 13, 6), 0.4, np.float32)
    np.testing.assert_array_equal(LLRT()(flat).cube, flat)
    estimate = LLRT(sigma=25, **QUICK)(flat).cube
    np.testing.assert_allclose(estimate, 0.4, atol=0.02)
    np.testing.assert_allclose(estimate[2:-2, 2:-2], 0.4, atol=2e-3)


def test_a_constant_band_among_others_stays_finite_and_near(noisy_ramp):
    _, noisy = noisy_ramp(24, 24, 6)
    noisy[..., 2] = 0.7
    assert np.abs(LLRT(sigma=25, **QUICK)(noisy).cube[..., 2].mean() - 0.7) < 0.1


@pytest.mark.parametrize("wrong", [
    {"sigma": 0}, {"patch": 0}, {"group": 2.5}, {"noise_factor": -1}, {"iterations": 0}, {"step": 0},
    {"half_window": 0}, {"strength": float("nan")}, {"smoothness": -0.1}, {"kappa": 0}, {"alpha": 0}, {"beta": 0},
    {"rho": 0}, {"inner": 0}, {"device": "abacus"},
])
def test_wrong_parameters_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))) as refused:
        LLRT(**wrong)
    assert "\n" not in str(refused.value)
