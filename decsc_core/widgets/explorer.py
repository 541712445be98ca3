"""What the explorers have in common: they follow a bench, draw when they are in view, and say their facts."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import ipywidgets as widgets
import numpy as np

from decsc_core.study.figures import display_bands, false_colour
from decsc_core.widgets.bench import STYLE, WRAP, Bench
from decsc_core.widgets.picture import as_bytes, grey, signed
from decsc_core.widgets.status import Holding, guarded

CONTRAST = (0.5, 99.5)
"""Percentiles of the clean band that are shown black and white."""
GREY, COLOUR = "one band", "false colour"


class Facts(widgets.HTML):
    """A line of text whose numbers also stand in `data-` attributes, for those who read the page by program."""

    def show(self, text: str, **values: float | int | str) -> None:
        """Say `text`, plain, with `values`."""
        data = "".join(f" data-{key.replace('_', '-')}='{escape(str(value))}'" for key, value in values.items())
        self.value = f"<div class='decsc-facts'{data}>{escape(text)}</div>"


class Explorer(Holding, widgets.VBox):
    """A view of a bench. It refreshes itself when the bench has changed: at once in view, else when it comes into view.

    A subclass makes its widgets before it calls this, and writes `_refresh` (the bench has changed) and `_draw` (a
    control has moved).

    Parameters
    ----------
    bench : Bench
    children : widgets
    controls : widgets
        Those whose moves need nothing but `_draw`.
    in_view : bool
    """

    def __init__(
        self, bench: Bench, children: Sequence[widgets.Widget], controls: Sequence[widgets.Widget], in_view: bool = True
    ) -> None:
        super().__init__(children)
        self.bench, self.status = bench, bench.status
        self._drawn = None
        for control in controls:
            control.observe(self._moved, "value")
        bench.observe(self._bench_changed, "version")
        self._in_view = in_view
        self._follow()

    @guarded
    def in_view(self, yes: bool) -> None:
        """Tell whether the explorer can be seen."""
        self._in_view = yes
        self._follow()

    @guarded
    def _bench_changed(self, change: dict) -> None:
        self._follow()

    def _follow(self) -> None:
        """Catch up with the bench, if anybody can see it."""
        if not self._in_view or self._drawn == self.bench.version:
            return
        with self._holding():
            self._refresh()
        self._draw()
        self._drawn = self.bench.version

    @guarded
    def _moved(self, change: dict) -> None:
        if not self._held and not self._caught_up():
            self._draw()

    def _caught_up(self) -> bool:
        """Whether the bench was not the one that is drawn, for its refresh was interrupted or failed; it is refreshed now."""
        behind = self._drawn != self.bench.version
        if behind:
            self._follow()
            self.status.clear()
        return behind

    def _refresh(self) -> None:
        """Take over what has changed on the bench."""
        raise NotImplementedError

    def _draw(self) -> None:
        """Show what the controls ask for."""
        raise NotImplementedError


class View:
    """How a cube becomes a picture: one band in grey or three in false colour, in the contrast of a clean cube.

    Attributes
    ----------
    controls : list of widgets
        `kind` (`GREY` or `COLOUR`) and `band`, `red`, `green`, `blue`, counted from 1.
    """

    def __init__(self) -> None:
        self.kind = widgets.ToggleButtons(options=[GREY, COLOUR], style={"button_width": "9em"})
        self.band = slider("Band", 1, width="22em")
        self.red, self.green, self.blue = (slider(name, 1, width="19em") for name in ("Red", "Green", "Blue"))
        self.controls = [self.kind, self.band, self.red, self.green, self.blue]
        self.box = widgets.VBox(
            [
                widgets.HBox([self.band, self.kind], layout=WRAP),
                widgets.HBox([self.red, self.green, self.blue], layout=WRAP),
            ]
        )
        self.kind.observe(self._offer_colours, "value")
        self._offer_colours()

    def _offer_colours(self, change: dict | None = None) -> None:
        """Offer the bands of false colour where they are shown; explorers use `band` in both kinds of picture."""
        for control in (self.red, self.green, self.blue):
            control.layout.display = "" if self.kind.value == COLOUR else "none"

    @property
    def chosen(self) -> list[int]:
        """The bands shown, from 0."""
        chosen = [self.band] if self.kind.value == GREY else [self.red, self.green, self.blue]
        return [control.value - 1 for control in chosen]

    @property
    def facts(self) -> dict[str, object]:
        """Which band is chosen and which are shown, from 1, for `Facts.show`."""
        return {"band": self.band.value, "bands": " ".join(str(band + 1) for band in self.chosen)}

    def take(self, clean: np.ndarray, wavelengths: np.ndarray | None) -> None:
        """Look at a cube (H, W, B); a number of bands that is as before leaves the controls where they are."""
        self.clean, bands = clean, clean.shape[2]
        if self.band.max != bands:
            for control, band in zip(self.controls[1:], (bands // 2, *display_bands(bands, wavelengths))):
                control.max = bands
                control.value = band + 1
            show_anew(self.box)

    def picture(self, cube: np.ndarray) -> np.ndarray:
        """8-bit grey or colour of a cube like the clean one."""
        if self.kind.value == COLOUR:
            return as_bytes(false_colour(cube, bands=self.chosen, like=self.clean))
        return grey(cube[..., self.chosen[0]], *np.percentile(self.clean[..., self.chosen[0]], CONTRAST))

    def difference(self, cube: np.ndarray) -> np.ndarray:
        """8 bits of a difference of two cubes: 0 is medium grey, and steps are as bright as in `picture`'s grey."""
        low, high = np.percentile(self.clean[..., self.chosen], CONTRAST, axis=(0, 1))
        return self._pixels(signed(cube[..., self.chosen], (high - low) / 2))

    def stretched(self, cube: np.ndarray) -> tuple[np.ndarray, float]:
        """8 bits of a cube around 0, 0 in medium grey, and the value shown white: its largest, in the bands shown."""
        white = float(np.abs(cube[..., self.chosen]).max())
        return self._pixels(signed(cube[..., self.chosen], white)), white

    @staticmethod
    def _pixels(image: np.ndarray) -> np.ndarray:
        """(H, W) of one band, (H, W, 3) of three."""
        return image[..., 0] if image.shape[2] == 1 else image

    def psnr(self, per_band: np.ndarray) -> str:
        """What the PSNR of the bands shown is, from that of all bands (B,) [dB]."""
        return f"{per_band[self.chosen].mean():.2f} dB"


def side_by_side(panels: Sequence[widgets.Widget], width: str = "100%") -> widgets.GridBox:
    """Panels of one width, as many in a row as there is room for; the pictures of a row stand on one line under their captions."""
    columns = "repeat(auto-fit, minmax(min(12em, 100%), 1fr))"
    return widgets.GridBox(panels, layout={"width": width, "grid_template_columns": columns, "align_items": "flex-end"})


def slider(name: str, high: int, *, low: int = 1, width: str = "22em") -> widgets.IntSlider:
    """A slider of whole numbers from `low` to `high`, at `low`."""
    return widgets.IntSlider(low, min=low, max=high, description=name, style=STYLE, layout=widgets.Layout(width=width))


def show_anew(box: widgets.Box) -> None:
    """Show the sliders of a box anew after a change of ranges: Home and End keep to the old ones (noUiSlider)."""
    children, box.children = box.children, ()
    box.children = children
