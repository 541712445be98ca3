"""study.readings: both readings from one seed, differences by seed, what the noisy cube loses."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from decsc_core import metrics
from decsc_core.scenes import Scene
from decsc_core.study import evaluate, readings


@pytest.fixture(scope="module")
def scored() -> tuple[pd.DataFrame, str, dict]:
    scenes = {
        name: Scene(np.random.default_rng(seed).random((20, 18, 31), dtype=np.float32), name)
        for seed, name in enumerate(("chelsea", "coffee"))
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "load_scene", lambda dataset, name: scenes[name])
        return readings.score("quick", "photos", ["tv"], seeds=[3, 4], crop=16)


def test_every_method_sees_both_readings_with_every_seed(scored):
    rows, about, traced = scored
    mixed = rows[rows["case"] != "gauss-95"]
    assert mixed.groupby(["method", "case", "seed"])["scene"].nunique().to_dict() == {
        (method, case, seed): 2 for method in ("noisy", "tv") for case in readings.READINGS for seed in (3, 4)
    }
    assert "disjoint thirds" in about and "independent thirds" in about and "central 16 x 16 pixels" in about
    assert traced["seed"] == [3, 4] and set(traced["methods"]) == {"noisy", "tv"}
    assert traced["environment"]


def test_the_scores_are_of_the_cubes_of_the_evaluation(scored):
    rows, _, _ = scored
    scene = Scene(np.random.default_rng(1).random((20, 18, 31), dtype=np.float32), "coffee")
    scene = Scene(scene.cube[2:18, 1:17], "coffee")
    noisy = evaluate.noisy_cube(scene, "mixture-independent", 4)
    own = rows.query("scene == 'coffee' and case == 'mixture-independent' and seed == 4 and method == 'noisy'")
    assert own["psnr"].item() == pytest.approx(metrics.mpsnr(scene.cube, noisy))


def test_no_seeds_are_refused():
    with pytest.raises(ValueError, match="^seeds is empty; give at least one$"):
        readings.score("quick", "photos", ["tv"], seeds=[], crop=16)


def made_up() -> pd.DataFrame:
    """Rows of one method: independent is better by 1 dB with one seed, by 3 with another, in the mean of two scenes."""
    rows = [
        {"method": "noisy", "case": case, "seed": seed, "scene": scene, "psnr": psnr, "ssim": 0.5, "sam": 0.1}
        for case, values in {
            "mixture-disjoint": ((10, 12), (14, 16)),
            "mixture-independent": ((11, 13), (16, 20)),
            "gauss-95": ((20, 20), (20, 20)),
        }.items()
        for seed, of_scenes in enumerate(values)
        for scene, psnr in zip("ab", of_scenes)
    ]
    return pd.DataFrame(rows)


def test_the_table_compares_seed_by_seed():
    table = readings.table(made_up())
    assert list(table["index"]) == ["psnr", "ssim", "sam"] and set(table["method"]) == {"Noisy"}
    psnr = table.iloc[0]
    assert (psnr["disjoint"], psnr["independent"], psnr["difference"]) == (13, 15, 2)
    assert psnr["deviation"] == pytest.approx(2**0.5), "of 1 and 3"
    assert psnr["seeds"] == pytest.approx(8**0.5), "of 11 and 15"


def test_losses_are_beside_the_papers():
    found = readings.losses(made_up()).set_index("of")["loss"]
    assert found["disjoint"] == 7 and found["independent"] == 5
    assert found["the paper, ICVL"] == pytest.approx(17.43 - 13.21)
    assert found["the paper, Houston 2018"] == pytest.approx(16.85 - 11.72)
