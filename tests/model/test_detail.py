"""model.detail: the five branches of the difference convolution one by one, their sum, the two forms of Eq. (24)."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from decsc_core.model.detail import SINGLE, DetailEnhancement, DifferenceConv3d, convolve

J = 4
BRANCHES = ("plain", "central", "horizontal", "vertical", "spectral")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def fill(module: nn.Module) -> nn.Module:
    """Random float64 parameters."""
    module.double().eval()
    with torch.no_grad():
        for seed, parameter in enumerate(module.parameters()):
            parameter.copy_(0.3 * normal(*parameter.shape, seed=seed))
    return module


def literal_branch(name: str, weight: Tensor, codes: Tensor) -> Tensor:
    """One branch of Fig. 3 on codes (J, B, h, w) padded by 1, voxel by voxel; axes (band, row, column)."""
    padded = F.pad(codes, (1,) * 6)
    _, bands, height, width = codes.shape
    out = torch.zeros(weight.shape[0], bands, height, width, dtype=codes.dtype)
    for b, y, x in itertools.product(range(bands), range(height), range(width)):
        near = padded[:, b : b + 3, y : y + 3, x : x + 3]
        if name == "plain":
            difference = near
        elif name == "central":
            difference = near - near[:, 1:2, 1:2, 1:2]
        elif name == "horizontal":
            difference = near[..., 0] - near[..., 2]
        elif name == "vertical":
            difference = near[..., 0, :] - near[..., 2, :]
        else:
            difference = near[:, 0] - near[:, 2]
        out[:, b, y, x] = (weight * difference).flatten(1).sum(1)
    return out


@pytest.mark.parametrize("name", BRANCHES)
def test_every_branch_is_its_difference_literally(name):
    convolution = fill(DifferenceConv3d(J))
    codes = normal(J, 4, 3, 5, seed=30)
    with torch.no_grad():
        found = F.conv3d(codes[None], convolution.branch(name), padding=1)[0]
        expected = literal_branch(name, convolution.weights[name], codes)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", BRANCHES[1:])
def test_the_taps_of_a_difference_branch_sum_to_zero(name):
    taps = fill(DifferenceConv3d(J)).branch(name)
    assert taps.shape == (J, J, 3, 3, 3)
    assert taps.sum((2, 3, 4)).abs().max() < 1e-14
    assert taps.abs().amax((2, 3, 4)).min() > 1e-3


def test_the_fused_kernel_is_the_sum_of_the_branches():
    convolution = fill(DifferenceConv3d(J))
    codes = normal(2, J, 5, 4, 6, seed=31)
    with torch.no_grad():
        fused = convolution.fuse()
        branches = ((convolution.branch(name), convolution.biases[name]) for name in BRANCHES)
        separate = sum(F.conv3d(codes, weight, bias, padding=1) for weight, bias in branches)
        together = F.conv3d(codes, fused.weight, fused.bias, padding=1)
    torch.testing.assert_close(together, separate, rtol=0, atol=1e-12)


def test_fusing_lets_gradients_through_to_every_branch():
    convolution = fill(DifferenceConv3d(J))
    fused = convolution.fuse()
    (F.conv3d(normal(1, J, 5, 4, 6), fused.weight, fused.bias, padding=1).square().sum()).backward()
    assert len(list(convolution.parameters())) == 10
    for parameter in convolution.parameters():
        per_output = parameter.grad.abs().reshape(J, -1).amax(1)
        assert (per_output > 0).all()


def parts(prior: DetailEnhancement, codes: Tensor) -> tuple[Tensor, nn.Module, nn.Module]:
    """DConv(codes) by its branches, and the two ordinary convolutions."""
    difference = prior.difference
    edges = sum(F.conv3d(codes, difference.branch(name), difference.biases[name], padding=1) for name in BRANCHES)
    return edges, prior.reduce, prior.select


def test_the_papers_form_is_equation_24():
    prior = fill(DetailEnhancement(J, "paper"))
    S = normal(2, J, 5, 4, 6, seed=32)
    with torch.no_grad():
        DConv, Conv_a, Conv_b = parts(prior, S)
        T = S + DConv
        expected = T + T * Conv_b(Conv_a(T))
        torch.testing.assert_close(prior(S, prior.fuse()), expected, rtol=0, atol=1e-11)


def test_the_released_form_has_relus_and_a_sigmoid_gate():
    prior = fill(DetailEnhancement(J, "released"))
    S = normal(2, J, 5, 4, 6, seed=33)
    with torch.no_grad():
        DConv, Conv_a, Conv_b = parts(prior, S)
        T = S + torch.where(DConv > 0, DConv, 0)
        reduced = Conv_a(T)
        gate = 1 / (1 + torch.exp(-Conv_b(torch.where(reduced > 0, reduced, 0))))
        torch.testing.assert_close(prior(S, prior.fuse()), T * gate, rtol=0, atol=1e-11)


@pytest.mark.parametrize("form", ["released", "paper"])
@pytest.mark.parametrize("size", [(1, 1, 1), (2, 1, 6), (29, 3, 2), (44, 2, 2)])
def test_codes_of_any_size(form, size):
    prior = fill(DetailEnhancement(J, form))
    codes, fused = normal(3, J, *size, seed=34), prior.fuse()
    with torch.no_grad():
        out = prior(codes, fused)
        assert out.shape == codes.shape and out.isfinite().all()
        assert torch.equal(prior(codes, fused), out)
        torch.testing.assert_close(prior(codes[1:2], fused), out[1:2], rtol=0, atol=1e-12)


@pytest.mark.parametrize("limit", [0, SINGLE], ids=["3-D", "2-D"])
def test_a_single_volume_is_convolved_as_in_a_batch(limit, monkeypatch):
    """`conv3d` itself, with its gradient, whichever way the volume takes."""
    monkeypatch.setattr("decsc_core.model.detail.SINGLE", limit)
    calls = []
    monkeypatch.setattr(F, "conv2d", lambda *a, plain=F.conv2d, **k: calls.append(a) or plain(*a, **k))
    generator = torch.Generator().manual_seed(3)
    tensors = [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in ((1, 4, 6, 5, 7), (3, 4, 3, 3, 3), (3,))]
    found, expected = convolve(*tensors), F.conv3d(*tensors, padding=1)
    torch.testing.assert_close(found, expected)
    push = torch.randn(found.shape, generator=generator, dtype=torch.float64)
    for one, other in zip(torch.autograd.grad(found, tensors, push), torch.autograd.grad(expected, tensors, push)):
        torch.testing.assert_close(one, other)
    assert bool(calls) == bool(limit)
    batch = torch.cat([tensors[0], 2 * tensors[0]])
    torch.testing.assert_close(convolve(batch, *tensors[1:])[:1], expected)


def test_the_inner_width_is_half():
    prior = DetailEnhancement(6, "released")
    assert prior.reduce.weight.shape == (3, 6, 3, 3, 3) and prior.select.weight.shape == (6, 3, 3, 3, 3)


@pytest.mark.parametrize("form", ["released", "paper"])
def test_without_a_part_the_prior_is_the_other_part_alone(form):
    """Table V: without the difference convolution T = H, without the attention out = T, without both the identity."""
    whole = fill(DetailEnhancement(J, form))
    H = normal(2, J, 5, 4, 6, seed=35)

    def without(*parts: str) -> Tensor:
        prior = DetailEnhancement(J, form, parts).double()
        prior.load_state_dict({name: whole.state_dict()[name] for name in prior.state_dict()})
        return prior(H, prior.fuse())

    with torch.no_grad():
        DConv, Conv_a, Conv_b = parts(whole, H)
        if form == "paper":
            edges, gated = H + DConv, H + H * Conv_b(Conv_a(H))
        else:
            edges, gated = H + F.relu(DConv), H * torch.sigmoid(Conv_b(F.relu(Conv_a(H))))
        torch.testing.assert_close(without("difference"), edges, rtol=0, atol=1e-11)
        torch.testing.assert_close(without("attention"), gated, rtol=0, atol=1e-11)
        assert torch.equal(without(), H)
