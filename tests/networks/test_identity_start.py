"""The start of the small networks that add their input at their end."""

from __future__ import annotations

import pytest
import torch

from decsc_core.networks.catalog import build, configure


@pytest.mark.parametrize("method", ["sert", "trq3d"])
@pytest.mark.parametrize("size", ["small", "tiny"])
def test_small_networks_begin_as_the_identity_and_learn(method, size):
    generator = torch.Generator().manual_seed(0)
    network = build(configure(method, size), generator).train()
    noisy = torch.rand((2, 31, 16, 16), generator=generator)
    made = network(noisy)
    torch.testing.assert_close(made, noisy)
    (made - noisy + 1).square().mean().backward()
    assert max(parameter.grad.abs().max() for parameter in network.parameters() if parameter.grad is not None) > 1e-3


@pytest.mark.parametrize("method", ["sert", "trq3d"])
def test_the_published_size_begins_as_released(method):
    assert configure(method).init == "released"
    with pytest.raises(ValueError, match="init='zero'; choose one of released, identity"):
        configure(method, init="zero")
