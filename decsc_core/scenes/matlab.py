"""MATLAB files, up to version 7 (SciPy) and version 7.3 (HDF5)."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io

from .arrays import values_or_nan
from .scene import Scene, SceneError
from .wavelengths import WAVELENGTH_NAMES, find_wavelengths

CUBE_NAMES = ("cube", "data", "hsi", "img", "image", "rad")
"""Names that settle which variable is the cube when a file has several of three dimensions."""
V5_LIMIT = 2**31
"""Bytes that a variable of version 5 must stay below."""
NUMERIC = ("double", "single", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


def read_mat(path: Path) -> Scene:
    """Read the one numeric variable of three dimensions, NaN as no-data, with its wavelengths if the file has them.

    The wavelengths are the first vector with one of `WAVELENGTH_NAMES` that `find_wavelengths` takes;
    MATLAB files state no unit, so entries that are all below 100 are taken as micrometres and others as nanometres.

    Raises
    ------
    SceneError
        If there is no such variable, or several, none of them ``cube`` and none or more than one of `CUBE_NAMES`, or if the first
        axis of the cube has as many entries as there are wavelengths and the last has not.
    """
    hdf5 = h5py.is_hdf5(path)
    shapes, load = _open_v73(path) if hdf5 else _open_v5(path)
    variable = _cube_variable(shapes, path)
    metadata: dict[str, Any] = {"format": "mat", "mat_version": "7.3" if hdf5 else "5", "variable": variable}
    named = {name: load(name) for name, shape in shapes.items() if name.lower() in WAVELENGTH_NAMES and np.prod(shape) == max(shape, default=1)}
    name, wavelengths = find_wavelengths(path, shapes[variable], named)
    if name is not None:
        metadata["wavelength_variable"] = name
    data = load(variable)
    return Scene.from_physical(data, path.stem, missing=np.isnan(data), wavelengths=wavelengths, metadata=metadata)


def write_mat(scene: Scene, path: Path) -> None:
    """Write the physical values (NaN where there are no data) and wavelengths [nm], in the source's version.

    A cube too large for version 5 is written in version 7.3.
    """
    values = values_or_nan(scene)
    variables = {scene.metadata.get("variable", "cube"): values}
    if scene.wavelengths is not None:
        variables[scene.metadata.get("wavelength_variable", "wavelengths")] = scene.wavelengths[None, :]
    if scene.metadata.get("mat_version") == "7.3" or values.nbytes >= V5_LIMIT:
        _write_v73(variables, path)
    else:
        scipy.io.savemat(path, variables, appendmat=False, do_compression=True)


def _open_v5(path: Path) -> tuple[dict[str, tuple[int, ...]], Any]:
    """(shape of each numeric variable, a function that loads one) of a file up to version 7."""
    shapes = {name: shape for name, shape, kind in scipy.io.whosmat(path, appendmat=False) if kind in NUMERIC}
    return shapes, lambda name: scipy.io.loadmat(path, variable_names=[name], appendmat=False)[name]


def _open_v73(path: Path) -> tuple[dict[str, tuple[int, ...]], Any]:
    """(shape of each numeric variable, a function that loads one), with the axes that MATLAB reverses put right."""

    def reverses(item: h5py.Dataset) -> bool:
        return "MATLAB_class" in item.attrs

    def numeric(item: h5py.Dataset) -> bool:
        kind = item.attrs.get("MATLAB_class", "double")  # of MATLAB's logical and char variables the data are integers, too
        return (kind.decode() if isinstance(kind, bytes) else kind) in NUMERIC

    with h5py.File(path) as file:
        shapes = {
            name: item.shape[::-1] if reverses(item) else item.shape
            for name, item in file.items()
            if isinstance(item, h5py.Dataset) and item.dtype.kind in "iuf" and numeric(item)
        }

    def load(name: str) -> np.ndarray:
        with h5py.File(path) as file:
            return np.transpose(file[name][()]) if reverses(file[name]) else file[name][()]

    return shapes, load


def _cube_variable(shapes: dict[str, tuple[int, ...]], path: Path) -> str:
    """The name of the variable that is the cube."""
    cubes = [name for name, shape in shapes.items() if len(shape) == 3]
    if len(cubes) > 1:
        cubes = [name for name in cubes if name == "cube"] or [name for name in cubes if name.lower() in CUBE_NAMES] or cubes
    if len(cubes) == 1:
        return cubes[0]
    listed = ", ".join(f"{name} {'x'.join(map(str, shapes[name]))}" for name in (cubes or shapes)) or "none"
    if cubes:
        raise SceneError(f"{path}: several variables have three dimensions ({listed}); keep one, or name it 'cube'")
    raise SceneError(f"{path}: no numeric variable has three dimensions (numeric ones: {listed}); a cube is (H, W, B)")


def _write_v73(variables: dict[str, np.ndarray], path: Path) -> None:
    """Write HDF5 as MATLAB 7.3 does: a 512-byte text header, axes reversed, the class of each variable."""
    size = sum(values.nbytes for values in variables.values())
    if size > shutil.disk_usage(path.parent).free:  # where HDF5 runs out of space, it brings Python down
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in variables.items():
            dataset = file.create_dataset(name, data=np.transpose(values), compression="gzip", compression_opts=1)
            dataset.attrs["MATLAB_class"] = np.bytes_("single" if values.dtype == np.float32 else "double")
    text = b"MATLAB 7.3 MAT-file, written through HDF5".ljust(116) + bytes(8) + b"\x00\x02IM"
    with open(path, "r+b") as file:
        file.write(text)
