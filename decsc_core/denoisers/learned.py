"""The learned peers on scenes of any size and any number of bands."""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange
from tqdm.auto import tqdm

from decsc_core.denoisers.base import Denoiser, Estimate
from decsc_core.denoisers.device import pick_device, spare_memory, without_autocast
from decsc_core.denoisers.tiling import OVERLAP, pieces, reflect_bands
from decsc_core.weights import Weights

TILE = 512
VOXEL_BYTES, CPU_BYTES = 1200, 4 * 2**30
"""Memory that the hungriest network takes for a value of the cube, and that a tile may take on a CPU."""


class Learned(Denoiser):
    """A trained feed-forward network as a denoiser.

    Images of up to 512 x 512 pixels go through the network whole, as in the papers, if that fits half of a GPU's free memory or, on a
    CPU, 4 GiB (of 31 bands 320 pixels a side do, of 191 bands 128); others in overlapping tiles that are blended linearly. A network for B bands serves other numbers as DECSC does: more bands go through it in
    half-overlapping windows that are averaged, fewer are extended by reflection.

    Parameters
    ----------
    weights : Weights
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"`` or another device of torch.

    Raises
    ------
    ValueError
        If `device` cannot be used.
    """

    kind = "learned"

    def __init__(self, weights: Weights, *, device: str = "auto") -> None:
        self.name, self.weights = weights.method, weights
        self.params = sum(p.numel() for p in weights.model.parameters())
        self.device = pick_device(device)

    def tiles(self, shape: tuple[int, int, int]) -> list[tuple[tuple[slice, ...], np.ndarray]]:
        """The `pieces` in which a cube (H, W, B), extended to the network's bands, goes through it."""
        bands = self.weights.model.bands or shape[2]
        return pieces(shape, largest_tile(bands, self.device), OVERLAP, bands)

    @torch.no_grad()
    @without_autocast
    def _denoise(self, noisy: np.ndarray, progress: bool) -> Estimate:
        model = self.weights.model.to(self.device)
        cube = reflect_bands(noisy, model.bands or noisy.shape[2])
        total, weight = np.zeros_like(cube), np.zeros_like(cube)
        for where, blend in tqdm(self.tiles(noisy.shape), desc=self.name, unit="tile", disable=not progress):
            image = rearrange(torch.from_numpy(cube[where]), "h w b -> 1 b h w").to(self.device)
            total[where] += blend * rearrange(model(image)[0].cpu().numpy(), "b h w -> h w b")
            weight[where] += blend
        return Estimate((total / weight)[..., : noisy.shape[2]])


def largest_tile(bands: int, device: torch.device) -> int:
    """Side of the largest tile of so many bands, up to `TILE` pixels by steps of 32, that fits the memory."""
    memory = spare_memory(device, CPU_BYTES)
    return next((side for side in range(TILE, 32, -32) if VOXEL_BYTES * side**2 * bands <= memory), 32)
