"""What a method costs: parameters, multiply-accumulates, seconds, memory; each in a process of its own (Table IV)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from decsc_core.denoisers.base import Denoiser
from decsc_core.denoisers.registry import METHODS, make
from decsc_core.model import DECSCConfig
from decsc_core.model.decsc import Layer
from decsc_core.model.shifts import split_shifts, spread_shifts
from decsc_core.networks.catalog import LEARNED, PRIORS, build, configure
from decsc_core.networks.mtsnnpp import MTSNNPPConfig
from decsc_core.study import paper
from decsc_core.study.measure import fastest, peak_memory, worker
from decsc_core.study.paper import label
from decsc_core.weights import CAMERA_BANDS, Weights, WeightsError, shipped

PAPER_EVALUATIONS = {"decsc": 21, "decsc-mamba": 25}
"""Evaluations of f to which the FLOPs column of Table IV amounts, when its own way of counting is applied."""
COLUMNS = (
    "method", "network", "parameters", "gmacs", "copies", "iterations", "seconds", "cpu_seconds", "memory_mb"
)
"""A row's columns.

`network`: `PUBLISHED`, or the file of its weights; empty if nothing is learned. `gmacs`: 10^9 multiply-accumulates of
the whole estimate, all tiles, windows of bands, copies, passes and evaluations of f in it. `copies`: shifted copies that were timed, and those that
the method averages, as "1 of 49". `iterations`: evaluations of f that the slowest copy used in a pass. `seconds`,
`cpu_seconds`: wall and CPU time of the whole estimate, as many times those of the copies timed. `memory_mb`: what denoising adds to
the peak of a process that has everything loaded (on a GPU: to the tensors there).
"""
PUBLISHED = "published size, untrained"
"""What a network without weights is called. It costs as much as a trained one, but for the evaluations of f."""


def gmacs(config, side: int, *, bands: int = CAMERA_BANDS, evaluations: int = 1) -> float:
    """Multiply-accumulates of one image of side x side pixels [10^9], counted by torch on tensors without values.

    Convolutions (transposed ones at their input), linear layers and attention products count; norms, activations,
    element-wise products and the solver's own arithmetic do not. Of MTSNN++'s estimates, up to three of an image with gross
    errors, one counts.

    Parameters
    ----------
    config : DECSCConfig or a peer's configuration
    side : int
        Pixels.
    bands : int
        Of the image, for networks that take any number; the others take their own.
    evaluations : int
        Of f, in each of the shifted copies that DECSC averages; DECSC only.
    """
    if isinstance(config, MTSNNPPConfig):
        config = replace(config, gross_errors=0)
    model = build(config, torch.Generator().manual_seed(0)).to("meta").eval()
    image = torch.empty(1, model.bands or bands, side, side, device="meta")
    if not isinstance(config, DECSCConfig):
        return _count(lambda: model(image))
    shifts = spread_shifts(config.stride, config.shifts)
    layer = Layer(model, split_shifts(image, config.kernel, config.stride, shifts))
    with torch.no_grad():
        z = layer.initial()
    ends = _count(layer.initial) + _count(lambda: layer.image(z)) + _count(lambda: model.with_misfit(image, image))
    return ends + evaluations * _count(lambda: layer(z))


def _count(work: Callable[[], object]) -> float:
    """Multiply-accumulates of a call [10^9]."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        work()
    return counter.get_total_flops() / 2e9


def subjects(methods: Iterable[str], weights: Mapping[str, str]) -> list[tuple[str, str]]:
    """What to measure: (method, file of weights), "" for none.

    A learned method is there as its published network, and again with the file that `weights` names, or the weights
    that come with the package, if there are any.
    """
    found = []
    for method in methods:
        found.append((method, ""))
        if method in LEARNED:
            try:
                found.append((method, str(weights.get(method) or shipped(method))))
            except WeightsError:
                pass
    return found


def measure(method: str, weights: str, noisy: np.ndarray, *, shifts: int | None = None, repeats: int = 1) -> dict:
    """What denoising one cube costs in this process, on one thread: `COLUMNS`.

    Parameters
    ----------
    method, weights : str
        As `subjects` gives them.
    noisy : ndarray, shape (H, H, B)
    shifts : int, optional
        Shifted copies of DECSC's untrained network to time, instead of all; its `gmacs`, `seconds` and `cpu_seconds` are
        those of all.
    repeats : int
        Timed calls after one on a corner of the cube; the one with the least CPU time counts.

    Raises
    ------
    ValueError
        If the image is not square, `shifts` is out of range, or the network is unrolled, whose evaluations nobody counts.
    """
    side, width, _ = noisy.shape
    if side != width:
        raise ValueError(f"the image is {side} x {width} pixels; costs are measured on a square one")
    torch.set_num_threads(1)
    denoiser, network = _denoiser(method, weights, shifts)
    if method in PRIORS and denoiser.weights.model.config.gradient == "unrolled":
        raise ValueError(f"{network}: the network is unrolled; costs are counted for those that solve for a fixed point")
    denoiser(noisy[:16, :16])
    on_gpu = torch.cuda.is_initialized()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() / 1e6 if on_gpu else peak_memory()
    cpu, wall, estimate = fastest(lambda: denoiser(noisy), repeats)
    memory = (torch.cuda.max_memory_allocated() / 1e6 if on_gpu else peak_memory()) - before
    row = {"method": method, "network": network, "seconds": wall, "cpu_seconds": cpu, "memory_mb": memory}
    if method not in LEARNED:
        return row
    config, parts = denoiser.weights.model.config, denoiser.tiles(noisy.shape)
    passes = [1] * len(parts)
    if method in PRIORS:
        final, timed = config.final_evaluations, len(denoiser.shifts)
        passes = [record.iterations + final for record in estimate.record]
        row |= {"copies": f"{timed} of {config.shifts}", "iterations": max(passes)}
        row |= {name: row[name] * config.shifts / timed for name in ("seconds", "cpu_seconds")}
    rows, _, bands = parts[0][0]
    side, bands = rows.stop - rows.start, bands.stop - bands.start
    total = sum(times * gmacs(config, side, bands=bands, evaluations=count) for count, times in Counter(passes).items())
    return row | {"parameters": denoiser.params, "gmacs": total}


def costs(chosen: Iterable[tuple[str, str]], noisy: np.ndarray, **options) -> pd.DataFrame:
    """`measure` for each of `subjects`, one after the other, each in a fresh process: a row each, `COLUMNS`."""
    rows = []
    for method, weights in chosen:
        with worker(1) as process:
            rows.append(process.submit(measure, method, weights, noisy, **options).result())
        print(f"{method} {rows[-1]['network']}: {rows[-1]['cpu_seconds']:.1f} CPU s", flush=True)
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"parameters": "Int64", "iterations": "Int64"})


def with_scores(costs: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The table of `costs` and, as `psnr` [dB], the mean over the scenes of rows of one noise case.

    The score of a learned method belongs to the network with weights; an untrained one has none, nor has a method that
    is not among the rows.
    """
    means = rows.groupby("method")["psnr"].mean()
    scored = costs["network"] != PUBLISHED
    psnr = costs["method"].map(means).where(scored)
    return costs.assign(method=costs["method"].map(label), psnr=psnr)


def gmacs_by_size(methods: Iterable[str], sides: Iterable[int]) -> pd.DataFrame:
    """`gmacs` of the published networks, a row a method and a column a side, and the paper's count.

    DECSC is counted with `PAPER_EVALUATIONS`.
    """
    printed = paper.table(4).set_index("method")["flops_g"]
    rows = []
    for method in methods:
        own = {"evaluations": PAPER_EVALUATIONS[method]} if method in PAPER_EVALUATIONS else {}
        counts = {f"{side} x {side}": gmacs(configure(method), side, **own) for side in sides}
        rows.append({"method": label(method), **counts, "paper, FLOPs [G]": printed.get(method)})
    return pd.DataFrame(rows)


def _denoiser(method: str, weights: str, shifts: int | None) -> tuple[Denoiser, str]:
    """The method, and what its network is called; a learned one without weights gets those of its initialisation."""
    if method not in LEARNED:
        return make(method), ""
    if weights:
        return make(method, weights=weights), Path(weights).name
    from decsc_core.denoisers.equilibrium import Equilibrium
    from decsc_core.denoisers.learned import Learned

    model = build(configure(method), torch.Generator().manual_seed(0)).eval()
    untrained = Weights(method, model, {}, "", Path(PUBLISHED))
    denoiser = Learned(untrained) if METHODS[method].kind == "learned" else Equilibrium(untrained, shifts=shifts)
    return denoiser, PUBLISHED
