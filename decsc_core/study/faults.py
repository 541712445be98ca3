"""Known faults of the paper's comparison, each with the numbers that show it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from decsc_core.scenes import DATASETS
from decsc_core.scenes.sources import ICVL_FIGURE_4
from decsc_core.study import paper
from decsc_core.study.paper import label

_LISTS = Path(__file__).with_name("icvl_lists.json")


class Fault(NamedTuple):
    """One fault: what it is, what follows from it, and the table that shows it."""

    title: str
    text: str
    table: pd.DataFrame


def ssim_in_print() -> Fault:
    """SERT's ranks in Tables II and III: by SSIM the first in nine of the ten cases, whatever its PSNR."""
    rows = []
    for number, name in ((2, "II"), (3, "III")):
        for case, own in paper.table(number).set_index("method").groupby("case", sort=False):
            rank = own[["psnr", "ssim"]].rank(ascending=False, method="min").loc["sert"].astype(int)
            rows.append({
                "table": name, "case": case, "SERT's rank by PSNR": rank["psnr"], "SERT's rank by SSIM": rank["ssim"],
                "SERT - SST, PSNR [dB]": own.loc["sert", "psnr"] - own.loc["sst", "psnr"],
                "SERT - SST, SSIM": own.loc["sert", "ssim"] - own.loc["sst", "ssim"],
            })
    return Fault(
        "SERT's SSIM seems to follow another convention",
        "Two kinds of SSIM are in circulation: with a Gaussian window of 11 x 11 pixels, which DECSC's code computes, "
        "and with one window over the whole image, which SERT's code computes and which is higher for the same image. "
        "In nine of the ten cases of Tables II and III SERT is the first of all methods by SSIM; by PSNR it is in two. "
        "Against SST it loses in PSNR in eight and wins in SSIM in all. That is what the second convention in its "
        "column, and the first in the others, would do. It is an inference: the paper does not say what it computed.",
        pd.DataFrame(rows),
    )


def ssim_measured(rows: pd.DataFrame) -> Fault:
    """Both conventions for the same estimates.

    Parameters
    ----------
    rows : DataFrame
        Of the evaluation, of one data set and noise case.
    """
    means = rows.groupby("method", sort=False)[["psnr", "ssim", "ssim_global"]].mean().reset_index()
    means = means.assign(method=means["method"].map(label), gain=means["ssim_global"] - means["ssim"])
    return Fault(
        "Both conventions on the same estimates",
        "Measured here, for the same estimates of the same scenes. Our tables have the windowed one; every row of the "
        "evaluation has both.",
        means.rename(columns={"gain": "difference"}),
    )


def flops(counts: pd.DataFrame) -> Fault:
    """What the FLOPs column of Table IV counts, against counts of the published networks.

    Parameters
    ----------
    counts : DataFrame
        From `complexity.gmacs_by_size`, with sides of 128 and 512.
    """
    own = counts.dropna(subset="paper, FLOPs [G]").reset_index(drop=True)
    ratios = {f"paper / {size}": own["paper, FLOPs [G]"] / own[size] for size in ("128 x 128", "512 x 512")}
    return Fault(
        "The FLOPs of Table IV are those of a 128 x 128 tile, counted by layers",
        "The test images have 512 x 512 pixels. The FLOPs of SST, TRQ3D and SERT in Table IV are the "
        "multiply-accumulates for 128 x 128 pixels, less what a profiler that only knows standard layers does not see "
        "(attention products). The same profiler sees next to nothing of T3SC, whose convolutions are functional, so "
        "its entry is hundreds of times too small; and it charges DECSC's strided transposed convolutions at their "
        "output, so DECSC's entries are about six times too large. MTSNN++ is our reconstruction, so its ratio says "
        "nothing about the paper. DECSC is counted with the evaluations of f that follow from the paper's own number, "
        "21 with Swin and 25 with VMamba. By that number VMamba takes more than Swin, where the paper's text speaks of its lower complexity.",
        own.assign(**ratios),
    )


def splits() -> Fault:
    """Scenes of ICVL that are in one published training list and in another's test list; and our own splits."""
    lists = json.loads(_LISTS.read_text())
    rows = []
    for trained, of in lists.items():
        for tested, other in lists.items():
            both = set(of["train"]) & set(other["test"])
            rows.append({
                "training list": trained, "test list": tested, "test scenes": len(other["test"]), "in both": len(both),
                "Fig. 4's scene in both": "yes" if ICVL_FIGURE_4 in both else "no",
            })
    for dataset in DATASETS.values():
        if {"train", "test"} <= set(dataset.splits):
            both = set(dataset.splits["train"]) & set(dataset.splits["test"])
            rows.append({
                "training list": dataset.title, "test list": dataset.title,
                "test scenes": len(dataset.splits["test"]), "in both": len(both), "Fig. 4's scene in both": "no",
            })
    return Fault(
        "Published splits of ICVL overlap",
        "The paper tests on 50 scenes of ICVL and prints no list; the scene of its Fig. 4 is among the test scenes of "
        "QRNN3D, whose recipe its code follows. A network released with T3SC's list has seen that very scene, and 21 "
        "of those 50, in training, and the paper does not say which weights of its peers it used. Below: how many "
        "test scenes of one published list are in the training list of another, and the same for the data sets here.",
        pd.DataFrame(rows),
    )
