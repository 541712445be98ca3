"""Deep equilibrium layers: fixed points z = f(z) and their gradients (the paper's Eqs. 14-19).

Knows nothing of images. A state is a batch z of shape (N, d), one row per sample, and f maps (N, d) to (N, d) treating
every sample on its own. The value and the gradient of the fixed point are found separately:

- `solve` finds the value, without gradient (Eqs. 14-16), and reports how well;
- `phantom` (Eqs. 18-19), `implicit` (Eq. 17) or `unrolled` attach a gradient: approximate, exact, by brute force.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Map = Callable[[Tensor], Tensor]

RELEASED = dict(method="anderson", rel_tol=1e-3, max_iter=20, memory=6, mixing=1.0, ridge=1e-4, ridge_mode="absolute",
                stop="batch")
"""Arguments of `solve` with which it retraces the solver of the authors' released code."""

PAPER_DAMPINGS = (1.0,) * 5
"""Dampings of `phantom` for the paper's gradient: Eq. (19) with L = 5."""

RELEASED_DAMPINGS = (1.0, 0.9, 0.9, 0.9, 0.9, 0.9)
"""Dampings of `phantom` in the authors' released code, which applies them at test time too."""


class Solution(NamedTuple):
    """What `solve` found, with its evidence; T is the number of evaluations of f that were made.

    Attributes
    ----------
    z : (N, d), the evaluated point with the smallest residual, per sample.
    residuals : (T, N), ||f(z) - z|| / (1e-5 + ||f(z)||) of each evaluated point; inf where f(z) was not finite. A
        sample that has stopped repeats its last value. With stop="batch" the columns are equal.
    iterations : (N,) integers, evaluations of f that the sample used.
    converged : (N,) booleans, True where the residual of `z` is at most rel_tol.
    iterates : the T points (N, d) at which f was evaluated, on the CPU, if they were asked for. A sample that has
        stopped repeats its `z`.
    """

    z: Tensor
    residuals: Tensor
    iterations: Tensor
    converged: Tensor
    iterates: list[Tensor] | None = None


@torch.no_grad()
def solve(f: Map, z0: Tensor, method: str = "anderson", *, rel_tol: float = 1e-3, max_iter: int = 20, memory: int = 6,
          mixing: float = 1.0, ridge: float = 1e-4, ridge_mode: str = "relative", stop: str = "sample",
          keep: bool = False) -> Solution:
    """Find a fixed point z = f(z) of every sample, Eq. (14), without gradient.

    The points evaluated are z0, then z0 + mixing * (f(z0) - z0), then one more per step of the method. The value
    returned is a point that was evaluated (not its image f(z)), so that its residual is known.

    A sample stops when its residual is at most `rel_tol`, after `max_iter` evaluations, or when f(z) is not finite:
    then its z is the best finite point so far, and it has not converged. f still sees the whole batch, with stopped
    samples at rest at their z, until all have stopped.

    Parameters
    ----------
    f : maps (N, d) to (N, d), each sample on its own.
    z0 : (N, d) float32 or float64, on any device.
    method : "picard" repeats f; "anderson" mixes the last points by Eqs. (15)-(16); "broyden" is the good Broyden
        method on f(z) - z, starting from a Picard step.
    rel_tol : tolerance on ||f(z) - z|| / (1e-5 + ||f(z)||), at least 0.
    max_iter : most evaluations of f.
    memory : points that Anderson mixes, or updates after which Broyden starts afresh; both hold 2 * memory states.
    mixing : beta of Eq. (15), above 0; for the other methods the fraction of each step that is taken.
    ridge : Anderson only, at least 0, added to the diagonal of G'G in Eq. (16). A sample whose mixing system is
        singular all the same takes a plain step.
    ridge_mode : "relative" multiplies the ridge by the mean diagonal of G'G, so that it keeps its meaning as the
        residuals shrink; "absolute" takes it as it is.
    stop : "sample" stops each sample by its own residual, so nothing depends on batch mates. "batch" is the rule of
        the released code: one residual, with the norms taken over all samples together, decides for all and picks
        one best point for all, and the first two points are neither tested nor candidates.
    keep : also return every evaluated point.

    Raises
    ------
    ValueError : an argument is out of range, z0 is not a finite floating (N, d), or f changes the shape.
    """
    check_options(method, rel_tol, max_iter, memory, mixing, ridge, ridge_mode, stop)
    if z0.ndim != 2 or z0.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"z0 must be (N, d) of float32 or float64, got {tuple(z0.shape)} of {z0.dtype}")
    if not z0.isfinite().all():
        raise ValueError("z0 must be finite, it contains NaN or infinity")
    memory = min(memory, max_iter)
    if method == "anderson":
        next_point = _Anderson(z0, memory, mixing, ridge, ridge_mode == "relative")
    elif method == "broyden":
        next_point = _Broyden(z0, memory, mixing)
    else:
        def next_point(z: Tensor, fz: Tensor, g: Tensor) -> Tensor:
            return torch.lerp(z, fz, mixing)

    z = best = z0.detach().clone()
    best_residual = z0.new_full((len(z0),), torch.inf)
    active = torch.ones(len(z0), dtype=torch.bool, device=z0.device)
    converged = torch.zeros_like(active)
    iterations = torch.zeros_like(active, dtype=torch.int64)
    residuals: list[Tensor] = []
    iterates: list[Tensor] | None = [] if keep else None
    first_candidate = 2 if stop == "batch" else 0

    for k in range(max_iter):
        fz = f(z)
        if fz.shape != z.shape:
            raise ValueError(f"f must keep the shape {tuple(z.shape)} of its argument, it returned {tuple(fz.shape)}")
        fz = fz.to(z.dtype)
        g = fz - z
        residual = _relative_residual(g, fz, stop)
        if residuals:
            residual = torch.where(active, residual, residuals[-1])
        residuals.append(residual)
        if iterates is not None:
            iterates.append(z.cpu())
        iterations += active
        if k >= first_candidate:
            better = active & (residual < best_residual)
            best = torch.where(better[:, None], z, best)
            best_residual = torch.where(better, residual, best_residual)
            converged |= active & (residual <= rel_tol)
        active = active & ~converged & residual.isfinite()
        if k + 1 == max_iter or not active.any():
            break
        with torch.autocast(z.device.type, enabled=False):  # f may be computed in half precision, but not where the points lead
            proposal = next_point(z, fz, g)
        usable = _norms(proposal).isfinite()
        z = torch.where(active[:, None], torch.where(usable, proposal, fz), best)

    return Solution(best, torch.stack(residuals), iterations, converged, iterates)


def phantom(f: Map, z: Tensor, dampings: Sequence[float] = PAPER_DAMPINGS) -> Tensor:
    """Phantom gradient: damped evaluations of f with gradient, started from z without its history.

    For each damping d in turn, z <- (1 - d) z + d f(z). With L dampings of 1 at a fixed point the gradient is that of
    Eq. (19), the Neumann series (18) cut after L terms: an approximation of `implicit`. The value moves too, closer to
    the fixed point where f contracts.

    Parameters
    ----------
    f : maps (N, d) to (N, d).
    z : (N, d), from `solve`.
    dampings : one number in (0, 1] per evaluation, at least one, e.g. `PAPER_DAMPINGS`, `RELEASED_DAMPINGS`.

    Returns
    -------
    (N, d), differentiable with respect to whatever f depends on.

    Raises
    ------
    ValueError : there are no dampings, or one is out of range.
    """
    if not len(dampings) or not all(0 < damping <= 1 for damping in dampings):
        raise ValueError(f"dampings must hold at least one number, each above 0 and at most 1, got {dampings}")
    z = z.detach()
    for damping in dampings:
        z = (1 - damping) * z + damping * f(z)
    return z


def implicit(f: Map, z: Tensor, **adjoint: object) -> Tensor:
    """Exact gradient of the fixed point by the implicit function theorem, Eq. (17).

    The value is f(z), evaluated once with gradient. Backward, a gradient v becomes the solution of g = v + J'g, with J
    the Jacobian of f at z, before it goes on to the parameters: exact where z is a fixed point, up to the tolerance.
    The equation is solved by `solve` for v scaled to norm 1 per sample, because its tolerance is absolute for small
    vectors. A RuntimeWarning tells if that does not converge. A gradient that is not finite, as a GradScaler provokes
    at times, goes on as it is. Second derivatives are not available.

    Parameters
    ----------
    f : maps (N, d) to (N, d).
    z : (N, d), from `solve`; its history is ignored.
    **adjoint : arguments of `solve` for the backward equation; rel_tol=1e-5 and max_iter=100 unless given.

    Returns
    -------
    (N, d), differentiable with respect to whatever f depends on.
    """
    z = z.detach().requires_grad_()
    fz = f(z).to(z.dtype)
    return _ImplicitGradient.apply(fz, z, {"rel_tol": 1e-5, "max_iter": 100} | adjoint) if fz.requires_grad else fz


def unrolled(f: Map, z0: Tensor, steps: int) -> Tensor:
    """Apply f `steps` times, at least once (else ValueError), to z0 (N, d) and let the gradient flow through all of it, z0 included."""
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    for _ in range(steps):
        z0 = f(z0)
    return z0


def spectral_radius(f: Map, z: Tensor, iterations: int, generator: np.random.Generator) -> Tensor:
    """Estimate the spectral radius of the Jacobian of f at z, per sample; below 1, repeating f converges near z.

    Power iteration with J', which has the eigenvalues of J, from a random start. The result is the geometric mean of
    the growth over the second half of the iterations: a leading complex pair makes single growths swing around it.

    Parameters
    ----------
    f : maps (N, d) to (N, d), each sample on its own.
    z : (N, d).
    iterations : products with J', at least 2 (else ValueError); the error shrinks at least as fast as 1 / iterations.
    generator : source of the random start.

    Returns
    -------
    (N,), without gradient.
    """
    if iterations < 2:
        raise ValueError(f"iterations must be at least 2, got {iterations}")
    z = z.detach().requires_grad_()
    with torch.enable_grad():
        fz = f(z)
    if not fz.requires_grad:
        return fz.new_zeros(len(fz))
    v = torch.from_numpy(generator.standard_normal(z.shape)).to(z)
    v = v / _norms(v)
    growths = []
    for _ in range(iterations):
        v = _transposed_jacobian_product(fz, z, v)
        growths.append(_norms(v))
        v = v / growths[-1].clamp_min(torch.finfo(v.dtype).tiny)
    return torch.stack(growths[iterations // 2:]).log().mean(dim=0).exp()[:, 0]


@torch.enable_grad()
def jacobian_penalty(f: Map, z: Tensor, generator: np.random.Generator) -> Tensor:
    """Estimate ||J||_F^2 / d, the mean over samples, for the Jacobian J of f at z; as a penalty it keeps solves easy.

    One random product J'v (Hutchinson), differentiable with respect to whatever f depends on. Source: Bai, Koltun and
    Kolter, Stabilizing Equilibrium Models by Jacobian Regularization, ICML 2021.

    Parameters
    ----------
    f : maps (N, d) to (N, d), each sample on its own.
    z : (N, d), from `solve`; its history is ignored.
    generator : source of the random vector, which is drawn where z is.
    """
    z = z.detach().requires_grad_()
    drawn = torch.Generator(z.device).manual_seed(int(generator.integers(2**63)))
    v = torch.randn(z.shape, generator=drawn, dtype=z.dtype, device=z.device)
    (product,) = torch.autograd.grad(f(z), z, v, create_graph=True)
    return product.square().mean()


class _Anderson:
    """Eq. (15) over a ring buffer of the last f(z) and G = f(z) - z; G'G is kept and one row renewed per step."""

    def __init__(self, z0: Tensor, memory: int, mixing: float, ridge: float, relative: bool) -> None:
        n, d = z0.shape
        self.memory, self.mixing, self.ridge, self.relative = memory, mixing, ridge, relative
        self.values = z0.new_empty(n, memory, d)
        self.differences = z0.new_empty(n, memory, d)
        self.gram = torch.zeros(n, memory, memory, dtype=torch.float64)
        self.count = 0

    def __call__(self, z: Tensor, fz: Tensor, g: Tensor) -> Tensor:
        newest = self.count % self.memory
        self.count += 1
        used = min(self.count, self.memory)
        self.values[:, newest] = fz
        self.differences[:, newest] = g
        row = torch.bmm(self.differences[:, :used], g[:, :, None])[:, :, 0].cpu().double()
        self.gram[:, newest, :used] = row
        self.gram[:, :used, newest] = row
        gamma = _mixing_weights(self.gram[:, :used, :used], newest, self.ridge, self.relative)
        gamma = gamma[:, None].to(device=z.device, dtype=z.dtype)
        mixed = torch.bmm(gamma, self.values[:, :used])[:, 0]
        if self.mixing != 1:
            mixed = mixed - (1 - self.mixing) * torch.bmm(gamma, self.differences[:, :used])[:, 0]
        return mixed


def _mixing_weights(gram: Tensor, newest: int, ridge: float, relative: bool) -> Tensor:
    """Solve Eq. (16), regularised, by its bordered system; all weight on `newest` where that has no finite solution."""
    n, used, _ = gram.shape
    if relative:
        gram = gram / gram.diagonal(dim1=1, dim2=2).mean(dim=1)[:, None, None]
    system = gram.new_ones(n, used + 1, used + 1)
    system[:, 0, 0] = 0
    system[:, 1:, 1:] = gram + ridge * torch.eye(used, dtype=gram.dtype)
    one = gram.new_zeros(n, used + 1)
    one[:, 0] = 1
    solution, info = torch.linalg.solve_ex(system, one)
    plain = gram.new_zeros(n, used)
    plain[:, newest] = 1
    solved = (info == 0) & solution.isfinite().all(dim=1)
    return torch.where(solved[:, None], solution[:, 1:], plain)


class _Broyden:
    """Good Broyden steps for g(z) = f(z) - z with inverse Jacobian -I + U'V; starts afresh when U and V are full."""

    def __init__(self, z0: Tensor, memory: int, mixing: float) -> None:
        n, d = z0.shape
        self.mixing, self.memory = mixing, memory
        self.u = z0.new_empty(n, memory, d)
        self.v = z0.new_empty(n, memory, d)
        self.used = 0
        self.last: tuple[Tensor, Tensor] | None = None

    def __call__(self, z: Tensor, fz: Tensor, g: Tensor) -> Tensor:
        if self.last is not None:
            noise = torch.finfo(z.dtype).eps * _norms(fz)
            self._update(z - self.last[0], g - self.last[1], noise)
        self.last = z, g
        return z - self.mixing * self._apply(g, self.u, self.v)

    def _update(self, dz: Tensor, dg: Tensor, noise: Tensor) -> None:
        """Rank-one change after which the inverse Jacobian maps dg to dz; none where it would come from rounding."""
        if self.used == self.memory:
            self.used = 0
        row = self._apply(dz, self.v, self.u)
        pivot = (row * dg).sum(dim=1, keepdim=True)
        regular = pivot.abs() > 10 * noise * _norms(row)
        column = (dz - self._apply(dg, self.u, self.v)) / pivot
        self.u[:, self.used] = torch.where(regular, column, 0)
        self.v[:, self.used] = torch.where(regular, row, 0)
        self.used += 1

    def _apply(self, x: Tensor, left: Tensor, right: Tensor) -> Tensor:
        """(-I + left' right) x per sample, over the rows in use."""
        weights = torch.bmm(right[:, :self.used], x[:, :, None]).transpose(1, 2)
        return torch.bmm(weights, left[:, :self.used])[:, 0] - x


class _ImplicitGradient(torch.autograd.Function):
    """Identity on f(z) whose backward multiplies by (I - J')^-1, differentiating with respect to z only."""

    @staticmethod
    def forward(ctx, fz: Tensor, z: Tensor, adjoint: dict) -> Tensor:
        ctx.save_for_backward(fz, z)
        ctx.adjoint = adjoint
        return fz.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, v: Tensor) -> tuple[Tensor, None, None]:
        if not v.isfinite().all():
            return v, None, None
        fz, z = ctx.saved_tensors
        scale = _norms(v)
        unit = v / scale.clamp_min(torch.finfo(v.dtype).tiny)
        solution = solve(lambda g: unit + _transposed_jacobian_product(fz, z, g), unit, **ctx.adjoint)
        failed = ~solution.converged
        if failed.any():
            worst = float(solution.residuals[:, failed].amin(dim=0).max())
            warnings.warn(f"implicit gradient: the backward equation did not converge for {int(failed.sum())} of "
                          f"{len(failed)} samples (relative residual up to {worst:.1e})", RuntimeWarning, stacklevel=2)
        return solution.z * scale, None, None


def _transposed_jacobian_product(fz: Tensor, z: Tensor, v: Tensor) -> Tensor:
    """J'v of the evaluated fz = f(z), leaving its graph in place; zeros if fz does not depend on z."""
    return torch.autograd.grad(fz, z, v, retain_graph=True, allow_unused=True, materialize_grads=True)[0]


def _norms(x: Tensor) -> Tensor:
    """Norm of each row, (N, 1)."""
    return torch.linalg.vector_norm(x, dim=1, keepdim=True)


def _relative_residual(g: Tensor, fz: Tensor, stop: str) -> Tensor:
    """||g|| / (1e-5 + ||f(z)||) for each sample, or of the whole batch in every entry; inf if not finite."""
    dim = None if stop == "batch" else 1
    residual = torch.linalg.vector_norm(g, dim=dim) / (1e-5 + torch.linalg.vector_norm(fz, dim=dim))
    return residual.nan_to_num(nan=torch.inf, posinf=torch.inf).expand(len(g))


def check_options(method: str, rel_tol: float, max_iter: int, memory: int, mixing: float, ridge: float, ridge_mode: str,
                  stop: str) -> None:
    """Raise ValueError for the first option of `solve` that is out of range."""
    for name, value, *allowed in (("method", method, "picard", "anderson", "broyden"),
                                  ("ridge_mode", ridge_mode, "relative", "absolute"),
                                  ("stop", stop, "sample", "batch")):
        if value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
    least = 3 if stop == "batch" else 1
    if not isinstance(max_iter, Integral) or max_iter < least:
        raise ValueError(f"max_iter must be a whole number of at least {least} with stop={stop!r}, got {max_iter}")
    if not isinstance(memory, Integral) or memory < 1:
        raise ValueError(f"memory must be a whole number of at least 1, got {memory}")
    if not 0 < mixing < torch.inf:
        raise ValueError(f"mixing must be a number above 0, got {mixing}")
    for name, value in (("rel_tol", rel_tol), ("ridge", ridge)):
        if not 0 <= value < torch.inf:
            raise ValueError(f"{name} must be a number of at least 0, got {value}")
