"""Where a cube holds no image, and what stands in for it there."""

from __future__ import annotations

import numpy as np

RUN = 9
"""So many pixels in a row along the edge of an image, of one value in all bands, are a border."""


def without_image(cube: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """True for bands (B,) of (H, W, B) that are `single_valued`, and for pixels (H, W) that are `blank`; neither counts for the other."""
    bands = single_valued(cube)
    pixels = blank(cube if not bands.any() else cube[:, :, ~bands])
    if pixels.any():
        bands |= single_valued(cube[~pixels][None])
    return bands, pixels


def single_valued(cube: np.ndarray) -> np.ndarray:
    """True for bands (B,) of (H, W, B) that have one value in all pixels, as dead ones have; nowhere if all bands do."""
    single = (cube == cube[:1, :1]).all(axis=(0, 1))
    return single & (not single.all())


def blank(cube: np.ndarray) -> np.ndarray:
    """True for pixels (H, W) of (H, W, B) in areas of one spectrum, as borders without data are; nowhere if all are.

    An area holds 3 x 3 pixels, or `RUN` in a row along the edge of the image, where it may be narrow, of one value in all bands.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    across = (cube[:, 1:] == cube[:, :-1]).all(axis=2)
    down = (cube[1:] == cube[:-1]).all(axis=2)
    rows = across[:, 1:] & across[:, :-1]
    found = np.zeros(cube.shape[:2], dtype=bool)
    found[1:-1, 1:-1] = rows[2:] & rows[1:-1] & rows[:-2] & down[1:, 1:-1] & down[:-1, 1:-1]
    for edge in (0, -1):
        found[edge] |= _begins_run(across[edge] & _plain(cube[edge])[1:])
        found[:, edge] |= _begins_run(down[:, edge] & _plain(cube[:, edge])[1:])
    if not found.any():
        return found
    at = np.arange(found.size).reshape(found.shape)
    equal = np.hstack([(at[:, 1:][across], at[:, :-1][across]), (at[1:][down], at[:-1][down])])
    _, areas = connected_components(coo_array((np.ones(equal.shape[1], dtype=bool), equal), shape=(at.size, at.size)), directed=False)
    found = np.isin(areas, areas[found.ravel()]).reshape(found.shape)
    return found & (not found.all())


def _plain(spectra: np.ndarray) -> np.ndarray:
    """True for spectra (N, B) of one value."""
    return (spectra == spectra[:, :1]).all(axis=1)


def _begins_run(equal: np.ndarray) -> np.ndarray:
    """True for entries (N,) with which `RUN` equal ones in a row begin, given whether each of (N - 1,) equals the next."""
    begins = np.zeros(equal.size + 1, dtype=bool)
    if equal.size >= RUN - 1:
        begins[: 1 - RUN] = np.lib.stride_tricks.sliding_window_view(equal, RUN - 1).all(axis=1)
    return begins


def stand_in(missing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each pixel (H, W) the row and column to take its value from: its own, or, where it is `missing`, those it reflects to about
    the nearest that is not, so that the noise there is like that elsewhere; if that is missing too, the nearest."""
    from scipy.ndimage import distance_transform_edt

    nearest = distance_transform_edt(missing, return_distances=False, return_indices=True)
    reflected = tuple(_inside(2 * near - at, side) for near, at, side in zip(nearest, np.indices(missing.shape), missing.shape))
    row, column = np.where(missing[reflected], nearest, reflected)
    return row, column


def _inside(at: np.ndarray, side: int) -> np.ndarray:
    """Indices from -side to 2 side - 1 reflected into 0 ... side - 1, without repeating the border."""
    return np.pad(np.arange(side), side, mode="reflect" if side > 1 else "edge")[at + side]
