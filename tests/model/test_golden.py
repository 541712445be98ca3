"""The network against numbers of the authors' released code, step by step and as a whole.

The files and the tolerances are described in golden/learned/README.md of the shared folder: in float32 ten times the
rounding that the file records for each array, in float64 1e-10.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from decsc_core import deq
from decsc_core.model import DECSC, SolverConfig
from decsc_core.model.decsc import Layer
from decsc_core.model.dictionary import soft_threshold
from decsc_core.model.shifts import all_shifts, base_padding, crop_shifts, split_shifts
from decsc_core.model.vmamba import selective_scan
from decsc_core.weights import from_official_state

class Golden:
    """One file: arrays by key, tolerances, and the network it describes."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as file:
            self.arrays = dict(file)
        self.config = json.loads(str(self.arrays["config"]))
        self.state = {key[6:]: self[key] for key in self.arrays if key.startswith("state/")}

    def __getitem__(self, key: str) -> Tensor:
        return torch.from_numpy(self.arrays[key])

    def network(self, dtype: torch.dtype = torch.float32, **changes) -> DECSC:
        method = {"swin": "decsc", "vmamba": "decsc-mamba"}[self.config["constructor"]["variant"]]
        return from_official_state(method, self.state, **changes).to(dtype)

    def check(self, found: Tensor, key: str) -> None:
        """Equal up to ten times the recorded rounding of the official float32."""
        expected = self[key]
        assert found.shape == expected.shape, (key, found.shape, expected.shape)
        tolerance = 10 * self.config["rounding"][key]["max_abs"] + 1e-7
        gap = (found.double() - expected.double()).abs().max().item()
        assert gap <= tolerance, f"{key}: off by {gap:.1e}, allowed {tolerance:.1e}"


@lru_cache
def read(shared: Path, variant: str) -> Golden:
    """The file of one variant, or a skip."""
    path = shared / "golden" / "learned" / f"decsc_{variant}.npz"
    if not path.is_file():
        pytest.skip(f"no file {path}")
    return Golden(path)


@pytest.fixture(params=["swin", "vmamba"])
def golden(request, shared) -> Golden:
    return read(shared, request.param)


@torch.no_grad()
def copies_layer(golden: Golden, dtype: torch.dtype = torch.float32) -> Layer:
    """f on the copies of codes/index."""
    return Layer(golden.network(dtype), split_shifts(golden["input"].to(dtype), 9, 7, all_shifts(7)))


@dataclass
class Run:
    """Everything between input and output of one equilibrium."""

    layer: Layer
    solution: deq.Solution
    z: Tensor
    parts: tuple[Tensor, Tensor]


@lru_cache
@torch.no_grad()
def run(golden: Golden, dtype: torch.dtype, shifted: bool) -> Run:
    """All 49 shifts, or the unpadded image (ds1/)."""
    layer = copies_layer(golden, dtype) if shifted else Layer(golden.network(dtype), golden["input"].to(dtype))
    z, solution = layer.model.equilibrium(layer)
    return Run(layer, solution, z, layer.reconstruct(z))


def check_equilibrium(golden: Golden, made: Run, prefix: str) -> None:
    """Trace, number of evaluations, best iterate, and codes before and after the damped evaluations."""
    solution, index = made.solution, golden[f"{prefix}/index"]
    trace = golden[f"{prefix}/rel_trace"]
    evaluations = int(golden[f"{prefix}/n_evals"])
    assert len(solution.residuals) == evaluations and (solution.iterations == evaluations).all()
    residuals = solution.residuals[2:, 0].double()
    torch.testing.assert_close(residuals, trace[: len(residuals)], rtol=1e-3, atol=0)
    assert int(residuals.argmin()) + 2 == int(golden[f"{prefix}/nstep"])
    assert residuals.min().item() == pytest.approx(float(golden[f"{prefix}/lowest"]), rel=1e-3)
    assert bool(solution.converged.all()) == (trace.min().item() <= 1e-3)
    for z, suffix in ((solution.z, "_solver"), (made.z, "")):
        for codes, letter in zip(made.layer.unpack(z[index]), "SH"):
            golden.check(codes, f"{prefix}/{letter}{suffix}")


def test_the_state_dict_builds_the_network_it_came_from(golden):
    constructor, model = golden.config["constructor"], golden.network()
    assert sum(parameter.numel() for parameter in model.parameters()) == golden.config["n_parameters"]
    config = model.config
    assert (config.shared_atoms, config.unshared_atoms, config.kernel, config.depth, config.prior, config.bands) == (
        constructor["M"], constructor["J"], constructor["kernel"], constructor["depth"], constructor["variant"], 31)
    if config.prior == "swin":
        assert (config.heads, config.window) == (constructor["heads"], constructor["window"])
        for number, block in enumerate(model.prior_shared.blocks):  # a bias of the keys shows nowhere else
            official = golden.state[f"soft_threshold_share.blocks.{number}.attn.qkv.bias"]
            assert torch.equal(block.attn.qkv.bias, official)


def test_shifted_copies(golden):
    copies = split_shifts(golden["input"], 9, 7, all_shifts(7))
    assert list(copies.shape) == golden["shift/shape"].tolist()
    assert [*base_padding(32, 9, 7), *base_padding(32, 9, 7)] == golden["shift/pads_lrtb"].tolist()
    assert torch.equal(copies[:, 0], golden["shift/band0"])
    golden.check(copies.mean((2, 3)), "shift/mean")


@torch.no_grad()
def test_initial_codes_one_evaluation_and_reconstruction(golden):
    layer, index = copies_layer(golden), golden["codes/index"]
    z = layer.initial()
    S, H = layer.unpack(z)
    golden.check(S[index], "init/S0")
    golden.check(H[index], "init/H0")
    z = layer(z)
    S, H = layer.unpack(z)
    golden.check(S[index], "step/S1")
    golden.check(H[index], "step/H1")
    shared, unshared = (crop_shifts(part, (32, 32), 7, all_shifts(7)).mean(0) for part in layer.reconstruct(z))
    golden.check(shared, "recon/gic")
    golden.check(unshared, "recon/lsu")
    golden.check(shared + unshared, "recon/image")


@torch.no_grad()
def test_the_shared_prior_block_by_block(golden):
    prior, after = golden.network().prior_shared, []
    for block in prior.blocks:
        block.register_forward_hook(lambda module, inputs, output: after.append(output))
    golden.check(prior(golden["prior_s/in"]), "prior_s/out")
    if golden.config["constructor"]["variant"] == "swin":
        golden.check(torch.stack(after).flatten(2, 3), "prior_s/tokens_after_block")
    else:
        golden.check(torch.stack(after), "prior_s/grid_after_block")


@torch.no_grad()
def test_the_unshared_prior_and_its_difference_convolution(golden):
    prior = golden.network().prior_unshared
    fused = prior.difference.fuse()
    golden.check(fused.weight, "dconv/weight")
    golden.check(fused.bias, "dconv/bias")
    golden.check(F.conv3d(golden["prior_h/in"], fused.weight, fused.bias, padding=1), "prior_h/after_dconv")
    golden.check(prior(golden["prior_h/in"], fused), "prior_h/out")


def test_soft_threshold_with_thresholds_of_either_sign(golden):
    threshold = golden["soft/t"]
    assert (threshold < 0).any() and (threshold > 0).any()
    golden.check(soft_threshold(golden["soft/x"], threshold), "soft/y")


@torch.no_grad()
def test_selective_scan_and_2d_scan(shared):
    golden = read(shared, "vmamba")
    arguments = (golden[f"scan/{name}"] for name in ("u", "delta", "A", "B", "C", "D", "delta_bias"))
    golden.check(selective_scan(*arguments), "scan/y")
    golden.check(golden.network().prior_shared.blocks[0].op(golden["ss2d/in"]), "ss2d/out")


@torch.no_grad()
def test_one_unpadded_image_float32(golden):
    made = run(golden, torch.float32, shifted=False)
    z0 = made.layer.initial()
    for codes, letter in zip(made.layer.unpack(z0), "SH"):
        golden.check(codes, f"ds1/{letter}0")
    for codes, letter in zip(made.layer.unpack(made.layer(z0)), "SH"):
        golden.check(codes, f"ds1/{letter}1")
    check_equilibrium(golden, made, "ds1")
    output = sum(made.parts)
    golden.check(output, "ds1/output")
    assert (output[..., -2:, :] == 0).all() and (output[..., -2:] == 0).all()


def test_one_unpadded_image_float64(golden):
    output = sum(run(golden, torch.float64, shifted=False).parts)
    torch.testing.assert_close(output[..., :16, :16], golden["ds1/output_f64_crop"], rtol=0, atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nine_unrolled_iterations(golden, dtype):
    model = golden.network(dtype, gradient="unrolled", solver=SolverConfig(max_iter=9))
    layer = Layer(model, golden["input"].to(dtype))
    z, solution = model.equilibrium(layer)
    assert solution is None
    golden.check(sum(layer.reconstruct(z)), "ds1/output_unfold9")


@pytest.mark.slow
def test_the_whole_network_float32(golden):
    made = run(golden, torch.float32, shifted=True)
    check_equilibrium(golden, made, "deq")
    golden.check(crop_shifts(sum(made.parts), (32, 32), 7, all_shifts(7)).mean(0), "output")


@pytest.mark.slow
@torch.no_grad()
def test_the_whole_network_float64(golden):
    output = golden.network(torch.float64)(golden["input"].double())
    torch.testing.assert_close(output.image[..., :16, :16], golden["output_f64_crop"], rtol=0, atol=1e-10)
