"""study.faults: what is said in words holds in the numbers beside it."""

from __future__ import annotations

import pandas as pd
import pytest

from decsc_core.study import faults
from decsc_core.study.complexity import gmacs_by_size


def test_serts_ssim_is_first_whatever_its_psnr():
    """In nine of ten cases first by SSIM, in two by PSNR; against SST worse in PSNR in eight, better in SSIM in all."""
    table = faults.ssim_in_print().table
    assert len(table) == 10
    assert (table["SERT's rank by SSIM"] == 1).sum() == 9 and (table["SERT's rank by PSNR"] == 1).sum() == 2
    assert (table["SERT - SST, PSNR [dB]"] < 0).sum() == 8 and (table["SERT - SST, SSIM"] > 0).all()
    first = table.iloc[0]
    assert first["SERT - SST, PSNR [dB]"] == pytest.approx(-0.70)
    assert first["SERT - SST, SSIM"] == pytest.approx(0.0038)


def test_both_conventions_are_means_over_the_scenes():
    rows = pd.DataFrame({
        "method": ["noisy", "noisy", "decsc"], "psnr": [10.0, 20.0, 30.0], "ssim": [0.1, 0.3, 0.8],
        "ssim_global": [0.3, 0.5, 0.9],
    })
    table = faults.ssim_measured(rows).table.set_index("method")
    assert table.loc["Noisy"].tolist() == pytest.approx([15, 0.2, 0.4, 0.2])
    assert table.loc["DECSC", "difference"] == pytest.approx(0.1)


def test_the_flops_are_those_of_a_small_tile():
    """Those of the three networks of standard layers, but for attention products; T3SC's are next to nothing."""
    table = faults.flops(gmacs_by_size(["sst", "trq3d", "sert", "t3sc", "hsdt"], (128, 512))).table.set_index("method")
    small, large = table["paper / 128 x 128"], table["paper / 512 x 512"]
    assert small[["SST", "TRQ3D", "SERT"]].between(0.85, 1.01).all() and (large < 0.07).all()
    assert 1 / small["T3SC"] == pytest.approx(692, rel=0.01)
    assert "HSDT" not in table.index


def test_published_lists_overlap_and_ours_do_not():
    table = faults.splits().table.set_index(["training list", "test list"])
    leaks = table["in both"]
    assert leaks["T3SC", "QRNN3D"] == 21 and leaks["QRNN3D", "T3SC"] == 31
    assert table.loc[("T3SC", "QRNN3D"), "Fig. 4's scene in both"] == "yes"
    assert leaks.drop([("T3SC", "QRNN3D"), ("QRNN3D", "T3SC")]).eq(0).all()
    assert ("CAVE", "CAVE") in leaks.index
