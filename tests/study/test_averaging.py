"""study.averaging: means of the first copies are what the network itself makes of so many."""

from __future__ import annotations

import pytest
import torch

from decsc_core import metrics
from decsc_core.model.shifts import spread_shifts
from decsc_core.networks.catalog import build, configure
from decsc_core.study import averaging
from decsc_core.study.evaluate import evaluated_scene, noisy_cube

CASE = "gauss-55"


@pytest.fixture(scope="module")
def network():
    return build(configure("decsc", "tiny"), torch.Generator().manual_seed(0)).eval()


@pytest.fixture(scope="module")
def scenes():
    return [evaluated_scene("photos", name, 20) for name in ("chelsea", "coffee")]


@pytest.fixture(scope="module")
def curves(network, scenes):
    return averaging.study(network, scenes, CASE, 3)


def test_so_many_copies_are_what_the_network_averages(network, scenes, curves):
    count = network.config.stride**2 // 2
    noisy = noisy_cube(scenes[1], CASE, 3)
    with torch.no_grad():
        output = network(torch.from_numpy(noisy.transpose(2, 0, 1)[None].copy()), spread_shifts(network.config.stride, count))
    expected = metrics.mpsnr(scenes[1].cube, output.image[0].numpy().transpose(1, 2, 0))
    mine = curves[(curves["scene"] == "coffee") & (curves["averaged"] == count)]
    assert mine["psnr"].item() == pytest.approx(expected, abs=0.01)


def test_every_number_of_copies_has_a_row_and_more_cost_more(network, curves):
    for _, mine in curves.groupby("scene"):
        assert list(mine["averaged"]) == list(range(1, network.config.stride**2 + 1))
        assert mine["cpu_seconds"].is_monotonic_increasing and mine["cpu_seconds"].iloc[0] > 0


def test_the_summary_is_of_means_and_gains(curves):
    means = averaging.summary(curves)
    both = curves[curves["averaged"] == 2]["psnr"]
    assert means["psnr"][1] == pytest.approx(both.mean())
    assert means["gain"][0] == 0 and means["gain"][1] == pytest.approx(means["psnr"][1] - means["psnr"][0])


def test_the_figure_marks_the_default(curves):
    axis = averaging.draw(curves, 5).axes[0]
    assert [line.get_xdata()[0] for line in axis.lines if line.get_label() == "by default"] == [5]
    assert len(axis.lines) == 2 + curves["scene"].nunique()
