"""DECSC on scenes of any size and any number of bands: tiles, band windows, shifts."""

from __future__ import annotations

from numbers import Integral

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from tqdm.auto import tqdm

from decsc_core.denoisers.base import Denoiser, Estimate, Record
from decsc_core.denoisers.device import pick_device, spare_memory, without_autocast
from decsc_core.denoisers.tiling import OVERLAP, pieces, reflect_bands
from decsc_core.denoisers.wiener import wiener
from decsc_core.deq import Solution
from decsc_core.model import DECSC, misfit
from decsc_core.model.brightness import gain
from decsc_core.model.gross import PASSES, cut
from decsc_core.model.noise_levels import noise_levels
from decsc_core.model.shifts import Shift, averaged_shifts
from decsc_core.weights import Weights

TILE = 256
CPU_BYTES = 2 * 2**30
CPU_COPIES = 3
"""Shifted copies that a CPU solves at a time: more fall out of its cache, and are up to 1.2 times slower (`benchmarks/equilibrium.py`)."""


class Equilibrium(Denoiser):
    """A trained DECSC network as a denoiser.

    The image is cut into overlapping tiles, of 256 x 256 pixels or less where one would not fit the memory, that are blended
    linearly, so no tile border shows. A network for B bands serves other numbers: more bands go through it in half-overlapping windows that are averaged (the paper's band splitting), fewer
    are extended by reflection, noise and all, so that for one band or a few a band-wise method is mostly better. Fixed points are found for
    each tile, window and shift on its own. Where what an estimate leaves over shows impulses, stripes or dead columns, they are
    cut down and the tile is denoised again, up to `gross.PASSES` times in all; Gaussian noise takes one pass, but for rare
    images of strong fine texture. Dark tiles and windows are made brighter before they are denoised, and darker again after
    (`brightness.gain`), and so are dark bands. By the whole estimate at last the noisy image is filtered (`wiener`).
    An image of a single pixel, which tells nothing of its noise, comes back as it is. Passes, brightening, filter and this are so with
    networks that have a `misfit` only, as those of the package have.

    Parameters
    ----------
    weights : Weights
    shifts : int, optional
        Shifts averaged, between 1 and stride^2 (default: the network's). More are slower and better.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"`` or another device of torch.
    spread : bool
        Also return the standard deviation over shifts, an estimate of the error; of what is not filtered yet.

    Raises
    ------
    ValueError
        If `shifts` or `device` cannot be used.
    """

    kind = "equilibrium"

    def __init__(
        self, weights: Weights, *, shifts: int | None = None, device: str = "auto", spread: bool = False,
    ) -> None:
        self.name, self.weights, self.spread = weights.method, weights, spread
        self.params = sum(p.numel() for p in weights.model.parameters())
        self.device = pick_device(device)
        config = weights.model.config
        count = config.shifts if shifts is None else shifts
        if not isinstance(count, Integral):
            raise ValueError(f"shifts={count!r} must be a whole number from 1 to stride^2 = {config.stride**2}")
        self.shifts = averaged_shifts(config.stride, count)
        self.tile = _largest_tile(weights.model, spare_memory(self.device, CPU_BYTES))

    def tiles(self, shape: tuple[int, int, int]) -> list[tuple[tuple[slice, ...], np.ndarray]]:
        """The `pieces` in which a cube (H, W, B) goes through the network; each is extended to its bands, if it has fewer."""
        return pieces(shape, self.tile, OVERLAP, self.weights.model.config.bands)

    @torch.no_grad()
    @without_autocast
    def _denoise(self, noisy: np.ndarray, progress: bool) -> Estimate:
        model = self.weights.model.to(self.device)
        jobs = self.tiles(noisy.shape)
        total, trusted, weight = (np.zeros_like(noisy) for _ in range(3))
        spread = np.zeros_like(noisy) if self.spread else None
        records = []
        with tqdm(total=len(jobs) * len(self.shifts), desc=self.name, unit="shift", disable=not progress) as bar:
            for where, blend in jobs:
                image = torch.from_numpy(rearrange(noisy[where], "h w b -> 1 b h w")).to(self.device)
                estimate, deviation, kept, passes = self._passes(model, image, bar)
                total[where] += blend * estimate
                trusted[where] += blend * kept
                if self.spread:
                    spread[where] += blend * deviation
                weight[where] += blend
                records += [record for record in passes if record]
        cube = total / weight
        if self.weights.model.config.misfit and np.isfinite(cube).all():  # if not, `__call__` tells
            cube = wiener(cube, noisy, trusted / weight, self.device)
        return Estimate(cube, records or None, spread / weight if self.spread else None)

    def _passes(self, model: DECSC, noisy: Tensor, bar: tqdm) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[Record | None]]:
        """Denoise one piece (1, B, H, W), again while gross errors show.

        Returns the estimate, its deviation over shifts and the piece with the estimate in place of gross errors, each (H, W, B), and records.
        B is the network's number of bands, or the image's, if it has fewer. A network without a `misfit` takes all noise for Gaussian
        and all images for bright, as the paper does. A pass that finds no fixed point where the one before did is not counted.
        """
        e = model.config.misfit
        image, records, factor = noisy, [], gain(noisy, noise_levels(noisy)) if e else noisy.new_ones(1)
        while True:
            mean, spread, record = self._solve(model, image * factor, bar)
            if records and record and records[-1].converged and not record.converged:
                break
            records.append(record)
            estimate, deviation = model.with_misfit(mean, image * factor) / factor, spread / factor
            if not e:
                break
            image = cut(noisy, estimate, e / factor)
            if len(records) == PASSES or torch.equal(image, noisy):
                break
            factor = gain(estimate, misfit.deviation(image - estimate)[1])
            bar.total += len(self.shifts)
        trusted = torch.where(image == noisy, noisy, estimate)
        estimate, deviation, trusted = (rearrange(t[0].cpu().numpy(), "b h w -> h w b") for t in (estimate, deviation, trusted))
        return estimate, deviation, trusted, records

    def _solve(self, model: DECSC, image: Tensor, bar: tqdm) -> tuple[Tensor, Tensor, Record | None]:
        """Solve one piece (1, B, H, W), a few shifts at a time: mean of the parts and deviation over shifts, and the record."""
        bands = image.shape[1]
        image = image[:, reflect_bands(np.arange(bands)[None, None], model.config.bands)[0, 0]]
        at_once = max(1, int(spare_memory(self.device, CPU_BYTES) // _copy_bytes(model, max(image.shape[-2:]))))
        at_once = min(at_once, CPU_COPIES) if self.device.type == "cpu" else at_once
        chunks = -(-len(self.shifts) // at_once)
        mean, square, taken = torch.zeros_like(image), torch.zeros_like(image), 0
        solutions = []
        for first in range(chunks):
            chunk: list[Shift] = self.shifts[first::chunks]
            try:
                output = model.without_misfit(image, chunk)
            except FloatingPointError as error:
                raise RuntimeError(f"{self.name} diverged: {error}") from None
            taken += len(chunk)
            off = output.image - mean  # the squares of deviations are added up, for those of values would cancel
            mean += off * (len(chunk) / taken)
            square += len(chunk) * (output.spread**2 + off**2 * (1 - len(chunk) / taken))
            solutions.append(output.solution and output.solution._replace(z=None))  # the codes are large
            bar.update(len(chunk))
        return mean[:, :bands], (square[:, :bands] / taken).sqrt(), _record(solutions)


def _copy_bytes(model: DECSC, side: int) -> int:
    """Rough memory of one shifted copy of side x side pixels while it is solved, in bytes."""
    config = model.config
    positions = (side / config.stride + 2) ** 2
    codes = config.shared_atoms + config.unshared_atoms * (config.bands - 2)
    patches = config.bands * config.kernel**2
    return int(4 * positions * (codes * (2 * config.solver.memory + 8) + 3 * patches))


def _largest_tile(model: DECSC, memory: int) -> int:
    """The largest tile up to 256 pixels, by steps of 32, of which one copy fits."""
    return next((side for side in range(TILE, 32, -32) if _copy_bytes(model, side) <= memory), 32)


def _record(solutions: list[Solution | None]) -> Record | None:
    """The worst copy's residual at each evaluation, the most evaluations, whether all converged; None if nothing was solved."""
    if None in solutions:
        return None
    length = max(len(s.residuals) for s in solutions)
    padded = [torch.cat([s.residuals, s.residuals[-1:].expand(length - len(s.residuals), -1)]) for s in solutions]
    worst = torch.cat(padded, dim=1).amax(1)
    iterations = max(int(s.iterations.max()) for s in solutions)
    return Record(worst.tolist(), iterations, all(bool(s.converged.all()) for s in solutions))
