"""Tables from tidy rows, and their text in Markdown and LaTeX: the best three of a column bold, underlined, italic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import pandas as pd
from markupsafe import Markup, escape

from decsc_core.study.paper import label

Best = Literal["highest", "lowest"]
BEST: dict[str, Best] = {"psnr": "highest", "ssim": "highest", "ssim_global": "highest", "sam": "lowest"}
"""Which end of a metric is the good one."""
HEADINGS = {
    "method": "Method",
    "scene": "Scene",
    "case": "Case",
    "index": "Index",
    "network": "Network",
    "parameters": "Parameters",
    "gmacs": "GMACs",
    "copies": "Copies timed",
    "averaged": "Copies averaged",
    "gain": "Gain over one copy [dB]",
    "psnr": "MPSNR [dB] ↑",
    "ssim": "SSIM ↑",
    "ssim_global": "Global SSIM ↑",
    "sam": "SAM [rad] ↓",
    "seconds": "Time [s]",
    "cpu_seconds": "CPU time [s]",
    "memory_mb": "Memory [MB]",
    "iterations": "Evaluations",
    "noise": "Noise left [0-255]",
    "noise_worst": "in the worst band",
    "row_roughness": "Row roughness",
    "column_roughness": "Column roughness",
    "change": "RMS change",
    "residual": "Residual",
    "run": "Run",
    "dataset": "Data",
    "seed": "Seed",
    "least": "Least [dB]",
    "most": "Most [dB]",
    "start": "Began from",
    "weights": "Weights",
    "patches": "Patches",
    "minutes": "Time [min]",
    "device": "Device",
    "optimizer": "Optimizer",
    "cpu_minutes": "CPU time [min]",
    "validation": "Validation MPSNR [dB]",
    "best_step": "Best step",
    "sha256": "SHA-256",
    "bytes": "Bytes",
    "code": "Code",
    "state": "State",
}
_MARKS = {
    "html": ("<b>{}</b>", "<u>{}</u>", "<i>{}</i>"),
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
    "✓": r"$\surd$",
    "σ": r"$\sigma$",
}


METRICS = ["psnr", "ssim", "sam"]
"""Of a cube: MPSNR [dB], SSIM and SAM [rad]."""


def case_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over the scenes, laid out as Table II: a row a `case` and `index` (metric), a column a method (as printed)."""
    means = rows.groupby(["case", "method"], sort=False)[METRICS].mean().rename_axis(columns="index")
    wide = means.stack().unstack("method", sort=False).rename(columns=label)
    return wide.rename_axis(columns=None).reset_index()


def best_of_rows(table: pd.DataFrame) -> dict[int, Best]:
    """Which end is the good one in each row of a `case_table`."""
    return {row: BEST[metric] for row, metric in enumerate(table["index"])}


def scene_table(rows: pd.DataFrame) -> pd.DataFrame:
    """MPSNR [dB] of every scene: `method` and a column a scene; methods and scenes in the order of the rows."""
    wide = rows.pivot(index="method", columns="scene", values="psnr")
    wide = wide.loc[rows["method"].unique(), rows["scene"].unique()].rename_axis(columns=None).reset_index()
    return wide.assign(method=wide["method"].map(label))


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame as it is printed: headings, floats to four significant digits, a dash where there is nothing."""
    if "index" in frame:
        frame = frame.assign(index=frame["index"].map(HEADINGS))
    return frame.apply(lambda column: column.map(_cell)).rename(columns=HEADINGS)


def ranks(values: pd.Series, best: Best) -> list[int | None]:
    """0, 1, 2 for the best three values, equal values alike; None for the others and where there is none."""
    rank = values.astype(float).rank(method="min", ascending=best == "lowest")
    return [int(r) - 1 if r <= 3 else None for r in rank]


def markdown(frame: pd.DataFrame, caption: str, best: Mapping[str | int, Best]) -> str:
    """The table with its caption above it."""
    printed = _marked(frame, best, "markdown", str)
    align = ["right" if pd.api.types.is_numeric_dtype(frame[name]) else "left" for name in frame]
    return f"{caption}\n\n{printed.to_markdown(index=False, disable_numparse=True, colalign=align)}\n"


def html(frame: pd.DataFrame, best: Mapping[str | int, Best]) -> Markup:
    """The table as HTML."""
    printed = _marked(frame, best, "html", lambda text: str(escape(text)))
    return Markup(printed.to_html(index=False, border=0, escape=False))


def latex(frame: pd.DataFrame, name: str, caption: str, best: Mapping[str | int, Best]) -> str:
    """The table as a `table` environment for the package booktabs, labelled ``tab:<name>``."""
    printed = _marked(frame, best, "latex", latex_text)
    align = "".join("r" if pd.api.types.is_numeric_dtype(frame[column]) else "l" for column in frame)
    return printed.to_latex(
        index=False, escape=False, column_format=align, caption=latex_text(caption), label=f"tab:{name}", position="tb"
    )


def latex_text(text: str) -> str:
    """Plain text with what LaTeX would take for commands escaped."""
    return "".join(_LATEX.get(letter, letter) for letter in text)


def _marked(frame: pd.DataFrame, best: Mapping[str | int, Best], language: str, text) -> pd.DataFrame:
    """The printed frame in one language, the best three marked in the columns (by name) or rows (by number) in `best`."""
    printed = shown(frame).map(text)
    for place, direction in best.items():
        if isinstance(place, int):
            values = pd.to_numeric(frame.iloc[place], errors="coerce")
            at = [(place, column) for column in range(frame.shape[1])]
        else:
            values, column = frame[place], frame.columns.get_loc(place)
            at = [(row, column) for row in range(len(frame))]
        for (row, column), rank in zip(at, ranks(values, direction)):
            if rank is not None:
                printed.iloc[row, column] = _MARKS[language][rank].format(printed.iloc[row, column])
    return printed.rename(columns=text)


def _cell(value: object) -> str:
    """One cell as text."""
    if pd.isna(value):
        return "–"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 9999.5 else f"{value:#.4g}".rstrip(".")
    return str(value)
