"""The noise cases give the levels the paper prints, touch the bands they should, and repeat from a seed."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import torch

from decsc_core.noise import CASES, LEVELS, add_noise

NAMES = ["gauss-15", "gauss-55", "gauss-95", "mixture", "mixture-disjoint", "mixture-independent", "corr"]


def grey(height: int = 64, width: int = 64, bands: int = 31) -> np.ndarray:
    return np.full((height, width, bands), 0.5, np.float32)


def band_mean_psnr(clean: np.ndarray, noisy: np.ndarray) -> float:
    error = ((noisy.astype(float) - clean) ** 2).mean(axis=(0, 1))
    return float(np.mean(-10 * np.log10(error)))


def touched(degradation) -> tuple[set, set, set]:
    return set(degradation.impulse), set(degradation.stripes), set(degradation.deadlines)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_corr_gives_the_level_of_table_2(seed):
    clean = np.random.default_rng(100 + seed).random((160, 160, 31), dtype=np.float32)
    noisy, degradation = add_noise(clean, "corr", np.random.default_rng(seed))
    assert band_mean_psnr(clean, noisy) == pytest.approx(28.22, abs=0.02)
    assert min(degradation.sigmas) == pytest.approx(1.83, abs=0.005)
    assert max(degradation.sigmas) == pytest.approx(23.02, abs=0.005)


@pytest.mark.parametrize("highest", [15, 55, 95])
def test_non_iid_gaussian_expected_level(highest):
    """sigma = s u with u uniform, so the mean PSNR is 20 log10(255 / s) + 20 / ln 10: 33.29, 22.01, 17.26 dB."""
    clean = grey(24, 24)
    rng = np.random.default_rng(highest)
    levels = [band_mean_psnr(clean, add_noise(clean, f"gauss-{highest}", rng)[0]) for _ in range(400)]
    expected = 20 * math.log10(255 / highest) + 20 / math.log(10)
    standard_error = np.std(levels) / math.sqrt(len(levels))
    assert standard_error < 0.1
    assert np.mean(levels) == pytest.approx(expected, abs=4 * standard_error)


@pytest.mark.parametrize("case", ["gauss-15", "gauss-55", "gauss-95", "corr"])
def test_recorded_sigmas_are_those_of_the_noise(case):
    clean = grey(200, 200)
    noisy, degradation = add_noise(clean, case, np.random.default_rng(3))
    error = (noisy - clean).reshape(-1, 31).astype(float)
    sigmas = np.array(degradation.sigmas) / 255
    np.testing.assert_allclose(error.std(axis=0), sigmas, rtol=0.02)
    np.testing.assert_array_less(np.abs(error.mean(axis=0)), 5 * sigmas / 200)
    correlation = np.corrcoef(error, rowvar=False) - np.eye(31)
    assert np.abs(correlation).max() < 5 / 200
    standardised = error / sigmas
    assert np.mean(standardised**4) == pytest.approx(3, abs=0.05)


def test_sigmas_of_gauss_95_fill_the_interval():
    rng = np.random.default_rng(0)
    sigmas = np.concatenate([add_noise(grey(2, 2), "gauss-95", rng)[1].sigmas for _ in range(200)])
    assert 0 <= sigmas.min() < 1 and 94 < sigmas.max() <= 95
    assert sigmas.mean() == pytest.approx(47.5, abs=4 * 27.4 / math.sqrt(sigmas.size))


def test_mixture_level_on_dim_scenes_is_near_table_2():
    """Table II prints 13.21 dB; the exact value depends on the scene through the impulses and deadlines."""
    rng = np.random.default_rng(1)
    clean = np.clip(rng.gamma(2, 0.1, (64, 64, 31)), 0, 1).astype(np.float32)
    levels = [band_mean_psnr(clean, add_noise(clean, "mixture", rng)[0]) for _ in range(60)]
    assert np.mean(levels) == pytest.approx(13.2, abs=1.5)


@pytest.mark.parametrize("bands", [1, 2, 3, 5, 31, 46, 128])
@pytest.mark.parametrize("case", ["mixture-disjoint", "mixture-independent"])
def test_each_structured_noise_takes_a_third_of_the_bands(case, bands):
    _, degradation = add_noise(grey(20, 20, bands), case, np.random.default_rng(bands))
    for of_one_kind in touched(degradation):
        assert len(of_one_kind) == bands // 3
        assert of_one_kind <= set(range(bands))


def test_disjoint_thirds_never_meet_and_independent_ones_do():
    overlaps = {"mixture-disjoint": 0, "mixture-independent": 0}
    for case in overlaps:
        rng = np.random.default_rng(5)
        for _ in range(20):
            impulse, stripes, deadlines = touched(add_noise(grey(8, 8), case, rng)[1])
            overlaps[case] += len(impulse & stripes) + len(stripes & deadlines) + len(impulse & deadlines)
    assert overlaps["mixture-disjoint"] == 0
    assert overlaps["mixture-independent"] > 20


def test_bands_are_drawn_anew_each_time():
    rng = np.random.default_rng(6)
    counts = np.zeros(31)
    for _ in range(200):
        counts[list(add_noise(grey(8, 8), "mixture", rng)[1].deadlines)] += 1
    expected = 200 * 10 / 31
    assert np.all(np.abs(counts - expected) < 5 * math.sqrt(expected))


def test_mixture_does_to_each_band_what_its_record_says():
    clean = grey(100, 120)
    noisy, degradation = add_noise(clean, "mixture", np.random.default_rng(7))
    extreme = (noisy == 0) | (noisy == 1)
    for band, fraction in degradation.impulse.items():
        spread = 5 * math.sqrt(0.25 / (100 * 120))
        assert extreme[..., band].mean() == pytest.approx(fraction, abs=spread)
        assert (noisy[..., band] == 1).mean() == pytest.approx(fraction / 2, abs=spread)
    for band, offsets in degradation.stripes.items():
        assert 6 <= len(offsets) < 18
        column_error = (noisy - clean)[..., band].mean(axis=0)
        tolerance = 5 * degradation.sigmas[band] / 255 / math.sqrt(100) + 1e-6
        expected = np.array([offsets.get(column, 0.0) for column in range(120)])
        np.testing.assert_allclose(column_error, expected, atol=tolerance)
    for band, columns in degradation.deadlines.items():
        assert 6 <= len(columns) < 18
        assert np.flatnonzero((noisy[..., band] == 0).all(axis=0)).tolist() == list(columns)


def test_what_the_mixture_draws_covers_its_ranges():
    rng = np.random.default_rng(8)
    drawn = [add_noise(grey(4, 64), "mixture", rng)[1] for _ in range(100)]
    assert {fraction for one in drawn for fraction in one.impulse.values()} == {0.1, 0.3, 0.5, 0.7}
    offsets = np.array([value for one in drawn for band in one.stripes.values() for value in band.values()])
    assert -0.25 <= offsets.min() < -0.24 and 0.24 < offsets.max() <= 0.25
    assert {len(band) for one in drawn for band in one.stripes.values()} == set(range(3, 9))
    assert {len(columns) for one in drawn for columns in one.deadlines.values()} == set(range(4, 10))


@pytest.mark.parametrize("case", NAMES)
def test_a_seed_repeats_and_another_does_not(case):
    clean = grey(16, 16)
    first, record = add_noise(clean, case, np.random.default_rng(0))
    again, same_record = add_noise(clean, case, np.random.default_rng(0))
    other, _ = add_noise(clean, case, np.random.default_rng(1))
    np.testing.assert_array_equal(first, again)
    assert record == same_record
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", NAMES)
def test_the_clean_cube_is_untouched_and_the_noisy_one_unclipped(case, dtype):
    clean = np.random.default_rng(0).random((32, 32, 12)).astype(dtype)
    before = clean.copy()
    clean.setflags(write=False)
    noisy, _ = add_noise(clean, case, np.random.default_rng(0))
    np.testing.assert_array_equal(clean, before)
    assert noisy.shape == clean.shape and noisy.dtype == np.float32
    assert noisy.min() < 0 and noisy.max() > 1


@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 1, 5), (1, 7, 4), (3, 4, 46), (9, 10, 128)])
@pytest.mark.parametrize("case", NAMES)
def test_any_shape_works(case, shape):
    for seed in range(10):
        noisy, degradation = add_noise(np.full(shape, 0.5, np.float32), case, np.random.default_rng(seed))
        assert noisy.shape == shape and np.isfinite(noisy).all()
        assert len(degradation.sigmas) == shape[2]


@pytest.mark.parametrize("case", NAMES)
def test_the_record_survives_json(case):
    _, degradation = add_noise(grey(20, 20), case, np.random.default_rng(0))
    record = json.loads(json.dumps(degradation.to_json()))
    assert record["case"] == ("mixture-disjoint" if case == "mixture" else case)
    assert tuple(record["sigmas"]) == degradation.sigmas
    assert {int(band): fraction for band, fraction in record["impulse"].items()} == degradation.impulse
    assert {int(band): tuple(columns) for band, columns in record["deadlines"].items()} == degradation.deadlines
    for band, offsets in degradation.stripes.items():
        stored = record["stripes"][str(band)]
        assert dict(zip(stored["columns"], stored["offsets"])) == offsets


def test_mixture_is_the_disjoint_reading():
    first, record = add_noise(grey(16, 16), "mixture", np.random.default_rng(0))
    second, same_record = add_noise(grey(16, 16), "mixture-disjoint", np.random.default_rng(0))
    np.testing.assert_array_equal(first, second)
    assert record == same_record


@pytest.mark.parametrize("case", NAMES)
def test_a_level_scales_the_gaussian_part_only(case):
    clean = grey(20, 40)
    paper, record = add_noise(clean, case, np.random.default_rng(4))
    same, _ = add_noise(clean, case, np.random.default_rng(4), LEVELS[case])
    np.testing.assert_array_equal(same, paper)
    half, weaker = add_noise(clean, case, np.random.default_rng(4), LEVELS[case] / 2)
    np.testing.assert_allclose(weaker.sigmas, np.array(record.sigmas) / 2)
    assert (weaker.impulse, weaker.stripes, weaker.deadlines) == (record.impulse, record.stripes, record.deadlines)
    if not record.impulse:
        np.testing.assert_allclose(half - clean, (paper - clean) / 2, atol=1e-6)
        np.testing.assert_array_equal(add_noise(clean, case, np.random.default_rng(4), 0)[0], clean)


@pytest.mark.parametrize("level", [-1, float("nan"), float("inf")])
def test_a_level_below_zero_or_without_end_is_refused(level):
    with pytest.raises(ValueError, match="at least 0"):
        add_noise(grey(), "corr", np.random.default_rng(0), level)


def test_an_unknown_case_lists_the_known_ones():
    with pytest.raises(ValueError, match="salt") as error:
        add_noise(grey(), "salt", np.random.default_rng(0))
    assert all(name in str(error.value) for name in NAMES)
    assert set(CASES) == set(NAMES)


@pytest.mark.parametrize("case", NAMES)
def test_a_single_image_is_refused(case):
    with pytest.raises(ValueError, match=r"\(H, W, B\).*\(4, 4\)"):
        add_noise(np.zeros((4, 4), np.float32), case, np.random.default_rng(0))


@pytest.mark.parametrize("convert", [np.ndarray.tolist, torch.from_numpy, np.ma.array])
def test_whatever_holds_real_numbers_is_taken(convert):
    clean = np.random.default_rng(0).random((8, 9, 6))
    for case in NAMES:
        expected, record = add_noise(clean, case, np.random.default_rng(1))
        noisy, same_record = add_noise(convert(clean), case, np.random.default_rng(1))
        np.testing.assert_array_equal(noisy, expected)
        assert type(noisy) is np.ndarray and record == same_record


@pytest.mark.parametrize(
    ("cube", "message"),
    [
        (grey(4, 4, 6) + 1j, "real numbers, not complex"),
        ([[["a", "b"]]], "real numbers, not <U1"),
        (None, "real numbers, not object"),
        ([[[1.0], [1.0, 2.0]]], "inhomogeneous"),
        (torch.zeros(4, 4, 6, requires_grad=True), "requires grad"),
        (torch.zeros(4, 4, 6, dtype=torch.bfloat16), "BFloat16"),
        (np.ma.masked_less(np.arange(96.0).reshape(4, 4, 6), 3), "masked"),
        (np.zeros((4, 0, 6)), r"empty.*\(4, 0, 6\)"),
        (np.where(np.arange(96).reshape(4, 4, 6) < 2, np.nan, 0.5), "2 of 96 values .* NaN"),
        (np.where(np.arange(96).reshape(4, 4, 6) < 1, -np.inf, 0.5), "1 of 96 values"),
        (np.where(np.arange(96).reshape(4, 4, 6) < 1, 1e39, 0.5), "1 of 96 values"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_is_no_cube_of_finite_numbers_is_refused_in_one_line(cube, message):
    for case, level in itertools.product(NAMES, (None, 10)):
        with pytest.raises(ValueError, match=message) as error:
            add_noise(cube, case, np.random.default_rng(0), level)
        assert "\n" not in str(error.value)
