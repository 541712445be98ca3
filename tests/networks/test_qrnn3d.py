"""networks.qrnn3d against the released network's numbers and the contract of all learned networks."""

from __future__ import annotations

import pytest
import torch

from decsc_core.networks.qrnn3d import PRESETS, QRNN3D, QRNN3DConfig, own_key


def tiny(generator: torch.Generator | None = None) -> QRNN3D:
    return QRNN3D(QRNN3DConfig(**PRESETS["tiny"] | {"init": "released"}), generator)


def test_it_gives_the_released_networks_numbers(golden):
    recorded = golden("qrnn3d", "qrnn3d")
    recorded.check_outputs("", "case2/")  # case2 has 20 bands
    assert recorded.network().config == QRNN3DConfig(width=8)


def test_parameters_of_the_full_size(contract, check_full_size):
    network = check_full_size("qrnn3d", "qrnn3d")
    assert network.config == QRNN3DConfig()
    parts = [contract.tally(part) for part in (network.head, network.encoder, network.decoder, network.tail)]
    assert parts == [1298, 428864, 428960, 1331] and sum(parts) == contract.tally(network) == 860453


def test_names_of_released_parameters():
    assert own_key("feature_extractor.conv.bn.num_batches_tracked") is None
    assert own_key("decoder.layers.3.conv.upsample_conv.conv3d.weight") == "decoder.3.conv.weight"


def test_multiply_accumulates(contract):
    assert contract.gmacs(QRNN3D()) == pytest.approx(19.64, rel=0.01)


@pytest.mark.parametrize("bands", [1, 2, 7, 31])
def test_any_number_of_bands_and_any_size(contract, bands):
    network = tiny()
    assert network.bands is None
    contract.check_evaluation(network, bands)


@torch.no_grad()
def test_an_image_that_does_not_fit_is_extended_by_reflection():
    network = QRNN3D(QRNN3DConfig(width=2)).double().eval()
    noisy = torch.rand(1, 3, 6, 11, dtype=torch.float64)
    extended = torch.nn.functional.pad(noisy, (0, 1, 0, 2), mode="reflect")
    torch.testing.assert_close(network(noisy), network(extended)[..., :6, :11], rtol=0, atol=0)


def test_directions_alternate_without_a_break():
    network = QRNN3D(QRNN3DConfig(width=1))
    directions = [layer.directions for layer in (network.head, *network.encoder, *network.decoder, network.tail)]
    alternating = [(number % 2 == 1,) for number in range(10)]
    assert directions == [(False, True), *alternating, (False, True)]


def test_gradients_reach_everything(contract):
    contract.check_gradients(tiny().train(), 5)


def test_the_start_is_the_scaffolds_and_comes_from_the_generator(contract):
    contract.check_start(tiny)
    network = QRNN3D(generator=torch.Generator().manual_seed(3))
    kaiming, default = network.encoder[2].conv.weight, network.decoder[2].conv.weight
    assert kaiming.std().item() == pytest.approx((2 / (64 * 27)) ** 0.5, rel=0.02)
    assert default.abs().max().item() == pytest.approx((64 * 27) ** -0.5, rel=0.01)  # PyTorch's, transposed


@pytest.mark.parametrize("fields, message", [
    ({"width": 0}, "^width=0 must be at least 1$"), ({"depth": 0}, "^depth=0 must be at least 1$"),
])
def test_sizes_that_make_no_network_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        QRNN3DConfig(**fields)
