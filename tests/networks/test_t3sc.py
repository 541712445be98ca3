"""networks.t3sc against the released network's numbers and the contract of all learned networks."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
import torch
import torch.nn.functional as F

from decsc_core.networks.t3sc import PRESETS, T3SC, CodingLayer, T3SCConfig, own_key


def tiny(generator: torch.Generator | None = None, **changes) -> T3SC:
    return T3SC(T3SCConfig(**PRESETS["tiny"] | {"bands": 5} | changes), generator)


@pytest.mark.parametrize("name", ["t3sc", "t3sc_beta"])
def test_it_gives_the_released_networks_numbers(golden, name):
    recorded = golden(name, "t3sc")
    recorded.check_outputs("")
    assert recorded.network().config == T3SCConfig(atoms=(64, 128), noise_adaptive=name == "t3sc_beta")


@torch.no_grad()
@pytest.mark.parametrize("name", ["t3sc", "t3sc_beta"])
def test_codes_and_band_weights(golden, name):
    recorded = golden(name, "t3sc")
    network, noisy = recorded.network(), recorded["input"]
    centred = noisy - noisy.mean((2, 3), keepdim=True)
    spectra, patches = network.encode(centred)
    recorded.check(spectra[:, :16], "code/layer0_first16")
    recorded.check(patches[:, :8], "code/layer1_first8")
    if name == "t3sc":
        assert network.band_weights(centred) == 1.0
    else:
        recorded.check(network.band_weights(centred)[..., 0, 0], "band_weight")


@torch.no_grad()
def test_images_larger_than_a_block(golden):
    recorded = golden("t3sc", "t3sc")
    network = recorded.network()
    noisy = recorded["blocks/input"]
    whole = network(noisy)
    network.config = replace(network.config, block=32)
    recorded.check(network(noisy), "blocks/output")
    assert (network(noisy) - whole).abs().max() > 1e-3


@pytest.mark.parametrize("name, total", [("t3sc", 832256), ("t3sc_beta", 908929)])
def test_parameters_of_the_full_size(contract, check_full_size, name, total):
    network = check_full_size(name, "t3sc")
    assert network.config == T3SCConfig(noise_adaptive=name == "t3sc_beta")
    assert [contract.tally(layer) for layer in network.layers] == [6912, 825344]
    assert contract.tally(network) == total
    if network.estimator is not None:
        assert contract.tally(network.estimator) == 76673


def test_names_of_released_parameters():
    assert own_key("layers.0.beta_estimator.3.bias") == "estimator.3.bias"
    assert own_key("layers.1.D.1") == "layers.1.synthesis.spatial"
    assert own_key("layers.1.thresholds.lbda.4") == "layers.1.thresholds.4"


def test_multiply_accumulates(contract):
    assert contract.gmacs(T3SC()) == pytest.approx(59.2, rel=0.01)


@torch.no_grad()
def test_patch_means_survive_codes_that_are_zero():
    """Every pixel is then the mean over the patches that cover it of their means."""
    layer = CodingLayer(2, 3, 3, 1, 1).double()
    image = torch.rand(1, 2, 5, 6, dtype=torch.float64)
    means, covered = torch.zeros_like(image), torch.zeros_like(image)
    for top in range(3):
        for left in range(4):
            where = (..., slice(top, top + 3), slice(left, left + 3))
            means[where] += image[where].mean((2, 3), keepdim=True)
            covered[where] += 1
    found = layer.decode(torch.zeros(1, 3, 3, 4, dtype=torch.float64), image)
    torch.testing.assert_close(found, means / covered, rtol=0, atol=1e-12)


@pytest.mark.parametrize("noise_adaptive", [False, True])
def test_any_size(contract, noise_adaptive):
    network = tiny(noise_adaptive=noise_adaptive)
    assert network.bands == network.config.bands == 5
    contract.check_evaluation(network, 5)


@torch.no_grad()
def test_the_noise_estimator_sees_the_centre_of_the_smallest_blocks_too():
    network = tiny(noise_adaptive=True).double().eval()
    image = torch.rand(1, 5, 59, 59, dtype=torch.float64)
    centre = image[..., 1:57, 1:57]
    assert torch.equal(network.band_weights(image), network.band_weights(centre))
    assert not torch.equal(network.band_weights(image), network.band_weights(image[..., :56, :56]))
    smallest = image[..., :55, :55]
    assert torch.equal(network(smallest), network.denoise_block(smallest))


@torch.no_grad()
def test_blocks_are_square_extended_by_reflection_and_averaged():
    network = tiny(block=8, overlap=3).double().eval()
    noisy = torch.rand(1, 5, 6, 12, dtype=torch.float64)
    extended = F.pad(noisy, (0, 1, 0, 2), mode="reflect")
    left, right = network.denoise_block(extended[..., :8]), network.denoise_block(extended[..., 5:])
    both = (left[..., 5:] + right[..., :3]) / 2
    expected = torch.cat([left[..., :5], both, right[..., 3:]], -1)[..., :6, :12]
    torch.testing.assert_close(network(noisy), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("noise_adaptive", [False, True])
def test_gradients_reach_everything(contract, noise_adaptive):
    contract.check_gradients(tiny(noise_adaptive=noise_adaptive), 5)


@pytest.mark.parametrize("noise_adaptive", [False, True])
def test_the_start_comes_from_the_generator(contract, noise_adaptive):
    contract.check_start(lambda generator: tiny(generator, noise_adaptive=noise_adaptive))
    network = tiny(noise_adaptive=noise_adaptive)
    assert all((t == 1e-3).all() for layer in network.layers for t in layer.thresholds)
    layer = network.layers[1]
    assert not torch.equal(layer.analysis.spectral, layer.synthesis.spectral)
    assert layer.analysis.spectral.abs().max() <= (8 * 2) ** -0.5


def test_other_numbers_of_bands_are_refused():
    with pytest.raises(ValueError, match=r"^input \(1, 6, 8, 8\) must be \(images, 5 bands, rows, columns\)$"):
        tiny()(torch.zeros(1, 6, 8, 8))


def test_a_configuration_survives_json():
    assert T3SCConfig(**json.loads(json.dumps(asdict(T3SCConfig())))) == T3SCConfig()


@pytest.mark.parametrize("fields, message", [
    ({"bands": 0}, "^bands=0 must be at least 1$"),
    ({"atoms": (64,)}, r"^atoms=\(64,\) must hold a number for each of the two layers$"),
    ({"steps": (12, 0)}, r"^steps=\(12, 0\) must hold whole numbers of at least 1$"),
    ({"atoms": (8.5, 16)}, r"^atoms=\(8.5, 16\) must hold whole numbers of at least 1$"),
    ({"block": 4}, "^block=4 must be at least 5, which the atoms or the noise estimator need$"),
    ({"block": 54, "noise_adaptive": True}, "^block=54 must be at least 55, which the atoms or"),
    ({"block": 20, "overlap": 20}, "^overlap=20 must lie between 0 and block - 1 = 19$"),
])
def test_configurations_that_make_no_network_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        T3SCConfig(**fields)
