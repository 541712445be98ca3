"""What a scene and a data set hold, told to people."""

from __future__ import annotations

from rasterio.crs import CRS

from decsc_core.scenes import Dataset, MissingData, Scene, scenes_by_split
from decsc_core.scenes.sources import SPLITS


def scene_summary(scene: Scene) -> dict:
    """A scene in plain types; `values` are in the units of its file, `sha256` is of the cube in [0, 1]."""
    values = scene.physical()
    crs = scene.metadata.get("crs")
    return {
        "name": scene.name,
        "shape": list(scene.cube.shape),
        "values": {"min": float(values.min()), "max": float(values.max())},
        "scale": scene.scale,
        "offset": scene.offset,
        "wavelengths_nm": None if scene.wavelengths is None else scene.wavelengths.tolist(),
        "georeference": {
            "crs": crs and CRS.from_wkt(crs).to_string(),
            "transform": scene.metadata.get("transform"),
            "map_info": scene.metadata.get("envi", {}).get("map info"),
        },
        "nodata_pixels": 0 if scene.nodata is None else int(scene.nodata.sum()),
        "nodata_values": 0 if (missing := scene.missing()) is None else int(missing.sum()),
        "sha256": scene.sha256(),
    }


def dataset_lines(entry: Dataset, details: bool) -> list[str]:
    """Lines about one data set: scenes here, how to get them, terms; with `details` all there is to say.

    Raises
    ------
    SceneError
        If files found share a name.
    OSError
        If the folder of the data sets cannot be looked into.
    """
    splits = _scenes(entry)
    counts = ", ".join(f"{split} {sum(here.values())}/{len(here)}" for split, here in splits.items())
    lines = [f"{entry.name}: {entry.title}", f"  scenes here: {counts}"]
    if details and entry.stand_in:
        lines.append(f"  stands in for {entry.stand_in}")
    if details:
        lines.append(f"  origin: {entry.origin}")
    lines += [f"  to obtain: {entry.obtain}", f"  terms: {entry.terms}"]
    if details:
        for split, here in splits.items():
            marked = [scene if there else f"{scene} (missing)" for scene, there in here.items()]
            lines.append(f"  {split}: {', '.join(marked) or 'none'}")
    return lines


def _scenes(entry: Dataset) -> dict[str, dict[str, bool]]:
    """The scenes by split and whether they are here; none where files give the names and there are none."""
    try:
        names = scenes_by_split(entry.name)
    except MissingData:
        names = dict.fromkeys(SPLITS, ())
    return {split: {scene: is_here(entry, scene) for scene in scenes} for split, scenes in names.items()}


def is_here(entry: Dataset, scene: str) -> bool:
    """Whether a scene's file lies where `load_scene` looks for it; its content is not read."""
    return entry.find is None or entry.find(scene) is not None
