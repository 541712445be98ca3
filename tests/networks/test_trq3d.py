"""networks.trq3d against the released network's numbers and the contract of all learned networks."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from decsc_core.networks.trq3d import PRESETS, TRQ3D, Pointwise, TRQ3DConfig, from_official, own_key


def tiny(generator: torch.Generator | None = None) -> TRQ3D:
    return TRQ3D(TRQ3DConfig(**PRESETS["tiny"] | {"bands": 5, "init": "released"}), generator)


def test_it_gives_the_released_networks_numbers(golden):
    recorded = golden("trq3dnet", "trq3d")
    recorded.check_outputs("", "case2/")
    assert recorded.network().config == TRQ3DConfig(width=8)


def test_queries_keys_and_values_are_one_projection(golden):
    """A bias of the keys shows in no output, so it is compared here."""
    recorded = golden("trq3dnet", "trq3d")
    network, block = recorded.network(), "encoder.layers.2.tr_layer.blocks.1.attn.qkv"
    found = network.encoder[2].blocks[1].attn.qkv
    for kind in ("weight", "bias"):
        expected = torch.cat([recorded.state[f"{block}.to_{name}.{kind}"] for name in ("q", "kv")])
        assert torch.equal(getattr(found, kind), expected)
        backwards = dict(reversed(recorded.state.items()))
        assert torch.equal(from_official(backwards)[f"encoder.2.blocks.1.attn.qkv.{kind}"], expected)


def test_parameters_of_the_full_size(contract, check_full_size):
    network = check_full_size("trq3dnet", "trq3d")
    assert network.config == TRQ3DConfig()
    names = ("head", "image_head", "encoder", "decoder", "tail", "image_tail", "merge")
    parts = [contract.tally(getattr(network, name)) for name in names]
    assert parts == [1298, 4512, 317824, 347632, 1331, 4557, 1953] and sum(parts) == contract.tally(network) == 679107


def test_names_of_released_parameters():
    assert own_key("encoder.layers.0.tr_layer.blocks.1.attn.relative_position_index") is None
    assert own_key("encoder.layers.1.proj.bn.num_batches_tracked") is None
    assert own_key("decoder.layers.0.qrnn_layer.conv.upsample_conv.conv3d.weight") == "decoder.0.gated.conv.weight"


def test_multiply_accumulates(contract):
    assert contract.gmacs(TRQ3D()) == pytest.approx(16.73, rel=0.01)


def test_any_size(contract):
    network = tiny()
    assert network.bands == network.config.bands == 5
    contract.check_evaluation(network, 5)


@torch.no_grad()
def test_an_image_that_does_not_fit_is_extended_by_reflection_and_need_not_be_square():
    network = tiny().double().eval()
    noisy = torch.rand(1, 5, 14, 7, dtype=torch.float64)
    extended = F.pad(noisy, (0, 1, 0, 2), mode="reflect")
    torch.testing.assert_close(network(noisy), network(extended)[..., :14, :7], rtol=0, atol=0)


def test_a_pointwise_map_is_the_same_in_training_and_evaluation():
    """The norm's statistics being those of the batch; evaluation folds the norm into the map."""
    layer, x = Pointwise(3, 4).double(), 2 + torch.randn(2, 3, 5, 6, 7, dtype=torch.float64)
    layer.bn.weight.data, layer.bn.bias.data = torch.rand(2, 3, dtype=torch.float64)
    layer.bn.running_mean, layer.bn.running_var = x.mean((0, 2, 3, 4)), x.var((0, 2, 3, 4), unbiased=False)
    evaluated = layer.eval()(x)
    expected = F.conv3d(layer.bn(x), layer.conv.weight[..., None])
    torch.testing.assert_close(evaluated, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(layer.train()(x), evaluated, rtol=0, atol=1e-12)


def test_gradients_reach_everything(contract):
    contract.check_gradients(tiny().eval(), 5)  # in training some norms take out what the ones before them add


def test_the_start_comes_from_the_generator(contract):
    contract.check_start(tiny)


def test_other_numbers_of_bands_are_refused():
    with pytest.raises(ValueError, match=r"^input \(1, 6, 8, 8\) must be \(images, 5 bands, rows, columns\)$"):
        tiny()(torch.zeros(1, 6, 8, 8))


@pytest.mark.parametrize("fields, message", [
    ({"width": 0}, "^width=0 must be at least 1$"), ({"bands": 0}, "^bands=0 must be at least 1$"),
    ({"window": 0}, "^window=0 must be at least 1$"),
    ({"width": 6}, "^width=6 cannot be split over 4 heads; use a multiple of 4$"),
])
def test_configurations_that_make_no_network_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        TRQ3DConfig(**fields)
