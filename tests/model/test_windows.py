"""model.windows: cutting, joining and masking; the attention itself is tested in test_swin.py."""

from __future__ import annotations

import torch

from decsc_core.model import DECSC, preset
from decsc_core.model.windows import merge_windows, relative_position_index, shift_mask, split_windows


def test_windows_are_cut_row_by_row_and_joined_again():
    grid = torch.arange(2 * 6 * 4 * 3).view(2, 6, 4, 3)
    tokens = split_windows(grid, 2)
    assert torch.equal(tokens[1, 3], grid[1, 2:4, 2:4].reshape(4, 3))
    assert torch.equal(merge_windows(tokens, 2, height=6), grid)


def test_tracing_a_network_leaves_later_passes_alone():
    for kept in (relative_position_index, shift_mask):
        kept.cache_clear()
    model, noisy = DECSC(preset("tiny", bands=7, gradient="unrolled")).eval(), torch.rand(1, 7, 20, 20)
    with torch.no_grad():
        exported = torch.export.export(model.prior_shared, (torch.rand(1, model.config.shared_atoms, 8, 8),), strict=False)
        image = model(noisy).image
        codes = torch.rand(1, model.config.shared_atoms, 8, 8)
        torch.testing.assert_close(exported.module()(codes), model.prior_shared(codes))
    assert type(image) is torch.Tensor and image.isfinite().all()


def test_the_mask_leaves_every_position_something_to_see():
    mask = shift_mask(2, 3, 4, 2)
    assert mask.shape == (6, 1, 16, 16) and set(mask.unique().tolist()) == {0.0, -torch.inf}
    assert (mask[0] == 0).all() and (mask.diagonal(dim1=-2, dim2=-1) == 0).all()
    assert [int((part == 0).sum()) for part in mask] == [256, 256, 128, 128, 128, 64]


def test_a_network_that_ran_in_inference_mode_can_be_trained():
    for kept in (relative_position_index, shift_mask):
        kept.cache_clear()
    model, noisy = DECSC(preset("tiny", bands=7)).eval(), torch.rand(1, 7, 20, 20)
    with torch.inference_mode():
        expected = model(noisy).image
    found = model.train()(noisy).image
    torch.testing.assert_close(found, expected)
    found.sum().backward()
    assert model.prior_shared.blocks[1].attn.relative_position_bias_table.grad.abs().max() > 0
