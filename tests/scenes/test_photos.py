from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from decsc_core.scenes import SceneError, photos

NAMES = tuple(photos.CROPS)


@pytest.fixture(scope="module")
def scenes():
    return {name: photos.build(name) for name in NAMES}


def rank(cube: np.ndarray, energy: float = 0.9999) -> int:
    """Number of singular values of the (pixels x bands) matrix that hold `energy` of its squared norm."""
    pixels = cube.reshape(-1, cube.shape[2]).astype(np.float64)
    powers = np.linalg.eigvalsh(pixels.T @ pixels)[::-1]
    return int(np.searchsorted(np.cumsum(powers) / powers.sum(), energy)) + 1


@pytest.mark.parametrize("name", NAMES)
def test_a_scene_is_a_cube_like_those_of_cave(scenes, name):
    scene = scenes[name]
    height, width, bands = scene.cube.shape
    assert 128 <= height <= 256 and 128 <= width <= 256 and bands == 31
    np.testing.assert_array_equal(scene.wavelengths, np.arange(400, 701, 10))
    assert scene.cube.min() >= 0 and scene.cube.max() <= 1
    assert (scene.cube == 1).mean() < 1e-3, "reflectances stay in [0, 1] by themselves, not by clipping"
    assert scene.cube.std() > 0.02
    assert (scene.scale, scene.offset) == (1.0, 0.0)


@pytest.mark.parametrize("name", NAMES)
def test_the_numerical_rank_is_near_caves_median_of_10(scenes, name):
    assert 8 <= rank(scenes[name].cube) <= 13


def test_the_rank_of_cave_is_as_documented(shared):
    ranks = []
    for name in ("sponges", "oil_painting", "cd"):
        with np.load(shared / "data" / f"cave_{name}.npz") as archive:
            ranks.append(rank(archive["cube"] * float(archive["scale"])))
    assert ranks == [5, 11, 25]


@pytest.mark.parametrize("name", NAMES)
def test_spectra_are_smooth(scenes, name):
    cube = scenes[name].cube.astype(np.float64)
    roughness = np.sqrt((np.diff(cube, n=2, axis=2) ** 2).mean() / (cube**2).mean())
    shuffled = cube[:, :, np.random.default_rng(0).permutation(31)]
    assert roughness < 0.2, "CAVE has 0.04 to 0.19"
    assert roughness < np.sqrt((np.diff(shuffled, n=2, axis=2) ** 2).mean() / (cube**2).mean()) / 3


def test_materials_differ_between_regions_and_keep_the_photograph(scenes):
    cube = scenes["chelsea"].cube
    grey = cube.mean(axis=2)
    spectra = cube[grey > 0.1] / grey[grey > 0.1, None]
    assert spectra.std(axis=0).min() > 0.03
    from skimage import data

    photo = data.chelsea()[:300:2, :450:2].mean(axis=2)
    assert np.corrcoef(np.sqrt(grey).ravel(), photo.ravel())[0, 1] > 0.8


def test_the_same_scene_every_time(scenes):
    assert photos.build("coffee").sha256() == scenes["coffee"].sha256()


def test_crops_of_a_photograph_do_not_overlap_and_stay_in_one_split():
    split_of = {name: split for split, names in photos.SPLITS.items() for name in names}
    assert sorted(split_of) == sorted(NAMES)
    for first in NAMES:
        for second in NAMES:
            a, b = photos.CROPS[first], photos.CROPS[second]
            if first < second and a.photo == b.photo:
                assert split_of[first] == split_of[second]
                apart_in_rows = a.rows[1] <= b.rows[0] or b.rows[1] <= a.rows[0]
                apart_in_columns = a.columns[1] <= b.columns[0] or b.columns[1] <= a.columns[0]
                assert apart_in_rows or apart_in_columns


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(SceneError, match="'teapot' is not an embedded scene; there are astronaut, "):
        photos.build("teapot")


def test_nothing_is_fetched_even_with_an_empty_cache(tmp_path):
    script = (
        "import socket\n"
        "def refuse(*args, **kwargs): raise OSError('no network in this test')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "from decsc_core.scenes import photos\n"
        "for name in photos.CROPS: photos.build(name)\n"
        "print('built')\n"
    )
    caches = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "SKIMAGE_DATADIR": str(tmp_path / "none")}
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **caches}, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "built", done.stderr
    assert not [file for file in tmp_path.rglob("*") if file.suffix in (".png", ".jpg", ".npz")]


def test_building_leaves_the_digits_of_csv_files_alone():
    script = """
import pandas as pd
from decsc_core.scenes import photos
photos.build("chelsea")
print(pd.DataFrame({"x": [1 / 3]}).to_csv(index=False))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["x", "0.3333333333333333"]
