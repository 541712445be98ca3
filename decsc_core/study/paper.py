"""The paper's own numbers, as printed, with where they are printed."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

METHODS = {
    "noisy": "Noisy",
    "bm4d": "BM4D",
    "mtsnmf": "MTSNMF",
    "llrt": "LLRT",
    "ngmeet": "NGMeet",
    "lrmr": "LRMR",
    "e3dtv": "E-3DTV",
    "logtnn": "3DlogTNN",
    "sst": "SST",
    "trq3d": "TRQ3D",
    "sert": "SERT",
    "t3sc": "T3SC",
    "mtsnnpp": "MTSNN++",
    "decsc": "DECSC",
}
"""The methods of Tables II and III in their order, and what the paper calls them."""
RECONSTRUCTED = "MTSNN++ (ours)"
"""What our reconstruction of MTSNN++ is called, of which there is neither code nor full text."""
ABLATIONS = {
    "decsc": "All modules",
    "no-swin": "Without Swin",
    "no-difference": "Without difference convolution",
    "no-attention": "Without attention",
}
"""The rows of Table V, and what they are called here."""
_FIGURES = {
    4: (31, (31, 17, 2)), 5: (31, (28,)),
    6: (46, (39, 20, 4)), 7: (46, (39,)),
    8: (166, (97, 95, 1)), 9: (166, (159,)),
    10: (166, (153, 107, 94)), 11: (166, (154,)),
}
"""Bands of the scene of each of Figs. 4 to 11, and those of them that it shows."""
_TABLES = Path(__file__).with_name("paper_tables.csv")


def cells() -> pd.DataFrame:
    """Every number of Tables II to V, a row a cell, in the order of print: table (2 to 5), case, method, metric, value.

    Tables II and III: means over 50 ICVL scenes, and one crop of Houston 2018; psnr [dB], ssim, sam [rad]. Table IV:
    psnr, parameters_m [10^6], seconds, flops_g [10^9]; a method without a number has no row. It does not say for how
    many pixels; the test images have 512 x 512, and on its FLOPs see notebook 12. Table V: the methods are the keys of
    `ABLATIONS`.
    """
    return pd.read_csv(_TABLES)


def table(number: int) -> pd.DataFrame:
    """Table II, III, IV or V: a row a case and method, `case`, `method` and a column a metric, as `cells` has them.

    Raises
    ------
    ValueError
        If the paper has no such table of numbers.
    """
    own = cells().query("table == @number")
    if own.empty:
        raise ValueError(f"the paper has no table {number} of numbers; choose 2, 3, 4 or 5")
    wide = own.pivot(index=["case", "method"], columns="metric", values="value")
    order = own[["case", "method"]].drop_duplicates()
    return wide.loc[pd.MultiIndex.from_frame(order), own["metric"].unique()].rename_axis(columns=None).reset_index()


def figure_bands(figure: int, bands: int) -> tuple[int, ...]:
    """The bands, from 1, that Fig. 4, ..., 11 shows; in a scene of another number of bands, those at the same place.

    Three for red, green and blue of a false-colour image (Figs. 4, 6, 8, 10), one of row-mean profiles.
    """
    own, shown = _FIGURES[figure]
    return tuple(max(round(band * bands / own), 1) for band in shown)


def label(method: str) -> str:
    """What tables and figures call a method: the paper's name where it has one, and is meant."""
    own = {"decsc-mamba": "DECSC (Mamba)", "wavelet": "Wavelet", "mtsnnpp": RECONSTRUCTED, "ngmeet-white": "NGMeet (whitened)"}
    return own.get(method) or METHODS.get(method) or method.upper()
