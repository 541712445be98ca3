"""NGMeet against the original's results."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch

from decsc_core.denoisers.classical import ngmeet
from decsc_core.denoisers.classical.ngmeet import NGMeet, spectral_basis
from decsc_core.metrics import mpsnr

QUICK = dict(iterations=3, group=40, half_window=8)


@pytest.mark.slow
@pytest.mark.parametrize("cube", ["a_mixture", "b_gauss"])
def test_the_original_is_reproduced_but_for_signs(golden, cube):
    """The original's scores depend on the signs that its singular value decomposition happens to give."""
    gains = golden.gains("ngmeet", cube, NGMeet(sigma=golden.sigma(cube))(golden.noisy(cube)).cube)
    assert -0.05 < gains["psnr"] < 0.2
    assert -0.005 < gains["ssim"] < 0.016 and -0.005 < gains["ssim_gauss"] < 0.016
    assert abs(gains["sam"]) < 0.005


@pytest.mark.slow
@pytest.mark.parametrize("cube", ["a_gauss", "b_mixture"])
def test_the_original_is_reproduced_with_its_signs(golden, cube, monkeypatch):
    """Those of LAPACK's gesdd with the pixels column by column; the cubes need different rows of the table."""

    def basis(cube: torch.Tensor, size: int) -> torch.Tensor:
        matrix = cube.permute(2, 1, 0).flatten(1).double().numpy()
        vectors = scipy.linalg.svd(matrix, full_matrices=False, lapack_driver="gesdd")[0][:, :size]
        return torch.from_numpy(vectors.copy()).to(cube)

    monkeypatch.setattr(ngmeet, "spectral_basis", basis)
    gains = golden.gains("ngmeet", cube, NGMeet(sigma=golden.sigma(cube))(golden.noisy(cube)).cube)
    assert all(abs(gain) < 1e-3 for gain in gains.values())


@pytest.mark.parametrize("size", [1, 4, 6])
def test_the_basis_is_that_of_a_singular_value_decomposition(size):
    cube = torch.from_numpy(np.random.default_rng(0).normal(0.5, 1, (5, 7, 6)))
    expected = np.linalg.svd(cube.numpy().reshape(35, 6).T)[0][:, :size]
    expected *= np.where(expected.sum(0) < 0, -1, 1)
    np.testing.assert_allclose(spectral_basis(cube, size), expected, atol=1e-10)
    assert spectral_basis(cube.float(), size).dtype == torch.float32


@pytest.mark.parametrize(("sigma", "bands", "expected"), [
    (10.1, 50, (8, 150, 0.54, 5)), (30.1, 31, (6, 150, 0.56, 5)), (50.1, 31, (5, 150, 0.56, 5)),
    (50.2, 31, (4, 200, 0.58, 5)), (5, 51, (6, 150, 0.54, 5)), (30, 100, (6, 150, 0.56, 5)),
    (40, 100, (5, 150, 0.58, 5)), (60, 100, (4, 200, 0.58, 5)), (5, 101, (5, 150, 0.54, 8)),
    (20, 200, (6, 150, 0.56, 8)), (40, 200, (5, 150, 0.58, 8)), (60, 300, (4, 200, 0.58, 8)),
])
def test_parameters_come_from_the_tables(sigma, bands, expected):
    p = NGMeet().parameters(sigma, bands)
    *others, strength = expected
    assert p == dict(zip(("subspace", "group", "noise_factor"), others), strength=pytest.approx(strength * 2**0.5))
    assert NGMeet(group=77).parameters(sigma, bands) == p | {"group": 77}


def test_the_estimate_lies_in_the_grown_subspace(noisy_ramp):
    _, noisy = noisy_ramp(20, 21, 9)
    for growth, rank in ((0, 2), (1, 4), (20, 9)):
        estimate = NGMeet(sigma=25, subspace=2, growth=growth, **QUICK)(noisy).cube.reshape(-1, 9)
        values = np.linalg.svd(estimate.astype(float), compute_uv=False)
        assert np.count_nonzero(values > 1e-5 * values[0]) <= rank
        assert values[min(rank, 9) - 1] > 1e-5 * values[0]


def test_iterations_are_recorded(noisy_ramp):
    _, noisy = noisy_ramp(16, 17, 5)
    (record,) = NGMeet(**QUICK)(noisy).record
    assert record.iterations == len(record.residuals) == 3 and record.converged is None


def test_noise_goes_down_and_the_cube_is_left_alone(noisy_ramp):
    clean, noisy = noisy_ramp(32, 30, 8)
    before, estimate = noisy.copy(), NGMeet(**QUICK)(noisy).cube
    assert mpsnr(clean, estimate) > mpsnr(clean, noisy) + 8
    np.testing.assert_array_equal(noisy, before)
    np.testing.assert_array_equal(NGMeet(**QUICK)(noisy).cube, estimate)


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (1, 1, 31), (2, 3, 4), (9, 1, 5), (13, 17, 1), (15, 11, 31), (8, 9, 46), (7, 9, 128)]
)
def test_any_size_and_number_of_bands(noisy_ramp, shape):
    _, noisy = noisy_ramp(*shape)
    estimate = NGMeet(sigma=25, **QUICK)(noisy).cube
    assert estimate.shape == shape and estimate.dtype == np.float32 and np.isfinite(estimate).all()


def test_a_constant_cube_comes_back():
    flat = np.full((12, 13, 6), 0.4, np.float32)
    np.testing.assert_array_equal(NGMeet()(flat).cube, flat)
    np.testing.assert_allclose(NGMeet(sigma=25, **QUICK)(flat).cube, 0.4, atol=1e-3)


def test_a_constant_band_among_others_stays_near(noisy_ramp):
    _, noisy = noisy_ramp(24, 24, 6)
    noisy[..., 2] = 0.7
    assert np.abs(NGMeet(sigma=25, **QUICK)(noisy).cube[..., 2].mean() - 0.7) < 0.1


@pytest.mark.parametrize("wrong", [
    {"sigma": 0}, {"subspace": 0}, {"growth": -1}, {"growth": 0.5}, {"group": 0}, {"noise_factor": 0},
    {"strength": -1}, {"patch": 0}, {"step": 6}, {"step": 0}, {"half_window": 0}, {"iterations": 0}, {"feedback": 1},
    {"feedback": -0.1}, {"device": "abacus"},
])
def test_wrong_parameters_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))) as refused:
        NGMeet(**wrong)
    assert "\n" not in str(refused.value)
