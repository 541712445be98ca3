from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tqdm.auto import tqdm

from decsc_core import metrics, noise
from decsc_core import weights as files
from decsc_core.denoisers.base import CubeError
from decsc_core.denoisers.equilibrium import Equilibrium, _record
from decsc_core.denoisers.tiling import OVERLAP, pieces
from decsc_core.denoisers.registry import METHODS, make
from decsc_core.deq import Solution
from decsc_core.model import DECSC, Output, SolverConfig, preset
from decsc_core.scenes import load_scene, scene_names


@pytest.fixture(scope="module")
def tiny() -> files.Weights:
    """An untrained tiny network, its dictionaries scaled down so that f contracts and rounding is not amplified."""
    model = DECSC(preset("tiny", bands=7), torch.Generator().manual_seed(1)).eval()
    with torch.no_grad():
        for kernel in (*model.shared.copies.values(), *model.unshared.copies.values()):
            kernel *= 0.3
    return files.Weights("decsc", model, {}, "0" * 64, Path("tiny.safetensors"))


@pytest.fixture
def cube() -> np.ndarray:
    return np.random.default_rng(0).random((33, 26, 7), dtype=np.float32)


@pytest.fixture
def unshrunk(monkeypatch) -> None:
    """The denoiser without its last step."""
    monkeypatch.setattr("decsc_core.denoisers.equilibrium.wiener", lambda estimate, *_: estimate)


@pytest.mark.parametrize("shape", [(1, 1, 7), (5, 40, 7), (33, 26, 1), (33, 26, 5), (20, 21, 13), (9, 9, 46)])
def test_any_size_and_band_count_keeps_its_shape(tiny, shape: tuple[int, int, int]) -> None:
    noisy = np.random.default_rng(1).random(shape, dtype=np.float32)
    before = noisy.copy()
    estimate = Equilibrium(tiny)(noisy)
    assert estimate.cube.shape == shape and estimate.cube.dtype == np.float32
    assert np.isfinite(estimate.cube).all()
    np.testing.assert_array_equal(noisy, before)


@pytest.mark.filterwarnings("ignore:the cube looks like physical units")
def test_a_network_that_diverges_is_told_in_one_line(cube) -> None:
    with pytest.raises(RuntimeError, match="^decsc diverged: "):
        make("decsc", bands=7)(cube * 1e10)
    model = DECSC(preset("tiny", bands=7))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1e30)
    with pytest.raises(RuntimeError, match="^decsc diverged: the first codes are not finite"):
        Equilibrium(files.Weights("decsc", model, {}, "0" * 64, Path("w.safetensors")))(cube)


def test_one_tile_is_the_network_itself(tiny, cube, unshrunk) -> None:
    image = torch.from_numpy(cube.transpose(2, 0, 1)[None])
    with torch.no_grad():
        expected = tiny.model(image).image[0].numpy().transpose(1, 2, 0)
    np.testing.assert_allclose(Equilibrium(tiny)(cube).cube, expected, atol=1e-6)


def test_the_misfit_of_few_bands_is_told_from_them_and_not_from_reflections(tiny, cube, unshrunk) -> None:
    few = torch.from_numpy(cube[..., :4].transpose(2, 0, 1)[None])
    with torch.no_grad():
        parts = tiny.model.without_misfit(few[:, [0, 1, 2, 3, 2, 1, 0]]).image[:, :4]
        expected = tiny.model.with_misfit(parts, few)[0].numpy().transpose(1, 2, 0)
    np.testing.assert_allclose(Equilibrium(tiny)(cube[..., :4]).cube, expected, atol=1e-6)


def test_band_windows_are_averaged(tiny, unshrunk) -> None:
    noisy = np.random.default_rng(2).random((15, 15, 10), dtype=np.float32)
    denoise = Equilibrium(tiny)
    first, second = denoise(noisy[..., :7]).cube, denoise(noisy[..., 3:]).cube
    both = denoise(noisy)
    assert len(both.record) == 2
    np.testing.assert_allclose(both.cube[..., :3], first[..., :3], atol=1e-6)
    np.testing.assert_allclose(both.cube[..., 3:7], (first[..., 3:] + second[..., :4]) / 2, atol=1e-6)
    np.testing.assert_allclose(both.cube[..., 7:], second[..., 4:], atol=1e-6)


def test_more_shifts_change_the_answer_and_spread_is_their_deviation(tiny, cube, unshrunk) -> None:
    one = Equilibrium(tiny, shifts=1, spread=True)(cube)
    nine = Equilibrium(tiny, shifts=9, spread=True)(cube)
    assert np.abs(one.cube - nine.cube).max() > 1e-4
    assert one.spread.max() == 0
    image = torch.from_numpy(cube.transpose(2, 0, 1)[None])
    with torch.no_grad():
        single = torch.cat([tiny.model.without_misfit(image, [shift]).image for shift in Equilibrium(tiny, shifts=9).shifts])
        expected = tiny.model.with_misfit(single.mean(0, keepdim=True), image)[0]
    np.testing.assert_allclose(nine.spread, single.std(0, correction=0).permute(1, 2, 0), atol=2e-4)
    np.testing.assert_allclose(nine.cube, expected.permute(1, 2, 0), atol=2e-4)


def test_a_deviation_far_below_the_values_is_not_lost_in_rounding(tiny, cube, monkeypatch) -> None:
    denoise = Equilibrium(tiny, shifts=9, device="cpu")
    values = dict(zip(denoise.shifts, 0.8 + 1e-4 * torch.arange(9)))

    def copies(image: torch.Tensor, shifts: list) -> Output:
        own = torch.stack([values[shift] for shift in shifts])
        return Output(own.mean().expand_as(image), own.std(correction=0).expand_as(image), None)

    monkeypatch.setattr(tiny.model, "without_misfit", copies)
    _, spread, _ = denoise._solve(tiny.model, torch.from_numpy(cube.transpose(2, 0, 1)[None]), tqdm(disable=True))
    np.testing.assert_allclose(spread, 1e-4 * np.arange(9).std(), rtol=1e-2)


def test_memory_bound_changes_nothing_but_the_chunks(tiny, cube, monkeypatch) -> None:
    whole = Equilibrium(tiny, shifts=9)(cube)
    monkeypatch.setattr("decsc_core.denoisers.equilibrium.CPU_BYTES", 1)
    denoise = Equilibrium(tiny, shifts=9)
    assert denoise.tile == 32
    denoise.tile = 64
    chunked = denoise(cube)
    np.testing.assert_allclose(chunked.cube, whole.cube, atol=2e-4)
    assert chunked.record[0].iterations == whole.record[0].iterations
    np.testing.assert_allclose(chunked.record[0].residuals, whole.record[0].residuals, rtol=1e-2)


def test_record_tells_when_the_solver_gave_up(tiny, cube) -> None:
    hurried = replace(tiny.model.config, solver=replace(tiny.model.config.solver, max_iter=2))
    model = DECSC(hurried)
    model.load_state_dict(tiny.model.state_dict())
    record = Equilibrium(replace(tiny, model=model))(cube).record[0]
    assert record.iterations == 2 and len(record.residuals) == 2 and not record.converged


def test_the_record_is_that_of_the_worst_copy_of_all_chunks() -> None:
    def solution(residuals: list[list[float]], iterations: list[int], converged: list[bool]) -> Solution:
        return Solution(None, torch.tensor(residuals), torch.tensor(iterations), torch.tensor(converged))

    record = _record([solution([[0.5, 0.25], [0.125, 0.0625]], [2, 1], [True, True]), solution([[0.25], [0.5], [0.03125]], [3], [True])])
    assert (record.residuals, record.iterations, record.converged) == ([0.5, 0.5, 0.125], 3, True)
    assert _record([solution([[0.5]], [1], [True]), solution([[0.5]], [1], [False])]).converged is False


def test_a_cpu_takes_few_copies_at_a_time_and_never_one_left_over(tiny, cube, monkeypatch) -> None:
    taken = []
    plain = tiny.model.without_misfit
    monkeypatch.setattr(tiny.model, "without_misfit", lambda image, shifts: taken.append(shifts) or plain(image, shifts))
    for count in (1, 4, 7, 9):
        taken.clear()
        Equilibrium(tiny, shifts=count, device="cpu")(cube)
        sizes = [len(some) for some in taken]
        assert max(sizes) <= 3 and (min(sizes) > 1 or count == 1)
        assert sorted(shift for some in taken for shift in some) == sorted(Equilibrium(tiny, shifts=count).shifts)


def test_there_is_no_record_where_nothing_is_solved(tiny, cube) -> None:
    model = DECSC(replace(tiny.model.config, gradient="unrolled", solver=SolverConfig(max_iter=2)))
    model.load_state_dict(tiny.model.state_dict())
    assert Equilibrium(replace(tiny, model=model))(cube).record is None


@pytest.mark.parametrize(("options", "message"), [
    ({"shifts": 0}, "between 1 and 9"), ({"shifts": 10}, "between 1 and 9"),
    ({"shifts": 2.5}, "shifts=2.5 must be a whole number"), ({"shifts": "3"}, "shifts='3' must be a whole number"),
    ({"device": "abacus"}, "try auto or cpu"),
])
def test_bad_options_are_refused(tiny, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Equilibrium(tiny, **options)


def test_nan_is_refused(tiny, cube) -> None:
    cube[3, 4, 5] = np.nan
    with pytest.raises(CubeError, match="1 NaN"):
        Equilibrium(tiny)(cube)


@pytest.mark.parametrize("name", ["decsc", "decsc-mamba"])
def test_registry_tells_the_parameters_of_the_paper_size_network(name: str) -> None:
    network = DECSC(preset("paper", prior={"decsc": "swin", "decsc-mamba": "vmamba"}[name]))
    assert METHODS[name].params == sum(p.numel() for p in network.parameters())


def test_registry_refuses_the_weights_of_another_network(tmp_path: Path) -> None:
    path = tmp_path / "vmamba.safetensors"
    files.save(DECSC(preset("tiny", prior="vmamba")), path, {})
    assert make("decsc-mamba", weights=path).name == "decsc-mamba"
    with pytest.raises(files.WeightsError, match="are of 'decsc-mamba'"):
        make("decsc", weights=path)


def test_registry_refuses_what_cannot_be_made(tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(ValueError, match="choose one of decsc, decsc-mamba, bm4d"):
        make("bm5d")
    with pytest.raises(ValueError, match="'tv' does not take shifts"):
        make("tv", shifts=3)
    with pytest.raises(ValueError, match="'e3dtv' does not take sigma"):
        make("e3dtv", sigma=3.0)
    with pytest.raises(ValueError, match="'nlm' does not take device"):
        make("nlm", device="cuda")
    assert make("nlm", device="cpu").name == "nlm" and make("lrmr", device="cpu").device == torch.device("cpu")
    with pytest.raises(ValueError, match="device 'meta:x' cannot be used here"):
        make("lrmr", device="meta:x")
    with pytest.raises(ValueError, match="not both"):
        make("decsc", weights=tmp_path / "w.safetensors", preset="small")
    monkeypatch.setattr(files, "SHIPPED", tmp_path)
    with pytest.raises(files.WeightsError, match="there: none"):
        make("decsc")


@pytest.fixture(scope="module")
def photo() -> tuple[np.ndarray, np.ndarray]:
    """Clean and noisy 96 x 96 x 31."""
    clean = load_scene("photos", scene_names("photos", "test")[0]).cube[40:136, 40:136]
    return clean, noise.add_noise(clean, "gauss-95", np.random.default_rng(0))[0]


def test_shipped_weights_denoise_and_nearly_reach_their_equilibrium(photo) -> None:
    clean, noisy = photo
    estimate = make("decsc", shifts=4)(noisy)
    assert metrics.mpsnr(clean, estimate.cube) > metrics.mpsnr(clean, noisy) + 6
    assert all(min(record.residuals) < 2e-3 for record in estimate.record)


@pytest.mark.parametrize("sigma", [0.0, 15 / 255, 50 / 255])
def test_shipped_weights_stay_stable_where_all_bands_have_one_noise_level(photo, sigma: float) -> None:
    """They were trained on bands of different levels; anything else must not make f diverge."""
    noisy = photo[0] + np.float32(sigma) * np.random.default_rng(1).standard_normal(photo[0].shape, dtype=np.float32)
    assert metrics.mpsnr(photo[0], make("decsc", shifts=1)(noisy).cube) > 22


@pytest.mark.parametrize("bands", [[5, 15, 25], [3, 11, 19, 27]])
def test_the_noise_of_few_bands_is_not_kept(photo, bands: list[int]) -> None:
    """A band and its reflections have their noise in common; that is no signal."""
    clean = photo[0][..., bands]
    noisy = clean + np.float32(30 / 255) * np.random.default_rng(1).standard_normal(clean.shape, dtype=np.float32)
    assert metrics.mpsnr(clean, make("decsc", shifts=1)(noisy).cube) > metrics.mpsnr(clean, noisy) + 6


def test_the_clean_bands_of_a_noisy_scene_are_kept(photo) -> None:
    clean, noisy = photo[0], photo[1].copy()
    noisy[..., ::4] = clean[..., ::4]
    estimate = make("decsc", shifts=1)(noisy).cube
    assert metrics.mpsnr(clean[..., ::4], estimate[..., ::4]) > 40
    rest = np.arange(31) % 4 > 0
    assert metrics.mpsnr(clean[..., rest], estimate[..., rest]) > metrics.mpsnr(clean[..., rest], noisy[..., rest]) + 8


@pytest.mark.parametrize("cut", [np.s_[40:41], np.s_[:, 40:41]])
def test_a_single_row_or_column_is_denoised(photo, cut) -> None:
    clean, noisy = (cube[cut] for cube in photo)
    estimate = make("decsc", shifts=4)(noisy).cube
    assert metrics.mpsnr(clean, estimate) > metrics.mpsnr(clean, noisy) + 4


def test_a_single_pixel_comes_back(photo) -> None:
    noisy = photo[1][:1, :1]
    np.testing.assert_allclose(make("decsc", shifts=1)(noisy).cube, noisy, atol=1e-6)


def test_tiles_blend_without_borders(photo, unshrunk) -> None:
    noisy = photo[1]
    whole = make("decsc", shifts=1)(noisy).cube
    denoise = make("decsc", shifts=1)
    denoise.tile = 56
    tiled = denoise(noisy)
    assert len(tiled.record) == 4
    error = tiled.cube - whole
    first = pieces(noisy.shape, 56, OVERLAP, 31)[0][0]
    np.testing.assert_allclose(tiled.cube[:40, :40], denoise(noisy[first]).cube[:40, :40], atol=1e-6)
    assert metrics.mpsnr(whole, tiled.cube) > 38
    inside, across = np.abs(np.diff(error[:40], axis=0)).mean(), np.abs(np.diff(error[38:44], axis=0)).mean()
    assert across < 3 * inside
