"""The folders of band images in which CAVE is distributed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from .scene import Scene, SceneError

CAVE_WAVELENGTHS = np.arange(400.0, 701.0, 10.0)
"""Band centres of CAVE and ICVL [nm]."""


def cave_images(folder: Path) -> list[Path]:
    """The 31 band images `<scene>_01.png` to `_31.png` in a folder or in the one folder inside it."""
    found = band_folders(folder)
    if not found:
        raise SceneError(f"{folder}: no band images found; a CAVE folder has *_01.png to *_31.png")
    if len(found) > 1:
        listed = ", ".join(place.name for place in found)
        raise SceneError(f"{folder}: several scenes in it: {listed}; give one of these folders")
    ((place, images),) = found.items()
    numbers = [int(file.stem[-2:]) for file in images]
    if numbers != list(range(1, len(CAVE_WAVELENGTHS) + 1)):
        raise SceneError(f"{place}: band images {numbers} found; a CAVE folder has *_01.png to *_31.png")
    return images


def band_folders(folder: Path) -> dict[Path, list[Path]]:
    """The images of a folder that `_band_images` finds, or, if there are none, of each folder in it that has some."""
    places = [folder] if _band_images(folder) else sorted(entry for entry in folder.iterdir() if entry.is_dir())
    return {place: images for place in places if (images := _band_images(place))}


def _band_images(folder: Path) -> list[Path]:
    """The images in a folder whose names end with a number of two digits, in order."""
    return sorted(file for file in folder.glob("[!.]*.png") if re.search(r"_\d\d\.png$", file.name))


def read_cave(folder: Path) -> Scene:
    """Read a CAVE folder: 1.0 is 65535 in a 16-bit image and 255 in an 8-bit one; 400 to 700 nm. SceneError if images are missing or differ in size."""
    from skimage.io import imread

    bands = []
    for file in cave_images(folder):
        try:
            image = imread(file)
        except Exception as error:  # its plugins raise many kinds
            raise SceneError(f"{file}: cannot be read as an image ({str(error).splitlines()[0]})") from error
        if image.dtype not in (np.uint8, np.uint16):
            raise SceneError(f"{file}: the image is {image.dtype}; a CAVE band is 8 or 16 bits")
        grey = image if image.ndim == 2 else image[:, :, 0]
        bands.append(grey.astype(np.float32) / np.float32(np.iinfo(image.dtype).max))
        if bands[-1].shape != bands[0].shape:
            raise SceneError(f"{file}: the image is {bands[-1].shape} but band 1 is {bands[0].shape}; sizes must agree")
    name = re.sub(r"(_ms)?_\d\d$", "", cave_images(folder)[0].stem)
    return Scene(np.stack(bands, axis=2), name, CAVE_WAVELENGTHS, metadata={"format": "cave"})
