"""study.ablation: which runs belong together, their rows, and what is made of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from decsc_core import weights
from decsc_core.networks.catalog import method_of
from decsc_core.scenes import Scene
from decsc_core.study import ablation, campaign, choices, train as training
from decsc_core.study.recipes import TrainConfig

RUNS = """
complete-0: &complete {method: decsc, preset: tiny, steps: 1, batch: 2, patch: 12, model: &network {depth: 1}}
complete-1: {<<: *complete, seed: 1}
no-swin-0: {<<: *complete, model: {depth: 0}}
no-swin-1: {<<: *complete, seed: 1, model: {depth: 0}}
no-attention: {<<: *complete, model: {depth: 1, detail_parts: [difference]}}
atoms-8: {<<: *complete, model: {depth: 1, shared_atoms: 8}}
atoms-4-longer: {<<: *complete, steps: 2, model: {depth: 1, shared_atoms: 4}}
terms-2: {<<: *complete, model: {depth: 1, phantom: [1, 1]}}
"""
GIVEN = dict(profile="quick", dataset="photos", case="gauss-95", seed=0, crop=16)


@pytest.fixture
def runs(tmp_path) -> dict[str, TrainConfig]:
    path = tmp_path / "runs.yaml"
    path.write_text(RUNS)
    return campaign.read(path, tmp_path)


@pytest.fixture
def waves(monkeypatch) -> None:
    """A smooth cube in place of the catalogue's training scenes."""
    y, x, b = np.meshgrid(np.arange(20), np.arange(22), np.arange(31), indexing="ij")
    scene = Scene((0.5 + 0.3 * np.sin(y / 4 + b) * np.cos(x / 5)).astype(np.float32), "waves")
    monkeypatch.setattr(training, "load", lambda dataset, split: [scene])


def rows(**psnr: tuple[float, float]) -> pd.DataFrame:
    """Rows of two scenes for runs, whose seed their name ends with."""
    return pd.DataFrame([
        {"run": run.replace("_", "-"), "train_seed": int(run.endswith("1")), "scene": scene, "psnr": value, "ssim": 0.5, "sam": 0.1}
        for run, values in psnr.items() for scene, value in zip("ab", values)
    ])


def test_runs_that_differ_in_one_thing_belong_together(runs):
    assert ablation.runs_with(runs) == ["complete-0", "complete-1"]
    assert ablation.runs_with(runs, depth=0) == ["no-swin-0", "no-swin-1"]
    assert ablation.runs_with(runs, detail_parts=("attention",)) == []
    assert ablation.runs_by(runs, "shared_atoms") == {8: ["atoms-8"], 16: ["complete-0", "complete-1"]}, "trained alike only"
    assert ablation.runs_by(runs, "phantom") == {(1, 1): ["terms-2"], (1,) * 5: ["complete-0", "complete-1"]}


def test_every_study_has_its_runs_in_the_campaigns_of_this_project(tmp_path):
    for name in ("ablation", "ablation-quick", "paper"):
        runs = campaign.read(Path(__file__).parents[2] / "campaigns" / f"{name}.yaml", tmp_path)
        assert all(ablation.runs_with(runs, **fields) for fields in ablation.MODULES.values())
        by = {field: ablation.runs_by(runs, field) for field in ("shared_atoms", "unshared_atoms", "phantom")}
        assert all(len(values) >= 3 for values in by.values())
        used = {run for values in by.values() for names in values.values() for run in names}
        used |= {run for fields in ablation.MODULES.values() for run in ablation.runs_with(runs, **fields)}
        used |= {run for names in choices.runs_by_choice(runs).values() for run in names}
        method = method_of(next(iter(runs.values())).model)
        assert used == {run for run, config in runs.items() if method_of(config.model) == method}, "a run that no study uses is trained in vain"


def test_the_code_of_each_case_is_told(monkeypatch, tmp_path):
    rows = pd.DataFrame({"run": ["a", "a", "b", "b"], "dataset": "photos", "case": ["corr", "gauss-15"] * 2, "method": "sst", "code": list("1233")})
    inputs = dict.fromkeys(("profile", "dataset", "seed", "crop", "scenes"))
    monkeypatch.setattr(ablation, "sidecar", lambda folder, *_: {"inputs": inputs, "weights": folder.name})
    traced = ablation.provenance(rows, tmp_path)
    assert traced["cases"] == ["corr", "gauss-15"]
    assert traced["runs"] == {
        "a": {"code": {"corr": "1", "gauss-15": "2"}, "weights": "a"}, "b": {"code": {"corr": "3", "gauss-15": "3"}, "weights": "b"},
    }


@pytest.mark.parametrize("trained_on, told", [
    (["cpu", "cpu"], "2 to 3 minutes of CPU time:"),
    (["NVIDIA H200", "cpu"], "2 to 3 minutes on NVIDIA H200 or of CPU time:"),
])
def test_a_caption_tells_every_device_that_trained(runs, trained_on, told):
    stories = [{"patches": 8, "seconds": 120 + 60 * number, "cpu_seconds": 120 + 60 * number, "environment": {"device": name}} for number, name in enumerate(trained_on)]
    traced = {"case": "corr", "dataset": "photos", "crop": None, "scenes": {"chelsea": ""}, "runs": {f"{number}": {"weights": {"story": story}} for number, story in enumerate(stories)}}
    assert told in ablation.describe(runs["complete-0"], traced)


def test_weights_of_a_run_that_there_is_not_are_refused_before_anything_is_trained(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(ablation, "train", None)
    with pytest.raises(ValueError, match="^trained: there is no run 'complete'; there are complete-0, complete-1, "):
        ablation.scores(runs, ["complete-0"], {"complete": "mine.safetensors"}, tmp_path, **GIVEN)


@pytest.mark.slow
def test_runs_without_weights_are_trained_and_scored_once(runs, waves, tmp_path, monkeypatch):
    found = ablation.scores(runs, ["complete-0", "no-swin-1"], {}, tmp_path, **GIVEN)
    assert found.groupby("run")["scene"].count().to_dict() == {"complete-0": 2, "no-swin-1": 2}
    assert found["train_seed"].tolist() == [0, 0, 1, 1] and np.isfinite(found["psnr"]).all()
    own = weights.load(tmp_path / "no-swin-1" / "weights.safetensors")
    assert own.model.config.depth == 0 and set(found["weights"]) >= {own.sha256[:12]}
    traced = ablation.provenance(found, tmp_path)
    assert traced["runs"]["no-swin-1"]["weights"]["sha256"] == own.sha256 and len(traced["scenes"]) == 2
    assert traced["runs"]["no-swin-1"]["code"] == found["code"].iloc[0]
    complete = runs["complete-0"]
    told = ablation.describe(complete, traced)
    assert "2 networks" in told and "2 patches of CAVE" in told and "16 shared and 4 unshared atoms" in told
    other = replace(complete, model=replace(complete.model, shared_atoms=24))
    assert "24 shared and 4 unshared atoms" in ablation.describe(other, traced)
    assert "16 x 16 pixels" in told and "standing in for ICVL" in told and "2 patches of CAVE, as many for all, in less than a minute of CPU time: a small scale" in told
    traced["runs"]["no-swin-1"]["weights"]["story"]["patches"] = 1500
    unlike = ablation.describe(complete, traced)
    assert "2 to 1,500 patches of CAVE" in unlike and "as many for all" not in unlike

    monkeypatch.setattr(training, "load", None)  # nothing may be trained again
    published = {"complete-0": tmp_path / "complete-0" / "weights.safetensors"}
    pd.testing.assert_frame_equal(ablation.scores(runs, ["complete-0", "no-swin-1"], published, tmp_path, **GIVEN), found)
    with pytest.raises(ValueError, match="weights.safetensors: not the weights of the campaign's run 'complete-1': seed was 0, not 1"):
        ablation.scores(runs, ["complete-1"], {"complete-1": published["complete-0"]}, tmp_path, **GIVEN)


def test_modules_are_compared_seed_by_seed(runs):
    scored = rows(complete_0=(30, 32), complete_1=(31, 33), no_swin_0=(29, 30), no_swin_1=(31, 32), no_attention=(30, 31))
    table = ablation.module_table(scored, runs).set_index("network")
    assert list(table.index) == ["All modules", "Without Swin", "Without attention"]
    assert table.loc["Without Swin", ["swin", "difference", "attention"]].tolist() == ["×", "✓", "✓"]
    assert table.loc["Without Swin", ["psnr", "seeds", "change", "least", "most"]].tolist() == [30.5, 2, -1.0, -1.5, -0.5]
    assert table.loc["Without attention", ["psnr", "change"]].tolist() == [30.5, -0.5], "only the seed that both have"
    assert table["paper_psnr"].tolist() == [45.64, 44.87, 44.99]
    assert table["paper_change"].tolist() == pytest.approx([0, -0.77, -0.65])

    changes = ablation.changes(scored, runs)
    assert changes.query("network == 'no-swin'")["change"].tolist() == [-1, -2, 0, -1]
    figure = ablation.draw_changes(changes)
    axis = figure.axes[0]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["seed 0", "seed 1", "paper"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["Without Swin", "Without attention"]
    drawn = sorted(x for line in axis.lines if line.get_linestyle() == "None" for x in line.get_xdata())
    assert drawn == pytest.approx(sorted([-1, -2, 0, -1, 0, -1, 44.87 - 45.64, 44.99 - 45.64]))


def test_the_report_gets_the_networks_by_the_names_of_table_v(runs):
    named = ablation.as_methods(rows(complete_0=(30, 32), no_swin_1=(31, 32), atoms_8=(1, 2)), runs)
    assert named["method"].tolist() == ["decsc", "decsc", "no-swin", "no-swin"]


def test_sizes_are_ordered_and_counted(runs):
    scored = rows(complete_0=(30, 32), complete_1=(32, 34), atoms_8=(28, 29))
    table = ablation.means(scored, runs, ablation.runs_by(runs, "shared_atoms"))
    assert table["value"].tolist() == [8, 16] and table["psnr"].tolist() == [28.5, 32]
    assert 0 < table["parameters"][0] < table["parameters"][1]
    assert table.loc[1, ["seeds", "least", "most"]].tolist() == [2, 31, 33] and table.loc[0, ["least", "most"]].isna().all()
    axis = ablation.draw_sizes(table, "Shared atoms", 16).axes[0]
    assert axis.get_xlabel() == "Shared atoms"
    assert [list(line.get_xdata()) for line in axis.lines] == [[16, 16], [8, 16]]
    assert [list(bar[:, 1]) for bar in axis.collections[0].get_segments()] == [[31, 33]]
