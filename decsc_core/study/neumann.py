"""The phantom gradient beside the exact one at a fixed point: angle, norm and memory against L (Fig. 15 and beyond)."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from einops import rearrange
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from decsc_core import deq
from decsc_core.checks import check_not_empty
from decsc_core.model import DECSC
from decsc_core.model.decsc import Layer
from decsc_core.scenes import Scene
from decsc_core.study.ablation import draw_means
from decsc_core.study.convergence import Problem
from decsc_core.study.cubes import centre
from decsc_core.study.evaluate import noisy_cube
from decsc_core.study.figures import TEXT_WIDTH

TOLERANCE, MOST_EVALUATIONS = 1e-6, 1000
"""Relative residual of the fixed point and of the exact gradient's equation, and the most evaluations for either."""
PAPER_LENGTH = 5


class Gradients:
    """Gradients of the loss of Eq. (25) at one fixed point, with respect to all parameters, in double precision.

    Parameters
    ----------
    model : DECSC
        Is not changed.
    clean, noisy : ndarray, shape (H, W, B), in [0, 1]
        B as the network's.
    shifts : int
        Shifted copies, each with a fixed point of its own.

    Attributes
    ----------
    residual : float
        Relative residual of the worst copy's fixed point.

    Raises
    ------
    ValueError
        If there are more bands than the network's, or `shifts` is out of range.
    """

    def __init__(self, model: DECSC, clean: np.ndarray, noisy: np.ndarray, shifts: int) -> None:
        self.model = copy.deepcopy(model).double().requires_grad_()
        self.problem = Problem(self.model, noisy, shifts)
        self.clean = rearrange(torch.from_numpy(clean), "h w b -> 1 b h w").to(self.model.shared_threshold)
        solver = replace(model.config.solver, rel_tol=TOLERANCE, max_iter=MOST_EVALUATIONS)
        layer = self.problem.layer
        with torch.no_grad():
            found = deq.solve(layer, layer.initial(), **asdict(solver))
        self.z, self.residual = found.z, float(found.residuals.amin(0).max())

    def _layer(self) -> Layer:
        """f, with a graph of its own, for a backward pass frees what a graph holds."""
        return Layer(self.model, self.problem.layer.noisy)

    def phantom(self, dampings: Sequence[float]) -> tuple[Tensor, float]:
        """The gradient that `deq.phantom` attaches, flat, and what its graph holds for the backward pass [MB]."""
        return self._backward(lambda layer: deq.phantom(layer, self.z, dampings))

    def exact(self) -> tuple[Tensor, float, str]:
        """The implicit gradient, Eq. (17), flat, what its graph holds [MB], and why it is not exact, if it is not."""
        adjoint = {"rel_tol": TOLERANCE, "max_iter": MOST_EVALUATIONS}
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", RuntimeWarning)
            gradient, held = self._backward(lambda layer: deq.implicit(layer, self.z, **adjoint))
        return gradient, held, "; ".join(str(warning.message) for warning in told)

    def _backward(self, attach: Callable[[Layer], Tensor]) -> tuple[Tensor, float]:
        """Attach a gradient to the fixed point, and go back from the loss to the parameters.

        What the graph holds is counted as in single precision, without the parameters.
        """
        own = {parameter.untyped_storage().data_ptr() for parameter in self.model.parameters()}
        held: dict[int, float] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                held[storage.data_ptr()] = storage.nbytes() / (2 if tensor.dtype == torch.float64 else 1)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            layer = self._layer()
            codes = attach(layer)
            parts = self.problem.mean(layer.image(codes))
            loss = F.mse_loss(self.model.with_misfit(parts, self.problem.noisy), self.clean)
        slopes = torch.autograd.grad(loss, list(self.model.parameters()), materialize_grads=True, allow_unused=True)
        return torch.cat([slope.flatten() for slope in slopes]), sum(held.values()) / 1e6


def study(
    model: DECSC, scenes: Sequence[Scene], case: str, seed: int, *, side: int, shifts: int, lengths: Sequence[int]
) -> pd.DataFrame:
    """The phantom gradient against the exact one, on the middle of each scene.

    Returns
    -------
    DataFrame
        A row for each scene and gradient: `scene`; `gradient`, "phantom", "released" (its dampings) or "exact"; `L`,
        evaluations of f with gradient; `angle` to the exact one [degree]; `norm` and `error`, relative to the exact
        one's norm; `held_mb`, what the graph holds for the backward pass, in single precision and without the
        parameters; `residual` of the fixed point; `note`, why the exact gradient is not exact, if it is not.
    """
    check_not_empty(scenes=scenes, lengths=lengths)
    rows = []
    for scene in scenes:
        clean, noisy = centre(scene.cube, side), centre(noisy_cube(scene, case, seed), side)
        gradients = Gradients(model, clean, noisy, shifts)
        exact, held, note = gradients.exact()
        about = {"scene": scene.name, "residual": gradients.residual, "note": note}
        rows.append({"gradient": "exact", "L": np.nan, **_compare(exact, exact), "held_mb": held, **about})
        chosen = [("phantom", (1.0,) * length) for length in lengths] + [("released", deq.RELEASED_DAMPINGS)]
        for name, dampings in chosen:
            gradient, held = gradients.phantom(dampings)
            rows.append({"gradient": name, "L": len(dampings), **_compare(gradient, exact), "held_mb": held, **about})
    columns = ["scene", "gradient", "L", "angle", "norm", "error", "held_mb", "residual", "note"]
    return pd.DataFrame(rows, columns=columns).astype({"L": "Int64"})


def _compare(gradient: Tensor, exact: Tensor) -> dict:
    """Angle [degree], relative norm and relative error; the angle by atan2, which is accurate for small ones."""
    one, other = gradient / gradient.norm(), exact / exact.norm()
    angle = 2 * torch.atan2((one - other).norm(), (one + other).norm())
    return {
        "angle": float(angle.rad2deg()),
        "norm": float(gradient.norm() / exact.norm()),
        "error": float((gradient - exact).norm() / exact.norm()),
    }


def draw(table: pd.DataFrame, trained: pd.DataFrame) -> Figure:
    """Angle, relative norm and memory against L, means over the scenes; MPSNR too where networks were trained.

    Parameters
    ----------
    table : DataFrame
        From `study`.
    trained : DataFrame
        From `ablation.means`, by L; may be empty.
    """
    panels = [("angle", "Angle to exact [°]"), ("norm", "Norm, exact = 1"), ("held_mb", "Held for backward [MB]")]
    count = len(panels) + (len(trained) > 0)
    figure, axes = plt.subplots(1, count, figsize=(TEXT_WIDTH, 2.1))
    means = table.groupby(["gradient", "L"], dropna=False)[["angle", "norm", "held_mb"]].mean()
    exact = means.xs("exact").iloc[0]
    phantom = means.xs("phantom")
    for axis, (column, name) in zip(axes, panels):
        axis.plot(phantom.index.astype(int), phantom[column], marker="o", markersize=2.5, label="phantom")
        axis.axhline(exact[column], color="0.4", linestyle="-", linewidth=0.8, label="exact")
        axis.set(ylabel=name)
    axes[0].legend()
    if len(trained):
        draw_means(axes[-1], trained)
        axes[-1].set(ylabel="MPSNR after training [dB]")
    for axis in axes:
        axis.axvline(PAPER_LENGTH, color="0.85", linestyle="-", linewidth=3, zorder=0)
        axis.set(xlabel="$L$")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure
