"""MTSNN++, a multitask sparse representation network (Xiong et al., IEEE TGRS 2023): OUR RECONSTRUCTION of it.

Neither code nor the full text of the paper could be obtained. The abstract and the remarks of the DECSC paper tell: a
shared sparse representation (every band has its own dictionary, all bands share the coefficients), an unshared one
(every band has coefficients of its own, for detail), and a reconstruction; purely sparse priors; 1.95 M parameters. The
rest is inferred: patches of 9 x 9 at stride 1, 192 shared and 64 unshared atoms, 9 unrolled steps. These numbers give
1,948,032 parameters, but others would fit as well. Results of this network are results of the reconstruction, not of
the authors'.

With Y_b the patches of band b as columns, their means removed, the problem is

    min over A, E_b of  1/2 sum_b |Y_b - D_b A - U_b E_b|^2 + l_1 |A|_1 + l_2 sum_b |E_b|_1,

unrolled alternately from A = E_b = 0, k = 1..K, with learned analysis copies P_b, Q_b in place of the transposes:

    A   <- soft(A   + sum_b P_b (Y_b - D_b A - U_b E_b), t_k)
    E_b <- soft(E_b + Q_b (Y_b - D_b A - U_b E_b), s_(k, b))     with the new A

and X_b = G_b A + R_b E_b, plus the means, averaged over the patches that cover a pixel. Since no patch sees another one
before the end, P_b D_b and its like are multiplied once an estimate, and an image is treated in strips.

The squares are right for Gaussian noise, and nothing tells a patch which bands have impulses, stripes or dead columns. How
the authors meet them the abstract does not tell. With `MTSNNPPConfig.gross_errors`, a choice of ours as DECSC's denoiser has one,
an image with such errors is estimated three times, each time from an image that is nearer to the estimate before
(`decsc_core.model.gross.again`). In training it is estimated twice, the second time with the errors alone taken out (`gross.cut`):
so the small network gained 0.3 dB in mixture noise, by 6,000 patches, on ten training and validation scenes of CAVE; by 1,200 patches
with the third estimate in training it lost 0.5 dB.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from decsc_core.checks import check_numbers
from decsc_core.model.dictionary import ROLES, soft_threshold
from decsc_core.model.gross import again, cut
from decsc_core.model.shifts import reflect_index
from decsc_core.networks.initialise import default_generator
from decsc_core.networks.padding import require_bands

STRIP, GPU_STRIP = 2048, 65536
"""Patches treated at a time, in whole rows: as many as keep the codes in a CPU's cache, or a GPU busy."""

_THRESHOLD = 0.01


@dataclass(frozen=True)
class MTSNNPPConfig:
    """Everything that defines the network; the defaults are the reconstruction's guess at the paper's.

    Parameters
    ----------
    bands, shared_atoms, unshared_atoms : int
        B, M, J.
    patch : int
        Side of a patch in pixels.
    steps : int
        K.
    gross_errors : float
        Scale [0, 1] of the errors that an estimate makes by itself, as DECSC's `misfit`: what it leaves over of the image and is much larger, and
        larger than the noise of its band, is a gross error, for which an image is estimated again. 0: there is one estimate.
    """

    bands: int = 31
    shared_atoms: int = 192
    unshared_atoms: int = 64
    patch: int = 9
    steps: int = 9
    gross_errors: float = 0.0

    def __post_init__(self) -> None:
        check_numbers(self, bands=1, shared_atoms=1, unshared_atoms=1, patch=2, steps=1, gross_errors=0)


PRESETS = {
    "paper": {},
    "small": {"shared_atoms": 64, "unshared_atoms": 8, "steps": 6},
    "tiny": {"shared_atoms": 8, "unshared_atoms": 2, "patch": 5, "steps": 2},
}


class MTSNNPP(nn.Module):
    """The reconstructed network: (N, B, H, W) -> the same shape, nominally in [0, 1], any H and W; B = `config.bands`.

    In the guessed size it has 1,948,032 parameters: three copies of 31 x 81 x (192 + 64) in the dictionaries,
    9 x (192 + 31 x 64) thresholds. `generator` draws the initial values.

    Attributes
    ----------
    shared, unshared : dict of Parameter
        Copies for analysis, synthesis, reconstruction: P, D, G of shape (B, M, p^2); Q, U, R of shape (B, J, p^2).
    shared_thresholds, unshared_thresholds : Parameter, shapes (K, M, 1) and (K, B, J, 1)
    """

    def __init__(self, config: MTSNNPPConfig = MTSNNPPConfig(), generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config, self.bands = config, config.bands
        B, M, J, area = config.bands, config.shared_atoms, config.unshared_atoms, config.patch**2
        self.shared = nn.ParameterDict({role: torch.empty(B, M, area) for role in ROLES})
        self.unshared = nn.ParameterDict({role: torch.empty(B, J, area) for role in ROLES})
        self.shared_thresholds = nn.Parameter(torch.empty(config.steps, M, 1))
        self.unshared_thresholds = nn.Parameter(torch.empty(config.steps, B, J, 1))
        self.reset_parameters(generator or default_generator())

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator) -> None:
        """Tied copies of random atoms without mean; D and every U_b have norm 1, so that unit steps cannot diverge."""
        for copies in (self.shared, self.unshared):
            atoms = torch.randn(copies["synthesis"].shape, generator=generator)
            atoms -= atoms.mean(-1, keepdim=True)
            stacked = rearrange(atoms, "b m p -> m (b p)") if copies is self.shared else atoms
            atoms /= torch.linalg.matrix_norm(stacked, ord=2)[..., None, None]
            for copy in copies.values():
                copy.copy_(atoms)
        for thresholds in (self.shared_thresholds, self.unshared_thresholds):
            thresholds.fill_(_THRESHOLD)

    def analyse(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """sum_b P_b Y_b and Q_b Y_b: (B, p^2, L) -> (M, L) and (B, J, L)."""
        shared = rearrange(self.shared["analysis"], "b m p -> m (b p)") @ patches.flatten(0, 1)
        return shared, self.unshared["analysis"] @ patches

    def synthesise(self, A: Tensor, E: Tensor, role: str = "reconstruction") -> Tensor:
        """G_b A + R_b E_b, or D_b A + U_b E_b: (M, L) and (B, J, L) -> (B, p^2, L)."""
        shared = rearrange(self.shared[role], "b m p -> (b p) m") @ A
        return torch.baddbmm(shared.view(len(E), -1, A.shape[-1]), self.unshared[role].mT, E)

    def products(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the steps need: 1 - sum_b P_b D_b (M, M), P_b U_b (M, B J), Q_b D_b (B J, M), 1 - Q_b U_b (B, J, J)."""
        P, D = self.shared["analysis"], self.shared["synthesis"]
        Q, U = self.unshared["analysis"], self.unshared["synthesis"]
        keep_A = torch.eye(P.shape[1], dtype=P.dtype, device=P.device) - torch.einsum("bmp,bkp->mk", P, D)
        keep_E = torch.eye(Q.shape[1], dtype=Q.dtype, device=Q.device) - Q @ U.mT
        return keep_A, rearrange(P @ U.mT, "b m j -> m (b j)"), rearrange(Q @ D.mT, "b j m -> (b j) m"), keep_E

    def codes(self, patches: Tensor, products: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """A (M, L) and E (B, J, L) of the patches (B, p^2, L), their means removed, after all steps."""
        keep_A, PU, QD, keep_E = products
        PY, QY = self.analyse(patches)
        E = None
        for t, s in zip(self.shared_thresholds, self.unshared_thresholds):
            A = PY if E is None else torch.addmm(torch.addmm(PY, keep_A, A), PU, E.flatten(0, 1), alpha=-1)
            A = soft_threshold(A, t)
            rest = torch.addmm(QY.flatten(0, 1), QD, A, alpha=-1).view_as(QY)
            E = soft_threshold(rest if E is None else torch.baddbmm(rest, keep_E, E), s)
        return A, E

    def forward(self, noisy: Tensor) -> Tensor:
        require_bands(noisy, self.bands)
        e = self.config.gross_errors
        if not e:
            return self.estimate(noisy)
        if self.training:
            with torch.no_grad():
                first = self.estimate(noisy)
            return self.estimate(cut(noisy, first, e))
        return again(noisy, self.estimate(noisy), self.estimate, e)

    def estimate(self, noisy: Tensor) -> Tensor:
        """X of a noisy image whose noise is taken for Gaussian; (N, B, H, W) like it."""
        side, (n, bands, height, width) = self.config.patch, noisy.shape
        reach = side - 1
        rows, columns = (reflect_index(length, reach, reach, noisy.device) for length in (height, width))
        image = noisy[..., rows, :][..., columns]
        products = self.products()
        strip = max(1, (STRIP if noisy.device.type == "cpu" else GPU_STRIP) // (n * (width + reach)))
        total = torch.zeros_like(image)
        for top in range(0, height + reach, strip):
            part = image[..., top : top + strip + reach, :]
            patches = rearrange(F.unfold(part, side), "n (b p) l -> b p (n l)", b=bands)
            mean = patches.mean(1, keepdim=True)
            patches = self.synthesise(*self.codes(patches - mean, products)) + mean
            patches = rearrange(patches, "b p (n l) -> n (b p) l", n=n)
            total[..., top : top + strip + reach, :] += F.fold(patches, part.shape[-2:], side)
        return total[..., reach : reach + height, reach : reach + width] / side**2


def config_of(state: dict[str, Tensor]) -> MTSNNPPConfig:
    """Refuses every state dict: there is no official one."""
    own = "this network is a reconstruction and reads only weights that decsc train wrote"
    raise ValueError(f"MTSNN++ was never released; {own}")
