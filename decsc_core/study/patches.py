"""What a training sees: random patches of clean scenes with noise drawn for each, and fixed pairs for its validation.

Every draw is a function of (seed, stream, index), so that it does not matter which process makes it, or after which interruption.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from einops import rearrange
from torch.utils.data import DataLoader, Dataset

from decsc_core import noise
from decsc_core.scenes import Scene
from decsc_core.study.cubes import centre
from decsc_core.study.recipes import TrainConfig

if TYPE_CHECKING:  # importing it takes seconds, which only a training needs
    from lightning_fabric import Fabric

VALIDATION_SIDE = 128
LOADERS = 2
"""Processes that draw patches while a GPU trains."""
PATCH, SHIFT, VALIDATION, WINDOW, PASS, QUERY = range(6)
"""Streams of random numbers: those of patches, of validation and its windows of bands, and those that a training step draws."""


def band_window(cube: np.ndarray, bands: int, rng: np.random.Generator) -> np.ndarray:
    """As many adjacent bands of (H, W, B), drawn where there are more; nothing is drawn for a cube that has no more."""
    if cube.shape[2] <= bands:
        return cube
    first = rng.integers(cube.shape[2] - bands + 1)
    return cube[:, :, first : first + bands]


def patch_batch(scenes: list[Scene], config: TrainConfig, indices: Iterator[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Clean and noisy patches (N, B, patch, patch), one of the eight flips and rotations each, a seeded draw an index."""
    clean, noisy = [], []
    for index in indices:
        rng = np.random.default_rng((config.seed, PATCH, index))
        cube = band_window(scenes[rng.integers(len(scenes))].cube, config.bands, rng)
        top, left = (rng.integers(side - config.patch + 1) for side in cube.shape[:2])
        patch = np.rot90(cube[top : top + config.patch, left : left + config.patch], rng.integers(4))
        patch = np.ascontiguousarray(patch[::-1] if rng.integers(2) else patch)
        case = config.case if isinstance(config.case, str) else str(rng.choice(config.case))
        clean.append(patch)
        noisy.append(noise.add_noise(patch, case, rng)[0])
    return tuple(torch.from_numpy(rearrange(np.stack(cubes), "n h w b -> n b h w")).contiguous() for cubes in (clean, noisy))


class Patches(Dataset):
    """The batches by the indices of their patches, for a `DataLoader`."""

    def __init__(self, scenes: list[Scene], config: TrainConfig) -> None:
        self.scenes, self.config = scenes, config

    def __getitem__(self, indices: range) -> tuple[torch.Tensor, torch.Tensor]:
        return patch_batch(self.scenes, self.config, indices)


def batches(scenes: list[Scene], config: TrainConfig, fabric: Fabric, step: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """This process's part of the batch of each step from `step` on; for a GPU drawn ahead, by processes of their own."""
    local = config.batch // fabric.world_size
    starts = itertools.count(step * config.batch + fabric.global_rank * local, config.batch)
    on_gpu = fabric.device.type == "cuda"
    return iter(DataLoader(
        Patches(scenes, config), batch_size=None, sampler=(range(first, first + local) for first in starts),
        num_workers=LOADERS if on_gpu else 0, pin_memory=on_gpu, generator=torch.Generator(),
    ))


def validation_set(scenes: list[Scene], config: TrainConfig) -> list[tuple[np.ndarray, np.ndarray]]:
    """Centre crops of at most 128 pixels a side and their noisy versions in each case, the same at every validation.

    Scenes with more bands than a patch have one window of them for each case.
    """
    pairs = []
    for (place, case), (number, scene) in itertools.product(enumerate(config.cases), enumerate(scenes)):
        window = band_window(scene.cube, config.bands, np.random.default_rng((config.seed, WINDOW, number, place)))
        cube = centre(window, VALIDATION_SIDE)
        pairs.append((cube, noise.add_noise(cube, case, np.random.default_rng((config.seed, VALIDATION, number)))[0]))
    return pairs


def check_scenes(scenes: list[Scene], config: TrainConfig) -> None:
    """Raise ValueError for the first scene that cannot give patches to this network."""
    own = getattr(config.model, "bands", None)
    wanted = min(own or scenes[0].cube.shape[2], config.bands)
    for scene in scenes:
        height, width, bands = scene.cube.shape
        if min(bands, config.bands) != wanted:
            raise ValueError(f"{config.dataset}: {scene.name} has {bands} bands, {'the network' if own else scenes[0].name} {wanted}")
        if min(height, width) < config.patch:
            raise ValueError(f"{config.dataset}: {scene.name} is {height} x {width} pixels, smaller than patch={config.patch}")
