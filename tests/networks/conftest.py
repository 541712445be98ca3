from __future__ import annotations

import copy
import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from decsc_core.networks.catalog import module_of
from decsc_core.weights import from_official_state


class Golden:
    """What a released network makes of given inputs; golden/learned/README.md describes the files."""

    def __init__(self, path: Path, method: str) -> None:
        with np.load(path) as file:
            self.arrays = dict(file)
        self.method = method
        self.config = json.loads(str(self.arrays["config"]))
        self.state = {key[6:]: self[key] for key in self.arrays if key.startswith("state/")}

    def __getitem__(self, key: str) -> Tensor:
        return torch.from_numpy(self.arrays[key])

    def network(self, dtype: torch.dtype = torch.float32) -> nn.Module:
        return from_official_state(self.method, self.state).to(dtype)

    def check(self, found: Tensor, key: str) -> None:
        """Equal up to ten times the recorded rounding of the official float32."""
        expected = self[key]
        assert found.shape == expected.shape, (key, found.shape, expected.shape)
        tolerance = 10 * self.config["rounding"][key]["max_abs"] + 1e-7
        gap = (found.double() - expected.double()).abs().max().item()
        assert gap <= tolerance, f"{key}: off by {gap:.1e}, allowed {tolerance:.1e}"

    @torch.no_grad()
    def check_outputs(self, *cases: str) -> None:
        """Every case in float32, and the recorded corner of the first one in float64."""
        network = self.network()
        for case in cases:
            self.check(network(self[f"{case}input"]), f"{case}output")
        corner = network.double()(self["input"].double())[..., :16, :16]
        torch.testing.assert_close(corner, self["output_f64_crop"], rtol=0, atol=1e-10)


@lru_cache
def read_golden(folder: Path, name: str, method: str) -> Golden:
    path = folder / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"no file {path}")
    return Golden(path, method)


@pytest.fixture
def golden(shared):
    """`golden(name, method)`: the file of that name, read once."""
    return lambda name, method: read_golden(shared / "golden" / "learned", name, method)


@pytest.fixture
def check_full_size(shared):
    """`check_full_size(name, method)`: every tensor of the released network has its place, and nothing is missing.

    Returns our network of full size, each official tensor being filled with a number of its own.
    """
    path = shared / "golden" / "learned" / "official_state_dicts.json"
    if not path.is_file():
        pytest.skip(f"no file {path}")

    def check(name: str, method: str) -> nn.Module:
        listed = json.loads(path.read_text())[name]
        state = {
            key: torch.full(shape, float(number), dtype=getattr(torch, dtype))
            for number, (key, (dtype, *shape)) in enumerate(listed["keys"].items(), start=1)
        }
        network = from_official_state(method, state)  # refuses what is missing, left over or of another shape
        assert sum(parameter.numel() for parameter in network.parameters()) == listed["n_parameters"]
        found = {value for tensor in network.state_dict().values() for value in tensor.unique().tolist()}
        own_key = module_of(method).own_key
        assert found == {float(number) for number, key in enumerate(state, start=1) if own_key(key)}
        return network

    return check


class Contract:
    """What every learned network promises."""

    @staticmethod
    def tally(*modules: nn.Module) -> int:
        return sum(parameter.numel() for module in modules for parameter in module.parameters())

    @staticmethod
    def gmacs(network: nn.Module, bands: int = 31, side: int = 64) -> float:
        """Multiply-accumulates of an image, in 1e9. With gradients on, for the counter misses the fused attention."""
        with FlopCounterMode(display=False) as counter:
            network.eval()(torch.zeros(1, bands, side, side))
        return counter.get_total_flops() / 2e9

    @staticmethod
    @torch.no_grad()
    def check_evaluation(network: nn.Module, bands: int, sizes=((1, 1), (5, 7), (33, 50))) -> None:
        """Images of any size; the same result every time, whatever shares the batch; the weights stay."""
        network = network.double().eval()
        before = copy.deepcopy(network.state_dict())
        for size in sizes:
            noisy = torch.rand(2, bands, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
            kept = noisy.clone()
            out = network(noisy)
            assert out.shape == noisy.shape and out.isfinite().all()
            assert torch.equal(network(noisy), out) and torch.equal(noisy, kept)
            torch.testing.assert_close(network(noisy[1:]), out[1:], rtol=0, atol=1e-12)
        assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())

    @staticmethod
    def check_gradients(network: nn.Module, bands: int, side: int = 16) -> None:
        """A loss moves every parameter."""
        noisy = torch.rand(2, bands, side, side, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        (network.double()(noisy) - noisy.flip(-1)).square().mean().backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name

    @staticmethod
    def check_start(make) -> None:
        """`make(generator)` draws all that is random from the generator."""
        first, again, other = (make(torch.Generator().manual_seed(seed)).state_dict() for seed in (0, 0, 1))
        assert all(torch.equal(first[name], again[name]) for name in first)
        assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.fixture
def contract() -> type[Contract]:
    return Contract
