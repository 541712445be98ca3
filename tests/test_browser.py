"""The explorers in a real browser: every control moved by key or mouse, what it changes asserted, its latency measured.

One server, one browser and one page a notebook serve all tests. The latencies go to runs/browser/latency.md, pictures
of the pages beside it.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import nbformat
import numpy as np
import pandas as pd
import pytest

from decsc_core import metrics
from decsc_core.noise import LEVELS
from decsc_core.scenes import Scene
from decsc_core.study.evaluate import evaluated_scene, noisy_cube

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian: apt-get install chromium)"),
]
ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "runs" / "browser"
STARTS, ANSWERS, SOLVES = 300_000, 60_000, 180_000
"""How long to wait at most for the page, for a move, for a computation [ms]."""
SMALL = {"00_method": "shrinkage", "01_scenes_and_noise": "explore", "08_convergence": "explore"}
"""The notebooks with a small explorer and its cell; nothing else of them is run, but their parameters and imports."""
BANDS, SIDE = 31, 64
SEED, CASE, SCENE = 0, "gauss-95", "chelsea"
"""What notebook 11 begins with."""
IDLE = "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
# ipykernel says "No such comm" where JupyterLab asks for widgets before the kernel has any: a race between the two.
LISTEN = """() => {
  window.complaints = [];
  window.jupyterapp.shell.currentWidget.sessionContext.iopubMessage.connect((_, { header, parent_header, content }) => {
    if (header.msg_type !== "error" && content.name !== "stderr") return;
    if (content.text?.startsWith("No such comm")) return;
    window.complaints.push([parent_header.msg_type, content]);
  });
}"""
PICTURE = """async image => {
  const bytes = new Uint8Array(await (await fetch(image.src)).arrayBuffer());
  let sum = 0;
  for (const byte of bytes) sum = (sum * 31 + byte) % 4294967291;
  return `${bytes.length} ${sum}`;
}"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[tuple[str, str]]:
    """`./run_all.sh explore` on a copy of the notebooks, with no data but the embedded scenes: address and token."""
    home = tmp_path_factory.mktemp("lab")
    shutil.copy(ROOT / "run_all.sh", home)
    (home / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / "11_explore.ipynb", home / "notebooks")
    for name, explorer in SMALL.items():
        book = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
        book.cells = [cell for cell in book.cells if cell.id in ("parameters", "imports", explorer)]
        nbformat.write(book, home / "notebooks" / f"{name}.ipynb")
    prompt = home / "settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    prompt.parent.mkdir(parents=True)
    prompt.write_text('{"fetchNews": "false", "checkForUpdates": false}')
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token, url = secrets.token_hex(16), f"http://127.0.0.1:{port}"
    own = {
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "ws",
        "JUPYTER_CONFIG_DIR": "cfg",
        "JUPYTER_RUNTIME_DIR": "run",
        "IPYTHONDIR": "ipy",
    }
    log = home / "log"
    with open(log, "wb") as output:
        server = subprocess.Popen(
            [
                "./run_all.sh",
                "explore",
                "--no-browser",
                "--allow-root",
                "--ip=127.0.0.1",
                f"--port={port}",
                "--ServerApp.port_retries=0",
                f"--IdentityProvider.token={token}",
                "--LabApp.expose_app_in_browser=True",
            ],
            cwd=home,
            env={
                **os.environ,
                "DECSC_DATA": str(home / "data"),
                **{key: str(home / value) for key, value in own.items()},
            },
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        for _ in range(240):
            assert server.poll() is None, log.read_text()
            try:
                urllib.request.urlopen(f"{url}/api?token={token}", timeout=5)
                break
            except OSError:
                time.sleep(0.25)
        yield url, token
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--disable-dev-shm-usage"])
        yield browser
        browser.close()


class Move(NamedTuple):
    """A move that was timed: where, what, and how long it took until the last picture had changed [s]."""

    explorer: str
    move: str
    seconds: float


@pytest.fixture(scope="module")
def moves() -> Iterator[list[Move]]:
    """Collects the moves of all tests, and writes them as a table."""
    made: list[Move] = []
    yield made
    REPORT.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(made, columns=Move._fields).round({"seconds": 3})
    table.to_csv(REPORT / "latency.csv", index=False)
    table.to_markdown(REPORT / "latency.md", index=False)


class Notebook:
    """A notebook in the browser, run once, and what it asked for outside the server."""

    def __init__(self, browser, lab: tuple[str, str], name: str) -> None:
        url, token = lab
        self.page = browser.new_context(viewport={"width": 1280, "height": 1400}).new_page()
        self.outside: list[str] = []
        self.page.on("request", self._note)
        self._inside = (url, url.replace("http", "ws"), "data:", "blob:")
        self.page.goto(f"{url}/lab/tree/{name}.ipynb?token={token}&reset", timeout=STARTS)
        self.page.wait_for_function(IDLE, timeout=STARTS)
        self.page.evaluate(LISTEN)
        self.page.evaluate("""() => {
          window.jupyterapp.commands.execute("notebook:run-all-cells").then(() => { window.ran = true; });
        }""")
        self.page.wait_for_function("() => window.ran", timeout=STARTS)

    def _note(self, request) -> None:
        if not request.url.startswith(self._inside):
            self.outside.append(request.url)

    def is_quiet(self) -> None:
        """Nothing was written to stderr, nothing failed, nothing was asked for outside the server."""
        assert self.page.evaluate("() => window.complaints") == []
        assert self.page.locator("[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
        assert self.outside == []

    def close(self) -> None:
        self.page.context.close()


class Explorer:
    """One explorer of a notebook: its controls, its facts, its pictures."""

    def __init__(self, notebook: Notebook, name: str, moves: list[Move]) -> None:
        self.page, self.name, self.moves = notebook.page, name, moves
        self.root = self.page.locator(f".decsc-{name}").first
        self.facts = self.root.locator(".decsc-facts")
        self.pictures = self.root.locator("img")
        sync_api.expect(self.facts).to_be_visible(timeout=STARTS)
        self.page.wait_for_function(
            """root => [...root.querySelectorAll(".widget-readout")].every(number => number.textContent !== "")
              && [...root.querySelectorAll("img")].every(image => image.naturalWidth > 0)""",
            arg=self.root.element_handle(),
            timeout=ANSWERS,
        )

    def fact(self, name: str) -> str:
        return self.facts.get_attribute(f"data-{name}")

    def labelled(self, name: str):
        """The control with this description."""
        return self.root.locator(".widget-inline-hbox").filter(
            has=self.page.locator(".widget-label", has_text=re.compile(rf"^{re.escape(name)}$"))
        )

    def handle(self, name: str, number: int = 0):
        return self.labelled(name).locator(".noUi-handle").nth(number)

    def readout(self, name: str) -> str:
        return self.labelled(name).locator(".widget-readout").inner_text()

    def content(self, number: int) -> str:
        return self.pictures.nth(number).evaluate(PICTURE)

    def move(
        self, what: str, act: Callable[[], None], pictures: Sequence[int], wait: int = ANSWERS, **facts: object
    ) -> None:
        """Act, wait until these facts are told and these pictures are new, and keep the time; they must differ."""
        before = [self.content(number) for number in pictures]
        sources = [[number, self.pictures.nth(number).get_attribute("src")] for number in pictures]
        expected = [[name.replace("_", "-"), str(value)] for name, value in facts.items()]
        began = time.perf_counter()
        act()
        try:
            self.page.wait_for_function(
                """([root, sources, facts]) => {
                  const told = root.querySelector(".decsc-facts"), images = root.querySelectorAll("img");
                  return facts.every(([name, value]) => told.getAttribute("data-" + name) === value)
                    && sources.every(([number, old]) => images[number].src !== old && images[number].complete);
                }""",
                arg=[self.root.element_handle(), sources, expected],
                polling="raf",
                timeout=wait,
            )
        except sync_api.TimeoutError:
            old = [number for number, source in sources if self.pictures.nth(number).get_attribute("src") == source]
            told = self.facts.evaluate("told => told.outerHTML")
            pytest.fail(f"{what}: facts {expected} wanted, {told} told; pictures {old} did not change")
        self.moves.append(Move(self.name, what, time.perf_counter() - began))
        for number, old in zip(pictures, before):
            assert self.content(number) != old, f"{what}: picture {number} is the same"

    def press(self, name: str, key: str, pictures: Sequence[int], number: int = 0, **facts: object) -> None:
        """Move a slider by a key."""
        handle = self.handle(name, number)
        handle.focus()
        self.move(f"{name}, key {key}", lambda: handle.press(key), pictures, **facts)

    def click(self, button: str, pictures: Sequence[int], wait: int = ANSWERS, **facts: object) -> None:
        """Press a toggle button."""
        target = self.root.get_by_role("button", name=button)
        self.move(f"button {button}", target.click, pictures, wait, **facts)

    def sees(self, pictures: Sequence[int]) -> None:
        """The controls of a view, one by one: band, kind of picture, the three bands of false colour."""
        band, red, green, blue = (int(self.readout(name)) for name in ("Band", "Red", "Green", "Blue"))
        self.press("Band", "ArrowRight", pictures, band=band + 1, bands=band + 1)
        self.click("false colour", pictures, bands=f"{red} {green} {blue}")
        self.press("Red", "ArrowLeft", pictures, bands=f"{red - 1} {green} {blue}")
        self.press("Green", "ArrowRight", pictures, bands=f"{red - 1} {green + 1} {blue}")
        self.press("Blue", "End", pictures, bands=f"{red - 1} {green + 1} {BANDS}")
        self.click("one band", pictures, bands=band + 1)

    def shot(self, name: str) -> None:
        """Pictures of the page at two widths, to be looked at."""
        REPORT.mkdir(parents=True, exist_ok=True)
        for width in (1920, 1280):
            self.page.set_viewport_size({"width": width, "height": 1400})
            self.root.scroll_into_view_if_needed()
            self.page.screenshot(path=REPORT / f"{name}-{width}.png")


@pytest.fixture(scope="module")
def explore(browser, lab) -> Iterator[Notebook]:
    """Notebook 11, run."""
    notebook = Notebook(browser, lab, "11_explore")
    yield notebook
    notebook.close()


@pytest.fixture
def tab(explore, moves) -> Iterator[Callable[[str, str], Explorer]]:
    """Opens a tab of notebook 11 and gives its explorer; at the end, the page must be quiet."""

    def open_tab(title: str, name: str) -> Explorer:
        explore.page.get_by_role("tab", name=title, exact=True).click(timeout=STARTS)
        return Explorer(explore, name, moves)

    yield open_tab
    explore.is_quiet()


@pytest.fixture(scope="module")
def cubes() -> tuple[np.ndarray, np.ndarray]:
    """The clean and the noisy cube that notebook 11 begins with."""
    scene = evaluated_scene("photos", SCENE, SIDE)
    return scene.cube, noisy_cube(scene, CASE, SEED)


def test_bands(tab, cubes):
    clean, noisy = cubes
    bands = tab("Bands", "bands")
    pictures, plot = [0, 1, 2, 3], 4
    bands.sees(pictures)
    middle = BANDS // 2 + 2
    pixel = SIDE // 2, SIDE // 2
    assert bands.fact("value-clean") == f"{clean[(*pixel, middle - 1)]:.4f}"
    assert bands.fact("value-noisy") == f"{noisy[(*pixel, middle - 1)]:.4f}"
    assert f"{metrics.psnr_per_band(clean, noisy)[middle - 1]:.2f} dB" in bands.root.inner_text()

    bands.press("Row", "ArrowRight", [*pictures, plot], row=pixel[0] + 1)
    bands.press("Column", "ArrowLeft", [*pictures, plot], column=pixel[1] - 1)
    bands.press("Zoom rows", "PageUp", pictures, rows=f"5 {SIDE}")
    bands.press("Zoom rows", "ArrowLeft", pictures, number=1, rows=f"5 {SIDE - 1}")
    bands.press("Zoom columns", "ArrowLeft", pictures, number=1, columns=f"0 {SIDE - 1}")
    window = bands.fact("rows"), bands.fact("columns")
    bands.press("Band", "ArrowLeft", [*pictures, plot], band=middle - 1)
    assert (bands.fact("rows"), bands.fact("columns")) == window
    bands.press("Zoom rows", "Home", pictures, rows=f"0 {SIDE - 1}")
    bands.press("Zoom rows", "End", pictures, number=1, rows=f"0 {SIDE}")
    bands.press("Zoom columns", "Home", pictures, number=1, columns="0 8")
    sync_api.expect(bands.labelled("Zoom columns").locator(".widget-readout")).to_have_text("0 – 8", timeout=ANSWERS)
    bands.press("Zoom columns", "End", pictures, number=1, columns=f"0 {SIDE}")
    bands.shot("bands")


def test_a_click_chooses_the_pixel_below_it(tab, cubes):
    clean, noisy = cubes
    bands = tab("Bands", "bands")
    band = int(bands.fact("band")) - 1
    for number in range(4):
        row, column = 10 + number, 50 - number
        bands.pictures.nth(number).scroll_into_view_if_needed()
        box = bands.pictures.nth(number).bounding_box()
        x, y = (column + 0.5) / SIDE * box["width"], (row + 0.5) / SIDE * box["height"]
        click = lambda: bands.pictures.nth(number).click(position={"x": x, "y": y})
        bands.move(f"click into picture {number}", click, [0, 1, 2, 3, 4], row=row, column=column)
        assert (bands.readout("Row"), bands.readout("Column")) == (str(row), str(column))
        assert bands.fact("value-clean") == f"{clean[row, column, band]:.4f}"
        assert bands.fact("value-noisy") == f"{noisy[row, column, band]:.4f}"
    mouse = bands.page.mouse
    mouse.move(box["x"] + x, box["y"] + y)
    mouse.down()
    end = lambda: mouse.move(box["x"] + 4.5 / SIDE * box["width"], box["y"] + 7.5 / SIDE * box["height"])
    bands.move("drag in a picture", end, [0, 1, 2, 3, 4], row=7, column=4)
    mouse.up()


def test_a_right_click_moves_nothing(tab):
    bands = tab("Bands", "bands")
    place = bands.fact("row"), bands.fact("column")
    bands.pictures.first.click(button="right", position={"x": 30, "y": 30})
    bands.page.keyboard.press("Escape")
    bands.press("Band", "ArrowRight", [0])  # the answer to this comes after one to the click
    assert (bands.fact("row"), bands.fact("column")) == place


@pytest.mark.parametrize("name", ["Bands", "Fixed point", "Dictionaries", "Methods"])
@pytest.mark.parametrize("width", [1400, 1920])
def test_nothing_is_wider_than_its_place(tab, name, width):
    explorer = tab(name, name.lower().replace(" ", "-"))
    explorer.page.set_viewport_size({"width": width, "height": 1400})
    wide = explorer.root.evaluate("""root => [...root.querySelectorAll("*")].filter(box => box.scrollWidth > box.clientWidth
      && ["auto", "scroll"].includes(getComputedStyle(box).overflowX)).map(box => box.className)""")
    assert wide == []


def test_panels_take_as_many_rows_as_they_need(tab):
    bands = tab("Bands", "bands")
    for width, rows in ((1400, 1), (900, 2)):
        bands.page.set_viewport_size({"width": width, "height": 1400})
        bands.page.wait_for_function(
            """([root, rows]) => {
              const boxes = [...root.querySelectorAll(".decsc-picture img")].map(image => image.getBoundingClientRect());
              return new Set(boxes.map(box => Math.round(box.top))).size === rows && boxes.every(box => box.width >= 150);
            }""",
            arg=[bands.root.element_handle(), rows],
            timeout=ANSWERS,
        )
    bands.page.set_viewport_size({"width": 1280, "height": 1400})


def test_the_controls_of_the_bench_show_their_choice_whole(explore):
    wide = explore.page.locator(".decsc-bench").evaluate("""bench => [...bench.querySelectorAll("select")].filter(select => {
      const pen = document.createElement("canvas").getContext("2d");
      pen.font = getComputedStyle(select).font;
      return [...select.options].some(option => pen.measureText(option.text).width > select.clientWidth - 24);
    }).map(select => select.clientWidth)""")
    assert wide == []


def test_fixed_point(tab):
    point = tab("Fixed point", "fixed-point")
    pictures, codes, plot = [0, 1, 2, 3], [4, 5], 6
    last = int(point.fact("iterate"))
    best = float(point.fact("psnr"))
    assert last > 5 and float(point.fact("residual")) <= 1e-3
    point.press("Iterate", "ArrowLeft", [3, plot], iterate=last - 1)
    point.press("Iterate", "Home", [*pictures, *codes, plot], iterate=0)
    assert float(point.fact("psnr")) < best - 1 and float(point.fact("residual")) > 0.1
    point.press("Iterate", "End", [*pictures, *codes, plot], iterate=last)
    point.press("Iterate", "Home", [*pictures, *codes, plot], iterate=0)
    point.press("Iterate", "ArrowRight", [*pictures, *codes, plot], iterate=1)
    point.sees(pictures)
    point.press("Atom of S", "ArrowRight", [4], atoms="2 1 1")
    point.press("Atom of H", "ArrowRight", [5], atoms="2 2 1")
    point.press("Slice of H", "ArrowRight", [5], atoms="2 2 2")
    assert 0 <= float(point.fact("zeros-s")) < float(point.fact("zeros-h")) < 1
    point.shot("fixed-point")


@pytest.mark.parametrize("solver", ["Picard", "Broyden"])
def test_another_solver_solves_again_under_a_progress_bar(tab, solver):
    point = tab("Fixed point", "fixed-point")
    point.page.evaluate("""() => {
      const bar = document.querySelector(".decsc-bench .widget-hprogress"), fill = bar.querySelector(".progress-bar");
      window.progress = [];
      window.watcher?.disconnect();
      window.watcher = new MutationObserver(() => {
        if (getComputedStyle(bar).display !== "none") window.progress.push(parseFloat(fill.style.width));
      });
      window.watcher.observe(bar, { attributes: true, subtree: true });
    }""")
    point.click(solver, [0, 3, 6], SOLVES, solver=solver.lower())
    seen = point.page.evaluate("() => window.progress")
    assert len(set(seen)) > 3 and seen == sorted(seen)
    point.page.wait_for_function(
        "() => getComputedStyle(document.querySelector('.decsc-bench .widget-hprogress')).display === 'none'",
        timeout=ANSWERS,
    )


def test_the_tolerance_says_when_to_stop(tab):
    point = tab("Fixed point", "fixed-point")
    point.click("Anderson", [3, 6], SOLVES, solver="anderson")
    evaluations = int(point.fact("iterate"))
    for _ in range(2):
        tolerance = float(point.fact("tolerance"))
        point.press("Tolerance", "ArrowLeft", [3, 6], tolerance=f"{ {1e-3: 3e-3, 3e-3: 1e-2}[tolerance]:g}")
        assert float(point.fact("residual")) <= float(point.fact("tolerance"))
        assert int(point.fact("iterate")) < evaluations
        evaluations = int(point.fact("iterate"))


def test_dictionaries(tab):
    atoms = tab("Dictionaries", "dictionaries")
    grid, atom, adds, without = range(4)
    used = [float(atoms.fact("use"))]
    atoms.press("Rank", "ArrowRight", [grid, atom, adds, without], rank=2)
    used.append(float(atoms.fact("use")))
    atoms.press("Rank", "End", [grid, atom, adds, without], rank=64)
    used.append(float(atoms.fact("use")))
    assert used[0] >= used[1] > used[2]
    atoms.sees([adds, without])
    box = atoms.pictures.nth(grid).bounding_box()
    third = lambda: atoms.pictures.nth(grid).click(position={"x": 2.5 / 8 * box["width"], "y": 1.5 / 8 * box["height"]})
    atoms.move("click on an atom", third, [grid, atom, adds, without], rank=11)
    assert float(atoms.fact("without")) < float(atoms.fact("with-it"))
    atoms.shot("dictionaries")
    atoms.click("D: unshared", [grid, atom, adds, without], which="D", rank=11)
    atoms.press("Slice of D", "ArrowRight", [grid, atom], slice=2)
    atoms.press("Rank", "Home", [grid, atom, adds, without], rank=1)
    atoms.press("Rank", "End", [grid, atom, adds, without], rank=16)
    atoms.click("K: shared", [grid, atom, adds, without], which="K")


def test_methods(tab, cubes):
    clean, noisy = cubes
    methods = tab("Methods", "methods")
    swipe, left, right, spread = range(4)
    methods.sees([swipe])
    methods.press("Divider %", "ArrowRight", [swipe], divider=51)
    methods.press("Divider %", "Home", [swipe], divider=0)
    methods.pictures.nth(swipe).scroll_into_view_if_needed()
    box, mouse = methods.pictures.nth(swipe).bounding_box(), methods.page.mouse
    mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 100)
    methods.move("press on the divider's picture", mouse.down, [swipe], divider=20)
    methods.move(
        "drag the divider", lambda: mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 90), [swipe], divider=70
    )
    mouse.up()
    assert methods.readout("Divider %") == "70"

    choose = methods.labelled("Left").locator("select")
    choose.focus()
    methods.move("left method: noisy", lambda: choose.press("Home"), [swipe, left], SOLVES, left="noisy")
    assert methods.fact("psnr-left") == f"{metrics.mpsnr(clean, noisy):.4f}"
    choose = methods.labelled("Right").locator("select")
    choose.focus()
    methods.move("right method: wavelet", lambda: choose.press("W"), [swipe, right], SOLVES, right="wavelet")
    assert float(methods.fact("psnr-right")) > float(methods.fact("psnr-left")) + 5
    assert f"{metrics.sam(clean, noisy):.4f}" in methods.root.locator(".decsc-scores").inner_text()
    methods.shot("methods")


def test_a_method_without_weights_is_one_line(tab):
    methods = tab("Methods", "methods")
    before = methods.fact("left")
    methods.labelled("Left").locator("select").select_option(label="HSDT (no weights)")
    error = methods.page.locator(".decsc-error")
    sync_api.expect(error).to_contain_text("no weights come with the package for 'hsdt'", timeout=ANSWERS)
    assert "\n" not in error.inner_text() and methods.fact("left") == before
    methods.labelled("Left").locator("select").select_option(label="TV (tv)")
    sync_api.expect(error).to_have_count(0, timeout=SOLVES)


def test_the_network_sees_a_file_of_more_bands_in_windows(tab, explore, tmp_path):
    point = tab("Fixed point", "fixed-point")
    bench = explore.page.locator(".decsc-bench")
    np.save(tmp_path / "forty.npy", np.random.default_rng(0).random((40, 30, 40)).astype(np.float32))
    choose_file(bench)
    path = bench.get_by_placeholder("path of")
    path.fill(str(tmp_path / "forty.npy"))
    point.move("a file's path", lambda: path.press("Enter"), [0, 1, 2, 3], SOLVES, first=1)
    sync_api.expect(bench.locator(".decsc-about")).to_contain_text("forty, 40 × 30 pixels, 40 bands.")
    window = point.labelled("Bands").locator("select")
    window.focus()
    point.move("next window of bands", lambda: window.press("End"), [0, 1, 2, 3], SOLVES, first=10)
    assert bench.locator(".decsc-error").count() == 0


def choose_file(bench) -> None:
    """Choose a file as the data of a bench."""
    data = bench.locator("select").first
    data.focus()
    data.press("End")
    sync_api.expect(bench.get_by_placeholder("path of")).to_be_visible(timeout=ANSWERS)


@pytest.fixture
def small(browser, lab) -> Iterator[Callable[[str], Notebook]]:
    """Opens a notebook of `SMALL`; at the end, the page must be quiet."""
    opened: list[Notebook] = []

    def open_notebook(name: str) -> Notebook:
        opened.append(Notebook(browser, lab, name))
        return opened[-1]

    yield open_notebook
    for notebook in opened:
        notebook.is_quiet()
        notebook.close()


def test_the_bench_of_notebook_01(small, moves, tmp_path):
    notebook = small("01_scenes_and_noise")
    bands = Explorer(notebook, "bands", moves)
    bench, clean, noisy = notebook.page.locator(".decsc-bench").first, 0, 1
    every = [clean, noisy, 2, 3]

    def control(name: str):
        return bench.locator(".widget-inline-hbox").filter(
            has=notebook.page.locator(f".widget-label:text-is('{name}')")
        )

    def choose(name: str, key: str, pictures: Sequence[int]) -> None:
        select = control(name).locator("select")
        select.focus()
        bands.move(f"{name}, key {key}", lambda: select.press(key), pictures)

    def holds(scene: str, side: int, case: str, seed: int) -> None:
        level = float(control("Level σ").locator(".widget-readout").inner_text())
        shown = evaluated_scene("photos", scene, side)
        place = int(bands.fact("row")), int(bands.fact("column")), int(bands.fact("band")) - 1
        assert bands.fact("value-clean") == f"{shown.cube[place]:.4f}"
        assert bands.fact("value-noisy") == f"{noisy_cube(shown, case, seed, level)[place]:.4f}"
        sync_api.expect(bench.locator(".decsc-about")).to_have_attribute("data-scene", scene)

    holds("chelsea", 128, "mixture", 0)
    choose("Scene", "End", every)
    holds("motorcycle-right", 128, "mixture", 0)
    choose("Pixels", "Home", every)
    holds("motorcycle-right", 48, "mixture", 0)
    choose("Noise", "Home", [noisy, 2])
    holds("motorcycle-right", 48, "gauss-95", 0)
    choose("Noise", "End", [noisy, 2])
    assert control("Level σ").locator(".widget-readout").inner_text() == f"{LEVELS['corr']:.2f}"
    holds("motorcycle-right", 48, "corr", 0)
    handle = control("Level σ").locator(".noUi-handle")
    handle.focus()
    bands.move("Level σ, key ArrowLeft", lambda: handle.press("ArrowLeft"), [noisy, 2])
    assert LEVELS["corr"] - 1.5 < float(control("Level σ").locator(".widget-readout").inner_text()) < LEVELS["corr"]
    holds("motorcycle-right", 48, "corr", 0)
    seed = control("Seed").locator("input")
    seed.fill("7")
    bands.move("Seed, typed", lambda: seed.press("Enter"), [noisy, 2])
    holds("motorcycle-right", 48, "corr", 7)
    bands.sees([clean, noisy, 2])
    bands.shot("notebook-01")

    error, about = bench.locator(".decsc-error"), bench.locator(".decsc-about")
    control("Data").locator("select").select_option(label="CAVE")  # a typed letter would be a shortcut of JupyterLab
    sync_api.expect(error).to_contain_text("CAVE: scene 'beads' is not in", timeout=ANSWERS)
    choose_file(bench)
    path = bench.get_by_placeholder("path of")
    path.fill("/no/such.npy")
    path.press("Enter")
    sync_api.expect(error).to_have_text("/no/such.npy: there is no such file or folder", timeout=ANSWERS)
    sync_api.expect(about).to_have_attribute("data-scene", "motorcycle-right")
    cube = np.random.default_rng(1).random((20, 30, 5)).astype(np.float32)
    np.save(tmp_path / "mine.npy", cube)
    path.fill(str(tmp_path / "mine.npy"))
    bands.move("a file's path", lambda: path.press("Enter"), every, band=3, row=10, column=15)
    sync_api.expect(error).to_have_count(0)
    level = float(control("Level σ").locator(".widget-readout").inner_text())
    assert bands.fact("value-clean") == f"{cube[10, 15, 2]:.4f}"
    assert bands.fact("value-noisy") == f"{noisy_cube(Scene(cube, 'mine'), 'corr', 7, level)[10, 15, 2]:.4f}"
    bands.press("Band", "End", every, band=5)
    bands.press("Row", "End", every, row=19)


def test_the_shrinkage_of_notebook_00(small, moves):
    shrinkage = Explorer(small("00_method"), "shrinkage", moves)
    assert shrinkage.fact("shrunk") == "0.70"
    shrinkage.press("Code x", "ArrowRight", [0], code="1.25", shrunk="0.75")
    shrinkage.press("Threshold θ", "End", [0], threshold="1.50", shrunk="0.00")
    shrinkage.press("Code x", "Home", [0], code="-2.00", shrunk="-0.50")
    shrinkage.shot("notebook-00")


def test_the_iterates_of_notebook_08(small, moves):
    point = Explorer(small("08_convergence"), "fixed-point", moves)
    best = float(point.fact("psnr"))
    point.press("Iterate", "Home", [0, 1, 2, 3, 4, 5, 6], iterate=0)
    assert float(point.fact("psnr")) < best - 1
    point.click("Picard", [0, 6], SOLVES, solver="picard")
    point.shot("notebook-08")
