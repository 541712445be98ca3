"""The dictionary explorer: the atoms of K and D, the most used first, and what one of them adds to the scene."""

from __future__ import annotations

import ipywidgets as widgets
import numpy as np

from decsc_core import metrics
from decsc_core.model.dictionary import SPECTRAL_KERNEL
from decsc_core.widgets.bench import WRAP, Bench
from decsc_core.widgets.explorer import Explorer, Facts, View, show_anew, side_by_side, slider
from decsc_core.widgets.picture import MARK, Panel, coloured, enlarge, signed

GRID_SIDE = 640
SOLVER = {"solver": "anderson", "tolerance": 1e-3}
"""The solve whose last iterate tells the use; the fixed-point explorer starts with the same."""


class DictionaryExplorer(Explorer):
    """The atoms of both dictionaries, in order of use: the root mean square of what an atom adds to the scene."""

    def __init__(self, bench: Bench, *, in_view: bool = True) -> None:
        self.which = widgets.ToggleButtons(
            options=[("K: shared, an atom a band", "K"), ("D: unshared, 3 slices an atom", "D")],
            style={"button_width": "17em"},
        )
        self.rank = slider("Rank", 1)
        self._rank_box = widgets.Box([self.rank])
        self.slice = slider("Slice of D", SPECTRAL_KERNEL)
        self.view = View()
        self.grid = Panel("40%")
        self.panels = [Panel() for _ in range(3)]
        self.facts = Facts()
        self.grid.picture.on_point(self._point)
        super().__init__(
            bench,
            [
                widgets.HBox([self.which, self._rank_box, self.slice], layout=WRAP),
                self.view.box,
                self.facts,
                widgets.HBox([self.grid, side_by_side(self.panels, "60%")], layout={"align_items": "flex-start"}),
            ],
            [self.which, self.rank, self.slice, *self.view.controls],
            in_view,
        )
        self.add_class("decsc-dictionaries")

    def _refresh(self) -> None:
        bench = self.bench
        self.trace = bench.trace(**SOLVER, first=bench.windows()[0])
        self.view.take(self.trace.clean, self.trace.wavelengths)
        self.bands = "the scene" if len(bench.windows()) == 1 else f"the bands 1 to {self.trace.clean.shape[2]}, the first window"
        self.codes = self.trace.iterates[-1]
        self.image = sum(self.trace.problem.parts(self.codes))  # without the misfit, which would stand in for a missing atom
        config = bench.model.config
        with self.status.busy("Every atom is taken out once"):
            self.use = {
                which: np.array(
                    [
                        np.sqrt(np.mean(self.trace.problem.contribution(self.codes, which, atom) ** 2))
                        for atom in range(atoms)
                    ]
                )
                for which, atoms in (("K", config.shared_atoms), ("D", config.unshared_atoms))
            }
        self.order = {which: np.argsort(-use, kind="stable") for which, use in self.use.items()}

    def _point(self, row: float, column: float) -> None:
        """Choose the atom at these shares of the grid's height and width."""
        count = len(self.order[self.which.value])
        columns, rows = _grid_shape(count)
        self.rank.value = min(int(row * rows) * columns + int(column * columns), count - 1) + 1

    def _draw(self) -> None:
        which, view = self.which.value, self.view
        order = self.order[which]
        if self.rank.max != len(order):
            with self._holding():
                self.rank.max = len(order)
            show_anew(self._rank_box)
        rank = self.rank.value
        atom = int(order[rank - 1])
        self.slice.layout.display = "" if which == "D" else "none"
        model, band = self.bench.model, view.band.value - 1
        dictionary, at = (model.shared, band) if which == "K" else (model.unshared, self.slice.value - 1)
        kernels = dictionary.kernel("reconstruction").detach().cpu().numpy()[:, at]
        white = float(np.abs(kernels).max())
        self.grid.show(
            enlarge(_grid(signed(kernels[order], white), rank - 1), GRID_SIDE),
            f"<b>Atoms of {which}</b>, {'band' if which == 'K' else 'slice'} {at + 1}, by use, white = +{white:.2g}",
        )
        added = self.trace.problem.contribution(self.codes, which, atom)
        shown, largest = view.stretched(added)
        clean = self.trace.clean
        with_it, without = metrics.mpsnr(clean, self.image), metrics.mpsnr(clean, self.image - added)
        own = float(np.abs(kernels[atom]).max())
        self.panels[0].show(enlarge(signed(kernels[atom], own)), f"<b>Atom {atom + 1}</b>, white = +{own:.2g}")
        self.panels[1].show(enlarge(shown), f"<b>What it adds</b>, white = +{largest:.2g}")
        self.panels[2].show(enlarge(view.picture(self.image - added)), "<b>The scene without it</b>")
        use = self.use[which]
        self.facts.show(
            f"Atom {atom + 1} of {which}, rank {rank} of {len(order)} by use: it adds {use[atom]:.4f} (root mean square "
            f"over {self.bands}), "
            f"{use[atom] / use.sum():.1%} of what all atoms of {which} add one by one. "
            f"Without it {without:.2f} dB, with it {with_it:.2f} dB.",
            which=which,
            rank=rank,
            atom=atom + 1,
            use=f"{use[atom]:.5f}",
            without=f"{without:.3f}",
            with_it=f"{with_it:.3f}",
            slice=self.slice.value,
            **view.facts,
        )


def _grid_shape(count: int) -> tuple[int, int]:
    """Columns and rows of a nearly square grid of `count` cells."""
    columns = int(np.ceil(np.sqrt(count)))
    return columns, -(-count // columns)


def _grid(atoms: np.ndarray, chosen: int) -> np.ndarray:
    """8-bit atoms (M, k, k) side by side, row by row, in frames; that of the chosen one has the colour of marks."""
    count, side, _ = atoms.shape
    columns, rows = _grid_shape(count)
    image = np.full((rows * (side + 2), columns * (side + 2)), 255, np.uint8)
    for number, atom in enumerate(atoms):
        top, left = number // columns * (side + 2), number % columns * (side + 2)
        image[top + 1 : top + 1 + side, left + 1 : left + 1 + side] = atom
    image = coloured(image)
    top, left = chosen // columns * (side + 2), chosen % columns * (side + 2)
    frame = image[top : top + side + 2, left : left + side + 2]
    inside = frame[1:-1, 1:-1].copy()
    frame[:] = MARK
    frame[1:-1, 1:-1] = inside
    return image
