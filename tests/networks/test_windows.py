"""networks.windows against the window attention of the Swin prior, which is tested against the paper's equations."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

from decsc_core.model.swin import WindowAttention as SwinAttention
from decsc_core.networks.windows import WindowAttention, merge_windows, shift_mask, split_windows


def test_windows_are_cut_row_by_row_and_joined_again():
    grid = torch.arange(2 * 6 * 4 * 3).view(2, 6, 4, 3)
    tokens = split_windows(grid, 2)
    assert torch.equal(tokens[1, 3], grid[1, 2:4, 2:4].reshape(4, 3))
    assert torch.equal(merge_windows(tokens, 2, height=6), grid)


@pytest.mark.parametrize("mode", [torch.no_grad, nullcontext])
@pytest.mark.parametrize(
    "window, shift, size", [(4, 0, (8, 12)), (4, 2, (8, 12)), (4, 2, (4, 4)), (3, 1, (9, 3)), (8, 4, (16, 8))]
)
def test_it_is_the_attention_of_the_swin_prior(window, shift, size, mode):
    generator = torch.Generator().manual_seed(0)
    expected, attention = (kind(6, 3, window).double() for kind in (SwinAttention, WindowAttention))
    for parameter in expected.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    attention.load_state_dict(expected.state_dict())
    grid = torch.randn(2, *size, 6, generator=generator, dtype=torch.float64)
    with mode():
        torch.testing.assert_close(attention(grid, shift), expected(grid, shift), rtol=0, atol=1e-12)




def test_the_mask_leaves_every_position_something_to_see():
    mask = shift_mask(2, 3, 4, 2)
    assert mask.shape == (6, 1, 16, 16) and set(mask.unique().tolist()) == {0.0, -torch.inf}
    assert (mask[0] == 0).all() and (mask.diagonal(dim1=-2, dim2=-1) == 0).all()
    assert [int((part == 0).sum()) for part in mask] == [256, 256, 128, 128, 128, 64]
