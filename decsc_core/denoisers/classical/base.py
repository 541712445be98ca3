"""What the model-driven methods share: an optimisation problem and an algorithm, nothing learned."""

from __future__ import annotations

import operator
from abc import abstractmethod
from collections.abc import Iterable
from numbers import Real
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from decsc_core.denoisers.base import ENORMOUS, Denoiser, Estimate, Record
from decsc_core.denoisers.device import pick_device, without_autocast
from decsc_core.denoisers.classical.noise_level import noise_level


class ModelDriven(Denoiser):
    """A method that solves an optimisation problem for each cube.

    A cube smaller than the method's patch or block is extended by reflection (by repetition where it is a single pixel
    or band), and the estimate is cut back.

    Parameters
    ----------
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"`` or another device of torch.

    Attributes
    ----------
    smallest : (rows, columns, bands)
        The smallest cube that the method can work on.
    dtype : torch.dtype
        The precision it computes in.

    Raises
    ------
    ValueError
        If the device cannot be used.
    """

    kind = "model-driven"
    smallest: ClassVar[tuple[int, int, int]] = (1, 1, 1)
    dtype: ClassVar[torch.dtype] = torch.float64

    def __init__(self, *, device: str = "auto") -> None:
        self.device = pick_device(device)

    @torch.no_grad()
    @without_autocast
    def _denoise(self, noisy: np.ndarray, progress: bool) -> Estimate:
        height, width, bands = noisy.shape
        cube = torch.from_numpy(_extend(noisy, self.smallest)).to(self.device, self.dtype)
        with tqdm(desc=self.name, unit="step", disable=not progress) as bar:
            restored, record = self._restore(cube, bar)
        return Estimate(restored[:height, :width, :bands].cpu().numpy(), record)

    @abstractmethod
    def _restore(self, noisy: Tensor, bar: tqdm) -> tuple[Tensor, list[Record] | None]:
        """Denoise (H, W, B), at least as large as `smallest`; count the steps on `bar` (its total is not set yet)."""


class NoiseAware(ModelDriven):
    """A model-driven method that needs one noise level.

    Parameters
    ----------
    sigma : float, optional
        Standard deviation of the noise on the 0-255 scale, the mean over the bands. Default: estimated from the cube,
        see `noise_level`.
    device : str
        See `ModelDriven`.

    Raises
    ------
    ValueError
        If `sigma` is no number from 1 / `ENORMOUS` to `ENORMOUS`, or the device cannot be used.
    """

    def __init__(self, *, sigma: float | None = None, device: str = "auto") -> None:
        super().__init__(device=device)
        if sigma is not None and not (isinstance(sigma, Real) and 1 / ENORMOUS <= sigma <= ENORMOUS):
            raise ValueError(f"sigma={sigma} must be a number from {1 / ENORMOUS:g} to {ENORMOUS:g}, on the 0-255 scale")
        self.sigma = sigma

    def _restore(self, noisy: Tensor, bar: tqdm) -> tuple[Tensor, list[Record] | None]:
        sigma = float(noise_level(noisy).mean()) if self.sigma is None else self.sigma / 255
        if sigma == 0:
            return noisy, None
        return self._restore_at(noisy, sigma, bar)

    @abstractmethod
    def _restore_at(self, noisy: Tensor, sigma: float, bar: tqdm) -> tuple[Tensor, list[Record] | None]:
        """Denoise (H, W, B) whose noise has the standard deviation `sigma` > 0, in the unit of the cube."""


def relative_change(new: Iterable[Tensor], old: Iterable[Tensor]) -> float:
    """||new - old|| / ||new|| over all the given tensors together, the residual of a model-driven iteration."""
    change = total = 0.0
    for after, before in zip(new, old, strict=True):
        change += float((after - before).square().sum())
        total += float(after.square().sum())
    return (change / max(total, 1e-20)) ** 0.5


def check_positive(**values: float | None) -> None:
    """Raise a ValueError for the first of the given parameters that is neither None nor a finite number above 0."""
    for name, value in values.items():
        if value is not None and not 0 < value < np.inf:
            raise ValueError(f"{name}={value} must be a number above 0")


def check_least(least: float, /, **values: float | None) -> None:
    """Raise a ValueError for the first of the given parameters that is neither None nor a finite number of at least `least`."""
    for name, value in values.items():
        if value is not None and not least <= value < np.inf:
            raise ValueError(f"{name}={value} must be a number of at least {least}")


def check_counts(least: int = 1, /, **values: int | None) -> None:
    """Raise a ValueError for the first of the given parameters that is neither None nor a whole number of at least `least`."""
    for name, value in values.items():
        try:
            right = value is None or operator.index(value) >= least
        except TypeError:
            right = False
        if not right:
            raise ValueError(f"{name}={value} must be a whole number of at least {least}")


def _extend(cube: np.ndarray, smallest: tuple[int, int, int]) -> np.ndarray:
    """Extend (H, W, B) to at least `smallest` at its far ends."""
    missing = [(0, max(least - there, 0)) for least, there in zip(smallest, cube.shape)]
    return np.pad(cube, missing, mode="symmetric") if any(far for _, far in missing) else cube
