from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from decsc_core.study import tables


@pytest.fixture
def rows() -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"case": "corr", "method": method, "scene": scene, "psnr": psnr, "ssim": psnr / 100, "sam": 1 / psnr}
            for method, psnrs in {"noisy": (17, 15), "decsc": (31, 27), "tv": (30, 29)}.items()
            for scene, psnr in zip(("zebra", "ant"), psnrs)
        ]
    )


def test_case_table_holds_means_over_scenes_in_the_order_given(rows):
    harder = rows.assign(case="mixture", psnr=rows["psnr"] - 10)
    table = tables.case_table(pd.concat([rows, harder]))
    assert list(table.columns) == ["case", "index", "Noisy", "DECSC", "TV"]
    assert list(table["case"]) == ["corr"] * 3 + ["mixture"] * 3 and list(table["index"]) == ["psnr", "ssim", "sam"] * 2
    np.testing.assert_allclose(table.iloc[0, 2:].astype(float), [16, 29, 29.5])
    np.testing.assert_allclose(table.iloc[3, 2:].astype(float), [6, 19, 19.5])
    sam = [(1 / 17 + 1 / 15) / 2, (1 / 31 + 1 / 27) / 2, (1 / 30 + 1 / 29) / 2]
    np.testing.assert_allclose(table.iloc[2, 2:].astype(float), sam)


def test_rows_are_marked_in_the_direction_of_their_metric(rows):
    table = tables.case_table(rows)
    text = tables.markdown(table, "Means.", tables.best_of_rows(table)).splitlines()
    psnr, ssim, sam = ([cell.strip() for cell in line.split("|")[2:-1]] for line in text[-3:])
    assert psnr == ["MPSNR [dB] ↑", "*16.00*", "<ins>29.00</ins>", "**29.50**"]
    assert sam[0] == "SAM [rad] ↓" and sam[3].startswith("**") and sam[1].startswith("*0")


def test_scene_table_keeps_the_order_of_methods_and_scenes(rows):
    table = tables.scene_table(rows)
    assert list(table.columns) == ["method", "zebra", "ant"]
    assert table.to_numpy().tolist() == [["Noisy", 17, 15], ["DECSC", 31, 27], ["TV", 30, 29]]


def test_ranks():
    column = pd.Series([3.0, 9.0, np.nan, 5.0, 9.0, 1.0])
    assert tables.ranks(column, "highest") == [None, 0, None, 2, 0, None]
    assert tables.ranks(column, "lowest") == [1, None, None, 2, None, 0]


def test_markdown_marks_the_best_three():
    frame = pd.DataFrame({"method": list("abcd"), "psnr": [1.0, 4.0, 3.0, 2.0], "sam": [1.0, 4.0, 3.0, np.nan]})
    caption, blank, head, rule, *lines = tables.markdown(
        frame, "What it shows.", {"psnr": "highest", "sam": "lowest"}
    ).splitlines()
    assert (caption, blank) == ("What it shows.", "")
    assert [cell.strip() for cell in head.split("|")[1:-1]] == ["Method", "MPSNR [dB] ↑", "SAM [rad] ↓"]
    assert rule.split("|")[2].endswith(":") and rule.split("|")[1].startswith(":")
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert cells == [
        ["a", "1.000", "**1.000**"],
        ["b", "**4.000**", "*4.000*"],
        ["c", "<ins>3.000</ins>", "<ins>3.000</ins>"],
        ["d", "*2.000*", "–"],
    ]


def test_latex_marks_and_escapes():
    frame = pd.DataFrame({"scene_name": ["glass_tiles", "50 % & more"], "psnr": [2.0, 1.0], "swin": ["✓", "–"]})
    text = tables.latex(frame, "table2", "σ in [0, 95] & 100 %", {"psnr": "highest"})
    assert r"glass\_tiles & \textbf{2.000} & $\surd$ \\" in text
    assert r"50 \% \& more & \underline{1.000} & -- \\" in text
    assert r"scene\_name & MPSNR [dB] $\uparrow$ & swin \\" in text
    assert r"\caption{$\sigma$ in [0, 95] \& 100 \%}" in text
    assert r"\begin{tabular}{lrl}" in text and r"\label{tab:table2}" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.03874, "0.03874"),
        (28.4, "28.40"),
        (100.0, "100.0"),
        (1234.0, "1234"),
        (9999.4, "9999"),
        (-9999.6, "-10,000"),
        (45_120.0, "45,120"),
        (7, "7"),
        (None, "–"),
    ],
)
def test_cells(value, text):
    assert tables.shown(pd.DataFrame({"x": pd.Series([value], dtype=object)}))["x"].iloc[0] == text
