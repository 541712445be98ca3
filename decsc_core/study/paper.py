"""The paper's own numbers, as printed, with where they are printed."""

from __future__ import annotations

from io import StringIO

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
FALSE_COLOUR_BANDS = (31, 17, 2)
"""Bands shown as red, green and blue in Fig. 4, counted from 1."""
ROW_MEAN_BAND = 28
"""Band of the profiles in Fig. 5, counted from 1."""

_TABLE2 = """
gauss-15 psnr 33.18 44.39 45.39 45.74 39.63 41.50 46.05 43.89 50.87 46.43 50.17 49.68 48.86 50.63
gauss-15 ssim .6168 .9683 .9592 .9657 .8612 .9356 .9811 .9902 .9938 .9878 .9976 .9912 .9917 .9936
gauss-15 sam  .3368 .0692 .0845 .0832 .2144 .1289 .0560 .0150 .0298 .0437 .0277 .0486 .0346 .0265
gauss-55 psnr 21.72 37.63 38.02 36.80 31.53 31.50 40.20 33.37 46.39 44.64 46.33 45.15 43.88 46.92
gauss-55 ssim .2339 .9008 .8586 .8285 .6785 .6233 .9505 .6892 .9872 .9840 .9950 .9810 .9794 .9876
gauss-55 sam  .7012 .1397 .2340 .2316 .4787 .3583 .0993 .2766 .0457 .0487 .0372 .0652 .0528 .0348
gauss-95 psnr 17.43 34.71 34.81 31.89 27.62 27.00 37.80 24.53 44.83 43.54 44.47 43.10 42.15 45.64
gauss-95 ssim .1540 .8402 .7997 .6885 .5363 .4208 .9279 .4251 .9838 .9806 .9929 .9734 .9720 .9848
gauss-95 sam  .8893 .1906 .3266 .3444 .6420 .5142 .1317 .6087 .0513 .0523 .0446 .0747 .0665 .0387
mixture  psnr 13.21 23.36 27.55 18.23 23.61 23.10 34.90 17.52 39.22 39.73 39.13 34.09 38.90 42.67
mixture  ssim .0841 .4275 .6743 .1731 .4448 .3463 .9041 .2389 .9626 .9491 .9678 .9052 .9531 .9756
mixture  sam  .9124 .5476 .5326 .6873 .6252 .5144 .1468 .6905 .0743 .0869 .0963 .2340 .0885 .0625
corr     psnr 28.22 41.15 42.44 41.92 35.82 39.32 43.58 41.49 47.59 46.26 48.66 47.33 46.83 48.06
corr     ssim .4640 .8963 .9221 .9080 .7891 .9081 .9733 .9709 .9904 .9870 .9966 .9858 .9871 .9891
corr     sam  .4601 .1582 .1121 .1547 .3113 .1212 .0601 .0574 .0258 .0403 .0351 .0524 .0399 .0298
"""


def table2() -> pd.DataFrame:
    """Table II, means over 50 ICVL scenes: case, method, psnr [dB], ssim, sam [rad]."""
    printed = pd.read_csv(StringIO(_TABLE2), sep=r"\s+", names=["case", "index", *METHODS])
    tidy = printed.melt(["case", "index"], var_name="method").pivot(
        index=["case", "method"], columns="index", values="value"
    )
    order = pd.MultiIndex.from_product([printed["case"].unique(), METHODS])
    return (
        tidy.loc[order].rename_axis(["case", "method"]).rename_axis(columns=None)[["psnr", "ssim", "sam"]].reset_index()
    )


def label(method: str) -> str:
    """What tables and figures call a method: the paper's name where it has one."""
    own = {"decsc-mamba": "DECSC (Mamba)", "wavelet": "Wavelet"}
    return METHODS.get(method) or own.get(method) or method.upper()
