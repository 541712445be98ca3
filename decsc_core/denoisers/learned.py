"""The learned peers on scenes of any size and any number of bands."""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange
from tqdm.auto import tqdm

from decsc_core.denoisers.base import Denoiser, Estimate
from decsc_core.denoisers.device import pick_device
from decsc_core.denoisers.tiling import OVERLAP, pieces, reflect_bands
from decsc_core.weights import Weights

TILE = 512


class Learned(Denoiser):
    """A trained feed-forward network as a denoiser.

    Images of up to 512 x 512 pixels go through the network whole, as in the papers; larger ones in overlapping tiles that
    are blended linearly. A network for B bands serves other numbers as DECSC does: more bands go through it in
    half-overlapping windows that are averaged, fewer are extended by reflection.

    Parameters
    ----------
    weights : Weights
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"`` or another device of torch.
    tile : int
        Side of a tile in pixels.

    Raises
    ------
    ValueError
        If `device` or `tile` cannot be used.
    """

    kind = "learned"

    def __init__(self, weights: Weights, *, device: str = "auto", tile: int = TILE) -> None:
        self.name, self.weights = weights.method, weights
        self.params = sum(p.numel() for p in weights.model.parameters())
        self.device = pick_device(device)
        if tile < 1:
            raise ValueError(f"tile={tile} must be at least 1 pixel")
        self.tile = tile

    @torch.no_grad()
    def _denoise(self, noisy: np.ndarray, progress: bool) -> Estimate:
        model = self.weights.model.to(self.device)
        width = model.bands or noisy.shape[2]
        cube = reflect_bands(noisy, width)
        total, weight = np.zeros_like(cube), np.zeros_like(cube)
        for where, blend in tqdm(
            pieces(cube.shape, self.tile, OVERLAP, width), desc=self.name, unit="tile", disable=not progress
        ):
            image = rearrange(torch.from_numpy(cube[where]), "h w b -> 1 b h w").to(self.device)
            total[where] += blend * rearrange(model(image)[0].cpu().numpy(), "b h w -> h w b")
            weight[where] += blend
        return Estimate((total / weight)[..., : noisy.shape[2]])
