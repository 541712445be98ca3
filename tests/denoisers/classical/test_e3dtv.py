"""E-3DTV against the original's results and against its update steps written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from decsc_core.denoisers.classical.e3dtv import E3DTV
from decsc_core.metrics import mpsnr

SEEDS = (0, 1, 2)


def literally(noisy: np.ndarray, start: np.ndarray, rank: int, iterations: int) -> np.ndarray:
    """The steps of the paper's algorithm as published, with multipliers that are not divided by mu."""

    def ahead(cube, axis):
        return np.roll(cube, -1, axis) - cube

    def back(cube, axis):
        return np.roll(cube, 1, axis) - cube

    def soft(values, limit):
        return np.sign(values) * np.maximum(np.abs(values) - limit, 0)

    height, width, bands = noisy.shape
    tau, mu, x, e = 0.004 * np.sqrt(height * width), 1e-2, start, np.zeros_like(noisy)
    k = sum(
        (np.abs(np.exp(2j * np.pi * np.arange(n) / n) - 1) ** 2).reshape([-1 if a == axis else 1 for a in range(3)])
        for axis, n in enumerate(noisy.shape)
    )
    m, ms = np.zeros_like(noisy), [np.zeros_like(noisy) for _ in range(3)]
    us, vs = [], []
    for axis in range(3):
        u, s, vt = np.linalg.svd(ahead(x, axis).reshape(-1, bands), full_matrices=False)
        us.append(u[:, :rank] * s[:rank])
        vs.append(vt[:rank].T)
    for _ in range(iterations):
        products = [(u @ v.T).reshape(noisy.shape) for u, v in zip(us, vs)]
        right = mu * (noisy - e) + m + sum(back(mu * products[a] - ms[a], a) for a in range(3))
        x = np.fft.ifftn(np.fft.fftn(right) / (mu + mu * k)).real
        for axis in range(3):
            t = (ahead(x, axis) + ms[axis] / mu).reshape(-1, bands)
            us[axis] = soft(t @ vs[axis], tau / mu)
            u, _, vt = np.linalg.svd(t.T @ us[axis], full_matrices=False)
            vs[axis] = u @ vt
        e = soft(noisy - x + m / mu, 1 / mu)
        m = m + mu * (noisy - x - e)
        for axis in range(3):
            ms[axis] = ms[axis] + mu * (ahead(x, axis) - (us[axis] @ vs[axis].T).reshape(noisy.shape))
        mu = min(1.5 * mu, 1e6)
    return x


@pytest.mark.parametrize(("shape", "rank", "iterations"), [((6, 7, 5), 3, 40), ((7, 5, 6), 2, 55), ((4, 4, 1), 1, 30)])
def test_the_iteration_is_the_published_one_literally(noisy_ramp, shape, rank, iterations):
    """Where no singular vectors belong to a singular value of 0, which are anyone's choice."""
    _, noisy = noisy_ramp(*shape)
    start = torch.randn(shape, generator=torch.Generator().manual_seed(3)).double().numpy()
    estimate = E3DTV(rank=rank, iterations=iterations, seed=3)(noisy).cube
    np.testing.assert_allclose(estimate, literally(noisy.astype(float), start, rank, iterations), atol=2e-4)


@pytest.fixture(scope="module", params=[("e3dtv_r13", 13), ("e3dtv_r5", 5)], ids=["rank 13", "rank 5"])
def gains(request, golden) -> dict[str, dict[str, float]]:
    """For each golden cube, our scores less the original's, the mean over some random starts."""
    record, rank = request.param
    found = {}
    for cube in golden.CUBES:
        runs = [golden.gains(record, cube, E3DTV(rank=rank, seed=seed)(golden.noisy(cube)).cube) for seed in SEEDS]
        found[cube] = {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}
        found[cube]["relative sam"] = found[cube]["sam"] / golden.records[record][cube]["sam"]
    return found


@pytest.mark.parametrize("cube", ["a_gauss", "a_mixture", "b_gauss", "b_mixture"])
def test_the_original_is_reproduced(gains, cube):
    gain = gains[cube]
    assert abs(gain["psnr"]) < (0.15 if cube.endswith("gauss") else 0.35)
    assert abs(gain["ssim"]) < 0.01 and abs(gain["ssim_gauss"]) < 0.01
    assert abs(gain["sam"]) < 0.01 and abs(gain["relative sam"]) < 0.05


def test_iterations_are_recorded_and_stop_at_the_tolerance(noisy_ramp):
    _, noisy = noisy_ramp(12, 11, 6)
    (all_steps,) = E3DTV()(noisy).record
    assert all_steps.iterations == len(all_steps.residuals) == 40 and all_steps.converged is None
    assert all_steps.residuals[-1] < 1e-3 < all_steps.residuals[10]
    (fewer,) = E3DTV(tolerance=1e-2)(noisy).record
    assert fewer.iterations < 40 and fewer.converged is True
    assert fewer.residuals[-1] < 1e-2 <= fewer.residuals[-2]


def test_noise_goes_down(noisy_ramp):
    clean, noisy = noisy_ramp(32, 30, 8)
    assert mpsnr(clean, E3DTV(rank=3)(noisy).cube) > mpsnr(clean, noisy) + 6


def test_the_seed_decides_and_the_cube_is_left_alone(noisy_ramp):
    _, noisy = noisy_ramp(16, 17, 5)
    before, first = noisy.copy(), E3DTV(seed=1)(noisy).cube
    np.testing.assert_array_equal(E3DTV(seed=1)(noisy).cube, first)
    np.testing.assert_array_equal(noisy, before)
    assert not np.array_equal(E3DTV(seed=2)(noisy).cube, first)


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (1, 1, 31), (2, 3, 4), (9, 1, 5), (13, 17, 1), (15, 11, 31), (8, 9, 46), (7, 8, 128)]
)
def test_any_size_and_number_of_bands(noisy_ramp, shape):
    _, noisy = noisy_ramp(*shape)
    estimate = E3DTV()(noisy).cube
    assert estimate.shape == shape and estimate.dtype == np.float32 and np.isfinite(estimate).all()


def test_a_constant_cube_comes_back():
    np.testing.assert_allclose(E3DTV()(np.full((12, 13, 6), 0.4, np.float32)).cube, 0.4, atol=1e-3)
    np.testing.assert_allclose(E3DTV()(np.zeros((6, 5, 4), np.float32)).cube, 0, atol=1e-3)


def test_a_constant_band_among_others_stays_so(noisy_ramp):
    _, noisy = noisy_ramp(24, 24, 6)
    noisy[..., 2] = 0.7
    np.testing.assert_allclose(E3DTV()(noisy).cube[..., 2], 0.7, atol=0.02)


def test_one_rank_or_one_for_each_direction(noisy_ramp):
    _, noisy = noisy_ramp(12, 12, 8)
    for same in (np.int64(4), np.array([4, 4, 4]), [4, 4, 4]):
        np.testing.assert_array_equal(E3DTV(rank=same)(noisy).cube, E3DTV(rank=4)(noisy).cube)
    np.testing.assert_array_equal(E3DTV(rank=4)(noisy).cube, E3DTV(rank=(4, 4, 4))(noisy).cube)
    assert not np.array_equal(E3DTV(rank=(4, 4, 2))(noisy).cube, E3DTV(rank=(4, 4, 4))(noisy).cube)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rank": 0}, {"rank": (3, 3)}, {"rank": (3, 3, 0)}, {"tau": 0}, {"tau": float("nan")}, {"sparsity": -1},
        {"mu": 0}, {"growth": 0.9}, {"iterations": 0}, {"tolerance": -1e-6}, {"device": "abacus"},
    ],
)
def test_wrong_parameters_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))) as refused:
        E3DTV(**wrong)
    assert "\n" not in str(refused.value)
