"""networks.initialise."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from decsc_core.networks.catalog import LEARNED, build, configure
from decsc_core.networks.initialise import reset_like_torch, reset_qrnn3d_family
from decsc_core.model.windows import WindowAttention


def scrambled(*modules: nn.Module) -> nn.Sequential:
    """Modules whose every parameter is far from any start."""
    network = nn.Sequential(*modules)
    for parameter in network.parameters():
        nn.init.constant_(parameter, 7.0)
    return network


def test_the_start_of_the_qrnn3d_family():
    network = scrambled(
        nn.Conv2d(20, 40, 3), nn.Conv3d(6, 12, 3, bias=False), nn.Linear(100, 80), nn.LayerNorm(4),
        WindowAttention(8, 4, 8), nn.ConvTranspose2d(30, 10, 4),
    )
    reset_qrnn3d_family(network, torch.Generator().manual_seed(0))
    plane, volume, linear, norm, attention, transposed = network
    assert plane.weight.std().item() == pytest.approx(math.sqrt(2 / (40 * 9)), rel=0.05)
    assert volume.weight.std().item() == pytest.approx(math.sqrt(2 / (12 * 27)), rel=0.05)
    assert linear.weight.std().item() == pytest.approx(1e-3, rel=0.05)
    assert attention.relative_position_bias_table.std().item() == pytest.approx(0.02, rel=0.1)
    for module in (plane, linear, norm, attention.qkv, attention.proj):
        assert not module.bias.any()
    assert (norm.weight == 1).all()
    bound = 1 / math.sqrt(10 * 16)  # PyTorch counts the outputs of a transposed convolution as its inputs
    for parameter in transposed.parameters():
        assert 0.8 * bound < parameter.abs().max() <= bound


@pytest.mark.parametrize(
    "module", [nn.Conv2d(3, 4, 5), nn.Conv2d(8, 8, 3, groups=8), nn.Linear(9, 40), nn.ConvTranspose2d(6, 4, 3)]
)
def test_pytorchs_own_start(module):
    fresh = max(parameter.abs().max().item() for parameter in module.parameters())
    scrambled(module)
    reset_like_torch(module, torch.Generator().manual_seed(0))
    found = max(parameter.abs().max().item() for parameter in module.parameters())
    assert found == pytest.approx(fresh, rel=0.2) and len(module.weight.unique()) == module.weight.numel()


@pytest.mark.parametrize("method", LEARNED)
def test_a_network_draws_from_its_generator_alone(method):
    before = torch.get_rng_state()
    build(configure(method, "tiny"), torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), before)
