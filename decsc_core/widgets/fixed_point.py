"""The fixed-point explorer: the iterates of a solver, their two parts, their codes, and how PSNR and residual went."""

from __future__ import annotations

import ipywidgets as widgets
import numpy as np
from matplotlib.ticker import NullLocator

from decsc_core.study.convergence import SOLVERS, TOLERANCE
from decsc_core.study.figures import COLOURS
from decsc_core.widgets.bench import STYLE, WRAP, Bench
from decsc_core.widgets.explorer import Explorer, Facts, View, show_anew, side_by_side, slider
from decsc_core.widgets.picture import Panel, Plot, enlarge, signed
from decsc_core.widgets.status import guarded

TOLERANCES = (1e-1, 3e-2, 1e-2, 3e-3, TOLERANCE, 3e-4, 1e-4)
SMALL = 0.01
"""Codes below this share of the largest count as small."""


class FixedPointExplorer(Explorer):
    """The iterates of a solver on one copy of the noisy scene.

    The codes are those before the final evaluations of f that denoising adds.
    """

    def __init__(self, bench: Bench, *, in_view: bool = True) -> None:
        self.solver = widgets.ToggleButtons(
            options=[(name.capitalize(), name) for name in SOLVERS], value="anderson", style={"button_width": "8em"}
        )
        self.tolerance = widgets.SelectionSlider(
            options=[(f"{value:g}", value) for value in TOLERANCES],
            value=TOLERANCE,
            description="Tolerance",
            style=STYLE,
            continuous_update=False,
            layout=widgets.Layout(width="20em"),
        )
        self.window = widgets.Dropdown(description="Bands", style=STYLE, layout=widgets.Layout(width="16em"))
        self.iterate = slider("Iterate", 1, low=0, width="36em")
        self._iterate_box = widgets.Box([self.iterate])
        self.view = View()
        self.shared_atom, self.unshared_atom, self.slice = (slider(name, 1) for name in ("Atom of S", "Atom of H", "Slice of H"))
        self._codes_box = widgets.HBox([self.shared_atom, self.unshared_atom, self.slice], layout=WRAP)
        self.panels = [Panel() for _ in range(4)]
        self.codes = [Panel() for _ in range(2)]
        self.plot, self.facts = Plot(4.6, 2.3, (1, 1)), Facts()
        for axis, name in zip(self.plot.axes, ("MPSNR [dB]", "Relative residual")):
            axis.set(title=name, xlabel="Evaluations of f")
            axis.xaxis.get_major_locator().set_params(integer=True)
        self.plot.axes[1].set_yscale("log")
        self.plot.axes[1].yaxis.set_minor_locator(NullLocator())
        super().__init__(
            bench,
            [
                widgets.HBox([self.solver, self.tolerance, self.window], layout=WRAP),
                self._iterate_box,
                self.view.box,
                self.facts,
                side_by_side(self.panels),
                self._codes_box,
                widgets.HBox(
                    [
                        side_by_side(self.codes, "50%"),
                        widgets.Box([self.plot], layout=widgets.Layout(width="50%")),
                    ]
                ),
            ],
            [self.iterate, *self.view.controls, self.shared_atom, self.unshared_atom, self.slice],
            in_view,
        )
        for control in (self.solver, self.tolerance, self.window):
            control.observe(self._solve_again, "value")
        self.add_class("decsc-fixed-point")

    def _refresh(self) -> None:
        firsts = self.bench.windows()
        if tuple(self.window.options) != tuple(self._windows(firsts)):
            self.window.options = self._windows(firsts)
            self.window.value = firsts[0]
        self.window.layout.display = "none" if len(firsts) == 1 else ""
        config = self.bench.model.config
        most, controls = (config.shared_atoms, config.unshared_atoms, config.bands - 2), self._codes_box.children
        if most != tuple(control.max for control in controls):
            for control, high in zip(controls, most):
                control.max = high
            show_anew(self._codes_box)
        self._solve()

    def _windows(self, firsts: list[int]) -> list[tuple[str, int]]:
        bands = min(self.bench.model.config.bands, self.bench.clean.shape[2])
        return [(f"{first + 1} to {first + bands}", first) for first in firsts]

    @guarded
    def _solve_again(self, change: dict) -> None:
        if self._held or self._caught_up():
            return
        with self._holding():
            try:
                self._solve()
            except (Exception, KeyboardInterrupt):
                self.solver.value, self.tolerance.value, self.window.value = self.solved
                raise
        self._draw()
        self.status.clear()

    def _solve(self) -> None:
        """Solve as the controls ask, and look at the last iterate."""
        asked = self.solver.value, self.tolerance.value, self.window.value
        self.trace = trace = self.bench.trace(*asked)
        self.solved = asked
        self.view.take(trace.clean, trace.wavelengths)
        self.iterate.max = len(trace.iterates) - 1
        self.iterate.value = self.iterate.max
        show_anew(self._iterate_box)

    def _draw(self) -> None:
        trace, k, view = self.trace, self.iterate.value, self.view
        shared, unshared = trace.problem.parts(trace.iterates[k])
        image = trace.problem.image(trace.iterates[k])
        before = trace.problem.image(trace.iterates[k - 1]) if k else image
        (step, largest), (part, most) = view.stretched(image - before), view.stretched(unshared)
        psnr, residual = (float(trace.curve[name].iloc[k]) for name in ("psnr", "worst"))
        self.panels[0].show(enlarge(view.picture(image)), f"<b>Reconstruction</b> {psnr:.2f} dB")
        self.panels[1].show(enlarge(view.picture(shared)), "<b>GIC</b>, shared: K ⊗ S")
        self.panels[2].show(enlarge(part), f"<b>LSU</b>, unshared: D ⋆ H, white = +{most:.2g}")
        self.panels[3].show(enlarge(step), f"<b>Update</b>, {f'white = +{largest:.2g}' if k else 'no step yet'}")

        S, H = (codes[0].numpy() for codes in trace.problem.layer.unpack(trace.iterates[k]))
        atoms = self.shared_atom.value, self.unshared_atom.value
        maps = S[atoms[0] - 1], H[atoms[1] - 1, self.slice.value - 1]
        names = f"S, atom {atoms[0]}", f"H, atom {atoms[1]}, slice {self.slice.value}"
        for panel, codes, name in zip(self.codes, maps, names):
            most = float(np.abs(codes).max())
            panel.show(enlarge(signed(codes, most)), f"<b>{name}</b>, white = +{most:.2g}")
        zeros = [float((codes == 0).mean()) for codes in (S, H)]
        small = [float((np.abs(codes) < SMALL * np.abs(codes).max()).mean()) for codes in (S, H)]
        self.facts.show(
            f"After {k} of {len(trace.iterates) - 1} evaluations: {psnr:.2f} dB, relative residual {residual:.2g}. "
            f"Zeros: S {zeros[0]:.1%}, H {zeros[1]:.1%}; smaller than {SMALL:.0%} of the largest: "
            f"S {small[0]:.0%}, H {small[1]:.0%}.",
            iterate=k,
            psnr=f"{psnr:.4f}",
            residual=f"{residual:.3e}",
            zeros_s=f"{zeros[0]:.4f}",
            zeros_h=f"{zeros[1]:.4f}",
            solver=self.solver.value,
            first=self.window.value + 1,
            tolerance=f"{self.tolerance.value:g}",
            atoms=f"{atoms[0]} {atoms[1]} {self.slice.value}",
            **view.facts,
        )
        curve = trace.curve
        for axis, name in enumerate(("psnr", "worst")):
            self.plot.line(axis, name, curve["evaluations"], curve[name], marker=".", color=COLOURS[0])
            self.plot.line(axis, "iterate", [k], [curve[name].iloc[k]], marker="o", color=COLOURS[1])
            self.plot.cursor(axis, k)
        ends = 0, max(self.iterate.max, 1)
        self.plot.line(1, "tolerance", ends, [self.tolerance.value] * 2, color="0.4", linestyle=":", linewidth=0.8)
        self.plot.show()
