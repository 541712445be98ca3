"""study.comparison: which runs are compared, and what the table and the figure make of their rows."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from decsc_core.study import campaign, comparison

RUNS = """
decsc-0: &decsc {method: decsc, preset: tiny, case: [gauss-95, mixture], steps: 2}
qrnn3d-0: &qrnn3d {method: qrnn3d, preset: tiny, case: [gauss-95, mixture], steps: 4}
qrnn3d-1: {<<: *qrnn3d, seed: 1}
decsc-without-swin: {<<: *decsc, model: {depth: 0}}
qrnn3d-longer: {<<: *qrnn3d, steps: 5}
"""
PSNR = {("decsc-0", "gauss-95"): 30, ("decsc-0", "mixture"): 26, ("qrnn3d-0", "gauss-95"): 31, ("qrnn3d-0", "mixture"): 27,
        ("qrnn3d-1", "gauss-95"): 32, ("qrnn3d-1", "mixture"): 30}


@pytest.fixture
def runs(tmp_path):
    path = tmp_path / "runs.yaml"
    path.write_text(RUNS)
    return campaign.read(path, tmp_path)


@pytest.fixture
def rows() -> pd.DataFrame:
    """Two scenes, one decibel above and below the mean."""
    return pd.DataFrame([
        {"run": run, "train_seed": int(run[-1]), "case": case, "scene": scene, "psnr": psnr + step}
        for (run, case), psnr in PSNR.items() for scene, step in (("a", 1), ("b", -1))
    ])


@pytest.fixture
def untrained() -> pd.DataFrame:
    rows = [("noisy", "gauss-95", 40), ("bm4d", "gauss-95", 29), ("tv", "gauss-95", 28), ("bm4d", "mixture", 25), ("tv", "mixture", 25.5),
            ("decsc", "mixture", 50)]
    return comparison.best_untrained(pd.DataFrame(rows, columns=["method", "case", "psnr"]))


def test_the_first_run_of_each_method_and_its_other_seeds_are_compared(runs):
    assert comparison.runs_by_method(runs) == {"decsc": ["decsc-0"], "qrnn3d": ["qrnn3d-0", "qrnn3d-1"]}


def test_every_run_of_this_projects_comparisons_is_compared(tmp_path):
    for name in ("comparison", "comparison-quick"):
        runs = campaign.read(Path(__file__).parents[2] / "campaigns" / f"{name}.yaml", tmp_path)
        by = comparison.runs_by_method(runs)
        assert sorted(run for names in by.values() for run in names) == sorted(runs), "a run that is not compared is trained in vain"
        assert len({runs[names[0]].cases for names in by.values()}) == 1, "all are trained for the same noise"


def test_the_best_that_learns_nothing_is_told_case_by_case(untrained):
    assert untrained.to_dict("index") == {"gauss-95": {"method": "bm4d", "psnr": 29}, "mixture": {"method": "tv", "psnr": 25.5}}


def test_the_table_has_means_over_scenes_and_seeds(runs, rows, untrained):
    stories = {run: {"patches": 8, "cpu_seconds": 60 * (1 + int(run[-1]))} for run in runs if run[-1] in "01"}
    table = comparison.table(comparison.runs_by_method(runs), rows, stories, runs, untrained).set_index("method")
    assert list(table.index) == ["DECSC", "QRNN3D", "best without training"]
    assert table["gauss-95"].tolist() == [30, 31.5, 29] and table["mixture"].tolist() == [26, 28.5, 25.5]
    assert table.loc["QRNN3D", ["seeds", "patches", "cpu_minutes", "spread"]].tolist() == [2, 8, 1.5, 3]
    assert pd.isna(table.loc["DECSC", "spread"]), "a single seed has no spread"
    assert table.loc["DECSC", "parameters"] > table.loc["QRNN3D", "parameters"] > 0
    assert table.loc["best without training", ["parameters", "seeds", "cpu_minutes"]].isna().all()


def test_the_figure_shows_every_seed_with_the_best_method_on_top(runs, rows, untrained):
    gauss, mixture = comparison.draw(comparison.runs_by_method(runs), rows, untrained).axes
    assert [tick.get_text() for tick in gauss.get_yticklabels()] == ["QRNN3D", "DECSC"]
    assert [list(line.get_xdata()) for line in gauss.lines if line.get_marker() == "o"] == [[31, 32], [30]]
    assert [line.get_xdata()[0] for line in mixture.lines if line.get_linestyle() == "--"] == [25.5]
    assert (gauss.get_title(), mixture.get_title()) == ("gauss-95", "mixture")
