"""networks.sert against the released network's numbers and the contract of all learned networks."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from decsc_core.networks.sert import PRESETS, SERT, Rectangles, SERTConfig, config_of, own_key


def tiny(generator: torch.Generator | None = None) -> SERT:
    return SERT(SERTConfig(**PRESETS["tiny"] | {"bands": 5, "init": "released"}), generator)


def test_it_gives_the_released_networks_numbers(golden):
    recorded = golden("sert", "sert")
    recorded.check_outputs("", "case2/")
    assert recorded.network().config == SERTConfig(width=48, blocks=2, memory=32)


def test_the_bias_of_the_keys_which_shows_in_no_output(golden):
    recorded = golden("sert", "sert")
    for number, block in enumerate(recorded.network().stages[2].blocks):
        assert torch.equal(block.attn.qkv.bias, recorded.state[f"layers.2.smsblock.{number}.attns.qkv.bias"])


def test_parameters_of_the_full_size(contract, check_full_size):
    network = check_full_size("sert", "sert")
    assert network.config == SERTConfig()
    stage = network.stages[1]
    parts = (network.head, stage, stage.blocks[1], stage.conv, network.merge, network.tail)
    assert [contract.tally(part) for part in parts] == [26880, 589560, 84420, 83040, 82944, 26815]
    assert contract.tally(network) == 1905319


def test_names_of_released_parameters():
    assert own_key("layers.1.smsblock.0.attns.attns.1.get_v.bias") == "stages.1.blocks.0.attn.wide.local.bias"
    assert own_key("layers.1.smsblock.0.attns.c_attns.cab.3.mb") == "stages.1.blocks.0.attn.spectral.memory"


def test_multiply_accumulates(contract):
    with sdpa_kernel(SDPBackend.MATH):  # the counter misses the fused attention
        assert contract.gmacs(SERT()) == pytest.approx(8.40, rel=0.01)


@torch.no_grad()
@pytest.mark.parametrize("rows, columns", [(4, 1), (4, 2), (1, 4), (2, 4)])
def test_a_rectangle_sees_nothing_beyond_its_border(rows, columns):
    """Its result is that of an image which ends there."""
    attention = Rectangles(6, 3, rows, columns).double()
    qkv = torch.randn(2, 4, 8, 3, 6, dtype=torch.float64)
    out = attention(qkv)
    for top in range(0, 4, rows):
        for left in range(0, 8, columns):
            where = (slice(None), slice(top, top + rows), slice(left, left + columns))
            torch.testing.assert_close(out[where], attention(qkv[where]), rtol=0, atol=1e-12)


def test_any_size(contract):
    network = tiny()
    assert network.bands == network.config.bands == 5
    contract.check_evaluation(network, 5)


@torch.no_grad()
def test_sides_are_padded_to_all_windows_and_need_not_be_equal():
    """The released code stops at 48 pixels, and pads rows by what columns need."""
    network = SERT(SERTConfig(**PRESETS["tiny"] | {"bands": 5, "windows": (4, 8), "splits": (1, 2)})).double().eval()
    noisy = torch.rand(1, 5, 12, 21, dtype=torch.float64)
    extended = F.pad(noisy, (0, 3, 0, 4), mode="reflect")
    assert torch.equal(network(noisy), network(extended)[..., :12, :21])


def test_gradients_reach_everything(contract):
    contract.check_gradients(tiny(), 5)


def test_the_start_comes_from_the_generator(contract):
    contract.check_start(tiny)
    assert tiny().stages[0].blocks[0].attn.spectral.memory.std().item() == pytest.approx(1, abs=0.5)


def test_other_numbers_of_bands_are_refused():
    with pytest.raises(ValueError, match=r"^input \(1, 6, 8, 8\) must be \(images, 5 bands, rows, columns\)$"):
        tiny()(torch.zeros(1, 6, 8, 8))


def test_a_configuration_survives_json():
    assert SERTConfig(**json.loads(json.dumps(asdict(SERTConfig())))) == SERTConfig()


@pytest.mark.parametrize("fields, message", [
    ({"bands": 0}, "^bands=0 must be at least 1$"),
    ({"windows": (16, 0, 32)}, r"^windows=\(16, 0, 32\) must hold whole numbers of at least 1$"),
    ({"windows": (16, 32)}, r"^windows=\(16, 32\) and splits=\(1, 2, 4\) must hold one number for each stage$"),
    ({"splits": (1, 2, 5)}, "^windows of 32 pixels cannot be split into rectangles of 5$"),
    ({"heads": 3}, "^heads=3 must be even and divide width=96$"),
    ({"heads": 10}, "^heads=10 must be even and divide width=96$"),
    ({"width": 12}, "^width=12 must be a multiple of 8$"),
])
def test_configurations_that_make_no_network_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        SERTConfig(**fields)


def test_the_windows_of_the_released_model_for_urban_are_told_by_its_width():
    """They leave no trace in the shapes of the parameters; with those of the other models it would be a wrong network."""
    def state(width: int) -> dict[str, torch.Tensor]:
        stages = {f"layers.0.smsblock.{number}.norm1.weight": torch.empty(width) for number in range(6)}
        block = "layers.0.smsblock.0"
        return stages | {
            "conv_first.weight": torch.empty(width, 210, 3, 3), f"{block}.attns.c_attns.cab.3.mb": torch.empty(width // 4, 128),
            f"{block}.mlp.fc1.weight": torch.empty(2 * width, width),
        }

    urban, usual = config_of(state(192)), config_of(state(96))
    assert (urban.bands, urban.width, urban.windows, urban.splits) == (210, 192, (8, 16, 16), (2, 4, 4))
    assert (usual.windows, usual.splits) == (SERTConfig().windows, SERTConfig().splits)
