"""study.schematics: the figures show what the network does, not what somebody drew."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.text import Text

from decsc_core.model.decsc import Layer
from decsc_core.networks.catalog import build, configure
from decsc_core.study import schematics


def network(method="decsc", **changes):
    return build(configure(method, "tiny", bands=5, **changes), torch.Generator().manual_seed(0))


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(1)
    clean = torch.rand(1, 5, 14, 14, generator=generator)
    return clean, clean + 0.1 * torch.randn(clean.shape, generator=generator)


def test_the_passes_of_a_training_step(images):
    model = network(phantom=(1.0, 1.0, 0.5))
    calls = schematics.passes(model, *images)
    assert list(calls["evaluation"]) == list(range(1, len(calls) + 1))
    assert list(calls["with_gradient"]) == [False] * (len(calls) - 3) + [True] * 3
    with torch.no_grad():
        solved = int(model(images[1], [(0, 0)]).solution.iterations.max())
    assert abs(len(calls) - 3 - solved) <= 2  # the shifted copy is padded
    assert calls["gradient"].notna().equals(calls["with_gradient"]) and (calls["gradient"].dropna() > 0).all()
    layer = Layer(model, images[1])
    with torch.no_grad():
        z, fz = layer.initial(), layer(layer.initial())
    assert calls["residual"][0] == pytest.approx(((fz - z).norm() / fz.norm()).item())
    assert all(weight.grad is None for weight in model.parameters())


def names(model, noisy) -> set[tuple[str, str]]:
    _, edges = schematics.dataflow(model, noisy)
    clean = {"$": "", r"\mathbf": "", "{": "", "}": "", " ": ""}
    table = edges[["source_name", "target_name"]].copy()
    for old, new in clean.items():
        for column in table:
            table[column] = table[column].str.replace(old, new, regex=False).str.split("\n").str[0]
    return set(table.itertuples(index=False, name=None))


EQUATION_20 = {
    ("H^(t)", r"D_X\star"), ("S^(t)", r"K\otimes"),
    ("Y", r"W_K\otimes"), (r"D_X\star", r"W_K\otimes"), (r"K\otimes", r"W_K\otimes"),
    ("S^(t)", "Soft"), (r"W_K\otimes", "Soft"), ("Soft", "Net_1"), ("Net_1", "S^(t+1)"), ("Net_1", r"K_X\otimes"),
    ("H^(t)", r"D\star"), ("Y", r"W_D\star"), (r"K_X\otimes", r"W_D\star"), (r"D\star", r"W_D\star"),
    ("H^(t)", "Soft"), (r"W_D\star", "Soft"), ("Soft", "Net_2"), ("Net_2", "H^(t+1)"),
}


@pytest.mark.parametrize("method", ["decsc", "decsc-mamba"])
def test_the_layer_computes_what_equation_20_says(images, method):
    assert names(network(method), images[1]) == EQUATION_20


def test_another_layer_is_another_figure(images, monkeypatch):
    def forgetful(self, z):
        S, H = self.unpack(z)
        K, D = self.model.shared, self.model.unshared
        S = self.shrink_shared(K.analyse(self.noisy - K.synthesise(S, self.size)))
        return self.pack(S, self.shrink_unshared(H + D.analyse(self.noisy - D.synthesise(H, self.size))))

    monkeypatch.setattr(Layer, "__call__", forgetful)
    found = names(network(), images[1])
    assert ("S^(t)", "Soft") not in found and not any("K_X" in name for pair in found for name in pair)
    assert found < EQUATION_20


def test_shapes_are_those_of_the_results(images):
    model = network()
    nodes, _ = schematics.dataflow(model, images[1])
    layer = Layer(model, images[1])
    by_lane = nodes.groupby("lane")["shape"].agg(set)
    assert by_lane["S"] == {layer.shapes[0]} and by_lane["H"] == {layer.shapes[1]}
    assert by_lane["image"] == by_lane["image of S"] == by_lane["image of H"] == {(5, 14, 14)}


def test_the_branches_add_up_and_their_tied_taps_are_opposite():
    difference = network().prior_unshared.difference
    taps = schematics.branches(difference)
    cubes = {name: mine["value"].to_numpy().reshape(3, 3, 3) for name, mine in taps.groupby("branch")}
    total = cubes.pop("sum")
    np.testing.assert_allclose(sum(cubes.values()), total, atol=1e-6)
    norms = difference.fuse().weight.detach().flatten(2).norm(dim=2)
    assert np.linalg.norm(total) == pytest.approx(norms.max().item(), rel=1e-5)
    for name, axis in (("spectral", 0), ("vertical", 1), ("horizontal", 2)):
        first, middle, last = np.moveaxis(cubes[name], axis, 0)
        np.testing.assert_array_equal(first, -last)
        assert not middle.any() and first.any()
    assert cubes["central"].sum() == pytest.approx(0, abs=1e-5)
    assert dict(taps.groupby("branch")["taps"].first()) == {
        "plain": 27, "central": 27, "horizontal": 9, "vertical": 9, "spectral": 9, "sum": 27,
    }


def test_the_figures_show_every_evaluation_node_and_branch(images):
    model = network()
    calls = schematics.passes(model, *images)
    chain = schematics.draw_passes(calls, "Anderson").axes[0]
    assert sum(text.get_text() == "$f$" for text in chain.texts) == len(calls)
    nodes, edges = schematics.dataflow(model, images[1])
    axis = schematics.draw_dataflow(nodes, edges).axes[0]
    written = [text.get_text() for text in axis.findobj(Text)]
    assert set(written) >= set(nodes["name"]) and len(axis.patches) == len(edges)
    assert written.count("×".join(map(str, nodes["shape"][0]))) == (nodes["shape"] == nodes["shape"][0]).sum()
    axis.figure.canvas.draw()
    boxes = [box.patch.get_window_extent() for box in axis.artists]
    ends = [arrow.get_transform().transform_path(arrow.get_path()).vertices[0] for arrow in axis.patches]
    assert all(any(box.padded(3).contains(*end) for box in boxes) for end in ends), "every arrow begins at a box"
    titles = [panel.get_title().split("\n")[0] for panel in schematics.draw_branches(schematics.branches(model.prior_unshared.difference)).axes]
    assert [title for title in titles if title] == ["plain", "central", "horizontal", "vertical", "spectral", "sum:"]
