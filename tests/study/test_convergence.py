"""study.convergence: traces against repeating f by hand, the table against deq.solve and the network itself."""

from __future__ import annotations

import copy
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from decsc_core import deq, metrics
from decsc_core import weights as files
from decsc_core.denoisers.equilibrium import Equilibrium
from decsc_core.model import DECSC, preset
from decsc_core.model.decsc import Layer
from decsc_core.model.shifts import crop_shifts, split_shifts, spread_shifts
from decsc_core.scenes import Scene
from decsc_core.study import convergence
from decsc_core.study.evaluate import noisy_cube

BANDS, SHIFTS = 5, 3


@pytest.fixture(scope="module")
def scene() -> Scene:
    y, x, b = np.meshgrid(np.arange(20), np.arange(18), np.arange(BANDS), indexing="ij")
    return Scene((0.5 + 0.4 * np.sin(y / 3 + b / 2) * np.cos(x / 4)).astype(np.float32), "waves")


def network(gain: float) -> DECSC:
    """An untrained network whose difference convolution is scaled by `gain`: small ones make f contract, large ones not."""
    model = DECSC(preset("tiny", bands=BANDS), torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in model.prior_unshared.difference.parameters():
            parameter *= gain
    return model.eval()


@pytest.fixture(scope="module")
def contraction() -> DECSC:
    return network(0.2)


@pytest.fixture(scope="module")
def pair(scene) -> tuple[np.ndarray, np.ndarray]:
    return scene.cube, noisy_cube(scene, "gauss-55", 3)


def by_hand(model: DECSC, noisy: np.ndarray) -> tuple[Layer, list]:
    shifts = spread_shifts(model.config.stride, SHIFTS)
    image = torch.from_numpy(noisy.transpose(2, 0, 1).copy())[None]
    return Layer(model, split_shifts(image, model.config.kernel, model.config.stride, shifts)), shifts


def whole(model: DECSC, parts: Tensor, noisy: np.ndarray) -> np.ndarray:
    """The estimate (H, W, B) of its parts (1, B, H, W)."""
    image = model.with_misfit(parts, torch.from_numpy(noisy.transpose(2, 0, 1).copy())[None])
    return image[0].numpy().transpose(1, 2, 0)


def test_picard_is_f_repeated(contraction, pair):
    clean, noisy = pair
    curve, _ = convergence.trace(contraction, clean, noisy, "picard", shifts=SHIFTS, evaluations=4)
    layer, shifts = by_hand(contraction, noisy)
    with torch.no_grad():
        z = layer.initial()
        for k in range(5):
            copies = crop_shifts(layer.image(z), noisy.shape[:2], contraction.config.stride, shifts)
            image = whole(contraction, copies.mean(0), noisy)
            fz = layer(z)
            residual = ((fz - z).norm(dim=1) / fz.norm(dim=1)).numpy()
            row = curve.loc[k]
            assert row["evaluations"] == k
            assert row["psnr"] == pytest.approx(metrics.mpsnr(clean, image), abs=1e-4)
            assert row["residual"] == pytest.approx(np.median(residual), rel=1e-3)
            assert row["worst"] == pytest.approx(residual.max(), rel=1e-3)
            z = fz
    assert len(curve) == 5


@pytest.mark.parametrize("method", convergence.SOLVERS)
def test_converged_counts_the_copies_that_the_solver_would_have_stopped(contraction, pair, method):
    clean, noisy = pair
    curve, _ = convergence.trace(contraction, clean, noisy, method, shifts=SHIFTS, evaluations=60)
    layer, _ = by_hand(contraction, noisy)
    settings = asdict(replace(contraction.config.solver, method=method, max_iter=61))
    with torch.no_grad():
        stopped = deq.solve(layer, layer.initial(), **settings)
    assert stopped.converged.all()
    for k, share in zip(curve["evaluations"], curve["converged"]):
        assert share == (stopped.iterations <= k + 1).double().mean()
    assert curve["worst"].min() < convergence.TOLERANCE / 10, "the trace must go on after the tolerance is met"


def test_a_trace_stops_at_a_tolerance_and_tells_its_progress(contraction, pair):
    clean, noisy = pair
    told = []
    curve, _ = convergence.trace(
        contraction, clean, noisy, "anderson", shifts=SHIFTS, evaluations=60, rel_tol=1e-2, progress=told.append
    )
    whole, _ = convergence.trace(contraction, clean, noisy, "anderson", shifts=SHIFTS, evaluations=60)
    stop = int(np.argmax(whole["worst"] <= 1e-2))
    assert len(curve) == stop + 1 and told == list(range(1, stop + 2))
    np.testing.assert_allclose(curve["psnr"], whole["psnr"][: stop + 1], rtol=1e-6)


def test_parts_and_contributions_add_up_to_the_image(contraction, pair):
    _, noisy = pair
    problem = convergence.Problem(contraction, noisy, SHIFTS)
    layer, shifts = by_hand(contraction, noisy)
    with torch.no_grad():
        z = layer.initial()
        expected = [
            crop_shifts(part, noisy.shape[:2], contraction.config.stride, shifts).mean(0)[0].numpy().transpose(1, 2, 0)
            for part in layer.reconstruct(z)
        ]
    config = contraction.config
    atoms = {"K": config.shared_atoms, "D": config.unshared_atoms}
    for part, whole, (dictionary, count) in zip(problem.parts(z), expected, atoms.items()):
        np.testing.assert_allclose(part, whole, atol=1e-6)
        added = sum(problem.contribution(z, dictionary, atom) for atom in range(count))
        np.testing.assert_allclose(added, whole, atol=1e-5)


@pytest.mark.parametrize("gain, settles", [(0.2, True), (1.5, False)])
def test_the_radius_tells_whether_repetition_settles(pair, gain, settles):
    clean, noisy = pair
    model = network(gain)
    curve, _ = convergence.trace(model, clean, noisy, "picard", shifts=SHIFTS, evaluations=60)
    _, solution = convergence.trace(model, clean, noisy, "anderson", shifts=SHIFTS, evaluations=60)
    radius = convergence.radius(model, noisy, solution.z, shifts=SHIFTS, seed=0)
    assert radius.shape == (SHIFTS,)
    assert (radius.max() < 1) == settles
    assert (curve["worst"].iloc[-1] < convergence.TOLERANCE) == settles


def test_the_study_has_a_row_for_each_scene_and_method(contraction, scene, pair):
    scenes = [scene, replace(scene, cube=scene.cube[::-1].copy(), name="upside-down")]
    curves, table = convergence.study(contraction, scenes, "gauss-55", 3, shifts=SHIFTS, evaluations=40)
    assert list(zip(table["scene"], table["method"])) == [
        (s.name, method) for s in scenes for method in (*convergence.SOLVERS, "network")
    ]
    assert len(curves) == 2 * len(convergence.SOLVERS) * 41
    assert (table["converged"] == 1).all() and (table["radius"] < 1).all()

    clean, noisy = pair
    with torch.no_grad():
        shifts = spread_shifts(contraction.config.stride, SHIFTS)
        output = contraction(torch.from_numpy(noisy.transpose(2, 0, 1).copy())[None], shifts)
    row = table[(table["scene"] == "waves") & (table["method"] == "network")].iloc[0]
    assert row["psnr"] == pytest.approx(metrics.mpsnr(clean, output.image[0].numpy().transpose(1, 2, 0)), abs=1e-4)
    assert row["evaluations"] == output.solution.iterations.max() + len(contraction.config.phantom)

    anderson = table[(table["scene"] == "waves") & (table["method"] == "anderson")].iloc[0]
    curve = curves[(curves["scene"] == "waves") & (curves["method"] == "anderson")]
    assert anderson["evaluations"] == output.solution.iterations.max()
    assert anderson["best_psnr"] == curve["psnr"].max() == curve.set_index("evaluations")["psnr"][anderson["best_at"]]
    assert anderson["psnr"] == curve["psnr"].iloc[-1]


def test_a_method_that_does_not_settle_has_no_count(scene):
    _, table = convergence.study(network(1.5), [scene], "gauss-55", 3, shifts=SHIFTS, evaluations=20)
    picard = table[table["method"] == "picard"].iloc[0]
    assert np.isnan(picard["evaluations"]) and picard["converged"] < 1 and picard["residual"] > convergence.TOLERANCE
    assert picard["radius"] > 1


def deep(gain: float) -> DECSC:
    """A network that stops after 6 evaluations and averages `SHIFTS` copies."""
    model = network(gain)
    model.config = replace(model.config, shifts=SHIFTS, solver=replace(model.config.solver, max_iter=6))
    return model


@pytest.mark.parametrize("gain, converged", [(0.2, [0, 0, SHIFTS]), (1.5, [0, 0, 0])])
def test_deeper_tells_what_a_solver_with_that_cap_would(scene, pair, gain, converged):
    clean, noisy = pair
    model = deep(gain)
    curves, table = convergence.deeper(model, [scene], "gauss-55", 3, depths=(3, 30))
    assert list(table["evaluations"]) == [3, 6, 30] and len(curves) == 31
    layer, shifts = by_hand(model, noisy)
    for row in table.itertuples():
        settings = asdict(replace(model.config.solver, max_iter=row.evaluations))
        with torch.no_grad():
            stopped = deq.solve(layer, layer.initial(), **settings)
            settings |= {"rel_tol": 0.0, "max_iter": row.evaluations + 1}
            going_on = deq.solve(layer, layer.initial(), **settings, keep=True)
            images = layer.image(going_on.iterates[-1])
            image = whole(model, crop_shifts(images, noisy.shape[:2], model.config.stride, shifts).mean(0), noisy)
        assert row.copies == SHIFTS and row.converged == stopped.converged.sum()
        assert row.residual == pytest.approx(float(going_on.residuals[:-1].amin(0).max()), rel=1e-3)
        assert row.psnr == pytest.approx(metrics.mpsnr(clean, image), abs=1e-4)
    assert table["converged"].tolist() == converged, "the depths must lie on both sides of the tolerance"
    np.testing.assert_allclose(table["change"], table["psnr"] - table["psnr"][1], atol=1e-9)


def test_deeper_holds_the_last_row_where_the_solver_stops_before(scene):
    """Codes that the thresholds keep at zero are a fixed point at the first evaluation."""
    model = deep(0.2)
    with torch.no_grad():
        model.shared_threshold.fill_(1e3)
        model.unshared_threshold.fill_(1e3)
    curves, table = convergence.deeper(model, [scene], "gauss-55", 3, depths=(3, 30))
    assert len(curves) < 6 and list(table["evaluations"]) == [3, 6, 30]
    assert (table["converged"] == SHIFTS).all() and (table["residual"] == 0).all() and (table["change"] == 0).all()
    assert (table["psnr"] == curves["psnr"].iloc[-1]).all()
    change, *_ = convergence.draw_deeper(curves, model.config.solver.max_iter).axes
    assert change.get_lines()[0].get_ydata()[-1] == 0


def test_deeper_follows_no_more_copies_than_memory_allows(scene):
    """Of the paper's 49 the first nine of those that `spread_shifts` gives."""
    model = DECSC(preset("tiny", bands=BANDS, stride=4, shifts=16), torch.Generator().manual_seed(0)).eval()
    curves, table = convergence.deeper(model, [scene], "gauss-55", 3, depths=(3,))
    assert set(table["copies"]) == {convergence.MOST_COPIES} and convergence.MOST_COPIES == 9
    noisy = noisy_cube(scene, "gauss-55", 3)
    expected, _ = convergence.trace(model, scene.cube, noisy, "anderson", shifts=9, evaluations=model.config.solver.max_iter)
    pd.testing.assert_frame_equal(curves.drop(columns="scene"), expected)


def test_the_verdict_counts_scenes_and_copies_and_names_the_largest_change():
    table = pd.DataFrame({
        "scene": ["a", "a", "b", "b"], "evaluations": [20, 100] * 2, "change": [0, 0.01, 0, -0.3], "copies": 9,
        "converged": [9, 9, 7, 9],
    })
    told = convergence.verdict(table, 20)
    assert "Within 20 evaluations 1 of 2 scenes and 16 of 18 copies got to 0.001" in told
    assert "From 20 to 100 the MPSNR changes most for b, by -0.3000 dB." in told
    still = convergence.verdict(table.assign(change=[0, 1e-5, 0, -4e-5]), 20)
    assert still.endswith("From 20 to 100 the MPSNR changes most for b, by less than 0.0001 dB.")


def test_the_figure_of_depths_is_zero_at_the_cap(scene):
    scenes = [scene, replace(scene, cube=scene.cube[::-1].copy(), name="upside_down")]
    curves, _ = convergence.deeper(deep(0.2), scenes, "gauss-55", 3, depths=(12,))
    change, residual, converged = convergence.draw_deeper(curves, 6).axes
    assert [line.get_label() for line in change.get_lines()[:2]] == ["waves", "upside down"]
    own = curves[curves["scene"] == "waves"].set_index("evaluations")
    y = change.get_lines()[0].get_ydata()
    assert y[6] == 0 and y[-1] == pytest.approx(own["psnr"][12] - own["psnr"][6])
    assert residual.get_lines()[0].get_ydata()[-1] == own["worst"][12]
    assert converged.get_lines()[0].get_xdata()[-1] == 13, "a residual takes one evaluation more than its point"


def test_no_scenes_are_refused(contraction):
    for study in (lambda: convergence.study(contraction, [], "corr", 0, shifts=1, evaluations=5), lambda: convergence.deeper(contraction, [], "corr", 0, [5])):
        with pytest.raises(ValueError, match="^scenes is empty; give at least one$"):
            study()


def test_deeper_without_further_depths_ends_at_the_cap(scene):
    model = deep(0.3)
    _, table = convergence.deeper(model, [scene], "gauss-95", 2, [])
    assert table["evaluations"].to_list() == [model.config.solver.max_iter]


def test_other_band_numbers_are_refused(contraction):
    cube = np.zeros((16, 16, 7), np.float32)
    with pytest.raises(ValueError, match="7 bands, the network 5"):
        convergence.trace(contraction, cube, cube, "picard", shifts=1, evaluations=2)


def test_fewer_bands_are_reflected_and_their_images_are_those_of_the_denoiser(contraction, monkeypatch):
    """But for what the denoiser alone does: more passes, brighter images and bands, shrunk spectra."""
    model = copy.copy(contraction)
    model.config = replace(contraction.config, misfit=0.02)
    noisy = np.random.default_rng(3).random((16, 16, 4), dtype=np.float32)
    problem = convergence.Problem(model, noisy, SHIFTS)
    z, _ = model.equilibrium(problem.layer)
    denoise = Equilibrium(files.Weights("decsc", model, {}, "0" * 64, Path("four.safetensors")), shifts=SHIFTS)
    monkeypatch.setattr("decsc_core.denoisers.equilibrium.PASSES", 1)
    monkeypatch.setattr("decsc_core.denoisers.equilibrium.gain", lambda image, noise: image.new_ones(1))
    monkeypatch.setattr("decsc_core.denoisers.equilibrium.wiener", lambda estimate, *_: estimate)
    np.testing.assert_allclose(problem.image(z), denoise(noisy).cube, atol=1e-5)
    assert all(part.shape == noisy.shape for part in (*problem.parts(z), problem.contribution(z, "K", 0)))


def test_the_study_takes_scenes_of_fewer_bands(contraction, scene, monkeypatch):
    monkeypatch.setattr("decsc_core.denoisers.equilibrium.wiener", lambda estimate, *_: estimate)
    few = Scene(scene.cube[..., :3], "few")
    _, table = convergence.study(contraction, [few], "gauss-55", 3, shifts=SHIFTS, evaluations=12)
    noisy = noisy_cube(few, "gauss-55", 3)
    estimate = Equilibrium(files.Weights("decsc", contraction, {}, "0" * 64, Path("five.safetensors")), shifts=SHIFTS)(noisy)
    assert table.set_index("method").loc["network", "psnr"] == pytest.approx(metrics.mpsnr(few.cube, estimate.cube), abs=1e-3)


def test_the_figure_shows_means_over_scenes(contraction, scene):
    scenes = [scene, replace(scene, cube=scene.cube[::-1].copy(), name="upside-down")]
    curves, _ = convergence.study(contraction, scenes, "gauss-55", 3, shifts=1, evaluations=30)
    figure = convergence.draw(curves, trained=(2, 4))
    lines = figure.axes[0].get_lines()
    assert [line.get_label() for line in lines] == ["Picard", "Anderson", "Broyden"]
    for line, method in zip(lines, convergence.SOLVERS):
        at_3 = curves[(curves["method"] == method) & (curves["evaluations"] == 3)]
        assert line.get_ydata()[3] == pytest.approx(at_3["psnr"].mean())
    for line, method in zip(figure.axes[2].get_lines(), convergence.SOLVERS):
        first = curves[(curves["method"] == method) & (curves["converged"] == 1)]["evaluations"].min()
        reached = line.get_xdata()[line.get_ydata() > 0]
        assert (reached[0] if len(reached) else np.nan) == pytest.approx(first + 1, nan_ok=True), "as the table counts"
