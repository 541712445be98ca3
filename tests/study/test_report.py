"""study.report: cells beside ours with reasons, and a page that needs nothing but itself."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from decsc_core.study import report
from decsc_core.study.artifacts import Artifact
from decsc_core.study.complexity import PUBLISHED
from decsc_core.study.figures import save_figure, save_rows, save_table

CHROMIUM = shutil.which("chromium")
CASES, METHODS = ["gauss-95", "corr"], ["noisy", "decsc"]


@pytest.fixture
def rows() -> pd.DataFrame:
    return pd.DataFrame([
        {"dataset": "cave", "case": case, "method": method, "scene": scene, "psnr": psnr, "ssim": 0.9, "sam": 0.1,
         "weights": "abc" if method == "decsc" else "", "code": "1.0"}
        for case in CASES
        for method in METHODS
        for scene, psnr in (("a", 40.0), ("b", 50.0))
    ])


def cell(cells: pd.DataFrame, case: str, method: str, metric: str) -> pd.Series:
    (row,) = cells.query("case == @case and method == @method and metric == @metric").iloc
    return row


def test_every_printed_cell_is_there_with_ours_or_a_reason(rows):
    cells = report.beside(2, report.measured(rows), CASES, METHODS)
    assert len(cells) == 5 * 14 * 3 and cells["provenance"].str.len().gt(0).all()
    ours = cell(cells, "gauss-95", "decsc", "psnr")
    assert (ours["paper"], ours["ours"], ours["difference"]) == (45.64, 45, pytest.approx(-0.64))
    assert ours["provenance"] == "weights abc, code 1.0"
    assert cell(cells, "corr", "noisy", "sam")["provenance"] == "code 1.0"
    reasons = {
        ("gauss-15", "decsc"): "noise case not run in this profile",
        ("corr", "bm4d"): "not run in this profile",
        ("corr", "sst"): "not run in this profile",
    }
    for (case, method), reason in reasons.items():
        absent = cell(cells, case, method, "ssim")
        assert np.isnan(absent["ours"]) and np.isnan(absent["difference"]) and absent["provenance"] == reason


def test_of_table_5_only_the_whole_model_is_there(rows):
    cells = report.beside(5, report.measured(rows), CASES, METHODS)
    assert cell(cells, "gauss-95", "decsc", "ssim")["difference"] == pytest.approx(0.9 - 0.9848)
    assert cell(cells, "gauss-95", "no-swin", "psnr")["provenance"] == "no network was trained without this module"


def test_seconds_of_another_machine_get_no_difference(tmp_path):
    columns = ["method", "network", "parameters", "seconds", "copies", "psnr"]
    costs = [
        ("BM4D", "", None, 4.0, None, 31.0),
        ("TV", "", None, 4.0, None, 30.0),
        ("DECSC", PUBLISHED, 4_295_152, 3.0, "1 of 49", None),
        ("DECSC", "small.safetensors", 723_112, 6.0, "9 of 9", 33.8),
        ("HSDT", PUBLISHED, 521_158, 1.0, None, None),
        ("HSDT", "hsdt.safetensors", 521_158, 1.0, None, 33.1),
    ]
    save_table(pd.DataFrame(costs, columns=columns), "table4_complexity", tmp_path, caption="c", provenance={})
    counts = pd.DataFrame({"method": ["DECSC", "HSDT"], "128 x 128": [8862.0, 48.6]})
    save_table(counts, "table4_gmacs", tmp_path, caption="c", provenance={})
    cells = report.beside(4, report.measured_costs(tmp_path), CASES, METHODS)
    assert cell(cells, "gauss-95", "decsc", "parameters_m")["difference"] == pytest.approx(0.005152)
    assert cell(cells, "gauss-95", "decsc", "flops_g")["difference"] == pytest.approx(8862 - 56_390)
    seconds = cell(cells, "gauss-95", "decsc", "seconds")
    assert seconds["ours"] == 3 and np.isnan(seconds["difference"])
    assert seconds["provenance"] == "time from 1 of 49 copies" and cell(cells, "gauss-95", "decsc", "flops_g")["provenance"] == ""
    assert cell(cells, "gauss-95", "bm4d", "seconds")["ours"] == 4
    assert len(cells) == 42
    assert report.other_sizes(tmp_path) == "DECSC's of small.safetensors, 0.72 M parameters"


def test_a_table_is_laid_out_with_the_digits_of_the_paper(rows):
    wide = report.layout(report.beside(2, report.measured(rows), CASES, METHODS))
    assert len(wide) == 70
    first = wide[(wide["", "Case"] == "gauss-95") & (wide["", "Method"] == "DECSC")].iloc[0]
    assert list(first["MPSNR [dB]"]) == ["45.64", "45.00", "-0.64"]
    assert list(first["SAM [rad]"]) == ["0.0387", "0.1000", "+0.0613"]
    absent = wide[wide["", "Method"] == "SST"].iloc[0]
    assert list(absent["SSIM"]) == ["0.9938", "–", "–"]
    assert absent["", "Provenance, or why there is no number"] == "not run in this profile"


class Reader(HTMLParser):
    """What a page refers to, and whether every tag is closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.references, self.open, self.words = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.references += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def path(tmp_path, rows) -> Path:
    """A page with cells, a figure, a table and an artifact that is missing."""
    figure, axis = plt.subplots()
    axis.plot([1, 2])
    save_figure(figure, "fig_x", tmp_path, caption="A < B & C", provenance={"seed": 3})
    frame = pd.DataFrame({"method": ["TV", "<A>", "B"], "psnr": [30.12345, None, 20], "seeds": pd.array([2, None, 14], "Int64")})
    save_table(frame, "table_y", tmp_path, caption="t", provenance={}, best={"psnr": "highest"})
    save_table(pd.DataFrame({"misfit": ["0", "0.005"], "psnr": [1.0, 2.0]}), "table_z", tmp_path, caption="z", provenance={})
    save_rows(pd.DataFrame({"scene": ["007"], "weights": ["12345678e901"], "seed": [7]}), "rows_w", tmp_path, caption="w", provenance={"code": "0.1.0+abc"})
    made = (("fig_x", "figure"), ("table_y", "table"), ("table_z", "table"), ("rows_w", "rows"))
    shown = [Artifact(name, kind, "03_x", "", f"what {name} shows") for name, kind in made]
    blocks = [report.published(artifact, tmp_path) for artifact in shown]
    blocks.append(report.published(Artifact("fig_gone", "figure", "09_z", "", "z"), tmp_path))
    cells = report.beside(2, report.measured(rows), CASES, METHODS)
    first = report.Section("Table II <1>", [report.table(report.layout(cells), "c")])
    return report.save_page([first, report.Section("Rest", blocks)], "report", tmp_path, title="T", data=cells)


def test_the_page_needs_nothing_but_itself(path, rows):
    page = Reader(path.read_text())
    for cell in ("<b>30.12</b>", "<u>20.00</u>", "<td>14</td>", "<td>&lt;A&gt;</td>", "<td>–</td>", "<td>0.005</td>"):
        assert cell in path.read_text()
    assert not page.open and page.references[:2] == ["#s1", "#s2"]
    assert [reference.split(",")[0] for reference in page.references[2:]] == ["data:image/png;base64"]
    words = " ".join(page.words)
    for expected in ("Table II <1>", "A < B & C", '"seed": 3', "30.12", "45.64", "fig_gone was not made", "what rows_w shows", "007", "12345678e901", '"code": "0.1.0+abc"'):
        assert expected in words
    cells = report.beside(2, report.measured(rows), CASES, METHODS)
    pd.testing.assert_frame_equal(pd.read_csv(path.with_suffix(".csv")), cells)
    assert json.loads((path.parent / "fig_x.json").read_text())["caption"] == "A < B & C"


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian: apt-get install chromium)")
def test_the_page_opens_in_a_browser_without_network(path):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--disable-dev-shm-usage"])
        page = browser.new_context(offline=True).new_page()
        asked, complaints = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(path.as_uri())
        assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()] and not complaints
        assert page.locator("img").evaluate_all("images => images.map(image => image.naturalWidth > 0)") == [True]
        page.get_by_text("Provenance", exact=True).first.click()
        sync_api.expect(page.locator("details pre").first).to_be_visible()
        width = page.evaluate("() => [document.documentElement.scrollWidth, innerWidth]")
        assert width[0] <= width[1], "only wide tables scroll sideways, the page does not"
        browser.close()
