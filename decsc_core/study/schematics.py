"""Figs. 1 to 3 of the paper, drawn from what a network does when it runs: nothing in them is drawn by hand but the places."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, TextArea, VPacker
from matplotlib.patches import ConnectionStyle, FancyArrowPatch, Patch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from decsc_core.model import DECSC, decsc
from decsc_core.model.decsc import Layer
from decsc_core.model.detail import DifferenceConv3d
from decsc_core.study.figures import COLOURS, TEXT_WIDTH

# Fig. 1: the forward and the backward pass


class _Recorded(Layer):
    """f that notes each of its evaluations, and whether a gradient goes through it."""

    def __init__(self, model: DECSC, noisy: Tensor) -> None:
        super().__init__(model, noisy)
        self.calls: list[dict] = []
        self.results: list[Tensor] = []

    def __call__(self, z: Tensor) -> Tensor:
        fz = super().__call__(z)
        change = (fz - z).detach().norm() / fz.detach().norm()
        self.calls.append({"evaluation": len(self.calls) + 1, "with_gradient": fz.requires_grad, "residual": change.item()})
        self.results.append(fz)
        return fz


def passes(model: DECSC, clean: Tensor, noisy: Tensor) -> pd.DataFrame:
    """One training step's evaluations of f, in their order.

    Parameters
    ----------
    model : DECSC
        With an equilibrium and a phantom gradient. Its gradients are left as they were.
    clean, noisy : Tensor, shape (1, B, H, W)

    Returns
    -------
    DataFrame
        `evaluation`, from 1; `with_gradient`, whether the backward pass goes through it; `residual`, the relative change
        that it makes; `gradient`, the norm of the loss's (Eq. 25) gradient with respect to its result, missing where none goes.
    """
    with torch.enable_grad():
        layer = _Recorded(model, noisy)
        z, _ = model.equilibrium(layer)
        loss = (model.with_misfit(layer.image(z), noisy) - clean).square().mean()
        reached = [result for result in layer.results if result.requires_grad]
        slopes = iter(torch.autograd.grad(loss, reached))
    return pd.DataFrame(
        call | {"gradient": next(slopes).norm().item() if call["with_gradient"] else np.nan} for call in layer.calls
    )


def draw_passes(calls: pd.DataFrame, solver: str) -> Figure:
    """Fig. 1: the chain of evaluations, the backward pass through its last ones, and below it the residual of each.

    Parameters
    ----------
    calls : DataFrame
        From `passes`.
    solver : str
        The name of the solver, in print.
    """
    figure, (chain, curve) = plt.subplots(2, 1, figsize=(TEXT_WIDTH, 3.4), sharex=True, height_ratios=(1.3, 1))
    at, last = calls["evaluation"], calls["evaluation"].max()
    first = calls.loc[calls["with_gradient"], "evaluation"].min()
    for number, with_gradient in zip(at, calls["with_gradient"]):
        chain.plot(number, 0, "o", markersize=12, color=COLOURS[1] if with_gradient else "0.75")
        chain.text(number, 0, "$f$", ha="center", va="center", fontsize=8)
    places = {"$\\mathbf{Y}$": -0.9, "$\\alpha^{(0)}$": 0.05, "$\\widehat{\\mathbf{X}}$": last + 1.1, "$\\mathcal{L}$": last + 2.0}
    for text, place in places.items():
        chain.text(place, 0, text, ha="center", va="center", bbox={"boxstyle": "round", "fc": "white", "ec": "0.4"})
    stops = [*sorted([*places.values()][:2]), *at, *sorted([*places.values()][2:])]
    for start, end in zip(stops, stops[1:]):
        _arrow(chain, (start, 0), (end, 0), "0.3", shrink=9)
    for number in range(first, last + 1):
        _arrow(chain, (number + 1, -0.18), (number, -0.18), COLOURS[1], curve=-0.5, shrink=4)
    _arrow(chain, (last + 2.0, -0.18), (last + 1.1, -0.18), COLOURS[1], curve=-0.5, shrink=4)
    chain.axvline(first - 0.5, color=COLOURS[1], linestyle=":")
    chain.text((first + 0.4) / 2, 0.55, f"forward: {solver}, no gradient kept", ha="center")
    chain.text((first + last) / 2, 0.55, f"{last - first + 1} evaluations\nwith gradient", ha="center", color=COLOURS[1])
    chain.text(last + 2.3, -0.7, "backward: phantom gradient", ha="right", color=COLOURS[1])
    chain.set(ylim=(-1.0, 1.0), xlim=(-1.5, last + 2.6))
    chain.axis("off")
    for with_gradient, mine in calls.groupby("with_gradient"):
        curve.semilogy(mine["evaluation"], mine["residual"], "o", markersize=3, color=COLOURS[1] if with_gradient else "0.5", linestyle="none")
    curve.set(xlabel="Evaluation of $f$", ylabel="Relative residual")
    curve.set_xticks([*range(1, last + 1, 2)])
    return figure


# Fig. 2: the layer f


@dataclass
class _Trace(TorchFunctionMode):
    """Which named results every tensor was computed from; only what happens between two named operations counts."""

    nodes: list[dict] = field(default_factory=list)
    edges: list[dict] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._origin: dict[int, tuple[Tensor, frozenset[int]]] = {}

    def origin(self, values: Any) -> frozenset[int]:
        found = (self._origin.get(id(leaf)) for leaf in tree_leaves(values) if isinstance(leaf, Tensor))
        return frozenset().union(*(nodes for _, nodes in filter(None, found)))

    def mark(self, tensor: Tensor, nodes: frozenset[int]) -> None:
        self._origin[id(tensor)] = (tensor, nodes)  # holding the tensor keeps its id from being used again

    def __torch_function__(self, func: Callable, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if nodes := self.origin((args, kwargs)):
            for leaf in tree_leaves(result):
                if isinstance(leaf, Tensor):
                    self.mark(leaf, nodes | self.origin(leaf))
        return result

    def node(self, result: Tensor, name: str, lane: str, inputs: frozenset[int]) -> None:
        number = len(self.nodes)
        self.nodes.append({"node": number, "name": name, "lane": lane, "shape": tuple(result.shape[1:])})
        self.edges += [{"source": source, "target": number} for source in sorted(inputs)]
        self.mark(result, frozenset({number}))

    @contextmanager
    def naming(self, owner: Any, attribute: str, name: str | Callable[..., str], lane: str | Callable[..., str]) -> Iterator[None]:
        """Make each call of `owner.attribute` a node."""
        original = getattr(owner, attribute)

        def call(*args, **kwargs):
            inputs = self.origin((args, kwargs))
            result = original(*args, **kwargs)
            words = [value(*args, **kwargs) if callable(value) else value for value in (name, lane)]
            self.node(result, *words, inputs)
            return result

        with patch.object(owner, attribute, call):
            yield


def dataflow(model: DECSC, noisy: Tensor) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What one evaluation of f, Eq. (20), computes from what, followed while it is evaluated.

    Parameters
    ----------
    model : DECSC
    noisy : Tensor, shape (1, B, H, W)

    Returns
    -------
    nodes : DataFrame
        `node`, a number in the order of computation; `name` in print; `lane`, what it is: ``"S"`` or ``"H"``, the
        ``"image"``, or the ``"image of S"`` or ``"image of H"``; `shape` of the result, without the axis of the batch.
    edges : DataFrame
        `source`, `target` and their names: the target is computed from the source, with nothing but sums, products with
        weights of bands and rearrangement between them.
    """
    with torch.no_grad():
        layer = Layer(model, noisy)
        S, H = (part.clone() for part in layer.unpack(layer.initial()))
        trace = _Trace()
        trace.node(noisy, r"$\mathbf{Y}$", "image", frozenset())
        trace.node(S, r"$\mathbf{S}^{(t)}$", "S", frozenset())
        trace.node(H, r"$\mathbf{H}^{(t)}$", "H", frozenset())

        def product(symbol: str, operator: str) -> Callable[..., str]:
            return lambda codes, size, role="synthesis": rf"$\mathbf{{{symbol}}}{'_X' if role != 'synthesis' else ''} {operator}$"

        def lane(codes, threshold) -> str:
            return "S" if codes.ndim == 4 else "H"

        prior = {"swin": "Swin", "vmamba": "VMamba"}[model.config.prior]
        named = [
            (model.shared, "synthesise", product("K", r"\otimes"), "image of S"),
            (model.unshared, "synthesise", product("D", r"\star"), "image of H"),
            (model.shared, "analyse", r"$\mathbf{W}_K \otimes$", "S"),
            (model.unshared, "analyse", r"$\mathbf{W}_D \star$", "H"),
            (decsc, "soft_threshold", "Soft", lane),
            (model.prior_shared, "forward", f"Net$_1$\n{model.config.depth} × {prior}", "S"),
            (model.prior_unshared, "forward", "\n".join(["Net$_2$", *model.config.detail_parts]), "H"),
        ]
        with ExitStack() as stack:
            for words in named:
                stack.enter_context(trace.naming(*words))
            stack.enter_context(patch.object(layer, "unpack", lambda z: (S, H)))
            stack.enter_context(patch.object(layer, "pack", lambda S, H: (S, H)))
            stack.enter_context(trace)
            S_next, H_next = layer(layer.noisy)
        trace.node(S_next.clone(), r"$\mathbf{S}^{(t+1)}$", "S", trace.origin(S_next))
        trace.node(H_next.clone(), r"$\mathbf{H}^{(t+1)}$", "H", trace.origin(H_next))
    nodes, edges = pd.DataFrame(trace.nodes), pd.DataFrame(trace.edges)
    return nodes, edges.assign(**{f"{end}_name": edges[end].map(nodes["name"]) for end in ("source", "target")})


def draw_dataflow(nodes: pd.DataFrame, edges: pd.DataFrame) -> Figure:
    """Fig. 2: the layer f as it was followed by `dataflow`; a box is an operation and the shape of its result."""
    figure, axis = plt.subplots(figsize=(TEXT_WIDTH, 3.4))
    follow = edges.groupby("source")["target"].apply(list)
    column = dict.fromkeys(nodes["node"], 0)
    for source, target in edges[["source", "target"]].itertuples(index=False):  # in the order of computation
        column[target] = max(column[target], column[source] + 1)
    last = max(column.values())
    for node in reversed(nodes["node"]):  # but for the inputs, as late as what follows allows
        if node not in follow:
            column[node] = last
        elif column[node]:
            column[node] = min(column[target] for target in follow[node]) - 1
    row = {"S": 1.5, "image of S": 0.25, "image": -0.05, "image of H": -0.9, "H": -1.5}
    colour = {"S": COLOURS[0], "image": "0.35", "H": COLOURS[1]}
    place = {node: (column[node], row[lane]) for node, lane in zip(nodes["node"], nodes["lane"])}
    between = {(x, y) for x, y in place.values()}
    outline = {
        node: _box(axis, place[node], name, "×".join(map(str, shape)), colour[lane.split()[0]])
        for node, name, lane, shape in nodes.itertuples(index=False)
    }
    for source, target in edges[["source", "target"]].itertuples(index=False):
        (x, y), (u, v) = place[source], place[target]
        blocked = y == v and any((at, y) in between for at in range(x + 1, u))
        curve = -0.6 * np.sign(y) / np.sqrt(u - x) if blocked else 0.0
        _arrow(axis, (x, y), (u, v), "0.45", curve=curve, shrink=1, outlines=(outline[source], outline[target]))
    axis.set(xlim=(-0.6, last + 0.6), ylim=(-2.3, 2.1))
    axis.axis("off")
    return figure


# Fig. 3: the difference convolution


def branches(difference: DifferenceConv3d) -> pd.DataFrame:
    """One filter of the difference convolution, branch by branch and added up: that whose sum has the largest norm.

    Returns
    -------
    DataFrame
        `branch`, or ``"sum"``; `taps`, how many numbers of it are learned; `band`, `row`, `column` of a tap, from 0;
        `value`.
    """
    with torch.no_grad():
        fused = difference.fuse().weight
        strongest = np.unravel_index(int(fused.flatten(2).norm(dim=2).argmax()), fused.shape[:2])
        order = ("plain", "central", "horizontal", "vertical", "spectral")
        kernels = {name: (difference.branch(name)[strongest], difference.weights[name][strongest].numel()) for name in order}
        kernels["sum"] = fused[strongest], 27
    return pd.DataFrame([
        {"branch": name, "taps": taps, "band": band, "row": row, "column": column, "value": kernel[band, row, column].item()}
        for name, (kernel, taps) in kernels.items() for band, row, column in np.ndindex(3, 3, 3)
    ])


def draw_branches(taps: pd.DataFrame) -> Figure:
    """Fig. 3: the kernels of `branches`, a column each, a row a band."""
    names = list(dict.fromkeys(taps["branch"]))
    figure, panels = plt.subplots(3, len(names), figsize=(TEXT_WIDTH, 3.4), layout="compressed")
    limit = taps["value"].abs().quantile(0.98)
    for (name, mine), column in zip(taps.groupby("branch", sort=False), panels.T):
        values = mine["value"].to_numpy().reshape(3, 3, 3)
        for band, panel in enumerate(column):
            shown = panel.imshow(values[band], cmap="RdBu_r", vmin=-limit, vmax=limit)
            panel.set(xticks=[], yticks=[])
            panel.grid(False)
        column[0].set_title(f"{name}\n{mine['taps'].iloc[0]} learned" if name != "sum" else "sum:\none kernel", fontsize=8)
    for band, panel in enumerate(panels[:, 0]):
        panel.set_ylabel(f"band {('− 1', '', '+ 1')[band]}".strip())
    figure.colorbar(shown, ax=panels, shrink=0.8, extend="both", label="Value of a tap")
    return figure


def _box(axis: Axes, place: tuple, name: str, shape: str, colour: str) -> Patch:
    """A box with a name and, smaller below it, a shape; returns its outline."""
    words = [TextArea(text, textprops={"ha": "center", **look}) for text, look in ((name, {"fontsize": 6.5}), (shape, {"fontsize": 5.5, "color": "0.4"}))]
    box = AnnotationBbox(VPacker(children=words, align="center", sep=2), place, pad=0.3, fontsize=6.5, bboxprops={"boxstyle": "round", "ec": colour})
    axis.add_artist(box)
    return box.patch


def _arrow(
    axis: Axes, start: tuple, end: tuple, colour: str, curve: float = 0.0, shrink: float = 10,
    outlines: tuple[Patch | None, Patch | None] = (None, None),
) -> None:
    """An arrow between two places in data coordinates, `shrink` points short of both or of the outlines around them."""
    axis.add_patch(FancyArrowPatch(
        start, end, arrowstyle="-|>", mutation_scale=7, color=colour, linewidth=0.8, shrinkA=shrink, shrinkB=shrink,
        patchA=outlines[0], patchB=outlines[1], connectionstyle=ConnectionStyle("Arc3", rad=curve),
        zorder=3.5 if any(outlines) else 0.5,  # after the boxes, which put their outlines in place
    ))
