"""model.vmamba: the selective scan as its recurrence, number by number, and the 2-D scan as four walks over a map."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from decsc_core.model.vmamba import SS2D, VMambaPrior, selective_scan


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def fill(module: nn.Module, scale: float = 0.4) -> nn.Module:
    """Random float64 parameters, so that no term is 0 or 1 by initialisation."""
    module.double().eval()
    with torch.no_grad():
        for seed, parameter in enumerate(module.parameters()):
            parameter.copy_(scale * normal(*parameter.shape, seed=seed))
    return module


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def literal_scan(u, delta, A, B, C, D, bias) -> np.ndarray:
    """h_l = exp(dt_l A) h_(l-1) + dt_l B_l u_l and y_l = <C_l, h_l> + D u_l, with plain numbers."""
    samples, channels, length = u.shape
    groups, states = B.shape[1:3]
    y = np.empty(u.shape)
    for n, c in itertools.product(range(samples), range(channels)):
        group = c // (channels // groups)
        h = [0.0] * states
        for t in range(length):
            dt = softplus(delta[n, c, t] + bias[c])
            h = [math.exp(dt * A[c, s]) * h[s] + dt * B[n, group, s, t] * u[n, c, t] for s in range(states)]
            y[n, c, t] = sum(C[n, group, s, t] * h[s] for s in range(states)) + D[c] * u[n, c, t]
    return y


@pytest.mark.parametrize("groups, channels, states, length", [(4, 3, 5, 11), (1, 2, 1, 7), (2, 1, 3, 1), (2, 2, 3, 37)])
def test_selective_scan_is_its_recurrence_literally(groups, channels, states, length):
    wide = groups * channels
    u, delta = normal(2, wide, length, seed=1), normal(2, wide, length, seed=2)
    A, D, bias = -normal(wide, states, seed=3).exp(), normal(wide, seed=4), normal(wide, seed=5)
    B, C = normal(2, groups, states, length, seed=6), normal(2, groups, states, length, seed=7)
    found = selective_scan(u, delta, A, B, C, D, bias)
    expected = literal_scan(*(t.numpy() for t in (u, delta, A, B, C, D, bias)))
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-12)


def walks(height: int, width: int) -> list[list[tuple[int, int]]]:
    """The four orders in which the map is read."""
    rows = [(y, x) for y in range(height) for x in range(width)]
    columns = [(y, x) for x in range(width) for y in range(height)]
    return [rows, columns, rows[::-1], columns[::-1]]


def literal_ss2d(op: SS2D, grid: np.ndarray) -> np.ndarray:
    """SS2D of one map (h, w, C) in NumPy."""
    state = {name: p.detach().numpy() for name, p in op.named_parameters()}
    height, width, _ = grid.shape
    inner = state["out_proj.weight"].shape[1]
    rank, states = op.rank, op.states

    def silu(x: np.ndarray) -> np.ndarray:
        return x / (1 + np.exp(-x))

    both = grid @ state["in_proj.weight"].T
    u, gate = both[..., :inner], both[..., inner:]
    padded = np.pad(u, ((1, 1), (1, 1), (0, 0)))
    kernel = state["conv2d.weight"][:, 0]
    convolved = np.zeros_like(u) + state["conv2d.bias"]
    for i, j in itertools.product(range(3), range(3)):
        convolved += padded[i : i + height, j : j + width] * kernel[:, i, j]
    u = silu(convolved)
    merged = np.zeros_like(u)
    A = -np.exp(state["A_logs"])
    for direction, walk in enumerate(walks(height, width)):
        mine = slice(direction * inner, (direction + 1) * inner)
        path = np.array([u[at] for at in walk])
        raw = path @ state["x_proj_weight"][direction].T
        delta = raw[:, :rank] @ state["dt_projs_weight"][direction].T
        B, C = raw[:, rank : rank + states], raw[:, rank + states :]
        y = literal_scan(path.T[None], delta.T[None], A[mine], B.T[None, None], C.T[None, None], state["Ds"][mine],
                         state["dt_projs_bias"][direction])[0]
        for step, at in enumerate(walk):
            merged[at] += y[:, step]
    centred = merged - merged.mean(-1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    normed = normed * state["out_norm.weight"] + state["out_norm.bias"]
    return (normed * silu(gate)) @ state["out_proj.weight"].T


@pytest.mark.parametrize("size", [(3, 4), (4, 2), (1, 5), (1, 1)])
def test_the_2d_scan_is_four_walks_literally(size):
    op = fill(SS2D(6, states=3))
    grid = normal(2, *size, 6, seed=40)
    with torch.no_grad():
        found = op(grid).numpy()
    for image, result in zip(grid.numpy(), found):
        np.testing.assert_allclose(result, literal_ss2d(op, image), rtol=0, atol=1e-12)


def test_the_prior_is_a_chain_of_pre_norm_blocks():
    prior = fill(VMambaPrior(6, 2, 3))
    codes = normal(1, 6, 3, 4, seed=41)
    grid = codes[0].permute(1, 2, 0)

    def norm(x: Tensor, layer: nn.LayerNorm) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * layer.weight + layer.bias

    with torch.no_grad():
        for block in prior.blocks:
            grid = grid + torch.from_numpy(literal_ss2d(block.op, norm(grid, block.norm).numpy()))
            hidden = norm(grid, block.norm2) @ block.mlp.fc1.weight.T + block.mlp.fc1.bias
            hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
            grid = grid + hidden @ block.mlp.fc2.weight.T + block.mlp.fc2.bias
        torch.testing.assert_close(prior(codes)[0], grid.permute(2, 0, 1), rtol=0, atol=1e-11)


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (3, 2), (5, 11), (13, 1)])
@pytest.mark.parametrize("training", [False, True])
def test_codes_of_any_size(size, training):
    """Training mode changes nothing: there is no stochastic depth, so that f is a function."""
    prior = fill(VMambaPrior(8, 2, 4)).train(training)
    codes = normal(2, 8, *size, seed=42)
    with torch.no_grad():
        out = prior(codes)
        assert out.shape == codes.shape and out.isfinite().all()
        assert torch.equal(prior(codes), out)
        torch.testing.assert_close(prior(codes[1:]), out[1:], rtol=0, atol=1e-12)


def test_every_position_sees_every_other():
    prior = fill(VMambaPrior(8, 1, 4))
    codes = normal(1, 8, 4, 5, seed=43).requires_grad_()
    out = prior(codes)
    for y, x in ((0, 0), (2, 3), (3, 4)):
        (seen,) = torch.autograd.grad(out[0, :, y, x].square().sum(), codes, retain_graph=True)
        assert (seen.abs().amax((0, 1)) > 1e-12).all()


def test_initial_values_are_mambas():
    op = SS2D(32, states=5)
    op.reset_parameters(torch.Generator().manual_seed(0))
    torch.testing.assert_close(op.A_logs.exp(), torch.arange(1.0, 6.0).expand(4 * 64, 5))
    assert (op.Ds == 1).all()
    steps = torch.nn.functional.softplus(op.dt_projs_bias.double())
    assert steps.min() >= 0.999e-3 and steps.max() <= 1.001e-1
    quarters = torch.histc(steps.log10().float(), bins=4, min=-3, max=-1) / steps.numel()
    assert ((quarters > 0.17) & (quarters < 0.33)).all()
    bound = op.rank**-0.5
    assert 0.95 * bound < op.dt_projs_weight.abs().max() <= bound


def test_gradients_reach_every_parameter():
    prior = fill(VMambaPrior(8, 2, 4))
    prior(normal(2, 8, 4, 5, seed=44)).square().sum().backward()
    for name, parameter in prior.named_parameters():
        assert parameter.grad.abs().max() > 1e-6, name


def test_the_scan_has_exact_first_and_second_derivatives():
    """Second derivatives are what a penalty on the Jacobian of f needs."""
    groups, wide, states, length = 2, 4, 3, 4
    arguments = [normal(1, wide, length, seed=1), normal(1, wide, length, seed=2), -normal(wide, states, seed=3).exp(),
                 normal(1, groups, states, length, seed=6), normal(1, groups, states, length, seed=7),
                 normal(wide, seed=4), normal(wide, seed=5)]
    arguments = [argument.requires_grad_() for argument in arguments]
    assert torch.autograd.gradcheck(selective_scan, arguments)
    assert torch.autograd.gradgradcheck(selective_scan, arguments)
