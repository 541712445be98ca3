"""networks.hsdt against the released network's numbers and the contract of all learned networks."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from decsc_core.networks.hsdt import HSDT, PRESETS, GuidedAttention, HSDTConfig, ModulatedMlp, own_key


def tiny(generator: torch.Generator | None = None) -> HSDT:
    return HSDT(HSDTConfig(**PRESETS["tiny"] | {"bands": 5}), generator)


def test_it_gives_the_released_networks_numbers(golden):
    recorded = golden("hsdt_m", "hsdt")
    recorded.check_outputs("", "case2/")
    assert recorded.network().config == HSDTConfig()


@torch.no_grad()
def test_without_learned_queries_the_bands_ask_each_other(golden):
    """The recorded image without queries has 31 bands; here the queries are made unusable by being for 30."""
    recorded, network = golden("hsdt_m", "hsdt"), HSDT(HSDTConfig(bands=30))
    state = recorded.network().state_dict()
    kept = {name: t for name, t in state.items() if ".query." not in name}
    assert len(state) - len(kept) == 2 * 11
    network.load_state_dict(kept, strict=False)
    recorded.check(network.eval()(recorded["input"]), "flex/output")


@pytest.mark.parametrize("size, name, parameters", [
    ("paper-s", "hsdt_s", 134350), ("paper", "hsdt_m", 521158), ("paper-l", "hsdt_l", 2094786)])
def test_parameters_of_the_published_sizes(contract, check_full_size, size, name, parameters):
    network = check_full_size(name, "hsdt")
    assert network.config == HSDTConfig(**PRESETS[size])
    assert contract.tally(network) == parameters


def test_names_of_released_parameters():
    assert own_key("head.bn.num_batches_tracked") is None
    assert own_key("encoder.layers.1.conv.weight") == "encoder.1.conv.conv.weight"


@pytest.mark.parametrize("size, gmacs", [("paper-s", 3.16), ("paper", 12.14), ("paper-l", 16.78)])
def test_multiply_accumulates(contract, size, gmacs):
    assert contract.gmacs(HSDT(HSDTConfig(**PRESETS[size]))) == pytest.approx(gmacs, rel=0.01)


@pytest.mark.parametrize("bands", [1, 2, 5, 31])
def test_any_number_of_bands_and_any_size(contract, bands):
    network = tiny()
    assert network.bands is None
    contract.check_evaluation(network, bands)


@torch.no_grad()
def test_an_image_that_does_not_fit_is_extended_by_reflection():
    network = HSDT(HSDTConfig(bands=3, width=2, depth=7)).double().eval()
    noisy = torch.rand(1, 3, 14, 19, dtype=torch.float64)
    extended = F.pad(noisy, (0, 5, 0, 2), mode="reflect")
    torch.testing.assert_close(network(noisy), network(extended)[..., :14, :19], rtol=0, atol=0)


@torch.no_grad()
@pytest.mark.parametrize("bands", [4, 6])
def test_attention_mixes_whole_bands(bands):
    attention = GuidedAttention(4, 3, torch.Generator()).double().eval()
    grid = torch.randn(2, bands, 5, 7, 3, dtype=torch.float64)
    for image, result in zip(grid, attention(grid)):
        means = image.mean((1, 2))
        scores = attention.query(means) if bands == 4 else means @ means.T
        weights = scores.exp() / scores.exp().sum(1, keepdim=True)
        for band in range(bands):
            mixed = sum(weights[band, other] * image[other] @ attention.value.weight.T for other in range(bands))
            torch.testing.assert_close(result[band], mixed @ attention.out.weight.T, rtol=0, atol=1e-12)


@torch.no_grad()
def test_the_mlp_is_written_out():
    mlp = ModulatedMlp(3).double()
    x = torch.randn(2, 4, 5, 6, 3, dtype=torch.float64)
    a, b = mlp.gated(x).chunk(2, -1)
    torch.testing.assert_close(mlp(x), mlp.fc2(F.gelu(mlp.fc1(x))) + a * b.sigmoid(), rtol=0, atol=1e-12)


@torch.no_grad()
def test_training_draws_which_queries_to_use():
    """Half of the calls with the learned ones, by the network's own generator; none where their number does not fit."""
    attention = GuidedAttention(4, 3, torch.Generator().manual_seed(0)).train()
    grid = torch.randn(1, 4, 5, 7, 3)
    learned = attention.eval()(grid)
    attention.train()
    drawn = [torch.equal(attention(grid), learned) for _ in range(200)]
    assert 70 < sum(drawn) < 130
    attention.draws.manual_seed(0)
    assert [torch.equal(attention(grid), learned) for _ in range(200)] == drawn
    other = grid[:, :3]
    assert all(torch.equal(attention(other), attention.eval()(other)) for _ in range(8))


def test_the_choice_of_queries_is_seeded_and_survives_a_copy():
    def losses(network):
        noisy = torch.linspace(0, 1, 5 * 64).view(1, 5, 8, 8)
        return [network.train()(noisy).detach() for _ in range(6)]

    one, same, other = (tiny(torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    one_copied = copy.deepcopy(one)
    torch.manual_seed(0)
    expected = losses(one)
    torch.manual_seed(1)
    for network in (same, one_copied):
        assert all(torch.equal(a, b) for a, b in zip(losses(network), expected, strict=True))
    assert one.head.attention.draws.initial_seed() != other.head.attention.draws.initial_seed()


def test_gradients_reach_everything(contract):
    contract.check_gradients(tiny().eval(), 5)  # all queries learned


def test_the_start_is_xavier_normal_and_comes_from_the_generator(contract):
    contract.check_start(tiny)
    network = HSDT(generator=torch.Generator().manual_seed(3))
    spread = {
        "encoder.3.conv.conv.weight": (2 / (96 * 27)) ** 0.5, "encoder.4.conv.spatial.1.weight": (2 / (128 * 9)) ** 0.5,
        "encoder.4.mlp.fc1.weight": 1e-3,
    }
    for name, expected in spread.items():
        assert network.state_dict()[name].std().item() == pytest.approx(expected, rel=0.03), name


@pytest.mark.parametrize("fields, message", [
    ({"width": 0}, "^width=0 must be at least 1$"), ({"depth": 0}, "^depth=0 must be at least 1$"),
    ({"bands": 0}, "^bands=0 must be at least 1$"),
])
def test_sizes_that_make_no_network_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        HSDTConfig(**fields)
