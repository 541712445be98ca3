"""The frame of the flat transformers SST and SERT: residual stages on the pixels of an image, the bands as channels."""

from __future__ import annotations

from collections.abc import Iterable

from einops import rearrange
from torch import Tensor, nn

from decsc_core.networks.padding import crop_to, pad_to_multiple, require_bands


class Stage(nn.Module):
    """Blocks of (N, H, W, C), then a 3x3 convolution, around a skip."""

    def __init__(self, width: int, blocks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, grid: Tensor) -> Tensor:
        out = grid
        for block in self.blocks:
            out = block(out)
        return grid + _channels_last(self.conv(_channels_first(out)))


class FlatTransformer(nn.Module):
    """image + tail(merge(stages(head(image)) + head(image))), all convolutions 3x3: (N, B, H, W) -> the same shape.

    Images whose sides are no multiples of `multiple` are extended by reflection, and the result is cropped.
    """

    def __init__(self, bands: int, width: int, stages: Iterable[Stage], multiple: int) -> None:
        super().__init__()
        self.bands, self.multiple = bands, multiple
        self.head = nn.Conv2d(bands, width, 3, padding=1)
        self.stages = nn.ModuleList(stages)
        self.merge = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.tail = nn.Conv2d(width, bands, 3, padding=1)

    def forward(self, noisy: Tensor) -> Tensor:
        require_bands(noisy, self.bands)
        first = self.head(pad_to_multiple(noisy, self.multiple))
        grid = _channels_last(first).contiguous()
        for stage in self.stages:
            grid = stage(grid)
        return noisy + crop_to(self.tail(self.merge(_channels_first(grid) + first)), noisy)


def _channels_first(grid: Tensor) -> Tensor:
    return rearrange(grid, "n y x c -> n c y x")


def _channels_last(image: Tensor) -> Tensor:
    return rearrange(image, "n c y x -> n y x c")


FRAME = [
    (r"^conv_first\.", "head."),
    (r"^output\.", "merge."),
    (r"^conv_delasta\.", "tail."),
    (r"^layers\.", "stages."),
    (r"\.smsblock\.", ".blocks."),
]
"""Official names in both networks, and ours: patterns and replacements."""
