"""study.neumann: gradients against finite differences and a long series, memory that grows with L, the curve."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from decsc_core import deq
from decsc_core.model import DECSC, preset
from decsc_core.model.shifts import crop_shifts
from decsc_core.scenes import Scene
from decsc_core.study import neumann

BANDS = 5


@pytest.fixture(scope="module")
def scene() -> Scene:
    y, x, b = np.meshgrid(np.arange(24), np.arange(24), np.arange(BANDS), indexing="ij")
    return Scene((0.5 + 0.4 * np.sin(y / 3 + b / 2) * np.cos(x / 4)).astype(np.float32), "waves")


@pytest.fixture(scope="module")
def model() -> DECSC:
    """An untrained network that contracts; without a misfit, whose level and noise level take no gradient."""
    model = DECSC(preset("tiny", bands=BANDS, misfit=0.0), torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in model.prior_unshared.difference.parameters():
            parameter *= 0.2
    return model.eval()


@pytest.fixture(scope="module")
def table(model, scene) -> pd.DataFrame:
    return neumann.study(model, [scene], "gauss-55", 3, side=16, shifts=2, lengths=(1, 2, 3, 4, 30))


@pytest.fixture(scope="module")
def gradients(model, scene) -> neumann.Gradients:
    noisy = scene.cube + np.random.default_rng(0).normal(0, 0.1, scene.cube.shape).astype(np.float32)
    return neumann.Gradients(model, scene.cube[:16, :16], noisy[:16, :16], shifts=1)


def test_the_exact_gradient_is_that_of_the_loss_at_the_equilibrium(gradients):
    """Against the difference of the losses at the fixed points of two networks a little apart."""
    exact, _, note = gradients.exact()
    assert note == "" and gradients.residual <= neumann.TOLERANCE
    direction = exact / exact.norm()
    step, losses = 1e-3, []
    for sign in (1, -1):
        moved = DECSC(gradients.model.config).double()
        moved.load_state_dict(gradients.model.state_dict())
        start = 0
        with torch.no_grad():
            for parameter in moved.parameters():
                part = direction[start : start + parameter.numel()].view_as(parameter)
                parameter += sign * step * part
                start += parameter.numel()
            layer = neumann.Layer(moved, gradients.problem.layer.noisy)
            z = deq.solve(layer, layer.initial(), rel_tol=1e-10, max_iter=400).z
            image = layer.image(z)
            image = crop_shifts(image, (16, 16), moved.config.stride, gradients.problem.shifts)
            losses.append(float(F.mse_loss(image.mean(0), gradients.clean)))
    assert (losses[0] - losses[1]) / (2 * step) == pytest.approx(float(exact.norm()), rel=1e-3)


def test_the_phantom_gradient_goes_to_the_exact_one(table):
    phantom = table[table["gradient"] == "phantom"].set_index("L")
    assert (np.diff(phantom["error"]) < 0).all() and (np.diff(phantom["angle"]) < 0).all()
    assert phantom.loc[1, "angle"] > 5 and phantom.loc[30, "angle"] < 0.5
    assert phantom.loc[30, "norm"] == pytest.approx(1, abs=0.01)
    exact = table[table["gradient"] == "exact"].iloc[0]
    assert (exact["angle"], exact["norm"], exact["error"]) == (0, 1, 0)


def test_memory_grows_by_the_same_with_every_evaluation(table):
    phantom = table[table["gradient"] == "phantom"].set_index("L")["held_mb"]
    assert phantom[3] - phantom[2] == pytest.approx(phantom[2] - phantom[1], rel=1e-3)
    assert phantom[30] - phantom[4] == pytest.approx(26 * (phantom[2] - phantom[1]), rel=1e-3)
    exact = table[table["gradient"] == "exact"]["held_mb"].iloc[0]
    assert phantom[1] <= exact < phantom[2]


def test_the_released_dampings_are_among_the_gradients(table):
    released = table[table["gradient"] == "released"].iloc[0]
    phantom = table[table["gradient"] == "phantom"].set_index("L")["error"]
    assert released["L"] == 6 and phantom[30] < released["error"] < phantom[3]


def test_the_study_leaves_the_network_alone(model, scene):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    neumann.study(model, [scene], "gauss-55", 3, side=12, shifts=1, lengths=(1,))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(parameter.grad is not None for parameter in model.parameters())


def test_a_fixed_point_that_is_not_found_is_told(scene, monkeypatch):
    monkeypatch.setattr(neumann, "MOST_EVALUATIONS", 3)
    wild = DECSC(preset("tiny", bands=BANDS), torch.Generator().manual_seed(0)).eval()
    table = neumann.study(wild, [scene], "gauss-55", 3, side=12, shifts=1, lengths=(1,))
    assert (table["residual"] > neumann.TOLERANCE).all()
    assert table["note"].str.contains("did not converge").all()


@pytest.mark.parametrize("empty", ["scenes", "lengths"])
def test_nothing_to_compare_is_refused(model, scene, empty):
    scenes, lengths = ([] if empty == "scenes" else [scene]), ([] if empty == "lengths" else [1])
    with pytest.raises(ValueError, match=f"^{empty} is empty; give at least one$"):
        neumann.study(model, scenes, "gauss-55", 3, side=16, shifts=1, lengths=lengths)


def test_other_band_numbers_are_refused(model):
    cube = np.zeros((16, 16, 7), np.float32)
    with pytest.raises(ValueError, match="7 bands, the network 5"):
        neumann.Gradients(model, cube, cube, 1)


def test_the_figure_has_a_panel_more_with_trained_networks(table):
    trained = pd.DataFrame({"value": [1, 5], "psnr": [20.0, 21.0], "least": [19.5, 20.5], "most": [20.5, 21.5]})
    assert len(neumann.draw(table, trained.iloc[:0]).axes) == 3
    figure = neumann.draw(table, trained)
    assert [list(axis.lines[0].get_xdata()) for axis in figure.axes] == [[1, 2, 3, 4, 30]] * 3 + [[1, 5]]
    np.testing.assert_array_equal(figure.axes[3].lines[0].get_ydata(), trained["psnr"])
    assert [list(bar[:, 1]) for bar in figure.axes[3].collections[0].get_segments()] == [[19.5, 20.5], [20.5, 21.5]]
