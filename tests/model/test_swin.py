"""model.swin: window attention against Eqs. (22)-(23) written token by token, and the prior built from it."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from decsc_core.model import preset
from decsc_core.model.swin import SwinPrior
from decsc_core.model.windows import WindowAttention


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def fill(module: nn.Module, scale: float = 0.5) -> nn.Module:
    """Random float64 parameters, so that no term is 0 or 1 by initialisation."""
    module.double().eval()
    with torch.no_grad():
        for seed, parameter in enumerate(module.parameters()):
            parameter.copy_(scale * normal(*parameter.shape, seed=seed))
    return module


def literal_attention(attention: WindowAttention, grid: Tensor, shift: int) -> Tensor:
    """Eqs. (22)-(23) for one image (r, q, C), one query at a time.

    A window holds the positions that fall together on a lattice moved by `shift`, cyclically. Positions that only the
    cyclic wrap brings together do not see each other.
    """
    height, width, channels = grid.shape
    window, heads = attention.window, attention.heads
    size = channels // heads
    Wq, Wk, Wv = attention.qkv.weight.view(3, heads, size, channels)
    bq, bk, bv = attention.qkv.bias.view(3, heads, size)
    places = {}
    for y, x in itertools.product(range(height), range(width)):
        row, column = (y - shift) % height, (x - shift) % width
        key = row // window, column // window, row >= height - shift, column >= width - shift
        places.setdefault(key, []).append((y, x, row, column))
    out = torch.empty_like(grid)
    for group in places.values():
        for y, x, row, column in group:
            heads_out = []
            for i in range(heads):
                q = Wq[i] @ grid[y, x] + bq[i]
                scores, values = [], []
                for v, u, key_row, key_column in group:
                    k = Wk[i] @ grid[v, u] + bk[i]
                    at = (row - key_row + window - 1) * (2 * window - 1) + column - key_column + window - 1
                    scores.append(q @ k / math.sqrt(size) + attention.relative_position_bias_table[at, i])
                    values.append(Wv[i] @ grid[v, u] + bv[i])
                heads_out.append(torch.softmax(torch.stack(scores), 0) @ torch.stack(values))
            out[y, x] = attention.proj.weight @ torch.cat(heads_out) + attention.proj.bias
    return out


@pytest.mark.parametrize("window, shift, size", [
    (2, 0, (4, 6)), (2, 1, (4, 6)), (2, 1, (2, 4)), (3, 1, (6, 3)), (4, 2, (8, 8)), (4, 2, (4, 4)),
])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad])
def test_window_attention_is_equations_22_and_23_literally(window, shift, size, mode):
    attention = fill(WindowAttention(6, 3, window))
    grid = normal(2, *size, 6, seed=50)
    with mode():
        found = attention(grid, shift)
        for image, result in zip(grid, found):
            torch.testing.assert_close(result, literal_attention(attention, image, shift), rtol=0, atol=1e-10)


def literal_norm(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight + norm.bias


def literal_mlp(x: Tensor, mlp: nn.Module) -> Tensor:
    hidden = x @ mlp.fc1.weight.T + mlp.fc1.bias
    hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
    return hidden @ mlp.fc2.weight.T + mlp.fc2.bias


@pytest.mark.parametrize("window, size, padded", [(2, (3, 5), (4, 6)), (2, (4, 2), (6, 4)), (4, (7, 3), (8, 4))])
def test_the_prior_is_padding_then_pre_norm_blocks_every_other_one_shifted(window, size, padded):
    """A side that already is a multiple of the window grows by a window too, as the released code needs it."""
    prior = fill(SwinPrior(6, 3, 3, window), 0.3)
    codes = normal(2, 6, *size, seed=51)
    with torch.no_grad():
        for image, result in zip(codes, prior(codes)):
            grid = torch.zeros(*padded, 6, dtype=torch.float64)
            grid[: size[0], : size[1]] = image.permute(1, 2, 0)
            for number, block in enumerate(prior.blocks):
                shift = window // 2 if number % 2 else 0
                grid = grid + literal_attention(block.attn, literal_norm(grid, block.norm1), shift)
                grid = grid + literal_mlp(literal_norm(grid, block.norm2), block.mlp)
            expected = grid[: size[0], : size[1]].permute(2, 0, 1)
            torch.testing.assert_close(result, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (3, 2), (4, 4), (5, 11), (13, 1)])
def test_codes_of_any_size(size):
    prior = fill(SwinPrior(8, 2, 4, 4))
    codes = normal(2, 8, *size, seed=52)
    with torch.no_grad():
        out = prior(codes)
        assert out.shape == codes.shape and out.isfinite().all()
        assert torch.equal(prior(codes), out)
        torch.testing.assert_close(prior(codes[1:]), out[1:], rtol=0, atol=1e-12)


def test_a_code_reaches_a_shifted_window_but_not_the_other_end():
    """With two blocks of window 4, one shifted by 2, a change travels at most 5 positions, not around the border."""
    prior = fill(SwinPrior(8, 2, 4, 4))
    codes = normal(1, 8, 15, 15, seed=53)
    changed = codes.clone()
    changed[:, 0, 0, 0] += 1
    with torch.no_grad():
        moved = (prior(changed) - prior(codes)).abs().amax((0, 1)) > 1e-9
    assert moved[:4, :4].all() and moved[5, 5]
    assert not moved[6:].any() and not moved[:, 6:].any()


def test_gradients_reach_everything_but_the_bias_of_the_keys():
    """A bias on the keys adds the same number to every score of a query, so softmax removes it."""
    prior = fill(SwinPrior(8, 2, 4, 4))
    prior(normal(2, 8, 7, 7, seed=54)).square().sum().backward()
    for name, parameter in prior.named_parameters():
        if name.endswith("qkv.bias"):
            assert parameter.grad[8:16].abs().max() < 1e-10 < parameter.grad[:8].abs().max()
        assert parameter.grad.abs().max() > 1e-6, name


def test_atoms_that_heads_cannot_share_are_refused():
    message = "^10 shared atoms cannot be split over 4 attention heads; use a multiple of 4$"
    with pytest.raises(ValueError, match=message):
        preset("paper", shared_atoms=10, heads=4)
