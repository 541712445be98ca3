"""networks.mtsnnpp, our reconstruction of MTSNN++: against its own equations, patch by patch, and as convolutions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from decsc_core.model.gross import cut, nearer
from decsc_core.networks import mtsnnpp
from decsc_core.networks.mtsnnpp import MTSNNPP, PRESETS, MTSNNPPConfig
from decsc_core.weights import WeightsError, from_official_state

TINY = MTSNNPPConfig(**PRESETS["tiny"] | {"bands": 3})


def tiny(generator: torch.Generator | None = None) -> MTSNNPP:
    return MTSNNPP(TINY, generator)


def untied(config: MTSNNPPConfig = TINY) -> MTSNNPP:
    """Every copy and threshold different."""
    network, generator = MTSNNPP(config).double().eval(), torch.Generator().manual_seed(3)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    return network


def soft(x: Tensor, threshold: Tensor) -> Tensor:
    return F.relu(x - threshold) - F.relu(-x - threshold)


def literal_codes(network: MTSNNPP, Y: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The unrolled steps as the module's docstring writes them, for the patches Y (B, p^2) of one place."""
    bands = range(len(Y))
    P, D = network.shared["analysis"], network.shared["synthesis"]
    Q, U = network.unshared["analysis"], network.unshared["synthesis"]
    A = Y.new_zeros(P.shape[1])
    E = [Y.new_zeros(Q.shape[1]) for _ in bands]
    for t, s in zip(network.shared_thresholds, network.unshared_thresholds):
        A = soft(A + sum(P[b] @ (Y[b] - D[b].T @ A - U[b].T @ E[b]) for b in bands), t[:, 0])
        E = [soft(E[b] + Q[b] @ (Y[b] - D[b].T @ A - U[b].T @ E[b]), s[b, :, 0]) for b in bands]
    return A, E


@torch.no_grad()
def test_the_network_is_its_equations_patch_by_patch():
    network, side = untied(replace(TINY, steps=3)), TINY.patch
    noisy = torch.rand(1, 3, 4, 6, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    image = F.pad(noisy, [3] * 4, mode="reflect")  # a pixel less than all patches need, the outer ring is left out
    G, R = network.shared["reconstruction"], network.unshared["reconstruction"]
    total, covered = torch.zeros_like(image)[0], torch.zeros(image.shape[-2:])
    for top in range(image.shape[-2] - side + 1):
        for left in range(image.shape[-1] - side + 1):
            where = (..., slice(top, top + side), slice(left, left + side))
            patches = image[0][where].flatten(1)
            mean = patches.mean(1, keepdim=True)
            A, E = literal_codes(network, patches - mean)
            made = torch.stack([G[b].T @ A + R[b].T @ E[b] for b in range(3)]) + mean
            total[where] += made.view(3, side, side)
            covered[where] += 1
    inner = (..., slice(4, -4), slice(4, -4))
    assert (covered[inner] == side**2).all()
    expected = (total / covered)[inner]
    torch.testing.assert_close(network(noisy)[0, :, 1:-1, 1:-1], expected, rtol=0, atol=1e-12)


@torch.no_grad()
def test_analysis_and_synthesis_are_convolutions():
    """Analysis is a valid one; synthesis, its overlapping patches added up, a transposed one."""
    network, side = untied(), TINY.patch
    image = torch.rand(1, 3, 9, 8, dtype=torch.float64)
    patches = rearrange(F.unfold(image, side), "1 (b p) l -> b p l", b=3)
    shared, unshared = (
        {role: rearrange(copy, "b m (y x) -> m b y x", y=side) for role, copy in copies.items()}
        for copies in (network.shared, network.unshared)
    )
    A, E = network.analyse(patches)
    torch.testing.assert_close(A.view(8, 5, 4), F.conv2d(image, shared["analysis"])[0], rtol=0, atol=1e-12)
    each = [F.conv2d(image[:, [b]], unshared["analysis"][:, [b]])[0] for b in range(3)]
    torch.testing.assert_close(E.view(3, 2, 5, 4), torch.stack(each), rtol=0, atol=1e-12)
    made = F.fold(network.synthesise(A, E).flatten(0, 1)[None], (9, 8), side)
    expected = F.conv_transpose2d(A.view(1, 8, 5, 4), shared["reconstruction"])
    for b in range(3):
        expected[:, [b]] += F.conv_transpose2d(E[b].view(1, 2, 5, 4), unshared["reconstruction"][:, [b]])
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-12)


@torch.no_grad()
def test_analysis_is_the_adjoint_of_synthesis_at_the_start():
    network = tiny().double()
    patches = torch.randn(3, TINY.patch**2, 50, dtype=torch.float64)
    A, E = torch.randn(8, 50, dtype=torch.float64), torch.randn(3, 2, 50, dtype=torch.float64)
    analysed = network.analyse(patches)
    for role in ("synthesis", "reconstruction"):
        expected = (patches * network.synthesise(A, E, role)).sum()
        found = (analysed[0] * A).sum() + (analysed[1] * E).sum()
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


@torch.no_grad()
def test_every_step_lowers_the_objective_at_the_start():
    """With tied dictionaries of norm 1 the steps are proximal gradient steps of at most the permitted length."""
    patches = torch.randn(3, TINY.patch**2, 20, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    patches -= patches.mean(1, keepdim=True)
    values = [patches.square().sum() / 2]
    for steps in range(1, 7):
        network = MTSNNPP(replace(TINY, steps=steps)).double()
        A, E = network.codes(patches, network.products())
        rest = patches - network.synthesise(A, E, "synthesis")
        values.append(rest.square().sum() / 2 + 0.01 * (A.abs().sum() + E.abs().sum()))
    assert all(after < before for before, after in zip(values, values[1:]))


@torch.no_grad()
def test_the_dictionaries_at_the_start():
    network = tiny()
    D, U = network.shared["synthesis"], network.unshared["synthesis"]
    for copies in (network.shared, network.unshared):
        assert all(torch.equal(copy, copies["synthesis"]) for copy in copies.values())
        assert copies["synthesis"].mean(-1).abs().max() < 1e-6
    assert torch.linalg.matrix_norm(rearrange(D, "b m p -> m (b p)"), ord=2).item() == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(torch.linalg.matrix_norm(U, ord=2), torch.ones(3), rtol=0, atol=1e-5)
    for thresholds in (network.shared_thresholds, network.unshared_thresholds):
        assert (thresholds == 0.01).all()


@torch.no_grad()
def test_a_constant_image_stays():
    level = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)[:, None, None].expand(1, 3, 7, 6)
    torch.testing.assert_close(untied()(level), level, rtol=0, atol=1e-12)


@torch.no_grad()
def test_strips_make_no_difference(monkeypatch):
    network, noisy = untied(), torch.rand(2, 3, 13, 9, dtype=torch.float64)
    found = []
    for patches in (1, 60, 10**6):
        monkeypatch.setattr(mtsnnpp, "STRIP", patches)
        found.append(network(noisy))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=0, atol=1e-12)


def scene() -> tuple[Tensor, Tensor]:
    """A smooth image of three bands with Gaussian noise, and the same with impulses in one band too."""
    generator = torch.Generator().manual_seed(6)
    ramp = torch.linspace(0.3, 0.7, 24, dtype=torch.float64)
    gaussian = ramp + 0.02 * torch.randn(1, 3, 24, 24, generator=generator, dtype=torch.float64)
    impulsive = gaussian.clone()
    impulsive[:, 1][torch.rand(1, 24, 24, generator=generator) < 0.1] = 1
    return gaussian, impulsive


@torch.no_grad()
def test_an_image_with_gross_errors_is_estimated_three_times():
    network = MTSNNPP(replace(TINY, gross_errors=0.015)).double().eval()
    gaussian, impulsive = scene()
    once, last = network.estimate(impulsive), network(impulsive)
    twice = network.estimate(nearer(impulsive, once, 0.015))
    torch.testing.assert_close(last, network.estimate(nearer(impulsive, twice, 0.015)), rtol=0, atol=0)
    off = [(image - gaussian)[:, 1].square().mean() for image in (once, twice, last)]
    assert off[2] < off[1] < off[0] and off[2] < off[0] / 2
    torch.testing.assert_close(network.train()(impulsive), network.estimate(cut(impulsive, once, 0.015)), rtol=0, atol=0)
    assert torch.equal(MTSNNPP(TINY).double().eval()(impulsive), once), "without the field there is one estimate"


@torch.no_grad()
def test_without_gross_errors_one_estimate_is_made(monkeypatch):
    network, made = MTSNNPP(replace(TINY, gross_errors=0.015)).double().eval(), []
    gaussian, impulsive = scene()
    monkeypatch.setattr(MTSNNPP, "estimate", lambda self, noisy, estimate=MTSNNPP.estimate: made.append(noisy) or estimate(self, noisy))
    network(gaussian)
    assert len(made) == 1
    both = network(torch.cat([gaussian, impulsive]))
    torch.testing.assert_close(both, torch.cat([network(gaussian), network(impulsive)]), rtol=0, atol=1e-12)


def test_parameters_of_the_guessed_size(contract):
    network = MTSNNPP()
    dictionaries = contract.tally(network.shared, network.unshared)
    assert dictionaries == 3 * 31 * 81 * (192 + 64) == 1928448
    assert contract.tally(network) == dictionaries + 9 * (192 + 31 * 64) == 1948032


def test_there_is_no_released_checkpoint():
    with pytest.raises(WeightsError, match="never released; this network is a reconstruction"):
        from_official_state("mtsnnpp", {"weight": torch.zeros(1)})


def test_any_size(contract):
    network = tiny()
    assert network.bands == network.config.bands == 3
    contract.check_evaluation(network, 3)


def test_gradients_reach_everything(contract):
    contract.check_gradients(tiny(), 3)
    contract.check_gradients(MTSNNPP(replace(TINY, gross_errors=0.015)), 3)


def test_the_start_comes_from_the_generator(contract):
    contract.check_start(tiny)


def test_other_numbers_of_bands_are_refused():
    with pytest.raises(ValueError, match=r"^input \(1, 6, 8, 8\) must be \(images, 3 bands, rows, columns\)$"):
        tiny()(torch.zeros(1, 6, 8, 8))


@pytest.mark.parametrize("fields, message", [
    ({"steps": 0}, "^steps=0 must be at least 1$"), ({"patch": 1}, "^patch=1 must be at least 2$"),
    ({"unshared_atoms": 0}, "^unshared_atoms=0 must be at least 1$"), ({"gross_errors": -0.1}, "^gross_errors=-0.1 must be at least 0$"),
])
def test_configurations_that_make_no_network_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        MTSNNPPConfig(**fields)
