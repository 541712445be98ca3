"""Notebook 00: all its checks hold, and every equation stands there beside the function that computes it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import papermill
import pytest

from decsc_core.study.paper_code import EQUATIONS, NOTATION

NOTEBOOK = Path(__file__).resolve().parents[1] / "notebooks" / "00_method.ipynb"


@pytest.fixture(scope="module")
def cells() -> list[dict]:
    return json.loads(NOTEBOOK.read_text())["cells"]


@pytest.mark.slow
def test_every_check_holds(tmp_path):
    """The checks are assertions: one that fails stops the notebook with PapermillExecutionError. Another seed than that of the run in test_runs.py."""
    parameters = {"figures": str(tmp_path / "figures"), "seed": 1}
    papermill.execute_notebook(
        NOTEBOOK, tmp_path / "run.ipynb", parameters, cwd=NOTEBOOK.parent, kernel_name="python3", progress_bar=False
    )
    table = (tmp_path / "figures" / "table1_notation.md").read_text()
    assert all(f"| {row.name} " in table for row in NOTATION)


@pytest.mark.parametrize("equation", EQUATIONS, ids=lambda equation: f"Eq. {equation.number}")
def test_every_equation_stands_beside_its_function(cells, equation):
    tagged = [n for n, cell in enumerate(cells) if rf"\tag{{{equation.number}}}" in "".join(cell["source"])]
    shown = [n for n, cell in enumerate(cells) if f'show("{equation.code}")' in "".join(cell["source"])]
    assert len(tagged) == 1 and cells[tagged[0]]["cell_type"] == "markdown"
    assert shown, f"the notebook does not show {equation.code}"


def test_every_cell_of_equations_is_followed_by_a_check(cells):
    for n, cell in enumerate(cells):
        if r"\tag{" in "".join(cell["source"]):
            following = ""
            for later in cells[n + 1 :]:
                if re.search(r"\\tag\{", "".join(later["source"])):
                    break
                following += "".join(later["source"])
            assert "assert " in following, f"no check after cell {cell['id']}"
