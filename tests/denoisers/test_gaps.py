"""Scenes with areas or bands without data: what is there is denoised as if it were alone."""

from __future__ import annotations

import numpy as np
import pytest

from decsc_core import metrics
from decsc_core.denoisers.registry import make
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


@pytest.mark.parametrize(("name", "declared"), [*((name, True) for name in METHODS), *((name, False) for name in ("tv", "wavelet", "nlm", "bm4d"))])
def test_an_area_without_data_does_not_spoil_the_rest(name, declared, clean, noisy):
    cube = noisy.copy()
    if declared:
        missing = np.zeros(cube.shape, bool)
        missing[KEPT:] = True
        cube = Scene.from_physical(cube, "gap", missing=missing).cube
    else:
        cube[KEPT:] = 0.5
    method = make(name)
    alone = metrics.mpsnr(clean[:KEPT], method(noisy[:KEPT]).cube)
    assert alone > metrics.mpsnr(clean, noisy) + 3
    # What cannot be told from signal differs a little: a regression over the pixels, low rank, an edge where the area begins.
    assert metrics.mpsnr(clean[:KEPT], method(cube).cube[:KEPT]) > alone - (0.6 if declared else 3)


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
    method = make(name)
    found = method(cube).cube
    np.testing.assert_array_equal(found[:, :, alive], method(np.ascontiguousarray(cube[:, :, alive])).cube)
    np.testing.assert_array_equal(found[:, :, dead], cube[:, :, dead])
