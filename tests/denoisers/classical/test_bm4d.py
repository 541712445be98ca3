"""BM4D against the original's figures, against plain loops, and what someone who denoises a cube would notice."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
import torch
from scipy.fft import dctn, idctn
from scipy.ndimage import gaussian_filter

from decsc_core.denoisers.classical.bm4d import BM4D
from decsc_core.metrics import mpsnr

CUBES = ("a_gauss", "a_mixture", "b_gauss", "b_mixture")


def smooth(height: int, width: int, bands: int) -> np.ndarray:
    """A smooth scene in [0, 1]."""
    cube = gaussian_filter(np.random.default_rng(1).random((height, width, bands)), (3, 3, 2))
    return ((cube - cube.min()) / max(np.ptp(cube), 1e-9)).astype(np.float32)


def noisy_scene(*shape: int, sigma: float | np.ndarray = 0.1) -> np.ndarray:
    clean = smooth(*shape)
    return (clean + sigma * np.random.default_rng(0).standard_normal(clean.shape)).astype(np.float32)


@pytest.fixture(scope="module", params=CUBES)
def gains(request, golden) -> dict[str, float]:
    noisy = golden.noisy(request.param)
    estimate = BM4D(sigma=golden.sigma(request.param))(noisy)
    return golden.gains("bm4d_legacy_mean", request.param, estimate.cube)


def test_the_mean_noise_level_reaches_the_original(gains):
    assert abs(gains["psnr"]) < 0.005
    assert abs(gains["ssim"]) < 0.0005 and abs(gains["ssim_gauss"]) < 0.0005
    assert abs(gains["sam"]) < 0.0005


def test_group_variance_reaches_the_originals_automatic_mode(golden):
    """On the cube on which it is farthest from it."""
    gains = golden.gains("bm4d_legacy_auto", "b_gauss", BM4D(group_variance=True)(golden.noisy("b_gauss")).cube)
    assert abs(gains["psnr"]) < 0.03
    assert abs(gains["ssim"]) < 0.002 and abs(gains["ssim_gauss"]) < 0.002
    assert abs(gains["sam"]) < 0.002


def test_the_estimated_noise_level_counts_impulses(golden):
    gains = golden.gains("bm4d_legacy_mean", "a_mixture", BM4D()(golden.noisy("a_mixture")).cube)
    assert gains["psnr"] > 3 and gains["sam"] < -0.1


def haar(stack: np.ndarray, axis: int, inverse: bool = False) -> np.ndarray:
    """The orthonormal Haar transform along an axis: sums and differences of pairs, of the sums again, and so on."""
    stack = np.moveaxis(stack, axis, 0).copy()
    length = len(stack)
    levels = [length >> level for level in range(length.bit_length() - 1)]
    for n in reversed(levels) if inverse else levels:
        part = stack[:n].copy()
        if inverse:
            stack[0:n:2] = (part[: n // 2] + part[n // 2 :]) / np.sqrt(2)
            stack[1:n:2] = (part[: n // 2] - part[n // 2 :]) / np.sqrt(2)
        else:
            stack[: n // 2] = (part[0::2] + part[1::2]) / np.sqrt(2)
            stack[n // 2 : n] = (part[0::2] - part[1::2]) / np.sqrt(2)
    return np.moveaxis(stack, 0, axis)


def literally(
    noisy: np.ndarray, sigma: float | None, group: int, half_window: int, step: int
) -> tuple[np.ndarray, list[list[int]]]:
    """Both passes, cube by cube; and the sizes of the groups of each."""
    low, high = noisy.min(), noisy.max()
    volume = 0.15 + 0.7 * (noisy - low) / (high - low)
    sizes = [[], []]

    def level(coefficients: np.ndarray) -> float:
        if sigma is not None:
            return 0.7 * sigma / (high - low)
        detail = np.sort(np.abs(coefficients[1:] if len(coefficients) > 1 else coefficients).ravel())
        return max(1.4826 * detail[(detail.size - 1) // 2], 1e-4)

    def one_pass(guide: np.ndarray, side: int, farthest: float, wiener: bool) -> np.ndarray:
        last = [length - side for length in noisy.shape]
        numerator, denominator = np.zeros(noisy.shape), np.zeros(noisy.shape)
        cut = lambda array, corner: array[tuple(slice(i, i + side) for i in corner)]
        for corner in itertools.product(*(sorted({*range(0, end + 1, step), end}) for end in last)):
            window = [range(max(i - half_window, 0), min(i + half_window, end) + 1) for i, end in zip(corner, last)]
            far = {c: ((cut(guide, c) - cut(guide, corner)) ** 2).sum() for c in itertools.product(*window)}
            found = [c for c in sorted(far, key=far.get)[:group] if far[c] <= farthest * side**3]
            found = found[: 2 ** int(np.log2(len(found)))]
            sizes[wiener].append(len(found))
            stack, pilot = (np.stack([cut(array, c) for c in found]) for array in (volume, guide))
            if wiener:
                stack, pilot = (haar(dctn(array, axes=(1, 2, 3), norm="ortho"), 0) for array in (stack, pilot))
                s = level(stack)
                factor = pilot**2 / (pilot**2 + s**2)
                weight = 1 / (s**2 * (factor**2).sum())
                stack = idctn(haar(factor * stack, 0, inverse=True), axes=(1, 2, 3), norm="ortho")
            else:
                for axis in range(4):
                    stack = haar(stack, axis)
                s = level(stack)
                stack[np.abs(stack) <= 2.8 * s] = 0
                weight = 1 / (s**2 * max(np.count_nonzero(stack), 1))
                for axis in range(4):
                    stack = haar(stack, axis, inverse=True)
            for c, cube in zip(found, stack):
                cut(numerator, c)[...] += weight * cube
                cut(denominator, c)[...] += weight
        return numerator / denominator

    pilot = one_pass(volume, 4, 25000 / 255**2, wiener=False)
    restored = one_pass(pilot, 5, 3500 / 255**2, wiener=True)
    return low + (restored - 0.15) / 0.7 * (high - low), sizes


def checkerboard() -> np.ndarray:
    """A scene in part of which every other cube is too far away to join a group."""
    noisy = noisy_scene(9, 10, 8, sigma=0.02)
    noisy[:7] = np.indices((7, 10, 8)).sum(0) % 2 + 0.02 * noisy[:7]
    return noisy


@pytest.mark.parametrize(("sigma", "chunk"), [(20.0, 1), (20.0, 2**25), (None, 2**25)])
def test_both_passes_literally(sigma, chunk, monkeypatch):
    monkeypatch.setattr(BM4D, "dtype", torch.float64)
    monkeypatch.setattr("decsc_core.denoisers.classical.bm4d.CHUNK", chunk)
    noisy = checkerboard()
    expected, sizes = literally(noisy.astype(float), sigma and sigma / 255, 16, 2, 3)
    assert all(set(of_pass) >= {8, 16} for of_pass in sizes)
    denoiser = BM4D(sigma=sigma, group_variance=sigma is None, group=16, half_window=2, step=3)
    np.testing.assert_allclose(denoiser(noisy).cube, expected, atol=1e-5)


def test_a_threshold_that_nothing_passes_gives_no_gaps():
    cube = BM4D(sigma=25.5, threshold=1e9)(noisy_scene(12, 12, 8)).cube
    assert np.ptp(cube) < 1e-3


def test_group_variance_survives_a_region_without_noise():
    noisy = noisy_scene(20, 20, 8)
    noisy[:12] = 0
    cube = BM4D(group_variance=True, half_window=2)(noisy).cube
    assert np.abs(cube[:4]).max() < 1e-3


def test_more_noise_is_removed_where_more_is_stated():
    noisy = noisy_scene(20, 20, 8)
    spreads = [np.diff(BM4D(sigma=sigma)(noisy).cube, axis=1).std() for sigma in (5.0, 15.0, 25.0)]
    assert spreads[0] > spreads[1] > spreads[2]


@pytest.mark.parametrize(
    ("bands", "options"),
    [
        *((bands, {}) for bands in (1, 2, 3, 5, 31, 46, 128)),
        *((bands, {"group_variance": True}) for bands in (1, 3, 46)),
    ],
    ids=str,
)
def test_any_number_of_bands(bands, options):
    clean, noisy = smooth(19, 18, bands), noisy_scene(19, 18, bands)
    estimate = BM4D(half_window=2, **options)(noisy)
    assert estimate.cube.shape == noisy.shape and estimate.record is None
    assert mpsnr(clean, estimate.cube) > mpsnr(clean, noisy) + 3


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 40, 3), (4, 4, 4), (5, 5, 5), (6, 33, 8), (17, 5, 31)])
def test_any_size(shape):
    noisy = np.random.default_rng(0).normal(0.5, 0.1, shape).astype(np.float32)
    cube = BM4D(sigma=25.5)(noisy).cube
    assert cube.shape == shape and np.isfinite(cube).all()
    assert cube.std() <= noisy.std()


def test_the_same_cube_gives_the_same_estimate_and_is_left_alone():
    noisy = noisy_scene(16, 16, 8)
    before = noisy.copy()
    np.testing.assert_array_equal(BM4D()(noisy).cube, BM4D()(noisy).cube)
    np.testing.assert_array_equal(noisy, before)


@pytest.mark.filterwarnings("ignore:the cube looks like physical units")
@pytest.mark.parametrize(("factor", "shift"), [(1.0, 3.0), (1.0, -2.0), (0.01, 0.0)])
def test_the_unit_and_the_zero_of_the_cube_do_not_matter(factor, shift):
    noisy = noisy_scene(16, 16, 8)
    expected = factor * BM4D(sigma=20.0)(noisy).cube + shift
    estimate = BM4D(sigma=20.0 * factor)(factor * noisy + np.float32(shift)).cube
    np.testing.assert_allclose(estimate, expected, atol=2e-3 * factor)


@pytest.mark.parametrize("options", [{}, {"sigma": 20.0}, {"group_variance": True}], ids=str)
def test_a_constant_cube_comes_back_as_it_is(options):
    flat = np.full((8, 8, 6), 0.4, dtype=np.float32)
    np.testing.assert_allclose(BM4D(**options)(flat).cube, flat, atol=1e-6)


def test_a_constant_band_among_others():
    noisy = noisy_scene(16, 16, 8)
    noisy[..., 2] = 0
    assert np.isfinite(BM4D()(noisy).cube).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group": 24}, "group=24 must be a power of two"),
        ({"group": 0}, "group=0 must be"),
        ({"half_window": -1}, "half_window=-1"),
        ({"step": 0}, "step=0 must be 1 to 4"),
        ({"step": 5}, "step=5 must be 1 to 4"),
        ({"threshold": -1.0}, "threshold=-1.0"),
        ({"threshold": float("nan")}, "threshold=nan"),
        ({"threshold": float("inf")}, "threshold=inf"),
        ({"sigma": 10.0, "group_variance": True}, "leave sigma out"),
        *(({"sigma": sigma}, f"sigma={re.escape(str(sigma))} must be a number from 1e-12 to 1e") for sigma in (0.0, 1e-20, 1e30, float("nan"), "25")),
    ],
)
def test_parameters_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        BM4D(**options)


def test_progress_counts_both_passes(capsys):
    BM4D(sigma=20.0)(noisy_scene(8, 8, 6), progress=True)
    shown = capsys.readouterr().err
    assert "bm4d" in shown and "2/2" in shown
