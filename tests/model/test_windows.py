"""model.windows: cutting, joining and masking; the attention itself is tested in test_swin.py."""

from __future__ import annotations

import torch

from decsc_core.model.windows import merge_windows, shift_mask, split_windows


def test_windows_are_cut_row_by_row_and_joined_again():
    grid = torch.arange(2 * 6 * 4 * 3).view(2, 6, 4, 3)
    tokens = split_windows(grid, 2)
    assert torch.equal(tokens[1, 3], grid[1, 2:4, 2:4].reshape(4, 3))
    assert torch.equal(merge_windows(tokens, 2, height=6), grid)


def test_the_mask_leaves_every_position_something_to_see():
    mask = shift_mask(2, 3, 4, 2)
    assert mask.shape == (6, 1, 16, 16) and set(mask.unique().tolist()) == {0.0, -torch.inf}
    assert (mask[0] == 0).all() and (mask.diagonal(dim1=-2, dim2=-1) == 0).all()
    assert [int((part == 0).sum()) for part in mask] == [256, 256, 128, 128, 128, 64]
