from __future__ import annotations

import hashlib
import re

import numpy as np
import pytest

from decsc_core.noise import add_noise
from decsc_core.scenes import Scene, SceneError, load_scene
from decsc_core.study.cubes import centre


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_reflectance_like_floats_are_left_alone(rng):
    noisy = (rng.random((20, 20, 5)) + 0.1 * rng.standard_normal((20, 20, 5))).astype(np.float32)
    assert noisy.min() < 0 and noisy.max() > 1
    scene = Scene.from_physical(noisy, "noisy")
    assert (scene.scale, scene.offset) == (1.0, 0.0)
    np.testing.assert_array_equal(scene.cube, noisy)
    np.testing.assert_array_equal(scene.physical(), noisy)


@pytest.mark.parametrize("factor", [0.1, 0.01, 1e-6])
def test_floats_that_span_little_of_0_to_1_are_no_reflectance(rng, factor):
    radiance = factor * rng.random((20, 20, 5))
    scene = Scene.from_physical(radiance, "radiance")
    np.testing.assert_allclose(np.percentile(scene.cube, [0.1, 99.9]), [0, 1], atol=1e-6)
    np.testing.assert_allclose(scene.physical(), radiance, rtol=1e-4, atol=1e-6 * factor)


@pytest.mark.parametrize("dtype", [">f4", "f2", "f8"])
@pytest.mark.parametrize("case", ["gauss-15", "gauss-95", "mixture"])
def test_floats_about_0_are_no_reflectance_but_noisy_ones_are(case, dtype):
    """Taken as they are, a cube whose mean was subtracted would be restored worse by many dB."""
    clean = centre(load_scene("photos", "chelsea").cube, 64)
    noisy = add_noise(clean, case, np.random.default_rng(0))[0].astype(dtype)
    same = Scene.from_physical(noisy, "s")
    assert (same.scale, same.offset) == (1.0, 0.0)
    for level in (0.3, clean.mean()):
        shifted = Scene.from_physical(noisy - np.dtype(dtype).type(level), "s")
        assert shifted.offset < -level and np.percentile(shifted.cube, 0.1) == pytest.approx(0, abs=1e-3)
        np.testing.assert_allclose(shifted.physical(), noisy - np.dtype(dtype).type(level), atol=1e-3)


def test_a_border_below_0_does_not_count_as_dark(rng):
    cube = rng.random((30, 30, 5), dtype=np.float32)
    cube[:10] = -0.5
    assert Scene.from_physical(cube, "s").scale == 1.0


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32, np.float64])
def test_digital_numbers_map_their_percentiles_to_0_and_1_and_come_back(rng, dtype):
    numbers = rng.integers(-200 if np.dtype(dtype).kind != "u" else 0, 9000, (30, 30, 7)).astype(dtype)
    scene = Scene.from_physical(numbers, "numbers")
    np.testing.assert_allclose(np.percentile(scene.cube, [0.1, 99.9]), [0, 1], atol=1e-6)
    assert scene.cube.min() < 0 and scene.cube.max() > 1, "values beyond the percentiles must not be clipped"
    assert scene.cube.dtype == scene.physical().dtype == np.float32
    # float32 resolves 9000 to 5e-4, and the cube's own rounding adds as much again
    np.testing.assert_allclose(scene.physical(), numbers, atol=2e-3)


def test_integers_are_mapped_even_when_most_look_like_reflectance():
    counts = np.ones((10, 10, 2), np.uint8)
    counts[:2, 0] = 200
    assert Scene.from_physical(counts, "counts").cube.max() == 1
    assert Scene.from_physical(counts.astype(np.float32), "floats").cube.max() == 200
    constant = Scene.from_physical(np.full((4, 4, 2), 7, np.int32), "constant")
    np.testing.assert_array_equal(constant.cube, 0)
    np.testing.assert_array_equal(constant.physical(), 7)


def test_sparse_data_use_their_full_range():
    data = np.zeros((100, 100, 2))
    data[3, 4, 1] = 500.0
    scene = Scene.from_physical(data + 10, "spark")
    assert scene.cube.max() == pytest.approx(1)
    np.testing.assert_allclose(scene.physical(), data + 10)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_with_their_count(rng, bad):
    data = rng.random((5, 6, 3))
    data[0, :2, 1] = bad
    with pytest.raises(SceneError, match=r"^broken: 2 values are NaN or infinite and not declared"):
        Scene.from_physical(data, "broken")
    with pytest.raises(SceneError, match="2 values"):
        Scene(data.astype(np.float32), "broken")
    with pytest.raises(SceneError, match="^huge: 8 values are NaN, infinite or beyond float32"):
        Scene(np.full((2, 2, 2), 1e300), "huge")


def test_masked_values_are_refused(rng):
    data = np.ma.masked_less(rng.integers(200, 999, (6, 6, 4)), 300)
    for build in (Scene, Scene.from_physical):
        with pytest.raises(SceneError, match=rf"^x: {data.mask.sum()} values are masked; give `Scene.from_physical` the mask as `missing`"):
            build(data, "x")
    assert (Scene.from_physical(data.data, "x", missing=data.mask).missing() == data.mask).all()


@pytest.mark.parametrize("dtype, fill", [
    (np.float32, -9999), (np.float32, -3.4028234663852886e38), (np.float64, 1e20), (np.uint16, 65535), (np.int16, -32768),
])
def test_a_fill_value_that_is_not_declared_is_refused(rng, dtype, fill):
    data = (rng.random((20, 25, 5)) * (1 if np.dtype(dtype).kind == "f" else 5000)).astype(dtype)
    data[:4] = data[7, 7, :2] = fill
    with pytest.raises(SceneError, match=rf"^edges: 20 % of the values are {re.escape(f'{fill:g}')}, far from all others .* declare it as no-data"):
        Scene.from_physical(data, "edges")
    with pytest.raises(SceneError, match="% of the values are"):
        Scene.from_physical(data, "edges", missing=data == data[10, 10, 0])
    Scene.from_physical(data, "edges", missing=data == data[0, 0, 0])


@pytest.mark.parametrize("dtype, top, fill", [(np.int16, 9000, -9999), (np.int16, 3000, -32768), (np.float32, 1, -999)])
def test_a_single_value_that_marks_no_data_is_refused(rng, dtype, top, fill):
    data = (rng.random((50, 50, 8)) * top).astype(dtype)
    data[20, 20, 7] = fill
    with pytest.raises(SceneError, match=rf"^odd: 0.005 % of the values are {fill}, far from all others .* declare it as no-data"):
        Scene.from_physical(data, "odd")
    data[20, 20, 7] = -top // 3
    Scene.from_physical(data, "negative")


def test_such_a_value_is_data_where_others_are_as_low(rng):
    data = rng.integers(-1500, 9000, (50, 50, 8)).astype(np.int16)
    data[20, 20, 7] = data.min()
    data[data < -999] = -999
    assert Scene.from_physical(data, "dark").missing() is None
    data[0, 0, 0] = -1500
    assert Scene.from_physical(data, "darker").missing() is None


def test_masks_of_another_shape_are_refused(rng):
    data = rng.random((6, 7, 5))
    with pytest.raises(SceneError, match=r"^x: the mask `missing` is \(6, 7\) but must be \(6, 7, 5\)"):
        Scene.from_physical(data, "x", missing=np.zeros((6, 7), bool))
    with pytest.raises(SceneError, match=r"^x: the mask `bad` is \(4,\) but must be \(5,\)"):
        Scene.from_physical(data, "x", bad=np.zeros(4, bool))


@pytest.mark.parametrize("dtype, top, saturated", [(np.uint16, 900, 4095), (np.int16, 150, 1023), (np.uint8, 60, 255), (np.float32, 0.2, 1.0)])
def test_saturated_values_are_data(rng, dtype, top, saturated):
    data = (rng.random((20, 25, 5)) * top).astype(dtype)
    data[3, 4] = data[7, 7] = saturated
    np.testing.assert_allclose(Scene.from_physical(data, "glint").physical(), data, rtol=1e-5, atol=1e-3)


def test_255_is_data_only_of_integers(rng):
    data = rng.random((20, 25, 5)).astype(np.float32)
    data[3, 4] = data[7, 7] = 255
    with pytest.raises(SceneError, match="% of the values are 255, far from all others"):
        Scene.from_physical(data, "reflectance")


def test_a_fill_value_of_some_bands_is_refused_and_dead_bands_do_not_count(rng):
    data = rng.random((20, 25, 8))
    data[:5, :, 4:] = -9999
    with pytest.raises(SceneError, match="^half: 12 % of the values are -9999, far from all others"):
        Scene.from_physical(data, "half")
    numbers = rng.integers(500, 9000, (20, 25, 8)).astype(np.float32)
    alive = Scene.from_physical(numbers[:, :, 2:], "alive")
    for dead in (-9999, 0, 65535):
        numbers[:, :, :2] = dead
        scene = Scene.from_physical(numbers, "dead")
        assert (scene.scale, scene.offset) == (alive.scale, alive.offset)
        np.testing.assert_allclose(scene.physical(), numbers, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_a_single_value_out_of_this_world_is_refused(rng, dtype):
    data = (rng.random((40, 40, 8)) * (1 if np.dtype(dtype).kind == "f" else 5000)).astype(dtype)
    data[20, 20, 7] = -1e18
    with pytest.raises(SceneError, match=r"^odd: the value -1e\+18 is \d+e\+\d+ times the range of nearly all others away; repair it"):
        Scene.from_physical(data, "odd")


@pytest.mark.filterwarnings("error")
def test_values_beyond_float32_are_refused_before_anything_is_done_with_them():
    with pytest.raises(SceneError, match=r"^odd: values reach 1e\+300, beyond what float32 holds; give them smaller units"):
        Scene.from_physical(np.linspace(0, 1e300, 60).reshape(4, 5, 3), "odd")


def test_saturated_or_dark_pixels_are_no_fill_value(rng):
    data = rng.integers(0, 4096, (20, 20, 5))
    data[:4], data[4:8] = 4095, 0
    Scene.from_physical(data, "bright and dark")
    data[10, 10] = 70000
    data[11, 11, 0] = -70000
    Scene.from_physical(data.astype(np.int32), "spikes")


@pytest.mark.parametrize("data", [np.zeros((4, 4)), np.zeros((4, 0, 2)), np.zeros((2, 2, 2), complex)])
def test_what_is_no_cube_is_refused(data):
    with pytest.raises(SceneError, match="^odd: "):
        Scene.from_physical(data, "odd")


def test_sizes_beside_the_cube_must_agree(rng):
    cube = rng.random((4, 5, 3))
    with pytest.raises(SceneError, match="2 wavelengths for 3 bands"):
        Scene(cube, "s", wavelengths=np.array([1.0, 2.0]))
    with pytest.raises(SceneError, match="the wavelengths hold NaN or infinity"):
        Scene(cube, "s", wavelengths=np.array([1.0, np.nan, 3.0]))
    with pytest.raises(SceneError, match=r"no-data mask is \(5, 4\) but must be \(4, 5\)"):
        Scene(cube, "s", nodata=np.zeros((5, 4), bool))


def test_missing_pixels_are_filled_by_reflection_and_do_not_count(rng):
    data = rng.integers(1000, 2000, (12, 12, 4)).astype(np.float32)
    data[:, 5:] = -9999
    missing = data == -9999
    scene = Scene.from_physical(data, "half", missing=missing)
    np.testing.assert_array_equal(scene.nodata, missing[:, :, 0])
    np.testing.assert_allclose(scene.physical()[:, 5:], data[:, [3, 2, 1, 0, 1, 2, 3]], atol=1e-3)
    assert scene.offset >= 1000
    np.testing.assert_array_equal(scene.missing(), missing)
    assert "missing" not in scene.metadata


def test_partly_missing_values_and_empty_bands_are_filled_and_remembered(rng):
    data = rng.random((9, 9, 4))
    missing = np.zeros(data.shape, bool)
    missing[:, :, 2] = True
    missing[4, 4, 0] = True
    data[missing] = np.nan
    scene = Scene.from_physical(data, "gaps", missing=missing)
    assert scene.nodata is None
    np.testing.assert_allclose(scene.cube[:, :, 2], np.median(data[:, :, 1]))
    assert scene.cube[4, 4, 0] in data[2:7, 2:7, 0].astype(np.float32)
    np.testing.assert_array_equal(scene.missing(), missing)


def test_what_reflects_to_missing_pixels_is_filled_from_the_nearest(rng):
    data = rng.random((7, 7, 1))
    missing = np.ones(data.shape, bool)
    missing[3, 3] = False
    np.testing.assert_allclose(Scene.from_physical(data, "one", missing=missing).physical(), data[3, 3, 0], rtol=1e-5)
    missing[:, 3] = False
    filled = Scene.from_physical(data, "column", missing=missing).physical()
    np.testing.assert_allclose(filled, np.broadcast_to(data[:, 3:4], data.shape), rtol=1e-5)


def test_a_cube_without_any_data_is_refused():
    with pytest.raises(SceneError, match="at least one pixel"):
        Scene.from_physical(np.zeros((3, 3, 2)), "void", missing=np.ones((3, 3, 2), bool))


def test_with_cube_keeps_everything_else(rng):
    scene = Scene(rng.random((4, 5, 3)), "s", np.array([400.0, 500, 600]), 2.0, 1.0, metadata={"crs": "x"})
    other = scene.with_cube(np.zeros((4, 5, 3)))
    assert (other.name, other.scale, other.offset, other.metadata) == ("s", 2.0, 1.0, {"crs": "x"})
    np.testing.assert_array_equal(other.wavelengths, scene.wavelengths)
    np.testing.assert_array_equal(other.physical(), 1)
    with pytest.raises(SceneError, match="the new cube is of type Scene; give its .cube"):
        scene.with_cube(other)
    with pytest.raises(SceneError, match=r"\(4, 5, 2\) but the scene is \(4, 5, 3\)"):
        scene.with_cube(np.zeros((4, 5, 2)))


def test_physical_is_a_copy(rng):
    scene = Scene(rng.random((3, 3, 2)), "s")
    before = scene.cube.copy()
    scene.physical()[:] = 7
    np.testing.assert_array_equal(scene.cube, before)


def test_sha256_depends_on_values_and_shape_only(rng):
    cube = rng.random((4, 6, 2)).astype(np.float32)
    scene = Scene(cube, "a")
    assert scene.sha256() == hashlib.sha256(b"(4, 6, 2)" + cube.tobytes()).hexdigest()
    assert scene.sha256() == Scene(np.asfortranarray(cube), "b").sha256()
    assert scene.sha256() != Scene(cube.reshape(6, 4, 2), "a").sha256()
    assert scene.sha256() != Scene(np.nextafter(cube, np.float32(2)), "a").sha256()


def test_a_scene_without_a_good_band_is_refused(rng):
    with pytest.raises(SceneError, match="^x: every band is marked as bad; at least one must be good$"):
        Scene.from_physical(rng.random((6, 5, 4)), "x", bad=np.ones(4, dtype=bool))


@pytest.mark.parametrize("columns", [3, 10])
def test_an_undeclared_border_does_not_set_the_scale(columns):
    """Zeros beside numbers from 2500 to 3500, as of a crop that was rotated."""
    numbers = np.random.default_rng(0).integers(2500, 3500, (40, 40, 5)).astype(np.int16)
    inside = Scene.from_physical(numbers[:, columns:], "inside")
    numbers[:, :columns] = 0
    scene = Scene.from_physical(numbers, "border")
    assert (scene.scale, scene.offset) == (inside.scale, inside.offset)
    np.testing.assert_allclose(scene.physical(), numbers, atol=1e-3)
