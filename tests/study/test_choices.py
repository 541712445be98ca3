"""study.choices: which runs are compared, and what the table says of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from decsc_core import metrics
from decsc_core.networks.catalog import build
from decsc_core.study import choices
from decsc_core.study.convergence import trace
from decsc_core.study.evaluate import evaluated_scene, noisy_cube
from decsc_core.study.recipes import training

FIRST = training("decsc", "tiny", steps=60)
RUNS = {
    "complete-0": FIRST,
    "complete-1": replace(FIRST, seed=1),
    "released": replace(FIRST, model=replace(FIRST.model, init="released", ridge=0.0)),
    "copies": replace(FIRST, steps=20, model=replace(FIRST.model, train_shifts=3)),
    "deep": replace(FIRST, evaluations=(20, 20)),
    "longer": replace(FIRST, steps=120),
    "no-swin": replace(FIRST, model=replace(FIRST.model, depth=0)),
    "peer": training("hsdt", "tiny", steps=60),
}
NAMES = {
    "as it is": ["complete-0", "complete-1"],
    "init = released, ridge = 0": ["released"],
    "train_shifts = 3": ["copies"],
    "evaluations = 20": ["deep"],
}


def test_runs_that_differ_in_a_choice_are_found_and_named():
    assert choices.runs_by_choice(RUNS) == NAMES


@pytest.fixture(scope="module")
def network():
    return build(FIRST.model, torch.Generator().manual_seed(0)).eval()


def test_the_solver_is_followed_with_one_copy(network):
    scenes = [evaluated_scene("photos", "chelsea", 20)]
    curves, radius = choices.depths(network, scenes, "gauss-55", 0, 23)
    noisy = noisy_cube(scenes[0], "gauss-55", 0)
    expected, _ = trace(network, scenes[0].cube, noisy, "anderson", shifts=1, evaluations=23)
    pd.testing.assert_frame_equal(curves.drop(columns="scene"), expected)
    assert set(curves["scene"]) == {"chelsea"} and 0 < radius < 10
    shallow, _ = choices.depths(network, scenes, "gauss-55", 0, 8)
    assert shallow["evaluations"].max() == network.config.solver.max_iter


def test_other_misfits_are_tried_on_the_same_codes(network):
    own = network.config.misfit
    scenes = [evaluated_scene("photos", name, 20) for name in ("chelsea", "coffee")]
    table = choices.misfits(network, scenes, ["mixture", "gauss-15"], 0, (0, own, 0.1))
    assert list(table.index) == [0, own, 0.1] and list(table.columns) == ["mixture", "gauss-15"]
    for value in (0, own):
        other = build(replace(FIRST.model, misfit=value)).eval()
        other.load_state_dict(network.state_dict())
        for case in table:
            found = [make_image(other, noisy_cube(scene, case, 0)) for scene in scenes]
            assert table.loc[value, case] == pytest.approx(np.mean([metrics.mpsnr(s.cube, x) for s, x in zip(scenes, found)]), abs=1e-4)
    assert table.loc[own, "gauss-15"] > table.loc[0, "gauss-15"] and network.config.misfit == own


def test_networks_are_scored_side_by_side(network):
    other = build(replace(FIRST.model, misfit=0.1)).eval()
    scenes = [evaluated_scene("photos", name, 20) for name in ("chelsea", "coffee")]
    table = choices.by_weights({"one": network, "other": other}, scenes, ["mixture", "gauss-15"], 0)
    assert list(table.index) == ["one", "other"] and list(table.columns) == ["mixture", "gauss-15"]
    for name, model in (("one", network), ("other", other)):
        found = [metrics.mpsnr(scene.cube, make_image(model, noisy_cube(scene, "gauss-15", 0))) for scene in scenes]
        assert table.loc[name, "gauss-15"] == pytest.approx(np.mean(found), abs=1e-4)


@torch.no_grad()
def make_image(network, noisy: np.ndarray) -> np.ndarray:
    """The network's image of a cube, by one copy."""
    image = network(torch.from_numpy(noisy).permute(2, 0, 1)[None], [(0, 0)]).image
    return image[0].permute(1, 2, 0).numpy()


@pytest.fixture
def curves() -> pd.DataFrame:
    """Two scenes, three evaluations; after the first one the MPSNR falls by 1 dB on one scene of `released`."""
    rows = [
        {"run": run, "scene": scene, "evaluations": at, "psnr": 30.0 - (at == 2) * (run == "released") * (scene == "a"),
         "residual": 0.1, "worst": 0.1}
        for run in ("complete-0", "complete-1", "released") for scene in ("a", "b") for at in range(3)
    ]
    return pd.DataFrame(rows)


def test_the_table_compares_with_the_same_seed(curves):
    rows = pd.DataFrame({
        "run": ["complete-0"] * 2 + ["complete-1"] * 2 + ["released"] * 2,
        "train_seed": [0, 0, 1, 1, 0, 0],
        "psnr": [30.0, 32.0, 20.0, 22.0, 31.0, 35.0],
        "residual": [1e-4, 1e-3, 1e-4, 2e-3, 1e-2, 5e-2],
    })
    stories = dict.fromkeys(RUNS, {"patches": 240, "cpu_seconds": 90.0})
    by = {choice: NAMES[choice] for choice in list(NAMES)[:2]}
    radii = {"complete-0": 0.9, "complete-1": 0.8, "released": 1.2}
    own, released = choices.table(by, rows, stories, radii, curves, 1).to_dict("records")
    assert (own["seeds"], own["psnr"], own["change"], own["converged"], own["radius"]) == (2, 26.0, 0.0, 75.0, 0.9)
    assert (released["seeds"], released["psnr"], released["converged"], released["residual"]) == (1, 33.0, 0.0, 5e-2)
    assert released["change"] == 2.0 and np.isnan(released["least"])  # not 7, the mean of both seeds
    assert (own["least"], own["most"]) == (0.0, 0.0)
    assert (own["deeper"], released["deeper"]) == (0.0, -1.0)
    stopped = choices.table(by, rows, stories, radii, curves, 9)  # before the cap
    assert stopped["deeper"].eq(0).all()


def test_the_figure_has_a_line_a_choice(curves):
    by = {choice: NAMES[choice] for choice in list(NAMES)[:2]}
    psnr, residual = choices.draw(curves, by, 1).axes
    assert [line.get_label() for line in psnr.lines[:2]] == ["as it is", "released initial atoms, ridge of 0"]
    np.testing.assert_allclose(psnr.lines[1].get_ydata(), [30, 30, 29.5])
    assert len(residual.lines) == 4


def test_the_figure_tells_more_than_twelve_choices_apart(curves):
    by = {"as it is": ["complete-0"]} | {f"ridge = {number}": ["released"] for number in range(1, 14)}
    figure = choices.draw(curves, by, 1)
    looks = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines[:14]}
    assert len(looks) == 14 and len(figure.legends[0].get_texts()) == 14


def test_the_figure_only_names_what_is_below_its_axis(curves):
    by = {choice: NAMES[choice] for choice in list(NAMES)[:2]} | {"evaluations = 4 to 12": ["deep"], "train_shifts = 3": ["copies"]}
    bad = curves[curves["run"] == "released"]
    others = [bad.assign(run="deep"), bad.assign(run="copies", psnr=bad["psnr"] - choices.LOWEST - 1)]
    figure = choices.draw(pd.concat([curves, *others]), by, 1)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "as it is", "released initial atoms, ridge of 0", "4 to 12 evaluations a training step",
        "not shown, MPSNR below the axis: 3 copies a training step",
    ]
    low, high = figure.axes[0].get_ylim()
    assert all(low < y < high for line in figure.axes[0].lines[:3] for y in line.get_ydata())
