"""The two convolutional dictionaries of X = K (x) S + D * H, and the shrinkage of their codes (Eqs. 3-5, 9-11).

A dictionary is used in three places: to analyse an image into codes (`W = K^T` in the paper), to synthesise an image
from codes inside an update, and to reconstruct the final image. The paper writes one `K`; the released code keeps three
copies that are tied at initialisation only. `tie` chooses between the two.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

ROLES = ("analysis", "synthesis", "reconstruction")
SPECTRAL_KERNEL = 3


def soft_threshold(codes: Tensor, threshold: Tensor) -> Tensor:
    r"""Shrink every coefficient towards zero: the proximal map of a weighted :math:`\ell_1` norm.

    .. math:: \mathrm{Soft}_\theta(x) = \mathrm{sign}(x)\,\max(|x| - \theta, 0)

    Source: Eq. (10). Written as relu(x - theta) - relu(-x - theta), which is the same for theta >= 0 and stays continuous for
    the negative thresholds that the released weights may hold.

    Parameters
    ----------
    codes : Tensor
        Coefficients, dimensionless.
    threshold : Tensor
        Broadcastable against `codes`, same unit.
    """
    return F.relu(codes - threshold) - F.relu(-codes - threshold)


def code_side(side: int, kernel: int, stride: int) -> int:
    """Number of atoms that fit along one image side of `side` pixels."""
    return (side - kernel) // stride + 1


class Dictionary(nn.Module):
    """Kernels of one dictionary in its three roles; one tensor for all of them when `tie` is ``"paper"``."""

    def __init__(self, shape: tuple[int, ...], stride: int, tie: str) -> None:
        super().__init__()
        self.stride = stride
        roles = ROLES if tie == "released" else ("synthesis",)
        self.copies = nn.ParameterDict({role: nn.Parameter(torch.zeros(shape)) for role in roles})

    def kernel(self, role: str) -> Tensor:
        """The kernels that serve `role`."""
        return self.copies[role if role in self.copies else "synthesis"]


class SharedDictionary(Dictionary):
    """K: one 2-D dictionary a band, all bands with the same codes S (global inter-band common structures, Eq. 3).

    Parameters
    ----------
    atoms, bands, kernel, stride : int
        M, B, side of an atom and distance between neighbouring atoms, in pixels.
    tie : {"released", "paper"}
        Three free copies, or one.
    """

    def __init__(self, atoms: int, bands: int, kernel: int, stride: int, tie: str) -> None:
        super().__init__((atoms, bands, kernel, kernel), stride, tie)

    def analyse(self, image: Tensor) -> Tensor:
        """K^T image: (N, B, H, W) -> (N, M, h, w), the adjoint of `synthesise` when the copies are equal."""
        return F.conv2d(image, self.kernel("analysis"), stride=self.stride)

    def synthesise(self, codes: Tensor, size: tuple[int, int], role: str = "synthesis") -> Tensor:
        """K (x) S, Eq. (3): (N, M, h, w) -> (N, B, H, W) with (H, W) = `size`; pixels no atom reaches are 0."""
        kernel = self.kernel(role)
        rest = [(side - kernel.shape[-1]) % self.stride for side in size]
        return F.conv_transpose2d(codes, kernel, stride=self.stride, output_padding=rest)


class UnsharedDictionary(Dictionary):
    """D: 3-D atoms over 3 bands, with codes of their own in every band (local spatial-spectral unique structures, Eq. 4).

    There is no padding in the spectral direction: B bands have B - 2 code slices. Both directions are computed a band at a
    time with 2-D operations, which is several times faster on a CPU than the equivalent 3-D convolutions.

    Parameters
    ----------
    atoms, kernel, stride : int
        J, side of an atom and distance between neighbouring atoms in space, in pixels.
    tie : {"released", "paper"}
        Three free copies, or one.
    """

    def __init__(self, atoms: int, kernel: int, stride: int, tie: str) -> None:
        super().__init__((atoms, SPECTRAL_KERNEL, kernel, kernel), stride, tie)

    def analyse(self, image: Tensor) -> Tensor:
        """D^T image: (N, B, H, W) -> (N, J, B - 2, h, w), the adjoint of `synthesise` when the copies are equal."""
        triples = rearrange(image.unfold(1, SPECTRAL_KERNEL, 1), "n b h w k -> (n b) k h w")
        codes = F.conv2d(triples, self.kernel("analysis"), stride=self.stride)
        return rearrange(codes, "(n b) j h w -> n j b h w", n=image.shape[0])

    def synthesise(self, codes: Tensor, size: tuple[int, int], role: str = "synthesis") -> Tensor:
        """D * H, Eq. (4): (N, J, B - 2, h, w) -> (N, B, H, W) with (H, W) = `size`; pixels no atom reaches are 0."""
        kernel = self.kernel(role)
        reach = SPECTRAL_KERNEL - 1
        padded = F.pad(codes.flatten(3), (0, 0, reach, reach))
        per_band = rearrange(padded.unfold(2, SPECTRAL_KERNEL, 1), "n j b l k -> (n b) (k j) l")
        taps = rearrange(kernel.flip(1), "j k y x -> (y x) (k j)").expand(len(per_band), -1, -1)
        patches = rearrange(torch.bmm(taps, per_band), "(n b) p l -> n (b p) l", n=codes.shape[0])
        return F.fold(patches, size, kernel.shape[-1], stride=self.stride)
