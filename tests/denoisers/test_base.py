"""The contract every denoiser keeps: what goes in is checked and left alone, what comes out has its shape."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from decsc_core.denoisers import CubeError, Denoiser, Estimate, Record, check_cube
from decsc_core.scenes import Scene


class Doubling(Denoiser):
    """Doubles in place, so a cube that was not copied would show it."""

    name = "doubling"
    kind = "model-driven"

    def _denoise(self, noisy, progress):
        noisy *= 2
        return Estimate(noisy, record=[Record([0.5, 0.1], 2, True)], spread=np.ones_like(noisy))


class Returning(Denoiser):
    """Returns what it was told to, whatever it is given."""

    name = "returning"
    kind = "learned"

    def __init__(self, cube):
        self.cube = cube

    def _denoise(self, noisy, progress):
        return Estimate(self.cube)


def with_bad(count_nan: int, count_inf: int) -> np.ndarray:
    cube = np.zeros((4, 5, 6))
    cube.ravel()[:count_nan] = np.nan
    cube.ravel()[count_nan : count_nan + count_inf] = -np.inf
    return cube


class Remembering(Denoiser):
    """Remembers what it was given."""

    name = "remembering"
    kind = "model-driven"

    def _denoise(self, noisy, progress):
        self.seen = noisy.copy()
        return Estimate(noisy)


def test_dead_bands_come_back_and_the_method_sees_the_others_only(recwarn):
    cube = np.random.default_rng(0).random((4, 5, 6), dtype=np.float32)
    cube[:, :, [0, 3, 4]] = 0, -9999, -9999
    method = Remembering()
    np.testing.assert_array_equal(method(cube).cube, cube)
    np.testing.assert_array_equal(method.seen, cube[:, :, [1, 2, 5]])
    assert not recwarn
    np.testing.assert_array_equal(Doubling()(cube).spread[0, 0], [0, 1, 1, 0, 0, 1])
    np.testing.assert_array_equal(Doubling()(np.full((3, 3, 2), 0.25)).cube, 0.5)  # where nothing else is there


@pytest.mark.filterwarnings("ignore:the cube looks like physical units")
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_cube_of_any_real_type_is_denoised_and_left_alone(dtype, order):
    cube = np.asarray(np.arange(24).reshape(2, 3, 4), dtype=dtype, order=order)
    cube.setflags(write=False)
    estimate = Doubling()(cube)
    np.testing.assert_array_equal(estimate.cube, 2 * np.arange(24).reshape(2, 3, 4))
    assert estimate.cube.dtype == np.float32
    np.testing.assert_array_equal(cube, np.arange(24).reshape(2, 3, 4))


@pytest.mark.parametrize("cube", [
    np.arange(240, dtype=np.uint8).reshape(4, 5, 12), np.full((3, 3, 2), 1e4), np.full((3, 3, 2), -0.6), np.full((2, 2, 2), 1e10),
])
def test_a_cube_in_physical_units_is_denoised_with_a_warning_to_the_caller(cube):
    with pytest.warns(UserWarning, match=r"^the cube looks like physical units, .* use Scene\.from_physical$") as told:
        Doubling()(cube)
    assert [warning.filename for warning in told] == [__file__] and "\n" not in str(told[0].message)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("level", [0.0, 0.4, 1.0])
def test_noise_beyond_0_and_1_is_no_physical_unit(level):
    cube = level + np.random.default_rng(0).uniform(0, 95 / 255, 31) * np.random.default_rng(1).standard_normal((20, 20, 31))
    cube[:2, :2] = 40
    Doubling()(cube)
    Doubling()(Scene.from_physical(np.arange(24).reshape(2, 3, 4), "counts").cube)


def test_a_flat_cube_and_a_value_far_from_all_others_are_warned_of():
    cube = np.random.default_rng(0).random((20, 20, 3))
    with pytest.warns(UserWarning, match=r"^the cube is dark or flat, its values are mostly .* use Scene\.from_physical$") as told:
        Doubling()(0.2 * cube)
    assert [warning.filename for warning in told] == [__file__]
    with pytest.warns(UserWarning, match=r"^the darkest areas of the cube are at -0\.\d+, not about 0; .* use Scene\.from_physical$") as told:
        Doubling()(cube ** 3 - 0.3)
    assert [warning.filename for warning in told] == [__file__]
    cube[3, 3, 1] = -9999
    with pytest.warns(UserWarning, match=r"^the value -9999 lies far from all others .* if it means no data, fill it$") as told:
        Doubling()(cube)
    assert [warning.filename for warning in told] == [__file__]


def test_the_evidence_comes_back_with_the_cube():
    estimate = Doubling()(np.ones((2, 2, 2), np.float32))
    assert estimate.record[0].converged and estimate.spread.shape == (2, 2, 2)
    stored = json.loads(json.dumps(estimate.record[0].to_json()))
    assert stored == {"residuals": [0.5, 0.1], "iterations": 2, "converged": True}


@pytest.mark.parametrize(
    ("cube", "message"),
    [
        (np.zeros((64, 64)), r"three axes \(H, W, B\).*\(64, 64\)"),
        (np.zeros((1, 4, 4, 3)), r"three axes \(H, W, B\).*\(1, 4, 4, 3\)"),
        (np.zeros((0, 4, 3)), r"empty.*\(0, 4, 3\)"),
        (np.zeros((2, 2, 2), complex), "real numbers, not complex128"),
        (np.zeros((2, 2, 2), bool), "real numbers, not bool"),
        (np.full((2, 2, 2), "a"), "real numbers, not <U1"),
        (Estimate(np.zeros((2, 2, 2))), "an array, not of type Estimate; give its .cube"),
        (np.full((2, 2, 2), 1e25), r"reaches 1e\+25; give it smaller units"),
        (np.ma.masked_less(np.arange(8.0).reshape(2, 2, 2), 3), "3 masked of 8 values; fill them first"),
        (torch.ones(2, 2, 2, requires_grad=True), "must be an array of real numbers"),
        (torch.ones(2, 2, 2, dtype=torch.bfloat16), "must be an array of real numbers"),
        (with_bad(3, 0), "3 NaN and 0 infinite of 120"),
        (with_bad(2, 5), "2 NaN and 5 infinite of 120"),
        (np.full((1, 1, 1), 1e300), "0 NaN and 1 infinite of 1"),
    ],
)
def test_what_is_not_a_cube_is_refused_in_one_line(cube, message):
    for refuse in (check_cube, Doubling()):
        with pytest.raises(CubeError, match=message) as error:
            refuse(cube)
        assert "\n" not in str(error.value)
    assert issubclass(CubeError, ValueError)


def test_check_cube_gives_a_row_major_float32_copy():
    cube = np.ones((3, 4, 5), np.float32)
    checked = check_cube(cube)
    assert not np.shares_memory(cube, checked)
    assert check_cube(np.asfortranarray(cube)).flags.c_contiguous
    assert check_cube(cube.astype(float)).dtype == np.float32


def test_an_estimate_of_another_shape_is_an_error():
    with pytest.raises(RuntimeError, match=r"returning returned shape \(2, 2, 3\).*\(2, 2, 2\)"):
        Returning(np.zeros((2, 2, 3), np.float32))(np.zeros((2, 2, 2)))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_a_diverged_estimate_is_an_error(value):
    cube = np.zeros((2, 2, 2))
    cube[0, 1, :] = value
    with pytest.raises(RuntimeError, match="returning diverged: 2 of 8"):
        Returning(cube)(np.zeros((2, 2, 2)))


def test_a_denoiser_without_a_method_cannot_be_made():
    with pytest.raises(TypeError, match="_denoise"):
        Denoiser()
