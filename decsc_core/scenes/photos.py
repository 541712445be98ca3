"""The embedded scenes: colour photographs raised to 31 bands, so that everything runs with nothing to fetch.

They stand in for close-range scenes such as CAVE's. The photographs are those that scikit-image installs; its
`skimage.data` states the terms of each. Linear sRGB is turned into spectra by the basis of Mallett and Yuksel (2019),
whose three smooth functions keep reflectances in [0, 1]; that alone gives cubes of rank 3, which no real scene has. So
each region of similar colour gets a material: a smooth random factor over wavelength, at most 1, with its borders on
the borders of the image. Its strength was chosen for the numerical rank of CAVE: over the scenes here 10 or 11 singular
values hold 99.99 % of the energy of the (pixels x bands) matrix, over 28 CAVE scenes 5 to 25, median 10.

References
----------
I. Mallett, C. Yuksel, "Spectral Primary Decomposition for Rendering with sRGB Reflectance", EGSR 2019.
R. Achanta et al., "SLIC Superpixels Compared to State-of-the-Art Superpixel Methods", TPAMI 2012.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .cave import CAVE_WAVELENGTHS as WAVELENGTHS
from .scene import Scene, SceneError

REGIONS = 150
MODES = 8
STRENGTH = 0.25
DECAY = 0.8
"""A material's logarithm is a sum of `MODES` cosines over wavelength with normal coefficients of standard deviation
`STRENGTH / mode**DECAY`."""


@dataclass(frozen=True)
class Crop:
    """Part of a photograph at half its size, [first, last) of rows and columns, and the seed of its materials."""

    photo: str
    rows: tuple[int, int]
    columns: tuple[int, int]
    seed: int


CROPS = {
    "astronaut": Crop("astronaut", (0, 256), (0, 256), 1),
    "motorcycle-left": Crop("stereo_motorcycle", (0, 250), (0, 185), 2),
    "motorcycle-right": Crop("stereo_motorcycle", (0, 250), (185, 370), 2),
    "rocket": Crop("rocket", (0, 213), (64, 256), 3),
    "chelsea": Crop("chelsea", (0, 150), (0, 225), 4),
    "coffee": Crop("coffee", (0, 200), (44, 300), 5),
}
SPLITS = {
    "train": ("astronaut", "motorcycle-left", "motorcycle-right"),
    "validation": ("rocket",),
    "test": ("chelsea", "coffee"),
}


def build(name: str) -> Scene:
    """Build an embedded scene; the same cube every time.

    Parameters
    ----------
    name : str
        One of `CROPS`.

    Returns
    -------
    Scene
        Cube (H, W, 31) in [0, 1], H and W from 150 to 256, at 400 to 700 nm.

    Raises
    ------
    SceneError
        If there is no such scene.
    """
    from skimage import data, transform

    if name not in CROPS:
        raise SceneError(f"{name!r} is not an embedded scene; there are {', '.join(CROPS)}")
    crop = CROPS[name]
    photo = getattr(data, crop.photo)()
    photo = photo[0] if isinstance(photo, tuple) else photo
    even = photo[: photo.shape[0] // 2 * 2, : photo.shape[1] // 2 * 2, :3]
    with np.printoptions():  # colour's import makes all printing, and with it pandas' CSV files, lose digits
        from colour.models import eotf_sRGB
        from colour.recovery import MSDS_BASIS_FUNCTIONS_sRGB_MALLETT2019 as basis
    primaries = basis.values[np.isin(basis.wavelengths, WAVELENGTHS)].T  # reflectances (3, 31), which sum to 1 in each band
    rgb = transform.downscale_local_mean(eotf_sRGB(even / 255.0), (2, 2, 1))
    cube = (rgb @ primaries) * _materials(rgb, np.random.default_rng(crop.seed))
    cube = np.clip(cube[slice(*crop.rows), slice(*crop.columns)], 0, 1)
    return Scene(cube, name, WAVELENGTHS, metadata={"format": "photos", "photo": crop.photo})


def _materials(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A factor in (0, 1] for each pixel and band (H, W, 31): one smooth curve a region of similar colour."""
    from skimage.segmentation import slic

    regions = slic(np.sqrt(rgb), n_segments=REGIONS, compactness=0.3, start_label=0, channel_axis=-1)
    position = np.linspace(0, 1, WAVELENGTHS.size)
    mode = np.arange(1, MODES + 1)[:, None]
    cosines = STRENGTH * np.cos(np.pi * mode * position) / mode**DECAY
    curves = rng.standard_normal((regions.max() + 1, MODES)) @ cosines
    return np.exp(curves - curves.max(axis=1, keepdims=True))[regions]
