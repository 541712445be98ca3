"""What comes into a network: images of any size, extended by reflection, and of the right number of bands."""

from __future__ import annotations

from torch import Tensor

from decsc_core.model.shifts import reflect_index


def pad_to(image: Tensor, height: int, width: int) -> Tensor:
    """Extend (..., H, W) at the bottom and right to (..., height, width) by reflection, the border pixel not repeated.

    Sides too small to reflect that often are reflected to and fro; a single row or column is repeated. An image that
    has the size already is returned as it is.
    """
    rows, columns = image.shape[-2:]
    if height > rows:
        image = image[..., reflect_index(rows, 0, height - rows, image.device), :]
    if width > columns:
        image = image[..., reflect_index(columns, 0, width - columns, image.device)]
    return image


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Extend (..., H, W) at the bottom and right to multiples of `multiple`; see `pad_to`."""
    height, width = (-(-side // multiple) * multiple for side in image.shape[-2:])
    return pad_to(image, height, width)


def crop_to(image: Tensor, like: Tensor) -> Tensor:
    """The top left part of an image that has the rows and columns of `like`: what `pad_to` extended."""
    return image[..., : like.shape[-2], : like.shape[-1]]


def require_bands(image: Tensor, bands: int | None) -> None:
    """Raise a ValueError if `image` is not (N, `bands`, H, W), with any number of bands for None, or is empty."""
    if image.ndim != 4 or bands not in (None, image.shape[1]):
        raise ValueError(f"input {tuple(image.shape)} must be (images, {bands or 'any'} bands, rows, columns)")
    if not image.numel():
        raise ValueError(f"input {tuple(image.shape)} is empty")
