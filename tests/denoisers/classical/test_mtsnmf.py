"""MTSNMF against the original's results and against its steps written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from decsc_core.denoisers.classical import mtsnmf
from decsc_core.denoisers.classical.mtsnmf import MTSNMF
from decsc_core.metrics import mpsnr


QUICK = {"patch": 5, "atoms": 10, "iterations": 20}


def smooth(height: int, width: int, bands: int) -> np.ndarray:
    """A smooth cube in [0, 1] of three materials."""
    rows, columns, wavelengths = np.ogrid[0:3:height * 1j, 0:2:width * 1j, 0:1:bands * 1j]
    cube = 0.25 * np.sin(rows + columns) * np.cos(2 * wavelengths) + 0.2 * np.cos(2 * columns - rows) * wavelengths
    return (0.5 + cube).astype(np.float32)


def noisy(*shape: int, sigma: float | np.ndarray = 0.1) -> np.ndarray:
    return smooth(*shape) + (sigma * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)


def sweep(factor: np.ndarray, cross: np.ndarray, gram: np.ndarray, most: int, generator: torch.Generator) -> int:
    """Accelerated HALS of one factor by rows, in place; return the number of sweeps."""
    start = factor.copy()
    for count in range(1, most + 1):
        before, floor = factor.copy(), 1e-16 * factor.max()
        for j in torch.randperm(len(factor), generator=generator).tolist():
            factor[j] = np.maximum(factor[j] + (cross[j] - gram[j] @ factor) / gram[j, j], floor)
        if np.linalg.norm(factor - before) < 0.2 * np.linalg.norm(factor - start):
            break
    return count


def literally(
    cube: np.ndarray, sigma: float, side: int, rank: int, stride: int, iterations: int, seed: int
) -> tuple[np.ndarray, list[float], int]:
    """The published algorithm with a matrix of patches for each band; also the objectives and the number of sweeps."""
    height, width, bands = cube.shape
    low, high = cube.min(), cube.max()
    image, sigma = (cube - low) / (high - low), sigma / 255 / (high - low)
    rows, columns = (
        sorted({*range(0, length - side + 1, stride), length - side}) for length in (height, width)
    )
    corners = [(row, column) for row in rows for column in columns]
    x = [np.stack([image[r : r + side, c : c + side, k].ravel() for r, c in corners], 1) for k in range(bands)]
    pixels, count, limit = side**2, len(corners), bands * sigma * np.sqrt(2 * np.log(rank))

    generator = torch.Generator().manual_seed(seed)
    stacked = torch.rand(rank, pixels * bands, generator=generator, dtype=torch.float64).numpy()
    s = torch.rand(rank, count, generator=generator, dtype=torch.float64).numpy()
    rho_s = ((2 * pixels + 1) * (count + rank) * bands + 2 * (rank + 1) * count) / (2 * count * (rank + 4))
    rho_a = (2 * pixels * count + 2 * count * rank + 2 * pixels * rank + pixels) / (pixels * (2 * rank + 7))
    objectives, sweeps = [], 0
    for _ in range(iterations):
        a = [stacked[:, k::bands].T for k in range(bands)]
        cross = sum(a_k.T @ x_k for a_k, x_k in zip(a, x))
        sweeps += sweep(s, cross - limit, sum(a_k.T @ a_k for a_k in a), int(1 + rho_s), generator)
        cross = np.zeros_like(stacked)
        for k in range(bands):
            cross[:, k::bands] = (x[k] @ s.T).T
        sweeps += sweep(stacked, cross, s @ s.T, int(1 + rho_a), generator)
        a = [stacked[:, k::bands].T for k in range(bands)]
        fit = 0.5 * sum(np.linalg.norm(x_k - a_k @ s) ** 2 for a_k, x_k in zip(a, x))
        objectives.append(fit + limit * s.sum())

    total, weight = np.zeros_like(image), np.zeros((height, width, 1))
    for n, (r, c) in enumerate(corners):
        for k in range(bands):
            total[r : r + side, c : c + side, k] += (a[k] @ s[:, n]).reshape(side, side)
        weight[r : r + side, c : c + side] += 1
    return low + (high - low) * total / weight, objectives, sweeps


@pytest.mark.parametrize(
    ("shape", "side", "rank", "stride", "sigma"),
    [((11, 12, 3), 3, 5, 3, 20), ((7, 12, 2), 4, 17, 1, 60), ((10, 10, 1), 3, 20, 3, 5), ((8, 9, 4), 3, 4, 1, 150)],
)
def test_the_steps_are_the_published_ones_literally(shape, side, rank, stride, sigma):
    cube = noisy(*shape)
    method = MTSNMF(sigma=sigma, patch=side, atoms=rank, stride=stride, iterations=6, tolerance=0, seed=3)
    expected, objectives, _ = literally(cube.astype(float), sigma, side, rank, stride, 6, 3)
    estimate = method(cube)
    np.testing.assert_allclose(estimate.cube, expected, atol=1e-6)
    (record,) = estimate.record
    changes = [abs(before - after) / after for before, after in zip(objectives, objectives[1:])]
    np.testing.assert_allclose(record.residuals[1:], changes, rtol=1e-5, atol=1e-9)


def test_the_sweeps_stop_early_and_at_their_limit():
    """The cases above would not tell if the rule of 0.2 or the limit were never used."""
    cube = noisy(9, 8, 3).astype(float)
    _, _, sweeps = literally(cube, 20.0, 3, 5, 2, 6, 3)
    assert 2 * 12 <= sweeps < 12 * 6
    generator = torch.Generator().manual_seed(0)
    factor = torch.rand(20, 9, generator=generator, dtype=torch.float64)
    cross, gram = factor.flip(0) @ torch.ones(9, 9, dtype=torch.float64), factor @ factor.T
    for most in (1, 2):
        ours, theirs = factor.clone(), factor.numpy().copy()
        mtsnmf._sweep(ours, cross, gram, most, torch.Generator().manual_seed(1))
        assert sweep(theirs, cross.numpy(), gram.numpy(), most, torch.Generator().manual_seed(1)) == most
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-9)


@pytest.mark.parametrize(
    "limits", [{"KEPT": 0}, {"CHUNK": 3000}, {"CHUNK": 1, "KEPT": 0}, {"CACHED": 600}, {"GROUP": 3}]
)
def test_it_does_not_matter_how_the_work_is_cut(monkeypatch, limits):
    method, cube = MTSNMF(sigma=25, patch=4, atoms=12, iterations=5), noisy(15, 14, 6)
    whole = method(cube).cube
    for name, value in limits.items():
        monkeypatch.setattr(mtsnmf, name, value)
    np.testing.assert_allclose(method(cube).cube, whole, atol=1e-5)


@pytest.fixture(scope="module")
def estimates(golden) -> dict:
    """The default method's estimate of each golden cube."""
    return {cube: MTSNMF(sigma=golden.sigma(cube))(golden.noisy(cube)) for cube in golden.CUBES}


@pytest.mark.parametrize("cube", ["a_gauss", "a_mixture", "b_gauss", "b_mixture"])
def test_the_original_is_reproduced(golden, estimates, cube):
    gain = golden.gains("mtsnmf", cube, estimates[cube].cube)
    assert abs(gain["psnr"]) < 0.2
    assert abs(gain["ssim"]) < 0.01 and abs(gain["ssim_gauss"]) < 0.01
    assert abs(gain["sam"]) < min(0.02, 0.05 * golden.records["mtsnmf"][cube]["sam"])


def test_it_stops_at_the_tolerance_as_the_original(estimates):
    """The original stopped after 34 to 53 iterations."""
    for estimate in estimates.values():
        (record,) = estimate.record
        assert 25 < record.iterations == len(record.residuals) < 70 and record.converged
        assert record.residuals[-1] < 1e-3 <= min(record.residuals[:-1])


def test_iterations_end_at_the_tolerance_or_run_out():
    (record,) = MTSNMF(sigma=25, iterations=3)(noisy(20, 20, 4)).record
    assert record.iterations == len(record.residuals) == 3 and not record.converged
    (record,) = MTSNMF(sigma=25, tolerance=0.05)(noisy(20, 20, 4)).record
    assert 2 < record.iterations == len(record.residuals) < 30 and record.converged
    assert record.residuals[-1] < 0.05 <= min(record.residuals[:-1])


def test_noise_goes_down_with_and_without_the_level_given():
    clean, cube = smooth(32, 32, 8), noisy(32, 32, 8)
    assert mpsnr(clean, MTSNMF(sigma=25.5, **QUICK)(cube).cube) > mpsnr(clean, cube) + 8
    assert mpsnr(clean, MTSNMF(**QUICK)(cube).cube) > mpsnr(clean, cube) + 8


def test_an_image_of_one_patch_stays_finite():
    """Its one atom fits it exactly, so that the objective is 0 up to rounding."""
    for seed in range(4, 9):
        cube = np.random.default_rng(seed).random((6, 6, 31))
        assert np.isfinite(MTSNMF(sigma=30, device="cpu")(cube).cube).all()


@pytest.mark.filterwarnings("ignore:the cube looks like physical units")
def test_the_unit_of_the_cube_does_not_matter():
    cube = noisy(20, 20, 4)
    expected = 1000 * MTSNMF(sigma=25, **QUICK)(cube).cube - 300
    np.testing.assert_allclose(MTSNMF(sigma=25000, **QUICK)(1000 * cube - 300).cube, expected, atol=0.5)


@pytest.mark.parametrize(
    ("shape", "stride"), [((60, 60, 1), 2), ((30, 30, 1), 1), ((60, 60, 2), 1), ((90, 90, 3), 2), ((5, 5, 31), 1)]
)
def test_the_default_stride_is_2_where_there_are_enough_patches(shape, stride):
    cube = noisy(*shape)
    expected = MTSNMF(sigma=25, stride=stride, iterations=1)(cube).cube
    np.testing.assert_array_equal(MTSNMF(sigma=25, iterations=1)(cube).cube, expected)
    other = MTSNMF(sigma=25, stride=3 - stride, iterations=1)(cube).cube
    assert shape[0] < 7 or not np.array_equal(other, expected)


def test_the_default_stride_leaves_out_no_pixel_of_the_smallest_patches():
    cube = noisy(60, 60, 1)
    expected = MTSNMF(sigma=25, patch=1, stride=1, iterations=1)(cube).cube
    np.testing.assert_array_equal(MTSNMF(sigma=25, patch=1, iterations=1)(cube).cube, expected)


@pytest.mark.parametrize("shape", [(64, 64, 1), (40, 40, 2), (12, 12, 3), (20, 20, 31)])
def test_few_bands_or_pixels_have_fewer_atoms_than_could_tell_the_noise(shape):
    y, x, b = np.meshgrid(*(np.arange(side) for side in shape), indexing="ij")
    clean = 0.5 + 0.3 * np.sin(y / 9 + b / 7) * np.cos(x / 11)
    cube = clean + 30 / 255 * np.random.default_rng(0).standard_normal(shape)
    assert mpsnr(clean, MTSNMF(sigma=30)(cube).cube) > mpsnr(clean, cube) + 3


def test_the_default_number_of_atoms_follows_the_patch():
    cube = noisy(40, 40, 13)
    expected = MTSNMF(sigma=25, patch=5, atoms=50, iterations=3)(cube).cube
    np.testing.assert_array_equal(MTSNMF(sigma=25, patch=5, iterations=3)(cube).cube, expected)


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (1, 1, 31), (2, 3, 4), (9, 1, 5), (13, 17, 1), (15, 11, 31), (8, 9, 46), (7, 8, 128)]
)
def test_any_size_and_number_of_bands(shape):
    estimate = MTSNMF(sigma=25, iterations=2)(noisy(*shape)).cube
    assert estimate.shape == shape and estimate.dtype == np.float32 and np.isfinite(estimate).all()


@pytest.mark.parametrize("sigma", [1e-3, 1e4, 1e8])
def test_a_level_far_off_gives_a_finite_estimate(sigma):
    cube = noisy(20, 20, 6)
    estimate = MTSNMF(sigma=sigma, patch=5, atoms=10, iterations=60, tolerance=0)(cube).cube
    assert np.isfinite(estimate).all() and np.abs(estimate - 0.5).max() < 2


def test_constant_cubes_come_back_and_constant_bands_stay_finite():
    for level in (0.0, 0.4):
        flat = np.full((12, 13, 6), level, np.float32)
        for sigma in (None, 25):
            np.testing.assert_array_equal(MTSNMF(sigma=sigma)(flat).cube, flat)
    bands = np.broadcast_to(np.linspace(0, 1, 6, dtype=np.float32), (12, 13, 6))
    np.testing.assert_allclose(MTSNMF(sigma=25, **QUICK)(bands).cube, bands, atol=0.02)
    cube = noisy(20, 20, 6)
    cube[..., 2], cube[..., 4] = 0.7, 0
    estimate = MTSNMF(**QUICK)(cube).cube
    np.testing.assert_allclose(estimate[..., 2], 0.7, atol=0.1)
    np.testing.assert_allclose(estimate[..., 4], 0, atol=0.1)


def test_the_seed_decides_and_the_cube_is_left_alone():
    cube = noisy(16, 17, 5)
    before, first = cube.copy(), MTSNMF(seed=1, **QUICK)(cube).cube
    np.testing.assert_array_equal(MTSNMF(seed=1, **QUICK)(cube).cube, first)
    np.testing.assert_array_equal(cube, before)
    assert not np.array_equal(MTSNMF(seed=2, **QUICK)(cube).cube, first)


def test_progress_counts_the_iterations(capsys):
    MTSNMF(sigma=25, iterations=3)(noisy(12, 12, 3), progress=True)
    shown = capsys.readouterr().err
    assert "mtsnmf" in shown and "3/3" in shown


@pytest.mark.parametrize(
    "wrong",
    [
        {"sigma": 0}, {"patch": 0}, {"atoms": 0}, {"atoms": -1}, {"stride": 0}, {"iterations": 0}, {"tolerance": -1e-6},
        {"tolerance": float("nan")}, {"device": "abacus"}, {"stride": 8}, {"stride": 4, "patch": 3},
    ],
)
def test_wrong_parameters_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))) as refused:
        MTSNMF(**wrong)
    assert "\n" not in str(refused.value)
