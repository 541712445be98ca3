"""study.further_estimates: what it is worth to a network to estimate an image with gross errors again."""

from __future__ import annotations

import pytest
import torch

from decsc_core import metrics, weights
from decsc_core.denoisers.registry import make
from decsc_core.networks.catalog import build, configure
from decsc_core.scenes import scene_names
from decsc_core.study import further_estimates
from decsc_core.study.evaluate import evaluated_scene, noisy_cube


def test_the_last_estimate_is_that_of_a_network_that_makes_them_by_itself(tmp_path):
    files = {e: tmp_path / f"{e}.safetensors" for e in (0.0, further_estimates.E)}
    for e, file in files.items():
        weights.save(build(configure("mtsnnpp", "tiny", gross_errors=e), torch.Generator().manual_seed(1)), file, {"training": {}})
    scenes = [evaluated_scene("photos", name, 24) for name in scene_names("photos", "validation")]
    scored = further_estimates.score({e: ("mtsnnpp", file) for e, file in files.items()}, scenes, "mixture", 3).set_index("name")
    for column, e in (("first", 0.0), ("last", further_estimates.E)):
        denoise = make("mtsnnpp", weights=files[e])
        mean = sum(metrics.mpsnr(scene.cube, denoise(noisy_cube(scene, "mixture", 3)).cube) for scene in scenes) / len(scenes)
        assert scored[column].tolist() == pytest.approx([mean, mean], abs=1e-3), "also of one that makes more by itself"
    assert (scored["gain"] > 0.1).all() and scored["gain"].tolist() == pytest.approx((scored["last"] - scored["first"]).tolist())
