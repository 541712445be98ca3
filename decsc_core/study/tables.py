"""Tables from tidy rows, and their text in Markdown and LaTeX: the best three of a column bold, underlined, italic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import pandas as pd

from decsc_core.study.paper import label

Best = Literal["highest", "lowest"]
BEST: dict[str, Best] = {"psnr": "highest", "ssim": "highest", "ssim_global": "highest", "sam": "lowest"}
"""Which end of a metric is the good one."""
HEADINGS = {
    "method": "Method",
    "scene": "Scene",
    "case": "Case",
    "psnr": "MPSNR [dB] ↑",
    "ssim": "SSIM ↑",
    "ssim_global": "Global SSIM ↑",
    "sam": "SAM [rad] ↓",
    "seconds": "Time [s]",
    "memory_mb": "Memory [MB]",
    "iterations": "Evaluations",
    "residual": "Residual",
}
_MARKS = {
    "markdown": ("**{}**", "<ins>{}</ins>", "*{}*"),
    "latex": (r"\textbf{{{}}}", r"\underline{{{}}}", r"\textit{{{}}}"),
}
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "–": "--",
    "×": r"$\times$",
    "σ": r"$\sigma$",
}


def method_table(rows: pd.DataFrame, metrics: Sequence[str] = ("psnr", "ssim", "sam")) -> pd.DataFrame:
    """Means over the scenes: `method` (as printed) and a column a metric; methods in the order of the rows."""
    means = rows.groupby("method", sort=False)[list(metrics)].mean().reset_index()
    return means.assign(method=means["method"].map(label))


def scene_table(rows: pd.DataFrame, metric: str = "psnr") -> pd.DataFrame:
    """One metric of every scene: `method` and a column a scene; methods and scenes in the order of the rows."""
    wide = rows.pivot(index="method", columns="scene", values=metric)
    wide = wide.loc[rows["method"].unique(), rows["scene"].unique()].rename_axis(columns=None).reset_index()
    return wide.assign(method=wide["method"].map(label))


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame as it is printed: headings, floats to four significant digits, a dash where there is nothing."""
    return frame.apply(lambda column: column.map(_cell)).rename(columns=HEADINGS)


def ranks(column: pd.Series, best: Best) -> list[int | None]:
    """0, 1, 2 for the best three values of a column, equal values alike; None for the others."""
    rank = column.rank(method="min", ascending=best == "lowest")
    return [int(r) - 1 if r <= 3 else None for r in rank]


def markdown(frame: pd.DataFrame, caption: str, best: Mapping[str, Best]) -> str:
    """The table with its caption above it."""
    printed = _marked(frame, best, "markdown", str)
    align = ["right" if pd.api.types.is_numeric_dtype(frame[name]) else "left" for name in frame]
    return f"{caption}\n\n{printed.to_markdown(index=False, disable_numparse=True, colalign=align)}\n"


def latex(frame: pd.DataFrame, name: str, caption: str, best: Mapping[str, Best]) -> str:
    """The table as a `table` environment for the package booktabs, labelled ``tab:<name>``."""
    printed = _marked(frame, best, "latex", latex_text)
    align = "".join("r" if pd.api.types.is_numeric_dtype(frame[column]) else "l" for column in frame)
    return printed.to_latex(
        index=False, escape=False, column_format=align, caption=latex_text(caption), label=f"tab:{name}", position="tb"
    )


def latex_text(text: str) -> str:
    """Plain text with what LaTeX would take for commands escaped."""
    return "".join(_LATEX.get(letter, letter) for letter in text)


def _marked(frame: pd.DataFrame, best: Mapping[str, Best], language: str, text) -> pd.DataFrame:
    """The printed frame in one language, the best three of the columns in `best` marked."""
    printed = shown(frame).map(text)
    for column, direction in best.items():
        place = printed.columns[frame.columns.get_loc(column)]
        printed[place] = [
            cell if rank is None else _MARKS[language][rank].format(cell)
            for cell, rank in zip(printed[place], ranks(frame[column], direction))
        ]
    return printed.rename(columns=text)


def _cell(value: object) -> str:
    """One cell as text."""
    if pd.isna(value):
        return "–"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:#.4g}".rstrip(".")
    return str(value)
