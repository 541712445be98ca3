"""networks.padding."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from decsc_core.networks.catalog import LEARNED, build, configure
from decsc_core.networks.padding import crop_to, pad_to, pad_to_multiple, require_bands


def test_images_are_extended_by_reflection_at_the_bottom_and_right():
    image = torch.rand(2, 3, 13, 18)
    padded = pad_to_multiple(image, 8)
    assert torch.equal(padded, F.pad(image, (0, 6, 0, 3), mode="reflect"))
    assert torch.equal(crop_to(padded, image), image)


def test_sides_that_fit_are_left_alone():
    image = torch.rand(1, 1, 16, 8)
    assert pad_to_multiple(image, 8) is image and pad_to(image, 16, 8) is image


def test_images_too_small_to_reflect():
    image = torch.tensor([[1.0, 2.0, 3.0]])
    assert pad_to_multiple(image, 8).tolist() == [[1, 2, 3, 2, 1, 2, 3, 2]] * 8


def test_the_number_of_bands_is_checked():
    require_bands(torch.zeros(2, 5, 1, 1), 5)
    for shape in ((2, 4, 8, 8), (2, 6, 8, 8), (5, 8, 8)):
        with pytest.raises(ValueError, match=r"must be \(images, 5 bands, rows, columns\)$"):
            require_bands(torch.zeros(shape), 5)
    require_bands(torch.zeros(2, 7, 1, 1), None)
    with pytest.raises(ValueError, match=r"must be \(images, any bands, rows, columns\)$"):
        require_bands(torch.zeros(7, 8, 8), None)


@pytest.mark.parametrize("method", LEARNED)
def test_an_empty_batch_is_refused_by_every_network(method):
    network = build(configure(method, "tiny"))
    for shape in ((0, 31, 8, 8), (1, 31, 0, 8)):
        with pytest.raises(ValueError, match=r"^input \(.*\) is empty$"):
            network(torch.zeros(shape))
