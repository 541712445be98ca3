"""Pictures in the browser: arrays and figures as PNG bytes, and a picture that tells where the mouse points."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from html import unescape
from io import BytesIO

import anywidget
import imageio.v3 as imageio
import ipywidgets as widgets
import numpy as np
import traitlets
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D

from decsc_core.study.figures import COLOURS, style

SIDE = 320
"""Pixels to which the longer side of a small picture is enlarged, at least, by repeating its pixels."""
DPI = 110
_TAGS = re.compile("<[^>]*>")
MARK = tuple(round(255 * part) for part in to_rgb(COLOURS[1]))
"""Colour of marks."""


class Picture(anywidget.AnyWidget):
    """A picture that tells where the mouse is pressed or dragged in it.

    Attributes
    ----------
    png : bytes
        What is shown.
    title : str
        Its text for those who do not see it.
    """

    _esm = """
    function render({ model, el }) {
      const image = document.createElement("img");
      image.draggable = false;
      const show = () => {
        const old = image.src;
        image.src = URL.createObjectURL(new Blob([model.get("png")], { type: "image/png" }));
        URL.revokeObjectURL(old);
      };
      const name = () => { image.alt = model.get("title"); };
      const point = (event) => {
        const box = image.getBoundingClientRect();
        const share = (at, length) => Math.min(Math.max(at / length, 0), 1 - 1e-9);
        const row = share(event.clientY - box.top, box.height);
        const column = share(event.clientX - box.left, box.width);
        model.set("pointer", { row, column, time: event.timeStamp });
        model.save_changes();
      };
      image.addEventListener("pointerdown", (event) => {
        if (event.button !== 0) return;
        image.setPointerCapture(event.pointerId);
        point(event);
      });
      image.addEventListener("pointermove", (event) => { if (event.buttons & 1) point(event); });
      model.on("change:png", show);
      model.on("change:title", name);
      show();
      name();
      el.classList.add("decsc-picture");
      el.appendChild(image);
      return () => { model.off("change:png", show); model.off("change:title", name); URL.revokeObjectURL(image.src); };
    }
    export default { render };
    """
    _css = """
    .decsc-picture img {
      width: 100%; display: block; cursor: crosshair; touch-action: none; image-rendering: pixelated;
    }
    """
    png = traitlets.Bytes().tag(sync=True)
    title = traitlets.Unicode().tag(sync=True)
    pointer = traitlets.Dict().tag(sync=True)

    def on_point(self, handler: Callable[[float, float], None]) -> None:
        """Call `handler` with the place of the mouse, as shares of the height and the width in [0, 1)."""
        self.observe(lambda change: handler(change["new"]["row"], change["new"]["column"]), "pointer")


class Panel(widgets.VBox):
    """A picture under its caption: `caption`, an HTML widget, and `picture`, a `Picture`.

    Parameters
    ----------
    width : str, optional
        In CSS; by default that of its column, see `explorer.side_by_side`.
    """

    def __init__(self, width: str = "") -> None:
        self.caption, self.picture = widgets.HTML(), Picture()
        layout = {"margin": "0 6px 0 0", "min_width": "0"} | ({"width": width} if width else {})
        super().__init__([self.caption, self.picture], layout=layout)

    def show(self, image: np.ndarray, caption: str) -> None:
        """Show 8-bit grey (H, W) or colour (H, W, 3) under a caption in HTML, of which the words are the picture's text."""
        self.caption.value, self.picture.title = caption, unescape(_TAGS.sub("", caption))
        self.picture.png = png(image)


class Plot(widgets.Image):
    """Curves on `axes` side by side, in the style of all figures, shown as PNG.

    Making a line and its axis takes far longer than moving it, so lines are made once and then moved.

    Parameters
    ----------
    width, height : float
        Of the figure [inch].
    ratios : sequence of float
        Relative widths of its axes.
    above : float
        Height above the axes, for their titles and a legend [inch].
    """

    def __init__(self, width: float, height: float, ratios: tuple[float, ...], above: float = 0.3) -> None:
        super().__init__(format="png", layout=widgets.Layout(margin="0", max_width="100%", object_fit="contain"))
        with style():
            figure = Figure((width, height), DPI, layout="none")
            self.axes = figure.subplots(1, len(ratios), width_ratios=ratios, squeeze=False)[0]
            gap = 0.55 * sum(ratios) / width
            figure.subplots_adjust(0.55 / width, 0.45 / height, 1 - 0.1 / width, 1 - above / height, wspace=gap)
            for axis in self.axes:
                axis.locator_params(nbins=5)
        self._canvas = FigureCanvasAgg(figure)
        self._lines: dict[tuple[int, str], Line2D] = {}
        self.legend: Legend | None = None

    def line(self, axis: int, name: str, x: Sequence[float], y: Sequence[float], **pen) -> None:
        """Draw the line `name` of an axis, or move it, with the properties `pen`, of which its label is `name` unless given."""
        pen = {"label": name} | pen
        if (axis, name) not in self._lines:
            with style():
                self._lines[axis, name] = self.axes[axis].plot([], [], **pen)[0]
        self._lines[axis, name].set_data(x, y)
        self._lines[axis, name].set(**pen)

    def cursor(self, axis: int, x: float) -> None:
        """A vertical line at `x` over the whole height of an axis."""
        if (axis, "cursor") not in self._lines:
            with style():
                self._lines[axis, "cursor"] = self.axes[axis].axvline(
                    x, color=COLOURS[1], linestyle="-", linewidth=0.9, zorder=1
                )
        self._lines[axis, "cursor"].set_xdata([x, x])

    def explain(self, axis: int, names: Sequence[str]) -> None:
        """Say above all axes what the lines `names` of an axis are: `legend`, made anew."""
        if self.legend:
            self.legend.remove()
        lines = [self._lines[axis, name] for name in names]
        with style():
            self.legend = self._canvas.figure.legend(handles=lines, loc="upper center", ncol=len(lines), frameon=False)

    def show(self) -> None:
        """Fit the axes to their lines and show the picture."""
        for axis in self.axes:
            axis.relim()
            axis.autoscale_view()
        with style(), BytesIO() as file:
            self._canvas.print_png(file, pil_kwargs={"compress_level": 1})
            self.value = file.getvalue()


def png(image: np.ndarray) -> bytes:
    """The PNG file of 8-bit grey (H, W) or colour (H, W, 3)."""
    return imageio.imwrite("<bytes>", image, extension=".png", compress_level=1)


def grey(band: np.ndarray, low: float, high: float) -> np.ndarray:
    """A band (H, W) as 8-bit grey, black at `low` and white at `high`."""
    return as_bytes((band - low) / max(high - low, 1e-6))


def signed(band: np.ndarray, white: float) -> np.ndarray:
    """Values around 0 as 8 bits of the same shape: 0 is medium grey, `white` white, and its negative black."""
    return as_bytes(0.5 + 0.5 * band / np.maximum(white, 1e-12))


def as_bytes(image: np.ndarray) -> np.ndarray:
    """An image of [0, 1] in 8 bits; what lies outside is clipped."""
    return np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)


def enlarge(image: np.ndarray, side: int = SIDE) -> np.ndarray:
    """Repeat the pixels of an image (H, W) or (H, W, 3) until its longer side has about `side` of them."""
    times = max(1, round(side / max(image.shape[:2])))
    return image.repeat(times, axis=0).repeat(times, axis=1)


def mark(image: np.ndarray, row: float, column: float) -> np.ndarray:
    """An 8-bit image as colour, with a cross around a place given as shares of its height and width."""
    image = coloured(image)
    y, x = int(row * image.shape[0]), int(column * image.shape[1])
    for near, far in ((6, 22), (-22, -6)):
        image[max(y - 1, 0) : y + 2, max(x + near, 0) : max(x + far, 0)] = MARK
        image[max(y + near, 0) : max(y + far, 0), max(x - 1, 0) : x + 2] = MARK
    return image


def coloured(image: np.ndarray) -> np.ndarray:
    """An 8-bit image (H, W) or (H, W, 3) as a new (H, W, 3)."""
    return np.array(image if image.ndim == 3 else np.stack([image] * 3, axis=2))
