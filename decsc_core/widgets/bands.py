"""The band explorer: what the noise did to a band, a pixel's spectrum and the profiles, and what DECSC made of it."""

from __future__ import annotations

import ipywidgets as widgets
import numpy as np

from decsc_core import metrics
from decsc_core.study.figures import COLOURS
from decsc_core.study.paper import label
from decsc_core.widgets.bench import WRAP, Bench
from decsc_core.widgets.explorer import Explorer, Facts, View, show_anew, side_by_side, slider
from decsc_core.widgets.picture import Panel, Plot, enlarge, mark

LINES = {"Clean": ("black", 1.4), "Noisy": ("0.6", 0.8)}
"""Colour and width of their curves; other curves take the colours of all figures."""
LEAST = 8
"""Rows and columns that the zoom shows at least."""


class BandExplorer(Explorer):
    """Clean, noisy and restored cube and the error, band by band, with a pixel's spectrum and the profiles of the band.

    Parameters
    ----------
    bench : Bench
    restore : bool
        Whether to restore at all; without, the error is the noise.
    """

    def __init__(self, bench: Bench, *, restore: bool = True, in_view: bool = True) -> None:
        self._restore = restore
        self.view = View()
        self.row, self.column = (slider(name, 0, low=0) for name in ("Row", "Column"))
        self.rows, self.columns = (
            widgets.IntRangeSlider(
                value=(0, 1),
                min=0,
                max=1,
                description=name,
                style={"description_width": "8em"},
                layout=widgets.Layout(width="25em"),
            )
            for name in ("Zoom rows", "Zoom columns")
        )
        self._places = widgets.HBox([self.row, self.column, self.rows, self.columns], layout=WRAP)
        self.panels = [Panel() for _ in range(4 if restore else 3)]
        self.plot, self.facts = Plot(10.4, 2.8, (1.35, 1, 1), above=0.5), Facts()
        self.cubes: dict[str, np.ndarray] = {}
        for panel in self.panels:
            panel.picture.on_point(self._point)
        super().__init__(
            bench,
            [self.view.box, self._places, side_by_side(self.panels), self.facts, self.plot],
            [*self.view.controls, self.row, self.column, self.rows, self.columns],
            in_view,
        )
        self.add_class("decsc-bands")

    def _refresh(self) -> None:
        bench = self.bench
        same = "Clean" in self.cubes and np.array_equal(self.cubes["Clean"], bench.clean)
        self.cubes = {"Clean": bench.clean, "Noisy": bench.noisy}
        if self._restore:
            self.cubes[label(bench.method)] = bench.estimate(bench.method).estimate.cube
        *_, self._last = self.cubes
        self._names = {name: bench.reference if name == "Clean" else name for name in self.cubes}
        self._psnr = {
            name: metrics.psnr_per_band(bench.clean, cube)
            for name, cube in self.cubes.items()
            if bench.reference == "Clean" and name != "Clean"
        }
        self.view.take(bench.clean, bench.wavelengths)
        known = bench.wavelengths is not None
        self._x = bench.wavelengths if known else np.arange(1, bench.clean.shape[2] + 1)
        for axis, name in zip(
            self.plot.axes, ("Wavelength [nm]" if known else "Band", "Row [pixel]", "Column [pixel]")
        ):
            axis.set_xlabel(name)
        for at, window, length in zip((self.row, self.column), (self.rows, self.columns), bench.clean.shape):
            if window.max != length:
                window.max, at.max = length, length - 1
                at.value = length // 2
                show_anew(self._places)
            if not same:
                window.value = 0, length

    def _point(self, row: float, column: float) -> None:
        """Choose the pixel at these shares of a picture's height and width."""
        places = [
            window[0] + int(share * (window[1] - window[0])) for window, share in zip(self._window(), (row, column))
        ]
        with self._holding():
            self.row.value, self.column.value = places
        self._moved({})

    def _window(self) -> list[tuple[int, int]]:
        """First row and the one after the last of the zoom window, and the same for its columns; at least `LEAST` of each."""
        for control in (self.rows, self.columns):
            low = min(control.value[0], control.max - LEAST)
            with self._holding():
                control.value = low, max(control.value[1], low + LEAST)
        return [self.rows.value, self.columns.value]

    def _draw(self) -> None:
        view, clean = self.view, self.bench.clean
        pixel = self.row.value, self.column.value
        window = self._window()
        error = self.cubes[self._last] - clean
        part = tuple(slice(*edges) for edges in window)
        centre = [(at + 0.5 - low) / (high - low) for at, (low, high) in zip(pixel, window)]
        captions = {
            name: f"<b>{called}</b> {view.psnr(self._psnr[name]) if name in self._psnr else ''}"
            for name, called in self._names.items()
        }
        captions["error"] = f"<b>Error</b> of {self._last}, grey = 0" if self._restore else "<b>Noise</b>, grey = 0"
        images = [*map(view.picture, self.cubes.values()), view.difference(error)]
        for panel, image, caption in zip(self.panels, images, captions.values()):
            shown = enlarge(image[part])
            panel.show(mark(shown, *centre) if all(0 <= share < 1 for share in centre) else shown, caption)

        band = view.band.value - 1
        values = {name: float(cube[(*pixel, band)]) for name, cube in self.cubes.items()}
        told = ", ".join(f"{self._names[name]} {value:.3f}" for name, value in values.items())
        self.facts.show(
            f"{self.bench.band_name(band).capitalize()}, pixel ({pixel[0]}, {pixel[1]}): {told}, "
            f"error {values[self._last] - values['Clean']:+.3f}",
            row=pixel[0],
            column=pixel[1],
            rows="{} {}".format(*window[0]),
            columns="{} {}".format(*window[1]),
            **view.facts,
            **{f"value_{name.lower()}": f"{value:.4f}" for name, value in values.items()},
        )
        self._draw_curves(pixel, band)

    def _draw_curves(self, pixel: tuple[int, int], band: int) -> None:
        """The spectra of a pixel, and the profiles of a band."""
        plot, x = self.plot, self._x
        marker = "." if len(x) == 1 else "None"
        for name, cube in reversed(self.cubes.items()):
            colour, width = LINES.get(name, (COLOURS[0], 1.2))
            pen = {"color": colour, "linewidth": width, "linestyle": "-"}
            plot.line(0, name, x, cube[pixel], label=self._names[name], marker=marker, **pen)
            plot.line(1, name, range(len(cube)), metrics.row_mean(cube, band), **pen)
            plot.line(2, name, range(cube.shape[1]), metrics.column_mean(cube, band), **pen)
        error = self.cubes[self._last][pixel] - self.bench.clean[pixel]
        last = "Error" if self._restore else "Noise"
        plot.line(0, last, x, error, color=COLOURS[1], linestyle="--", linewidth=0.9, marker=marker)
        for axis, at in enumerate((x[band], *pixel)):
            plot.cursor(axis, at)
        plot.axes[0].set_title(f"Spectrum of pixel ({pixel[0]}, {pixel[1]})")
        plot.axes[1].set_title(f"Row means of band {band + 1}")
        plot.axes[2].set_title(f"Column means of band {band + 1}")
        plot.explain(0, [*self.cubes, last])
        plot.show()
