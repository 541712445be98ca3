"""DECSC: the layer f of Eqs. (9), (12)-(13), (20), its equilibrium (Eq. 14) and the reconstruction (Eqs. 11, 21)."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields, replace
from numbers import Real
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from decsc_core import deq
from decsc_core.checks import check_numbers, make_tuple
from decsc_core.model import misfit
from decsc_core.model.detail import PARTS, DetailEnhancement, DifferenceConv3d, FusedKernel
from decsc_core.model.dictionary import SPECTRAL_KERNEL, SharedDictionary, UnsharedDictionary, code_side, soft_threshold
from decsc_core.model.noise_levels import band_weights, noise_levels
from decsc_core.model.shifts import Shift, averaged_shifts, crop_shifts, split_shifts
from decsc_core.model.swin import SwinPrior
from decsc_core.model.vmamba import SS2D, VMambaPrior


@dataclass(frozen=True)
class SolverConfig:
    """How the fixed point is found; the fields are the arguments of `decsc_core.deq.solve`, and a ValueError tells of those it refuses."""

    method: str = "anderson"
    rel_tol: float = 1e-3
    max_iter: int = 20
    memory: int = 6
    mixing: float = 1.0
    ridge: float = 1e-4
    ridge_mode: str = "relative"
    stop: str = "sample"

    def __post_init__(self) -> None:
        check_numbers(self)
        deq.check_options(**asdict(self))


@dataclass(frozen=True)
class DECSCConfig:
    """Everything that defines a DECSC network. Where the paper and the released code differ, the default is the release, but for the solver.

    Parameters
    ----------
    bands, shared_atoms, unshared_atoms : int
        B, M, J.
    kernel, stride : int
        Side of every atom and lattice distance, in pixels. The stride of 7 is the release's; the paper gives none.
    prior : {"swin", "vmamba"}
        P_S; `depth` blocks (0: no prior), `heads` and `window` for Swin, `states` for VMamba.
    tie : {"released", "paper"}
        Three copies of each dictionary, tied at initialisation only, or the paper's single K and D with W = K^T.
        With three copies the S update takes the unshared part from the reconstruction copy, and conversely.
    detail : {"released", "paper"}
        The two forms of Eq. (24), see `DetailEnhancement`.
    detail_parts : tuple of str
        The parts that P_H has, of "difference" and "attention"; Table V leaves out one at a time.
    init : {"released", "tied", "normalized"}
        ``"released"``: the release's training script, which redraws the analysis copies and so breaks the tie before the
        first step. ``"tied"``: without that redraw. ``"normalized"``: tied, and each dictionary scaled to spectral norm 1,
        the scale at which the unit step of Eq. (9) is a proximal gradient step.
    thresholds : {"free", "positive"}
        Unconstrained as released, or kept positive by a softplus.
    ridge : float
        kappa in soft(x, theta) / (1 + kappa): the proximal map of theta |x|_1 + kappa/2 |x|^2. 0 is the paper and the release;
        positive values make the shrinkage a contraction.
    fidelity : {"uniform", "noise-weighted"}
        The data term |Y - X|^2 of Eq. (5), right for noise of one level; or, for bands of different noise levels, the sum over
        bands of w_b |Y_b - X_b|^2 with the `band_weights` of the noisy image.
    misfit : float
        Scale e [0, 1] of what the two dictionaries cannot tell of a scene, R in X = K (x) S + D * H + R, mostly smooth or in common
        to bands; its posterior mean, given the noisy image and the noise level of each band, goes into the image (`DECSC.with_misfit`), and
        what is too far off to be noise or misfit is cut down before another pass (`gross`). `Equilibrium`, the denoiser, makes dark
        images and bands brighter for such networks (`brightness`), and filters the noisy image by the estimate (`denoisers.wiener`). 0 is the paper and the release.
    gradient : {"phantom", "implicit", "unrolled"}
        Phantom gradient over the evaluations in `phantom`; exact implicit gradient (Eq. 17); or no equilibrium at all:
        `solver.max_iter` plain unrolled evaluations from the initial codes.
    phantom : tuple of float
        Damping of each evaluation after the solver, z <- (1 - d) z + d f(z), at training and at test. The default is the release's
        one full and five damped evaluations; the paper's L = 5 is ``(1.0,) * 5``.
    shifts : int
        Shifts averaged at test, of stride^2.
    train_shifts : int
        Shifts drawn at random for each training step.
    solver : SolverConfig
        By default each sample stops on its own and Anderson's ridge is relative, so that no sample's image depends on those beside
        it. The release stops all together, with an absolute ridge: `deq.RELEASED`, which the authors' checkpoints are loaded with.
    """

    bands: int = 31
    shared_atoms: int = 192
    unshared_atoms: int = 96
    kernel: int = 9
    stride: int = 7
    prior: str = "swin"
    depth: int = 4
    heads: int = 16
    window: int = 4
    states: int = 16
    tie: str = "released"
    detail: str = "released"
    detail_parts: tuple[str, ...] = PARTS
    init: str = "released"
    thresholds: str = "free"
    ridge: float = 0.0
    fidelity: str = "uniform"
    misfit: float = 0.0
    gradient: str = "phantom"
    phantom: tuple[float, ...] = deq.RELEASED_DAMPINGS
    shifts: int = 49
    train_shifts: int = 49
    solver: SolverConfig = field(default_factory=SolverConfig)

    def __post_init__(self) -> None:
        check_numbers(self, shared_atoms=1, unshared_atoms=2, depth=0, heads=1, window=1, states=1, ridge=0, misfit=0)
        choices = {
            "prior": ("swin", "vmamba"), "tie": ("released", "paper"), "detail": ("released", "paper"),
            "init": ("released", "tied", "normalized"), "thresholds": ("free", "positive"),
            "fidelity": ("uniform", "noise-weighted"), "gradient": ("phantom", "implicit", "unrolled"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r}; choose one of {', '.join(allowed)}")
        if self.bands < SPECTRAL_KERNEL:
            raise ValueError(f"bands={self.bands}; the 3-D atoms need at least {SPECTRAL_KERNEL}")
        if not 1 <= self.stride <= self.kernel:
            raise ValueError(f"stride={self.stride} must lie between 1 and the kernel side {self.kernel}, or pixels are missed")
        if self.prior == "swin" and self.shared_atoms % self.heads:
            raise ValueError(f"{self.shared_atoms} shared atoms cannot be split over {self.heads} attention heads; use a multiple of {self.heads}")
        for name in ("shifts", "train_shifts"):
            if not 1 <= getattr(self, name) <= self.stride**2:
                raise ValueError(f"{name}={getattr(self, name)} must lie between 1 and stride^2 = {self.stride**2}")
        if not set(make_tuple(self, "detail_parts")) <= set(PARTS):
            raise ValueError(f"detail_parts={self.detail_parts} must hold nothing but {' and '.join(PARTS)}")
        if not make_tuple(self, "phantom") or not all(isinstance(damping, Real) and 0 < damping <= 1 for damping in self.phantom):
            raise ValueError(f"phantom={self.phantom} must hold at least one damping, each above 0 and at most 1")
        if isinstance(self.solver, dict):
            known = [option.name for option in fields(SolverConfig)]
            if unknown := [name for name in self.solver if name not in known]:
                raise ValueError(f"solver: {unknown[0]!r} is not one of {', '.join(known)}")
            object.__setattr__(self, "solver", SolverConfig(**self.solver))
        if not isinstance(self.solver, SolverConfig):
            raise ValueError(f"solver={self.solver!r} must be a SolverConfig")

    @property
    def final_evaluations(self) -> int:
        """Evaluations of f after the solver, at test as in training."""
        return len(self.phantom) if self.gradient == "phantom" else 1


PRESETS: dict[str, DECSCConfig] = {
    "paper": DECSCConfig(),
    "small": DECSCConfig(
        shared_atoms=64, unshared_atoms=16, stride=4, heads=8, init="normalized", thresholds="positive", ridge=0.1,
        fidelity="noise-weighted", misfit=0.015, phantom=deq.PAPER_DAMPINGS, shifts=9, train_shifts=1,
    ),
    "tiny": DECSCConfig(
        shared_atoms=16, unshared_atoms=4, kernel=5, stride=3, depth=2, heads=4, states=4, init="normalized",
        thresholds="positive", ridge=0.1, fidelity="noise-weighted", misfit=0.015,
        phantom=deq.PAPER_DAMPINGS, shifts=2, train_shifts=1,
    ),
}


def preset(name: str, **changes) -> DECSCConfig:
    """The preset `name` with some fields changed.

    Raises
    ------
    ValueError
        If there is no such preset, or a field is out of range.
    """
    if name not in PRESETS:
        raise ValueError(f"preset {name!r} does not exist; choose one of {', '.join(PRESETS)}")
    return replace(PRESETS[name], **changes)


class Layer:
    """f for one batch of noisy images: a map of packed codes (N, d) onto themselves, with the difference kernel fused once."""

    def __init__(self, model: DECSC, noisy: Tensor) -> None:
        self.model, self.noisy = model, noisy
        self.fused: FusedKernel | None = model.prior_unshared.fuse()
        self.thresholds = model.thresholds()
        self.weights = band_weights(noisy) if model.config.fidelity == "noise-weighted" else 1.0
        config, (bands, *size) = model.config, noisy.shape[1:]
        side = tuple(code_side(s, config.kernel, config.stride) for s in size)
        self.size = tuple(size)
        self.shapes = ((config.shared_atoms, *side), (config.unshared_atoms, bands - SPECTRAL_KERNEL + 1, *side))

    def pack(self, S: Tensor, H: Tensor) -> Tensor:
        """(N, M, h, w) and (N, J, B - 2, h, w) -> (N, d): S flattened, then H flattened."""
        return torch.cat([S.flatten(1), H.flatten(1)], dim=1).to(self.noisy.dtype)

    def unpack(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse of `pack`."""
        split = math.prod(self.shapes[0])
        return z[:, :split].view(-1, *self.shapes[0]), z[:, split:].view(-1, *self.shapes[1])

    def shrink_shared(self, codes: Tensor) -> Tensor:
        """P_S(soft(., theta_1)): the first proximal map of Eq. (9), for the priors of Eqs. (6)-(7)."""
        shrunk = soft_threshold(codes, self.thresholds[0]) / (1 + self.model.config.ridge)
        return self.model.prior_shared(shrunk)

    def shrink_unshared(self, codes: Tensor) -> Tensor:
        """P_H(soft(., theta_2)): the second proximal map of Eq. (9), for the priors of Eqs. (6) and (8)."""
        shrunk = soft_threshold(codes, self.thresholds[1]) / (1 + self.model.config.ridge)
        return self.model.prior_unshared(shrunk, self.fused)

    def initial(self) -> Tensor:
        """S_0 = P_S(soft(W_K Y)), H_0 = P_H(soft(W_D (Y - K S_0))), packed."""
        K, D = self.model.shared, self.model.unshared
        S = self.shrink_shared(K.analyse(self.weights * self.noisy))
        rest = self.noisy - K.synthesise(S, self.size, "reconstruction")
        H = self.shrink_unshared(D.analyse(self.weights * rest))
        return self.pack(S, H)

    def __call__(self, z: Tensor) -> Tensor:
        """One evaluation of f: the two proximal gradient steps of Eqs. (9) and (20), H after S."""
        S, H = self.unpack(z)
        K, D, Y = self.model.shared, self.model.unshared, self.noisy
        rest = Y - D.synthesise(H, self.size, "reconstruction")
        S = self.shrink_shared(S + K.analyse(self.weights * (rest - K.synthesise(S, self.size))))
        rest = Y - K.synthesise(S, self.size, "reconstruction")
        H = self.shrink_unshared(H + D.analyse(self.weights * (rest - D.synthesise(H, self.size))))
        return self.pack(S, H)

    def reconstruct(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The two summands of X = K (x) S + D * H, Eqs. (2), (11) and (21): shared and unshared part, each (N, B, H, W)."""
        S, H = self.unpack(z)
        shared = self.model.shared.synthesise(S, self.size, "reconstruction")
        return shared, self.model.unshared.synthesise(H, self.size, "reconstruction")

    def image(self, z: Tensor) -> Tensor:
        """K (x) S + D * H, (N, B, H, W): the sum of the two parts."""
        return sum(self.reconstruct(z))


class Output(NamedTuple):
    """What a forward pass returns.

    image : (N, B, H, W), the estimate. spread : the same shape, standard deviation over shifts (0 for one shift).
    solution : the solver's evidence, one row a copy, shift-major; None when `gradient` is ``"unrolled"``.
    jacobian : the penalty of `deq.jacobian_penalty` at the solution, if it was asked for.
    """

    image: Tensor
    spread: Tensor
    solution: deq.Solution | None
    jacobian: Tensor | None = None


class DECSC(nn.Module):
    """The network. `generator` draws the initial weights.

    Input and output are (N, B, H, W) with B = `config.bands`, nominally in [0, 1], any H and W.
    """

    def __init__(self, config: DECSCConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config, self.bands = config, config.bands
        M, J = config.shared_atoms, config.unshared_atoms
        self.shared = SharedDictionary(M, config.bands, config.kernel, config.stride, config.tie)
        self.unshared = UnsharedDictionary(J, config.kernel, config.stride, config.tie)
        self.shared_threshold = nn.Parameter(torch.empty(M, 1, 1))
        self.unshared_threshold = nn.Parameter(torch.empty(J, 1, 1, 1))
        self.prior_shared = (
            SwinPrior(M, config.depth, config.heads, config.window) if config.prior == "swin"
            else VMambaPrior(M, config.depth, config.states)
        )
        self.prior_unshared = DetailEnhancement(J, config.detail, config.detail_parts)
        self.reset_parameters(generator or torch.Generator().manual_seed(2021))

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Draw the initial weights by `config.init`."""
        config = self.config
        with torch.no_grad():
            for dictionary in (self.shared, self.unshared):
                shape = dictionary.kernel("synthesis").shape
                taps = math.prod(shape[2:]) * (SPECTRAL_KERNEL if dictionary is self.unshared else 1)
                drawn = torch.randn(shape, generator=generator) * math.sqrt(2 / (shape[0] * taps) / 1000)
                for copy in dictionary.copies.values():
                    copy.copy_(drawn)
                if config.init == "normalized":
                    norm = spectral_norm(dictionary, config.bands, generator)
                    for copy in dictionary.copies.values():
                        copy /= norm
                if config.init == "released" and config.tie == "released":
                    dictionary.copies["analysis"].copy_(torch.randn(shape, generator=generator) * math.sqrt(2 / (shape[0] * taps)))
            for threshold in (self.shared_threshold, self.unshared_threshold):
                threshold.fill_(0.01 if config.thresholds == "free" else math.log(math.expm1(0.01)))
            for module in (*self.prior_shared.modules(), *self.prior_unshared.modules()):
                self._reset(module, generator)

    @staticmethod
    def _reset(module: nn.Module, generator: torch.Generator) -> None:
        """The scaffold of the QRNN3D family: Kaiming for convolutions, tiny linear maps, so that P_S starts near the identity."""
        if isinstance(module, (nn.Conv2d, nn.Conv3d)):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", generator=generator)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 1e-3, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, SS2D):
            module.reset_parameters(generator)
        elif hasattr(module, "relative_position_bias_table"):
            nn.init.trunc_normal_(module.relative_position_bias_table, std=0.02, generator=generator)
        elif isinstance(module, DifferenceConv3d):
            for weight in module.weights.values():
                nn.init.kaiming_normal_(weight, mode="fan_out", generator=generator)

    def thresholds(self) -> tuple[Tensor, Tensor]:
        """theta_1 (M, 1, 1) and theta_2 (J, 1, 1, 1), as the shrinkage uses them."""
        raw = self.shared_threshold, self.unshared_threshold
        return raw if self.config.thresholds == "free" else tuple(F.softplus(t) for t in raw)

    def equilibrium(self, layer: Layer, solver: SolverConfig | None = None) -> tuple[Tensor, deq.Solution | None]:
        """Codes at which the image is reconstructed, packed (N, d), with gradient by `config.gradient` (Eqs. 14-19).

        FloatingPointError if the first codes are not finite; not with ``gradient="unrolled"``.
        """
        config, solver = self.config, solver or self.config.solver
        if config.gradient == "unrolled":
            return deq.unrolled(layer, layer.initial(), solver.max_iter), None
        with torch.no_grad():
            codes = layer.initial()
            if not codes.isfinite().all():
                reason = "the image has NaN or infinity, or the weights grew too large (in training, try a smaller learning rate)"
                raise FloatingPointError(f"the first codes are not finite: {reason}")
            solution = deq.solve(layer, codes, **asdict(solver))
        if config.gradient == "implicit":
            return deq.implicit(layer, solution.z), solution
        return deq.phantom(layer, solution.z, config.phantom), solution

    def forward(
        self, noisy: Tensor, shifts: list[Shift] | None = None, max_iter: int | None = None,
        probe: np.random.Generator | None = None,
    ) -> Output:
        """Denoise (N, B, H, W), averaging `shifts` (default: `config.shifts` of them, spread evenly).

        `max_iter` replaces the solver's. With `probe`, a source of random numbers, the output also holds the Jacobian penalty.

        Raises
        ------
        ValueError
            If the number of bands or the type of the numbers is not the network's, or there is nothing to denoise; if a shift is
            not one of the stride.
        FloatingPointError
            If the first codes, which an image that is not finite spoils, are not finite; not with ``gradient="unrolled"``.
        """
        output = self.without_misfit(noisy, shifts, max_iter, probe)
        return output._replace(image=self.with_misfit(output.image, noisy))

    def without_misfit(
        self, noisy: Tensor, shifts: list[Shift] | None = None, max_iter: int | None = None,
        probe: np.random.Generator | None = None,
    ) -> Output:
        """`forward`, which tells what it raises, but for the misfit: `image` is the mean of K (x) S + D * H over shifts."""
        config = self.config
        if noisy.ndim != 4 or noisy.shape[1] != config.bands:
            raise ValueError(f"input {tuple(noisy.shape)} must be (images, {config.bands} bands, rows, columns)")
        if not noisy.numel():
            raise ValueError(f"input {tuple(noisy.shape)} is empty")
        if noisy.dtype != self.shared_threshold.dtype:
            raise ValueError(f"input of {noisy.dtype} must be of {self.shared_threshold.dtype}, as the network is, about in [0, 1]")
        if shifts is not None and not (shifts and all(one in range(config.stride) for shift in shifts for one in shift)):
            raise ValueError(f"shifts={shifts} must be pairs of whole numbers from 0 to {config.stride - 1}, at least one pair")
        if shifts is None:
            shifts = averaged_shifts(config.stride, config.shifts)
        layer = Layer(self, split_shifts(noisy, config.kernel, config.stride, shifts))
        solver = config.solver if max_iter is None else replace(config.solver, max_iter=max_iter)
        z, solution = self.equilibrium(layer, solver)
        copies = crop_shifts(layer.image(z), tuple(noisy.shape[-2:]), config.stride, shifts)
        jacobian = None if probe is None else deq.jacobian_penalty(layer, z, probe)
        return Output(copies.mean(0), copies.std(0, unbiased=False), solution, jacobian)

    def with_misfit(self, parts: Tensor, noisy: Tensor) -> Tensor:
        """X of the parts K (x) S + D * H of a noisy image, all (N, B, H, W): where the configuration has a `misfit`, R's mean is added."""
        e = self.config.misfit
        return parts + misfit.posterior_mean(noisy - parts, noise_levels(noisy), e) if e else parts


@torch.no_grad()
def spectral_norm(
    dictionary: SharedDictionary | UnsharedDictionary, bands: int, generator: torch.Generator, iterations: int = 30
) -> float:
    """Largest singular value of a tied dictionary, on an image of a few atoms' side, by power iteration."""
    side = dictionary.kernel("synthesis").shape[-1] + 6 * dictionary.stride
    image = torch.randn(1, bands, side, side, generator=generator)
    for _ in range(iterations):
        image = dictionary.synthesise(dictionary.analyse(image / image.norm()), (side, side))
    return math.sqrt(float(image.norm()))
