"""The scores agree with closed forms and with other people's implementations."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from einops import rearrange
from skimage.metrics import peak_signal_noise_ratio
from torchmetrics.functional.image import spectral_angle_mapper, structural_similarity_index_measure

from decsc_core.metrics import column_mean, mpsnr, psnr_per_band, row_mean, sam, scores, ssim, ssim_global

OF_TWO_CUBES = [psnr_per_band, mpsnr, ssim, ssim_global, sam, scores]


@pytest.fixture
def reference() -> np.ndarray:
    """A smooth scene with an edge, different in every band."""
    rows, columns, bands = np.meshgrid(np.arange(30), np.arange(41), np.arange(7), indexing="ij")
    cube = 0.5 + 0.3 * np.sin(rows / 5 + bands) * np.cos(columns / (4 + bands))
    cube[10:20, 10:25] *= 0.4
    return cube.astype(np.float32)


@pytest.fixture
def estimate(reference) -> np.ndarray:
    """The same scene with another noise level in each band; it leaves [0, 1]."""
    sigmas = np.linspace(0.02, 0.4, reference.shape[2])
    noise = np.random.default_rng(0).standard_normal(reference.shape)
    return (reference + sigmas * noise).astype(np.float32)


def as_torch(cube: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(rearrange(cube, "h w b -> 1 b h w").astype(np.float64))


def test_psnr_of_a_constant_error():
    zeros, shifted = np.zeros((5, 6, 7)), np.ones((5, 6, 7)) * 10.0 ** -np.arange(1, 8)
    np.testing.assert_allclose(psnr_per_band(zeros, shifted), 20.0 * np.arange(1, 8), rtol=1e-12)
    assert mpsnr(zeros, shifted) == pytest.approx(80)


def test_psnr_is_that_of_scikit_image_band_by_band(reference, estimate):
    expected = [peak_signal_noise_ratio(reference[..., b], estimate[..., b], data_range=1) for b in range(7)]
    np.testing.assert_allclose(psnr_per_band(reference, estimate), expected, rtol=1e-6)
    assert mpsnr(reference, estimate) == pytest.approx(np.mean(expected))


def test_psnr_of_equal_bands_is_infinite_without_a_warning(reference, estimate):
    estimate[..., 3] = reference[..., 3]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        per_band = psnr_per_band(reference, estimate)
        assert mpsnr(reference, reference) == math.inf
    assert np.flatnonzero(np.isinf(per_band)).tolist() == [3]


def test_ssim_is_that_of_torchmetrics_in_the_valid_region(reference, estimate):
    """torchmetrics scores mirrored borders too; the paper keeps only whole windows, so its map loses 5 pixels."""
    with_borders, full = structural_similarity_index_measure(
        as_torch(estimate), as_torch(reference), data_range=1.0, return_full_image=True
    )
    expected = float(full[..., 5:-5, 5:-5].mean())
    assert abs(expected - float(with_borders)) > 0.01
    assert ssim(reference, estimate) == pytest.approx(expected, abs=1e-7)


def test_ssim_of_one_window_is_the_weighted_formula():
    """At 11 x 11 pixels one window fits, so the score is the textbook expression at the centre."""
    rng = np.random.default_rng(1)
    x, y = rng.random((2, 11, 11, 1))
    taps = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    weights = np.outer(taps, taps)[..., None] / taps.sum() ** 2
    mean_x, mean_y = (weights * x).sum(), (weights * y).sum()
    variance_x, variance_y = (weights * (x - mean_x) ** 2).sum(), (weights * (y - mean_y) ** 2).sum()
    covariance = (weights * (x - mean_x) * (y - mean_y)).sum()
    c1, c2 = 0.01**2, 0.03**2
    expected = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    expected /= (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    assert ssim(x, y) == pytest.approx(expected, abs=1e-12)


def test_ssim_refuses_images_smaller_than_its_window():
    small = np.zeros((10, 40, 3))
    with pytest.raises(ValueError, match="11 x 11 pixels, not 10 x 40"):
        ssim(small, small)


def test_global_ssim_of_constants_and_of_a_scaled_pattern():
    half, quarter = np.full((6, 6, 2), 0.5), np.full((6, 6, 2), 0.25)
    assert ssim_global(half, quarter) == pytest.approx((2 * 0.125 + 1e-4) / (0.25 + 0.0625 + 1e-4))
    board = np.indices((6, 6)).sum(axis=0)[..., None] % 2 - 0.5
    assert ssim_global(board, -board) == pytest.approx((-0.5 + 9e-4) / (0.5 + 9e-4))
    assert ssim_global(board, 0.5 * board) == pytest.approx((0.25 + 9e-4) / (0.25 + 0.0625 + 9e-4))


def test_global_ssim_of_a_noisy_image_is_far_above_the_windowed_one():
    """The reason they are two scores: sigma 70 on a smooth scene (SST and SERT print the higher kind)."""
    ramp = np.tile(np.linspace(0, 1, 64), (64, 1))[..., None]
    noisy = ramp + 70 / 255 * np.random.default_rng(0).standard_normal(ramp.shape)
    assert ssim_global(ramp, noisy) > 5 * ssim(ramp, noisy)


def test_sam_of_known_angles():
    reference = np.array([[[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]])
    estimate = np.array([[[1.0, 1.0], [0.0, 2.0], [3.0, 0.0]]])
    assert sam(reference, estimate) == pytest.approx((math.pi / 4 + math.pi / 2 + 0) / 3)


def test_sam_is_that_of_torchmetrics(reference, estimate):
    expected = spectral_angle_mapper(as_torch(estimate), as_torch(reference))
    assert sam(reference, estimate) == pytest.approx(float(expected), abs=1e-9)


def test_sam_does_not_see_brightness(reference):
    assert sam(reference, 0.3 * reference) == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sam_of_a_cube_with_itself_is_zero_even_where_it_is_black(dtype):
    cube = np.random.default_rng(0).random((50, 60, 31)).astype(dtype)
    cube[:3] = 0
    cube[3] *= 1e-30
    assert sam(cube, cube) == pytest.approx(0, abs=1e-7)


def test_a_pixel_without_a_direction_is_a_right_angle():
    assert sam(np.ones((2, 2, 3)), np.zeros((2, 2, 3))) == pytest.approx(math.pi / 2)


def test_row_mean_shows_rows_and_not_columns():
    cube = np.zeros((4, 5, 3), np.float32)
    cube[2, :, 1] = 1
    cube[:, 3, 0] = 1
    np.testing.assert_allclose(row_mean(cube, 1), [0, 0, 1, 0])
    np.testing.assert_allclose(row_mean(cube, 0), np.full(4, 0.2))


def test_column_mean_shows_columns_and_not_rows():
    cube = np.zeros((4, 5, 2))
    cube[:, 2, 1] = 1
    cube[3, :, 0] = 1
    np.testing.assert_allclose(column_mean(cube, 1), [0, 0, 1, 0, 0])
    np.testing.assert_allclose(column_mean(cube, 0), np.full(5, 0.25))



def test_scores_are_the_four_functions(reference, estimate):
    assert scores(reference, estimate) == {
        "psnr": mpsnr(reference, estimate),
        "ssim": ssim(reference, estimate),
        "ssim_global": ssim_global(reference, estimate),
        "sam": sam(reference, estimate),
    }


def test_perfect_scores(reference):
    perfect = scores(reference, reference)
    assert perfect["psnr"] == math.inf
    assert perfect["ssim"] == pytest.approx(1) and perfect["ssim_global"] == pytest.approx(1)


def test_similarity_is_a_mean_over_bands(reference, estimate):
    for score in (mpsnr, ssim, ssim_global):
        alone = [score(reference[..., [band]], estimate[..., [band]]) for band in range(7)]
        assert score(reference, estimate) == pytest.approx(np.mean(alone))


def test_integers_are_not_wrapped():
    assert mpsnr(np.zeros((3, 3, 2), np.uint8), np.ones((3, 3, 2), np.uint8)) == pytest.approx(0)


@pytest.mark.parametrize("score", OF_TWO_CUBES)
def test_a_shape_mismatch_names_both_shapes(score):
    with pytest.raises(ValueError, match=r"reference \(12, 13, 4\) and estimate \(12, 13, 5\)"):
        score(np.zeros((12, 13, 4)), np.zeros((12, 13, 5)))
    with pytest.raises(ValueError, match=r"\(12, 13\) .* \(H, W, B\)"):
        score(np.zeros((12, 13)), np.zeros((12, 13)))


PROFILES = [lambda cube, _: row_mean(cube, 1), lambda cube, _: column_mean(cube, 1)]
"""As functions of two cubes of which they do not use the second."""


@pytest.mark.parametrize("convert", [np.ndarray.tolist, torch.from_numpy, np.ma.array])
def test_whatever_holds_real_numbers_is_scored(reference, estimate, convert):
    for score in (*OF_TWO_CUBES, *PROFILES):
        np.testing.assert_array_equal(score(convert(reference), convert(estimate)), score(reference, estimate))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.ones((12, 13, 4), complex), "real numbers, not complex"),
        (np.ma.masked_less(np.arange(624.0).reshape(12, 13, 4), 3), "3 masked of 624"),
        (np.zeros((12, 13, 0)), r"\(12, 13, 0\)"),
        (np.zeros((12, 0, 4)), r"\(12, 0, 4\)"),
        (np.zeros(13), r"\(13,\)"),
        (torch.zeros(12, 13, 4, requires_grad=True), "requires grad"),
        ([[[1.0], [1.0, 2.0]]], "inhomogeneous"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_is_no_cube_of_real_numbers_is_refused_in_one_line(wrong, message):
    right = np.zeros(wrong.shape if isinstance(wrong, np.ndarray) else (12, 13, 4))
    for score, pair in [*itertools.product(OF_TWO_CUBES, ((wrong, right), (right, wrong))), *((score, (wrong, wrong)) for score in PROFILES)]:
        with pytest.raises(ValueError, match=message) as error:
            score(*pair)
        assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("error")
def test_nan_is_no_score_but_no_error(reference, estimate):
    estimate[3, 4, 2] = np.nan
    assert np.flatnonzero(np.isnan(psnr_per_band(reference, estimate))).tolist() == [2]
    assert all(map(math.isnan, scores(reference, estimate).values()))
    assert np.flatnonzero(np.isnan(row_mean(estimate, 2))).tolist() == [3]
    assert np.flatnonzero(np.isnan(column_mean(estimate, 2))).tolist() == [4]
