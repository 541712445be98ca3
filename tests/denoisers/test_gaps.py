"""Scenes with areas or bands without data: what is there is denoised as if it were alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from decsc_core import metrics
from decsc_core.denoisers.registry import make
from decsc_core.gaps import blank
from decsc_core.scenes import Scene, load_scene
from decsc_core.study.cubes import centre

METHODS = ("tv", "wavelet", "nlm", "bm4d", "ngmeet", "decsc")
KEPT = 40


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    return centre(load_scene("photos", "chelsea").cube, 64)


@pytest.fixture(scope="module")
def noisy(clean) -> np.ndarray:
    return clean + (30 / 255 * np.random.default_rng(0).standard_normal(clean.shape)).astype(np.float32)


def quick(name: str):
    """A method; of DECSC's shifted copies a single one."""
    return make(name, **({"shifts": 1} if name == "decsc" else {}))


@pytest.fixture(scope="module")
def alone(clean, noisy) -> Callable[[str], float]:
    """The MPSNR of a method where there are data, if there is nothing else."""
    return cache(lambda name: metrics.mpsnr(clean[:KEPT], quick(name)(noisy[:KEPT]).cube))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("declared", [True, False])
def test_an_area_without_data_does_not_spoil_the_rest(name, declared, clean, noisy, alone):
    cube = noisy.copy()
    if declared:
        missing = np.zeros(cube.shape, bool)
        missing[KEPT:] = True
        cube = Scene.from_physical(cube, "gap", missing=missing).cube
    else:
        cube[KEPT:] = 0.5  # as good as declared
    assert alone(name) > metrics.mpsnr(clean, noisy) + 3
    found = quick(name)(cube).cube
    assert metrics.mpsnr(clean[:KEPT], found[:KEPT]) > alone(name) - 0.6
    if not declared:
        np.testing.assert_array_equal(found[KEPT:], cube[KEPT:])


def test_only_areas_of_one_spectrum_are_blank():
    cube = np.random.default_rng(0).random((12, 11, 3), dtype=np.float32)
    cube[2:5, 3:7] = 0.1, 0.2, 0.3
    cube[8:, :2] = 0.5  # too narrow
    cube[9:, 6:, :2] = 0.7  # not in all bands
    expected = np.zeros((12, 11), bool)
    expected[2:5, 3:7] = True
    np.testing.assert_array_equal(blank(cube), expected)
    for size in ((12, 11), (2, 9), (1, 1)):
        assert not blank(np.full((*size, 3), 0.4)).any(), "nothing is left that could stand in"


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("border", [
    lambda row, column: column < 1, lambda row, column: (column < 2) & (row < 20), lambda row, column: 9 * column < row, lambda row, column: 7 * column + 60 < 3 * row,
], ids=["one pixel wide", "two pixels wide", "slanted", "a corner"])
def test_narrow_borders_and_the_ends_of_slanted_ones_are_blank(border, turns):
    cube = np.random.default_rng(0).random((40, 37, 4), dtype=np.float32)
    expected = border(*np.indices((40, 37)))
    cube[expected] = 0
    cube[12, 5:30] = 0.5  # a line inside is no border
    np.testing.assert_array_equal(blank(np.rot90(cube, turns)), np.rot90(expected, turns))


def test_an_edge_of_one_colour_is_no_border():
    cube = np.random.default_rng(0).random((40, 37, 4), dtype=np.float32)
    cube[0] = 0.1, 0.2, 0.3, 0.4
    cube[5:, -1] = 0.4, 0.3, 0.2, 0.1
    assert not blank(cube).any()


def test_the_spread_of_an_area_without_data_is_0(noisy):
    cube = noisy.copy()
    cube[:9] = cube[:, :, 4] = 0
    found = make("decsc", spread=True, shifts=4)(cube)
    assert not found.spread[:9].any() and not found.spread[:, :, 4].any() and (np.delete(found.spread[9:], 4, axis=2) > 0).all()


@pytest.mark.parametrize("width", [1, 6])
@pytest.mark.parametrize("as_scene", [True, False])
def test_a_dead_band_is_seen_across_a_border_of_another_value(width, as_scene, noisy):
    cube = noisy[:40, :40].copy()
    cube[:, :, 4] = 0.4
    cube[:width] = 0
    seen = Scene.from_physical(cube, "border").cube if as_scene else cube
    found = make("bm4d")(seen).cube
    np.testing.assert_array_equal(found[:, :, 4], cube[:, :, 4])
    np.testing.assert_array_equal(found[:width], cube[:width])
    without = make("bm4d")(np.delete(cube, 4, axis=2)).cube
    np.testing.assert_array_equal(np.delete(found, 4, axis=2), without)


@pytest.mark.parametrize("name", ["bm4d", "ngmeet", "decsc"])
@pytest.mark.parametrize("declared", [True, False])
def test_bands_without_data_do_not_spoil_the_others(name, declared, clean, noisy):
    dead, alive = slice(10, 20), [*range(10), *range(20, 31)]
    cube = noisy.copy()
    if declared:
        missing = np.zeros(cube.shape, bool)
        missing[:, :, dead] = True
        cube = Scene.from_physical(cube, "gap", missing=missing).cube
    else:
        cube[:, :, dead] = 0
    method = quick(name)
    found = method(cube).cube
    np.testing.assert_array_equal(found[:, :, alive], method(np.ascontiguousarray(cube[:, :, alive])).cube)
    np.testing.assert_array_equal(found[:, :, dead], cube[:, :, dead])
