"""Block matching: patches of an image or cubes of a volume, their nearest neighbours, gathering and aggregation.

A patch is named by its corner, the position with the smallest index along each axis. Corners have n coordinates for the
n axes that are matched; a volume may have further axes, which every patch takes whole. The side of the patches is one
number, or one for each axis.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Side = int | Sequence[int]

BUDGET = 2**27
"""Bytes of distances that `nearest` holds at a time."""


def grid(shape: Sequence[int], side: Side, step: int, *, end: Literal["last", "all"]) -> Tensor:
    """Reference corners: every `step` along each axis, and at its end the last corner, or all that remain.

    Parameters
    ----------
    shape : the lengths of the n axes, each at least `side`
    end : ``"last"`` adds the last corner, ``"all"`` every corner after the last step.

    Returns
    -------
    (R, n) integer tensor, in row-major order
    """
    axes = []
    for length, width in zip(shape, _sides(side, len(shape))):
        positions = range(0, length - width + 1, step)
        rest = range(positions[-1] + 1, length - width + 1)
        axes.append(torch.tensor([*positions, *(rest if end == "all" else rest[-1:])]))
    return torch.cartesian_prod(*axes).reshape(-1, len(axes))


def nearest(image: Tensor, corners: Tensor, side: Side, half_window: int, count: int) -> Tensor:
    """For each reference patch the corners of the `count` patches with the smallest squared distance to it.

    All patches are compared whose corners are at most `half_window` away along each axis: for each offset the squared
    difference of the image and the shifted image is summed over the patches, only at the references. This is fast for
    references on a grid in row-major order, and right for any others.

    Parameters
    ----------
    image : (H, W) or (H, W, B) tensor
    corners : (R, n) integer tensor
        The references; n is the number of the image's axes.

    Returns
    -------
    (R, count, n) integer tensor on the image's device
        Sorted by distance, the reference itself first. `count` is less than asked for if the window of some reference
        holds fewer patches.
    """
    corners = corners.cpu()
    sides = _sides(side, image.ndim)
    last = torch.tensor(image.shape) - torch.tensor(sides)
    reach = last.clamp(max=half_window)
    fewest = (torch.minimum(corners + reach, last) - (corners - reach).clamp(min=0) + 1).prod(1).min()
    offsets = torch.cartesian_prod(*(torch.arange(-r, r + 1) for r in reach.tolist())).reshape(-1, image.ndim)
    chunk = max(BUDGET // (len(offsets) * image.element_size()), 1)
    found = []
    for references in corners.split(chunk):
        distances = _distances(image, references, offsets.tolist(), sides)
        best = distances.T.contiguous().topk(min(count, int(fewest)), largest=False).indices
        found.append(references.to(image.device)[:, None] + offsets.to(image.device)[best])
    return torch.cat(found)


def gather(volume: Tensor, corners: Tensor, side: Side) -> Tensor:
    """Patches at corners (..., n) of a volume: (..., their voxels), followed by the volume's axes beyond the n-th."""
    axes = corners.shape[-1]
    return volume.flatten(0, axes - 1)[_index(corners, volume.shape, side)]


def scatter_add(total: Tensor, corners: Tensor, patches: Tensor, side: Side) -> None:
    """Add patches, as `gather` returns them, to the volume `total` at their places."""
    axes = corners.shape[-1]
    index = _index(corners, total.shape, side).flatten()
    total.view(-1, *total.shape[axes:]).index_add_(0, index, patches.reshape(len(index), *total.shape[axes:]))


def spread(weights: Tensor, side: Side) -> Tensor:
    """Sum, at each position, the weights of all patches that cover it; `weights` holds them at the patches' corners."""
    for axis, width in enumerate(_sides(side, weights.ndim)):
        total = weights.clone()
        for shift in range(1, min(width, weights.shape[axis])):
            kept = weights.shape[axis] - shift
            total.narrow(axis, shift, kept).add_(weights.narrow(axis, 0, kept))
        weights = total
    return weights


def coverage(corners: Tensor, like: Tensor, side: int) -> Tensor:
    """How many of the patches at corners (..., 2) cover each pixel of (H, W, B) `like`: (H, W, 1)."""
    weight = like.new_zeros(like.shape[:2])
    weight.index_put_(corners.unbind(-1), weight.new_ones(()), accumulate=True)
    return spread(weight, side)[..., None]


def _distances(image: Tensor, references: Tensor, offsets: list[list[int]], sides: Sequence[int]) -> Tensor:
    """Squared distances (offsets, R), infinite beyond the border and -1 between a reference and itself."""
    axes = [axis.unique(return_inverse=True) for axis in references.unbind(1)]
    lengths = [len(values) for values, _ in axes]
    member = torch.zeros(len(references), dtype=torch.long)
    for length, (_, inverse) in zip(lengths, axes):
        member = member * length + inverse
    member = member.to(image.device)
    windows = [
        {offset: _Window(values, offset, length - side, side, image.device) for offset in {o[axis] for o in offsets}}
        for axis, ((values, _), length, side) in enumerate(zip(axes, image.shape, sides))
    ]
    distances = image.new_full((len(offsets), len(references)), torch.inf)
    for row, offset in zip(distances, offsets):
        along = [windows[axis][o] for axis, o in enumerate(offset)]
        if not any(offset):
            row.fill_(-1)
        elif all(window.inside for window in along):
            difference = image[tuple(w.here for w in along)] - image[tuple(w.there for w in along)]
            box = difference.square_()
            for axis, window in enumerate(along):
                box = sum(box.index_select(axis, index) for index in window.index)
            table = image.new_full(lengths, torch.inf)
            table[tuple(w.valid for w in along)] = box
            row.copy_(table.flatten()[member])
    return distances


class _Window:
    """One axis of one offset: which of the references' positions stay inside, and where their samples are."""

    def __init__(self, positions: Tensor, offset: int, last: int, side: int, device: torch.device) -> None:
        inside = ((positions + offset >= 0) & (positions + offset <= last)).nonzero().flatten()
        self.inside = len(inside) > 0
        if self.inside:
            first, final = int(inside[0]), int(inside[-1])
            start, stop = int(positions[first]), int(positions[final]) + side
            self.valid = slice(first, final + 1)
            self.here, self.there = slice(start, stop), slice(start + offset, stop + offset)
            self.index = (positions[self.valid] - start + torch.arange(side)[:, None]).to(device)


def _sides(side: Side, axes: int) -> tuple[int, ...]:
    return (side,) * axes if isinstance(side, int) else tuple(side)


def _index(corners: Tensor, shape: Sequence[int], side: Side) -> Tensor:
    """Flat indices (..., voxels) of the samples of patches in a volume whose first n axes have these lengths."""
    strides = [1]
    for length in shape[corners.shape[-1] - 1 : 0 : -1]:
        strides.insert(0, strides[0] * length)
    voxels = itertools.product(*map(range, _sides(side, len(strides))))
    within = [sum(s * i for s, i in zip(strides, voxel)) for voxel in voxels]
    base = sum(axis * stride for axis, stride in zip(corners.unbind(-1), strides))
    return base[..., None] + torch.tensor(within, device=corners.device)
