"""How a trained network reaches its equilibrium: PSNR and residual after each evaluation of f, by solver (Fig. 12 and beyond)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from einops import rearrange
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter
from torch import Tensor

from decsc_core import deq, metrics
from decsc_core.checks import check_not_empty
from decsc_core.denoisers.tiling import reflect_bands
from decsc_core.model import DECSC
from decsc_core.model.decsc import Layer
from decsc_core.model.shifts import crop_shifts, split_shifts, spread_shifts
from decsc_core.scenes import Scene
from decsc_core.study.evaluate import noisy_cube
from decsc_core.study.figures import TEXT_WIDTH

SOLVERS = ("picard", "anderson", "broyden")
TOLERANCE = 1e-3
"""Relative residual at which a copy counts as converged; the paper's and the release's."""
RADIUS_ITERATIONS = 30
MOST_COPIES = 9
"""Shifted copies that `deeper` follows, at most: the paper's 49 of 512 x 512 pixels would take 74 GB."""
SETTLED = 0.05
"""Change of MPSNR [dB] below which an image counts as the same."""


class Problem:
    """The equilibrium of one noisy cube: `layer`, f for its shifted copies, and the way from codes back to cubes.

    Parameters
    ----------
    model : DECSC
    noisy : ndarray, shape (H, W, B), in [0, 1]
        B as the network's; fewer are extended by reflection, as `Equilibrium` does.
    shifts : int
        Shifted copies, each with a fixed point of its own; the image is their mean.

    Raises
    ------
    ValueError
        If there are more bands than the network's, or `shifts` is out of range.
    """

    def __init__(self, model: DECSC, noisy: np.ndarray, shifts: int) -> None:
        config = model.config
        if noisy.shape[2] > config.bands:
            raise ValueError(
                f"the scene has {noisy.shape[2]} bands, the network {config.bands}; choose a data set of {config.bands}"
            )
        self.model, self.size, self.shifts = model, noisy.shape[:2], spread_shifts(config.stride, shifts)
        whole, self.noisy = (
            rearrange(torch.from_numpy(np.ascontiguousarray(cube)), "h w b -> 1 b h w").to(model.shared_threshold)
            for cube in (reflect_bands(noisy, config.bands), noisy)
        )
        with torch.no_grad():
            self.layer = Layer(model, split_shifts(whole, config.kernel, config.stride, self.shifts))

    @torch.no_grad()
    def parts(self, z: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """The shared and the unshared part of the image of the codes `z` (copies, d), Eq. (2): two cubes (H, W, B)."""
        return tuple(_cube(self.mean(part)) for part in self.layer.reconstruct(z.to(self.noisy)))

    @torch.no_grad()
    def image(self, z: Tensor) -> np.ndarray:
        """The image of the codes `z` (copies, d), as the network returns it: a cube (H, W, B)."""
        parts = self.mean(self.layer.image(z.to(self.noisy)))
        return _cube(self.model.with_misfit(parts, self.noisy))

    @torch.no_grad()
    def contribution(self, z: Tensor, dictionary: str, atom: int) -> np.ndarray:
        """What one atom adds to the image of the codes `z`: a cube (H, W, B).

        Over the atoms of K (`dictionary` ``"K"``) these add up to the shared part, over those of D (``"D"``) to the
        unshared part.
        """
        layer, model = self.layer, self.model
        codes = layer.unpack(z.to(layer.noisy))[dictionary == "D"]
        alone = torch.zeros_like(codes)
        alone[:, atom] = codes[:, atom]
        kernels = model.unshared if dictionary == "D" else model.shared
        return _cube(self.mean(kernels.synthesise(alone, layer.size, "reconstruction")))

    def mean(self, copies: Tensor) -> Tensor:
        """The mean over shifted copies (copies, B, H', W'), without reflected bands: (1, B, H, W)."""
        return crop_shifts(copies, self.size, self.model.config.stride, self.shifts).mean(0)[:, : self.noisy.shape[1]]


def _cube(image: Tensor) -> np.ndarray:
    """(1, B, H, W) -> (H, W, B)."""
    return rearrange(image.cpu().numpy(), "1 b h w -> h w b")


def trace(
    model: DECSC, clean: np.ndarray, noisy: np.ndarray, method: str, *, shifts: int, evaluations: int,
    rel_tol: float = 0.0, progress: Callable[[int], None] | None = None, keep: bool = False,
) -> tuple[pd.DataFrame, deq.Solution]:
    """Follow one solver from the initial codes, by default without stopping it.

    Parameters
    ----------
    model : DECSC
        Its own solver settings are used, but for the method, the tolerance and the cap.
    clean, noisy : ndarray, shape (H, W, B), in [0, 1]
        B as the network's, or less.
    method : str
        One of `SOLVERS`.
    shifts : int
        Shifted copies, each with a fixed point of its own; the image is their mean.
    evaluations : int
        Length of the trace, at most.
    rel_tol : float
        Stop when the relative residuals of all copies have been at most this.
    progress : callable, optional
        Gets the number of evaluations of f made so far, after each.
    keep : bool
        Also keep the codes of every row, as `solution.iterates`.

    Returns
    -------
    curve : DataFrame
        A row for each k = 0, 1, ..., to `evaluations` unless it stopped, for the codes that k evaluations of f led to:
        `evaluations` (k); `psnr` [dB], the mean over bands, of the image that they reconstruct; `residual` and `worst`, the
        median and the largest relative residual over copies (finding it takes one evaluation more); `converged`, the share
        of copies whose residual has been at most `TOLERANCE` by then.
    solution : deq.Solution
        The best point of each copy.

    Raises
    ------
    ValueError
        If there are more bands than the network's, or `method` or `shifts` is out of range.
    """
    problem = Problem(model, noisy, shifts)
    solver = replace(model.config.solver, method=method, rel_tol=rel_tol, max_iter=evaluations + 1, stop="sample")
    psnr = []

    def f(z: Tensor) -> Tensor:
        psnr.append(metrics.mpsnr(clean, problem.image(z)))
        fz = problem.layer(z)
        if progress:
            progress(len(psnr))
        return fz

    with torch.no_grad():
        solution = deq.solve(f, problem.layer.initial(), **asdict(solver), keep=keep)
    residuals = solution.residuals.cpu().numpy()
    reached = np.minimum.accumulate(residuals, axis=0) <= TOLERANCE
    curve = pd.DataFrame({
        "evaluations": range(len(psnr)), "psnr": psnr, "residual": np.median(residuals, axis=1),
        "worst": residuals.max(axis=1), "converged": reached.mean(axis=1),
    })
    return curve, solution


def radius(model: DECSC, noisy: np.ndarray, z: Tensor, *, shifts: int, seed: int) -> np.ndarray:
    """Spectral radius of the Jacobian of f at the codes `z` of `trace`, one number a copy; below 1, repeating f converges."""
    f = Problem(model, noisy, shifts).layer
    return deq.spectral_radius(f, z, RADIUS_ITERATIONS, np.random.default_rng(seed)).cpu().numpy()


def study(
    model: DECSC, scenes: Sequence[Scene], case: str, seed: int, *, shifts: int, evaluations: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Trace every solver on each scene.

    Returns
    -------
    curves : DataFrame
        The rows of `trace`, with `scene` and `method`.
    table : DataFrame
        A row for each scene and method, the network as configured (``"network"``) among them: `evaluations`, in which all
        copies got to `TOLERANCE` (missing if they did not; for the network, those it used); `converged`, the share that did;
        `residual`, the smallest of the worst copy (of the trace; for the network, before its final evaluations); `psnr` at the
        end and `best_psnr` on the way, `best_at` after how many evaluations; `radius`, the largest spectral radius of the
        copies, at the point with the smallest residual that any solver found.
    """
    check_not_empty(scenes=scenes)
    curves, rows = [], []
    for scene in scenes:
        clean, noisy = scene.cube, noisy_cube(scene, case, seed)
        best: deq.Solution | None = None
        found = []
        for method in SOLVERS:
            curve, solution = trace(model, clean, noisy, method, shifts=shifts, evaluations=evaluations)
            curves.append(curve.assign(scene=scene.name, method=method))
            found.append(_summary(curve) | {"scene": scene.name, "method": method})
            if best is None or solution.residuals.amin(0).max() < best.residuals.amin(0).max():
                best = solution
        found.append(_network(model, clean, noisy, shifts) | {"scene": scene.name, "method": "network"})
        largest = float(radius(model, noisy, best.z, shifts=shifts, seed=seed).max())
        rows += [row | {"radius": largest} for row in found]
    columns = ["scene", "method", "evaluations", "converged", "residual", "psnr", "best_psnr", "best_at", "radius"]
    return pd.concat(curves, ignore_index=True), pd.DataFrame(rows, columns=columns)


def _summary(curve: pd.DataFrame) -> dict:
    """A curve in one row; residuals count from 1, for they take one evaluation more than the point."""
    done = curve.index[curve["converged"] == 1]
    top = int(curve["psnr"].idxmax())
    return {
        "evaluations": float(curve["evaluations"][done[0]] + 1) if len(done) else np.nan,
        "converged": float(curve["converged"].iloc[-1]),
        "residual": float(curve["worst"].min()),
        "psnr": float(curve["psnr"].iloc[-1]),
        "best_psnr": float(curve["psnr"][top]),
        "best_at": int(curve["evaluations"][top]),
    }


@torch.no_grad()
def _network(model: DECSC, clean: np.ndarray, noisy: np.ndarray, shifts: int) -> dict:
    """The network as configured, its final evaluations included, on the same copies."""
    problem = Problem(model, noisy, shifts)
    z, solution = model.equilibrium(problem.layer)
    row = {"psnr": metrics.mpsnr(clean, problem.image(z)), "evaluations": float(model.config.solver.max_iter)}
    if solution is None:
        return row
    return row | {
        "evaluations": float(solution.iterations.max()) + model.config.final_evaluations,
        "converged": float(solution.converged.double().mean()),
        "residual": float(solution.residuals.amin(0).max()),
    }


def deeper(
    model: DECSC, scenes: Sequence[Scene], case: str, seed: int, depths: Sequence[int]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Follow the network's own solver far beyond its cap, on all the shifted copies that it averages, or `MOST_COPIES` of them.

    Returns
    -------
    curves : DataFrame
        The rows of `trace`, with `scene`.
    table : DataFrame
        A row for each scene and each depth k, the network's cap among them: `scene`; `evaluations`, k; `psnr` [dB] of the
        image that the codes after k evaluations reconstruct; `change`, that less the `psnr` at the cap; `residual`, the
        smallest that these k evaluations found, of the worst copy; `converged`, how many of the `copies` got to
        `TOLERANCE` within k.
    """
    check_not_empty(scenes=scenes)
    cap, shifts = model.config.solver.max_iter, min(model.config.shifts, MOST_COPIES)
    curves, rows = [], []
    for scene in scenes:
        curve, solution = trace(
            model, scene.cube, noisy_cube(scene, case, seed), model.config.solver.method,
            shifts=shifts, evaluations=max([*depths, cap]),
        )
        curves.append(curve.assign(scene=scene.name))
        smallest = np.minimum.accumulate(solution.residuals.cpu().numpy(), axis=0)
        for depth in sorted({*depths, cap}):
            psnr, at_cap = (curve["psnr"].iloc[min(at, len(curve) - 1)] for at in (depth, cap))  # the solver may have stopped before
            found = smallest[min(depth, len(smallest)) - 1]
            rows.append({
                "scene": scene.name, "evaluations": depth, "psnr": psnr, "change": psnr - at_cap,
                "residual": float(found.max()), "copies": shifts, "converged": int((found <= TOLERANCE).sum()),
            })
    return pd.concat(curves, ignore_index=True), pd.DataFrame(rows)


def verdict(table: pd.DataFrame, cap: int) -> str:
    """The table of `deeper` in two sentences: who converges within `cap` evaluations, and what more of them change.

    Parameters
    ----------
    table : DataFrame
        From `deeper`.
    """
    at, last = (table[table["evaluations"] == depth] for depth in (cap, table["evaluations"].max()))
    whole = (at["converged"] == at["copies"]).sum()
    most = last.loc[last["change"].abs().idxmax()]
    change = f"by {most['change']:+.4f} dB" if abs(most["change"]) >= 5e-5 else "by less than 0.0001 dB"
    return (
        f"Within {cap} evaluations {whole} of {len(at)} scenes and {at['converged'].sum()} of {at['copies'].sum()} "
        f"copies got to {TOLERANCE:g}. From {cap} to {most['evaluations']} the MPSNR changes most for {most['scene']}, "
        f"{change}."
    )


def draw_deeper(curves: pd.DataFrame, cap: int) -> Figure:
    """Change of MPSNR since the cap, residual of the worst copy, and share of converged copies, a line a scene.

    Parameters
    ----------
    curves : DataFrame
        From `deeper`.
    cap : int
        The network's most evaluations, marked.
    """
    figure, panels = plt.subplots(1, 3, figsize=(TEXT_WIDTH, 2.5))
    for scene, mine in curves.groupby("scene", sort=False):
        at = mine["evaluations"]
        panels[0].plot(at, mine["psnr"] - mine["psnr"].iloc[min(cap, len(mine) - 1)], label=scene.replace("_", " "))
        panels[1].plot(at, mine["worst"])
        panels[2].plot(at + 1, 100 * mine["converged"])
    panels[0].axhspan(-SETTLED, SETTLED, color="0.88", lw=0, zorder=0)
    panels[0].set(ylim=(-0.3, 0.3), ylabel=f"Change since {cap} [dB]")
    panels[1].axhline(TOLERANCE, color="0.4", linestyle="-", linewidth=0.8)
    panels[1].set(yscale="log", ylabel="Residual, worst copy")
    panels[2].set(ylabel=f"Copies that reached {TOLERANCE:g} [%]")
    for panel in panels:
        panel.axvline(cap, color="0.7", linestyle="-", linewidth=0.8, zorder=0)
        panel.set(xscale="log", xlim=(1, max(2, curves["evaluations"].max())), xlabel="Evaluations of $f$")
        panel.xaxis.set_major_locator(FixedLocator([1, 2, 5, 10, 20, 50, 100]))
        panel.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        panel.xaxis.set_minor_locator(NullLocator())
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return figure


def draw(curves: pd.DataFrame, trained: tuple[int, int] | None = None) -> Figure:
    """Fig. 12 and its companions: PSNR (mean over scenes), residual (median and worst copy), share of converged copies.

    Parameters
    ----------
    curves : DataFrame
        From `study`.
    trained : (int, int), optional
        Fewest and most evaluations that an image got in training, shaded.
    """
    figure, panels = plt.subplots(1, 3, figsize=(TEXT_WIDTH, 2.2))
    for method in SOLVERS:
        mine = curves[curves["method"] == method].groupby("evaluations")
        at = np.array(list(mine.groups))
        line, = panels[0].plot(at, mine["psnr"].mean(), label=method.capitalize())
        panels[1].semilogy(at, mine["residual"].median())
        panels[1].fill_between(at, mine["residual"].median(), mine["worst"].max(), color=line.get_color(), alpha=0.15, lw=0)
        panels[2].plot(at + 1, 100 * mine["converged"].mean())  # an evaluation later the residual tells
    panels[1].axhline(TOLERANCE, color="0.4", linestyle="-", linewidth=0.8)
    for panel, name in zip(panels, ("MPSNR [dB]", "Relative residual", f"Copies that reached {TOLERANCE:g} [%]")):
        panel.set(xlabel="Evaluations of $f$", ylabel=name)
        if trained:
            panel.axvspan(*trained, color="0.88", lw=0, zorder=0, label="depth in training")
    panels[0].legend(loc="lower right")
    return figure
