"""Every denoiser of the registry, classical, learned and DECSC, keeps the same contract."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from decsc_core import metrics, weights
from decsc_core.denoisers import CubeError, Denoiser, Estimate, registry
from decsc_core.denoisers.registry import METHODS, make
from decsc_core.networks.catalog import LEARNED, build, configure

pytestmark = pytest.mark.parametrize("name", list(METHODS))


@pytest.fixture(scope="module")
def denoiser(tmp_path_factory) -> Callable[[str], Denoiser]:
    """A method by its name; those that learn get the untrained weights of their smallest network."""
    made: dict[str, Denoiser] = {}

    def by_name(name: str) -> Denoiser:
        if name not in made:
            path = None
            if name in LEARNED:
                path = tmp_path_factory.mktemp(name) / "untrained.safetensors"
                weights.save(build(configure(name, "tiny"), torch.Generator().manual_seed(0)), path, {})
            made[name] = make(name, weights=path, device="cpu")
            if name == "mtsnmf":  # on so few pixels it does not settle, and 3,000 iterations take minutes
                made[name].iterations = 10
        return made[name]

    return by_name


def smooth(height: int, width: int, bands: int, rng: np.random.Generator) -> np.ndarray:
    """A smooth cube of rank 3."""
    rows, columns = np.linspace(0, 3, height)[:, None, None], np.linspace(0, 2, width)[None, :, None]
    return 0.5 + 0.2 * np.sin(rows + 2 * columns + rng.random(3) * 6) @ rng.random((3, bands))


def noisy(height: int, width: int, bands: int) -> np.ndarray:
    """A smooth cube with Gaussian noise of another level in each band."""
    rng = np.random.default_rng((height, width, bands))
    clean = smooth(height, width, bands, rng)
    return (clean + rng.normal(0, rng.uniform(0.02, 0.2, bands), clean.shape)).astype(np.float32)


def check(estimate: Estimate, cube: np.ndarray) -> None:
    """The estimate is a finite float32 cube of the same shape, and its record, if there is one, is complete."""
    assert estimate.cube.shape == cube.shape and estimate.cube.dtype == np.float32
    assert np.isfinite(estimate.cube).all()
    for entry in estimate.record or []:
        assert entry.iterations > 0 and entry.residuals and entry.converged in (True, False, None)
        assert np.isfinite(entry.residuals).all()


def test_torchs_default_type_changes_nothing(denoiser, name):
    cube, method = noisy(16, 18, 31), denoiser(name)
    expected = method(cube).cube
    torch.set_default_dtype(torch.float64)
    try:
        other = make(name, weights=method.weights.path if name in LEARNED else None, device="cpu")
        if name == "mtsnmf":
            other.iterations = method.iterations
        found = other(cube).cube
    finally:
        torch.set_default_dtype(torch.float32)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_autocast_changes_nothing(denoiser, name):
    cube, method = noisy(16, 18, 31), denoiser(name)
    expected = method(cube).cube
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_array_equal(method(cube).cube, expected)


def test_it_is_what_the_registry_says(denoiser, name):
    method = denoiser(name)
    assert (method.name, method.kind, method.params > 0) == (name, METHODS[name].kind, METHODS[name].params > 0)
    assert (name in registry.LEARNED) == (name in LEARNED)
    if "sigma" in METHODS[name].options:
        method = make(name, sigma=20)
        assert getattr(method, "method", method).sigma == 20


@pytest.mark.parametrize("bands", [1, 5, 31, 46, 128])
def test_any_number_of_bands(denoiser, name, bands):
    cube = noisy(14, 13, bands)
    check(denoiser(name)(cube), cube)


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (37, 6), (25, 27)])
def test_any_size_also_smaller_than_a_patch(denoiser, name, size):
    cube = noisy(*size, 31)
    check(denoiser(name)(cube), cube)


def test_the_same_cube_gives_the_same_estimate_and_is_not_changed(denoiser, name):
    cube = noisy(20, 22, 31)
    cube.setflags(write=False)
    first = denoiser(name)(cube).cube
    np.testing.assert_array_equal(denoiser(name)(np.asfortranarray(cube.astype(np.float64))).cube, first)


@pytest.mark.filterwarnings("ignore:the cube looks like physical units")
def test_integers_are_what_their_numbers_are(denoiser, name):
    """The other types: test_base.py."""
    cube = (100 * noisy(12, 13, 31)).clip(0, 255).astype("uint8")
    kept = cube.copy()
    estimate = denoiser(name)(cube)
    check(estimate, cube)
    np.testing.assert_array_equal(estimate.cube, denoiser(name)(cube.astype(np.float32)).cube)
    np.testing.assert_array_equal(cube, kept)


def test_constant_bands_stay_finite(denoiser, name):
    cube = noisy(20, 22, 31)
    cube[..., [0, 7]] = 0.4
    cube[..., 30] = 0
    check(denoiser(name)(cube), cube)
    flat = np.full((12, 12, 31), 0.3, np.float32)
    estimate = denoiser(name)(flat)
    check(estimate, flat)
    if METHODS[name].kind in ("model-driven", "band-wise"):
        assert np.abs(estimate.cube - flat).max() < 0.05, "there is nothing to remove"


@pytest.mark.parametrize("spoil, message", [
    (lambda cube: np.where(cube == cube.max(), np.nan, cube), "1 NaN"),
    (lambda cube: np.where(cube == cube.max(), np.inf, cube), "1 infinite"),
    (lambda cube: cube[..., 0], "three axes"),
    (lambda cube: cube[:0], "empty"),
    (lambda cube: cube.astype(complex), "real numbers"),
])
def test_bad_input_is_one_line(denoiser, name, spoil, message):
    with pytest.raises(CubeError, match=message) as error:
        denoiser(name)(spoil(noisy(12, 12, 31)))
    assert "\n" not in str(error.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_denoises_as_well(denoiser, name):
    """Not the same to the last digit: E-3DTV, and a network that does not converge, make 0.1 of 1e-6 here and there."""
    if "device" not in METHODS[name].options:
        pytest.skip(f"{name} runs on the CPU only")
    on_cpu = denoiser(name)
    on_gpu = make(name, device="cuda", **({"weights": on_cpu.weights.path} if name in LEARNED else {}))
    if name == "mtsnmf":
        on_gpu.iterations = on_cpu.iterations
    size = (40, 38, 31)
    clean, cube = smooth(*size, np.random.default_rng(size)), noisy(*size)
    assert metrics.mpsnr(clean, on_gpu(cube).cube) == pytest.approx(metrics.mpsnr(clean, on_cpu(cube).cube), abs=0.2)
