"""The start of the small networks that add their input at their end."""

from __future__ import annotations

import pytest
import torch

from decsc_core.networks.catalog import build, configure


@pytest.mark.parametrize("method", ["sst", "sert", "trq3d", "qrnn3d"])
@pytest.mark.parametrize("size", ["small", "tiny"])
def test_small_networks_begin_as_the_identity_and_move_every_parameter(method, size):
    generator = torch.Generator().manual_seed(0)
    network = build(configure(method, size), generator).train()
    noisy = torch.rand((2, 31, 16, 16), generator=generator)
    torch.testing.assert_close(network(noisy), noisy)
    first = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        (network(noisy) - noisy + 1).square().mean().backward()
        optimizer.step()
    assert not [name for name, parameter in network.named_parameters() if torch.equal(parameter, first[name])]


@pytest.mark.parametrize("method", ["sst", "sert", "trq3d", "qrnn3d"])
def test_the_published_size_begins_as_released(method):
    assert configure(method).init == "released"
    with pytest.raises(ValueError, match="init='zero'; choose one of released, identity"):
        configure(method, init="zero")
