"""Explorers for the notebooks: sliders that look inside the scenes, the network and its fixed point.

Everything is computed by the floors below and lives there; a widget shows numbers, it never holds the only copy of one.
"""

from __future__ import annotations

import ipywidgets as widgets

from decsc_core.widgets.bands import BandExplorer
from decsc_core.widgets.bench import Bench
from decsc_core.widgets.dictionaries import DictionaryExplorer
from decsc_core.widgets.fixed_point import FixedPointExplorer
from decsc_core.widgets.methods import MethodExplorer
from decsc_core.widgets.shrinkage import ShrinkageExplorer

__all__ = [
    "BandExplorer",
    "Bench",
    "DictionaryExplorer",
    "FixedPointExplorer",
    "MethodExplorer",
    "ShrinkageExplorer",
    "explore",
]


def explore(bench: Bench) -> widgets.VBox:
    """All explorers of a bench in one page: the bench on top, an explorer a tab. Those not in view compute nothing."""
    tabs = {
        "Bands": BandExplorer(bench),
        "Fixed point": FixedPointExplorer(bench, in_view=False),
        "Dictionaries": DictionaryExplorer(bench, in_view=False),
        "Methods": MethodExplorer(bench, in_view=False),
    }
    tab = widgets.Tab(list(tabs.values()), titles=list(tabs))

    def turn(change: dict) -> None:
        for number, explorer in enumerate(tab.children):
            explorer.in_view(number == change["new"])

    tab.observe(turn, "selected_index")
    return widgets.VBox([bench, tab])
