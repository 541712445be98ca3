"""study.noreference: known noise is found, stripes are told from straight lines, a constant image is no triumph."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.restoration import estimate_sigma

from decsc_core.study import noreference


@pytest.fixture
def smooth() -> np.ndarray:
    y, x, b = np.meshgrid(np.arange(64), np.arange(48), np.arange(3), indexing="ij")
    return (0.3 + 0.004 * y + 0.003 * x + 0.05 * b).astype(np.float32)


def test_the_noise_of_each_band_is_found(smooth):
    sigmas = np.array([5.0, 20.0, 60.0])
    noisy = smooth + np.random.default_rng(0).normal(0, sigmas / 255, smooth.shape)
    np.testing.assert_allclose(noreference.noise_levels(noisy), sigmas, rtol=0.1)
    assert noreference.noise_levels(smooth).max() < 1


def test_stripes_are_rough_along_the_columns_only(smooth):
    striped = smooth.copy()
    striped[:, ::5] += 0.2
    assert noreference.roughness(smooth, 0) == pytest.approx(0, abs=1e-6)
    assert noreference.roughness(striped, 0) == pytest.approx(0, abs=1e-6)
    assert noreference.roughness(striped, 1) > 0.1
    assert noreference.roughness(striped.transpose(1, 0, 2), 0) == noreference.roughness(striped, 1)


def test_roughness_of_a_row_that_stands_out():
    cube = np.zeros((5, 4, 2))
    cube[2] = 3
    assert noreference.roughness(cube, 0) == pytest.approx((3 + 6 + 3) / 3)


@pytest.mark.filterwarnings("error")
def test_two_rows_have_no_roughness():
    cube = np.random.default_rng(0).random((2, 9, 3))
    assert np.isnan(noreference.roughness(cube, 0)) and noreference.roughness(cube, 1) > 0
    assert np.isnan(noreference.roughness(cube.transpose(1, 0, 2), 1))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("width", [1, 2, 3, 4, 5])
def test_narrow_images_are_measured_without_warnings(width):
    cube = np.random.default_rng(0).normal(0.5, 0.1, (64, width, 3))
    levels = noreference.noise_levels(cube)
    assert np.isnan(levels).all() if width == 1 else (levels > 5).all()
    table = noreference.table({"Noisy": cube})
    assert table["column_roughness"].isna().all() == (width < 3) and table["row_roughness"].notna().all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_areas_do_not_hide_the_noise_of_the_rest(dtype):
    cube = np.full((256, 256, 2), (0.37, 0.5))
    cube[:128, :128] += np.random.default_rng(0).normal(0, 0.1, (128, 128, 2))
    np.testing.assert_allclose(noreference.noise_levels(cube.astype(dtype)), 25.5, rtol=0.05)


@pytest.mark.parametrize("rows", [0, 4])
def test_few_constant_rows_change_nothing(smooth, rows):
    """To the bit, for published numbers are of such images."""
    noisy = smooth + np.random.default_rng(0).normal(0, 0.1, smooth.shape)
    noisy[:rows] = 0.3
    np.testing.assert_array_equal(noreference.noise_levels(noisy), 255 * np.array(estimate_sigma(noisy, channel_axis=-1)))


def test_the_table_shows_that_a_constant_image_is_best_but_far_from_the_noisy_one(smooth):
    noisy = smooth + np.random.default_rng(0).normal(0, 0.1, smooth.shape).astype(np.float32)
    cubes = {"Noisy": noisy, "Clean": smooth, "Constant": np.full_like(smooth, smooth.mean())}
    table = noreference.table(cubes).set_index("method")
    assert (table.loc["Constant", ["noise", "noise_worst", "row_roughness", "column_roughness"]] == 0).all()
    assert table.loc["Noisy", "change"] == 0 < table.loc["Clean", "change"] < table.loc["Constant", "change"]
    assert table.loc["Clean", "change"] == pytest.approx(0.1, rel=0.05)
    assert table.loc["Noisy", "noise_worst"] >= table.loc["Noisy", "noise"] > 20
