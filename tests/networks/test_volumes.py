"""networks.volumes and networks.gated: what 3-D networks are made of, against PyTorch's own layers and plain loops."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from decsc_core.networks.gated import GatedLayer, GatedPooling
from decsc_core.networks.volumes import BatchNorm, Step, convolve, pointwise, run_u_shape, u_shape, upsample


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("bands", [1, 2, 5])
@pytest.mark.parametrize("fan_in, fan_out, sampling", [
    (1, 4, ""), (4, 3, ""), (4, 1, ""), (1, 1, ""), (3, 5, ""), (3, 4, "down")])
def test_convolution_is_pytorchs_forwards_and_backwards(fan_in, fan_out, sampling, bands):
    volume, bias = normal(2, fan_in, bands, 6, 4), normal(fan_out, seed=2)
    weight = normal(fan_out, fan_in, 3, 3, 3, seed=1)
    for given in (None, bias):
        found, expected = ([part.clone().requires_grad_() for part in (volume, weight)] for _ in range(2))
        out = convolve(*found, given, sampling)
        reference = F.conv3d(*expected, given, (1, 2, 2) if sampling else 1, padding=1)
        torch.testing.assert_close(out, reference, rtol=0, atol=1e-12)
        out.square().sum().backward()
        reference.square().sum().backward()
        for one, other in zip(found, expected):
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-12, atol=1e-10)


def test_pointwise_is_linear():
    grid, weight, bias = normal(2, 3, 4, 5, 6), normal(7, 6, seed=1), normal(7, seed=2)
    torch.testing.assert_close(pointwise(grid, weight, bias), F.linear(grid, weight, bias), rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(3, 4, 6), (1, 1, 1), (2, 1, 5)])
def test_upsampling_is_trilinear_with_corners_on_corners(size):
    volume = normal(2, 3, *size)
    expected = F.interpolate(volume, scale_factor=(1, 2, 2), mode="trilinear", align_corners=True)
    torch.testing.assert_close(upsample(volume), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("axes", [2, 3])
def test_batch_norm_is_pytorchs(axes):
    own, reference = BatchNorm(3).double(), (nn.BatchNorm2d, nn.BatchNorm3d)[axes - 2](3).double()
    assert not any("num_batches" in name for name in own.state_dict())
    for parameters in zip(own.parameters(), reference.parameters()):
        for parameter in parameters:
            parameter.data = 1 + normal(3, seed=3)
    for seed in (4, 5):
        x = 2 + normal(4, 3, *[5] * axes, seed=seed)
        torch.testing.assert_close(own(x), reference(x), rtol=0, atol=1e-12)
    assert torch.equal(own.running_mean, reference.running_mean) and torch.equal(own.running_var, reference.running_var)
    own.eval(), reference.eval()
    torch.testing.assert_close(own(x), reference(x), rtol=0, atol=1e-12)
    scale, shift = (part.view(-1, *[1] * axes) for part in own.affine())
    torch.testing.assert_close(x * scale + shift, reference(x), rtol=0, atol=1e-12)


def test_the_u_shape_goes_down_at_odd_layers_and_the_same_way_back():
    encoder, decoder = u_shape(16, 5)
    assert [tuple(step) for step in encoder] == [
        (16, 16, ""), (16, 32, "down"), (32, 32, ""), (32, 64, "down"), (64, 64, "")]
    assert [tuple(step) for step in decoder] == [
        (64, 64, ""), (64, 32, "up"), (32, 32, ""), (32, 16, "up"), (16, 16, "")]
    assert [step.sampling for step in u_shape(16, 4)[1]] == ["up", "", "up", ""]
    assert u_shape(8, 7)[1][0] == Step(64, 64)


def test_skips_join_layers_of_one_size():
    class Times(nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

        def forward(self, x):
            return self.factor * x

    encoder, decoder = (nn.ModuleList(Times(factor) for factor in factors) for factors in ((2, 3, 5), (7, 11, 13)))
    x = torch.tensor(1.0)
    e1, e2, e3 = 2 * x, 6 * x, 30 * x
    assert run_u_shape(x, encoder, decoder) == 13 * (11 * (7 * e3 + e2) + e1) + x


def literal_pooling(z, f, reverse: bool, start: float):
    """The recurrence, one band at a time."""
    bands = list(range(z.shape[2]))[:: -1 if reverse else 1]
    h, states = torch.full_like(z[:, :, 0], start), {}
    for band in bands:
        h = f[:, :, band] * h + (1 - f[:, :, band]) * z[:, :, band]
        states[band] = h
    return torch.stack([states[band] for band in sorted(states)], dim=2)


@pytest.mark.parametrize("directions", [(False,), (True,), (False, True)])
@pytest.mark.parametrize("bands", [1, 2, 5])
def test_pooling_is_the_recurrence_with_the_right_gradient(bands, directions):
    gates = normal(2, 3 * (1 + len(directions)), bands, 2, 4, seed=6).sigmoid()
    z, *forget = gates.chunk(1 + len(directions), dim=1)
    expected = sum(literal_pooling(z, f, reverse, start=0.5) for f, reverse in zip(forget, directions))
    torch.testing.assert_close(GatedPooling.apply(gates, directions), expected, rtol=0, atol=1e-12)
    gates = normal(1, 2 * (1 + len(directions)), bands, 2, 1, seed=7).sigmoid().requires_grad_()
    assert torch.autograd.gradcheck(lambda gates: GatedPooling.apply(gates, directions), gates)


def literal_gated_layer(layer: GatedLayer, x: torch.Tensor, sampling: str, reverse: bool, both: bool, transposed: bool):
    """The layer as its paper has it: tanh, sigmoid, recurrence from 0."""
    x = F.batch_norm(x, layer.bn.running_mean, layer.bn.running_var, layer.bn.weight, layer.bn.bias)
    if sampling == "up":
        x = F.interpolate(x, scale_factor=(1, 2, 2), mode="trilinear", align_corners=True)
    if transposed:
        gates = F.conv_transpose3d(x, layer.conv.weight, layer.conv.bias, padding=1)
    else:
        gates = F.conv3d(x, layer.conv.weight, layer.conv.bias, (1, 2, 2) if sampling == "down" else 1, padding=1)
    if not both:
        z, f = gates.chunk(2, 1)
        return literal_pooling(z.tanh(), f.sigmoid(), reverse, 0)
    z, f, g = gates.chunk(3, 1)
    return literal_pooling(z.tanh(), f.sigmoid(), False, 0) + literal_pooling(z.tanh(), g.sigmoid(), True, 0)


@pytest.mark.parametrize("fan_in, fan_out, sampling, reverse, both, transposed, bias", [
    (3, 4, "", False, False, False, False), (3, 4, "", True, False, True, False),
    (3, 6, "down", True, False, False, False), (4, 2, "up", False, False, False, False),
    (1, 4, "", False, True, False, False), (4, 1, "", False, True, True, True),
])
def test_the_gated_layer_is_norm_convolution_and_recurrence(fan_in, fan_out, sampling, reverse, both, transposed, bias):
    layer = GatedLayer(fan_in, fan_out, sampling, reverse, both, transposed, bias).double().eval()
    for seed, tensor in enumerate([*layer.parameters(), *layer.buffers()]):
        tensor.data = normal(*tensor.shape, seed=20 + seed) / 2
    layer.bn.running_var.abs_()
    x = normal(2, fan_in, 5, 4, 6, seed=8)
    torch.testing.assert_close(
        layer(x), literal_gated_layer(layer, x, sampling, reverse, both, transposed), rtol=0, atol=1e-12)
