"""3DlogTNN against the original's results and against its update steps written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from decsc_core.denoisers.classical.logtnn import LogTNN
from decsc_core.metrics import mpsnr


def prox(cube: np.ndarray, axis: int, t: float, eps: float) -> np.ndarray:
    """Shrink the singular values of every Fourier slice along `axis`."""
    slices = np.fft.fft(np.moveaxis(cube, axis, 2), axis=2)
    for i in range(slices.shape[2]):
        u, s, vt = np.linalg.svd(slices[..., i], full_matrices=False)
        d = (s - eps) ** 2 - 4 * (t - eps * s)
        slices[..., i] = (u * np.where(d > 0, (s - eps + np.sqrt(np.maximum(d, 0))) / 2, 0)) @ vt
    return np.moveaxis(np.fft.ifft(slices, axis=2).real, 2, axis)


def literally(y: np.ndarray, sigma: float, theta: float, omega: float, eps: float, iterations: int) -> np.ndarray:
    """The steps of the released algorithm, with multipliers that are not divided by their penalties."""

    def soft(values, limit):
        return np.sign(values) * np.maximum(np.abs(values) - limit, 0)

    n1, n2, n3 = y.shape
    alpha = np.array([1, 1, theta]) / (2 + theta)
    sides = [max(n3, n2) * n1, max(n1, n3) * n2, max(n1, n2) * n3]
    lambda1, lambda2 = 5e-5 / sigma, 0.011 * sum(a / np.sqrt(side) for a, side in zip(alpha, sides))
    mu, beta = alpha / omega, 1 / omega
    low, n, s, p = (np.zeros_like(y) for _ in range(4))
    m = [np.zeros_like(y) for _ in range(3)]
    for _ in range(iterations):
        z = [prox(low + m[k] / mu[k], k, alpha[k] / mu[k], eps) for k in range(3)]
        low = (sum(mu[k] * z[k] - m[k] for k in range(3)) + beta * (y - n - s) + p) / (beta + mu.sum())
        s = soft(y - n - low + p / beta, lambda2 / beta)
        n = beta * (y - low - s + p / beta) / (2 * lambda1 + beta)
        p = p + beta * (y - low - s - n)
        m = [m[k] + mu[k] * (low - z[k]) for k in range(3)]
        mu, beta = mu * 1.2, beta * 1.2
    return low


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("shape", [(8, 7, 6), (5, 9, 4), (6, 6, 7)])
def test_fourier_slices_are_shrunk_literally(shape, axis):
    """With a threshold at which some singular values vanish, some become negative and some are lowered."""
    cube = np.random.default_rng(0).standard_normal(shape)
    values = np.linalg.svd(np.moveaxis(np.fft.fft(cube, axis=axis), axis, 0), compute_uv=False)
    distinct = np.unique(values.round(6))
    offset, cut = 2 * distinct[-1], distinct[len(distinct) // 4 :][:2].mean()
    threshold = ((offset + cut) / 2) ** 2
    vanishing, negative = values < cut, values < threshold / offset
    assert vanishing.any() and (negative & ~vanishing).any() and not negative.all()
    shrunk = LogTNN(offset=offset)._shrink(torch.from_numpy(cube), axis, threshold)
    np.testing.assert_allclose(shrunk, prox(cube, axis, threshold, offset), atol=1e-5 if axis == 2 else 1e-12)


@pytest.mark.parametrize("theta", [1e-3, 0.5])
@pytest.mark.parametrize("shape", [(8, 7, 6), (7, 9, 5), (6, 6, 7)])
def test_the_iteration_is_the_released_one_literally(noisy_ramp, shape, theta):
    """Until singular values that are exactly 0 become negative, whose singular vectors are anyone's choice."""
    _, noisy = noisy_ramp(*shape)
    settings = {"theta": theta, "omega": 60.0, "iterations": 16}
    estimate = LogTNN(sigma=2.55, offset=3.0, tolerance=0, **settings)(noisy).cube
    expected = literally(noisy.astype(float), 0.01, eps=3.0, **settings)
    assert 0.1 < np.linalg.norm(expected) / np.linalg.norm(noisy) < 0.99
    np.testing.assert_allclose(estimate, expected, rtol=0, atol=1e-5 if theta == 1e-3 else 1e-4)


@pytest.fixture(scope="module")
def runs(golden) -> dict:
    """The estimate for each golden cube with its gains over the original."""
    found = {}
    for cube in golden.CUBES:
        estimate = LogTNN(sigma=golden.sigma(cube))(golden.noisy(cube))
        gain = golden.gains("3dlogtnn", cube, estimate.cube)
        found[cube] = estimate, gain, gain["sam"] / golden.records["3dlogtnn"][cube]["sam"]
    return found


@pytest.mark.parametrize("cube", ["a_gauss", "a_mixture", "b_gauss", "b_mixture"])
def test_the_original_is_reproduced(runs, cube):
    estimate, gain, relative_sam = runs[cube]
    assert abs(gain["psnr"]) < 0.02
    assert abs(gain["ssim"]) < 0.001 and abs(gain["ssim_gauss"]) < 0.001
    assert abs(gain["sam"]) < 0.001 and abs(relative_sam) < 0.05
    (record,) = estimate.record
    assert 45 <= record.iterations <= 51 and record.converged


def test_without_the_bands_axis_the_result_is_nearly_the_same(golden, runs):
    full, _, _ = runs["a_gauss"]
    without = LogTNN(sigma=golden.sigma("a_gauss"), theta=0)(golden.noisy("a_gauss")).cube
    clean = golden.arrays["clean_a"]
    assert mpsnr(clean, without) == pytest.approx(mpsnr(clean, full.cube), abs=0.01)
    assert not np.array_equal(without, full.cube)


def test_iterations_are_recorded_and_stop_at_the_tolerance(noisy_ramp):
    _, noisy = noisy_ramp(24, 22, 6)
    (few,) = LogTNN(sigma=25.5, offset=5, iterations=7)(noisy).record
    assert few.iterations == len(few.residuals) == 7 and not few.converged
    (enough,) = LogTNN(sigma=25.5, offset=5, tolerance=1e-2)(noisy).record
    assert enough.converged and enough.residuals[-1] < 1e-2 <= enough.residuals[-2]


def test_noise_goes_down(noisy_ramp):
    clean, noisy = noisy_ramp(40, 44, 10)
    assert mpsnr(clean, LogTNN()(noisy).cube) > mpsnr(clean, noisy) + 8


def test_less_noise_is_taken_out_for_a_smaller_sigma(noisy_ramp):
    _, noisy = noisy_ramp(40, 40, 8)
    taken = [np.linalg.norm(LogTNN(sigma=sigma)(noisy).cube - noisy) for sigma in (2.0, 25.5, 100.0)]
    assert taken == sorted(taken) and taken[0] < taken[2]


def test_the_estimate_is_the_same_each_time_and_the_cube_is_left_alone(noisy_ramp):
    _, noisy = noisy_ramp(16, 17, 5)
    before, first = noisy.copy(), LogTNN()(noisy).cube
    np.testing.assert_array_equal(LogTNN()(noisy).cube, first)
    np.testing.assert_array_equal(noisy, before)


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (1, 1, 31), (2, 3, 4), (9, 1, 5), (13, 17, 1), (15, 11, 31), (8, 9, 46), (7, 8, 128)]
)
def test_any_size_and_number_of_bands(noisy_ramp, shape):
    _, noisy = noisy_ramp(*shape)
    estimate = LogTNN(sigma=25.5)(noisy).cube
    assert estimate.shape == shape and estimate.dtype == np.float32 and np.isfinite(estimate).all()


def test_a_constant_cube_comes_back():
    constant = np.full((12, 13, 6), 0.4, np.float32)
    np.testing.assert_array_equal(LogTNN()(constant).cube, constant)
    assert np.isfinite(LogTNN(sigma=25.5)(constant).cube).all()
    np.testing.assert_array_equal(LogTNN(sigma=25.5)(np.zeros_like(constant)).cube, 0)


def test_a_constant_band_among_others_stays_nearly_so(noisy_ramp):
    _, noisy = noisy_ramp(48, 48, 6)
    noisy[..., 2] = 0.7
    np.testing.assert_allclose(LogTNN()(noisy).cube[..., 2], 0.7, atol=0.05)


@pytest.mark.parametrize(
    "wrong",
    [
        {"sigma": 0}, {"theta": -1}, {"phi": 0}, {"varpi": float("nan")}, {"omega": 0}, {"offset": -80}, {"growth": 0.5},
        {"iterations": 0}, {"tolerance": -1}, {"device": "abacus"},
    ],
)
def test_wrong_parameters_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))) as refused:
        LogTNN(**wrong)
    assert "\n" not in str(refused.value)
