"""study.calibration: bins of equal number by their spread, correlation and factor, each map in its own colour scale."""

from __future__ import annotations

import numpy as np
import pytest

from decsc_core.denoisers.base import Estimate
from decsc_core.scenes import Scene
from decsc_core.study import calibration
from decsc_core.study.evaluate import noisy_cube


@pytest.fixture
def scene() -> Scene:
    return Scene(np.random.default_rng(0).random((12, 10, 5), dtype=np.float32), "some_scene")


def maps(scene: Scene, spread: np.ndarray, error: np.ndarray) -> calibration.ErrorMaps:
    return calibration.ErrorMaps(scene, scene.cube, error, spread)


def test_the_maps_are_root_mean_squares_over_the_bands(scene):
    noisy = noisy_cube(scene, "gauss-55", 3)

    def denoiser(cube: np.ndarray) -> Estimate:
        np.testing.assert_array_equal(cube, noisy)
        return Estimate(cube, spread=np.broadcast_to(np.array([3, 4, 0, 0, 0], np.float32), cube.shape))

    found = calibration.error_maps(denoiser, scene, "gauss-55", 3)
    np.testing.assert_allclose(found.spread, np.full((12, 10), 5**0.5))
    np.testing.assert_allclose(found.error**2, np.square(noisy - scene.cube, dtype=float).mean(2))


def test_bins_hold_pixels_of_like_spread(scene, monkeypatch):
    monkeypatch.setattr(calibration, "BINS", 4)
    spread = np.random.default_rng(1).permutation(120).reshape(12, 10) / 120
    table = calibration.calibrate([maps(scene, spread, 3 * spread), maps(scene, spread, 1 - spread)])
    assert list(table["bin"]) == [1, 2, 3, 4] * 2
    centres = (np.array([14.5, 44.5, 74.5, 104.5])) / 120
    np.testing.assert_allclose(table["spread"], np.tile(centres, 2))
    np.testing.assert_allclose(table["error"], np.concatenate([3 * centres, 1 - centres]))
    assert table["correlation"].tolist() == pytest.approx([1] * 4 + [-1] * 4)
    assert table["factor"][0] == pytest.approx(3)


@pytest.mark.filterwarnings("error")
def test_a_constant_map_has_no_correlation():
    varied = np.arange(6.0).reshape(2, 3)
    assert np.isnan(calibration.agreement(np.ones((2, 3)), varied)) and calibration.agreement(varied, -varied) == -1


def test_a_scene_of_few_pixels_has_a_bin_for_each(scene):
    spread = np.arange(6.0).reshape(2, 3)
    table = calibration.calibrate([maps(scene, spread, 2 * spread)])
    assert list(table["bin"]) == [1, 2, 3, 4, 5, 6] and list(table["error"]) == [0, 2, 4, 6, 8, 10]


@pytest.mark.filterwarnings("error")
def test_without_any_spread_there_is_no_factor(scene):
    """As with a single shift."""
    one = maps(scene, np.zeros((12, 10)), np.random.default_rng(1).random((12, 10)))
    table = calibration.calibrate([one])
    assert table[["correlation", "factor"]].isna().all(axis=None) and table[["spread", "error"]].notna().all(axis=None)
    calibration.draw(one, table)


def test_a_denoiser_that_returns_no_spread_is_refused(scene):
    with pytest.raises(ValueError, match="spread=True") as error:
        calibration.error_maps(Estimate, scene, "gauss-55", 3)
    assert "\n" not in str(error.value)


def test_error_and_spread_have_a_colour_scale_each(scene):
    error = np.random.default_rng(1).random((12, 10))
    one = maps(scene, error / 5, error)
    axes = calibration.draw(one, calibration.calibrate([one])).axes
    shown = {axis.get_title(): axis.get_images()[0] for axis in axes if axis.get_images()}
    assert shown["True error"].get_clim() == (0, np.percentile(error, 99))
    assert shown["Spread (own scale)"].get_clim() == (0, np.percentile(error / 5, 99))
    np.testing.assert_array_equal(shown["Spread (own scale)"].get_array(), error / 5)
    curve = next(axis for axis in axes if axis.get_xlabel() == "Spread over shifts")
    assert curve.get_lines()[0].get_label() == "some scene, correlation 1.00"
