"""Scenes: hyperspectral cubes with their wavelengths and units, their files, and the data sets of the paper."""

from __future__ import annotations

from .catalog import DATASETS, Dataset, MissingData, fingerprint, fingerprints, load, load_scene, scene_names, scenes_by_split
from .files import read, write
from .scene import Scene, SceneError

__all__ = [
    "DATASETS",
    "Dataset",
    "MissingData",
    "Scene",
    "SceneError",
    "fingerprint",
    "fingerprints",
    "load",
    "load_scene",
    "read",
    "scene_names",
    "scenes_by_split",
    "write",
]
