"""GeoTIFF images through rasterio."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from einops import rearrange
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError

from .georeference import georeference, opened, scaled, values_with_nodata, where_missing
from .scene import Scene, SceneError, as_cube
from .wavelengths import to_nanometres

STALE = "STATISTICS_"
"""Prefix of the tags that described the source's values and would be wrong of others."""


def read_geotiff(path: Path) -> Scene:
    """Read all bands with CRS, transform, ground control points or RPCs, no-data value or mask, band descriptions, units, colours and tags.

    Where the file declares scales and offsets, values are those in its units; they are written without.
    An alpha band is no band of the cube: where it is 0 there are no data. GDAL takes the fourth of four bands of bytes for one,
    whatever it is: there it is one only with no more than two values. Wavelengths come from the bands' tags, in letters of any case: `wavelength` with
    `wavelength_units`, as GDAL writes them from an ENVI image, or `CENTRAL_WAVELENGTH_UM` of the domain IMAGERY; those that cannot
    be used are left out, with a warning that says why. A band with the tag `bbl` 0 is a bad one. Of a file of several pages of one
    band, the pages are the bands; of pages of several bands the first is read, with a warning.
    """
    with opened(path) as dataset:
        if dataset.count == 1 and dataset.subdatasets:
            return _read_pages(path, len(dataset.subdatasets))
        if dataset.subdatasets:
            warnings.warn(f"{path}: has {len(dataset.subdatasets)} pages, the first of {dataset.count} bands; only that one is read", stacklevel=2)
        alpha = [band for band, meaning in zip(dataset.indexes, dataset.colorinterp) if meaning == ColorInterp.alpha]
        masks = [dataset.read(band) for band in alpha]  # GDAL's own mask has it only of bytes and 16 bits without a sign
        if dataset.count == 4 and set(dataset.dtypes) == {"uint8"} and any(np.unique(mask).size > 2 for mask in masks):
            warnings.warn(f"{path}: band {alpha[0]} is marked as alpha but has more than two values; it is taken as data", stacklevel=2)
            alpha, masks = [], []
        bands = [band for band in dataset.indexes if band not in alpha]
        data = as_cube(rearrange(dataset.read(bands), "band row column -> row column band"), path.stem)
        metadata: dict[str, Any] = {"format": "tiff", **georeference(dataset)}
        if dataset.nodata is not None:
            metadata["nodata"] = float(dataset.nodata)
        missing = where_missing(data, metadata.get("nodata"))
        flags = dataset.mask_flag_enums[0]
        if MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:
            masks.append(dataset.read_masks(1))
        for mask in masks:
            masked = (mask == 0)[:, :, None]
            missing = np.broadcast_to(masked, data.shape) if missing is None else missing | masked
        names, scales, offsets = (
            tuple(of_all[band - 1] for band in bands) for of_all in (dataset.descriptions, dataset.scales, dataset.offsets)
        )
        if any(names):
            metadata["band_names"] = tuple(text or "" for text in names)
        metadata["tags"] = dataset.tags()
        metadata["band_tags"] = tuple(dataset.tags(band) for band in bands)
        colours = [ColorInterp.undefined if colour == ColorInterp.alpha else colour for colour in dataset.colorinterp]
        metadata["band_units"], metadata["band_colours"] = (tuple(of_all[band - 1] for band in bands) for of_all in (dataset.units, colours))
        imagery = [dataset.tags(band, ns="IMAGERY") for band in bands]
    try:
        wavelengths = _wavelengths(metadata["band_tags"], imagery)
    except ValueError as error:
        warnings.warn(f"{path}: wavelengths are left out: {error}", stacklevel=2)
        wavelengths = None
    bad = np.array([_small(tags).get("bbl") == "0" for tags in metadata["band_tags"]])
    data = scaled(data, scales, offsets)
    return Scene.from_physical(data, path.stem, missing=missing, bad=None if bad.all() else bad, wavelengths=wavelengths, metadata=metadata)


def _read_pages(path: Path, count: int) -> Scene:
    """Read the pages of a TIFF as bands, with the georeference and the no-data value of the first.

    Raises
    ------
    SceneError
        If the pages are not all of one band, size and type.
    """
    pages, scales, offsets = [], [], []
    for number in range(1, count + 1):
        with opened(f"GTIFF_DIR:{number}:{path.absolute()}") as dataset:
            pages.append(dataset.read())
            scales += dataset.scales
            offsets += dataset.offsets
            if number == 1:
                metadata: dict[str, Any] = {"format": "tiff", **georeference(dataset)}
                if dataset.nodata is not None:
                    metadata["nodata"] = float(dataset.nodata)
    if len({(page.shape, page.dtype) for page in pages}) > 1:
        raise SceneError(f"{path}: its {count} pages differ in size or type; a cube has a page a band, all alike")
    data = as_cube(rearrange(np.concatenate(pages), "band row column -> row column band"), path.stem)
    missing = where_missing(data, metadata.get("nodata"))
    return Scene.from_physical(scaled(data, scales, offsets), path.stem, missing=missing, metadata=metadata)


def write_geotiff(scene: Scene, path: Path) -> None:
    """Write the physical values as float32 with what `read_geotiff` reads.

    Raises
    ------
    OSError
        If the file does not hold them afterwards: GDAL does not raise what fails while it closes a file.
    """
    values, nodata = values_with_nodata(scene)
    height, width, bands = values.shape
    metadata = scene.metadata
    profile: dict[str, Any] = {"driver": "GTiff", "dtype": "float32", "interleave": "band", "BIGTIFF": "IF_SAFER"}
    if "crs" in metadata:
        profile["crs"] = metadata["crs"]
    if "transform" in metadata:
        profile["transform"] = rasterio.Affine(*metadata["transform"])
    elif "gcps" in metadata:
        profile |= {"gcps": metadata["gcps"], "crs": metadata["gcps_crs"] or rasterio.CRS()}
    if "rpcs" in metadata:
        profile["rpcs"] = metadata["rpcs"]
    with rasterio.Env(GDAL_PAM_ENABLED="NO"), opened(path, "w", height=height, width=width, count=bands, nodata=nodata, **profile) as dataset:
        dataset.update_tags(**metadata.get("tags", {}))
        names = metadata.get("band_names", ())
        for index, tags in enumerate(_band_tags(scene)):
            dataset.update_tags(index + 1, **tags | ({"bbl": "0"} if index in metadata.get("bad_bands", {}) else {}))
            if len(names) == bands and names[index]:
                dataset.set_band_description(index + 1, names[index])
        if len(units := metadata.get("band_units", ())) == bands:
            dataset.units = [unit or "" for unit in units]
        if len(colours := metadata.get("band_colours", ())) == bands:
            dataset.colorinterp = colours
        dataset.write(rearrange(values, "row column band -> band row column"))
    try:
        with opened(path) as dataset:
            told = dataset.crs or dataset.gcps[1]
            stored = (dataset.read(index + 1) for index in range(bands))
            whole = all(np.array_equal(band, values[:, :, i], equal_nan=True) for i, band in enumerate(stored))
    except RasterioError:
        whole = False
    if not whole:
        raise OSError("the file does not hold what was written")
    if profile.get("crs") and not told:
        warnings.warn("the coordinate system is left out: GeoTIFF has no place for it", stacklevel=2)


def _band_tags(scene: Scene) -> list[dict[str, str]]:
    """The source's tags of each band, with the scene's wavelengths where they do not tell these already; widths of other bands are left out."""
    bands = scene.cube.shape[2]
    tags = scene.metadata.get("band_tags", ())
    tags = [{key: value for key, value in own.items() if not key.startswith(STALE)} for own in tags] if len(tags) == bands else [{}] * bands
    if scene.wavelengths is None:
        return tags
    try:
        stored = _wavelengths(tags, [{}] * bands)
    except ValueError:
        stored = None
    if stored is not None and np.allclose(stored, scene.wavelengths):
        return tags
    kept = ({key: value for key, value in own.items() if key.lower() not in ("fwhm", "wavelength", "wavelength_units")} for own in tags)
    return [
        own | {"wavelength": repr(float(centre)), "wavelength_units": "Nanometers"} for own, centre in zip(kept, scene.wavelengths)
    ]


def _small(tags: dict[str, str]) -> dict[str, str]:
    """The tags with their names in small letters."""
    return {key.lower(): value for key, value in tags.items()}


def _wavelengths(band_tags: Sequence[dict[str, str]], imagery: list[dict[str, str]]) -> np.ndarray | None:
    """Band centres [nm], or None unless every band has one; a ValueError says why some cannot be used."""
    band_tags = [_small(tags) for tags in band_tags]
    if all("wavelength" in tags for tags in band_tags):
        return to_nanometres([tags["wavelength"] for tags in band_tags], band_tags[0].get("wavelength_units"))
    if all("CENTRAL_WAVELENGTH_UM" in tags for tags in imagery):
        return to_nanometres([tags["CENTRAL_WAVELENGTH_UM"] for tags in imagery], "um")
    return None
