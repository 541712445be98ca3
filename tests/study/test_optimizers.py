"""study.optimizers: Muon beside torch's, and which parameters it moves."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from decsc_core.networks.catalog import build, configure
from decsc_core.study.optimizers import LAYERS, Muon, optimizers

OPTIONS = {"lr": 0.02, "weight_decay": 0.1}


def moved(optimizer: type, shape: tuple[int, ...], steps: int = 4, **options) -> torch.Tensor:
    """A weight after some steps with the same gradients."""
    generator = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.randn(shape, generator=generator))
    moves = optimizer([weight], **options)
    for _ in range(steps):
        weight.grad = torch.randn(shape, generator=generator)
        moves.step()
    return weight.detach()


@pytest.mark.parametrize("shape", [(12, 30), (30, 12), (16, 16)])
def test_matrices_move_as_by_torchs_muon(shape):
    """Which computes in bfloat16."""
    ours = moved(Muon, shape, **OPTIONS)
    theirs = moved(torch.optim.Muon, shape, adjust_lr_fn="match_rms_adamw", **OPTIONS)
    start = moved(torch.optim.SGD, shape, lr=0.0)
    assert (ours - theirs).norm() < 0.02 * (theirs - start).norm()


def test_a_convolution_moves_as_the_matrix_of_its_outputs():
    found = moved(Muon, (8, 3, 2, 2), **OPTIONS)
    assert torch.equal(found.flatten(1), moved(Muon, (8, 12), **OPTIONS))


@pytest.mark.parametrize("shape", [(12, 30), (30, 12)])
def test_each_matrix_of_a_stack_moves_by_itself(shape):
    stack = moved(Muon, (3, *shape), **OPTIONS)
    generator = torch.Generator().manual_seed(0)
    draws = [torch.randn(3, *shape, generator=generator) for _ in range(5)]
    for k in range(3):
        weight = nn.Parameter(draws[0][k].clone())
        moves = Muon([weight], **OPTIONS)
        for draw in draws[1:]:
            weight.grad = draw[k]
            moves.step()
        torch.testing.assert_close(stack[k], weight.detach())


@pytest.mark.parametrize("method, stacks", [("sst", ()), ("decsc", ()), ("mtsnnpp", ("shared.", "unshared."))])
def test_every_parameter_has_one_optimizer(method, stacks):
    network = build(configure(method, "tiny"))
    parts = optimizers(network, "muon", 1e-3, 0.0)
    by_kind = {type(part): {id(p) for group in part.param_groups for p in group["params"]} for part in parts}
    matrices = by_kind.get(Muon, set())
    in_layers = {id(m.weight) for m in network.modules() if isinstance(m, LAYERS) and getattr(m, "groups", 1) == 1}
    assert matrices == in_layers | {id(p) for name, p in network.named_parameters() if name.startswith(stacks)}
    assert not matrices & by_kind[torch.optim.AdamW]
    assert matrices | by_kind[torch.optim.AdamW] == {id(p) for p in network.parameters()}
