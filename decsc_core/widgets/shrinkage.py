"""The shrinkage explorer: the soft threshold as the minimiser of a sum of two terms, Eq. (10)."""

from __future__ import annotations

import ipywidgets as widgets
import numpy as np
import torch

from decsc_core.model.dictionary import soft_threshold
from decsc_core.study.figures import COLOURS
from decsc_core.widgets.bench import WRAP
from decsc_core.widgets.explorer import Facts
from decsc_core.widgets.picture import Plot

REACH = 2.0
GRID = np.linspace(-REACH, REACH, 401)


class ShrinkageExplorer(widgets.VBox):
    """A code x and a threshold theta on sliders: (u - x)^2 / 2 + theta |u|, its minimiser, and the whole map."""

    def __init__(self) -> None:
        row = {
            "min": 0.0,
            "step": 0.05,
            "readout_format": ".2f",
            "style": {"description_width": "7em"},
            "layout": {"width": "28em"},
        }
        self.code = widgets.FloatSlider(1.2, **row | {"min": -REACH}, max=REACH, description="Code x")
        self.threshold = widgets.FloatSlider(0.5, **row, max=1.5, description="Threshold θ")
        self.facts, self.plot = Facts(), Plot(8, 2.6, (1, 1))
        self.plot.axes[0].set(title="½ (u − x)² + θ |u| and its minimum", xlabel="u")
        self.plot.axes[1].set(title="Soft(x), Eq. (10)", xlabel="x")
        super().__init__([widgets.HBox([self.code, self.threshold], layout=WRAP), self.facts, self.plot])
        for control in (self.code, self.threshold):
            control.observe(self._draw, "value")
        self.add_class("decsc-shrinkage")
        self._draw()

    def _draw(self, change: dict | None = None) -> None:
        x, theta = self.code.value, self.threshold.value
        codes, bound = (torch.tensor(values, dtype=torch.float64) for values in ([x, *GRID], theta))
        shrunk = soft_threshold(codes, bound).numpy()
        minimiser = float(shrunk[0])
        told = "a zero: the code is dropped" if minimiser == 0 else f"{minimiser:+.2f}: the code loses θ"
        numbers = {"code": x, "threshold": theta, "shrunk": minimiser}
        self.facts.show(
            f"Soft({x:+.2f}) at θ = {theta:.2f} is {told}.", **{name: f"{value:.2f}" for name, value in numbers.items()}
        )

        plot = self.plot
        least = 0.5 * (minimiser - x) ** 2 + theta * abs(minimiser)
        plot.line(0, "objective", GRID, 0.5 * (GRID - x) ** 2 + theta * np.abs(GRID), color=COLOURS[0])
        plot.line(0, "minimum", [minimiser], [least], marker="o", color=COLOURS[1])
        plot.line(1, "identity", GRID, GRID, color="0.7", linestyle="-", linewidth=0.8)
        plot.line(1, "soft", GRID, shrunk[1:], color=COLOURS[0])
        plot.line(1, "minimum", [x], [minimiser], marker="o", color=COLOURS[1])
        plot.show()
