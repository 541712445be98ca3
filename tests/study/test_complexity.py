"""study.complexity: counts against a computed pass and the official networks, costs in processes of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from decsc_core import weights
from decsc_core.denoisers.base import Estimate, Record
from decsc_core.denoisers.equilibrium import Equilibrium
from decsc_core.denoisers.learned import Learned
from decsc_core.networks.catalog import build, configure
from decsc_core.study import complexity

OFFICIAL = {("decsc", 64): 118.8, ("decsc", 128): 401.6, ("decsc-mamba", 64): 122.3, ("decsc-mamba", 128): 404.3}
"""10^9 multiply-accumulates of one evaluation of f, all 49 copies, counted on the released network."""


@pytest.fixture
def noisy() -> np.ndarray:
    return np.random.default_rng(0).random((24, 24, 31), dtype=np.float32)


@pytest.mark.parametrize("method", ["decsc", "decsc-mamba", "t3sc", "hsdt"])
def test_what_is_counted_is_what_is_computed(method, noisy):
    """But for the products of the solver itself, 1 % of DECSC's."""
    model = build(configure(method, "tiny"), torch.Generator().manual_seed(0)).eval()
    image = torch.from_numpy(noisy.transpose(2, 0, 1).copy())[None]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        output = model(image)
    counted = {}
    if method.startswith("decsc"):
        counted["evaluations"] = int(output.solution.iterations.max()) + len(model.config.phantom)
    assert complexity.gmacs(model.config, 24, **counted) == pytest.approx(counter.get_total_flops() / 2e9, rel=0.015)


def test_one_estimate_is_counted_of_a_network_that_may_make_three():
    """It makes them of images with gross errors; tensors without values have none to see."""
    one, more = (configure("mtsnnpp", "tiny", gross_errors=e) for e in (0.0, 0.015))
    assert complexity.gmacs(more, 24) == complexity.gmacs(one, 24) > 0


@pytest.mark.parametrize(("method", "side"), OFFICIAL)
def test_an_evaluation_of_f_costs_what_the_released_one_does(method, side):
    one, two = (complexity.gmacs(configure(method), side, evaluations=count) for count in (1, 2))
    assert two - one == pytest.approx(OFFICIAL[method, side], rel=0.01)


def test_shifted_copies_count(noisy):
    one, two = (complexity.gmacs(configure("decsc", "tiny", shifts=count), 24, evaluations=3) for count in (1, 2))
    assert two == pytest.approx(2 * one, rel=0.2)


def test_a_network_with_weights_is_measured_beside_the_published_one(tmp_path):
    shipped = str(weights.shipped("decsc"))
    assert complexity.subjects(["e3dtv", "decsc"], {}) == [("e3dtv", ""), ("decsc", ""), ("decsc", shipped)]
    own = str(tmp_path / "own.safetensors")
    assert complexity.subjects(["sst", "decsc"], {"sst": own})[:2] == [("sst", ""), ("sst", own)]


@pytest.mark.slow
def test_costs_of_a_network_and_of_a_method_without(tmp_path, noisy):
    """What one method or the caller holds is not charged to the next: each has a process of its own."""
    own = tmp_path / "own.safetensors"
    model = build(configure("decsc", "tiny"), torch.Generator().manual_seed(0))
    weights.save(model, own, {})
    held = np.ones(50_000_000)
    chosen = [("e3dtv", ""), ("decsc", str(own)), ("decsc", "")]
    costs = complexity.costs(chosen, noisy, shifts=1)
    assert list(costs.columns) == list(complexity.COLUMNS) and held.all()
    assert list(costs["network"]) == ["", "own.safetensors", complexity.PUBLISHED]
    assert costs["parameters"].tolist() == [pd.NA, sum(p.numel() for p in model.parameters()), 4_295_152]
    assert costs["copies"].tolist()[1:] == ["2 of 2", "1 of 49"]
    counted = complexity.gmacs(configure("decsc"), 24, evaluations=int(costs["iterations"][2]))
    assert costs["gmacs"][2] == pytest.approx(counted)
    assert (costs[["seconds", "cpu_seconds"]] > 0).all(axis=None)
    assert costs["memory_mb"].between(0, 300).all()


def test_costs_are_of_all_copies_and_passes(monkeypatch, noisy):
    """Of two shifted copies one was timed, in two passes."""
    config = configure("decsc", "tiny")
    two_passes = Estimate(noisy, [Record([0.1], 7, False), Record([0.1], 3, True)])
    monkeypatch.setattr(complexity, "configure", lambda method: config)
    monkeypatch.setattr(complexity, "fastest", lambda work, repeats: (2.0, 3.0, two_passes))
    row = complexity.measure("decsc", "", noisy, shifts=1)
    assert (row["copies"], row["cpu_seconds"], row["seconds"], row["iterations"]) == ("1 of 2", 4.0, 6.0, 12)
    assert row["gmacs"] == pytest.approx(sum(complexity.gmacs(config, 24, evaluations=count) for count in (12, 8)))


def test_each_piece_of_an_image_is_counted_at_its_own_size(monkeypatch):
    """Four tiles of 29 x 29 pixels and, of 62 bands, four windows each; a network for any number of bands takes all."""
    noisy, records = np.zeros((48, 48, 62), np.float32), [Record([0.1], count, True) for count in range(1, 17)]
    monkeypatch.setattr(complexity, "fastest", lambda work, repeats: (2.0, 3.0, Estimate(noisy, records)))
    for module in ("equilibrium", "learned"):
        monkeypatch.setattr(f"decsc_core.denoisers.{module}.TILE", 40)
    found, configs = {}, {method: configure(method, "tiny") for method in ("decsc", "sst", "qrnn3d")}
    for method, config in configs.items():
        known = weights.Weights(method, build(config, torch.Generator().manual_seed(0)).eval(), {}, "", Path("known"))
        denoiser = (Equilibrium if method == "decsc" else Learned)(known)
        monkeypatch.setattr(complexity, "_denoiser", lambda *given, denoiser=denoiser: (denoiser, "known"))
        found[method] = complexity.measure(method, "", noisy)["gmacs"]
    passes = [count + len(configs["decsc"].phantom) for count in range(1, 17)]
    assert found["decsc"] == pytest.approx(sum(complexity.gmacs(configs["decsc"], 29, evaluations=count) for count in passes))
    assert found["sst"] == pytest.approx(16 * complexity.gmacs(configs["sst"], 29))
    assert found["qrnn3d"] == pytest.approx(4 * complexity.gmacs(configs["qrnn3d"], 29, bands=62))
    assert complexity.gmacs(configs["qrnn3d"], 29, bands=62) == pytest.approx(2 * complexity.gmacs(configs["qrnn3d"], 29), rel=0.05)


def test_an_unrolled_network_has_no_evaluations_to_count(monkeypatch, noisy):
    config = configure("decsc", "tiny", gradient="unrolled")
    monkeypatch.setattr(complexity, "configure", lambda method: config)
    with pytest.raises(ValueError, match="the network is unrolled"):
        complexity.measure("decsc", "", noisy, shifts=1)


def test_only_square_images_are_measured(noisy):
    with pytest.raises(ValueError, match="24 x 20 pixels; costs are measured on a square one"):
        complexity.measure("e3dtv", "", noisy[:, :20])


def test_an_untrained_network_has_no_score():
    costs = pd.DataFrame({
        "method": ["tv", "decsc", "decsc", "sst", "bm4d"],
        "network": ["", complexity.PUBLISHED, "a.safetensors", complexity.PUBLISHED, ""],
    })
    rows = pd.DataFrame({"method": ["tv", "tv", "decsc", "decsc"], "psnr": [20.0, 30.0, 30.0, 33.0]})
    table = complexity.with_scores(costs, rows)
    assert table["method"].tolist() == ["TV", "DECSC", "DECSC", "SST", "BM4D"]
    np.testing.assert_array_equal(table["psnr"], [25, np.nan, 31.5, np.nan, np.nan])


def test_the_published_networks_beside_the_papers_count():
    table = complexity.gmacs_by_size(["sst", "qrnn3d"], (64, 128)).set_index("method")
    assert table.loc["SST", "64 x 64"] == pytest.approx(18.73, rel=0.01)
    assert table.loc["SST", "128 x 128"] == pytest.approx(4 * table.loc["SST", "64 x 64"], rel=0.01)
    assert table.loc["SST", "paper, FLOPs [G]"] == 67.61 and np.isnan(table.loc["QRNN3D", "paper, FLOPs [G]"])
