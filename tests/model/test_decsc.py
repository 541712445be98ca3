"""model.decsc: sizes, cost, the layer f against Eqs. (9) and (20), the forward pass, gradients, initial weights."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict
import math
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from decsc_core import deq
from decsc_core.model import DECSC, PRESETS, DECSCConfig, SolverConfig, preset
from decsc_core.model.decsc import Layer, spectral_norm
from decsc_core.model.noise_levels import band_weights
from decsc_core.model.shifts import all_shifts, crop_shifts, split_shifts, spread_shifts

PRIORS = ("swin", "vmamba")


def image(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random(shape)).to(dtype)


def tiny(**changes) -> DECSCConfig:
    """The tiny preset on 5 bands and one block, enough for every term."""
    return preset("tiny", **{"bands": 5, "depth": 1, "solver": SolverConfig(max_iter=6)} | changes)


def calm(config: DECSCConfig, seed: int = 0) -> DECSC:
    """A float64 network whose f contracts, with weights of a size that matters everywhere."""
    model = DECSC(config, torch.Generator().manual_seed(seed)).double().eval()
    noise = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in model.prior_unshared.difference.parameters():
            parameter.mul_(0.1)
        for name, parameter in model.named_parameters():
            scale = 0.003 if "copies" in name or "threshold" in name or "prior_unshared" in name else 0.05
            parameter.add_(scale * torch.randn(parameter.shape, generator=noise, dtype=parameter.dtype))
    return model


def count(module: nn.Module | dict) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope="module")
def papers() -> dict[str, DECSC]:
    """The paper's two networks as initialised; not to be changed."""
    return {prior: DECSC(preset("paper", prior=prior)) for prior in PRIORS}


def largest_singular_value(matrix: Tensor) -> float:
    return torch.linalg.eigvalsh(matrix @ matrix.T)[-1].sqrt().item()


# Sizes and cost


@pytest.mark.parametrize("prior, total, prior_shared", [
    ("swin", 4_295_152, 1_782_592), ("vmamba", 5_056_944, 2_544_384),
])
def test_parameters_of_the_papers_networks(papers, prior, total, prior_shared):
    model = papers[prior]
    assert count(model) == total
    assert count(model.prior_shared) == prior_shared == 4 * count(model.prior_shared.blocks[0])
    assert count(model.prior_unshared) == 995_952
    assert count(model.shared) == 3 * 192 * 31 * 81 and count(model.unshared) == 3 * 96 * 243
    assert model.shared_threshold.numel() == 192 and model.unshared_threshold.numel() == 96


@pytest.mark.parametrize("prior", PRIORS)
def test_the_papers_tie_saves_two_copies_of_each_dictionary(papers, prior):
    tied = DECSC(preset("paper", prior=prior, tie="paper"))
    assert count(papers[prior]) - count(tied) == 2 * (192 * 31 * 81 + 96 * 243)


@pytest.mark.parametrize("prior, side, copies, giga_macs", [
    ("swin", 79, 49, 118.8), ("swin", 142, 49, 401.6), ("swin", 64, 1, 1.40), ("vmamba", 79, 49, 122.3),
    ("vmamba", 142, 49, 404.3),
])
def test_macs_of_one_evaluation(papers, prior, side, copies, giga_macs):
    """MACs of f at 64 and 128 pixels a side, 79 and 142 when padded for shifts, and at 64 without padding.

    They are counted on one copy without computing anything. Two things that a counter of operations sees otherwise than
    one of layers are put right: D synthesises every band from three code slices, and 6 of the 93 are zeros beyond the
    first and last band; and the recurrence of a scan is elementwise, one product a state for decay and one for drive.
    """
    model = copy.deepcopy(papers[prior]).to("meta")
    layer = Layer(model, torch.empty(1, 31, side, side, device="meta"))
    z = torch.empty(1, sum(map(math.prod, layer.shapes)), device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        layer(z)
    positions = math.prod(layer.shapes[0][1:])
    macs = counter.get_total_flops() / 2 - 2 * 6 * 81 * 96 * positions
    if prior == "vmamba":
        macs += 4 * 4 * 384 * 16 * positions * 2
    assert copies * macs / 1e9 == pytest.approx(giga_macs, rel=0.004)


# The layer


def literal_layer(model: DECSC, noisy: Tensor) -> tuple:
    """What Eq. (9) is made of, by torch's own convolutions: K, D, W_K, W_D, R_K, R_D, Soft_1, Soft_2, Net_1, Net_2."""
    s, bands, size = model.config.stride, noisy.shape[1], noisy.shape[2:]

    def conv(kernel: Tensor):
        return lambda x: F.conv2d(x, kernel, stride=s)

    def conv_3d(kernel: Tensor):
        return lambda x: F.conv3d(x[:, None], kernel[:, None], stride=(1, s, s))

    def fit(x: Tensor) -> Tensor:
        return F.pad(x, (0, size[1] - x.shape[-1], 0, size[0] - x.shape[-2]))

    def transposed(kernel: Tensor):
        return lambda S: fit(F.conv_transpose2d(S, kernel, stride=s))

    def transposed_3d(kernel: Tensor):
        return lambda H: fit(F.conv_transpose3d(H, kernel[:, None], stride=(1, s, s))[:, 0])

    def soft(x: Tensor, theta: Tensor) -> Tensor:
        return x.sign() * (x.abs() - theta).clamp_min(0) / (1 + model.config.ridge)

    K, D = model.shared, model.unshared
    theta_1, theta_2 = model.thresholds()
    assert bands == model.config.bands and theta_1.min() > 0 and theta_2.min() > 0
    return (
        transposed(K.kernel("synthesis")), transposed_3d(D.kernel("synthesis")),
        conv(K.kernel("analysis")), conv_3d(D.kernel("analysis")),
        transposed(K.kernel("reconstruction")), transposed_3d(D.kernel("reconstruction")),
        lambda x: soft(x, theta_1), lambda x: soft(x, theta_2),
        model.prior_shared, lambda x: model.prior_unshared(x, model.prior_unshared.difference.fuse()),
    )


def codes(layer: Layer, seed: int = 5) -> Tensor:
    n = len(layer.noisy)
    draw = np.random.default_rng(seed).standard_normal((n, sum(map(math.prod, layer.shapes))))
    return torch.from_numpy(0.3 * draw)


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("detail", ["released", "paper"])
@pytest.mark.parametrize("size", [(11, 14), (12, 10)])
def test_one_evaluation_is_equations_9_and_20_literally(prior, detail, size):
    """With one dictionary for each part, W_K = K^T and W_D = D^T."""
    model = calm(tiny(prior=prior, detail=detail, tie="paper", fidelity="uniform"))
    Y = image(2, 5, *size)
    layer = Layer(model, Y)
    z = codes(layer)
    with torch.no_grad():
        K, D, K_T, D_T, _, _, Soft_1, Soft_2, Net_1, Net_2 = literal_layer(model, Y)
        S, H = layer.unpack(z)
        S = Net_1(Soft_1(S + K_T(Y - K(S) - D(H))))
        H = Net_2(Soft_2(H + D_T(Y - K(S) - D(H))))
        torch.testing.assert_close(layer(z), torch.cat([S.flatten(1), H.flatten(1)], 1), rtol=0, atol=1e-11)
        C, U = layer.reconstruct(z)
        S, H = layer.unpack(z)
        torch.testing.assert_close(C, K(S), rtol=0, atol=1e-12)
        torch.testing.assert_close(U, D(H), rtol=0, atol=1e-12)


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("fidelity", ["uniform", "noise-weighted"])
def test_the_released_layer_takes_the_other_part_from_the_reconstruction_copies(prior, fidelity):
    """Each misfit of the data is weighted band by band where bands have weights."""
    model = calm(tiny(prior=prior, fidelity=fidelity))
    Y = image(2, 5, 12, 10) * torch.tensor([0.1, 1, 0.3, 2, 0.6])[:, None, None]
    w = band_weights(Y) if fidelity == "noise-weighted" else torch.ones(2, 5, 1, 1)
    assert (w.std() > 0.1) == (fidelity == "noise-weighted")
    layer = Layer(model, Y)
    z = codes(layer)
    with torch.no_grad():
        K, D, W_K, W_D, R_K, R_D, Soft_1, Soft_2, Net_1, Net_2 = literal_layer(model, Y)
        S, H = layer.unpack(z)
        S = Net_1(Soft_1(S - W_K(w * (K(S) - (Y - R_D(H))))))
        H = Net_2(Soft_2(H - W_D(w * (D(H) - (Y - R_K(S))))))
        torch.testing.assert_close(layer(z), torch.cat([S.flatten(1), H.flatten(1)], 1), rtol=0, atol=1e-11)
        S = Net_1(Soft_1(W_K(w * Y)))
        H = Net_2(Soft_2(W_D(w * (Y - R_K(S)))))
        torch.testing.assert_close(layer.initial(), torch.cat([S.flatten(1), H.flatten(1)], 1), rtol=0, atol=1e-11)
        S, H = layer.unpack(z)
        for found, expected in zip(layer.reconstruct(z), (R_K(S), R_D(H))):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_packing_is_the_shared_codes_then_the_unshared_ones():
    layer = Layer(calm(tiny()), image(2, 5, 11, 14))
    assert layer.shapes == ((16, 3, 4), (4, 3, 3, 4))
    z = codes(layer)
    S, H = layer.unpack(z)
    assert S.shape == (2, 16, 3, 4) and H.shape == (2, 4, 3, 3, 4)
    assert torch.equal(S.flatten(), z[:, :192].flatten()) and torch.equal(layer.pack(S, H), z)


@pytest.mark.parametrize("ridge", [0.0, 0.05, 0.7])
def test_shrinking_is_the_proximal_map_of_theta_l1_and_half_kappa_l2(ridge):
    model = calm(tiny(ridge=ridge))
    model.prior_shared = nn.Identity()
    layer = Layer(model, image(1, 5, 5, 5))
    v = torch.linspace(-0.4, 0.5, 16, dtype=torch.float64).view(1, 16, 1, 1)
    grid = torch.linspace(-1, 1, 40001, dtype=torch.float64)
    with torch.no_grad():
        found, theta = layer.shrink_shared(v).flatten(), model.thresholds()[0].flatten()
    for value, weight, result in zip(v.flatten(), theta, found):
        objective = (grid - value).square() / 2 + weight * grid.abs() + ridge * grid.square() / 2
        assert abs(result - grid[objective.argmin()]) <= 5e-5


def test_positive_thresholds_stay_positive_and_free_ones_are_used_as_they_are():
    for kind, raw in (("positive", -3.0), ("free", -0.2)):
        model = DECSC(tiny(thresholds=kind))
        for theta in model.thresholds():
            torch.testing.assert_close(theta, torch.full_like(theta, 0.01))
        with torch.no_grad():
            model.shared_threshold.fill_(raw)
        expected = math.log1p(math.exp(raw)) if kind == "positive" else raw
        torch.testing.assert_close(model.thresholds()[0], torch.full((16, 1, 1), expected))


# The forward pass


@pytest.mark.parametrize("prior", PRIORS)
def test_forward_averages_the_shifts(prior):
    model = calm(tiny(prior=prior, shifts=4))
    noisy = image(2, 5, 10, 13)
    with torch.no_grad():
        found = model.without_misfit(noisy)
        alone = [model.without_misfit(noisy, [shift]) for shift in spread_shifts(3, 4)]
        assert all((one.spread == 0).all() for one in alone)
        images = torch.stack([one.image for one in alone])
        torch.testing.assert_close(found.image, images.mean(0), rtol=0, atol=1e-9)
        torch.testing.assert_close(found.spread, images.std(0, correction=0), rtol=0, atol=1e-7)
    assert found.spread.max() > 1e-4
    assert found.solution.iterations.shape == (4 * 2,)
    assert found.jacobian is None


def test_forward_is_split_solve_reconstruct_crop():
    model = calm(tiny(shifts=9))
    noisy = image(1, 5, 8, 7)
    with torch.no_grad():
        layer = Layer(model, split_shifts(noisy, 5, 3, all_shifts(3)))
        solution = deq.solve(layer, layer.initial(), max_iter=6)
        z = solution.z
        for _ in range(5):
            z = layer(z)
        expected = crop_shifts(layer.image(z), (8, 7), 3, all_shifts(3)).mean(0)
        found = model.without_misfit(noisy)
    torch.testing.assert_close(found.image, expected, rtol=0, atol=1e-12)
    assert torch.equal(found.solution.residuals, solution.residuals)


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("gradient", ["phantom", "implicit", "unrolled"])
def test_an_image_does_not_depend_on_its_batch(prior, gradient):
    model = calm(tiny(prior=prior, gradient=gradient, shifts=2, solver=SolverConfig(max_iter=40)))
    noisy = torch.cat([image(1, 5, 9, 10, seed=1), 0.05 * image(1, 5, 9, 10, seed=2), 3 + image(1, 5, 9, 10, seed=3)])
    with torch.no_grad():
        together = model(noisy)
        for n in range(3):
            torch.testing.assert_close(model(noisy[n : n + 1]).image[0], together.image[n], rtol=0, atol=1e-9)
        assert torch.equal(model(noisy).image, together.image)
    if together.solution is not None:
        assert len(set(together.solution.iterations.tolist())) > 1, "the images are meant to stop at different steps"


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("bands, size", [(3, (1, 1)), (5, (9, 50)), (31, (7, 13)), (46, (6, 5)), (31, (1, 20))])
def test_any_number_of_bands_and_any_size(prior, bands, size):
    model = DECSC(preset("tiny", prior=prior, bands=bands, solver=SolverConfig(max_iter=2))).eval()
    with torch.no_grad():
        output = model(image(2, bands, *size, dtype=torch.float32))
    for result in (output.image, output.spread):
        assert result.shape == (2, bands, *size) and result.dtype == torch.float32 and result.isfinite().all()


@pytest.mark.parametrize("kernel, stride", [(9, 7), (9, 4), (5, 5), (9, 1), (3, 2)])
def test_a_long_strip_and_a_single_pixel_with_any_stride(kernel, stride):
    model = DECSC(tiny(kernel=kernel, stride=stride, shifts=1, solver=SolverConfig(max_iter=1))).eval()
    with torch.no_grad():
        for size in ((9, 200), (1, 1)):
            assert model(image(1, 5, *size, dtype=torch.float32)).image.shape == (1, 5, *size)


@pytest.mark.parametrize("shape", [(5, 8, 8), (1, 4, 8, 8), (1, 8, 8, 5)])
def test_input_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"^input \(.*\) must be \(images, 5 bands, rows, columns\)$"):
        DECSC(tiny())(torch.zeros(shape))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float64])
def test_input_of_another_type_is_refused(dtype):
    with pytest.raises(ValueError, match=rf"^input of {dtype} must be of torch\.float32, as the network is"):
        DECSC(tiny())(torch.zeros(1, 5, 8, 8, dtype=dtype))
    with pytest.raises(ValueError, match=r"^input of torch\.float32 must be of torch\.float64, as the network is"):
        DECSC(tiny()).double()(torch.zeros(1, 5, 8, 8))


@pytest.mark.parametrize("shifts", [[], [(9, 9)], [(-1, 0)], [(0, 0), (0, 7)], [(0.5, 1)]])
def test_shifts_that_the_stride_does_not_have_are_refused(shifts):
    with pytest.raises(ValueError, match=r"^shifts=\[.*\] must be pairs of whole numbers from 0 to \d, at least one pair$"):
        DECSC(tiny())(torch.zeros(1, 5, 8, 8), shifts)


def test_shifts_and_the_most_evaluations_can_be_replaced():
    model = calm(tiny(solver=SolverConfig(rel_tol=0.0)))
    noisy = image(1, 5, 8, 8)
    with torch.no_grad():
        output = model(noisy, [(1, 2)], max_iter=3)
    assert output.solution.iterations.tolist() == [3]


# Gradients


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("tie", ["released", "paper"])
@pytest.mark.parametrize("gradient", ["phantom", "implicit", "unrolled"])
@pytest.mark.filterwarnings("ignore:implicit gradient")
def test_gradients_reach_every_parameter(prior, tie, gradient):
    model = calm(tiny(prior=prior, tie=tie, gradient=gradient)).train()
    noisy = image(2, 5, 14, 14)
    F.mse_loss(model(noisy, [(1, 0)]).image, image(2, 5, 14, 14, seed=1)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 1e-10 and (parameter.grad != 0).double().mean() > 0.9, name


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("gradient", ["unrolled", "implicit"])
def test_gradients_agree_with_finite_differences(prior, gradient, monkeypatch):
    """Along a random direction in the space of all parameters; fixed point and backward equation solved to rounding."""
    monkeypatch.setattr(deq, "implicit", partial(deq.implicit, rel_tol=1e-11, max_iter=300))
    solver = SolverConfig(max_iter=3) if gradient == "unrolled" else SolverConfig(rel_tol=1e-13, max_iter=300)
    model = calm(tiny(prior=prior, gradient=gradient, solver=solver, misfit=0.0))  # whose level and sigma take no gradient
    noisy, clean = image(1, 5, 9, 8), image(1, 5, 9, 8, seed=1)
    parameters = list(model.parameters())
    generator = torch.Generator().manual_seed(3)
    direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) * p.detach().abs().mean() for p in parameters]

    def loss() -> Tensor:
        output = model(noisy, [(0, 1)])
        assert gradient == "unrolled" or output.solution.converged.all()
        return F.mse_loss(output.image, clean)

    loss().backward()
    slope = sum((p.grad * d).sum() for p, d in zip(parameters, direction))
    values = []
    for step in (1e-6, -2e-6):
        with torch.no_grad():
            for p, d in zip(parameters, direction):
                p.add_(step * d)
            values.append(loss())
    torch.testing.assert_close(slope, (values[0] - values[1]) / 2e-6, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("prior", PRIORS)
def test_a_long_phantom_gradient_is_the_implicit_one(prior):
    solver = SolverConfig(rel_tol=1e-12, max_iter=300)
    noisy, gradients = image(1, 5, 9, 8), {}
    for gradient, dampings in (("implicit", (1.0,)), ("phantom", (1.0,) * 60), ("short", (1.0,))):
        kind = "implicit" if gradient == "implicit" else "phantom"
        model = calm(tiny(prior=prior, gradient=kind, phantom=dampings, solver=solver))
        F.mse_loss(model(noisy, [(0, 1)]).image, 0 * noisy).backward()
        gradients[gradient] = torch.cat([p.grad.flatten() for p in model.parameters()])
    exact = gradients["implicit"]
    assert (gradients["phantom"] - exact).norm() < 1e-3 * exact.norm()
    assert (gradients["short"] - exact).norm() > 1e-2 * exact.norm()


@pytest.mark.parametrize("prior", PRIORS)
def test_the_jacobian_penalty_estimates_the_mean_square_of_the_jacobian(prior):
    """A batch of one image, 50 times, has 50 probes at a time."""
    config = tiny(prior=prior, shared_atoms=8, unshared_atoms=2, bands=3, heads=2, phantom=(1.0,))
    model, noisy, rng = calm(config), image(1, 3, 3, 3), np.random.default_rng(0)
    with torch.no_grad():
        draws = torch.stack([model(noisy.expand(50, -1, -1, -1), [(0, 0)], probe=rng).jacobian for _ in range(6)])
        layer = Layer(model, split_shifts(noisy, 5, 3, [(0, 0)]))
        z, _ = model.equilibrium(layer)
    dense = torch.autograd.functional.jacobian(layer, z)[0, :, 0]
    assert dense.shape == (z.shape[1], z.shape[1])
    assert draws.mean().item() == pytest.approx(dense.square().sum().item() / len(dense), rel=0.1)
    assert draws.min() > 0


@pytest.mark.parametrize("prior", PRIORS)
def test_the_jacobian_penalty_can_be_minimised(prior):
    model = calm(tiny(prior=prior)).train()
    noisy, shifts = image(2, 5, 9, 8), [(0, 0), (1, 2)]
    penalty = model(noisy, shifts, probe=np.random.default_rng(1)).jacobian
    again = model(noisy, shifts, probe=np.random.default_rng(1)).jacobian
    assert penalty.ndim == 0 and penalty > 0 and torch.equal(penalty, again)
    penalty.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    parts = {name.split(".")[0] for name, gradient in gradients.items() if gradient.abs().max() > 1e-9}
    assert parts >= {"shared", "unshared", "prior_shared", "prior_unshared"}
    step = 1e-2 / sum(gradient.square().sum() for gradient in gradients.values()).sqrt()
    with torch.no_grad():
        for name, gradient in gradients.items():
            model.get_parameter(name).sub_(step * gradient)
    assert model(noisy, shifts, probe=np.random.default_rng(1)).jacobian < penalty


# Initial weights


def test_released_initialisation_redraws_the_analysis_copies(papers):
    model = papers["swin"]
    for dictionary, drawn in ((model.shared, 0.01134), (model.unshared, 0.00926)):
        copies = {role: kernel.detach() for role, kernel in dictionary.copies.items()}
        assert torch.equal(copies["synthesis"], copies["reconstruction"])
        assert copies["synthesis"].std().item() == pytest.approx(drawn / math.sqrt(1000), rel=0.02)
        assert copies["analysis"].std().item() == pytest.approx(drawn, rel=0.02)
        together = torch.stack([copies["analysis"].flatten(), copies["synthesis"].flatten()])
        assert abs(torch.corrcoef(together)[0, 1]) < 0.05


def test_tied_initialisation_keeps_the_three_copies_equal(papers):
    model = DECSC(preset("paper", init="tied"))
    for dictionary, drawn in ((model.shared, 0.01134), (model.unshared, 0.00926)):
        analysis, synthesis, reconstruction = dictionary.copies.values()
        assert torch.equal(analysis, synthesis) and torch.equal(synthesis, reconstruction)
        assert synthesis.std().item() == pytest.approx(drawn / math.sqrt(1000), rel=0.02)
    assert torch.equal(model.shared.copies["synthesis"], papers["swin"].shared.copies["synthesis"])


@pytest.mark.parametrize("seed", range(3))
def test_normalized_initialisation_gives_dictionaries_of_norm_1(seed):
    """Against a dense singular value decomposition; the power iteration that scales them is stopped early."""
    model = DECSC(tiny(), torch.Generator().manual_seed(seed)).double()
    side = 5 + 6 * 3
    for dictionary in (model.shared, model.unshared):
        shape = dictionary.analyse(torch.zeros(1, 5, side, side, dtype=torch.float64)).shape[1:]
        every = torch.eye(math.prod(shape), dtype=torch.float64).view(-1, *shape)
        with torch.no_grad():
            dense = dictionary.synthesise(every, (side, side)).flatten(1)
        assert largest_singular_value(dense) == pytest.approx(1, abs=0.04)
        copies = list(dictionary.copies.values())
        assert torch.equal(copies[0], copies[1]) and torch.equal(copies[1], copies[2])


def test_spectral_norm_converges_to_the_largest_singular_value():
    model = calm(tiny(tie="paper"))
    generator = torch.Generator().manual_seed(0)
    for dictionary in (model.shared, model.unshared):
        dictionary.float()
        shape = dictionary.analyse(torch.zeros(1, 5, 23, 23)).shape[1:]
        with torch.no_grad():
            dense = dictionary.synthesise(torch.eye(math.prod(shape)).view(-1, *shape), (23, 23)).flatten(1)
        largest = largest_singular_value(dense.double())
        assert spectral_norm(dictionary, 5, generator, 200) == pytest.approx(largest, rel=5e-3)


def test_the_priors_start_as_the_released_ones(papers):
    model = papers["swin"]
    for module in model.prior_shared.modules():
        if isinstance(module, nn.Linear):
            assert module.weight.std().item() == pytest.approx(1e-3, rel=0.03) and (module.bias == 0).all()
        if isinstance(module, nn.LayerNorm):
            assert (module.weight == 1).all() and (module.bias == 0).all()
    detail = model.prior_unshared
    for name, weight in detail.difference.weights.items():
        assert weight.std().item() == pytest.approx(math.sqrt(2 / (96 * 3 ** (weight.ndim - 2))), rel=0.02), name
        assert (detail.difference.biases[name] == 0).all()
    for convolution, out in ((detail.reduce, 48), (detail.select, 96)):
        assert convolution.weight.std().item() == pytest.approx(math.sqrt(2 / (out * 27)), rel=0.02)
        assert (convolution.bias == 0).all()


@pytest.mark.parametrize("prior", PRIORS)
def test_initial_weights_come_from_the_generator_alone(prior):
    torch.manual_seed(1)
    first = DECSC(tiny(prior=prior), torch.Generator().manual_seed(7)).state_dict()
    torch.manual_seed(2)
    again = DECSC(tiny(prior=prior), torch.Generator().manual_seed(7)).state_dict()
    other = DECSC(tiny(prior=prior), torch.Generator().manual_seed(8)).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


# Configurations


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("prior", PRIORS)
def test_presets_build_and_survive_json(name, prior):
    config = preset(name, prior=prior)
    assert DECSCConfig(**json.loads(json.dumps(asdict(config)))) == config
    assert config.prior == prior and PRESETS[name].prior == "swin"
    assert count(DECSC(config)) > 0


def test_the_paper_preset_is_the_released_network():
    config = preset("paper")
    assert (config.bands, config.shared_atoms, config.unshared_atoms) == (31, 192, 96)
    assert (config.kernel, config.stride, config.fidelity) == (9, 7, "uniform")
    assert (config.depth, config.heads, config.window, config.states, config.shifts) == (4, 16, 4, 16, 49)
    assert config.phantom == deq.RELEASED_DAMPINGS and config.solver.max_iter == 20 and config.solver.rel_tol == 1e-3


@pytest.mark.parametrize("changes, message", [
    ({"prior": "resnet"}, "prior='resnet'; choose one of swin, vmamba"),
    ({"tie": "loose"}, "tie='loose'; choose one of released, paper"),
    ({"detail": "none"}, "detail='none'; choose one of released, paper"),
    ({"detail_parts": ("edges",)}, "detail_parts=('edges',) must hold nothing but difference and attention"),
    ({"init": "zero"}, "init='zero'; choose one of released, tied, normalized"),
    ({"thresholds": "negative"}, "thresholds='negative'; choose one of free, positive"),
    ({"fidelity": "blind"}, "fidelity='blind'; choose one of uniform, noise-weighted"),
    ({"gradient": "exact"}, "gradient='exact'; choose one of phantom, implicit, unrolled"),
    ({"bands": 2}, "bands=2; the 3-D atoms need at least 3"),
    ({"stride": 0}, "stride=0 must lie between 1 and the kernel side 9"),
    ({"stride": 10}, "stride=10 must lie between 1 and the kernel side 9"),
    ({"shifts": 50}, "shifts=50 must lie between 1 and stride^2 = 49"),
    ({"train_shifts": 0}, "train_shifts=0 must lie between 1 and stride^2 = 49"),
    ({"shared_atoms": 0}, "shared_atoms=0 must be at least 1"),
    ({"misfit": float("inf")}, "misfit=inf must be a number"),
    ({"unshared_atoms": 1}, "unshared_atoms=1 must be at least 2"),
    ({"heads": 0}, "heads=0 must be at least 1"),
    ({"ridge": -0.1}, "ridge=-0.1 must be at least 0"),
    ({"misfit": -0.1}, "misfit=-0.1 must be at least 0"),
    ({"phantom": ()}, "phantom=() must hold at least one damping"),
    ({"phantom": (1.0, 0.0)}, "phantom=(1.0, 0.0) must hold at least one damping"),
    ({"solver": {"max_iter": 0}}, "max_iter must be a whole number of at least 1 with stop='sample', got 0"),
    ({"solver": {"method": "newton"}}, "method must be one of picard, anderson, broyden, got 'newton'"),
])
def test_impossible_configurations_are_refused_in_one_line(changes, message):
    with pytest.raises(ValueError) as error:
        preset("paper", **changes)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match="^preset 'huge' does not exist; choose one of paper, small, tiny$"):
        preset("huge")
