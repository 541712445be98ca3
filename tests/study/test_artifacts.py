"""The registry of what is published, and the gallery that lists it. See also test_runs.py."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from decsc_core.denoisers.registry import METHODS
from decsc_core.study import artifacts, tables
from decsc_core.study.artifacts import ARTIFACTS, Artifact, gallery
from decsc_core.study.comparison import best_untrained
from decsc_core.study.evaluate import read_rows

ROOT = Path(__file__).resolve().parents[2]


def test_names_are_unique_and_every_notebook_is_there():
    assert len({artifact.name for artifact in ARTIFACTS}) == len(ARTIFACTS)
    assert {a.notebook for a in ARTIFACTS} == {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}


def test_the_committed_gallery_is_that_of_the_registry():
    committed = (ROOT / "figures" / "README.md").read_text()
    assert committed == gallery(ROOT / "figures", re.findall(r"^## (.+)$", committed, re.M))


def test_the_gallery_shows_a_profile(tmp_path):
    """What is there is shown with its caption, what is not is said to be missing."""
    shown = Artifact("fig_a", "figure", "03_x", "Fig. 4", "a thing")
    absent = Artifact("table_b", "table", "03_x", "", "b")
    rows = Artifact("rows_c", "rows", "03_x", "", "the rows behind it")
    (tmp_path / "standard").mkdir()
    for name in (*shown.files, *rows.files):
        (tmp_path / "standard" / name).write_text(json.dumps({"caption": "What it shows."}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(artifacts, "ARTIFACTS", (shown, absent, rows))
        artifacts.main([str(tmp_path), "--profiles", "standard"])
    text = (tmp_path / "README.md").read_text()
    assert "| Fig. 4 | `fig_a` | a thing |" in text
    assert "### Fig. 4: a thing\n\n![a thing](standard/fig_a.png)\n\nWhat it shows." in text
    assert "### The rows behind it\n\n[`rows_c.csv`](standard/rows_c.csv)\n\nWhat it shows." in text
    assert "### B\n\n`table_b` was not made in this profile." in text


@pytest.mark.parametrize("means, scenes, rows", [
    ("table2_close_range", "table2_scenes", "table2_rows"), ("table3_remote_sensing", "table3_scenes", "table3_rows"),
])
def test_the_published_tables_are_the_means_of_the_published_rows(means, scenes, rows):
    """Every number of Tables II and III has its rows, each with hash, seed and version of the code."""
    folder = ROOT / "figures/standard"
    behind = read_rows(folder / f"{rows}.csv")
    pd.testing.assert_frame_equal(tables.case_table(behind), pd.read_csv(folder / f"{means}.csv"))
    case = json.loads((folder / f"{scenes}.json").read_text())["provenance"]["cases"][0]
    pd.testing.assert_frame_equal(tables.scene_table(behind[behind["case"] == case]), pd.read_csv(folder / f"{scenes}.csv"))
    assert behind["code"].str.fullmatch(r"\d+\.\d+\.\d+\+[0-9a-f]{12}").all() and behind["seed"].eq(0).all()
    learned = behind["method"].map(lambda method: method in METHODS and METHODS[method].params > 0)
    assert behind.loc[learned, "weights"].str.fullmatch("[0-9a-f]{12}").all() and behind.loc[~learned, "weights"].eq("").all()


@pytest.mark.parametrize("name", ["fig_comparison", "table_comparison"])
def test_the_comparison_tells_the_code_and_the_weights_that_its_rows_have(name):
    folder = ROOT / "figures/standard"
    rows = read_rows(folder / "fig_comparison.csv")
    told = json.loads((folder / f"{name}.json").read_text())["provenance"]["runs"]
    assert list(told) == list(rows["run"].unique())
    for run, own in rows.groupby("run"):
        assert told[run]["code"] == dict(zip(own["case"], own["code"]))
        assert set(own["weights"]) == {told[run]["weights"]["sha256"][:12]}


def test_the_best_without_training_beside_short_trainings_is_that_of_table_2():
    folder = ROOT / "figures/standard"
    best = best_untrained(read_rows(folder / "table2_rows.csv"))["psnr"]
    beside = pd.read_csv(folder / "table_comparison.csv").set_index("method").loc["best without training"]
    pd.testing.assert_series_equal(beside[[f"{case} [dB]" for case in best.index]].astype(float), best, check_names=False, check_index=False)
