"""The explorers without a browser: what they show against what the floors below compute. See also test_browser.py."""

from __future__ import annotations

import os
import re
import time
from html import unescape
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import torch

from decsc_core import metrics, weights
from decsc_core.denoisers.registry import make
from decsc_core.model import DECSC, preset
from decsc_core.scenes import Scene, read, write
from decsc_core.study import convergence
from decsc_core.study.evaluate import evaluated_scene, noisy_cube
from decsc_core.study.figures import false_colour
from decsc_core.weights import WeightsError
from decsc_core.widgets import bench as bench_module
from decsc_core.widgets import (
    BandExplorer,
    Bench,
    DictionaryExplorer,
    FixedPointExplorer,
    MethodExplorer,
    ShrinkageExplorer,
    explore,
    picture,
)
from decsc_core.widgets.bands import LINES

BANDS, HEIGHT, WIDTH = 7, 24, 20


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> str:
    """The file of an untrained network of 7 bands."""
    model = DECSC(preset("tiny", bands=BANDS), torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in model.prior_unshared.difference.parameters():
            parameter *= 0.2
    path = tmp_path_factory.mktemp("network") / "tiny.safetensors"
    weights.save(model, path, {})
    return str(path)


def file_of(folder, bands: int, name: str = "cube.npy") -> str:
    y, x, b = np.meshgrid(np.arange(HEIGHT), np.arange(WIDTH), np.arange(bands), indexing="ij")
    np.save(folder / name, (0.5 + 0.4 * np.sin(y / 3 + b / 2) * np.cos(x / 4)).astype(np.float32))
    return str(folder / name)


@pytest.fixture
def bench(tmp_path, network) -> Bench:
    return Bench("file", file_of(tmp_path, BANDS), case="gauss-55", seed=3, side=48, weights=network)


def shown(panel) -> np.ndarray:
    return imageio.imread(panel.picture.png)


def told(explorer) -> dict[str, str]:
    """The `data-` attributes of an explorer's facts."""
    return {key: unescape(value) for key, value in re.findall(r"data-([\w-]+)='([^']*)'", explorer.facts.value)}


def test_the_bench_has_the_cubes_of_the_evaluation():
    bench = Bench("photos", "coffee", case="gauss-15", seed=5, side=48)
    scene = evaluated_scene("photos", "coffee", 48)
    np.testing.assert_array_equal(bench.clean, scene.cube)
    np.testing.assert_array_equal(bench.noisy, noisy_cube(scene, "gauss-15", 5))
    assert bench.case.value == "gauss-95" and bench.level.value == 15
    assert "standing in for ICVL" in unescape(bench.about.value)
    version = bench.version
    bench.case.value = "corr"
    assert bench.version == version + 1 and bench.level.value == 23.08
    np.testing.assert_array_equal(bench.noisy, noisy_cube(scene, "corr", 5))
    bench.level.value = 40
    np.testing.assert_array_equal(bench.noisy, noisy_cube(scene, "corr", 5, 40))
    bench.dataset.value = "file"
    assert bench.version == version + 2 and bench.status.value == ""


def test_a_failure_while_a_control_is_set_leaves_the_bench_alive():
    bench = Bench("photos", "coffee", side=48)

    def fail(change):
        raise RuntimeError("a callback failed")

    bench.level.observe(fail, "value")
    bench.case.value = "corr"
    assert "a callback failed" in bench.status.value
    bench.level.unobserve(fail, "value")
    version = bench.version
    bench.level.value = 40
    assert bench.version == version + 1


def test_every_scene_of_the_catalogue_is_offered_those_for_testing_first():
    bench = Bench("photos", side=48)
    assert bench.scene.options[:3] == ("chelsea", "coffee", "rocket") and len(bench.scene.options) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataset": "photo"}, "no data set 'photo'"),
        ({"scene": "tea"}, "no scene 'tea'"),
        ({"dataset": "file", "scene": "/no/such.npy"}, "no such file"),
        ({"dataset": "file"}, "type the path"),
        ({"case": "salt"}, "unknown noise case 'salt'"),
        ({"side": 0}, "side=0"),
        ({"seed": -1}, "seed=-1 must be at least 0 and at most 2147483648"),
        ({"side": 10}, "chelsea: 10 x 10 pixels are too few, the scores need at least 11 x 11"),
        ({"level": -1}, "at least 0"),
    ],
)
def test_a_bench_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Bench(**arguments)


def test_own_scenes_are_offered_those_for_testing_first(bench, tmp_path, monkeypatch):
    monkeypatch.setenv("DECSC_DATA", str(tmp_path))
    bench.dataset.value = "own"
    assert "put clean images" in bench.status.value and bench.scene.options == ()
    for split, name in (("train", "a"), ("test", "b")):
        (tmp_path / "own" / split).mkdir(parents=True)
        file_of(tmp_path / "own" / split, 3, f"{name}.npy")
    bench.dataset.value = "photos"
    bench.dataset.value = "own"
    assert bench.status.value == "" and bench.scene.options == ("b", "a") and bench.clean.shape == (HEIGHT, WIDTH, 3)
    file_of(tmp_path / "own/train", 3, "b.npy")
    bench.dataset.value = "photos"
    bench.dataset.value = "own"
    assert "own/train/b.npy has the same name; give each scene a name of its own" in bench.status.value


def test_files_that_changed_are_read_again(tmp_path, monkeypatch, network):
    monkeypatch.setenv("DECSC_DATA", str(tmp_path))
    (tmp_path / "own/test").mkdir(parents=True)
    cube = np.random.default_rng(0).random((HEIGHT, WIDTH, 3), np.float32)
    write(Scene(cube, "x"), tmp_path / "own/test/x.hdr")
    typed = str(tmp_path / "own/test/x.hdr")

    def seen() -> list:
        return [Bench(*chosen, weights=network).clean.mean() for chosen in (("own", "x"), ("file", typed))]

    def scale(data: Path, factor: float) -> None:
        data.write_bytes((np.frombuffer(data.read_bytes(), "<f4") * np.float32(factor)).tobytes())
        os.utime(data, ns=(1, time.time_ns() + 10**9))

    before, data = seen(), tmp_path / "own/test/x.img"
    scale(data, 0.5)
    assert seen() == pytest.approx([mean / 2 for mean in before])
    typed = str(data.rename(data.with_suffix("")))  # as ENVI itself names it
    before = seen()
    scale(Path(typed), 2)
    assert seen()[1] == pytest.approx(before[1] * 2)


def test_a_changed_scene_is_read_again_where_files_lie_in_the_folder_itself(tmp_path, monkeypatch, network):
    monkeypatch.setenv("DECSC_DATA", str(tmp_path))
    (tmp_path / "eo1").mkdir()
    cube = np.random.default_rng(0).random((HEIGHT, WIDTH, 3), np.float32)
    np.save(tmp_path / "eo1/eo1.npy", cube)
    bench = Bench("eo1", "eo1", weights=network)
    before = bench.clean
    np.save(tmp_path / "eo1/eo1.npy", cube[::-1])
    bench.seed.value += 1
    assert not np.array_equal(bench.clean, before)


def test_a_data_set_without_a_scene_says_so_whatever_is_moved_until_it_has_one(bench, tmp_path, monkeypatch):
    monkeypatch.setenv("DECSC_DATA", str(tmp_path))
    bench.dataset.value = "own"
    bench.seed.value += 1
    assert "Own scenes: no scene is in" in bench.status.value and "put clean images" in bench.status.value
    (tmp_path / "own/test").mkdir(parents=True)
    file_of(tmp_path / "own/test", 3, "late.npy")
    version = bench.version
    bench.seed.value += 1
    assert bench.status.value == "" and bench.scene.value == bench.name == "late" and bench.version == version + 1


def test_a_file_hides_the_scenes_and_no_other_control():
    bench = Bench(side=48)
    others = bench.dataset, bench.case, bench.level
    bench.dataset.value = "file"
    assert bench.scene.layout.display == "none" and all(control.layout.display is None for control in others)
    bench.dataset.value = "photos"
    assert bench.scene.layout.display == "" and bench.path.layout.display == "none" and bench.status.value == ""


def test_the_bench_says_what_level_0_leaves(bench):
    assert "Level 0 adds no noise." in bench.about.value
    bench.case.value, bench.level.value = "mixture-disjoint", 0
    assert not np.array_equal(bench.noisy, bench.clean)
    assert "Level 0 leaves impulses, stripes and deadlines." in bench.about.value and "no noise" not in bench.about.value


def test_the_bench_says_how_many_values_are_filled_in(tmp_path):
    cube = np.load(file_of(tmp_path, 3))
    assert "without data" not in Bench("file", str(tmp_path / "cube.npy"), side=48).about.value
    cube[8:12, 8:12], cube[0, 0, 1] = np.nan, np.nan
    np.save(tmp_path / "cube.npy", cube)
    assert "Values without data that were filled in: 49 of the whole scene." in Bench("file", str(tmp_path / "cube.npy"), side=48).about.value


def test_one_band_is_a_band(tmp_path):
    bench = Bench("file", file_of(tmp_path, 1), side=48)
    assert "pixels, 1 band. " in bench.about.value


def test_bands_of_a_single_value_are_left_out_of_noise_and_scores(tmp_path):
    whole, some = (file_of(tmp_path, 33, name) for name in ("whole.npy", "some.npy"))
    cube = np.load(some)
    cube[:, :, [4, 30]] = 0.3
    np.save(some, cube)
    np.save(whole, np.delete(cube, [4, 30], axis=2))
    benches = [Bench("file", file, level=15, side=48) for file in (some, whole)]
    assert "Bands of a single value, as bad ones are, are left out: 5, 31 of 33." in benches[0].about.value
    assert [bench.clean.shape[2] for bench in benches] == [31, 31] and "left out" not in benches[1].about.value
    assert np.isfinite(benches[0].estimate("tv").scores["psnr"])


def test_no_gain_is_told_beside_what_is_exact(tmp_path, network):
    bench = Bench("file", file_of(tmp_path, BANDS), level=0, side=48, weights=network)
    methods = MethodExplorer(bench, left="noisy", right="tv")
    text = re.sub("<[^>]*>", "", methods.facts.value)
    assert text.startswith("Drag the line") and "inf" not in text and "nan" not in text


def test_a_scene_without_a_reference_is_shown_as_recorded(tmp_path, monkeypatch):
    scene = read(file_of(tmp_path, BANDS))
    for load in ("load_scene", "_load_scene"):
        monkeypatch.setattr(bench_module, load, lambda dataset, name, changed=0: scene)
    bench = Bench("real-noise", "aviris_salinas_a_224", side=48)
    assert bench.level.value == 0 and np.array_equal(bench.noisy, bench.clean)
    assert "There is no clean reference: scores are against the scene as recorded." in bench.about.value
    bands = BandExplorer(bench, restore=False)
    captions = [panel.caption.value for panel in bands.panels]
    assert "As recorded" in captions[0] and not any("Clean" in caption or " dB" in caption for caption in captions)
    assert [text.get_text() for text in bands.plot.legend.get_texts()] == ["As recorded", "Noisy", "Noise"]
    assert "As recorded 0." in bands.facts.value and "Clean" not in bands.facts.value
    bench.dataset.value = "photos"
    assert bench.level.value == 95 and "no clean reference" not in bench.about.value
    assert "Clean" in bands.panels[0].caption.value and " dB" in bands.panels[1].caption.value
    bench.case.value = "mixture-disjoint"
    bench.dataset.value = "real-noise"
    assert (bench.case.value, bench.level.value) == ("gauss-95", 0) and np.array_equal(bench.noisy, bench.clean)


def test_errors_are_one_line_and_leave_the_bench_as_it_was(bench, tmp_path):
    before, version = bench.clean, bench.version
    (tmp_path / "b<b>.npy").write_bytes(b"nothing")
    for path, message in (
        ("/no/such.npy", "no such file"),
        (str(tmp_path / "b<b>.npy"), "b&lt;b&gt;.npy: this is no .npy file of numbers"),
    ):
        bench.path.value = path
        assert message in bench.status.value and "\n" not in bench.status.value and "decsc-error" in bench.status.value
        assert bench.clean is before and bench.version == version
    small = tmp_path / "small.npy"
    np.save(small, np.zeros((40, 10, 3), np.float32))
    bench.path.value = str(small)
    assert "small: 40 x 10 pixels are too few, the scores need at least 11 x 11" in bench.status.value
    assert bench.clean is before and bench.version == version
    bench.path.value = file_of(tmp_path, 3, "other.npy")
    assert bench.status.value == "" and bench.clean.shape == (HEIGHT, WIDTH, 3)


def test_a_file_that_changes_is_read_again(bench, tmp_path):
    cube = np.zeros((12, 13, 3), np.float32)
    np.save(tmp_path / "cube.npy", cube)
    os.utime(tmp_path / "cube.npy", (1, 1))
    bench.seed.value += 1
    np.testing.assert_array_equal(bench.clean, cube)


def test_weights_must_be_those_of_a_deep_equilibrium(tmp_path, network):
    with pytest.raises(WeightsError, match="no such weights"):
        Bench(side=48, weights=str(tmp_path / "none.safetensors")).model
    assert Bench(side=48, weights=network).method == "decsc"


def test_an_estimate_is_the_registrys_and_computed_once(bench, network):
    result = bench.estimate("decsc")
    expected = make("decsc", weights=network, spread=True)(bench.noisy)
    np.testing.assert_array_equal(result.estimate.cube, expected.cube)
    np.testing.assert_array_equal(result.estimate.spread, expected.spread)
    assert result.scores == metrics.scores(bench.clean, expected.cube)
    assert bench.estimate("decsc") is result
    bench.seed.value += 1
    assert bench.estimate("decsc") is not result
    np.testing.assert_array_equal(bench.estimate("noisy").estimate.cube, bench.noisy)


def test_a_trace_is_that_of_the_convergence_study(bench):
    seen = []
    bench.progress.observe(lambda change: seen.append(change["new"]), "value")
    trace = bench.trace("anderson", 1e-3)
    curve, solution = convergence.trace(
        bench.model, bench.clean, bench.noisy, "anderson", shifts=1, evaluations=40, rel_tol=1e-3, keep=True
    )
    assert trace.curve.equals(curve) and torch.equal(trace.iterates[-1], solution.iterates[-1])
    assert seen == list(range(1, len(curve) + 1)) and bench.progress.layout.display == "none"
    assert curve["worst"].iloc[-1] <= 1e-3 < curve["worst"].iloc[-2]
    assert bench.trace("anderson", 1e-3) is trace


@pytest.mark.parametrize(("bands", "windows"), [(3, [0]), (7, [0]), (8, [0, 1]), (14, [0, 2, 5, 7])])
def test_scenes_of_other_bands_are_seen_in_windows(tmp_path, network, bands, windows):
    bench = Bench("file", file_of(tmp_path, bands), side=48, weights=network)
    assert bench.windows() == windows
    trace = bench.trace("picard", 0.1, windows[-1])
    for seen, whole in ((trace.clean, bench.clean), (trace.noisy, bench.noisy)):
        np.testing.assert_array_equal(seen, whole[..., windows[-1] : windows[-1] + BANDS])
    point = FixedPointExplorer(bench)
    assert [first for _, first in point.window.options] == windows
    assert (point.window.layout.display == "none") == (len(windows) == 1)
    seen = "over the scene" if len(windows) == 1 else f"over the bands 1 to {BANDS}, the first window"
    assert seen in DictionaryExplorer(bench).facts.value


def test_a_scene_of_many_bands_is_seen_by_the_network_for_them(tmp_path):
    camera, spectrometer = (file_of(tmp_path, bands, f"{bands}.npy") for bands in (31, 32))
    bench = Bench("file", camera, side=48)
    assert bench.weights.path == weights.shipped("decsc") and "Network, where one is used: decsc-small-all." in bench.about.value
    bench.path.value = spectrometer
    assert bench.weights.path == weights.shipped("decsc", bands=32) != weights.shipped("decsc")
    assert "Network, where one is used: decsc-small-remote." in bench.about.value
    mamba = Bench("file", spectrometer, side=48, weights=weights.shipped("decsc-mamba"))
    assert mamba._denoiser("decsc").weights.path == weights.shipped("decsc", bands=32), "of the other methods those for as many bands"
    bench.path.value = camera
    assert bench.weights.path == weights.shipped("decsc")


def test_bands_show_the_cubes_in_one_contrast(bench):
    explorer = BandExplorer(bench)
    restored = bench.estimate("decsc").estimate.cube
    explorer.view.band.value = 3
    explorer.rows.value, explorer.columns.value = (4, 12), (6, 14)
    explorer.row.value = explorer.column.value = 0  # outside the window, so there is no mark in it
    low, high = np.percentile(bench.clean[..., 2], (0.5, 99.5))
    for panel, cube in zip(explorer.panels, (bench.clean, bench.noisy, restored)):
        levels = shown(panel)[20::40, 20::40] / 255
        np.testing.assert_allclose(levels, np.clip((cube[4:12, 6:14, 2] - low) / (high - low), 0, 1), atol=0.003)
    error = np.clip(0.5 + (restored - bench.clean)[4:12, 6:14, 2] / (high - low), 0, 1)
    np.testing.assert_allclose(shown(explorer.panels[3])[20::40, 20::40] / 255, error, atol=0.003)
    assert f"{metrics.psnr_per_band(bench.clean, restored)[2]:.2f} dB" in explorer.panels[2].caption.value
    facts = told(explorer)
    assert facts["value-decsc"] == f"{restored[0, 0, 2]:.4f}" and facts["rows"] == "4 12"

    explorer.view.band.value = 5
    assert explorer.rows.value == (4, 12) and told(explorer)["rows"] == "4 12"
    explorer.view.kind.value = "false colour"
    for control, value in zip((explorer.view.red, explorer.view.green, explorer.view.blue), (7, 2, 1)):
        control.value = value
    expected = false_colour(restored, bands=(6, 1, 0), like=bench.clean)[4:12, 6:14]
    np.testing.assert_allclose(shown(explorer.panels[2])[20::40, 20::40] / 255, expected, atol=0.003)


def test_bands_draw_the_spectra_and_the_profiles(bench):
    explorer = BandExplorer(bench)
    explorer._point(0.99, 0.0)
    assert (explorer.row.value, explorer.column.value) == (HEIGHT - 1, 0)
    explorer.rows.value = (10, 18)
    explorer._point(0.5, 0.5)
    assert (explorer.row.value, explorer.column.value) == (14, WIDTH // 2)
    band = explorer.view.band.value - 1
    drawn = [{line.get_label(): line.get_ydata() for line in axis.lines} for axis in explorer.plot.axes]
    for name, cube in (
        ("Clean", bench.clean),
        ("Noisy", bench.noisy),
        ("DECSC", bench.estimate("decsc").estimate.cube),
    ):
        np.testing.assert_array_equal(drawn[0][name], cube[14, WIDTH // 2])
        np.testing.assert_array_equal(drawn[1][name], cube[..., band].mean(1, dtype=float))
        np.testing.assert_array_equal(drawn[2][name], cube[..., band].mean(0, dtype=float))
    before = explorer.plot.value
    explorer.row.value = 1
    assert explorer.plot.value != before


def test_the_zoom_keeps_at_least_8_pixels_and_ends_with_its_scene(bench, tmp_path):
    explorer = BandExplorer(bench)
    for chosen, window in (((5, 5), (5, 13)), ((23, 24), (16, 24)), ((0, 0), (0, 8)), ((2, 12), (2, 12))):
        explorer.rows.value = chosen
        assert explorer.rows.value == window and told(explorer)["rows"] == "{} {}".format(*window)
    explorer.columns.value = (0, 10)
    bench.seed.value += 1
    assert explorer.rows.value == (2, 12) and explorer.columns.value == (0, 10)
    other = np.load(bench.path.value) / 2
    np.save(tmp_path / "other.npy", other)
    bench.path.value = str(tmp_path / "other.npy")
    assert explorer.rows.value == (0, HEIGHT) and explorer.columns.value == (0, WIDTH)


def test_the_legend_lies_above_the_curves_and_one_band_is_a_point(bench, tmp_path):
    explorer = BandExplorer(bench)
    plot = explorer.plot
    assert [text.get_text() for text in plot.legend.get_texts()] == ["Clean", "Noisy", "DECSC", "Error"]
    top = max(axis.get_tightbbox().y1 for axis in plot.axes)
    assert plot.legend.get_window_extent().y0 > top
    markers = lambda: {str(line.get_marker()) for line in plot.axes[0].lines if line.get_label() in LINES}
    assert markers() == {"None"}
    bench.path.value = file_of(tmp_path, 1, "one.npy")
    assert markers() == {"."}
    bench.path.value = file_of(tmp_path, 3, "three.npy")
    assert markers() == {"None"}


def test_without_restoring_no_network_is_needed(tmp_path):
    bench = Bench("file", file_of(tmp_path, 3), side=48, weights="/no/such.safetensors")
    explorer = BandExplorer(bench, restore=False)
    assert len(explorer.panels) == 3 and "Noise" in explorer.panels[2].caption.value


def test_the_fixed_point_shows_the_iterate_and_its_parts(bench):
    explorer = FixedPointExplorer(bench)
    trace = bench.trace("anderson", 1e-3)
    assert explorer.iterate.value == explorer.iterate.max == len(trace.iterates) - 1
    explorer.iterate.value = k = 2
    explorer.shared_atom.value, explorer.unshared_atom.value, explorer.slice.value = 3, 2, 4
    facts = told(explorer)
    S, H = (codes[0].numpy() for codes in trace.problem.layer.unpack(trace.iterates[k]))
    assert facts["psnr"] == f"{trace.curve['psnr'][k]:.4f}" and facts["residual"] == f"{trace.curve['worst'][k]:.3e}"
    assert facts["zeros-s"] == f"{np.mean(S == 0):.4f}" and facts["zeros-h"] == f"{np.mean(H == 0):.4f}"

    band = explorer.view.band.value - 1
    low, high = np.percentile(bench.clean[..., band], (0.5, 99.5))
    shared, unshared = trace.problem.parts(trace.iterates[k])
    image = trace.problem.image(trace.iterates[k])
    step = image - trace.problem.image(trace.iterates[k - 1])
    times = round(picture.SIDE / HEIGHT)
    for panel, levels in zip(
        explorer.panels,
        (
            (image - low) / (high - low),
            (shared - low) / (high - low),
            0.5 + 0.5 * unshared / np.abs(unshared[..., band]).max(),
            0.5 + 0.5 * step / np.abs(step[..., band]).max(),
        ),
    ):
        np.testing.assert_allclose(shown(panel)[::times, ::times] / 255, np.clip(levels[..., band], 0, 1), atol=0.003)
    for panel, codes in zip(explorer.codes, (S[2], H[1, 3])):
        image = shown(panel)
        times = round(picture.SIDE / max(codes.shape))
        image = image[::times, ::times]
        np.testing.assert_allclose(image / 255, 0.5 + 0.5 * codes / np.abs(codes).max(), atol=0.003)

    assert f"white = +{np.abs(unshared[..., band]).max():.2g}" in explorer.panels[2].caption.value
    assert "white = +" in explorer.panels[3].caption.value
    explorer.iterate.value = 0
    assert explorer.panels[3].caption.value == "<b>Update</b>, no step yet"
    assert explorer.panels[3].picture.title == "Update, no step yet"
    explorer.iterate.value = 1
    assert "white = +" in explorer.panels[3].caption.value

    explorer.solver.value = "picard"
    assert explorer.trace is bench.trace("picard", 1e-3) and told(explorer)["solver"] == "picard"
    explorer.tolerance.value = 0.1
    assert float(told(explorer)["residual"]) <= 0.1
    for axis in explorer.plot.axes:
        axis.set_xlim(0, 11)
        assert all(tick == int(tick) for tick in axis.get_xticks())


def test_the_atoms_to_choose_are_those_of_the_network_for_the_scene(tmp_path, network, monkeypatch):
    other = DECSC(preset("tiny", bands=BANDS + 2, shared_atoms=4, unshared_atoms=3), torch.Generator().manual_seed(0))
    file = tmp_path / "other.safetensors"
    weights.save(other, file, {})
    monkeypatch.setattr(weights, "shipped", lambda method, bands: network if bands == BANDS else file)
    bench = Bench("file", file_of(tmp_path, BANDS))
    fixed_point, dictionaries = FixedPointExplorer(bench), DictionaryExplorer(bench)
    config = bench.model.config
    fixed_point.shared_atom.value = dictionaries.rank.value = config.shared_atoms
    fixed_point.slice.value = BANDS - 2
    bench.path.value = file_of(tmp_path, BANDS + 2, "other.npy")
    assert bench.status.value == ""
    assert told(fixed_point)["atoms"] == "4 1 5" and told(dictionaries)["rank"] == "4"
    assert (fixed_point.unshared_atom.max, fixed_point.slice.max, dictionaries.rank.max) == (3, BANDS, 4)


def test_dictionaries_order_the_atoms_by_use(bench):
    explorer = DictionaryExplorer(bench)
    assert explorer.slice.layout.display == "none"
    problem, codes = explorer.trace.problem, explorer.codes
    shared, unshared = problem.parts(codes)
    for which, atoms, whole in (("K", 16, shared), ("D", 4, unshared)):
        added = [problem.contribution(codes, which, atom) for atom in range(atoms)]
        np.testing.assert_allclose(sum(added), whole, atol=1e-5)
        use = np.array([np.sqrt(np.mean(cube**2)) for cube in added])
        order = np.argsort(-use)
        explorer.which.value = which
        assert explorer.rank.max == atoms
        explorer.rank.value = 2
        facts = told(explorer)
        assert facts["atom"] == str(order[1] + 1) and facts["use"] == f"{use[order[1]]:.5f}"
        without = metrics.mpsnr(bench.clean, shared + unshared - added[order[1]])
        assert float(facts["without"]) == pytest.approx(without, abs=0.002)
    explorer._point(0.6, 0.1)
    assert explorer.rank.value == 3
    assert explorer.slice.layout.display == ""
    explorer.slice.value = 2
    kernel = bench.model.unshared.kernel("reconstruction").detach().numpy()[order[2], 1]
    image = shown(explorer.panels[0])[::64, ::64] / 255
    np.testing.assert_allclose(image, 0.5 + 0.5 * kernel / np.abs(kernel).max(), atol=0.003)


def test_the_colours_are_offered_where_they_are_shown(bench):
    view = BandExplorer(bench, restore=False).view
    displays = lambda: [control.layout.display for control in (view.red, view.green, view.blue)]
    assert displays() == ["none"] * 3
    view.kind.value = "false colour"
    assert displays() == [""] * 3


def test_methods_are_swiped_and_scored(bench):
    explorer = MethodExplorer(bench, "noisy", "tv")
    left, right = (bench.estimate(name).estimate.cube for name in ("noisy", "tv"))
    explorer.divider.value = 50
    low, high = np.percentile(bench.clean[..., explorer.view.chosen[0]], (0.5, 99.5))
    times = round(560 / HEIGHT)
    image = shown(explorer.swipe)[::times, ::times].mean(2) / 255
    for columns, cube in ((slice(0, 9), left), (slice(11, WIDTH), right)):
        expected = np.clip((cube[:, columns, explorer.view.chosen[0]] - low) / (high - low), 0, 1)
        np.testing.assert_allclose(image[:, columns], expected, atol=0.003)
    explorer._point(0.3, 0.254)
    assert explorer.divider.value == 25
    facts, text = told(explorer), explorer.table.value
    assert facts["psnr-right"] == f"{metrics.mpsnr(bench.clean, right):.4f}"
    assert all(f"{value:.4f}" in text for value in (metrics.ssim(bench.clean, left), metrics.sam(bench.clean, right)))
    own = bench.estimate("decsc").estimate
    error, spread = (
        np.sqrt(np.mean(np.square(cube, dtype=float), axis=2)) for cube in (own.cube - bench.clean, own.spread)
    )
    assert float(facts["agreement"]) == pytest.approx(np.corrcoef(error.ravel(), spread.ravel())[0, 1], abs=0.001)

    explorer.left.value = "sst"
    assert "no weights come with the package for &#x27;sst&#x27;" in bench.status.value
    assert told(explorer)["left"] == explorer.left.value == "noisy"
    explorer.left.value = "tv"
    assert bench.status.value == "" and told(explorer)["left"] == "tv"


def test_an_interrupted_method_leaves_the_menus_at_what_is_shown(bench, monkeypatch):
    explorer = MethodExplorer(bench, "noisy", "tv")

    monkeypatch.setattr(bench, "_denoiser", interrupted)
    explorer.right.value = "wavelet"
    assert "interrupted" in bench.status.value and told(explorer)["right"] == explorer.right.value == "tv"


def interrupted(*arguments):
    raise KeyboardInterrupt


def test_an_interrupted_solve_leaves_the_controls_at_what_is_shown(bench, monkeypatch):
    explorer = FixedPointExplorer(bench)
    before = told(explorer)
    with monkeypatch.context() as patched:
        patched.setattr(bench, "trace", interrupted)
        explorer.solver.value, explorer.tolerance.value = "picard", 0.1
    assert "interrupted" in bench.status.value and told(explorer) == before
    assert (explorer.solver.value, explorer.tolerance.value) == ("anderson", 1e-3)
    explorer.solver.value = "picard"
    assert told(explorer)["solver"] == "picard" and not bench.status.value


def test_an_interrupted_refresh_and_solve_leave_windows_that_the_scene_has(tmp_path, network, monkeypatch):
    """Those of the scene before may not be there any more."""
    bench = Bench("file", file_of(tmp_path, 2 * BANDS, "wide.npy"), side=48, weights=network)
    explorer = FixedPointExplorer(bench)
    explorer.window.value = BANDS
    with monkeypatch.context() as patched:
        patched.setattr(bench, "trace", interrupted)
        bench.path.value = file_of(tmp_path, BANDS)
        explorer.solver.value = "picard"
    assert "interrupted" in bench.status.value and explorer.window.value == 0
    explorer.solver.value = "broyden"
    assert told(explorer)["solver"] == "broyden" and told(explorer)["first"] == "1" and not bench.status.value


@pytest.mark.parametrize("explorer_of, computes, move", [
    (FixedPointExplorer, "trace", lambda explorer: setattr(explorer.iterate, "value", 1)),
    (FixedPointExplorer, "trace", lambda explorer: setattr(explorer.solver, "value", "picard")),
    (DictionaryExplorer, "trace", lambda explorer: setattr(explorer.rank, "value", 2)),
    (MethodExplorer, "estimate", lambda explorer: setattr(explorer.left, "value", "wavelet")),
    (BandExplorer, "estimate", lambda explorer: setattr(explorer.view.band, "value", 2)),
])
def test_after_an_interrupted_refresh_the_next_move_shows_the_bench_not_what_was_before(bench, monkeypatch, explorer_of, computes, move):
    explorer = explorer_of(bench)
    with monkeypatch.context() as patched:
        patched.setattr(bench, computes, interrupted)
        bench.seed.value += 1
    assert "interrupted" in bench.status.value
    move(explorer)
    moved = told(explorer)
    assert not bench.status.value
    fresh = explorer_of(bench)
    for control in ("iterate", "solver", "rank", "left"):
        if hasattr(explorer, control):
            getattr(fresh, control).value = getattr(explorer, control).value
    fresh.view.band.value = explorer.view.band.value
    assert moved == told(fresh)


def test_methods_that_have_no_weights_are_marked(bench):
    names = {value: name for name, value in MethodExplorer(bench, "noisy", "tv").left.options}
    assert names["hsdt"] == "HSDT (no weights)" and names["tv"] == "TV (tv)" and names["decsc"] == "DECSC (decsc)"


def test_an_explorer_out_of_view_computes_nothing_until_it_is_seen(bench):
    page = explore(bench)
    tabs = page.children[1]
    bands, point, atoms, methods = tabs.children
    assert bands.facts.value and not (point.facts.value or atoms.facts.value or methods.facts.value)
    tabs.selected_index = 1
    assert point.facts.value and not atoms.facts.value
    old = bands.facts.value
    bench.seed.value += 1
    assert bands.facts.value == old
    tabs.selected_index = 0
    assert bands.facts.value != old


def test_shrinkage_is_the_minimiser():
    explorer = ShrinkageExplorer()
    for x, theta, expected in ((1.5, 0.5, "1.00"), (-0.4, 0.5, "0.00"), (-2.0, 0.25, "-1.75")):
        explorer.threshold.value, explorer.code.value = theta, x
        assert told(explorer)["shrunk"] == expected
        objective = explorer.plot.axes[0].lines[0]
        lowest = objective.get_xdata()[np.argmin(objective.get_ydata())]
        assert float(expected) == pytest.approx(lowest, abs=0.006)


def test_a_mark_surrounds_its_place_and_leaves_the_image_alone():
    image = np.full((64, 64), 90, np.uint8)
    marked = picture.mark(image, 0.5, 0.25)
    assert (image == 90).all() and marked.shape == (64, 64, 3)
    assert tuple(marked[32, 16]) == (90, 90, 90)
    assert tuple(marked[32, 26]) == tuple(marked[22, 16]) == picture.MARK
    picture.mark(image, 0, 0.999)  # at the edge, too
