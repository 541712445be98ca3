"""decsc_core.deq: against literal loops, known fixed points, torchdeq, and the recorded run of the released solver."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torchdeq
from torch import Tensor

from decsc_core.deq import PAPER_DAMPINGS, RELEASED, RELEASED_DAMPINGS, Solution, implicit, jacobian_penalty, phantom, solve
from decsc_core.deq import spectral_radius, unrolled

METHODS = ("picard", "anderson", "broyden")


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def linear(n: int, d: int, rate: float, seed: int = 0) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """A symmetric map with eigenvalues from -rate/2 to rate, and its fixed points (n, d)."""
    q, _ = torch.linalg.qr(normal(d, d, seed=seed))
    a = q @ torch.diag(torch.linspace(-rate / 2, rate, d)) @ q.T
    b = normal(n, d, seed=seed + 1)
    return lambda z: z @ a + b, torch.linalg.solve(torch.eye(d) - a, b, left=False)


def anderson_by_hand(f, z0, steps, memory, beta, ridge, relative=False):
    """Eqs. (15)-(16) one sample and one sum at a time; the points at which f is evaluated, (steps, N, d)."""
    paths = []
    for row in range(len(z0)):
        def single(z):
            return f(torch.from_numpy(z)[None].expand(len(z0), -1))[row].numpy()
        points = [z0[row].numpy()]
        while len(points) < steps:
            past = points[-memory:]
            images = [single(z) for z in past]
            g = np.array([fz - z for z, fz in zip(past, images)])
            m = len(past)
            gram = np.array([[sum(g[i] * g[j]) for j in range(m)] for i in range(m)])
            weight = ridge * np.mean(np.diag(gram)) if relative else ridge
            # stationarity of |G gamma|^2 + weight |gamma|^2 on sum gamma = 1: gamma along (G'G + weight I)^-1 1
            gamma = np.linalg.inv(gram + weight * np.eye(m)) @ np.ones(m)
            gamma = gamma / gamma.sum()
            points.append(sum((1 - beta) * gamma[i] * past[i] + beta * gamma[i] * images[i] for i in range(m)))
        paths.append(points)
    return np.array(paths).transpose(1, 0, 2)


# --- the value -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("beta", [1.0, 0.7])
@pytest.mark.parametrize("relative", [False, True])
def test_anderson_takes_the_points_of_equations_15_and_16(beta, relative):
    f, _ = linear(3, 9, 0.9)
    z0 = normal(3, 9, seed=5)
    found = solve(f, z0, "anderson", rel_tol=0, max_iter=9, memory=3, mixing=beta, ridge=1e-3,
                  ridge_mode="relative" if relative else "absolute", keep=True)
    expected = anderson_by_hand(f, z0, 9, 3, beta, 1e-3, relative)
    np.testing.assert_allclose(torch.stack(found.iterates).numpy(), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("mixing", [1.0, 0.6])
def test_picard_takes_damped_steps(mixing):
    f, _ = linear(2, 7, 0.8)
    z = normal(2, 7, seed=3)
    found = solve(f, z, "picard", rel_tol=0, max_iter=6, mixing=mixing, keep=True)
    for point in found.iterates:
        torch.testing.assert_close(point, z, rtol=0, atol=1e-13)
        z = z + mixing * (f(z) - z)


@pytest.mark.parametrize("memory", [6, 3])
def test_broyden_takes_the_points_of_dense_good_broyden_with_restarts(memory):
    f, _ = linear(2, 6, 0.9)
    z0 = normal(2, 6, seed=3)
    found = solve(f, z0, "broyden", rel_tol=0, max_iter=7, memory=memory, keep=True)
    for row in range(2):
        z, inverse, old = z0[row].numpy(), -np.eye(6), None
        for k, point in enumerate(found.iterates):
            if k == memory + 1:
                inverse = -np.eye(6)
            np.testing.assert_allclose(point[row].numpy(), z, rtol=0, atol=1e-8)
            g = f(torch.from_numpy(z)[None].expand(2, -1))[row].numpy() - z
            if old is not None:
                dz, dg = z - old[0], g - old[1]
                inverse = inverse + np.outer(dz - inverse @ dg, dz @ inverse) / (dz @ inverse @ dg)
            old = z, g
            z = z - inverse @ g


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype, rel_tol", [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_known_fixed_point(method, dtype, rel_tol):
    f, exact = linear(4, 30, 0.8)
    z0 = torch.zeros(4, 30, dtype=dtype)
    found = solve(lambda z: f(z.double()).to(dtype), z0, method, rel_tol=rel_tol, max_iter=300)
    assert found.z.dtype == dtype and found.converged.all() and found.converged.dtype == torch.bool
    assert found.residuals.shape == (int(found.iterations.max()), 4)
    # |z - z*| <= |f(z) - z| / (1 - rate)
    error = torch.linalg.vector_norm(found.z - exact, dim=1) / torch.linalg.vector_norm(exact, dim=1)
    assert error.max() < 6 * rel_tol


def test_the_value_is_the_evaluated_point_with_the_smallest_residual():
    q, _ = torch.linalg.qr(normal(12, 12))
    a, b = 1.6 * q, normal(3, 12, seed=2)

    def f(z):
        return torch.tanh(z @ a) * 2 + b
    found = solve(f, torch.zeros(3, 12), "picard", max_iter=15, keep=True)
    assert not found.converged.any() and found.iterations.tolist() == [15] * 3
    best = found.residuals.argmin(dim=0)
    assert (best < 14).any(), "the map is meant to wander, so that the best point is not the last"
    for row in range(3):
        torch.testing.assert_close(found.z[row], found.iterates[best[row]][row], rtol=0, atol=0)
        g = f(found.z)[row] - found.z[row]
        expected = g.norm() / (1e-5 + f(found.z)[row].norm())
        torch.testing.assert_close(found.residuals[best[row], row], expected)


def test_anderson_needs_half_the_steps_of_picard_on_a_slow_map():
    f, _ = linear(3, 200, 0.95)
    picard, anderson = (solve(f, torch.zeros(3, 200), method, rel_tol=1e-6, max_iter=1000) for method in METHODS[:2])
    assert picard.converged.all() and anderson.converged.all()
    assert (anderson.iterations * 2 < picard.iterations).all()


def test_a_relative_ridge_does_not_stall_at_small_residuals():
    f, exact = linear(2, 100, 0.95)

    def steps(scale, mode):
        def scaled(z):
            return scale * f(z / scale)
        return solve(scaled, torch.zeros(2, 100), rel_tol=1e-3, max_iter=200, ridge_mode=mode).iterations.max()
    assert steps(1e-2, "relative") == steps(1, "relative")
    assert steps(1e-2, "absolute") > 2 * steps(1, "absolute")


@pytest.mark.parametrize("method", METHODS)
def test_a_sample_does_not_depend_on_its_batch_mates(method):
    a, b = linear(1, 20, 0.9)[0], normal(5, 20, seed=4) * torch.logspace(-3, 3, 5)[:, None]

    def f(z, shift=b):
        return torch.tanh(a(z)) + shift
    together = solve(f, torch.zeros(5, 20), method, rel_tol=1e-8, max_iter=60)
    assert len(set(together.iterations.tolist())) > 1
    for row in range(5):
        alone = solve(lambda z: f(z, b[row:row + 1]), torch.zeros(1, 20), method, rel_tol=1e-8, max_iter=60)
        assert alone.iterations[0] == together.iterations[row]
        torch.testing.assert_close(alone.z[0], together.z[row], rtol=1e-10, atol=1e-10)
        n = int(alone.iterations[0])
        torch.testing.assert_close(alone.residuals[:, 0], together.residuals[:n, row], rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_a_converged_sample_rests_and_the_solver_ends_with_the_last(method):
    rates = torch.tensor([[0.1], [0.5], [0.9]])
    calls = []

    def f(z):
        calls.append(z.clone())
        return rates * torch.sin(z) + 1
    found = solve(f, torch.zeros(3, 8), method, rel_tol=1e-6, max_iter=400, keep=True)
    assert found.converged.all()
    assert found.iterations[0] < found.iterations[2] < 400
    assert len(calls) == len(found.iterates) == len(found.residuals) == found.iterations.max()
    for k, (called, kept) in enumerate(zip(calls, found.iterates)):
        torch.testing.assert_close(called, kept, rtol=0, atol=0)
        for row in range(3):
            if k >= found.iterations[row]:
                assert torch.equal(called[row], found.z[row])
    last = found.iterations - 1
    for row in range(3):
        assert (found.residuals[last[row]:, row] == found.residuals[last[row], row]).all()
        assert found.residuals[last[row], row] <= 1e-6 < found.residuals[last[row] - 1, row]


def test_the_cap_counts_evaluations_and_failure_is_reported():
    f, _ = linear(2, 30, 0.99)
    calls = []
    found = solve(lambda z: calls.append(1) or f(z), torch.zeros(2, 30), max_iter=5, rel_tol=1e-12)
    assert len(calls) == 5 and found.iterations.tolist() == [5, 5] and not found.converged.any()
    assert found.iterates is None


@pytest.mark.parametrize("mixing", [1.0, 0.5])
def test_samples_with_a_singular_mixing_system_take_plain_steps(mixing):
    b = torch.arange(1.0, 13.0).view(2, 6)

    def f(z):  # sample 0 moves by the same vector for ever: all its residuals are equal, G'G has rank one, exactly
        return torch.stack((z[0] + b[0], 0.5 * z[1] + b[1]))
    found = solve(f, torch.zeros(2, 6), "anderson", ridge=0, mixing=mixing, rel_tol=1e-9, max_iter=30,
                  keep=True)
    assert found.converged.tolist() == [False, True]
    torch.testing.assert_close(found.z[1], 2 * b[1], rtol=1e-7, atol=1e-9)
    for k, point in enumerate(found.iterates):
        torch.testing.assert_close(point[0], mixing * k * b[0], rtol=1e-12, atol=1e-12)


def test_broyden_survives_a_singular_update():
    b = normal(1, 6)
    found = solve(lambda z: z + b, torch.zeros(1, 6), "broyden", max_iter=10, keep=True)
    assert not found.converged and found.z.isfinite().all()
    torch.testing.assert_close(found.iterates[-1], 9 * b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_sample_that_leaves_the_numbers_stops_at_its_best_point(method, bad):
    f, exact = linear(3, 10, 0.5)

    def breaking(z):
        fz = f(z)
        fz[1] = torch.where((z[1] != 0).any(), bad, fz[1])
        return fz
    found = solve(breaking, torch.zeros(3, 10), method, rel_tol=1e-9, max_iter=100, keep=True)
    assert found.converged.tolist() == [True, False, True]
    assert found.z.isfinite().all() and (found.z[1] == 0).all() and found.iterations[1] == 2
    assert found.residuals[0, 1].isfinite() and (found.residuals[1:, 1] == torch.inf).all()
    assert all(point.isfinite().all() for point in found.iterates)
    torch.testing.assert_close(found.z[[0, 2]], exact[[0, 2]], rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("method", METHODS)
def test_divergence_to_overflow_ends_early_with_a_finite_value(method):
    found = solve(lambda z: 1e30 * (z * z + 1), torch.ones(2, 4, dtype=torch.float32), method, max_iter=50)
    assert not found.converged.any() and found.z.isfinite().all() and len(found.residuals) < 50


def test_an_overflowing_mixture_becomes_a_plain_step():
    found = solve(lambda z: torch.where(z == 0, 3.0e38, z), torch.zeros(1, 1, dtype=torch.float32), mixing=2.0)
    assert found.converged.all() and (found.z == 3.0e38).all()


@pytest.mark.parametrize("method", METHODS)
def test_stop_batch_decides_once_for_all(method):
    rates = torch.tensor([[0.1], [0.9]])

    def f(z):
        return rates * torch.sin(z) + 1
    each = solve(f, torch.zeros(2, 4), method, rel_tol=1e-6, max_iter=300)
    joint = solve(f, torch.zeros(2, 4), method, rel_tol=1e-6, max_iter=300, stop="batch", keep=True)
    assert each.iterations[0] < each.iterations[1]
    assert joint.iterations[0] == joint.iterations[1] and joint.converged.all()
    for residual, z in zip(joint.residuals, joint.iterates):
        expected = (f(z) - z).norm() / (1e-5 + f(z).norm())
        torch.testing.assert_close(residual, expected.expand(2))


def test_stop_batch_never_takes_the_first_two_points():
    found = solve(lambda z: 2 * z, torch.zeros(2, 4), "picard", stop="batch", keep=True)
    assert found.iterations.tolist() == [3, 3] and found.converged.all()
    assert solve(lambda z: 2 * z, torch.zeros(2, 4), "picard").iterations.tolist() == [1, 1]


@pytest.mark.parametrize("arguments, message", [
    ({"method": "newton"}, "method must be one of picard, anderson, broyden, got 'newton'"),
    ({"stop": "all"}, "stop must be one of"),
    ({"ridge_mode": "scaled"}, "ridge_mode must be one of"),
    ({"max_iter": 0}, "max_iter must be a whole number of at least 1"),
    ({"max_iter": 2, "stop": "batch"}, "max_iter must be a whole number of at least 3"),
    ({"memory": 0}, "memory must be a whole number of at least 1"),
    ({"max_iter": 2.5}, "max_iter must be a whole number of at least 1 with stop='sample', got 2.5"),
    ({"memory": 1.5}, "memory must be a whole number of at least 1, got 1.5"),
    ({"mixing": 0}, "mixing must be a number above 0, got 0"),
    ({"mixing": -3.0}, "mixing must be a number above 0, got -3.0"),
    ({"mixing": float("nan")}, "mixing must be a number above 0, got nan"),
    ({"rel_tol": -1.0}, "rel_tol must be a number of at least 0, got -1.0"),
    ({"rel_tol": float("nan")}, "rel_tol must be a number of at least 0, got nan"),
    ({"rel_tol": float("inf")}, "rel_tol must be a number of at least 0, got inf"),
    ({"ridge": -1.0}, "ridge must be a number of at least 0, got -1.0"),
    ({"ridge": float("nan")}, "ridge must be a number of at least 0, got nan"),
    ({"z0": torch.zeros(3)}, r"z0 must be \(N, d\)"),
    ({"z0": torch.zeros(3, 2, dtype=torch.float16)}, "float32 or float64"),
    ({"z0": torch.full((1, 2), torch.nan)}, "z0 must be finite"),
    ({"f": lambda z: z[:, :1]}, "f must keep the shape"),
])
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        solve(**{"f": lambda z: z / 2, "z0": torch.zeros(3, 2)} | arguments)


def test_the_start_is_left_alone_and_no_graph_is_built():
    weight = torch.ones(1, requires_grad=True)
    z0 = torch.zeros(2, 3, requires_grad=True)
    found = solve(lambda z: weight * z / 2 + 1, z0, "picard", max_iter=4, keep=True)
    assert (z0 == 0).all() and not found.z.requires_grad
    z0.data += 1
    assert (found.iterates[0] == 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_map_in_half_precision_keeps_the_state_in_full(method):
    found = solve(lambda z: (0.25 * z + 1).bfloat16(), torch.zeros(2, 3, dtype=torch.float32), method, rel_tol=1e-2)
    assert found.z.dtype == torch.float32 and found.converged.all()


@pytest.mark.parametrize("method", ["anderson", "broyden"])
def test_autocast_leaves_the_solver_s_own_arithmetic_alone(method):
    """Anderson's and Broyden's products of vectors are what it would take for a network's."""
    slopes = torch.linspace(-0.9, 0.9, 50, dtype=torch.float32).expand(2, -1)
    plain, mixed = (
        within(lambda: solve(lambda z: slopes * z + 1, torch.zeros_like(slopes), method, rel_tol=1e-4, max_iter=60), half) for half in (False, True)
    )
    assert plain.converged.all() and torch.equal(mixed.iterations, plain.iterations) and torch.equal(mixed.z, plain.z)


def within(work: Callable[[], Solution], half: bool) -> Solution:
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        return work()


@pytest.mark.parametrize("case, changes", [("anderson", {"max_iter": 50}), ("anderson_cap", {"rel_tol": 1e-7}),
                                           ("anderson_best", {"max_iter": 14})])
def test_released_solver_is_retraced(shared, case, changes):
    with np.load(shared / "golden" / "learned" / "decsc_swin.npz") as golden:
        recorded = {name: golden[f"{case}/{name}"] for name in
                    ("A", "b", "x0", "iterates", "rel_trace", "result", "nstep", "lowest", "n_evals")}
    a, b, x0 = (torch.from_numpy(recorded[name]) for name in ("A", "b", "x0"))
    b, x0 = b[..., 0], x0[..., 0]
    assert x0.dtype == torch.float32
    found = solve(lambda z: z @ a.T + b, x0, **RELEASED | changes, keep=True)
    evaluations = int(recorded["n_evals"])
    trace = found.residuals[2:, 0].numpy()
    assert found.iterations.tolist() == [evaluations] * 3
    assert found.converged.all() == (case == "anderson")
    assert 2 + trace.argmin() == recorded["nstep"]
    np.testing.assert_allclose(trace, recorded["rel_trace"][:evaluations - 2], rtol=1e-3)
    np.testing.assert_allclose(trace.min(), recorded["lowest"], rtol=1e-3)
    atol = 4e-3 if case == "anderson_cap" else 1e-3
    np.testing.assert_allclose(torch.stack(found.iterates).numpy(), recorded["iterates"][..., 0], rtol=0, atol=atol)
    np.testing.assert_allclose(found.z.numpy(), recorded["result"][..., 0], rtol=0,
                               atol=4e-3 if case == "anderson_cap" else 2e-4)


# --- the gradient --------------------------------------------------------------------------------------------------

TIGHT = dict(rel_tol=1e-13, max_iter=300)


def layer(n: int = 3, d: int = 6) -> tuple[Callable[[Tensor, Tensor], Tensor], Tensor, Tensor]:
    """A contraction f(z, theta) with both parameters in one vector, that vector, and a weight for a scalar loss."""
    theta = torch.cat((0.5 * normal(d * d, seed=7) / d ** 0.5, normal(n * d, seed=8)))

    def f(z: Tensor, theta: Tensor) -> Tensor:
        return torch.tanh(z @ theta[:d * d].view(d, d) + theta[d * d:].view(n, d))
    return f, theta.requires_grad_(), normal(n, d, seed=9)


def fixed_point(f, theta, n=3, d=6):
    found = solve(lambda z: f(z, theta), torch.zeros(n, d), **TIGHT)
    assert found.converged.all()
    return found.z


@pytest.mark.parametrize("method", METHODS)
def test_implicit_gradient_is_that_of_a_long_unrolling(method):
    f, theta, weight = layer()
    value = implicit(lambda z: f(z, theta), fixed_point(f, theta), method=method, **TIGHT)
    reference = unrolled(lambda z: f(z, theta), torch.zeros(3, 6), 200)
    torch.testing.assert_close(value, reference, rtol=0, atol=1e-11)
    exact, = torch.autograd.grad((weight * reference).sum(), theta)
    found, = torch.autograd.grad((weight * value).sum(), theta)
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-11)


@pytest.mark.filterwarnings("error")
def test_implicit_gradient_as_it_comes():
    f, theta, weight = layer()
    z = fixed_point(f, theta)
    default, = torch.autograd.grad((weight * implicit(lambda z: f(z, theta), z)).sum(), theta)
    tight, = torch.autograd.grad((weight * implicit(lambda z: f(z, theta), z, **TIGHT)).sum(), theta)
    assert 0 < (default - tight).norm() < 1e-4 * tight.norm()
    assert not z.requires_grad and z.grad is None


def test_implicit_gradient_passes_gradcheck_and_phantom_does_not():
    f, theta, _ = layer(2, 3)

    def value(theta, gradient, **options):
        return gradient(lambda z: f(z, theta), fixed_point(f, theta, 2, 3), **options)
    assert torch.autograd.gradcheck(lambda t: value(t, implicit, **TIGHT), theta)
    assert not torch.autograd.gradcheck(lambda t: value(t, phantom, dampings=(1.0,)), theta, raise_exception=False)


def test_implicit_gradient_is_exact_for_tiny_losses():
    f, theta, weight = layer()
    value = implicit(lambda z: f(z, theta), fixed_point(f, theta), rel_tol=1e-10, max_iter=300)
    one, = torch.autograd.grad((weight * value).sum(), theta, retain_graph=True)
    tiny, = torch.autograd.grad((1e-9 * weight * value).sum(), theta)
    torch.testing.assert_close(tiny * 1e9, one, rtol=1e-7, atol=1e-9)


def test_a_second_backward_gives_the_same_gradient():
    f, theta, weight = layer()
    loss = (weight * implicit(lambda z: f(z, theta), fixed_point(f, theta), **TIGHT)).sum()
    loss.backward(retain_graph=True)
    first = theta.grad.clone()
    theta.grad = None
    loss.backward()
    assert torch.equal(theta.grad, first)


def test_implicit_differentiates_with_respect_to_z_only_while_it_solves():
    f, theta, weight = layer()
    visits = []
    theta.register_hook(lambda grad: visits.append(grad))
    (weight * implicit(lambda z: f(z, theta), fixed_point(f, theta), **TIGHT)).sum().backward()
    assert len(visits) == 1


def test_implicit_warns_when_the_backward_equation_is_not_solved():
    f, theta, weight = layer()
    value = implicit(lambda z: f(z, theta), fixed_point(f, theta), rel_tol=1e-12, max_iter=2)
    with pytest.warns(RuntimeWarning, match="did not converge for 3 of 3 samples"):
        value.sum().backward()


def test_implicit_without_gradient_is_one_evaluation():
    f, theta, _ = layer()
    z = fixed_point(f, theta)
    with torch.no_grad():
        value = implicit(lambda z: f(z, theta), z)
    assert not value.requires_grad
    assert not implicit(lambda z: torch.ones_like(z), z).requires_grad
    constant = implicit(lambda z: theta[:6].expand(3, 6), z)
    gradient, = torch.autograd.grad(constant.sum(), theta)
    assert gradient[:6].tolist() == [3.0] * 6


def test_a_gradient_scaler_skips_the_step_of_an_overflow():
    """The scaled loss overflows; what comes back is not finite, so the scaler takes no step and halves its scale."""
    f, theta, weight = layer()
    z, before = fixed_point(f, theta), theta.detach().clone()
    optimizer, scaler = torch.optim.SGD([theta], lr=1.0), torch.amp.GradScaler("cpu", init_scale=2.0**40)
    for scale in (2.0**39, 2.0**38):
        scaler.scale((1e300 * weight * implicit(lambda z: f(z, theta), z)).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        assert torch.equal(theta, before) and scaler.get_scale() == scale
        optimizer.zero_grad()


def test_implicit_of_a_map_in_half_precision_keeps_the_state_in_full():
    slope, z = torch.full((1,), 0.5, requires_grad=True), torch.full((2, 3), 2.0)
    value = implicit(lambda z: (slope * z + 1).bfloat16(), z, rel_tol=1e-2)
    assert value.dtype == z.dtype and (value == 2).all()
    value.sum().backward()
    assert slope.grad.item() == pytest.approx(6 * 2 / (1 - 0.5), rel=0.05)


@pytest.mark.parametrize("dampings", [(), (0.0,), (1.0, 1.1), (float("nan"),)])
def test_dampings_out_of_range_are_refused(dampings):
    with pytest.raises(ValueError, match="dampings must hold at least one number, each above 0 and at most 1, got"):
        phantom(lambda z: z / 2, torch.ones(1, 2), dampings)


def test_phantom_of_ones_is_autograd_through_the_last_steps():
    f, theta, weight = layer()
    z = fixed_point(f, theta)
    assert PAPER_DAMPINGS == (1.0,) * 5
    found, = torch.autograd.grad((weight * phantom(lambda z: f(z, theta), z)).sum(), theta)
    expected, = torch.autograd.grad((weight * unrolled(lambda z: f(z, theta), z.detach(), 5)).sum(), theta)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)


def test_phantom_is_the_truncated_neumann_series_of_equation_19():
    f, theta, weight = layer(1, 6)
    z = fixed_point(f, theta, 1, 6)
    weight = weight[:1]
    jacobian = torch.autograd.functional.jacobian(lambda z: f(z[None], theta)[0], z[0])
    by_theta = torch.autograd.functional.jacobian(lambda t: f(z, t)[0], theta)
    for terms in (1, 3):
        series = sum(torch.linalg.matrix_power(jacobian, k) for k in range(terms)) @ by_theta
        found, = torch.autograd.grad((weight * phantom(lambda z: f(z, theta), z, (1.0,) * terms)).sum(), theta)
        torch.testing.assert_close(found, weight[0] @ series, rtol=0, atol=1e-11)


def test_damped_phantom_is_its_expansion_by_hand():
    f, theta, weight = layer()
    z = normal(3, 6, seed=11).requires_grad_()
    assert RELEASED_DAMPINGS == (1.0, 0.9, 0.9, 0.9, 0.9, 0.9)
    found = phantom(lambda z: f(z, theta), z, RELEASED_DAMPINGS[:3])
    one = f(z.detach(), theta)
    two = 0.1 * one + 0.9 * f(one, theta)
    expected = 0.1 * two + 0.9 * f(two, theta)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)
    gradients = [torch.autograd.grad((weight * x).sum(), (theta, z), allow_unused=True) for x in (found, expected)]
    torch.testing.assert_close(gradients[0][0], gradients[1][0], rtol=0, atol=1e-13)
    assert gradients[0][1] is None, "the start has no history"


def test_a_long_phantom_approaches_the_implicit_gradient():
    f, theta, weight = layer()
    z = fixed_point(f, theta)
    exact, = torch.autograd.grad((weight * implicit(lambda z: f(z, theta), z, **TIGHT)).sum(), theta)
    errors = []
    for terms in (1, 5, 20, 80):
        found, = torch.autograd.grad((weight * phantom(lambda z: f(z, theta), z, (1.0,) * terms)).sum(), theta)
        errors.append(float((found - exact).norm() / exact.norm()))
    assert errors[0] > 1e-2 and errors == sorted(errors, reverse=True) and errors[-1] < 1e-11, errors


def test_unrolled_gradient_reaches_the_start():
    z = torch.ones(1, 2, requires_grad=True)
    gradient, = torch.autograd.grad(unrolled(lambda z: 3 * z, z, 4).sum(), z)
    assert gradient.tolist() == [[81.0, 81.0]]


def test_unrolling_takes_at_least_one_evaluation():
    with pytest.raises(ValueError, match="^steps must be at least 1, got 0$"):
        unrolled(lambda z: z, torch.ones(1, 2), 0)


# --- torchdeq ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("method, theirs", [("picard", "fixed_point_iter"), ("anderson", "anderson"),
                                            ("broyden", "broyden")])
def test_torchdeq_finds_the_same_point_and_gradient(method, theirs):
    f, theta, weight = layer()
    deq = torchdeq.get_deq(ift=True, f_solver=theirs, b_solver=theirs, f_max_iter=300, b_max_iter=300, f_tol=1e-11,
                           b_tol=1e-11)
    reference = deq(lambda z: f(z, theta), torch.zeros(3, 6))[0][-1]
    found = solve(lambda z: f(z, theta), torch.zeros(3, 6), method, **TIGHT)
    assert found.converged.all()
    torch.testing.assert_close(found.z, reference, rtol=0, atol=1e-9)
    expected, = torch.autograd.grad((weight * reference).sum(), theta)
    gradient, = torch.autograd.grad(
        (weight * implicit(lambda z: f(z, theta), found.z, method=method, **TIGHT)).sum(), theta)
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-8)


# --- the spectral radius -------------------------------------------------------------------------------------------

def test_spectral_radius_of_real_and_complex_spectra():
    d = 8
    basis = normal(d, d, seed=1)
    real = torch.diag(torch.tensor([-0.9, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.0]))
    pair = torch.diag(torch.tensor([0.0, 0.0, 0.7, 0.4, 0.3, 0.2, 0.1, 0.0]))
    pair[:2, :2] = 1.1 * torch.tensor([[np.cos(1), -np.sin(1)], [np.sin(1), np.cos(1)]])
    nilpotent = torch.diag(torch.ones(d - 1), 1)
    jacobians = torch.stack([basis @ real @ basis.inverse(), basis @ pair @ basis.inverse(), nilpotent])
    expected = [max(abs(np.linalg.eigvals(j.numpy()))) for j in jacobians[:2]]
    np.testing.assert_allclose(expected, [0.9, 1.1], rtol=1e-10)
    z = normal(3, d, seed=2)

    def f(x):  # curved, with these Jacobians at z
        return torch.einsum("nij,nj->ni", jacobians, x - z + (x - z) ** 2)
    found = spectral_radius(f, z, 400, np.random.default_rng(0)).numpy()
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-2)
    assert found[2] == 0
    again = spectral_radius(f, z, 400, np.random.default_rng(0)).numpy()
    np.testing.assert_array_equal(found, again)


def test_spectral_radius_needs_two_iterations_and_a_map_that_depends_on_z():
    z = torch.zeros(2, 3)
    assert spectral_radius(lambda z: torch.ones_like(z), z, 4, np.random.default_rng(0)).tolist() == [0, 0]
    with pytest.raises(ValueError, match="iterations must be at least 2"):
        spectral_radius(lambda z: z, z, 1, np.random.default_rng(0))


def test_jacobian_penalty_estimates_the_mean_squared_entry_times_the_width():
    matrix = torch.from_numpy(np.random.default_rng(0).standard_normal((6, 6))).requires_grad_()
    generator = np.random.default_rng(1)
    z = torch.zeros(4000, 6, dtype=torch.float64)
    penalty = jacobian_penalty(lambda z: z @ matrix.T, z, generator)
    assert float(penalty) == pytest.approx(float(matrix.square().sum()) / 6, rel=0.05)
    penalty.backward()
    assert matrix.grad.abs().max() > 0
