from __future__ import annotations

import os
import re
import resource
import shutil
import struct
import warnings
from argparse import Namespace
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import rasterio
import scipy.io
import spectral.io.envi as spy
import tifffile
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.rpc import RPC
from skimage.io import imsave

from decsc_core.scenes import Scene, SceneError, read, write

UTM = "EPSG:32633"
TRANSFORM = (30.0, 0.0, 400000.0, 0.0, -30.0, 5800000.0)
WAVELENGTHS = np.array([450.0, 550.5, 650.25, 0.1 + 899.9])


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def numbers(rng) -> np.ndarray:
    """A cube of digital numbers whose three sizes differ."""
    return rng.integers(1, 9000, (6, 5, 4)).astype(np.int16)


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("error", RuntimeWarning)
        yield


def make_tiff(path: Path, data: np.ndarray, **profile) -> None:
    """A GeoTIFF as other programs write them, not through the code under test."""
    height, width, bands = data.shape
    georeference = {"crs": UTM, "transform": rasterio.Affine(*TRANSFORM)}
    shape = {"height": height, "width": width, "count": bands, "dtype": data.dtype}
    with rasterio.open(path, "w", driver="GTiff", **shape, **georeference, **profile) as dataset:
        for band in range(bands):
            dataset.write(data[:, :, band], band + 1)
            dataset.update_tags(band + 1, wavelength=str(WAVELENGTHS[band] * 10), wavelength_units="Angstroms")
            dataset.update_tags(band + 1, STATISTICS_MEAN="12", gain="3")
            dataset.set_band_description(band + 1, f"band {band}")
        dataset.update_tags(sensor="test")


def make_envi(path: Path, data: np.ndarray, interleave: str, **fields) -> None:
    """An ENVI image written by SPy alone."""
    header = {
        "wavelength": [str(value / 1000) for value in WAVELENGTHS],
        "wavelength units": "Micrometers",
        "fwhm": ["0.01"] * 4,
        "bbl": [1, 1, 0, 1],
        "band names": ["a", "b", "c", "d"],
        "description": "a test image",
        "map info": ["UTM", "1", "1", "400000", "5800000", "30", "30", "33", "North", "WGS-84", "units=Meters"],
        "sensor type": "Unknown",
        **fields,
    }
    spy.save_image(str(path), data, interleave=interleave, metadata=header, ext=f".{interleave}")


@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip"])
def test_envi_comes_back_with_all_it_carried(tmp_path, numbers, interleave):
    make_envi(tmp_path / "in.hdr", numbers, interleave)
    scene = read(tmp_path / "in.hdr")
    np.testing.assert_allclose(scene.physical(), numbers, atol=2e-3)
    np.testing.assert_allclose(scene.wavelengths, WAVELENGTHS)
    assert scene.metadata["transform"] == TRANSFORM
    assert scene.name == "in"

    write(scene, tmp_path / "out.hdr")
    assert sorted(file.name for file in tmp_path.glob("*out*")) == ["out.hdr", "out.img"]
    header = spy.read_envi_header(tmp_path / "out.hdr")
    before = spy.read_envi_header(tmp_path / "in.hdr")
    assert header["interleave"] == interleave
    for key in ("wavelength", "wavelength units", "fwhm", "bbl", "band names", "description", "map info"):
        assert header[key] == before[key], key
    again = read(tmp_path / "out.img")
    assert again.metadata["interleave"] == interleave
    np.testing.assert_array_equal(again.physical(), scene.physical())
    np.testing.assert_array_equal(again.wavelengths, scene.wavelengths)
    assert rasterio.open(tmp_path / "out.img").crs == rasterio.open(tmp_path / f"in.{interleave}").crs


@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip"])
def test_envi_data_file_is_interleaved_as_it_is_named(tmp_path, numbers, interleave):
    write(Scene.from_physical(numbers, "s"), tmp_path / f"x.{interleave}")
    assert spy.read_envi_header(tmp_path / "x.hdr")["interleave"] == interleave
    stored = np.fromfile(tmp_path / f"x.{interleave}", np.float32)
    order = {"bsq": (2, 0, 1), "bil": (0, 2, 1), "bip": (0, 1, 2)}[interleave]
    np.testing.assert_allclose(stored, numbers.transpose(order).ravel(), atol=2e-3)


def test_envi_values_without_braces_are_lists_of_one(tmp_path, numbers):
    make_envi(tmp_path / "in.hdr", numbers[:, :, :1], "bsq", **{"wavelength": "650", "wavelength units": "nm", "fwhm": "10", "bbl": "1", "band names": "Red"})
    scene = read(tmp_path / "in.hdr")
    assert scene.metadata["band_names"] == ("Red",)
    write(scene, tmp_path / "out.hdr")
    header = spy.read_envi_header(tmp_path / "out.hdr")
    assert [np.ravel(header[field]).tolist() for field in ("band names", "fwhm", "wavelength")] == [["Red"], ["10"], ["650"]]


def test_envi_ignore_value_is_masked_and_written_back(tmp_path, numbers):
    numbers[2:4, 1:3] = -999
    make_envi(tmp_path / "in.hdr", numbers, "bil", **{"data ignore value": -999})
    scene = read(tmp_path / "in.bil")
    assert scene.nodata.sum() == 4 and scene.nodata[2:4, 1:3].all()
    assert scene.cube.min() > -0.1, "the ignore value must not take part in the scaling"
    write(scene.with_cube(scene.cube * 0.5), tmp_path / "out.dat")
    stored = spy.open(str(tmp_path / "out.hdr"), str(tmp_path / "out.dat")).open_memmap(interleave="bip")
    np.testing.assert_array_equal(stored[2:4, 1:3], -999)
    assert float(spy.read_envi_header(tmp_path / "out.hdr")["data ignore value"]) == -999
    np.testing.assert_array_equal(read(tmp_path / "out.dat").nodata, scene.nodata)


def test_envi_reflectance_scale_big_endian_and_header_offset(tmp_path, numbers):
    header = {"reflectance scale factor": 10000, "wavelength": WAVELENGTHS, "wavelength units": "nm"}
    spy.save_image(str(tmp_path / "a.hdr"), numbers, interleave="bip", byteorder="big", metadata=header)
    data = (tmp_path / "a.img").read_bytes()
    (tmp_path / "a.img").write_bytes(b"1234567" + data)
    text = (tmp_path / "a.hdr").read_text().replace("header offset = 0", "header offset = 7")
    (tmp_path / "a.hdr").write_text(text)
    scene = read(tmp_path / "a.hdr")
    assert (scene.scale, scene.offset) == (1.0, 0.0)
    np.testing.assert_allclose(scene.cube, numbers / 10000, rtol=1e-6)
    write(scene, tmp_path / "b.hdr")
    np.testing.assert_array_equal(read(tmp_path / "b.hdr").physical(), scene.physical())


@pytest.mark.parametrize("fields, factor", [
    ({"data gain values": [2, 3, 4, 5]}, 1), ({"data offset values": [1, 2, 3, 4]}, 1),
    ({"data gain values": [2, 3, 4, 5], "data offset values": [1, 2, 3, 4]}, 10000), ({"data offset values": [1, 2, 3, 4]}, 10000),
])
def test_envi_gains_and_offsets_are_applied(tmp_path, numbers, fields, factor):
    make_envi(tmp_path / "in.hdr", numbers, "bil", **fields, **({} if factor == 1 else {"reflectance scale factor": factor}))
    expected = numbers * np.array(fields.get("data gain values", 1.0)) + fields.get("data offset values", 0.0)
    scene = read(tmp_path / "in.hdr")
    np.testing.assert_allclose(scene.physical(), expected, rtol=1e-3)
    for name in ("out.tif", "out.hdr"):
        write(scene, tmp_path / name)
        with rasterio.open(tmp_path / name.replace("hdr", "img")) as out:
            assert (out.scales, out.offsets) == ((1.0,) * 4, (0.0,) * 4)
            np.testing.assert_allclose(out.read().transpose(1, 2, 0), expected, rtol=1e-3)


def test_envi_gains_that_change_nothing_leave_the_reflectance_scale(tmp_path, numbers):
    make_envi(tmp_path / "a.hdr", numbers, "bil", **{"data gain values": [1] * 4, "data offset values": [0] * 4, "reflectance scale factor": 10000})
    np.testing.assert_allclose(read(tmp_path / "a.hdr").physical(), numbers / 10000, rtol=1e-6)


@pytest.mark.parametrize("name", ["a.hdr", "a.tif"])
def test_complex_numbers_are_refused_even_with_a_scale(tmp_path, numbers, name):
    data = numbers.astype(np.complex64)
    make_envi(tmp_path / "a.hdr", data, "bil", **{"data gain values": [2] * 4})
    make_tiff(tmp_path / "a.tif", data)
    with rasterio.open(tmp_path / "a.tif", "r+") as dataset:
        dataset.scales = (2,) * 4
    with pytest.raises(SceneError, match="complex64 but must be integers or real floats"):
        read(tmp_path / name)


@pytest.mark.parametrize("written", [-3.40282e38, -1.70141e38, 1.0e36, -3.4028234663852886e38])
def test_a_rounded_no_data_value_is_recognised(tmp_path, rng, written):
    exact = next(limit for limit in (-3.4028234663852886e38, -(2.0**127), 1.0e36) if abs(limit / written - 1) < 1e-4)
    data = rng.random((6, 5, 4)).astype(np.float32)
    data[:2, :2] = exact
    make_tiff(tmp_path / "in.tif", data, nodata=written)
    make_envi(tmp_path / "in.hdr", data, "bsq", **{"data ignore value": written})
    for name in ("in.tif", "in.hdr"):
        scene = read(tmp_path / name)
        assert scene.nodata.sum() == 4 and scene.nodata[:2, :2].all()
        np.testing.assert_allclose(scene.physical()[2:], data[2:], rtol=1e-6)


@pytest.mark.parametrize(
    ("unit", "expected"),
    [("Nanometers", 0.5), ("um", 500), ("Angstroms", 0.05), ("Unknown", 500), ("Index", None), ("Wavenumber", 2e7), ("GHz", 599584916), ("MHz", 599584916e3)],
)
def test_envi_wavelength_units(tmp_path, numbers, unit, expected):
    header = {"wavelength": [0.5, 0.6, 0.7, 0.8], "wavelength units": unit}
    spy.save_image(str(tmp_path / "a.hdr"), numbers, metadata=header)
    wavelengths = read(tmp_path / "a.hdr").wavelengths
    assert (wavelengths is None) if expected is None else wavelengths[0] == pytest.approx(expected)


@pytest.mark.parametrize("given, unit, told", [
    (["0.5", "0.6"], "um", "2 wavelengths for 4 bands"),
    (["a", "b", "c", "d"], "um", "'a'"),
    (["0", "20000", "30000", "40000"], "wavenumber", "0 is no wavelength"),
    (["400", "nan", "600", "700"], "Nanometers", "nan is no wavelength"),
    (["500", "600", "700", "800"], "Nanometers (nm)", "the unit 'Nanometers (nm)' is not known"),
    (["1", "2", "3", "4"], "Unknown", "they have no unit and number the bands"),
])
def test_envi_wavelengths_that_cannot_be_used_are_told(tmp_path, numbers, given, unit, told, caplog):
    spy.save_image(str(tmp_path / "a.hdr"), numbers, metadata={"wavelength": given, "wavelength units": unit})
    with pytest.warns(UserWarning, match=rf"a\.hdr: wavelengths are left out: .*{re.escape(told)}"):
        assert read(tmp_path / "a.hdr").wavelengths is None
    assert not caplog.records  # nor is it told twice


def test_geotiff_wavelengths_that_cannot_be_used_are_told(tmp_path, numbers):
    make_tiff(tmp_path / "a.tif", numbers)
    with rasterio.open(tmp_path / "a.tif", "r+") as dataset:
        dataset.update_tags(2, wavelength="green")
    with pytest.warns(UserWarning, match=r"a\.tif: wavelengths are left out: .*'green'"):
        assert read(tmp_path / "a.tif").wavelengths is None


def test_envi_header_is_found_by_either_of_its_names(tmp_path, numbers):
    make_envi(tmp_path / "a.hdr", numbers, "bsq")
    (tmp_path / "a.hdr").rename(tmp_path / "a.bsq.hdr")
    for header in ("a.bsq.hdr", "a.bsq.HDR", "a.Hdr"):
        next(tmp_path.glob("*.[hH]*")).rename(tmp_path / header)
        for name in ("a.bsq", header):
            np.testing.assert_allclose(read(tmp_path / name).physical(), numbers, atol=2e-3)
    (tmp_path / header).unlink()
    with pytest.raises(SceneError, match=r"a\.bsq: no ENVI header beside it; expected a\.hdr or a\.bsq\.hdr"):
        read(tmp_path / "a.bsq")


@pytest.mark.parametrize("name, values, expected", [
    ("wavelengths", WAVELENGTHS, WAVELENGTHS), ("wl", WAVELENGTHS / 1e3, WAVELENGTHS), ("Lambda", WAVELENGTHS[:, None], WAVELENGTHS),
    ("bands", [1, 2, 3, 4], None), ("wave", [0.4, 0.5], None), ("wavelengths", [0, 1, 2, 3.5], None), ("other", WAVELENGTHS, None),
    ("wavelength", list("abcd"), None),
])
def test_npz_wavelengths_by_the_names_that_matlab_files_have(tmp_path, numbers, name, values, expected):
    np.savez(tmp_path / "a.npz", cube=numbers, **{name: values})
    told = pytest.warns(UserWarning, match=f"wavelengths are left out: {name} h") if name in ("wave", "wavelengths") and expected is None else nullcontext()
    with told:
        found = read(tmp_path / "a.npz").wavelengths
    assert found is None if expected is None else np.allclose(found, expected)


@pytest.mark.parametrize("ending, told", [
    (".npy", "wavelengths and georeference left out: .npy has no place for that"),
    (".npz", "georeference left out: .npz has no place for that"), (".mat", "georeference left out: .mat has no place for that"),
    (".tif", ""), (".hdr", ""),
])
def test_what_a_format_has_no_place_for_is_told(tmp_path, numbers, ending, told):
    where = {"crs": rasterio.CRS.from_epsg(32632).to_wkt(), "transform": (30.0, 0.0, 5e5, 0.0, -30.0, 4e6)}
    scene = Scene.from_physical(numbers, "s", wavelengths=WAVELENGTHS, metadata=where)
    with pytest.warns(UserWarning, match=f"^{re.escape(told)}$") if told else nullcontext():
        write(scene, tmp_path / f"a{ending}")
    write(Scene.from_physical(numbers, "s"), tmp_path / f"b{ending}")


@pytest.mark.parametrize("data, header, given", [
    ("AVIRIS_x", "AVIRIS_x.hdr", "AVIRIS_x"),
    ("AVIRIS_x", "AVIRIS_x.hdr", "AVIRIS_x.hdr"),
    ("f.rfl", "f.hdr", "f.rfl"),
    ("f.rfl", "f.hdr", "f.hdr"),
    ("f.rfl", "f.rfl.hdr", "f.rfl.hdr"),
    ("f.ort", "f.ort.hdr", "f.ort"),
    ("f.v1.ort", "f.v1.ort.hdr", "f.v1.ort"),
])
def test_envi_data_files_of_any_name_are_read_beside_a_header(tmp_path, numbers, data, header, given):
    make_envi(tmp_path / "a.hdr", numbers, "bsq")
    (tmp_path / "a.bsq").rename(tmp_path / data)
    (tmp_path / "a.hdr").rename(tmp_path / header)
    np.testing.assert_allclose(read(tmp_path / given).physical(), numbers, atol=2e-3)


@pytest.mark.parametrize("encoding, unit", [("latin-1", "\u00b5m"), ("utf-8", "\u00b5m"), ("utf-8", "\u03bcm"), ("utf-8-sig", "{Micrometers}")])
def test_envi_headers_in_other_encodings(tmp_path, numbers, encoding, unit):
    make_envi(tmp_path / "a.hdr", numbers, "bsq", **{"wavelength units": unit, "sensor type": "Grünfläche"})
    text = (tmp_path / "a.hdr").read_text(encoding="utf-8")
    (tmp_path / "a.hdr").write_bytes(text.encode(encoding))
    scene = read(tmp_path / "a.hdr")
    np.testing.assert_allclose(scene.wavelengths, WAVELENGTHS)
    assert scene.metadata["envi"]["sensor type"] == "Grünfläche"
    write(scene, tmp_path / "b.hdr")
    assert read(tmp_path / "b.hdr").metadata["envi"]["sensor type"] == "Grünfläche"


@pytest.mark.parametrize("field, told", [
    ("interleave = foo", "interleave 'foo' is not bsq, bil or bip"),
    ("reflectance scale factor = 0", "reflectance scale factor 0 is not a number above 0"),
    ("reflectance scale factor = -10000", "reflectance scale factor -10000 is not a number above 0"),
    ("reflectance scale factor = nan", "reflectance scale factor nan is not a number above 0"),
    ("reflectance scale factor = {10000}", "reflectance scale factor is ['10000'] but must be a number"),
    ("data gain values = {1, 1, 1, x}", "data gain values must be numbers (could not convert string to float: 'x')"),
    ("data gain values = 2", "data gain values are 1 for 4 bands; give as many"),
    ("data offset values = {1, 2, 3}", "data offset values are 3 for 4 bands; give as many"),
    ("data type = 99", "data type is '99' but must be one of 1, 2, 3, 4, 5"),
    ("lines = -20", "lines is '-20' but must be a whole number above 0"),
    ("header offset = -8", "header offset is '-8' but must be a whole number of at least 0"),
    ("byte order = 2", "byte order is '2' but must be 0 or 1"),
    ("data ignore value = none", "data ignore value is 'none' but must be a number"),
])
def test_envi_headers_that_make_no_sense_are_refused(tmp_path, numbers, field, told):
    make_envi(tmp_path / "a.hdr", numbers, "bsq")
    with open(tmp_path / "a.hdr", "a") as file:
        file.write(f"{field}\n")
    with pytest.raises(SceneError, match=rf"a\.hdr: the header's {re.escape(told)}"):
        read(tmp_path / "a.hdr")


def test_compressed_envi_images_are_refused(tmp_path, numbers):
    make_envi(tmp_path / "in.hdr", numbers, "bsq", **{"file compression": 1})
    with pytest.raises(SceneError, match=r"in\.hdr: the image is compressed \(file compression\); unpack it first$"):
        read(tmp_path / "in.hdr")


def test_envi_never_leaves_two_data_files_for_one_header(tmp_path, numbers):
    make_envi(tmp_path / "a.hdr", numbers, "bsq")
    scene = read(tmp_path / "a.hdr")
    with pytest.raises(SceneError, match=r"a\.bsq is already beside a\.hdr"):
        write(scene, tmp_path / "a.hdr")
    write(scene, tmp_path / "a.bsq")
    (tmp_path / "a.dat").write_bytes(b"")
    with pytest.raises(SceneError, match="several data files"):
        read(tmp_path / "a.hdr")


@pytest.mark.parametrize("header", ["a.HDR", "a.Hdr", "a.img.hdr", "a.img.HDR"])
@pytest.mark.parametrize("target", ["a.hdr", "a.img"])
def test_envi_leaves_no_header_of_the_image_that_it_replaces(tmp_path, numbers, header, target):
    scene = Scene.from_physical(numbers[:4], "s")
    write(Scene.from_physical(numbers, "s"), tmp_path / "a.hdr")
    (tmp_path / "a.hdr").rename(tmp_path / header)
    write(scene, tmp_path / target)
    assert {file.name for file in tmp_path.iterdir()} == {"a.hdr", "a.img"}
    np.testing.assert_array_equal(read(tmp_path / "a.img").physical(), scene.physical())


@pytest.mark.parametrize("header, data, told", [
    ("a.img.hdr", "a.img.bsq", "a.img.bsq is already beside a.img.hdr; choose another name"),
    ("a.hdr", "a.rad", "a.hdr is already there, of another image than a.img; choose another name"),
    ("a.HDR", "a.rad", "a.HDR is already there, of another image than a.img; choose another name"),
])
def test_envi_takes_no_header_from_another_image(tmp_path, numbers, header, data, told):
    make_envi(tmp_path / "other.hdr", numbers, "bsq")
    (tmp_path / "other.hdr").rename(tmp_path / header)
    (tmp_path / "other.bsq").rename(tmp_path / data)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    for name in ("a.img", "a.hdr"):
        with pytest.raises(SceneError, match=re.escape(f"{name}: {told}")):
            write(Scene.from_physical(numbers, "s"), tmp_path / name)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_geotiff_comes_back_with_all_it_carried(tmp_path, numbers):
    numbers[0, 0] = numbers[3, 2:] = -1
    make_tiff(tmp_path / "in.tif", numbers, nodata=-1)
    scene = read(tmp_path / "in.tif")
    np.testing.assert_array_equal(scene.nodata, numbers[:, :, 0] == -1)
    np.testing.assert_allclose(scene.physical()[~scene.nodata], numbers[~scene.nodata], atol=2e-3)
    np.testing.assert_allclose(scene.wavelengths, WAVELENGTHS)

    write(scene, tmp_path / "out.tiff")
    with rasterio.open(tmp_path / "out.tiff") as out, rasterio.open(tmp_path / "in.tif") as source:
        assert (out.crs, out.transform, out.nodata) == (source.crs, source.transform, source.nodata)
        assert out.descriptions == source.descriptions
        assert out.tags()["sensor"] == "test"
        assert out.tags(1)["gain"] == "3" and "STATISTICS_MEAN" not in out.tags(1)
        assert set(out.dtypes) == {"float32"}
        np.testing.assert_allclose(out.read().transpose(1, 2, 0), numbers, atol=2e-3)
    again = read(tmp_path / "out.tiff")
    np.testing.assert_array_equal(again.wavelengths, scene.wavelengths)
    np.testing.assert_array_equal(again.nodata, scene.nodata)


def test_geotiff_tags_of_bands_may_be_in_capitals(tmp_path, numbers):
    where = {"crs": UTM, "transform": rasterio.Affine(*TRANSFORM)}
    with rasterio.open(tmp_path / "in.tif", "w", driver="GTiff", height=6, width=5, count=4, dtype="int16", **where) as dataset:
        dataset.write(numbers.transpose(2, 0, 1))
        for band, centre in enumerate(WAVELENGTHS, 1):
            dataset.update_tags(band, WAVELENGTH=str(centre / 1000), WAVELENGTH_UNITS="Micrometers", FWHM="0.01", BBL=str(int(band != 2)))
    scene = read(tmp_path / "in.tif")
    np.testing.assert_allclose(scene.wavelengths, WAVELENGTHS)
    assert list(scene.metadata["bad_bands"]) == [1]
    write(replace(scene, wavelengths=scene.wavelengths + 5), tmp_path / "out.tif")
    with rasterio.open(tmp_path / "out.tif") as out:
        assert {key.lower() for key in out.tags(1)} - {"bbl"} == {"wavelength", "wavelength_units"}
    np.testing.assert_allclose(read(tmp_path / "out.tif").wavelengths, WAVELENGTHS + 5)


@pytest.mark.parametrize("nodata", [float("nan"), -1.7976931348623157e308])
def test_geotiff_nodata_that_is_nan_or_beyond_float32(tmp_path, rng, nodata):
    data = rng.random((6, 5, 4))
    data[1, 1], data[2, 2, 3] = nodata, nodata
    make_tiff(tmp_path / "in.tif", data, nodata=nodata)
    scene = read(tmp_path / "in.tif")
    assert scene.nodata.sum() == 1 and scene.missing().sum() == 5
    write(scene, tmp_path / "out.tif")
    with rasterio.open(tmp_path / "out.tif") as out:
        assert np.isnan(out.nodata)
        np.testing.assert_array_equal(np.isnan(out.read().transpose(1, 2, 0)), data != np.clip(data, 0, 1))
    np.testing.assert_array_equal(read(tmp_path / "out.tif").missing(), scene.missing())


@pytest.mark.parametrize("nodata", [0.0, 1.0, -99.0])
@pytest.mark.parametrize("name", ["out.tif", "out.hdr"])
def test_a_value_that_happens_to_be_the_nodata_value_stays_a_value(tmp_path, rng, nodata, name):
    data = rng.random((30, 30, 4)).astype(np.float32)
    data[1, 1] = nodata
    make_tiff(tmp_path / "in.tif", data, nodata=nodata)
    scene = read(tmp_path / "in.tif")
    cube = scene.cube.copy()
    cube[3, :3, 2] = nodata
    write(scene.with_cube(cube), tmp_path / name)
    with rasterio.open(tmp_path / name.replace("hdr", "img")) as out:
        np.testing.assert_array_equal(out.read_masks().transpose(1, 2, 0) == 0, scene.missing())
    again = read(tmp_path / name)
    np.testing.assert_array_equal(again.missing(), scene.missing())
    np.testing.assert_allclose(again.physical()[3, :3, 2], nodata, rtol=1e-5, atol=1e-6)


def test_geotiff_ground_control_points_come_back(tmp_path, numbers):
    make_tiff(tmp_path / "in.tif", numbers)
    points = [GroundControlPoint(row, column, 10 + column / 10, 50 - row / 10) for row in (0, 6) for column in (0, 5)]
    with rasterio.open(tmp_path / "gcps.tif", "w", driver="GTiff", height=6, width=5, count=4, dtype="int16",
                       gcps=points, crs="EPSG:4326") as dataset:
        dataset.write(numbers.transpose(2, 0, 1))
    write(read(tmp_path / "gcps.tif"), tmp_path / "out.tif")
    with rasterio.open(tmp_path / "out.tif") as out:
        found, crs = out.gcps
        assert crs.to_epsg() == 4326
        assert [(p.row, p.col, p.x, p.y) for p in found] == [(p.row, p.col, p.x, p.y) for p in points]


@pytest.mark.parametrize("internal", [True, False])
@pytest.mark.parametrize("nodata", [None, -1])
def test_geotiff_mask_of_the_data_set_counts_as_no_data(tmp_path, numbers, internal, nodata):
    numbers[5, 4] = -1
    mask = np.ones((6, 5), bool)
    mask[:2] = False
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal):
        make_tiff(tmp_path / "in.tif", numbers, nodata=nodata)
        with rasterio.open(tmp_path / "in.tif", "r+") as dataset:
            dataset.write_mask(mask)
    assert (tmp_path / "in.tif.msk").exists() != internal
    mask[5, 4] = nodata is None
    np.testing.assert_array_equal(read(tmp_path / "in.tif").nodata, ~mask)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_geotiff_alpha_is_no_band_but_tells_where_no_data_are(tmp_path, numbers, dtype):
    numbers[:2, :, -1] = 0
    make_tiff(tmp_path / "in.tif", numbers.astype(dtype))
    with rasterio.open(tmp_path / "in.tif", "r+") as dataset:
        dataset.colorinterp = (*[ColorInterp.undefined] * 3, ColorInterp.alpha)
        dataset.descriptions = ("a", "b", "c", "alpha")
    scene = read(tmp_path / "in.tif")
    assert scene.cube.shape == (6, 5, 3)
    np.testing.assert_array_equal(scene.nodata, numbers[:, :, -1] == 0)
    write(scene, tmp_path / "out.tif")
    with rasterio.open(tmp_path / "out.tif") as out:
        assert out.descriptions == ("a", "b", "c")
        np.testing.assert_array_equal(out.dataset_mask() == 0, numbers[:, :, -1] == 0)
        np.testing.assert_allclose(out.read()[:, 2:], numbers.transpose(2, 0, 1)[:3, 2:], rtol=1e-5)


def test_a_fourth_band_of_bytes_is_written_as_data(tmp_path, rng):
    data = rng.integers(0, 256, (20, 20, 4)).astype(np.uint8)
    with rasterio.open(tmp_path / "in.tif", "w", driver="GTiff", height=20, width=20, count=4, dtype="uint8", transform=rasterio.Affine(*TRANSFORM)) as dataset:
        dataset.write(data.transpose(2, 0, 1))
    with pytest.warns(UserWarning, match="band 4 is marked as alpha"):
        write(read(tmp_path / "in.tif"), tmp_path / "out.tif")
    np.testing.assert_allclose(read(tmp_path / "out.tif").physical(), data, atol=1e-3)


def test_a_fourth_band_of_bytes_is_data_unless_it_has_two_values(tmp_path, numbers):
    data = (numbers % 200).astype(np.uint8)
    data[0, 0, 3] = 0
    make_tiff(tmp_path / "in.tif", data)  # GDAL marks the fourth band as alpha by itself
    with pytest.warns(UserWarning, match="band 4 is marked as alpha but has more than two values; it is taken as data"):
        scene = read(tmp_path / "in.tif")
    assert scene.nodata is None
    np.testing.assert_allclose(scene.physical(), data, atol=1e-3)
    data[:, :, 3] = np.where(data[:, :, 3] > 100, 255, 0)
    make_tiff(tmp_path / "in.tif", data)
    scene = read(tmp_path / "in.tif")
    assert scene.cube.shape == (6, 5, 3)
    np.testing.assert_array_equal(scene.nodata, data[:, :, 3] == 0)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_geotiff_rational_polynomials_come_back(tmp_path, numbers):
    rpcs = RPC(height_off=10.0, height_scale=500.0, lat_off=48.0, lat_scale=0.1, line_den_coeff=[1.0] + [0.0] * 19,
               line_num_coeff=[0.0, 1.0] + [0.0] * 18, line_off=3.0, line_scale=3.0, long_off=2.0, long_scale=0.1,
               samp_den_coeff=[1.0] + [0.0] * 19, samp_num_coeff=[0.0, 0.0, 1.0] + [0.0] * 17, samp_off=2.0, samp_scale=2.0)
    with rasterio.open(tmp_path / "in.tif", "w", driver="GTiff", height=6, width=5, count=4, dtype="int16", rpcs=rpcs) as dataset:
        dataset.write(numbers.transpose(2, 0, 1))
    write(read(tmp_path / "in.tif"), tmp_path / "out.tif")
    with rasterio.open(tmp_path / "out.tif") as out, rasterio.open(tmp_path / "in.tif") as source:
        assert out.rpcs.to_dict() == source.rpcs.to_dict() and out.rpcs.lat_off == 48


def test_geotiff_scales_and_offsets_are_applied(tmp_path, numbers):
    numbers[1, 1] = numbers[2, 2, 3] = -1
    make_tiff(tmp_path / "in.tif", numbers, nodata=-1)
    with rasterio.open(tmp_path / "in.tif", "r+") as dataset:
        dataset.scales, dataset.offsets = (0.1, 0.2, 0.3, 0.4), (1, 2, 3, 4)
    scene = read(tmp_path / "in.tif")
    np.testing.assert_array_equal(scene.missing(), numbers == -1)
    data = ~scene.missing()
    expected = numbers * [0.1, 0.2, 0.3, 0.4] + [1, 2, 3, 4]
    write(scene, tmp_path / "out.tif")
    with rasterio.open(tmp_path / "out.tif") as out:
        assert (out.scales, out.offsets, out.nodata) == ((1.0,) * 4, (0.0,) * 4, -1)
        np.testing.assert_allclose(out.read().transpose(1, 2, 0)[data], expected[data], rtol=1e-3)
        assert (out.read().transpose(1, 2, 0)[~data] == -1).all()


def test_the_scales_of_pages_are_applied(tmp_path, numbers):
    for page in range(3):
        with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", height=6, width=5, count=1, dtype="int16", transform=rasterio.Affine(*TRANSFORM),
                           **({"APPEND_SUBDATASET": "YES"} if page else {})) as dataset:
            dataset.write(numbers[:, :, page], 1)
            dataset.scales, dataset.offsets = (1e-4 * (page + 1),), (-0.1,)
    np.testing.assert_allclose(read(tmp_path / "a.tif").physical(), numbers[:, :, :3] * [1e-4, 2e-4, 3e-4] - 0.1, rtol=1e-4, atol=1e-6)


def test_scales_that_make_no_sense_are_refused(tmp_path, numbers):
    make_tiff(tmp_path / "in.tif", numbers)
    with rasterio.open(tmp_path / "in.tif", "r+") as dataset:
        dataset.scales = (1, 0, 1, 1)
    make_envi(tmp_path / "in.hdr", numbers, "bsq", **{"data gain values": [1, 0, 1, 1]})
    for name in ("in.tif", "in.hdr"):
        with pytest.raises(SceneError, match=rf"{re.escape(name)}: the scale 0 and the offset 0 of band 2 must be finite, and the scale not 0"):
            read(tmp_path / name)


def test_geotiff_keeps_the_units_and_the_colours_of_bands(tmp_path, numbers):
    make_tiff(tmp_path / "in.tif", numbers)
    colours = (ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.undefined)
    with rasterio.open(tmp_path / "in.tif", "r+") as dataset:
        dataset.units, dataset.colorinterp = ("W/m2", "W/m2", "", "K"), colours
    write(read(tmp_path / "in.tif"), tmp_path / "out.tif")
    with rasterio.open(tmp_path / "out.tif") as out:
        assert [unit or "" for unit in out.units] == ["W/m2", "W/m2", "", "K"] and out.colorinterp == colours


def test_geotiff_area_or_point_does_not_move_the_image(tmp_path, numbers):
    make_tiff(tmp_path / "in.tif", numbers)
    with rasterio.open(tmp_path / "in.tif", "r+") as dataset:
        dataset.update_tags(AREA_OR_POINT="Point")
    write(read(tmp_path / "in.tif"), tmp_path / "out.tif")
    with rasterio.open(tmp_path / "out.tif") as out, rasterio.open(tmp_path / "in.tif") as source:
        assert out.transform == source.transform and out.tags()["AREA_OR_POINT"] == "Point"


def test_the_pages_of_a_tiff_are_its_bands(tmp_path, rng):
    data = rng.integers(0, 9000, (31, 6, 5)).astype(np.uint16)
    data[0, 0, 0] = 9999
    tifffile.imwrite(tmp_path / "pages.tif", data, photometric="minisblack")
    scene = read(tmp_path / "pages.tif")
    assert scene.name == "pages" and scene.missing() is None
    np.testing.assert_allclose(scene.physical(), data.transpose(1, 2, 0), atol=2e-3)
    for other in (data[0, :5], data[0].astype(np.float32)):
        with tifffile.TiffWriter(tmp_path / "other.tif") as file:
            for page in (data[0], other):
                file.write(page, photometric="minisblack")
        with pytest.raises(SceneError, match=r"other\.tif: its 2 pages differ in size or type; a cube has a page a band, all alike"):
            read(tmp_path / "other.tif")


def test_of_pages_of_several_bands_the_first_is_read_and_that_is_told(tmp_path, numbers):
    for page in range(2):
        with rasterio.open(tmp_path / "two.tif", "w", driver="GTiff", height=6, width=5, count=4, dtype="float32", transform=rasterio.Affine(*TRANSFORM),
                           **({"APPEND_SUBDATASET": "YES"} if page else {})) as dataset:
            dataset.write(numbers.transpose(2, 0, 1) + page)
    with pytest.warns(UserWarning, match=r"two\.tif: has 2 pages, the first of 4 bands; only that one is read"):
        scene = read(tmp_path / "two.tif")
    np.testing.assert_allclose(scene.physical(), numbers, atol=2e-3)


def test_bands_that_envi_marks_as_bad_are_kept_out_of_the_cube(tmp_path, numbers):
    """Band 3 of the header's list is bad; whatever it holds, the others are scaled as without it."""
    junk = numbers.copy()
    junk[:, :, 2] *= 3
    make_envi(tmp_path / "in.hdr", junk, "bil")
    make_envi(tmp_path / "without.hdr", numbers[:, :, [0, 1, 3]], "bil", **{"bbl": [1, 1, 1], "wavelength": [0.4, 0.5, 0.6]})
    scene, without = read(tmp_path / "in.hdr"), read(tmp_path / "without.hdr")
    assert (scene.scale, scene.offset) == (without.scale, without.offset)
    np.testing.assert_array_equal(scene.cube[:, :, [0, 1, 3]], without.cube)
    assert np.unique(scene.cube[:, :, 2]).size == 1 and 0 <= scene.cube[0, 0, 2] <= 1
    np.testing.assert_allclose(scene.physical(), junk, atol=2e-3)

    changed = scene.with_cube(scene.cube + np.float32(0.1))
    write(changed, tmp_path / "there.tif")
    write(read(tmp_path / "there.tif"), tmp_path / "again.tif")
    write(read(tmp_path / "again.tif"), tmp_path / "back.hdr")
    for name in ("there.tif", "again.tif", "back.hdr"):
        again = read(tmp_path / name)
        assert list(again.metadata["bad_bands"]) == [2] and np.unique(again.cube[:, :, 2]).size == 1
        np.testing.assert_allclose(again.physical()[:, :, 2], junk[:, :, 2], atol=2e-3)
        np.testing.assert_allclose(again.physical()[:, :, 0], junk[:, :, 0] + 0.1 * scene.scale, atol=2e-3)
    assert spy.read_envi_header(tmp_path / "back.hdr")["bbl"] == ["1", "1", "0", "1"]
    with pytest.warns(UserWarning, match="^wavelengths and georeference and marks of bad bands left out: .npy has no place"):
        write(scene, tmp_path / "out.npy")


@pytest.mark.parametrize("listed", [[1, 1, 1], [0, 0, 0, 0], ["good", "good", "bad", "good"]])
def test_a_list_of_bad_bands_that_cannot_be_used_is_told(tmp_path, numbers, listed):
    make_envi(tmp_path / "in.hdr", numbers, "bil", bbl=listed)
    with pytest.warns(UserWarning, match=r"in\.hdr: the list of bad bands \(bbl\) is not used: .* each of the 4 bands, not all 0$"):
        scene = read(tmp_path / "in.hdr")
    assert "bad_bands" not in scene.metadata and np.unique(scene.cube[:, :, 2]).size > 1


def test_a_list_without_bad_bands_changes_nothing(tmp_path, numbers):
    make_envi(tmp_path / "in.hdr", numbers, "bil", bbl=[1, 1, 1, 1])
    assert "bad_bands" not in read(tmp_path / "in.hdr").metadata


POINTS = "{1.5, 1.5, 50.0, 10.0, 5.5, 1.5, 50.0, 10.4, 1.5, 6.5, 49.5, 10.0, 5.5, 6.5, 49.5, 10.4}"


def test_envis_ground_control_points_go_to_geotiff_and_back_with_a_warning(tmp_path, numbers):
    make_envi(tmp_path / "in.hdr", numbers, "bsq")
    header = tmp_path / "in.hdr"
    lines = [line for line in header.read_text().splitlines() if not line.startswith("map info")]
    header.write_text("\n".join([*lines, f"geo points = {POINTS}"]) + "\n")
    scene = read(header)
    write(scene, tmp_path / "copy.hdr")
    write(scene, tmp_path / "out.tif")
    with rasterio.open(tmp_path / "out.tif") as out, rasterio.open(tmp_path / "copy.img") as copy:
        for points in (out.gcps[0], copy.gcps[0]):
            assert [(p.x, p.y) for p in points] == [(10.0, 50.0), (10.4, 50.0), (10.0, 49.5), (10.4, 49.5)]
    with pytest.warns(UserWarning, match="^ground control points left out: they are written to GeoTIFF only$"):
        write(read(tmp_path / "out.tif"), tmp_path / "lost.hdr")


def test_envi_and_geotiff_exchange_what_both_can_carry(tmp_path, numbers):
    numbers[1, 1] = -7
    make_envi(tmp_path / "in.hdr", numbers, "bil", **{"data ignore value": -7})
    source = read(tmp_path / "in.hdr")
    write(source, tmp_path / "there.tif")
    there = read(tmp_path / "there.tif")
    write(there, tmp_path / "back.hdr")
    back = read(tmp_path / "back.hdr")
    for scene in (there, back):
        np.testing.assert_allclose(scene.physical(), source.physical(), atol=2e-3)
        np.testing.assert_allclose(scene.wavelengths, WAVELENGTHS)
        np.testing.assert_array_equal(scene.nodata, source.nodata)
        assert scene.metadata["band_names"] == ("a", "b", "c", "d")
        assert scene.metadata["transform"] == TRANSFORM
        assert rasterio.CRS.from_wkt(scene.metadata["crs"]).to_epsg() == 32633


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_logical_and_char_variables_of_a_mat_file_are_no_numbers(tmp_path, numbers, version):
    mask, path = numbers > numbers.mean(), tmp_path / "in.mat"
    if version == "5":
        scipy.io.savemat(path, {"scene": numbers, "mask": mask, "wavelength": "nano"})
    else:
        with h5py.File(path, "w") as file:
            for name, data, kind in (("scene", numbers.transpose(), "int16"), ("mask", mask.transpose().astype(np.uint8), "logical"),
                                     ("wavelength", np.array([[110], [97], [110], [111]], np.uint16), "char")):
                file[name] = data
                file[name].attrs["MATLAB_class"] = np.bytes_(kind)
    scene = read(path)
    assert scene.metadata["variable"] == "scene" and scene.wavelengths is None
    np.testing.assert_allclose(scene.physical(), numbers, atol=2e-3)


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_mat_keeps_axes_names_and_version(tmp_path, numbers, version):
    path = tmp_path / "in.mat"
    if version == "5":
        scipy.io.savemat(path, {"paris": numbers, "bands": WAVELENGTHS / 1000, "mask": np.ones((6, 5))})
    else:
        with h5py.File(path, "w") as file:
            file["paris"], file["bands"] = numbers.transpose(), WAVELENGTHS[:, None] / 1000
            file["paris"].attrs["MATLAB_class"] = np.bytes_("int16")
            file["mask"] = np.ones((5, 6))
            file.create_group("#refs#")
    scene = read(path)
    assert scene.cube.shape == (6, 5, 4)
    np.testing.assert_allclose(scene.physical(), numbers, atol=2e-3)
    np.testing.assert_allclose(scene.wavelengths, WAVELENGTHS)

    write(scene, tmp_path / "out.mat")
    assert h5py.is_hdf5(tmp_path / "out.mat") == (version == "7.3")
    if version == "5":
        out = scipy.io.loadmat(tmp_path / "out.mat")["paris"]
    else:
        assert (tmp_path / "out.mat").read_bytes()[:19] == b"MATLAB 7.3 MAT-file"
        assert struct.unpack("<H", (tmp_path / "out.mat").read_bytes()[124:126]) == (0x0200,)
        with h5py.File(tmp_path / "out.mat") as file:
            assert file["paris"].attrs["MATLAB_class"] == b"single"
            out = file["paris"][()].transpose()
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, numbers, atol=2e-3)
    np.testing.assert_allclose(read(tmp_path / "out.mat").wavelengths, WAVELENGTHS)


def test_mat_too_large_for_version_5_is_written_as_7_3(tmp_path, numbers, monkeypatch):
    monkeypatch.setattr("decsc_core.scenes.matlab.V5_LIMIT", 4 * numbers.size)
    scene = Scene.from_physical(numbers, "s", wavelengths=WAVELENGTHS)
    write(scene, tmp_path / "a.mat")
    assert h5py.is_hdf5(tmp_path / "a.mat")
    np.testing.assert_array_equal(read(tmp_path / "a.mat").physical(), scene.physical())
    monkeypatch.setattr("decsc_core.scenes.matlab.V5_LIMIT", 4 * numbers.size + 1)
    write(scene, tmp_path / "a.mat")
    assert not h5py.is_hdf5(tmp_path / "a.mat")


def test_hdf5_that_matlab_did_not_write_has_its_axes_in_order(tmp_path, numbers):
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file["cube"], file["wavelengths"] = numbers, WAVELENGTHS
    scene = read(tmp_path / "a.mat")
    np.testing.assert_allclose(scene.physical(), numbers, atol=2e-3)
    np.testing.assert_array_equal(scene.wavelengths, WAVELENGTHS)
    write(scene, tmp_path / "b.mat")
    np.testing.assert_array_equal(read(tmp_path / "b.mat").cube, scene.cube)


@pytest.mark.parametrize("file, name", [("a.mat", "wavelengths"), ("a.npz", "wavelengths_nm"), ("a.npz", "wl")])
def test_bands_first_are_refused(tmp_path, numbers, file, name):
    variables = {"cube": numbers.transpose(2, 0, 1), name: WAVELENGTHS}
    scipy.io.savemat(tmp_path / file, variables) if file == "a.mat" else np.savez(tmp_path / file, **variables)
    with pytest.raises(SceneError, match=rf"{file}: the cube is 4x6x5 with 4 wavelengths; bands come last"):
        read(tmp_path / file)


@pytest.mark.parametrize("wavelengths", [[800, 700, 600, 500], [400, 600, 590, 700], [400, 600, 600, 700]])
def test_mat_wavelengths_need_not_increase(tmp_path, numbers, wavelengths):
    write(Scene.from_physical(numbers, "s", wavelengths=wavelengths), tmp_path / "a.mat")
    np.testing.assert_array_equal(read(tmp_path / "a.mat").wavelengths, wavelengths)


def test_mat_numbers_of_bands_are_no_wavelengths(tmp_path, numbers):
    for first in (0, 1):
        for cube in (numbers, numbers.transpose(2, 0, 1)):
            scipy.io.savemat(tmp_path / "a.mat", {"cube": cube, "bands": np.arange(4) + first})
            assert read(tmp_path / "a.mat").wavelengths is None
    scipy.io.savemat(tmp_path / "a.mat", {"cube": numbers, "bands": [1, 2, 104, 219]})
    assert read(tmp_path / "a.mat").wavelengths is None
    scipy.io.savemat(tmp_path / "a.mat", {"cube": numbers, "bands": [400, 500, 600, 700]})
    np.testing.assert_array_equal(read(tmp_path / "a.mat").wavelengths, [400, 500, 600, 700])


def test_a_cube_of_one_row_may_have_numbers_beside_it(tmp_path, numbers):
    scipy.io.savemat(tmp_path / "a.mat", {"cube": numbers[:1], "bands": 10})
    assert read(tmp_path / "a.mat").cube.shape == (1, 5, 4)
    np.savez(tmp_path / "a.npz", cube=numbers[:1], wl=[400.0])
    with pytest.warns(UserWarning, match="wavelengths are left out: wl has 1 entries for 4 bands"):
        assert read(tmp_path / "a.npz").wavelengths is None


def test_mat_with_several_cubes_takes_the_usual_name_or_lists_them(tmp_path, numbers):
    scipy.io.savemat(tmp_path / "a.mat", {"first": numbers, "rad": numbers + 1, "t": 3})
    np.testing.assert_allclose(read(tmp_path / "a.mat").physical(), numbers + 1, atol=2e-3)
    scipy.io.savemat(tmp_path / "a.mat", {"data": numbers, "cube": numbers + 1})
    np.testing.assert_allclose(read(tmp_path / "a.mat").physical(), numbers + 1, atol=2e-3)
    for other in ("second", "hsi"):
        scipy.io.savemat(tmp_path / "b.mat", {"img" if other == "hsi" else "first": numbers, other: numbers})
        with pytest.raises(SceneError, match=rf"b\.mat: several .* {other} 6x5x4"):
            read(tmp_path / "b.mat")
    scipy.io.savemat(tmp_path / "c.mat", {"flat": numbers[:, :, 0], "text": "hello"})
    with pytest.raises(SceneError, match=r"c\.mat: no numeric .* three dimensions \(numeric ones: flat 6x5\)"):
        read(tmp_path / "c.mat")


def test_other_things_in_an_npz_do_not_matter(tmp_path, numbers):
    np.savez(tmp_path / "a.npz", cube=numbers, meta={"sensor": "x"})
    np.testing.assert_allclose(read(tmp_path / "a.npz").physical(), numbers, atol=2e-3)


def test_npy_and_npz_round_trip(tmp_path, numbers):
    scene = Scene.from_physical(numbers, "my scene", wavelengths=WAVELENGTHS)
    for name in ("a.npy", "b.npz"):
        with pytest.warns(UserWarning, match="^wavelengths left out") if name == "a.npy" else nullcontext():
            write(scene, tmp_path / name)
        np.testing.assert_array_equal(read(tmp_path / name).physical(), scene.physical())
    again = read(tmp_path / "b.npz")
    assert again.name == "my scene"
    np.testing.assert_array_equal(again.wavelengths, WAVELENGTHS)


def test_npz_with_scale_and_offset_and_a_mask(tmp_path, numbers):
    mask = np.zeros((6, 5), bool)
    mask[2] = True
    stored = numbers.astype(np.uint16)
    np.savez(tmp_path / "a.npz", cube=stored, scale=1e-4, offset=-0.1, nodata=mask)
    scene = read(tmp_path / "a.npz")
    assert (scene.scale, scene.offset, scene.name) == (1.0, 0.0, "a")
    np.testing.assert_allclose(scene.cube[~mask], stored[~mask] * 1e-4 - 0.1, atol=1e-7)
    write(scene, tmp_path / "b.npz")
    np.testing.assert_array_equal(read(tmp_path / "b.npz").nodata, mask)
    write(scene, tmp_path / "b.npy")
    np.testing.assert_array_equal(np.isnan(np.load(tmp_path / "b.npy")).all(axis=2), mask)


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.mat", "a.hdr", "a.tif"])
@pytest.mark.parametrize("partly", [True, False])
def test_no_data_come_back_from_every_format(tmp_path, numbers, name, partly):
    missing = np.zeros(numbers.shape, bool)
    missing[2, 1:4] = True
    missing[5, 4, :2] = partly
    scene = Scene.from_physical(numbers, "s", missing=missing)
    write(scene, tmp_path / name)
    again = read(tmp_path / name)
    np.testing.assert_array_equal(again.missing(), missing)
    np.testing.assert_array_equal(again.nodata, missing.all(axis=2))
    np.testing.assert_allclose(again.physical(), scene.physical(), atol=2e-3)


@pytest.mark.parametrize("field, value, told", [
    ("scale", 0.0, "scale 0 and offset 0 must be finite, and scale not 0"),
    ("scale", np.nan, "scale nan and offset 0 must"),
    ("offset", np.inf, "scale 1 and offset inf must"),
    ("scale", np.ones(4), r"scale is float64 of shape \(4,\); it must be one number for the whole cube"),
    ("scale", "a", r"scale is <U1 of shape \(\); it must be one number for the whole cube"),
    ("offset", 1j, r"offset is complex128 of shape \(\); it must be one number"),
    ("name", ["a", "b"], r"name is <U1 of shape \(2,\); it must be one text"),
    ("nodata", 0, r"nodata is \(\); it is a mask"),
    ("nodata", np.zeros((3, 3)), r"nodata is \(3, 3\); it is a mask"),
])
def test_npz_with_numbers_that_make_no_sense_is_refused(tmp_path, numbers, field, value, told):
    np.savez(tmp_path / "a.npz", cube=numbers, **{field: value})
    with pytest.raises(SceneError, match=rf"a\.npz: .*{told}"):
        read(tmp_path / "a.npz")


def test_npz_wavelengths_may_be_a_row(tmp_path, numbers):
    np.savez(tmp_path / "a.npz", cube=numbers, wavelengths_nm=WAVELENGTHS[None], scale=[2.0])
    scene = read(tmp_path / "a.npz")
    np.testing.assert_array_equal(scene.wavelengths, WAVELENGTHS)
    np.testing.assert_allclose(scene.physical(), 2.0 * numbers, atol=0.01)


def test_shared_cave_is_read_exactly(shared):
    path = shared / "data" / "cave_cd.npz"
    scene = read(path)
    with np.load(path) as archive:
        expected = archive["cube"] * float(archive["scale"])
    assert (scene.scale, scene.offset) == (1.0, 0.0)
    np.testing.assert_array_equal(scene.cube, expected.astype(np.float32))


def make_cave(folder: Path, cube: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for band in range(cube.shape[2]):
        imsave(folder / f"toy_ms_{band + 1:02d}.png", cube[:, :, band], check_contrast=False)


def test_cave_folder(tmp_path, rng):
    sixteen = rng.integers(0, 65536, (8, 9, 31), dtype=np.uint16)
    make_cave(tmp_path / "toy_ms" / "toy_ms", sixteen)
    (tmp_path / "toy_ms" / "toy_ms" / "Thumbs.db").write_bytes(b"x")
    for folder in (tmp_path / "toy_ms", tmp_path / "toy_ms" / "toy_ms"):
        scene = read(folder)
        assert scene.name == "toy"
        np.testing.assert_array_equal(scene.cube, sixteen.astype(np.float32) / np.float32(65535))
        np.testing.assert_array_equal(scene.wavelengths, np.arange(400, 701, 10))
    (tmp_path / "toy_ms" / "toy_ms" / "toy_ms_07.png").write_bytes(b"broken")
    with pytest.raises(SceneError, match=r"toy_ms_07\.png: cannot be read as an image"):
        read(tmp_path / "toy_ms")
    (tmp_path / "toy_ms" / "toy_ms" / "toy_ms_07.png").unlink()
    with pytest.raises(SceneError, match=r"toy_ms: band images .* a CAVE folder has \*_01.png to \*_31.png"):
        read(tmp_path / "toy_ms")
    with pytest.raises(SceneError, match="no band images"):
        read(tmp_path)


def test_a_folder_of_several_cave_scenes_is_refused(tmp_path, rng):
    for name in ("beads_ms", "cloth_ms"):
        make_cave(tmp_path / "all" / name, rng.integers(0, 65536, (8, 9, 31), dtype=np.uint16))
    with pytest.raises(SceneError, match="all: several scenes in it: beads_ms, cloth_ms; give one of these folders"):
        read(tmp_path / "all")
    assert read(tmp_path / "all" / "beads_ms").cube.shape == (8, 9, 31)


def test_cave_folder_of_8_bit_colour_images(tmp_path, rng):
    grey = rng.integers(0, 256, (8, 9, 31), dtype=np.uint8)
    folder = tmp_path / "toy"
    folder.mkdir()
    for band in range(31):
        imsave(folder / f"toy_{band + 1:02d}.png", np.dstack([grey[:, :, band]] * 3 + [np.full((8, 9), 255, np.uint8)]))
    np.testing.assert_array_equal(read(folder).cube, grey.astype(np.float32) / np.float32(255))


def save_in_every_format(folder: Path, data: np.ndarray, **declared: float) -> tuple[str, ...]:
    """Written by other programs; `declared` is empty or has `nodata`. Returns the names that can be read."""
    np.save(folder / "a.npy", data)
    scipy.io.savemat(folder / "a.mat", {"cube": data})
    np.savez(folder / "a.npz", cube=data, name="elsewhere")
    spy.save_image(str(folder / "a.hdr"), data, metadata={"data ignore value": declared["nodata"]} if declared else {})
    make_tiff(folder / "a.tif", data, **declared)
    return "a.npy", "a.npz", "a.mat", "a.hdr", "a.img", "a.tif"


def test_infinity_is_refused_with_file_and_count(tmp_path, rng):
    data = rng.random((6, 5, 4))
    data[0, 0, :3] = np.inf
    for name in save_in_every_format(tmp_path, data):
        with pytest.raises(SceneError) as error:
            read(tmp_path / name)
        assert str(error.value).startswith(f"{tmp_path / name}: ") and "3 values are NaN or infinite" in str(error.value)


@pytest.mark.parametrize("declared", [{}, {"nodata": -9.0}], ids=["undeclared", "beside a declared value"])
def test_nan_is_no_data_in_every_format(tmp_path, rng, declared):
    data = rng.random((6, 5, 4))
    data[0, 0] = data[3, 3, 1] = np.nan
    names = save_in_every_format(tmp_path, data, **declared)
    for name in names:
        scene = read(tmp_path / name)
        np.testing.assert_array_equal(scene.missing(), np.isnan(data))
        write(scene, tmp_path / f"b{Path(name).suffix}")
        np.testing.assert_array_equal(read(tmp_path / f"b{Path(name).suffix}").missing(), np.isnan(data))
    with rasterio.open(tmp_path / "b.tif") as out:
        np.testing.assert_array_equal(out.read()[:, 0, 0], [declared.get("nodata", np.nan)] * 4)


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a5.mat", "a73.mat", "a.img", "a.tif", "a_ms"])
def test_a_truncated_file_is_one_clear_line(tmp_path, rng, name):
    scene = Scene.from_physical(rng.random((16, 15, 14)), "a")
    if name == "a_ms":
        make_cave(tmp_path / "a_ms", rng.integers(0, 65536, (16, 15, 31), dtype=np.uint16))
        victim = tmp_path / "a_ms" / "toy_ms_05.png"
    else:
        victim = tmp_path / name
        if name == "a73.mat":
            scene.metadata["mat_version"] = "7.3"
        write(scene, victim)
    content = victim.read_bytes()
    victim.write_bytes(content[: len(content) // 2])
    with pytest.raises(SceneError) as error:
        read(tmp_path / name)
    message = str(error.value)
    assert message.startswith(str(tmp_path / name)) and "\n" not in message
    assert "damaged" in message or "truncated" in message


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path, numbers, monkeypatch):
    def denied(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    np.save(tmp_path / "a.npy", numbers)
    monkeypatch.setattr(np, "load", denied)  # root, who runs tests in containers, may read everything
    with pytest.raises(SceneError, match=r"a\.npy: you have no permission to read it$"):
        read(tmp_path / "a.npy")


def test_of_envis_two_files_the_one_that_may_not_be_read_is_named(tmp_path, numbers, monkeypatch):
    make_envi(tmp_path / "a.hdr", numbers, "bsq")
    monkeypatch.setattr(os, "access", lambda file, mode: not str(file).endswith(".bsq"))
    with pytest.raises(SceneError, match=r"a\.bsq: you have no permission to read it$"):
        read(tmp_path / "a.hdr")


def test_a_file_too_large_for_the_memory_is_named(tmp_path, numbers, monkeypatch):
    def too_large(*args, **kwargs):
        raise MemoryError("Unable to allocate 23.6 TiB")

    np.save(tmp_path / "a.npy", numbers)
    monkeypatch.setattr(np, "load", too_large)
    with pytest.raises(MemoryError, match=r"a\.npy: there is not enough memory for it \(Unable to allocate 23.6 TiB\)"):
        read(tmp_path / "a.npy")


@pytest.mark.parametrize("extension", [".npy", ".npz", ".mat", ".hdr", ".tif"])
def test_a_file_of_another_format_is_one_clear_line(tmp_path, extension):
    (tmp_path / f"a{extension}").write_text("this is a poem")
    (tmp_path / "a.img").write_text("this is a poem")
    with pytest.raises(SceneError) as error:
        read(tmp_path / f"a{extension}")
    assert str(error.value).startswith(f"{tmp_path / 'a'}{extension}") and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_no_numpy_file_is_advised_to_be_unpickled(tmp_path, name):
    save = np.save if name == "a.npy" else lambda path, cube: np.savez(path, cube=cube)
    (tmp_path / name).write_bytes(b"hello")
    with pytest.raises(SceneError) as text:
        read(tmp_path / name)
    save(tmp_path / name, np.array([{}, 1], dtype=object))
    with pytest.raises(SceneError) as objects:
        read(tmp_path / name)
    for error in (text, objects):
        assert str(error.value).startswith(f"{tmp_path / name}: this is no {name[1:]} file of numbers; ") and "pickle" not in str(error.value)


def test_envi_header_of_another_image_names_both_sizes(tmp_path, numbers):
    make_envi(tmp_path / "a.hdr", numbers, "bsq")
    (tmp_path / "a.hdr").write_text((tmp_path / "a.hdr").read_text().replace("lines = 6", "lines = 7"))
    with pytest.raises(SceneError, match=r"a\.bsq: the file has 240 bytes but its header a\.hdr asks for 280"):
        read(tmp_path / "a.hdr")


def test_paths_that_cannot_be(tmp_path, numbers):
    scene = Scene.from_physical(numbers, "s")
    with pytest.raises(SceneError, match="there is no such file or folder"):
        read(tmp_path / "none.tif")
    (tmp_path / "a.jpg").write_bytes(b"")
    for action in (lambda: read(tmp_path / "a.jpg"), lambda: write(scene, tmp_path / "a.jpg")):
        with pytest.raises(SceneError, match=r"'\.jpg' is not known; supported: \.hdr, .*\.tif.*\.mat.*\.npy, \.npz"):
            action()
    with pytest.raises(SceneError, match=r"deep/a\.tif: the folder .*deep does not exist"):
        write(scene, tmp_path / "deep" / "a.tif")


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.mat", "a.hdr", "a.tif"])
def test_values_that_no_float32_can_hold_are_not_written(tmp_path, rng, name):
    scene = Scene(rng.random((4, 5, 3)), "huge", scale=1e300)
    with pytest.raises(SceneError, match=r"60 values are beyond what float32 holds"):
        write(scene, tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.mat", "a.hdr", "a.tif"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, numbers, monkeypatch, name):
    scene = Scene.from_physical(numbers, "s")
    write(scene, tmp_path / name)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write(scene.with_cube(scene.cube * 0), tmp_path / name)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.mat", "a.hdr", "a.tif"])
def test_a_write_that_breaks_half_way_leaves_nothing(tmp_path, numbers, name):
    scene = Scene.from_physical(numbers, "s")
    scene.metadata.update(crs="no such system", transform=TRANSFORM, variable=3)
    object.__setattr__(scene, "physical", lambda: (_ for _ in ()).throw(RuntimeError("half way")))
    with pytest.raises(Exception):  # noqa: B017  any failure will do
        write(scene, tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.mat", "a.hdr", "a.tif"])
def test_a_full_disk_is_one_clear_line_and_leaves_nothing(tmp_path, rng, name):
    """A limit on the size of files stands in for it."""
    scene = Scene.from_physical(rng.random((60, 50, 10)), "s")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(SceneError) as error:
            write(scene, tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert re.fullmatch(rf"{re.escape(str(tmp_path / name))}: could not be written whole( \(.+\))?; is the disk full\?", str(error.value))
    assert not list(tmp_path.iterdir())


def test_hdf5_is_not_written_to_a_full_disk(tmp_path, numbers, monkeypatch):
    scene = Scene.from_physical(numbers, "s", metadata={"mat_version": "7.3"})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Namespace(free=100))
    with pytest.raises(SceneError, match=r"a\.mat: could not be written whole; is the disk full\?$"):
        write(scene, tmp_path / "a.mat")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.mat", "a.tif"])
def test_writing_to_a_link_writes_the_file_behind_it(tmp_path, numbers, name):
    scene = Scene.from_physical(numbers, "s")
    (tmp_path / "disk").mkdir()
    (tmp_path / name).symlink_to(tmp_path / "disk" / f"real{Path(name).suffix}")
    write(scene, tmp_path / name)
    assert (tmp_path / name).is_symlink() and len(list((tmp_path / "disk").iterdir())) == 1
    np.testing.assert_array_equal(read(tmp_path / name).physical(), scene.physical())


def test_what_other_programs_left_beside_a_geotiff_goes_with_it(tmp_path, numbers):
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False):
        make_tiff(tmp_path / "a.tif", numbers)
        with rasterio.open(tmp_path / "a.tif", "r+") as dataset:
            dataset.write_mask(np.arange(30).reshape(6, 5) > 7)
    for ending in (".aux.xml", ".ovr"):
        (tmp_path / f"a.tif{ending}").write_text("old")
    (tmp_path / "a.tif.txt").write_text("mine")
    write(Scene.from_physical(numbers, "s"), tmp_path / "a.tif")
    assert {file.name for file in tmp_path.iterdir()} == {"a.tif", "a.tif.txt"}
    assert read(tmp_path / "a.tif").missing() is None


def test_what_other_programs_left_beside_an_envi_image_goes_with_it(tmp_path, numbers):
    write(Scene.from_physical(numbers, "s"), tmp_path / "a.hdr")
    for ending in (".aux.xml", ".ovr"):
        (tmp_path / f"a.img{ending}").write_text("old")
    write(Scene.from_physical(numbers, "s"), tmp_path / "a.hdr")
    assert {file.name for file in tmp_path.iterdir()} == {"a.hdr", "a.img"}


@pytest.mark.parametrize("same", [True, False])
def test_widths_of_bands_go_along_with_their_wavelengths_in_their_unit(tmp_path, numbers, same):
    make_tiff(tmp_path / "a.tif", numbers)
    with rasterio.open(tmp_path / "a.tif", "r+") as dataset:
        for band in range(4):
            dataset.update_tags(band + 1, fwhm="50.5")
    scene = read(tmp_path / "a.tif")
    write(scene if same else replace(scene, wavelengths=scene.wavelengths + 5), tmp_path / "b.tif")
    with rasterio.open(tmp_path / "b.tif") as dataset:
        tags = dataset.tags(2)
    told = {key: tags.get(key) for key in ("wavelength", "wavelength_units", "fwhm")}
    assert told == (
        {"wavelength": "5505.0", "wavelength_units": "Angstroms", "fwhm": "50.5"} if same
        else {"wavelength": "555.5", "wavelength_units": "Nanometers", "fwhm": None}
    )


def test_a_coordinate_system_without_a_place_in_the_format_is_told(tmp_path, numbers):
    rotated_pole = "+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p=40 +lon_0=10 +ellps=WGS84"
    metadata = {"crs": rasterio.CRS.from_proj4(rotated_pole).to_wkt(), "transform": (0.1, 0, 1, 0, -0.1, 2)}
    with pytest.warns(UserWarning, match="the coordinate system is left out: GeoTIFF has no place for it"):
        write(Scene.from_physical(numbers, "s", metadata=metadata), tmp_path / "a.tif")
    assert [file.name for file in tmp_path.iterdir()] == ["a.tif"]


def test_a_coordinate_system_without_a_transform_is_told_where_it_has_no_place(tmp_path, numbers):
    scene = Scene.from_physical(numbers, "s", metadata={"crs": rasterio.CRS.from_string(UTM).to_wkt()})
    with pytest.warns(UserWarning, match="the coordinate system is left out: ENVI has no place for one without a transform"):
        write(scene, tmp_path / "a.hdr")


@pytest.mark.parametrize("name", ["file:b.tif", "s3:b.tif", "GTIFF_DIR:1:b.tif"])
def test_names_that_look_like_addresses_are_files(tmp_path, numbers, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scene = Scene.from_physical(numbers, "s")
    write(scene, Path(name))
    np.testing.assert_allclose(read(name).physical(), scene.physical())


@pytest.mark.parametrize("write_it", [lambda path, **arrays: scipy.io.savemat(path, arrays), np.savez], ids=["a.mat", "a.npz"])
@pytest.mark.parametrize("wavelengths, told", [
    (np.r_[0, 410:440:10.0], "wavelength holds 0"), (np.r_[400:450:10.0], "wavelength has 5 entries for 4 bands"),
    (np.r_[400, 410, np.nan, 430], "wavelength holds nan"),
])
def test_wavelengths_that_cannot_be_used_are_told(tmp_path, numbers, write_it, wavelengths, told):
    path = tmp_path / ("a.npz" if write_it is np.savez else "a.mat")
    write_it(path, cube=numbers[:, :, :4], wavelength=wavelengths)
    with pytest.warns(UserWarning, match=re.escape(f"{path}: wavelengths are left out: {told}")):
        assert read(path).wavelengths is None


@pytest.mark.parametrize("wavelengths, told", [([400, np.nan, 500, 600], "nan is no wavelength"), ([-400, 1, 2, 3], "-400 is no wavelength"), (["a"] * 4, "a")])
def test_wavelengths_of_our_own_npz_that_cannot_be_used_are_told(tmp_path, numbers, wavelengths, told):
    np.savez(tmp_path / "a.npz", cube=numbers, wavelengths_nm=wavelengths)
    with pytest.warns(UserWarning, match=f"a.npz: wavelengths are left out: .*{told}"):
        assert read(tmp_path / "a.npz").wavelengths is None


@pytest.mark.parametrize("height, told", [(-20, False), (-30, True)])
def test_a_rotation_that_envi_cannot_tell_is_left_out(tmp_path, numbers, height, told):
    transform = rasterio.Affine.translation(5e5, 4.2e6) @ rasterio.Affine.rotation(30) @ rasterio.Affine.scale(30, height)
    scene = Scene.from_physical(numbers, "s", metadata={"crs": rasterio.CRS.from_string(UTM).to_wkt(), "transform": tuple(transform)[:6]})
    with nullcontext() if told else pytest.warns(UserWarning, match="the georeference is left out: ENVI's map info has no place"):
        write(scene, tmp_path / "a.hdr")
    assert ("map info" in (tmp_path / "a.hdr").read_text()) == told
    if told:
        np.testing.assert_allclose(read(tmp_path / "a.hdr").metadata["transform"], tuple(transform)[:6], rtol=1e-9)


def test_writing_replaces_the_file(tmp_path, numbers):
    scene = Scene.from_physical(numbers, "s")
    for name in ("a.npy", "a.npz", "a.mat", "a.hdr", "a.tif"):
        write(scene, tmp_path / name)
        write(scene.with_cube(scene.cube * 0), tmp_path / name)
        np.testing.assert_allclose(read(tmp_path / name).physical(), scene.offset)
