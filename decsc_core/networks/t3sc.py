"""T3SC, a trainable spectral-spatial sparse coding model (Bodrito, Zouaoui, Chanussot and Mairal, NeurIPS 2021).

Two convolutional sparse coding layers, unrolled: the first codes the spectrum of every pixel, the second the 5x5
patches of the first layer's code maps. Every layer is decoded again, the second first. The released evaluation also
clamps the result to [0, 1], which changes its metrics; here nothing is clamped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from decsc_core.checks import check_numbers, check_tuples
from decsc_core.model.dictionary import soft_threshold
from decsc_core.networks.initialise import default_generator, reset_like_torch
from decsc_core.networks.names import count, renamed
from decsc_core.networks.padding import crop_to, pad_to, require_bands

PROBE, LEAST_PROBE = 56, 55
"""Side of the centre block that the noise estimator looks at, and the smallest side that it can take, in pixels."""

_THRESHOLD = 1e-3
_PER_LAYER = ("atoms", "kernels", "ranks", "steps")


@dataclass(frozen=True)
class T3SCConfig:
    """Everything that defines a T3SC; the defaults are the paper's.

    Parameters
    ----------
    bands : int
    atoms, kernels, ranks, steps : tuple of int
        For each of the two layers: code channels, side of the atoms in pixels, rank of the atoms as matrices of
        channels by pixels, and number of thresholdings.
    noise_adaptive : bool
        Weigh every band by a small network's judgement of its noise; the authors recommend it for noise that differs
        between bands.
    block, overlap : int
        Images are denoised in square blocks of at most this side, and averaged where these overlap, in pixels. The mean
        that is removed from the bands, and their weights, are those of a block.
    """

    bands: int = 31
    atoms: tuple[int, ...] = (64, 1024)
    kernels: tuple[int, ...] = (1, 5)
    ranks: tuple[int, ...] = (1, 3)
    steps: tuple[int, ...] = (12, 5)
    noise_adaptive: bool = False
    block: int = 256
    overlap: int = 6

    def __post_init__(self) -> None:
        check_numbers(self, bands=1)
        check_tuples(self, *_PER_LAYER)
        for name in _PER_LAYER:
            if len(value := getattr(self, name)) != 2:
                raise ValueError(f"{name}={value} must hold a number for each of the two layers")
        if self.block < self.smallest:
            needed = f"{self.smallest}, which the atoms or the noise estimator need"
            raise ValueError(f"block={self.block} must be at least {needed}")
        if not 0 <= self.overlap < self.block:
            raise ValueError(f"overlap={self.overlap} must lie between 0 and block - 1 = {self.block - 1}")

    @property
    def smallest(self) -> int:
        """Side of the smallest block the network can take."""
        atoms = sum(self.kernels) - 1
        return max(atoms, LEAST_PROBE) if self.noise_adaptive else atoms


PRESETS = {
    "paper": {},
    "small": {"atoms": (64, 256)},
    "tiny": {"atoms": (8, 16), "ranks": (1, 2), "steps": (3, 2)},
    "paper-adaptive": {"noise_adaptive": True},
    "small-adaptive": {"atoms": (64, 256), "noise_adaptive": True},
}


class Bank(nn.Module):
    """Atoms of low rank: the sum over r of a spectral times a spatial factor, (S, C, R) and (S, R, k^2)."""

    def __init__(self, atoms: int, channels: int, rank: int, kernel: int) -> None:
        super().__init__()
        self.spectral = nn.Parameter(torch.empty(atoms, channels, rank))
        self.spatial = nn.Parameter(torch.empty(atoms, rank, kernel**2))

    def kernel(self) -> Tensor:
        """(S, C, k, k)."""
        return rearrange(self.spectral @ self.spatial, "s c (y x) -> s c y x", y=math.isqrt(self.spatial.shape[-1]))


class CodingLayer(nn.Module):
    """One layer: codes of the k x k patches of (N, C, H, W), centred for k > 1, and the patches of codes, averaged.

    With independent banks C, D and W: a_0 = soft(C x, t_0), a_j = soft(C x + a_(j-1) - C D^T a_(j-1), t_j); the image
    is W^T a over the number of patches that cover a pixel. For k > 1 the mean of every patch is left out of the
    first C x, by removing the spatial mean of the atoms, and added to W^T a.
    """

    def __init__(self, channels: int, atoms: int, kernel: int, rank: int, steps: int) -> None:
        super().__init__()
        self.side = kernel
        self.analysis, self.synthesis, self.reconstruction = (Bank(atoms, channels, rank, kernel) for _ in range(3))
        self.thresholds = nn.ParameterList(torch.empty(atoms, 1, 1) for _ in range(steps))

    def encode(self, image: Tensor, weights: Tensor | float) -> Tensor:
        """(N, C, H, W) -> (N, S, H - k + 1, W - k + 1); `weights` of the channels multiply everything that C sees."""
        analysis, synthesis = self.analysis.kernel(), self.synthesis.kernel()
        centred = analysis - analysis.mean((2, 3), keepdim=True) if self.side > 1 else analysis
        first = F.conv2d(weights * image, centred)
        codes = soft_threshold(first, self.thresholds[0])
        for threshold in self.thresholds[1:]:
            again = F.conv2d(weights * F.conv_transpose2d(codes, synthesis), analysis)
            codes = soft_threshold(first + codes - again, threshold)
        return codes

    def decode(self, codes: Tensor, image: Tensor) -> Tensor:
        """(N, S, h, w) -> (N, C, H, W); `image` is what was encoded, for the means of its patches."""
        total = F.conv_transpose2d(codes, self.reconstruction.kernel())
        if self.side == 1:
            return total
        area = self.side**2
        return (total + self._spread(F.avg_pool2d(image, self.side, 1)) * area) / (
            self._spread(codes.new_ones(1, 1, *codes.shape[-2:])) * area
        )

    def _spread(self, patches: Tensor) -> Tensor:
        """Every pixel's sum over the patches that cover it, over k^2."""
        return F.avg_pool2d(F.pad(patches, [self.side - 1] * 4), self.side, 1)


class T3SC(nn.Module):
    """The network: (N, B, H, W) -> the same shape, nominally in [0, 1], any H and W; B = `config.bands`.

    In the paper's size it has 832,256 parameters: 6,912 and 825,344 in the two layers; noise adaption adds 76,673.
    `generator` draws their initial values.
    """

    def __init__(self, config: T3SCConfig = T3SCConfig(), generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config, self.bands = config, config.bands
        channels = (config.bands, config.atoms[0])
        self.layers = nn.ModuleList(
            CodingLayer(*sizes) for sizes in zip(channels, config.atoms, config.kernels, config.ranks, config.steps)
        )
        self.estimator = noise_estimator() if config.noise_adaptive else None
        self.reset_parameters(generator or default_generator())

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Kaiming-uniform factors, thresholds of 0.001, PyTorch's start for the estimator."""
        for module in self.modules():
            if isinstance(module, Bank):
                for factor in (module.spectral, module.spatial):
                    nn.init.kaiming_uniform_(factor, a=math.sqrt(5), generator=generator)
            elif isinstance(module, CodingLayer):
                for threshold in module.thresholds:
                    nn.init.constant_(threshold, _THRESHOLD)
            elif isinstance(module, nn.Conv2d):
                reset_like_torch(module, generator)

    def band_weights(self, centred: Tensor) -> Tensor | float:
        """(N, B, 1, 1) in (0, 1), one minus the estimator's say on every band of a mean-free block; 1.0 without it."""
        if self.estimator is None:
            return 1.0
        top, left = (max(side - PROBE, 0) // 2 for side in centred.shape[-2:])
        probe = centred[..., top : top + PROBE, left : left + PROBE]
        judged = self.estimator(rearrange(probe, "n b h w -> (n b) 1 h w"))
        return 1 - rearrange(judged, "(n b) 1 1 1 -> n b 1 1", n=len(centred))

    def encode(self, centred: Tensor) -> tuple[Tensor, Tensor]:
        """The codes of both layers for one mean-free block (N, B, H, W): (N, S1, H, W) and (N, S2, H - 4, W - 4) for 1x1 and 5x5 atoms."""
        spectra = self.layers[0].encode(centred, self.band_weights(centred))
        return spectra, self.layers[1].encode(spectra, 1.0)

    def denoise_block(self, block: Tensor) -> Tensor:
        """(N, B, H, W) -> the same shape, in one piece."""
        mean = block.mean((2, 3), keepdim=True)
        spectra, patches = self.encode(block - mean)
        return self.layers[0].decode(self.layers[1].decode(patches, spectra), block) + mean

    def forward(self, noisy: Tensor) -> Tensor:
        require_bands(noisy, self.bands)
        config = self.config
        longest = max(*noisy.shape[-2:], config.smallest)
        block, step = min(longest, config.block), config.block - config.overlap
        starts = [range(0, max(side - config.overlap, 1), step) for side in noisy.shape[-2:]]
        padded = pad_to(noisy, *(positions[-1] + block for positions in starts))
        total, covered = torch.zeros_like(padded), padded.new_zeros(padded.shape[-2:])
        for top in starts[0]:
            for left in starts[1]:
                where = (..., slice(top, top + block), slice(left, left + block))
                total[where] += self.denoise_block(padded[where])
                covered[where] += 1
        return crop_to(total / covered, noisy)


def noise_estimator() -> nn.Sequential:
    """The judge of a band's noise: (N, 1, 56, 56) -> (N, 1, 1, 1) in (0, 1)."""
    return nn.Sequential(
        nn.Conv2d(1, 64, 5, stride=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 128, 3, stride=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(128, 1, 3), nn.Sigmoid(),
    )


_RENAMED = [
    (r"\.C\.", ".analysis."),
    (r"\.D\.", ".synthesis."),
    (r"\.W\.", ".reconstruction."),
    (r"(analysis|synthesis|reconstruction)\.0$", r"\1.spectral"),
    (r"(analysis|synthesis|reconstruction)\.1$", r"\1.spatial"),
    (r"\.thresholds\.lbda\.", ".thresholds."),
    (r"^layers\.0\.beta_estimator\.", "estimator."),
]


def own_key(official: str) -> str:
    """Our name of an official parameter; every one has a counterpart."""
    return renamed(official, _RENAMED)


def from_official(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of an official state dict under our names."""
    return {own_key(key): tensor for key, tensor in state.items()}


def config_of(state: dict[str, Tensor]) -> T3SCConfig:
    """The configuration of an official state dict, read from its tensors."""
    spatial = [state[f"layers.{i}.C.1"].shape for i in range(2)]
    return T3SCConfig(
        bands=state["layers.0.C.0"].shape[1],
        atoms=tuple(shape[0] for shape in spatial),
        ranks=tuple(shape[1] for shape in spatial),
        kernels=tuple(math.isqrt(shape[2]) for shape in spatial),
        steps=tuple(count(state, rf"layers\.{i}\.thresholds\.lbda\.\d+") for i in range(2)),
        noise_adaptive="layers.0.beta_estimator.0.weight" in state,
    )
