from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from decsc_core.denoisers.device import spare_memory
from decsc_core.denoisers.learned import VOXEL_BYTES, Learned, largest_tile
from decsc_core.denoisers.tiling import pieces, ramp, reflect_bands, starts
from decsc_core.networks.catalog import build, configure
from decsc_core.weights import Weights


@pytest.mark.parametrize(("length", "piece", "step"), [(5, 9, 4), (9, 9, 4), (10, 9, 4), (46, 31, 15), (128, 31, 15), (1000, 256, 224)])
def test_pieces_cover_everything_without_leaving_the_image(length: int, piece: int, step: int) -> None:
    first = starts(length, piece, step)
    covered = np.zeros(length, dtype=int)
    for start in first:
        covered[start : start + piece] += 1
    assert covered.min() >= 1
    assert first[0] == 0 and first[-1] == max(length - piece, 0)
    assert all(b - a <= step for a, b in zip(first, first[1:]))


def test_forty_six_bands_take_two_windows_as_in_the_paper() -> None:
    assert starts(46, 31, 15) == [0, 15]


def test_ramp_is_symmetric_positive_and_flat_inside() -> None:
    weights = ramp(20, 4)
    np.testing.assert_allclose(weights, weights[::-1])
    np.testing.assert_allclose(weights[:5], [0.2, 0.4, 0.6, 0.8, 1.0])
    assert (weights[4:-4] == 1).all() and weights.min() > 0


def test_few_bands_are_reflected_without_repeating_the_last() -> None:
    cube = np.arange(3.0)[None, None]
    np.testing.assert_array_equal(reflect_bands(cube, 6)[0, 0], [0, 1, 2, 1, 0, 1])
    assert reflect_bands(cube, 2).shape[2] == 3
    np.testing.assert_array_equal(reflect_bands(cube[..., :1], 4)[0, 0], [0, 0, 0, 0])


@pytest.mark.parametrize("shape, tile, sides", [
    ((304, 304, 31), 256, (168, 168)),  # two tiles a side that share 32 pixels, not two of 256
    ((40, 700, 46), 256, (40, 255)), ((65, 64, 40), 64, (41, 64)), ((9, 7, 31), 1, (1, 1)),
])
def test_pieces_are_no_larger_than_needed(shape, tile, sides) -> None:
    covered = np.zeros(shape)
    for where, blend in pieces(shape, tile, 32, 31):
        assert covered[where].shape == (*sides, 31) and blend.shape == (*sides, 1)
        covered[where] += blend
    assert covered.min() > 0


def test_a_network_for_one_band_takes_them_one_by_one() -> None:
    assert [(where[2].start, where[2].stop) for where, _ in pieces((8, 8, 3), 8, 2, 1)] == [(0, 1), (1, 2), (2, 3)]


def test_the_blend_of_neighbours_is_even() -> None:
    total = np.zeros((304, 304, 31))
    for where, blend in pieces(total.shape, 256, 32, 31):
        total[where] += blend
    np.testing.assert_allclose(total[40:-40, 40:-40], 1, rtol=1e-6)


def test_the_peers_tiles_fit_the_memory_that_they_may_take() -> None:
    cpu = torch.device("cpu")
    assert [largest_tile(bands, cpu) for bands in (1, 31, 191, 10**6)] == [512, 320, 128, 32]


def test_a_peer_cuts_a_large_image_where_it_would_not_fit(monkeypatch) -> None:
    monkeypatch.setattr("decsc_core.denoisers.learned.CPU_BYTES", VOXEL_BYTES * 64**2 * 31)
    model = build(configure("qrnn3d", "tiny")).eval()
    seen = []
    model.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape[-2:]))
    cube = np.random.default_rng(0).random((96, 48, 31), dtype=np.float32)
    one = Weights("qrnn3d", model, {}, "", Path("x"))
    Learned(one, device="cpu")(cube)
    assert len(seen) == 2 and max(seen[0]) <= 64
    monkeypatch.undo()
    Learned(one, device="cpu")(cube)
    assert tuple(seen[2]) == (96, 48)


def test_what_torch_keeps_on_a_gpu_for_tensors_to_come_counts_as_free(monkeypatch) -> None:
    gib = 2**30
    for name, value in {"mem_get_info": (4 * gib, 24 * gib), "memory_reserved": 10 * gib, "memory_allocated": 2 * gib}.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    assert spare_memory(torch.device("cuda"), 0) == 6 * gib
    assert spare_memory(torch.device("cpu"), 7) == 7
