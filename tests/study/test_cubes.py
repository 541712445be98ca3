from __future__ import annotations

import numpy as np
import pytest

from decsc_core import metrics
from decsc_core.noise import CASES, Degradation, add_noise
from decsc_core.study.cubes import centre, expected_psnr_per_band, lit_bands, numerical_rank


def test_centre_is_the_middle_and_never_larger_than_the_cube():
    cube = np.arange(7 * 4 * 2).reshape(7, 4, 2)
    np.testing.assert_array_equal(centre(cube, 3), cube[2:5, 0:3])
    np.testing.assert_array_equal(centre(cube, 9), cube)


@pytest.mark.parametrize("side", [0, -3])
def test_a_centre_of_no_pixels_is_refused(side):
    with pytest.raises(ValueError, match=f"^the centre of a scene, {side} pixels a side, is empty; take at least 1$"):
        centre(np.zeros((7, 4, 2)), side)


def test_a_nearly_empty_band_gives_way_to_the_nearest_that_is_not():
    cube = np.zeros((20, 20, 6))
    cube[10:, :, [0, 4]] = 0.2
    cube[0, 0, 2] = 1  # a single bright pixel is no image
    assert lit_bands(cube, (1, 3, 4, 6)) == (1, 1, 5, 5)
    assert lit_bands(cube / 3, (1, 3)) == (1, 3)


def test_numerical_rank_counts_the_energy():
    rng = np.random.default_rng(0)
    pixels, _ = np.linalg.qr(rng.standard_normal((400, 6)))
    spectra, _ = np.linalg.qr(rng.standard_normal((9, 6)))
    energy = np.array([0.9, 0.09, 0.009, 0.0009, 0.00009, 0.00001])
    cube = ((pixels * np.sqrt(energy)) @ spectra.T).reshape(20, 20, 9)
    assert [numerical_rank(cube, share) for share in (0.5, 0.95, 0.9995, 0.99995)] == [1, 2, 4, 5]


@pytest.mark.parametrize("case", CASES)
def test_expected_psnr_is_what_is_measured(case):
    """The least certain band has impulses on a tenth of its 40000 pixels: the mean of their errors varies by 2 %."""
    clean = np.random.default_rng(1).beta(2, 3, (200, 200, 12)).astype(np.float32)
    noisy, degradation = add_noise(clean, case, np.random.default_rng(2))
    expected = expected_psnr_per_band(clean, degradation)
    assert np.abs(expected - metrics.psnr_per_band(clean, noisy)).max() < 0.3


def test_expected_psnr_by_hand():
    clean = np.full((2, 4, 2), 0.5)
    drawn = Degradation("x", (25.5, 25.5), stripes={0: {1: 0.2}}, deadlines={1: (0, 3)})
    expected = -10 * np.log10([0.01 + 0.04 / 4, (2 * 0.01 + 2 * 0.25) / 4])
    np.testing.assert_allclose(expected_psnr_per_band(clean, drawn), expected)
