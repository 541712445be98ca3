"""study.comparison: which runs are compared, and what the table and the figure make of their rows."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import pytest

from decsc_core.study import campaign, comparison
from decsc_core.study.figures import save_table

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


def test_this_projects_comparisons_are_fair(tmp_path):
    for name in ("comparison", "comparison-quick"):
        runs = campaign.read(Path(__file__).parents[2] / "campaigns" / f"{name}.yaml", tmp_path)
        first, further = next(iter(runs.values())), campaign.tuned(runs)
        assert all(config.cases == first.cases for run, config in runs.items() if run not in further), "all are trained for the same noise"
        assert further and not {*further} & {*campaign.last(runs)}, "but for those that go on with one case, which are compared with themselves alone"
        begun = {run: Path(config.start).parent.name for run, config in runs.items() if config.start}
        model = {run: asdict(config.model) | {"init": None, "gross_errors": None} for run, config in runs.items()}  # which need no other weights
        assert all(model[run] == model[start] for run, start in begun.items()), "all are trained from scratch, some in several parts"
        elsewhere = {run for run in runs if runs[run].dataset != next(iter(runs.values())).dataset}
        compared = set(campaign.last(runs))
        ways = compared
        while steps := {begun[run] for run in ways if run in begun} - ways:
            ways = ways | steps
        assert all(begun.get(run) in ways for run in elsewhere), "runs on other scenes are fine-tunings of those that are compared, or of steps on their way"
        assert not elsewhere & {*compared, *begun.values()}, "nothing that is compared has seen other scenes"


def test_a_network_that_goes_on_with_one_case_is_beside_the_one_it_began_from(runs, rows, stories, untrained, tmp_path):
    (tmp_path / "runs.yaml").write_text(RUNS + """
qrnn3d-mixture: {method: qrnn3d, preset: tiny, start: qrnn3d-0, case: mixture, steps: 2}
qrnn3d-further: {method: qrnn3d, preset: tiny, start: qrnn3d-mixture, case: mixture, steps: 2}
qrnn3d-there: {method: qrnn3d, preset: tiny, start: qrnn3d-0, dataset: photos, case: mixture, steps: 2}
""")
    every = campaign.read(tmp_path / "runs.yaml", tmp_path)
    assert campaign.tuned(every) == {"qrnn3d-mixture": "qrnn3d-0"} and campaign.last(every) == campaign.last(runs)
    every["qrnn3d-again"] = replace(every["qrnn3d-0"], start=every["qrnn3d-further"].start)
    assert campaign.tuned(every) == {"qrnn3d-mixture": "qrnn3d-0"}, "also where it is but a step on the way to what is compared"
    assert campaign.last(every) == [name for name in campaign.last(runs) if name != "qrnn3d-0"] + ["qrnn3d-again"]
    after = rows[(rows["run"] == "qrnn3d-0") & (rows["case"] == "mixture")].assign(run="qrnn3d-mixture", psnr=lambda own: own["psnr"] + 0.5)
    told = stories | {"qrnn3d-mixture": stories["qrnn3d-0"] | {"patches": 3}}
    table = comparison.tuned_table({"qrnn3d-mixture": "qrnn3d-0"}, pd.concat([rows, after]), told, every, untrained)
    assert table.to_dict("records") == [{
        "method": "QRNN3D", "case": "mixture", "device": "CPU", "minutes": 1.0, "patches": 3,
        "before": 27.0, "after": 27.5, "gain": 0.5, "untrained": 25.5,
    }]


def test_a_campaign_without_such_networks_has_an_empty_table(runs, rows, stories, untrained, tmp_path):
    table = comparison.tuned_table(campaign.tuned(runs), rows, stories, runs, untrained)
    assert len(table) == 0 and list(table)[:2] == ["method", "case"]
    save_table(table, "table_tuned", tmp_path, caption="None.", provenance={})
    assert (tmp_path / "table_tuned.md").read_text().startswith("None.\n\n| Method")


def test_the_best_that_learns_nothing_is_told_case_by_case(untrained):
    assert untrained.to_dict("index") == {"gauss-95": {"method": "bm4d", "psnr": 29}, "mixture": {"method": "tv", "psnr": 25.5}}


@pytest.fixture
def stories() -> dict[str, dict]:
    """DECSC's and QRNN3D's on a CPU, and another QRNN3D's on a GPU."""
    told = {run: {"training": {"optimizer": "adamw"}, "patches": 8, "seconds": 600, "cpu_seconds": 60 * (1 + int(run[-1])), "environment": {"device": "cpu"}}
            for run in ("decsc-0", "qrnn3d-0", "qrnn3d-1")}
    on_gpu = {"cpu_seconds": 999, "environment": {"device": "NVIDIA H200, shared"}}
    begun = {"training": {"optimizer": "adam"}, "patches": 50, "seconds": 90} | on_gpu
    return told | {"qrnn3d-longer": {"training": {"optimizer": "muon"}, "patches": 30, "seconds": 30, "ancestor": {"story": begun}} | on_gpu}


@pytest.fixture
def with_gpu(rows) -> pd.DataFrame:
    return rows[rows["run"] == "qrnn3d-0"].assign(run="qrnn3d-longer", psnr=lambda own: own["psnr"] + 9)


GROUPS = [["decsc-0"], ["qrnn3d-0", "qrnn3d-1"], ["qrnn3d-longer"]]


def test_the_table_has_means_over_scenes_and_seeds(runs, rows, with_gpu, stories, untrained):
    table = comparison.table(GROUPS, pd.concat([rows, with_gpu]), stories, runs, untrained)
    assert list(table["method"]) == ["DECSC", "QRNN3D", "QRNN3D", "best without training"]
    assert table["gauss-95"].tolist() == [30, 31.5, 40, 29] and table["mixture"].tolist() == [26, 28.5, 36, 25.5]
    decsc, qrnn3d, on_gpu, best = (table.loc[row] for row in range(4))
    assert qrnn3d[["seeds", "patches", "minutes", "device", "spread", "optimizer"]].tolist() == [2, 8, 1.5, "CPU", 3, "AdamW"]
    told = on_gpu[["minutes", "patches", "device"]].tolist()
    assert told == [2, 80, "NVIDIA H200"], "minutes of the clock where a GPU did the work, those of what it began from included"
    assert on_gpu["optimizer"] == "Adam and Muon", "one after the other"
    assert pd.isna(decsc["spread"]), "a single seed has no spread"
    assert decsc["parameters"] > qrnn3d["parameters"] > 0
    assert best[["parameters", "seeds", "minutes"]].isna().all()


def test_the_caption_tells_the_time_on_each_device(stories, untrained):
    told = {"dataset": "cave", "case": ["gauss-95"]}
    traced = {"dataset": "cave", "scenes": {"a": "", "b": ""}, "crop": 64,
              "runs": {run: {"weights": {"story": story | {"training": told}}} for run, story in stories.items()}}
    assert (
        "σ in [0, 95]: 3 networks for 1 to 2 minutes of CPU time each; 1 network for 2 minutes on NVIDIA H200, shared as `training.md` tells, "
        "validations on the way included: small budgets. Means over 2 test scenes, of each at most the central 64 x 64 pixels."
    ) in comparison.describe(traced, untrained)


def test_the_caption_tells_whose_networks_make_further_estimates(stories, untrained):
    again = {"dataset": "cave", "case": ["gauss-95"], "method": "mtsnnpp", "optimizer": "muon", "model": {"gross_errors": 0.015}}
    runs = {run: {"weights": {"story": story | {"training": again if run == "decsc-0" else again | {"model": {}}}}} for run, story in stories.items()}
    traced = {"dataset": "cave", "scenes": {"a": "", "b": ""}, "crop": 64, "runs": runs}
    assert "small budgets. MTSNN++ (ours) by Muon: with further estimates where the first one shows gross errors. Means" in comparison.describe(traced, untrained)
    del runs["decsc-0"]
    assert "further" not in comparison.describe(traced, untrained)


def test_the_caption_calls_no_gpu_shared_that_was_not(stories, untrained):
    alone = stories["decsc-0"] | {"environment": {"device": "NVIDIA H200"}, "training": {"dataset": "cave", "case": ["gauss-95"]}}
    traced = {"dataset": "cave", "scenes": {"a": ""}, "crop": 64, "runs": {"decsc-0": {"weights": {"story": alone}}}}
    assert "1 network for 10 minutes on NVIDIA H200, validations on the way included" in comparison.describe(traced, untrained)


def test_a_training_on_two_devices_is_of_both(stories):
    on_both = {"patches": 3, "seconds": 9, "cpu_seconds": 60, "environment": {"device": "cpu"}, "ancestor": {"story": stories["qrnn3d-longer"]}}
    assert comparison.devices(on_both) == "NVIDIA H200 and CPU" and comparison.minutes(on_both) == 3
    assert comparison.devices(stories["decsc-0"]) == "CPU"


def test_the_figure_tells_five_devices_apart(runs, rows, stories, untrained):
    names = [f"qrnn3d-{number}" for number in range(5)]
    every = pd.concat([rows[rows["run"] == "qrnn3d-0"].assign(run=name) for name in names])
    told = {name: stories["qrnn3d-0"] | {"environment": {"device": f"GPU {name}"}} for name in names}
    figure = comparison.draw([[name] for name in names], every, told, dict.fromkeys(names, runs["qrnn3d-0"]), untrained)
    looks = {(line.get_color(), line.get_marker()) for line in figure.legends[0].get_lines()[:5]}
    assert len(looks) == 5 and "C1" not in {colour for colour, _ in looks}, "that is the best without training"


def test_the_figure_shows_every_seed_and_device_with_the_best_method_on_top(runs, rows, with_gpu, stories, untrained):
    figure = comparison.draw(GROUPS, pd.concat([rows, with_gpu]), stories, runs, untrained)
    gauss, mixture = figure.axes
    assert [tick.get_text() for tick in gauss.get_yticklabels()] == ["QRNN3D", "DECSC"]
    dots = [line for line in gauss.lines if line.get_linestyle() == "None"]
    assert [list(line.get_xdata()) for line in dots] == [[30], [31, 32], [40]] and [line.get_ydata()[0] for line in dots] == [1, 0, 0]
    assert dots[0].get_color() == dots[1].get_color() != dots[2].get_color()
    shapes = [line.get_marker() for line in figure.legends[0].get_lines()[:2]]
    assert [line.get_marker() for line in dots] == [shapes[0], shapes[0], shapes[1]] and shapes[0] != shapes[1]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "trained on CPU, 0.013 to 0.047 M parameters", "trained on NVIDIA H200, by Muon, 0.013 M parameters", "best without training",
    ]
    by_muon = stories | {"qrnn3d-0": stories["qrnn3d-0"] | {"training": {"optimizer": "muon"}}}
    assert len(comparison.draw(GROUPS, pd.concat([rows, with_gpu]), by_muon, runs, untrained).legends[0].get_texts()) == 4, "on one device by two optimizers"
    assert [line.get_xdata()[0] for line in mixture.lines if line.get_linestyle() == "--"] == [25.5]
    assert (gauss.get_title(), mixture.get_title()) == ("gauss-95", "mixture")
