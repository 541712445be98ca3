"""The page of the whole study: every printed number beside ours, every table and figure, in one file without net."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup

from decsc_core.atomic import write_text, write_whole
from decsc_core.denoisers.registry import METHODS
from decsc_core.networks.catalog import LEARNED
from decsc_core.study import paper, tables
from decsc_core.study.artifacts import Artifact
from decsc_core.study.complexity import PUBLISHED
from decsc_core.study.evaluate import read_rows
from decsc_core.study.paper import label

ROMAN = {2: "II", 3: "III", 4: "IV", 5: "V"}
_DIGITS = {"psnr": ".2f", "ssim": ".4f", "sam": ".4f", "parameters_m": ".2f", "seconds": ",.2f", "flops_g": ",.2f"}
_METRICS = {
    "psnr": "MPSNR [dB]", "ssim": "SSIM", "sam": "SAM [rad]", "parameters_m": "Parameters [M]", "seconds": "Time [s]",
    "flops_g": "FLOPs [G]",
}


def measured(rows: pd.DataFrame) -> pd.DataFrame:
    """Our numbers for Tables II, III and V, from rows of one data set: case, method, metric, ours, provenance."""
    found = []
    for (case, method), own in rows.groupby(["case", "method"], sort=False):
        weights = [f"weights {sha}" for sha in dict.fromkeys(own["weights"]) if sha]
        told = ", ".join([*weights, f"code {own['code'].iloc[0]}"])
        found += [
            {"case": case, "method": method, "metric": metric, "ours": own[metric].mean(), "provenance": told}
            for metric in tables.METRICS
        ]
    return pd.DataFrame(found, columns=["case", "method", "metric", "ours", "provenance"])


def measured_costs(figures: Path | str) -> pd.DataFrame:
    """Our costs for Table IV, from what notebook 06 published in a folder: as `measured`, with `comparable`.

    Parameters and multiply-accumulates (for 128 x 128 pixels) are those of the published networks. Times are of another
    machine and size than the paper's, so not comparable.
    """
    costs = pd.read_csv(Path(figures) / "table4_complexity.csv")
    counts = pd.read_csv(Path(figures) / "table4_gmacs.csv").set_index("method")["128 x 128"]
    names = {label(method): method for method in METHODS}
    found = []
    for row in costs.itertuples():
        method, published = names[row.method], row.network == PUBLISHED
        if published:
            found.append((method, "parameters_m", row.parameters / 1e6, "", True))
            found.append((method, "flops_g", counts[row.method], "", True))
        if published or method not in LEARNED:
            told = "" if pd.isna(row.copies) else f"time from {row.copies} copies"
            found.append((method, "seconds", row.seconds, told, False))
    table = pd.DataFrame(found, columns=["method", "metric", "ours", "provenance", "comparable"])
    return table.assign(case="gauss-95")


def other_sizes(figures: Path | str) -> str:
    """Which scores beside the costs are of networks of another than the published size, from what notebook 06 published in a folder; empty if none."""
    costs = pd.read_csv(Path(figures) / "table4_complexity.csv")
    published = costs[costs["network"] == PUBLISHED].set_index("method")["parameters"]
    scored = costs[costs["network"].notna() & costs["psnr"].notna()]
    return ", ".join(
        f"{row.method}'s of {row.network}, {row.parameters / 1e6:.2f} M parameters"
        for row in scored.itertuples() if row.parameters != published[row.method]
    )


def why_missing(case: str, method: str, cases: Sequence[str], methods: Sequence[str]) -> str:
    """Why a profile that runs some cases and methods has no number of its own for a cell."""
    if method in paper.ABLATIONS and method != "decsc":
        return "no network was trained without this module"
    if method not in methods:
        return "not run in this profile"
    return "noise case not run in this profile" if case not in cases else "not measured"


def beside(number: int, ours: pd.DataFrame, cases: Sequence[str], methods: Sequence[str]) -> pd.DataFrame:
    """Every cell of a table of the paper beside ours.

    Parameters
    ----------
    number : int
        2 to 5.
    ours : DataFrame
        From `measured` or `measured_costs`.
    cases, methods : sequences of str
        What the profile runs, for the reasons of missing cells.

    Returns
    -------
    DataFrame
        A row a cell: table, case, method, metric, paper, ours, difference (ours - paper; missing where the two are not
        comparable), provenance (or why there is no number of ours).
    """
    printed = paper.cells().query("table == @number").rename(columns={"value": "paper"})
    both = printed.merge(ours, on=["case", "method", "metric"], how="left")
    comparable = both["comparable"].ne(False) if "comparable" in both else np.full(len(both), True)
    reasons = [why_missing(case, method, cases, methods) for case, method in zip(both["case"], both["method"])]
    both["difference"] = (both["ours"] - both["paper"]).where(comparable)
    both["provenance"] = both["provenance"].where(both["ours"].notna(), reasons)
    return both[["table", "case", "method", "metric", "paper", "ours", "difference", "provenance"]]


def layout(cells: pd.DataFrame) -> pd.DataFrame:
    """Cells of one table to be read: a row a case and method; paper, ours and difference of each metric as text."""
    metrics = cells["metric"].unique()
    rows = []
    for (case, method), own in cells.groupby(["case", "method"], sort=False):
        name = paper.ABLATIONS[method] if cells["table"].iloc[0] == 5 else label(method)
        row = {("", "Case"): case, ("", "Method"): name}
        own = own.set_index("metric")
        for metric in metrics:
            values = own.loc[metric] if metric in own.index else {"paper": np.nan, "ours": np.nan, "difference": np.nan}
            for column in ("paper", "ours", "difference"):
                sign = "+" if column == "difference" else ""
                value = values[column]
                row[_METRICS[metric], column] = "–" if pd.isna(value) else f"{value:{sign}{_DIGITS[metric]}}"
        row["", "Provenance, or why there is no number"] = "; ".join(filter(None, dict.fromkeys(own["provenance"])))
        rows.append(row)
    return pd.DataFrame(rows, columns=pd.MultiIndex.from_tuples(rows[0]))


class Section(NamedTuple):
    """A part of the page: its heading and the blocks below, from `text`, `table` and `published`."""

    title: str
    blocks: Sequence[Markup]


def text(words: str) -> Markup:
    """A paragraph."""
    return Markup("<p>{}</p>").format(words)


def table(frame: pd.DataFrame, caption: str = "", best: Mapping[str | int, tables.Best] | None = None) -> Markup:
    """A table, from `layout` or with numbers that are shown as in our other tables, with a caption."""
    laid_out = isinstance(frame.columns, pd.MultiIndex)
    body = Markup(frame.to_html(index=False, border=0, classes="cells")) if laid_out else tables.html(frame, best or {})
    return Markup('<figure><figcaption>{}</figcaption><div class="wide">{}</div></figure>').format(caption, body)


def published(artifact: Artifact, folder: Path | str) -> Markup:
    """A table or figure of a folder, with its caption and, folded, rows and provenance; or that it was not made."""
    stem = Path(folder) / artifact.name
    if not all((Path(folder) / name).is_file() for name in artifact.files):
        return text(f"{artifact.name} was not made in this profile: notebook {artifact.notebook} has not run.")
    told = json.loads(stem.with_suffix(".json").read_text())
    if artifact.kind == "table":
        frame = pd.read_csv(stem.with_suffix(".csv"), dtype=dict.fromkeys(told["text"], str)).apply(_whole)
        best = {int(place) if place.isdigit() else place: end for place, end in told["best"].items()}
        body = table(frame, told["caption"], best)
    elif artifact.kind == "rows":
        rows = table(read_rows(stem.with_suffix(".csv")).replace("", None), told["caption"])
        body = Markup("<details><summary>{}</summary>{}</details>").format(artifact.shows, rows)
    else:
        picture = base64.b64encode(stem.with_suffix(".png").read_bytes()).decode()
        frame = Markup('<figure><img alt="{}" src="data:image/png;base64,{}"><figcaption>{}</figcaption></figure>')
        body = frame.format(artifact.shows, picture, told["caption"])
    provenance = json.dumps(told["provenance"], indent=1, ensure_ascii=False)
    return body + Markup("<details><summary>Provenance</summary><pre>{}</pre></details>").format(provenance)


def _whole(column: pd.Series) -> pd.Series:
    """Whole numbers that gaps turned into floats as whole numbers again."""
    return column.astype("Int64") if column.hasnans and column.dtype == float and (column.dropna() % 1 == 0).all() else column


def save_page(
    sections: Iterable[Section], name: str, folder: Path | str, *, title: str, data: pd.DataFrame
) -> Path:
    """Write `<name>.html`, one file with everything in it, and `<name>.csv`, the cells behind it; return the path."""
    page = jinja2.Environment(autoescape=True).from_string(_PAGE).render(title=title, sections=list(sections))
    folder = Path(folder)
    write_whole(folder / f"{name}.csv", lambda path: data.to_csv(path, index=False))
    write_text(folder / f"{name}.html", page)
    return folder / f"{name}.html"


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 3rem; border-top: 1px solid #ccc; padding-top: 1rem; }
p, figcaption { max-width: 48rem; } figure { margin: 1.5rem 0 0.5rem; } figcaption { color: #444; font-size: 0.9rem; }
img { max-width: 100%; } .wide { overflow-x: auto; } nav a { margin-right: 1rem; white-space: nowrap; }
table { border-collapse: collapse; font-size: 0.8rem; font-variant-numeric: tabular-nums; margin-top: 0.5rem; }
th, td { padding: 0.15rem 0.6rem; text-align: left; border-bottom: 1px solid #eee; }
.cells td, .cells th { text-align: right; white-space: nowrap; }
.cells thead tr:last-child th:nth-child(-n+2), .cells td:nth-child(-n+2), .cells td:last-child, .cells th:last-child { text-align: left; }
.cells td:last-child { white-space: normal; min-width: 14rem; }
tbody tr:hover { background: #f4f7fa; } pre { font-size: 0.75rem; overflow-x: auto; } summary { color: #0072b2; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
<nav>{% for section in sections %}<a href="#s{{ loop.index }}">{{ section.title }}</a> {% endfor %}</nav>
{% for section in sections %}
<section id="s{{ loop.index }}">
<h2>{{ section.title }}</h2>
{% for block in section.blocks %}{{ block }}
{% endfor %}</section>
{% endfor %}
</body>
</html>
"""
