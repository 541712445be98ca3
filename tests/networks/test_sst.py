"""networks.sst against the released network's numbers and the contract of all learned networks."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from decsc_core.networks.sst import PRESETS, SST, SpectralAttention, SSTConfig, own_key


def tiny(generator: torch.Generator | None = None) -> SST:
    return SST(SSTConfig(**PRESETS["tiny"] | {"bands": 5, "init": "released"}), generator)


def test_it_gives_the_released_networks_numbers(golden):
    recorded = golden("sst", "sst")
    recorded.check_outputs("", "case2/")
    assert recorded.network().config == SSTConfig(width=60, stages=2, blocks=2)


def test_the_bias_of_the_keys_which_shows_in_no_output(golden):
    recorded = golden("sst", "sst")
    for number, block in enumerate(recorded.network().stages[1].blocks):
        assert torch.equal(block.attn.qkv.bias, recorded.state[f"layers.1.smsblock.{number}.attn.qkv.bias"])


def test_parameters_of_the_full_size(contract, check_full_size):
    network = check_full_size("sst", "sst")
    assert network.config == SSTConfig()
    stage = network.stages[3]
    parts = (network.head, stage, stage.blocks[1], stage.conv, network.merge, network.tail)
    assert [contract.tally(part) for part in parts] == [25200, 670266, 99546, 72990, 72900, 25141]
    assert contract.tally(network) == 4144837


def test_names_of_released_parameters():
    assert own_key("layers.3.smsblock.1.attn_mask") is None
    assert own_key("layers.3.smsblock.1.attn.relative_position_index") is None
    official = "layers.3.smsblock.1.spectral_attn.project_out.weight"
    assert own_key(official) == "stages.3.blocks.1.spectral_attn.proj.weight"


def test_multiply_accumulates(contract):
    assert contract.gmacs(SST()) == pytest.approx(18.73, rel=0.01)


@torch.no_grad()
def test_spectral_attention_compares_channels_over_the_image():
    attention = SpectralAttention(6, 2).double()
    grid = torch.randn(1, 3, 4, 6, dtype=torch.float64)
    attention.temperature.copy_(torch.tensor([0.5, 2.0])[:, None, None])
    q, k, v = F.conv2d(grid.permute(0, 3, 1, 2), attention.qkv.weight)[0].flatten(1).view(3, 2, 3, 12)
    mixed = torch.zeros(2, 3, 12, dtype=torch.float64)
    for head in range(2):
        for i in range(3):
            cosines = torch.stack([q[head, i] @ k[head, j] / (q[head, i].norm() * k[head, j].norm()) for j in range(3)])
            mixed[head, i] = torch.softmax(attention.temperature[head, 0] * cosines, 0) @ v[head]
    expected = F.conv2d(mixed.view(1, 6, 3, 4), attention.proj.weight).permute(0, 2, 3, 1)
    torch.testing.assert_close(attention(grid), expected, rtol=0, atol=1e-12)


def test_a_channel_that_is_zero_everywhere_has_no_direction():
    attention, grid = SpectralAttention(6, 2), torch.zeros(1, 2, 2, 6, requires_grad=True)
    out = attention(grid)
    out.sum().backward()
    assert out.isfinite().all() and grid.grad.isfinite().all()


def test_any_size(contract):
    network = tiny()
    assert network.bands == network.config.bands == 5
    contract.check_evaluation(network, 5)


@torch.no_grad()
def test_an_image_that_does_not_fit_is_extended_by_reflection():
    network = tiny().double().eval()
    noisy = torch.rand(1, 5, 10, 7, dtype=torch.float64)
    extended = F.pad(noisy, (0, 1, 0, 2), mode="reflect")
    assert torch.equal(network(noisy), network(extended)[..., :10, :7])


def test_gradients_reach_everything(contract):
    contract.check_gradients(tiny(), 5)


def test_the_start_comes_from_the_generator(contract):
    contract.check_start(tiny)


def test_other_numbers_of_bands_are_refused():
    with pytest.raises(ValueError, match=r"^input \(1, 6, 8, 8\) must be \(images, 5 bands, rows, columns\)$"):
        tiny()(torch.zeros(1, 6, 8, 8))


@pytest.mark.parametrize("fields, message", [
    ({"bands": 0}, "^bands=0 must be at least 1$"), ({"stages": -1}, "^stages=-1 must be at least 1$"),
    ({"width": 32}, "^width=32 cannot be split over 6 heads; use a multiple of 6$"),
])
def test_configurations_that_make_no_network_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        SSTConfig(**fields)
