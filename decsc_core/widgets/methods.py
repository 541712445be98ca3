"""The method comparison: two denoisers under a divider, their scores and errors, and DECSC's own error estimate."""

from __future__ import annotations

import ipywidgets as widgets
import matplotlib
import numpy as np

from decsc_core import weights as files
from decsc_core.denoisers.registry import LEARNED, METHODS
from decsc_core.study.calibration import agreement, over_bands
from decsc_core.study.evaluate import NOISY
from decsc_core.study.paper import label
from decsc_core.widgets.bench import STYLE, WRAP, Bench
from decsc_core.widgets.explorer import Explorer, Facts, View, side_by_side, slider
from decsc_core.widgets.picture import MARK, Panel, as_bytes, coloured, enlarge
from decsc_core.widgets.status import guarded

SWIPE_SIDE = 560
ERRORS = "magma"
ROWS = {"MPSNR [dB]": ("psnr", ".2f"), "SSIM": ("ssim", ".4f"), "SAM [rad]": ("sam", ".4f")}


class MethodExplorer(Explorer):
    """Any two methods of the registry, or the noisy cube, on the scene."""

    def __init__(self, bench: Bench, left: str = "tv", right: str = "", *, in_view: bool = True) -> None:
        options = [
            (f"{label(name)} ({name if _usable(name, bench) else 'no weights'})", name) for name in (NOISY, *METHODS)
        ]
        row = {"options": options, "style": STYLE, "layout": {"width": "24em"}}
        self.left = widgets.Dropdown(value=left, description="Left", **row)
        self.right = widgets.Dropdown(value=right or bench.method, description="Right", **row)
        self.shown = self.left.value, self.right.value
        self.divider = slider("Divider %", 100, low=0, width="36em")
        self.divider.value = 50
        self.view = View()
        self.swipe, self.facts, self.table = Panel("55%"), Facts(), widgets.HTML()
        self.maps = [Panel() for _ in range(3)]
        self.swipe.picture.on_point(self._point)
        super().__init__(
            bench,
            [
                widgets.HBox([self.left, self.right], layout=WRAP),
                self.divider,
                self.view.box,
                widgets.HBox(
                    [
                        self.swipe,
                        widgets.VBox(
                            [self.table, self.facts], layout=widgets.Layout(width="45%", padding="0 0 0 16px")
                        ),
                    ]
                ),
                side_by_side(self.maps),
            ],
            [self.divider, *self.view.controls],
            in_view,
        )
        for control in (self.left, self.right):
            control.observe(self._choose, "value")
        self.add_class("decsc-methods")

    def _refresh(self) -> None:
        self.view.take(self.bench.clean, self.bench.wavelengths)
        self._compute()

    @guarded
    def _choose(self, change: dict) -> None:
        if self._held:
            return
        try:
            self._compute()
        except (Exception, KeyboardInterrupt):
            with self._holding():
                self.left.value, self.right.value = self.shown
            raise
        self._draw()
        self.status.clear()

    def _compute(self) -> None:
        """Run both methods and the network, and show what does not change with the view: scores and error maps."""
        bench, chosen = self.bench, (self.left.value, self.right.value)
        results = [bench.estimate(name) for name in chosen]
        own = bench.estimate(bench.method)
        self.shown, self.results = chosen, results
        errors = [over_bands(result.estimate.cube - bench.clean) for result in results]
        spread, error = over_bands(own.estimate.spread), over_bands(own.estimate.cube - bench.clean)
        most = max(float(np.percentile(each, 99.5)) for each in errors)
        for panel, name, image in zip(self.maps, chosen, errors):
            panel.show(_heat(image, most), f"<b>Error of {label(name)}</b>, RMS over bands, brightest = {most:.3f}")
        top = float(np.percentile(spread, 99.5))
        self.maps[2].show(
            _heat(spread, top),
            f"<b>{label(bench.method)}'s own estimate</b>: spread over shifts, brightest = {top:.3f}",
        )
        self.table.value = _table([label(name) for name in chosen], results)
        self._agreement = agreement(spread, error)

    def _point(self, row: float, column: float) -> None:
        """Move the divider to this share of the picture's width."""
        self.divider.value = round(100 * column)

    def _draw(self) -> None:
        view = self.view
        left, right = (enlarge(view.picture(result.estimate.cube), SWIPE_SIDE) for result in self.results)
        at = round(self.divider.value / 100 * left.shape[1])
        image = coloured(right)
        image[:, :at] = coloured(left)[:, :at]
        image[:, max(at - 1, 0) : at + 1] = MARK
        names = [label(name) for name in self.shown]
        self.swipe.show(image, f"<b>{names[0]}</b> left of the line, <b>{names[1]}</b> right of it")
        psnr = [result.scores["psnr"] for result in self.results]
        beside = f"{names[1]}: {psnr[1] - psnr[0]:+.2f} dB beside {names[0]}. " if np.isfinite(psnr).all() else ""
        self.facts.show(
            f"{beside}Drag the line, or move the slider. "
            f"Does {label(self.bench.method)} know where it errs? "
            f"Its spread and its error have a correlation of {self._agreement:.2f} over the pixels.",
            left=self.shown[0],
            right=self.shown[1],
            divider=self.divider.value,
            psnr_left=f"{psnr[0]:.4f}",
            psnr_right=f"{psnr[1]:.4f}",
            agreement=f"{self._agreement:.3f}",
            **view.facts,
        )


def _usable(name: str, bench: Bench) -> bool:
    """Whether a method needs no weights, or has some on the bench or in the package."""
    if name == NOISY or name not in LEARNED or name == bench.method:
        return True
    try:
        files.shipped(name)
    except files.WeightsError:
        return False
    return True


def _heat(image: np.ndarray, most: float) -> np.ndarray:
    """8-bit colours of errors (H, W), 0 in black, `most` brightest."""
    return enlarge(as_bytes(matplotlib.colormaps[ERRORS](np.clip(image / max(most, 1e-12), 0, 1))[..., :3]))


def _table(names: list[str], results: list) -> str:
    """The scores of both methods as an HTML table."""
    cells = [["", *names]]
    for title, (key, form) in ROWS.items():
        cells.append([title, *(format(result.scores[key], form) for result in results)])
    cells.append(["Seconds", *(f"{result.seconds:.1f}" for result in results)])
    records = [result.estimate.record or [] for result in results]
    if any(records):
        most = (str(max(record.iterations for record in own)) if own else "" for own in records)
        worst = (f"{max(record.residuals[-1] for record in own):.2g}" if own else "" for own in records)
        cells += [["Iterations", *most], ["Residual", *worst]]
    td = "<td style='padding:2px 12px 2px 0'>{}</td>"
    rows = "".join(f"<tr>{''.join(map(td.format, row))}</tr>" for row in cells)
    return f"<table class='decsc-scores'>{rows}</table>"
