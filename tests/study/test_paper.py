"""The paper's numbers against the paper: every cell of Tables II to V as the text of the paper has it."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from decsc_core.study import paper

METRICS = {"PSNR": "psnr", "SSIM": "ssim", "SAM": "sam"}


@pytest.fixture(scope="module")
def text(shared) -> str:
    path: Path = shared / "reference" / "paper.txt"
    if not path.is_file():
        pytest.skip(f"no {path}, the text of the paper")
    return path.read_text()


def lines(text: str, first: str, last: str) -> list[str]:
    start = text.index(first)
    return text[start : text.index(last, start)].splitlines()


def cells(number: int) -> dict[tuple[str, str, str], float]:
    own = paper.cells().query("table == @number")
    return own.set_index(["case", "method", "metric"])["value"].to_dict()


@pytest.mark.parametrize(("number", "first", "last"), [(2, "\nTABLE II\n", "Fig. 4."), (3, "\nTABLE III\n", "Fig. 6.")])
def test_tables_2_and_3_are_as_printed(text, number, first, last):
    """A row's case is told somewhere in the three rows of its case, so cases go by the count of rows."""
    rows, names = [], []
    for line in lines(text, first, last):
        names += re.findall(r"^(\[0,\d+\]|Mixture|Corr)\s", line)
        if row := re.search(r"(PSNR|SSIM|SAM)[↑↓]\s+(.*)", line):
            rows.append((METRICS[row[1]], list(map(float, row[2].split()))))
    cases = [re.sub(r"\[0,(\d+)\]", r"gauss-\1", name).lower() for name in names]
    assert cases == ["gauss-15", "gauss-55", "gauss-95", "mixture", "corr"] and len(rows) == 15
    assert cells(number) == {
        (cases[at // 3], method, metric): value
        for at, (metric, values) in enumerate(rows)
        for method, value in zip(paper.METHODS, values, strict=True)
    }


def test_table_4_is_as_printed(text):
    """The heads of its rows are damaged in the text; what follows the letters and the unit are the values."""
    methods = [*list(paper.METHODS)[1:], "decsc-mamba"]
    heads = {"PSNI": "psnr", "Para": "parameters_m", "Time": "seconds", "FLOP": "flops_g"}
    factors = {"M": 1e-3, "G": 1, "T": 1e3}
    printed = {}
    for line in lines(text, "Model-driver", "TABLE IV"):
        if line[:4] in heads:
            values = re.findall(r"(?<=\s)(-|[\d.]+)([MGT]?)(?=\s|$)", line)
            printed |= {
                ("gauss-95", method, heads[line[:4]]): float(value) * factors.get(unit, 1)
                for method, (value, unit) in zip(methods, values, strict=True)
                if value != "-"
            }
    assert {metric for *_, metric in printed} == set(heads.values())
    assert cells(4) == pytest.approx(printed)


def test_table_5_is_as_printed(text):
    """In the paper a check mark or a cross says which module is there; the text has V or √ for a check mark."""
    variants = {"√√√": "decsc", "X√√": "no-swin", "√X√": "no-difference", "√√X": "no-attention"}
    printed = {}
    for line in lines(text, "TABLE\\ V", "Fig. 13."):
        row = [cell.strip() for cell in re.split(r"[\t|]+", line) if cell.strip()]
        marks = "".join(row[:3]).replace("V", "√")
        if marks in variants:
            printed |= {("gauss-95", variants[marks], m): float(v) for m, v in zip(("psnr", "ssim", "sam"), row[3:])}
    assert len(printed) == 12
    assert cells(5) == printed


def test_a_table_has_its_methods_in_the_order_of_print():
    close, remote, cost = paper.table(2), paper.table(3), paper.table(4)
    for wide in (close, remote):
        assert list(wide.columns) == ["case", "method", "psnr", "ssim", "sam"]
        assert list(wide["method"]) == list(paper.METHODS) * 5 and not wide.isna().any().any()
    assert list(cost["method"]) == [*list(paper.METHODS)[1:], "decsc-mamba"]
    assert pd.isna(cost.set_index("method").loc["bm4d", "flops_g"])
    assert cost.set_index("method").loc["decsc", "flops_g"] == 56_390
    assert list(paper.table(5)["method"]) == list(paper.ABLATIONS)


def test_there_is_no_other_table():
    with pytest.raises(ValueError, match="no table 1 of numbers; choose 2, 3, 4 or 5"):
        paper.table(1)
