"""The look of all figures, how figures and tables are saved, and the pictures that more than one notebook draws."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from decsc_core.study import tables
from decsc_core.atomic import write_text, write_whole

TEXT_WIDTH, COLUMN_WIDTH = 7.16, 3.5
"""Width of a page's text and of one of its two columns [inch]."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's colours that can be told apart by everyone, without those too pale for print."""
DISPLAY_NM = (640.0, 550.0, 460.0)
"""Wavelengths shown as red, green and blue [nm]."""
_STYLE = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.prop_cycle": cycler(color=COLOURS)
    + cycler(linestyle=["-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1))]),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "axes.grid": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "image.interpolation": "none",
    "image.cmap": "gray",
    "figure.figsize": (COLUMN_WIDTH, 2.4),
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,
    "legend.frameon": False,
}


def use_style() -> None:
    """Use the one look of all figures: small print for two columns, colours and dashes that survive greyscale."""
    plt.rcdefaults()
    plt.rcParams.update(_STYLE)


def style() -> AbstractContextManager:
    """The look of all figures for the time of a `with`: for drawing in a program whose own look must stay."""
    return plt.rc_context(_STYLE)


def save_figure(
    figure: Figure, name: str, folder: Path | str, *, caption: str, provenance: dict, data: pd.DataFrame | None = None
) -> Path:
    """Save a figure, close it, and return the path of its PNG, for display.

    Writes `<name>.pdf`, `.png`, `.json` (caption and provenance) and, if `data` is given, `.csv` with full precision.
    The same figure gives the same bytes.

    Parameters
    ----------
    data : DataFrame, optional
        What the curves show.
    """
    folder, caption = Path(folder), _one_line(caption)
    undated = {"CreationDate": None, "Producer": None, "Creator": None}
    write_whole(folder / f"{name}.pdf", lambda path: figure.savefig(path, metadata=undated))
    write_whole(folder / f"{name}.png", lambda path: figure.savefig(path, metadata={"Software": None}))
    plt.close(figure)
    if data is not None:
        write_whole(folder / f"{name}.csv", lambda path: data.to_csv(path, index=False))
    _save_sidecar(name, folder, caption, provenance)
    return folder / f"{name}.png"


def save_table(
    frame: pd.DataFrame,
    name: str,
    folder: Path | str,
    *,
    caption: str,
    provenance: dict,
    best: Mapping[str | int, tables.Best] | None = None,
) -> pd.DataFrame:
    """Save a table and return it as it is printed, for display.

    Writes `<name>.csv` with full precision, `.md` and `.tex` as printed, and `.json` (caption, provenance, `best` and which columns are text).

    Parameters
    ----------
    best : mapping, optional
        For a column (by name) or a row (by number), whether ``"highest"`` or ``"lowest"`` is best: the best three are
        marked bold, underlined, italic.
    """
    folder, caption, best = Path(folder), _one_line(caption), best or {}
    write_whole(folder / f"{name}.csv", lambda path: frame.to_csv(path, index=False))
    write_text(folder / f"{name}.md", tables.markdown(frame, caption, best))
    write_text(folder / f"{name}.tex", tables.latex(frame, name, caption, best))
    text = [column for column in frame if not pd.api.types.is_numeric_dtype(frame[column])]
    _save_sidecar(name, folder, caption, provenance, best=best, text=text)
    return tables.shown(frame)


def save_rows(rows: pd.DataFrame, name: str, folder: Path | str, *, caption: str, provenance: dict) -> None:
    """Save the rows that a table's means are taken over: `<name>.csv`, with full precision, and `.json` (caption and provenance)."""
    write_whole(Path(folder) / f"{name}.csv", lambda path: rows.to_csv(path, index=False))
    _save_sidecar(name, Path(folder), _one_line(caption), provenance)


def display_bands(bands: int, wavelengths: np.ndarray | None) -> tuple[int, int, int]:
    """The bands, from 0, shown as red, green, blue: nearest to `DISPLAY_NM`, else at 5/6, 1/2, 1/6 of the spectrum."""
    if wavelengths is None:
        return tuple(int(share * (bands - 1)) for share in (5 / 6, 1 / 2, 1 / 6))
    return tuple(int(np.argmin(np.abs(np.asarray(wavelengths) - wanted))) for wanted in DISPLAY_NM)


def false_colour(
    cube: np.ndarray,
    wavelengths: np.ndarray | None = None,
    *,
    bands: Sequence[int] | None = None,
    like: np.ndarray | None = None,
) -> np.ndarray:
    """Three bands of a cube as a colour image.

    Each band is stretched between its 0.5th and 99.5th percentiles, clipped, and encoded with gamma 2.2 for the screen.

    Parameters
    ----------
    cube : ndarray, shape (H, W, B)
    wavelengths : ndarray, shape (B,), optional
        Band centres [nm], to choose the bands by; see `display_bands`.
    bands : three ints, optional
        The bands for red, green and blue, from 0.
    like : ndarray, shape (H, W, B), optional
        The cube whose percentiles to use, so that several images share one contrast.

    Returns
    -------
    ndarray, shape (H, W, 3), in [0, 1]
    """
    chosen = list(display_bands(cube.shape[2], wavelengths) if bands is None else bands)
    low, high = np.percentile((cube if like is None else like)[..., chosen], (0.5, 99.5), axis=(0, 1))
    return np.clip((cube[..., chosen] - low) / np.maximum(high - low, 1e-6), 0, 1) ** (1 / 2.2)


def comparison(
    cubes: Mapping[str, np.ndarray],
    wavelengths: np.ndarray | None,
    *,
    notes: Mapping[str, str] | None = None,
    bands: Sequence[int] | None = None,
) -> Figure:
    """False-colour images of one scene side by side, each with a magnified detail, all in the contrast of the first.

    Parameters
    ----------
    cubes : mapping of title to ndarray (H, W, B)
        The first is the reference; the detail is where it has the most structure.
    wavelengths, bands
        See `false_colour`.
    notes : mapping of title to str, optional
        What stands below an image, such as its MPSNR.
    """
    reference = next(iter(cubes.values()))
    window = _busiest(reference.mean(axis=2), min(reference.shape[:2]) // 4)
    columns = min(len(cubes), 3 if len(cubes) <= 6 else 5)
    rows = math.ceil(len(cubes) / columns)
    side = TEXT_WIDTH / columns
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(TEXT_WIDTH, rows * (side * reference.shape[0] / reference.shape[1] + 0.32)),
        squeeze=False,
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (title, cube) in zip(axes.flat, cubes.items()):
        image = false_colour(cube, wavelengths, bands=bands, like=reference)
        axis.imshow(image)
        _magnify(axis, image, window)
        axis.set_title("  ".join(filter(None, (title, (notes or {}).get(title)))), y=0, pad=-4, va="top")
    return figure


def row_mean_profiles(profiles: pd.DataFrame) -> Figure:
    """Row-mean profiles, a panel a method, each over the reference and with a thousand times its RMS difference from that.

    Parameters
    ----------
    profiles : DataFrame
        `row` and a column a profile; the first, the reference, is repeated in every panel.
    """
    reference, *others = profiles.columns.drop("row")
    columns = min(len(others), 3)
    rows = math.ceil(len(others) / columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(TEXT_WIDTH, 1.45 * rows + 0.3), sharex=True, sharey=True, squeeze=False
    )
    for axis, name in zip(axes.flat, others):
        axis.plot(profiles["row"], profiles[reference], color="0.65", linestyle="-", linewidth=2.2, label=reference)
        axis.plot(profiles["row"], profiles[name], color=COLOURS[1], linestyle="-", linewidth=0.8, label="Estimate")
        axis.set_title(name, loc="left")
        axis.set_title(rf"$10^3$ RMS {1e3 * np.sqrt(np.mean((profiles[name] - profiles[reference]) ** 2)):.2f}", loc="right", color="0.4")
    for empty in range(len(others), axes.size):
        axes.flat[empty].set_axis_off()
        axes.flat[empty - columns].tick_params(labelbottom=True)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    figure.supxlabel("Row [pixel]", fontsize=8)
    figure.supylabel("Mean over the row", fontsize=8)
    return figure


def _busiest(image: np.ndarray, side: int) -> tuple[int, int, int]:
    """(top, left, side) of that square, of half-overlapping ones, in which `image` varies most from pixel to pixel."""
    slope = np.hypot(*np.gradient(image))
    step = max(side // 2, 1)
    corners = [
        (top, left)
        for top in range(0, image.shape[0] - side + 1, step)
        for left in range(0, image.shape[1] - side + 1, step)
    ]
    top, left = max(corners, key=lambda at: slope[at[0] : at[0] + side, at[1] : at[1] + side].mean())
    return top, left, side


def _magnify(axis: Axes, image: np.ndarray, window: tuple[int, int, int]) -> None:
    """Show a square of the image enlarged in the corner farthest from it, and a frame around the square."""
    top, left, side = window
    height, width = image.shape[:2]
    right, low = left + side / 2 < width / 2, top + side / 2 < height / 2
    share = 0.42
    wide, high = share * min(1, height / width), share * min(1, width / height)
    inset = axis.inset_axes((1 - wide if right else 0, 0 if low else 1 - high, wide, high))
    inset.imshow(image[top : top + side, left : left + side])
    inset.set(xticks=[], yticks=[])
    inset.spines[:].set(visible=True, color=COLOURS[4], linewidth=1)
    axis.add_patch(plt.Rectangle((left - 0.5, top - 0.5), side, side, fill=False, edgecolor=COLOURS[4], linewidth=0.8))


def _one_line(caption: str) -> str:
    """The caption without the gaps that parts leave where they are empty."""
    return " ".join(caption.split())


def _save_sidecar(name: str, folder: Path, caption: str, provenance: dict, **more) -> None:
    """Write `<name>.json`."""
    told = {"name": name, "caption": caption, "provenance": provenance, **more}
    write_text(folder / f"{name}.json", json.dumps(told, indent=1, ensure_ascii=False) + "\n")
