from __future__ import annotations

import json
import os
import subprocess
import sys

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

matplotlib.use("Agg")

from decsc_core.study import figures

ENDS = ("csv", "json", "pdf", "png")


@pytest.fixture(autouse=True)
def style():
    figures.use_style()
    yield
    plt.close("all")
    plt.rcdefaults()


@pytest.fixture
def cube() -> np.ndarray:
    return np.random.default_rng(0).random((40, 30, 31), dtype=np.float32)


def test_the_style_for_a_while_leaves_the_look_as_it_was():
    plt.rcdefaults()
    before = dict(plt.rcParams)
    with figures.style():
        within = plt.rcParams["font.size"]
    assert within == 8 != before["font.size"] and dict(plt.rcParams) == before


def curve() -> tuple[plt.Figure, pd.DataFrame]:
    data = pd.DataFrame({"x": [0, 1, 2], "y": [0.1, 1 / 3, 0.3]})
    figure, axis = plt.subplots()
    axis.plot(data["x"], data["y"], label="σ_b")
    axis.legend()
    return figure, data


DRAW = """
import sys, matplotlib; matplotlib.use("Agg")
import matplotlib.pyplot as plt, numpy as np
from decsc_core.study import figures
figures.use_style()
figure, axes = plt.subplots(1, 2)
axes[0].plot([0, 1, 4], label="sigma, residual")
axes[0].legend()
axes[1].imshow(np.arange(12).reshape(3, 4))
figures.save_figure(figure, "f", sys.argv[1], caption="c", provenance={})
"""


def test_a_figure_has_the_same_bytes_in_another_process(tmp_path):
    for number in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": number}
        subprocess.run([sys.executable, "-c", DRAW, str(tmp_path / number)], env=environment, check=True)
    for end in ("pdf", "png", "json"):
        first, second = ((tmp_path / number / f"f.{end}").read_bytes() for number in ("1", "2"))
        assert first == second, end
    assert b"CreationDate" not in (tmp_path / "1" / "f.pdf").read_bytes()


def test_save_figure_writes_everything_and_closes_it(tmp_path):
    figure, data = curve()
    path = figures.save_figure(figure, "f", tmp_path, caption=" σ  of it ", provenance={"seed": 3}, data=data)
    assert path == tmp_path / "f.png" and path.read_bytes()[:4] == b"\x89PNG"
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"f.{end}" for end in ENDS]
    assert not plt.get_fignums()
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "f.csv"), data, check_exact=True)
    assert json.loads((tmp_path / "f.json").read_text()) == {"name": "f", "caption": "σ of it", "provenance": {"seed": 3}}


def test_save_table_keeps_precision_and_shows_it_rounded(tmp_path):
    frame = pd.DataFrame({"method": ["DECSC", "TV"], "psnr": [30.123456789, 29.0]})
    shown = figures.save_table(frame, "t", tmp_path, caption="c", provenance={}, best={"psnr": "highest"})
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "t.csv"), frame, check_exact=True)
    assert shown.to_dict("list") == {"Method": ["DECSC", "TV"], "MPSNR [dB] ↑": ["30.12", "29.00"]}
    assert "**30.12**" in (tmp_path / "t.md").read_text()
    assert r"\textbf{30.12}" in (tmp_path / "t.tex").read_text()
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".csv", ".json", ".md", ".tex"]


def test_save_rows_keeps_every_digit_and_says_where_they_come_from(tmp_path):
    rows = pd.DataFrame({"scene": ["a", "b"], "weights": ["0123456789ab", ""], "psnr": [30.123456789012345, 0.1 + 0.2]})
    figures.save_rows(rows, "r", tmp_path, caption="Rows  of it.", provenance={"seed": 3})
    there = pd.read_csv(tmp_path / "r.csv", dtype={"weights": str}, keep_default_na=False)
    pd.testing.assert_frame_equal(there, rows, check_exact=True)
    assert json.loads((tmp_path / "r.json").read_text()) == {"name": "r", "caption": "Rows of it.", "provenance": {"seed": 3}}
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".csv", ".json"]


def test_false_colour_takes_the_bands_of_the_wavelengths():
    wavelengths = np.arange(400.0, 701.0, 10.0)
    assert figures.display_bands(31, wavelengths) == (24, 15, 6)
    assert figures.display_bands(31, wavelengths[::-1]) == (6, 15, 24)
    assert figures.display_bands(31, None) == (25, 15, 5)
    assert figures.display_bands(1, None) == (0, 0, 0)


def test_false_colour_stretches_each_band(cube):
    dim = cube * np.linspace(0.1, 2, 31, dtype=np.float32) + 0.3
    image = figures.false_colour(dim, bands=(30, 16, 1))
    assert image.shape == (40, 30, 3) and image.min() == 0 and image.max() == 1
    np.testing.assert_allclose(image, figures.false_colour(cube, bands=(30, 16, 1)), atol=1e-5)


def test_false_colour_shares_the_contrast_it_is_given(cube):
    brighter = figures.false_colour(cube + 0.2, like=cube)
    assert brighter.mean() > figures.false_colour(cube).mean() + 0.05
    constant = figures.false_colour(np.full((5, 5, 3), 0.4))
    assert np.isfinite(constant).all()


def test_comparison_shows_every_cube_in_the_contrast_of_the_first(cube):
    cubes = {"Clean": cube, "Noisy": cube + 0.3, "DECSC": cube / 2, "TV": cube}
    figure = figures.comparison(cubes, None, notes={"DECSC": "31.00 dB"})
    shown = [axis for axis in figure.axes if axis.images]
    assert [axis.get_title() for axis in shown] == ["Clean", "Noisy", "DECSC  31.00 dB", "TV"]
    for axis, cube_shown in zip(shown, cubes.values()):
        expected = figures.false_colour(cube_shown, like=cube)
        assert np.array_equal(axis.images[0].get_array(), expected)
        assert axis.child_axes[0].images


def test_the_detail_is_where_the_structure_is():
    image = np.zeros((64, 48))
    image[40:52, 4:16] = np.random.default_rng(0).random((12, 12))
    top, left, side = figures._busiest(image, 12)
    assert abs(top - 40) <= 6 and abs(left - 4) <= 6 and side == 12


def test_row_mean_profiles_repeat_the_reference():
    profiles = pd.DataFrame({"row": [1, 2, 3], "Clean": [0.0, 1, 2], "Noisy": [3.0, 4, 5], "TV": [3e-5, 1.00003, 2.00003]})
    figure = figures.row_mean_profiles(profiles)
    for axis, (name, rms) in zip(figure.axes, {"Noisy": "3000.00", "TV": "0.03"}.items()):
        reference, estimate = (line.get_ydata() for line in axis.lines)
        assert axis.get_title(loc="left") == name and axis.get_title(loc="right") == f"$10^3$ RMS {rms}"
        assert list(reference) == [0, 1, 2] and list(estimate) == list(profiles[name])


def test_the_cycle_is_safe_for_colour_blind_readers():
    """Under the usual models of deuteranopia and protanopia neighbouring colours stay apart (CIELAB distance)."""
    with np.printoptions():  # its import changes how all tests after this one print
        import colour

    rgb = np.array([matplotlib.colors.to_rgb(c) for c in figures.COLOURS])
    for kind in ("Protanomaly", "Deuteranomaly"):
        matrix = colour.blindness.matrix_cvd_Machado2009(kind, 1.0)
        seen = np.clip(colour.cctf_decoding(rgb) @ matrix.T, 0, 1)
        lab = colour.XYZ_to_Lab(colour.RGB_to_XYZ(seen, "sRGB"))
        distance = np.linalg.norm(lab[:, None] - lab[None], axis=2)[np.triu_indices(len(lab), 1)]
        assert distance.min() > 10, (kind, distance.min())
