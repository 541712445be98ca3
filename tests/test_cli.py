from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import rasterio
import safetensors.numpy
import spectral.io.envi as spy
from skimage.io import imsave
from typer.testing import CliRunner

from decsc_core import cli, metrics, weights
from decsc_core.atomic import write_text
from decsc_core.console import Refused, blaming, telling
from decsc_core.denoisers import Denoiser, Estimate, Record
from decsc_core.denoisers.registry import METHODS
from decsc_core.describe import is_here
from decsc_core.networks.catalog import LEARNED, build, configure, sizes
from decsc_core.noise import add_noise
from decsc_core.scenes import DATASETS, MissingData, Scene, SceneError, load_scene, read, scene_names, write

WAVELENGTHS = np.array([450.0, 500.5, 550.0, 600.0, 850.25])
TRANSFORM = (2.0, 0.0, 500000.0, 0.0, -2.0, 4649776.0)


@pytest.fixture
def decsc(tmp_path, monkeypatch):
    """Run a command line in this process, in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        result = CliRunner().invoke(cli.app, [str(a) for a in arguments], prog_name="decsc")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    return run


def test_what_was_warned_of_before_a_failure_is_said_too(capsys):
    with pytest.raises(Refused, match="^cube.npy: diverged$"), blaming("cube.npy"), telling():
        warnings.warn("the values look like counts")
        raise RuntimeError("diverged")
    assert capsys.readouterr().err == "decsc: the values look like counts\n"


@pytest.fixture
def script(tmp_path):
    """Run the installed console script in an empty folder."""
    path = Path(sysconfig.get_path("scripts")) / "decsc"
    if not path.exists():
        pytest.skip("the package is not installed, so there is no console script")

    def run(*arguments):
        return subprocess.run([path, *map(str, arguments)], cwd=tmp_path, capture_output=True, text=True, timeout=120)

    run.path = path
    return run


def clean_cube(height: int = 37, width: int = 29, bands: int = 5) -> np.ndarray:
    """A smooth ground with a bright rectangle, of related bands, inside [0, 1]."""
    rows, columns = np.mgrid[:height, :width] / 12
    ground = 0.45 + 0.15 * np.sin(rows) * np.cos(columns)
    ground[height // 4 : height // 2, width // 3 : 2 * width // 3] += 0.2
    return (ground[:, :, None] * np.linspace(0.7, 1.2, bands)).astype(np.float32)


def noisy_cube(clean: np.ndarray, sigma: float = 50) -> np.ndarray:
    """`clean` with white noise of `sigma` on the 0-255 scale."""
    return (clean + np.random.default_rng(1).normal(0, sigma / 255, clean.shape)).astype(np.float32)


def make_tiff(path: Path, cube: np.ndarray, **profile) -> None:
    height, width, bands = cube.shape
    with rasterio.open(path, "w", driver="GTiff", height=height, width=width, count=bands, dtype=cube.dtype,
                       crs="EPSG:32631", transform=rasterio.Affine(*TRANSFORM), **profile) as dataset:
        dataset.write(np.moveaxis(cube, 2, 0))


def error(physical: np.ndarray, clean: np.ndarray) -> float:
    return float(np.mean((physical - clean) ** 2))


def listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


# denoise


def test_script_denoises_envi_and_keeps_wavelengths_and_map_info(script, tmp_path):
    clean = clean_cube()
    georeference = {"crs": rasterio.CRS.from_epsg(32631).to_wkt(), "transform": TRANSFORM}
    write(Scene(noisy_cube(clean), "noisy", WAVELENGTHS, metadata=georeference), tmp_path / "noisy.hdr")
    done = script("denoise", "noisy.hdr", "out.hdr", "--shifts", 1, "--record", "out.json")
    assert (done.returncode, done.stdout) == (0, "")
    shape, first, *rest = done.stderr.splitlines()
    assert shape == "decsc: noisy.hdr: 37 x 29 pixels, 5 bands"
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["weights"]["trained_for"] == "gauss-15, gauss-55, gauss-95, mixture, corr"
    assert first == (f"decsc: weights {record['weights']['file']}, trained for {record['weights']['trained_for']}, "
                     f"SHA-256 {record['weights']['sha256'][:12]}")
    assert len(rest) == (0 if record["converged"] else 1)
    source, out = read(tmp_path / "noisy.hdr"), read(tmp_path / "out.hdr")
    assert out.cube.shape == (37, 29, 5)
    np.testing.assert_array_equal(out.wavelengths, WAVELENGTHS)
    headers = [(tmp_path / name).read_text().replace(" ", "").splitlines() for name in ("noisy.hdr", "out.hdr")]
    map_info = [[line for line in header if line.startswith("mapinfo")] for header in headers]
    assert map_info[0] == map_info[1] == ["mapinfo={UTM,1,1,500000,4649776,2,2,31,North,WGS-84}"]
    assert out.metadata["crs"] == source.metadata["crs"] and out.metadata["transform"] == TRANSFORM
    assert error(out.cube, clean) < 0.7 * error(source.cube, clean)
    assert listing(tmp_path) == {"noisy.hdr", "noisy.img", "out.hdr", "out.img", "out.json"}


def test_denoise_integer_geotiff_keeps_crs_units_and_no_data(decsc, tmp_path):
    clean = clean_cube()
    numbers = np.round(noisy_cube(clean) * 5000 + 5000).astype(np.uint16)
    numbers[:3, :4] = 0
    make_tiff(tmp_path / "noisy.tif", numbers, nodata=0)
    code, _, err = decsc("denoise", "noisy.tif", "out.tif", "--shifts", 1)
    assert code == 0 and err.startswith("decsc: noisy.tif: 37 x 29 pixels, 5 bands, 60 values without data\n")
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert dataset.crs.to_epsg() == 32631 and tuple(dataset.transform)[:6] == TRANSFORM and dataset.nodata == 0
        values = np.moveaxis(dataset.read(), 0, 2)
    assert values.shape == (37, 29, 5) and values.dtype == np.float32 and np.isfinite(values).all()
    assert (values[:3, :4] == 0).all() and (values[4:] != 0).all()
    physical = clean[4:] * 5000 + 5000
    assert error(values[4:], physical) < 0.7 * error(numbers[4:].astype(np.float64), physical)


def test_denoise_matlab_73_keeps_variables_and_version(decsc, tmp_path):
    clean = clean_cube()
    with h5py.File(tmp_path / "noisy.mat", "w", userblock_size=512) as file:
        file["radiance"] = noisy_cube(clean).T
        file["radiance"].attrs["MATLAB_class"] = np.bytes_("single")
        file["wavelengths"] = WAVELENGTHS[:, None]
    assert decsc("denoise", "noisy.mat", "out.mat", "--shifts", 1)[0] == 0
    with h5py.File(tmp_path / "out.mat") as file:
        assert set(file) == {"radiance", "wavelengths"}
        values = file["radiance"][()].T
        np.testing.assert_array_equal(np.ravel(file["wavelengths"]), WAVELENGTHS)
    assert values.shape == clean.shape and np.isfinite(values).all()
    assert error(values, clean) < 0.7 * error(noisy_cube(clean), clean)


def test_denoise_npy_by_a_band_wise_method_without_weights(decsc, tmp_path):
    clean = clean_cube()
    np.save(tmp_path / "noisy.npy", noisy_cube(clean))
    code, out, err = decsc("denoise", "noisy.npy", "out.npy", "--method", "tv", "--record", "out.json")
    assert (code, out, err) == (0, "", "decsc: noisy.npy: 37 x 29 pixels, 5 bands\n")
    values = np.load(tmp_path / "out.npy")
    assert values.shape == clean.shape and error(values, clean) < 0.3 * error(noisy_cube(clean), clean)
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["method"] == "tv" and record["weights"] is None and record["record"] is None
    assert record["shape"] == [37, 29, 5] and record["seconds"] > 0


def test_what_a_reader_leaves_out_is_told(decsc, tmp_path):
    write(Scene(clean_cube(), "s", WAVELENGTHS), tmp_path / "in.hdr")
    header = (tmp_path / "in.hdr").read_text().replace("Nanometers", "Nanometers (nm)")
    (tmp_path / "in.hdr").write_text(header)
    for command in (("info", "in.hdr"), ("denoise", "in.hdr", "out.hdr", "--method", "tv")):
        code, _, err = decsc(*command)
        assert code == 0 and err.startswith("decsc: in.hdr: wavelengths are left out: the unit 'Nanometers (nm)' is not known")


def test_denoise_a_cave_folder(decsc, tmp_path):
    make_cave(tmp_path / "toy_ms", noisy_cube(clean_cube(16, 16, 31), 20))
    assert decsc("denoise", "toy_ms", "out.npz", "--method", "wavelet")[0] == 0
    out = read(tmp_path / "out.npz")
    assert out.cube.shape == (16, 16, 31)
    np.testing.assert_array_equal(out.wavelengths, np.arange(400, 701, 10))


def make_cave(folder: Path, cube: np.ndarray) -> None:
    folder.mkdir()
    for band in range(31):
        image = np.round(np.clip(cube[:, :, band], 0, 1) * 65535).astype(np.uint16)
        imsave(folder / f"{folder.name}_{band + 1:02}.png", image, check_contrast=False)


@pytest.mark.slow
def test_denoise_real_hyperion_scene_of_128_bands(decsc, tmp_path, shared):
    scene = read(shared / "data" / "eo1_hyperion_paris.npz")
    part = Scene(scene.cube[20:68, 10:51], "paris", scene.wavelengths, scene.scale, scene.offset)
    write(part, tmp_path / "paris.npz")
    assert decsc("noise", "paris.npz", "noisier.npz", "--case", "gauss-95")[0] == 0
    for name in ("paris", "noisier"):
        command = ("denoise", f"{name}.npz", f"{name}_out.npz", "--shifts", 1, "--record", f"{name}.json")
        assert decsc(*command)[0] == 0
        source, out = read(tmp_path / f"{name}.npz"), read(tmp_path / f"{name}_out.npz")
        assert out.cube.shape == source.cube.shape == (48, 41, 128)
        np.testing.assert_array_equal(out.wavelengths, scene.wavelengths)
        windows = json.loads((tmp_path / f"{name}.json").read_text())["record"]
        assert len(windows) >= 128 / 31
    clean, noisy, out = (read(tmp_path / f"{name}.npz").physical() for name in ("paris", "noisier", "noisier_out"))
    assert error(out, clean) < 0.5 * error(noisy, clean)


@pytest.mark.parametrize("bands, file", [(31, "decsc-small-all"), (32, "decsc-small-remote")])
def test_cubes_of_imaging_spectrometers_have_weights_of_their_own(decsc, tmp_path, bands, file):
    np.save(tmp_path / "in.npy", clean_cube(13, 12, bands))
    code, _, err = decsc("denoise", "in.npy", "out.npy", "--shifts", 1)
    assert code == 0 and f"\ndecsc: weights {file}.safetensors, trained for gauss-15, " in err


@pytest.mark.parametrize(
    ("ends", "together"), [([True, True], True), ([True, None], None), ([None, False, True], False), ([], None)]
)
def test_a_fixed_number_of_steps_neither_converges_nor_fails(decsc, tmp_path, monkeypatch, ends, together):
    monkeypatch.setattr(cli, "make", lambda *args, **options: Scripted([Record([0.5], 1, end) for end in ends] or None))
    np.save(tmp_path / "in.npy", clean_cube())
    assert decsc("denoise", "in.npy", "out.npy", "--record", "out.json")[0] == 0
    assert json.loads((tmp_path / "out.json").read_text())["converged"] is together


class Scripted(Denoiser):
    """Halves the cube, or spoils it, and returns given records."""

    name, kind = "scripted", "model-driven"

    def __init__(self, records=None, factor=0.5):
        self.records, self.factor = records, factor

    def _denoise(self, noisy, progress):
        return Estimate(noisy * np.float32(self.factor), self.records)


def test_a_scene_that_comes_back_as_it_was_is_told(decsc, tmp_path):
    """As band-wise methods give back one that is too small to tell its noise."""
    np.save(tmp_path / "in.npy", clean_cube(5, 5, 4))
    for method, end in (("tv", ["decsc: tv gave the scene back as it was: it found no noise, or the scene is too small for it"]), ("lrmr", [])):
        code, _, err = decsc("denoise", "in.npy", "out.npy", "--method", method)
        assert code == 0 and err.splitlines()[1:] == end


def test_what_did_not_converge_is_told_and_recorded(decsc, tmp_path, monkeypatch):
    records = [Record([0.5, 1e-4], 2, True), Record([float("inf"), 0.02, 0.03], 3, False)]
    monkeypatch.setattr(cli, "make", lambda *args, **options: Scripted(records))
    np.save(tmp_path / "in.npy", clean_cube())
    code, _, err = decsc("denoise", "in.npy", "out.npy", "--record", "out.json")
    assert code == 0
    assert err.splitlines()[1:] == ["decsc: 1 of 2 tiles, band windows and passes did not converge (residuals up to 2.0e-02)"]
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["converged"] is False
    assert record["record"] == [
        {"residuals": [0.5, 1e-4], "iterations": 2, "converged": True},
        {"residuals": [None, 0.02, 0.03], "iterations": 3, "converged": False},
    ]
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), clean_cube() / 2)


def test_a_method_that_diverges_is_one_line_and_writes_nothing(decsc, tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "make", lambda *args, **options: Scripted(factor=np.nan))
    np.save(tmp_path / "in.npy", clean_cube())
    code, _, err = decsc("denoise", "in.npy", "out.npy", "--record", "out.json")
    assert code == 2 and err.splitlines()[1].startswith("decsc: in.npy: scripted diverged") and err.count("\n") == 2
    assert listing(tmp_path) == {"in.npy"}


@pytest.mark.parametrize("error", [ZeroDivisionError("float division by zero"), IndexError("list index out of range")])
def test_whatever_a_method_trips_over_is_one_line(decsc, tmp_path, monkeypatch, error):
    def trip(self, noisy, progress):
        raise error

    monkeypatch.setattr(cli, "make", lambda *args, **options: Scripted())
    monkeypatch.setattr(Scripted, "_denoise", trip)
    np.save(tmp_path / "in.npy", clean_cube())
    code, _, err = decsc("denoise", "in.npy", "out.npy")
    assert code == 2 and err.splitlines()[-1] == f"decsc: in.npy: {error}"


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs a limit on the size of files")
@pytest.mark.parametrize("name, kilobytes", [("x.tif", 193), ("x.tif", 430), ("x.hdr", 193)])
def test_a_full_disk_leaves_the_old_file_and_an_exit_code(script, tmp_path, name, kilobytes):
    cube = np.random.default_rng(0).random((60, 60, 31)).astype(np.float32)
    np.save(tmp_path / "in.npy", cube)
    write(Scene(cube[:8, :8], "old"), tmp_path / name)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    line = f"ulimit -f {kilobytes}; trap '' XFSZ; {script.path} noise in.npy {name} --case gauss-15"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and f"decsc: {name}: " in done.stderr.splitlines()[-1]
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file that is always full")
def test_output_that_cannot_be_printed_is_one_line(script, tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run([script.path, "methods"], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == 2 and done.stderr == "decsc: the output cannot be printed: No space left on device\n"


def test_dead_bands_are_told_and_left_alone(decsc, tmp_path):
    numbers = np.random.default_rng(0).integers(500, 9000, (9, 8, 6)).astype(np.int16)
    numbers[:, :, [1, 4]] = -9999
    np.save(tmp_path / "in.npy", numbers)
    code, _, err = decsc("denoise", "in.npy", "out.npy", "--method", "tv")
    assert code == 0 and "in.npy: 9 x 8 pixels, 6 bands; of a single value, left as they are: 2, 5" in err
    np.testing.assert_allclose(np.load(tmp_path / "out.npy")[:, :, [1, 4]], -9999, rtol=1e-4)


def test_bands_marked_as_bad_are_told_and_left_alone(decsc, tmp_path):
    numbers = np.random.default_rng(0).integers(500, 9000, (9, 8, 6)).astype(np.int16)
    numbers[:, :, 4] = 700
    spy.save_image(str(tmp_path / "good.hdr"), np.delete(numbers, 1, axis=2), metadata={})
    numbers[:, :, 1] *= 3
    spy.save_image(str(tmp_path / "in.hdr"), numbers, metadata={"bbl": [1, 0, 1, 1, 1, 1]})
    for name in ("in", "good"):
        code, _, err = decsc("denoise", f"{name}.hdr", f"{name}-clean.hdr", "--method", "tv")
        assert code == 0
        if name == "in":
            assert "in.hdr: 9 x 8 pixels, 6 bands; marked as bad, left as they are: 2; of a single value, left as they are: 5" in err
    found, expected = (np.array(spy.open(str(tmp_path / f"{name}-clean.hdr")).load()) for name in ("in", "good"))
    np.testing.assert_array_equal(found[:, :, 1], numbers[:, :, 1])
    np.testing.assert_array_equal(np.delete(found, 1, axis=2), expected)


def test_areas_without_data_are_told_and_left_alone(decsc, tmp_path):
    cube = clean_cube(bands=6)
    cube[:4, :5] = 0
    np.save(tmp_path / "in.npy", cube)
    code, _, err = decsc("denoise", "in.npy", "out.npy", "--method", "tv")
    assert code == 0 and "6 bands; 20 pixels in areas of one spectrum, left as they are" in err
    assert not np.load(tmp_path / "out.npy")[:4, :5].any()


def test_what_a_denoiser_warns_of_is_one_line(decsc, tmp_path, monkeypatch):
    def warn(self, noisy, progress):
        warnings.warn("the cube is odd", stacklevel=2)
        return Estimate(noisy)

    monkeypatch.setattr(cli, "make", lambda *args, **options: Scripted())
    monkeypatch.setattr(Scripted, "_denoise", warn)
    np.save(tmp_path / "in.npy", clean_cube())
    code, _, err = decsc("denoise", "in.npy", "out.npy")
    assert code == 0 and all(line.startswith("decsc: ") for line in err.splitlines()), err
    assert "decsc: the cube is odd" in err.splitlines()


# noise and score


def test_noise_is_that_of_the_seed_and_told_as_json(decsc, tmp_path):
    clean = clean_cube(bands=9)
    np.save(tmp_path / "clean.npy", clean)
    runs = [decsc("noise", "clean.npy", name, "--case", "mixture", "--seed", seed)
            for name, seed in (("a.npy", 3), ("b.npy", 3), ("c.npy", 4))]
    assert all((code, err) == (0, "") for code, _, err in runs)
    assert runs[0][1] == runs[1][1] != runs[2][1]
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes() != (tmp_path / "c.npy").read_bytes()
    noisy, degradation = add_noise(clean, "mixture", np.random.default_rng(3))
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), noisy)
    told = json.loads(runs[0][1])
    assert runs[0][1].count("\n") == 1
    assert (told["case"], told["seed"], told["shape"]) == ("mixture-disjoint", 3, [37, 29, 9])
    assert told["sigma"]["max"] == max(degradation.sigmas) and told["sigma"]["min"] == min(degradation.sigmas)
    for kind in ("impulse", "stripes", "deadlines"):
        assert told[kind]["bands"] == sorted(getattr(degradation, kind)) and len(told[kind]["bands"]) == 3


def test_noise_leaves_bad_bands_and_counts_the_others(decsc, tmp_path):
    cube = clean_cube(bands=11)
    cube[:, :, [0, 5]] = 0.5
    np.save(tmp_path / "clean.npy", cube)
    code, out, err = decsc("noise", "clean.npy", "noisy.npy", "--case", "mixture")
    assert code == 0 and err == "decsc: bands that are bad or of a single value in clean.npy stay as they are; counted from 1: 1, 6\n"
    noisy, good = np.load(tmp_path / "noisy.npy"), [1, 2, 3, 4, 6, 7, 8, 9, 10]
    expected, degradation = add_noise(cube[:, :, good], "mixture", np.random.default_rng(0))
    np.testing.assert_array_equal(noisy[:, :, good], expected)
    np.testing.assert_array_equal(noisy[:, :, [0, 5]], 0.5)
    told = json.loads(out)
    for kind in ("impulse", "stripes", "deadlines"):
        assert told[kind]["bands"] == sorted(good[band] for band in getattr(degradation, kind))


def test_noise_keeps_the_units_of_the_file(decsc, tmp_path):
    clean = np.round(clean_cube() * 4000 + 1000).astype(np.uint16)
    make_tiff(tmp_path / "clean.tif", clean)
    assert decsc("noise", "clean.tif", "noisy.tif", "--case", "gauss-15")[0] == 0
    scene = read(tmp_path / "clean.tif")
    expected = scene.with_cube(add_noise(scene.cube, "gauss-15", np.random.default_rng(0))[0]).physical()
    with rasterio.open(tmp_path / "noisy.tif") as dataset:
        assert dataset.crs.to_epsg() == 32631
        np.testing.assert_array_equal(np.moveaxis(dataset.read(), 0, 2), expected)


def test_score_is_that_of_the_metrics(decsc, tmp_path):
    clean, noisy = clean_cube(), noisy_cube(clean_cube())
    np.save(tmp_path / "clean.npy", clean)
    np.save(tmp_path / "noisy.npy", noisy)
    expected = metrics.scores(clean, noisy)
    code, out, err = decsc("score", "clean.npy", "noisy.npy", "--json")
    assert (code, err, out.count("\n")) == (0, "", 1)
    assert json.loads(out) == pytest.approx(expected, rel=1e-12)
    out = decsc("score", "clean.npy", "noisy.npy")[1]
    printed = [line.split()[-2 if line.endswith(("dB", "rad")) else -1] for line in out.splitlines()]
    assert printed == [f"{expected['psnr']:.3f}", *(f"{expected[key]:.4f}" for key in ("ssim", "ssim_global", "sam"))]


def test_bands_of_a_single_value_do_not_count_in_a_score(decsc, tmp_path):
    """They come back as they were from every method, so each would count as perfect."""
    clean, noisy = clean_cube(), noisy_cube(clean_cube())
    expected = metrics.scores(clean[..., [0, 2, 4]], noisy[..., [0, 2, 4]])
    for name, cube in (("clean", clean), ("noisy", noisy)):
        cube[..., [1, 3]] = 0.25
        np.save(tmp_path / f"{name}.npy", cube)
    code, out, err = decsc("score", "clean.npy", "noisy.npy", "--json")
    assert code == 0 and json.loads(out) == pytest.approx(expected, rel=1e-12)
    assert "bands that are bad or of a single value in clean.npy do not count: 2, 4" in err


def test_score_compares_physical_values_in_the_scale_of_the_clean_scene(decsc, tmp_path):
    numbers = np.round(clean_cube() * 4000 + 1000).astype(np.uint16)
    make_tiff(tmp_path / "clean.tif", numbers)
    estimate = (numbers + np.random.default_rng(2).normal(0, 300, numbers.shape)).astype(np.float32)
    make_tiff(tmp_path / "estimate.tif", estimate)
    clean = read(tmp_path / "clean.tif")
    assert clean.scale > 1000 and read(tmp_path / "estimate.tif").scale != clean.scale
    expected = metrics.scores(clean.cube, (estimate - clean.offset) / clean.scale)
    told = json.loads(decsc("score", "clean.tif", "estimate.tif", "--json")[1])
    assert told == pytest.approx(expected, rel=1e-5)
    itself = json.loads(decsc("score", "clean.tif", "clean.tif", "--json")[1])
    assert itself["psnr"] is None and itself["ssim"] == 1 and itself["sam"] == pytest.approx(0, abs=1e-6)


# train and info


@pytest.fixture
def small_cave(tmp_path, monkeypatch):
    """A CAVE data set whose 28 scenes are one of 48 x 48 pixels."""
    folder = tmp_path / "data" / "cave"
    folder.mkdir(parents=True)
    monkeypatch.setenv("DECSC_DATA", str(tmp_path / "data"))
    make_cave(tmp_path / "scene_ms", clean_cube(48, 48, 31))
    for split in ("train", "validation", "test"):
        for name in scene_names("cave", split):
            (folder / f"{name}_ms").symlink_to(tmp_path / "scene_ms", target_is_directory=True)
    return tmp_path / "data"


def test_train_then_use_resume_and_inspect_the_weights(decsc, tmp_path, small_cave):
    command = ("train", "--preset", "tiny", "--case", "gauss-55", "--steps", 2, "--batch", 1, "--seed", 5,
               "--out", "run", "--learning-rate", 0.002, "--jacobian-penalty", 0.1)
    code, out, err = decsc(*command)
    assert (code, err) == (0, "")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    given = {"case": "gauss-55", "steps": 2, "batch": 1, "seed": 5, "learning_rate": 0.002, "jacobian_penalty": 0.1,
             "dataset": "cave", "minutes": None}
    assert {key: config[key] for key in given} == given
    told = json.loads(decsc("info", "run/weights.safetensors")[1])
    assert told["config"]["bands"] == 31 and told["config"]["shared_atoms"] == 16
    story = told["story"]
    assert story["training"]["case"] == "gauss-55"
    assert out == (f"run/weights.safetensors  validation MPSNR {story['validation_psnr']:.3f} dB "
                   f"after {story['best_step']} steps\n")

    code, _, err = decsc(*command)
    assert (code, err) == (2, "decsc: run: holds a training run; resume it or choose another folder\n")
    assert decsc(*command, "--resume") == (0, out, "")

    np.save(tmp_path / "in.npy", clean_cube())
    code, _, err = decsc("denoise", "in.npy", "out.npy", "--weights", "run/weights.safetensors")
    assert code == 0 and f"weights.safetensors, trained for gauss-55, SHA-256 {told['sha256'][:12]}\n" in err
    code, _, err = decsc(
        "denoise", "in.npy", "no.npy", "--weights", "run/weights.safetensors", "--method", "decsc-mamba"
    )
    assert code == 2 and "these weights are of 'decsc'; use that method" in err and not (tmp_path / "no.npy").exists()


@pytest.mark.parametrize("story, told", [
    ({"official": "net.pth"}, "officially released"), ({}, "trained for an unknown noise case"),
])
def test_what_is_told_of_weights_that_do_not_say_what_they_were_trained_for(decsc, tmp_path, story, told):
    weights.save(build(configure("qrnn3d", "tiny")), tmp_path / "w.safetensors", story)
    np.save(tmp_path / "in.npy", clean_cube())
    code, _, err = decsc("denoise", "in.npy", "out.npy", "--method", "qrnn3d", "--weights", "w.safetensors", "--record", "r.json")
    assert code == 0 and f"w.safetensors, {told}, SHA-256" in err
    assert json.loads((tmp_path / "r.json").read_text())["weights"]["trained_for"] is None


def test_info_of_a_scene(decsc, tmp_path):
    numbers = np.round(clean_cube() * 4000 + 1000).astype(np.uint16)
    numbers[0, :7] = numbers[9, 9, 3] = 0
    make_tiff(tmp_path / "scene.tif", numbers, nodata=0)
    code, out, err = decsc("info", "scene.tif")
    assert (code, err) == (0, "")
    told, scene = json.loads(out), read(tmp_path / "scene.tif")
    assert told["shape"] == [37, 29, 5] and told["nodata_pixels"] == 7 and told["nodata_values"] == 7 * 5 + 1
    assert told["values"] == {"min": numbers[numbers > 0].min(), "max": numbers.max()}
    assert (told["scale"], told["offset"], told["sha256"]) == (scene.scale, scene.offset, scene.sha256())
    assert told["georeference"]["crs"] == "EPSG:32631" and told["georeference"]["transform"] == list(TRANSFORM)
    assert told["wavelengths_nm"] is None
    write(Scene(clean_cube(), "scene", WAVELENGTHS), tmp_path / "scene.npz")
    told = json.loads(decsc("info", "scene.npz")[1])
    assert told["wavelengths_nm"] == WAVELENGTHS.tolist() and told["nodata_pixels"] == told["nodata_values"] == 0


# methods, data, help


def test_methods(decsc):
    listed = json.loads(decsc("methods", "--json")[1])
    assert [entry["name"] for entry in listed] == list(METHODS)
    assert all(set(entry) == {"name", "kind", "params", "summary", "options"} for entry in listed)
    by_name = {entry["name"]: entry for entry in listed}
    assert by_name["decsc"]["params"] == 4_295_152 and by_name["tv"] | {"summary": ""} == {
        "name": "tv", "kind": "band-wise", "params": 0, "summary": "", "options": []}
    assert by_name["llrt"]["options"] == ["sigma", "device"] and by_name["lrmr"]["options"] == ["device"]
    lines = decsc("methods")[1].splitlines()
    assert [line.split()[0] for line in lines] == list(METHODS)


def test_data_counts_what_is_here(decsc, tmp_path, monkeypatch):
    monkeypatch.setenv("DECSC_DATA", str(tmp_path))
    (tmp_path / "remote").mkdir()
    for name in ("samson", "aviris_jasper_ridge"):
        (tmp_path / "remote" / f"{name}.npz").touch()
    code, out, err = decsc("data")
    assert (code, err) == (0, "") and str(tmp_path) in out.splitlines()[0]
    blocks = {block.split(":")[0]: block for block in out.split("\n\n")[1:]}
    assert list(blocks) == list(DATASETS)
    for name, entry in DATASETS.items():
        assert entry.title in blocks[name] and entry.terms in blocks[name] and entry.obtain in blocks[name]
    assert "train 1/11, validation 1/2, test 0/3" in blocks["remote"]
    assert "train 0/20, validation 0/2, test 0/6" in blocks["cave"]
    assert "train 0/0, validation 0/0, test 0/0" in blocks["icvl"]
    lines = decsc("data", "remote")[1].splitlines()
    assert "  validation: hymap_berlin (missing), samson" in lines
    assert any(line.startswith("  stands in for Houston 2018") for line in lines)


def test_data_says_why_it_cannot_tell_what_is_here(decsc, tmp_path, monkeypatch):
    monkeypatch.setenv("DECSC_DATA", str(tmp_path))
    for place in ("own/train/a.npy", "own/test/a.tif"):
        (tmp_path / place).parent.mkdir(parents=True)
        (tmp_path / place).touch()
    clash = f"{tmp_path}/own/test/a.tif: {tmp_path}/own/train/a.npy has the same name; give each scene a name of its own"
    assert decsc("data", "own") == (2, "", f"decsc: DECSC_DATA: {clash}\n")
    monkeypatch.setenv("DECSC_DATA", "/" + 300 * "a")
    code, out, err = decsc("data")
    assert (code, out) == (2, "") and err.startswith("decsc: DECSC_DATA: ") and "File name too long" in err


def test_a_folder_of_data_that_does_not_exist_is_told(decsc, tmp_path, monkeypatch):
    monkeypatch.setenv("DECSC_DATA", str(tmp_path))
    assert decsc("data")[1].startswith(f"looked for in {tmp_path}; ")
    monkeypatch.setenv("DECSC_DATA", str(tmp_path / "elsewhere"))
    assert decsc("data")[1].startswith(f"looked for in {tmp_path / 'elsewhere'}, which does not exist; ")


def test_a_result_that_is_there_is_written_again(decsc, tmp_path):
    write(Scene.from_physical(np.random.default_rng(0).random((12, 12, 4), np.float32), "s"), tmp_path / "scene.npy")
    for _ in range(2):
        code, _, err = decsc("denoise", "scene.npy", "scene.hdr", "--method", "tv")
        assert code == 0, err
    assert decsc("denoise", "scene.img", "scene.hdr", "--method", "tv")[2] == "decsc: scene.img: is the same file as scene.img; choose another name\n"


def test_a_band_of_one_value_within_a_border_is_dead_for_every_command(decsc, tmp_path):
    cube = np.random.default_rng(0).random((40, 40, 5), np.float32)
    cube[:, :, 2] = 0.5
    cube[:8] = 0
    np.save(tmp_path / "clean.npy", cube)
    assert "of a single value, left as they are: 3; 320 pixels" in decsc("denoise", "clean.npy", "denoised.npy", "--method", "tv")[2]
    code, _, err = decsc("noise", "clean.npy", "noisy.npy", "--case", "gauss-55")
    assert code == 0 and err.endswith("stay as they are; counted from 1: 3\n")
    assert np.array_equal(np.load(tmp_path / "noisy.npy")[:, :, 2], cube[:, :, 2])
    code, out, err = decsc("score", "clean.npy", "noisy.npy", "--json")
    assert code == 0 and "do not count: 3" in err and json.loads(out)["psnr"] is not None


def test_a_source_whose_name_is_too_long_is_named(decsc):
    code, out, err = decsc("denoise", f"{'a' * 300}.npy", "out.npy", "--method", "tv", "--record", "r.json")
    assert (code, out) == (2, "") and err.count("\n") == 1 and "File name too long" in err and "the output cannot be printed" not in err


@pytest.mark.parametrize("dataset, scene, file", [
    ("cave", "beads", "cave/cave_beads.npz"),
    ("cave", "beads", "beads_ms/"),
    ("cave", "beads", "complete_ms_data/beads_ms/"),
    ("cave", "beads", "cave/complete_ms_data/beads/"),
    ("cave", "beads", "cave/beads.npz"),
    ("cave", "beads", "cave/cloth_ms/"),
    ("houston2018", "north", "houston2018/20170218_UH_CASI_S4_NAD83.pix"),
    ("houston2018", "north", "houston2018/north.mat"),
    ("eo1", "eo1", "eo1/eo1.mat"),
    ("eo1", "eo1", "eo1.tif"),
    ("gf5", "capital_airport", "gf5/gf5.npy"),
    ("gf5", "capital_airport", "gf5/airport.npy"),
    ("remote", "samson", "samson.npz"),
    ("remote", "samson", "remote/samson.npy"),
    ("real-noise", "eo1_hyperion_paris", "real-noise/eo1_hyperion_paris.npz"),
])
def test_a_scene_is_here_where_load_scene_looks_for_it(tmp_path, monkeypatch, dataset, scene, file):
    monkeypatch.setenv("DECSC_DATA", str(tmp_path))
    assert not is_here(DATASETS[dataset], scene)
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir() if file.endswith("/") else path.touch()
    with pytest.raises(SceneError) as caught:  # the empty file is found but damaged, or it is not found
        load_scene(dataset, scene)
    assert is_here(DATASETS[dataset], scene) == (not isinstance(caught.value, MissingData))


def test_what_needs_no_library_loads_none():
    code = (
        "import sys; from typer.testing import CliRunner; from decsc_core.cli import app\n"
        "for line in (['--help'], ['methods'], ['denoise', '--help'], ['--version']):\n"
        "    assert CliRunner().invoke(app, line).exit_code == 0, line\n"
        "print([name for name in ('torch', 'rasterio', 'skimage', 'scipy', 'h5py', 'spectral') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_version_and_help(decsc):
    from decsc_core import __version__

    assert decsc("--version") == (0, f"decsc {__version__}\n", "")
    code, out, _ = decsc("--help")
    assert code == 0 and "completion" not in out
    assert {"denoise", "noise", "score", "train", "info", "methods", "data"} <= set(out.split())


# mistakes: one line, exit code 2, nothing written

DENOISE = ("denoise", "good.npy", "out.npy")
def test_the_help_of_train_names_every_size_of_every_network(decsc):
    told = re.sub(r"-\s+", "-", decsc("train", "--help")[1])  # lines are broken at hyphens
    words = set(re.findall(r"[a-z0-9-]+", told))
    assert {size for method in LEARNED for size in sizes(method)} <= words


TRAIN = ("train", "--out", "run", "--preset", "tiny")
MISTAKES = {
    "no command": ((), ["Missing command"]),
    "unknown command": (("bogus",), ["bogus"]),
    "missing argument": (("denoise", "good.npy"), ["OUT: missing"]),
    "surplus argument": ((*DENOISE, "more"), ["(more)"]),
    "unknown option": ((*DENOISE, "--bogus"), ["--bogus"]),
    "missing file": (("denoise", "none.npy", "out.npy"), ["none.npy: there is no such file"]),
    "missing file to score": (("score", "good.npy", "none.npy"), ["none.npy: there is no such file"]),
    "missing file to tell of": (("info", "none.tif"), ["none.tif: there is no such file"]),
    "unsupported input": (("denoise", "text.txt", "out.npy"), ["text.txt: the extension '.txt'", "supported: .hdr"]),
    "unsupported output": (("denoise", "none.npy", "out.png"), ["out.png: the extension '.png'", "supported: .hdr"]),
    "truncated npy": (("denoise", "cut.npy", "out.npy"), ["cut.npy"]),
    "truncated tif": (("noise", "cut.tif", "out.npy", "--case", "corr"), ["cut.tif"]),
    "truncated img": (("info", "cut.hdr"), ["cut.img: the file has", "truncated"]),
    "infinity": (("denoise", "inf.npy", "out.npy"), ["inf.npy: 3 values are NaN or infinite"]),
    "two axes": (("denoise", "flat.npy", "out.npy"), ["flat.npy: the array is (4, 4)"]),
    "folder without images": (("denoise", "folder", "out.npy"), ["folder: no band images"]),
    "unknown method": ((*DENOISE, "--method", "bogus"), ["--method: 'bogus' is not one of 'decsc'"]),
    "unknown case": (("noise", "good.npy", "out.npy", "--case", "bogus"), ["--case: 'bogus' is not one of 'gauss-15'"]),
    "no case": (("noise", "good.npy", "out.npy"), ["--case: missing"]),
    "negative seed": (("noise", "good.npy", "out.npy", "--case", "corr", "--seed", -1), ["--seed: "]),
    "unknown device": ((*DENOISE, "--device", "tpu"), ["--device: 'tpu' is not one of 'auto', 'cpu', 'cuda'"]),
    "unknown preset": ((*DENOISE, "--preset", "bogus"), ["'bogus'", "paper, small, tiny"]),
    "no shift": ((*DENOISE, "--shifts", 0), ["--shifts: "]),
    "too many shifts": ((*DENOISE, "--shifts", 99), ["shifts=99 must be between 1 and"]),
    "shifts of a band-wise method": (
        (*DENOISE, "--method", "tv", "--shifts", 2), ["--method tv: ", "does not take shifts"],
    ),
    "missing weights": ((*DENOISE, "--weights", "none.safetensors"), ["none.safetensors: no such weights file"]),
    "weights of another format": ((*DENOISE, "--weights", "text.txt"), ["text.txt: not a safetensors file"]),
    "weights without a network": (
        (*DENOISE, "--weights", "bare.safetensors"), ["bare.safetensors: does not describe its network"],
    ),
    "weights of an unknown network": (
        (*DENOISE, "--weights", "odd.safetensors"), ["odd.safetensors: its configuration", "wheels"],
    ),
    "weights that are no weights": (("info", "fake.safetensors"), ["fake.safetensors: not a safetensors file"]),
    "weights and preset": ((*DENOISE, "--weights", "bare.safetensors", "--preset", "small"), ["not both"]),
    "output is the input": (
        ("denoise", "good.npy", "./good.npy"), ["is the same file as good.npy; choose another name"],
    ),
    "output is a link to the input": (("denoise", "good.npy", "link.npy"), ["link.npy: is the same file as good.npy"]),
    "output is the input's header": (
        ("noise", "cut.img", "cut.hdr", "--case", "corr"), ["is the same file as cut.img"],
    ),
    "output is the input's data, of a header in capitals": (
        ("noise", "caps.img.HDR", "caps.hdr", "--case", "corr"), ["caps.img: is the same file as", "caps.img"],
    ),
    "output is the input's data, named by its header": (("denoise", "caps.img.HDR", "caps.img"), ["caps.img: is the same file as"]),
    "output beside another data file": (("denoise", "good.npy", "cut.dat"), ["cut.img is already beside cut.hdr"]),
    "output folder is missing": (("denoise", "none.npy", "no/out.npy"), ["no/out.npy: the folder no does not exist"]),
    "output is a link into nowhere": (("denoise", "none.npy", "lost.npy"), ["lost.npy: the folder", "does not exist"]),
    "output is a folder": (("denoise", "none.npy", "folder.npy"), ["folder.npy: is a folder"]),
    "record folder is missing": (
        ("denoise", "none.npy", "out.npy", "--record", "no/r.json"), ["no/r.json: the folder no"],
    ),
    "record is the output": ((*DENOISE, "--record", "out.npy"), ["out.npy: is the same file as out.npy"]),
    "record is the output's header": (
        ("denoise", "good.npy", "o.img", "--record", "o.hdr"), ["o.hdr: is the same file as o.hdr"],
    ),
    "record is the input's data": (
        ("denoise", "cut.hdr", "out.npy", "--record", "cut.img"), ["cut.img: is the same file as cut.img"],
    ),
    "record is the input's header": (
        ("denoise", "cut.img", "out.npy", "--record", "cut.hdr"), ["cut.hdr: is the same file as cut.hdr"],
    ),
    "record is the weights": (
        (*DENOISE, "--weights", "bare.safetensors", "--record", "bare.safetensors"), ["bare.safetensors: is"],
    ),
    "output is the weights": (("denoise", "good.npy", "w.bin", "--weights", "w.bin"), ["w.bin: is the same file as w.bin; choose another name"]),
    "shapes differ": (("score", "good.npy", "other.npy"), ["other.npy", "(37, 29, 5)", "(12, 12, 5)", "one shape"]),
    "too small to score": (("score", "tiny.npy", "tiny.npy"), ["tiny.npy: ", "at least 11 x 11"]),
    "no budget": (TRAIN, ["--steps, --minutes: ", "exactly one"]),
    "two budgets": ((*TRAIN, "--steps", 1, "--minutes", 1), ["--steps, --minutes: ", "exactly one"]),
    "budget that is not a number": ((*TRAIN, "--minutes", "nan"), ["--minutes: nan is not a number above 0"]),
    "negative penalty": ((*TRAIN, "--steps", 1, "--jacobian-penalty", -1), ["--jacobian-penalty: -1.0", "at least 0"]),
    "penalty of what has no fixed point": (
        (*TRAIN, "--steps", 1, "--method", "sst", "--jacobian-penalty", 0.1), ["decsc: jacobian_penalty=0.1 is for DECSC alone"],
    ),
    "unknown preset to train": (
        ("train", "--out", "run", "--steps", 1, "--preset", "bogus"), ["--preset: ", "paper, small, tiny"],
    ),
    "unknown network": ((*TRAIN, "--steps", 1, "--method", "tv"), ["--method: 'tv' is not one of 'decsc', 'decsc-mamba', 'sst'"]),
    "unknown data set": ((*TRAIN, "--steps", 1, "--dataset", "bogus"), ["--dataset: ", "'bogus'", "cave"]),
    "data set that is not here": ((*TRAIN, "--steps", 1), ["--dataset: CAVE: scene", "DECSC_DATA"]),
    "data set without training scenes": (
        (*TRAIN, "--steps", 1, "--dataset", "eo1"), ["--dataset: eo1 has no scenes for 'train'"],
    ),
    "training folder is a file": (("train", "--out", "text.txt", "--steps", 1), ["text.txt: ", "taken by the file"]),
    "training folder with too long a name": (("train", "--out", 300 * "n", "--steps", 1), [f"{300 * 'n'}: ", "too long"]),
    "unknown data set to list": (("data", "bogus"), ["bogus: there is no such data set", "photos, cave"]),
}


@pytest.fixture
def mistaken_files(tmp_path, monkeypatch):
    """The files that the mistakes name."""
    monkeypatch.setenv("DECSC_DATA", str(tmp_path / "folder"))
    cube = noisy_cube(clean_cube())
    np.save(tmp_path / "good.npy", cube)
    np.save(tmp_path / "other.npy", cube[:12, :12])
    np.save(tmp_path / "tiny.npy", cube[:8, :8])
    np.save(tmp_path / "flat.npy", cube[:4, :4, 0])
    spoilt = cube.copy()
    spoilt[0, :3, 0] = np.inf
    np.save(tmp_path / "inf.npy", spoilt)
    (tmp_path / "link.npy").symlink_to(tmp_path / "good.npy")
    (tmp_path / "lost.npy").symlink_to(tmp_path / "nowhere" / "out.npy")
    (tmp_path / "cut.npy").write_bytes((tmp_path / "good.npy").read_bytes()[:5000])
    make_tiff(tmp_path / "cut.tif", cube)
    os.truncate(tmp_path / "cut.tif", 5000)
    write(Scene(cube, "cut"), tmp_path / "cut.hdr")
    os.truncate(tmp_path / "cut.img", 5000)
    write(Scene(cube, "caps"), tmp_path / "caps.hdr")
    (tmp_path / "caps.hdr").rename(tmp_path / "caps.img.HDR")
    for name in ("text.txt", "fake.safetensors"):
        (tmp_path / name).write_text("neither a scene nor weights\n")
    tensors = {"x": np.zeros(3, np.float32)}
    safetensors.numpy.save_file(tensors, tmp_path / "bare.safetensors")
    safetensors.numpy.save_file(tensors, tmp_path / "odd.safetensors", {"decsc": '{"method": "decsc", "config": {"wheels": 4}}'})
    for name in ("folder", "folder.npy"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(decsc, mistaken_files, mistake):
    arguments, expected = MISTAKES[mistake]
    before = listing(mistaken_files)
    code, out, err = decsc(*arguments)
    assert (code, out) == (2, ""), err
    assert err.startswith("decsc: ") and err.count("\n") == 1 and err.endswith("\n")
    for words in expected:
        assert words in err
    assert listing(mistaken_files) == before


def test_a_write_protected_output_is_left_alone(decsc, mistaken_files, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # root, who runs tests in containers, may write everything
    np.save(mistaken_files / "out.npy", np.zeros(3))
    before = (mistaken_files / "out.npy").read_bytes()
    code, out, err = decsc(*DENOISE, "--method", "tv")
    assert (code, out, err) == (2, "", "decsc: out.npy: is write-protected; choose another name\n")
    assert (mistaken_files / "out.npy").read_bytes() == before


def test_a_gpu_that_is_not_there_is_refused(decsc, mistaken_files):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    for method in ("decsc", "tv"):
        code, out, err = decsc(*DENOISE, "--device", "cuda", "--method", method)
        assert (code, out) == (2, "") and err.count("\n") == 1
        assert err.startswith("decsc: --device: device 'cuda' cannot be used here") and "try auto or cpu" in err
    assert not (mistaken_files / "out.npy").exists()


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder in which nobody can write: /proc")
@pytest.mark.parametrize("arguments", [
    ("denoise", "none.npy", "/proc/out.npy"), ("denoise", "none.npy", "out.npy", "--record", "/proc/out.json"),
    ("noise", "none.npy", "/proc/out.tif", "--case", "corr"), ("train", "--out", "/proc/run/1", "--steps", 1),
])
def test_a_place_where_nothing_can_be_written_is_refused_first(decsc, arguments):
    code, _, err = decsc(*arguments)
    assert code == 2 and "nothing can be written to /proc" in err and err.count("\n") == 1


def test_a_folder_that_may_not_be_searched_is_one_line(decsc, monkeypatch):
    def denied(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "is_dir", denied)
    code, _, err = decsc("denoise", "none.npy", "locked/out.npy")
    assert code == 2 and err == "decsc: locked/out.npy: Permission denied\n"


def test_a_noise_level_is_told_in_the_units_of_the_file(decsc, tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "in.npy", rng.normal(90, 10, (24, 24, 12)).round().astype(np.uint8))
    told = read(tmp_path / "in.npy").scale * 26 / 255
    code, _, err = decsc("denoise", "in.npy", "out.npy", "--method", "bm4d", "--sigma", 26)
    assert code == 0 and f"--sigma 26 is a noise level of {told:.3g} in the units of in.npy" in err
    np.save(tmp_path / "in.npy", rng.random((24, 24, 12)).astype(np.float32))
    assert "--sigma" not in decsc("denoise", "in.npy", "out.npy", "--method", "bm4d", "--sigma", 26)[2]


def test_the_help_names_the_methods_that_take_an_option(decsc):
    told = " ".join(decsc("denoise", "--help")[1].split())
    for option in ("sigma", "shifts"):
        takers = [name for name, method in METHODS.items() if option in method.options]
        assert f"of {', '.join(takers)}." in told
    assert "CAVE folder" in decsc("info", "--help")[1]


def test_data_sets_that_no_network_fits_are_refused_before_training(decsc, tmp_path, small_cave, monkeypatch):
    cubes = {"train": clean_cube(40, 64, 31), "validation": clean_cube(64, 64, 31)}
    monkeypatch.setattr("decsc_core.scenes.scene_names", lambda dataset, split: (split,))
    monkeypatch.setattr("decsc_core.scenes.load_scene", lambda dataset, name: Scene(cubes[name], name))
    monkeypatch.setattr("decsc_core.study.train.load", lambda dataset, split: [Scene(cubes[split], split)])
    code, _, err = decsc(*TRAIN, "--steps", 1)
    assert code == 2 and "decsc: cave: train is 40 x 64 pixels, smaller than patch=48" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("link", [False, True])
def test_a_pipe_is_not_replaced_by_a_file(decsc, tmp_path, link):
    np.save(tmp_path / "in.npy", clean_cube(12, 12, 6))
    for name, command in (("pipe.npy", ("in.npy", "pipe.npy")), ("pipe.json", ("in.npy", "out.npy", "--record", "pipe.json"))):
        os.mkfifo(tmp_path / (f"real-{name}" if link else name))
        if link:
            (tmp_path / name).symlink_to(f"real-{name}")
        code, _, err = decsc("denoise", *command, "--method", "wavelet")
        assert (code, err) == (2, f"decsc: {name}: is a device or pipe; give the name of a file\n")
        assert (tmp_path / name).is_fifo()
        with pytest.raises(OSError, match="is a folder, device or pipe; give the name of a file"):
            write(Scene(clean_cube(12, 12, 6), "x"), tmp_path / name) if name.endswith("npy") else write_text(tmp_path / name, "")
        assert (tmp_path / name).is_fifo()
    assert not (tmp_path / "out.npy").exists()


def test_a_campaign_that_is_not_there_is_said_once(decsc):
    assert decsc("train", "--campaign", "nope.yaml", "--out", "all")[::2] == (2, "decsc: nope.yaml: No such file or directory\n")


@pytest.mark.parametrize("bands, wanted", [((37, 33), 31), ((9, 7), 7), ((6, 6), 6)])
def test_the_network_has_the_bands_of_the_data_set_or_windows_of_them(bands, wanted, decsc, monkeypatch):
    scenes = dict(zip(("train", "validation"), (Scene(clean_cube(48, 48, count), str(count)) for count in bands)))
    monkeypatch.setattr("decsc_core.scenes.scene_names", lambda dataset, split: (split,))
    monkeypatch.setattr("decsc_core.scenes.load_scene", lambda dataset, name: scenes[name])
    monkeypatch.setattr("decsc_core.study.train.load", lambda dataset, split: [scenes[split]])
    code, _, err = decsc(*TRAIN, "--steps", 1, "--batch", 1)
    assert (code, err) == (0, "")
    assert json.loads(decsc("info", "run/weights.safetensors")[1])["config"]["bands"] == wanted


def test_a_network_is_trained_and_tuned_on_ones_own_scenes(decsc, tmp_path, monkeypatch):
    """Clean images of any format, size and number of bands, in the folders of the splits."""
    monkeypatch.setenv("DECSC_DATA", str(tmp_path))
    code, _, err = decsc(*TRAIN, "--steps", 1, "--dataset", "own")
    assert code == 2 and "put clean images, in any format that decsc denoise reads, into own/train/" in err
    for place, count in (("train/a.hdr", 40), ("train/b.tif", 33), ("validation/c.mat", 40)):
        (tmp_path / "own" / place).parent.mkdir(parents=True, exist_ok=True)
        write(Scene(clean_cube(48, 56, count), "x"), tmp_path / "own" / place)
    code, _, err = decsc(*TRAIN, "--steps", 1, "--batch", 1, "--dataset", "own")
    assert (code, err) == (0, "")
    tuned = ("--out", "tuned", "--start", "run/weights.safetensors")
    cases = ("--case", "corr", "--case", "mixture")
    assert decsc(*TRAIN, "--steps", 1, "--batch", 1, "--dataset", "own", *cases, *tuned)[0] == 0
    story = json.loads(decsc("info", "tuned/weights.safetensors")[1])["story"]
    assert story["training"]["case"] == ["corr", "mixture"]
    monkeypatch.setenv("DECSC_DATA", str(tmp_path / "few"))
    for split in ("train", "validation"):
        (tmp_path / "few" / "own" / split).mkdir(parents=True)
        write(Scene(clean_cube(48, 56, 20), "x"), tmp_path / "few" / "own" / split / f"{split}.mat")
    code, _, err = decsc(*TRAIN, "--steps", 1, "--dataset", "own", "--out", "few-run", "--start", "run/weights.safetensors")
    assert code == 2 and "--start: run/weights.safetensors holds a network for 31 bands, scenes of own have 20; leave --start out" in err
    for split in ("train", "validation"):
        write(Scene(clean_cube(48, 56, 2), "x"), tmp_path / "few" / "own" / split / f"{split}.mat")
    code, _, err = decsc(*TRAIN, "--steps", 1, "--dataset", "own", "--out", "few-run")
    assert code == 2 and err.endswith("--dataset: bands=2; the 3-D atoms need at least 3\n") and err.count("\n") == 1
    assert not (tmp_path / "few-run").exists()
    monkeypatch.setenv("DECSC_DATA", str(tmp_path))
    assert {split: list(scenes) for split, scenes in story["data"].items()} == {"train": ["a", "b"], "validation": ["c"]}
    assert "scenes here: train 2/2, validation 1/1, test 0/0" in decsc("data", "own")[1]


def test_fine_tuning_keeps_the_network_of_the_weights(decsc, tmp_path, small_cave):
    assert decsc(*TRAIN, "--steps", 1, "--batch", 1)[0] == 0
    first = json.loads(decsc("info", "run/weights.safetensors")[1])
    start = ("--start", "run/weights.safetensors")
    before = f" after 1 steps, {first['story']['validation_psnr']:.3f} dB before"
    for folder, rate, end in (("tuned", 1e-9, ""), ("spoilt", 0.1, ": worse; try a smaller --learning-rate or a larger budget")):
        code, out, err = decsc(*TRAIN, "--steps", 1, "--batch", 1, "--out", folder, "--learning-rate", rate, *start)
        assert (code, err) == (0, "") and out.endswith(f"{before}{end}\n")
    second = json.loads(decsc("info", "tuned/weights.safetensors")[1])
    assert second["config"] == first["config"] and second["story"]["ancestor"]["sha256"] == first["sha256"]
    assert decsc(*TRAIN, "--steps", 1, "--batch", 1, "--out", "mamba", "--method", "decsc-mamba", *start)[0] == 0
    third = json.loads(decsc("info", "mamba/weights.safetensors")[1])
    assert third["method"] == "decsc-mamba" and third["config"] == first["config"] | {"prior": "vmamba"}
    code, _, err = decsc(*TRAIN, "--steps", 1, "--out", "other", "--method", "sert", *start)
    assert code == 2 and "--start: run/weights.safetensors holds a network of decsc, not of sert" in err
    code, _, err = decsc(*TRAIN, "--steps", 1, "--out", "other", "--start", "none.safetensors")
    assert code == 2 and "none.safetensors: no such weights file" in err
    assert not (tmp_path / "other").exists()


def test_a_campaign_trains_each_run_once(decsc, tmp_path, small_cave):
    (tmp_path / "runs.yaml").write_text("one: {method: decsc, preset: tiny, steps: 1, batch: 1}\n")
    command = ("train", "--campaign", "runs.yaml", "--out", "all")
    for resume in ((), ("--resume",)):  # what a campaign does anyway
        code, out, err = decsc(*command, *resume)
        assert (code, err) == (0, "") and "finished" in out and "one" in out
    code, _, err = decsc(*command, "--learning-rate", 0.1)
    assert code == 2 and "--learning-rate: a campaign says this for each of its runs; leave it out" in err
    (tmp_path / "runs.yaml").write_text("one: {method: decsk, steps: 1}\n")
    code, _, err = decsc(*command)
    assert code == 2 and "runs.yaml: one: method: 'decsk' is not one of ['decsc', " in err


def test_script_tells_a_mistake_in_one_line_without_traceback(script, tmp_path):
    np.save(tmp_path / "in.npy", clean_cube())
    os.truncate(tmp_path / "in.npy", 4000)
    done = script("denoise", "in.npy", "out.npy")
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.count("\n") == 1
    assert done.stderr.startswith("decsc: in.npy: cannot be read as .npy")
    assert listing(tmp_path) == {"in.npy"}


def test_script_denoises_without_a_stderr(script, tmp_path):
    np.save(tmp_path / "in.npy", clean_cube())
    done = subprocess.run(["sh", "-c", f"exec {script.path} denoise in.npy out.npy --method wavelet 2>&-"], cwd=tmp_path, timeout=120)
    assert done.returncode == 0 and listing(tmp_path) == {"in.npy", "out.npy"}


def test_script_ends_quietly_when_its_reader_has_left(script):
    process = subprocess.Popen([script.path, "data"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == 1


@pytest.mark.parametrize("number, before, code", [
    (signal.SIGTERM, "SIG_DFL", 143), (signal.SIGHUP, "SIG_DFL", 129), (signal.SIGHUP, "SIG_IGN", 0),  # the last: nohup
])
def test_a_signal_to_end_leaves_nothing_half_written(tmp_path, number, before, code):
    np.save(tmp_path / "in.npy", clean_cube())
    program = (
        "import os, signal, numpy; from decsc_core import cli\n"
        f"signal.signal({int(number)}, signal.{before})\n"
        f"numpy.save = lambda *args: os.kill(os.getpid(), {int(number)})\n"
        "cli.main()"
    )
    command = [sys.executable, "-c", program, "noise", "in.npy", "out.npy", "--case", "corr"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120).returncode == code
    assert listing(tmp_path) == {"in.npy"} | ({"out.npy"} if code == 0 else set())


def test_an_interruption_is_exit_code_130_without_traceback(monkeypatch, tmp_path):
    def interrupted(path):
        raise KeyboardInterrupt

    monkeypatch.setattr("decsc_core.scenes.read", interrupted)
    result = CliRunner().invoke(cli.app, ["denoise", str(tmp_path / "in.npy"), str(tmp_path / "out.npy")])
    assert (result.exit_code, result.stderr) == (130, "decsc: interrupted\n")
    assert not list(tmp_path.iterdir())
