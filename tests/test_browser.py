"""The explorers in a real browser: every control moved by keyboard or mouse, what it changes asserted, its latency measured.

One server, one browser and one page a notebook serve all tests. The latencies go to runs/browser/latency.md, pictures of the
page beside it.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from decsc_core import metrics
from decsc_core.scenes import load_scene
from decsc_core.study.cubes import centre
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
STARTS, ANSWERS, SOLVES = 120_000, 20_000, 60_000
"""How long to wait at most for the page, for a move, for a computation [ms]."""
IDLE = "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
LISTEN = """() => {
  window.complaints = [];
  window.jupyterapp.shell.currentWidget.sessionContext.iopubMessage.connect((_, message) => {
    if (message.header.msg_type === "error" || message.content.name === "stderr") window.complaints.push(message.content);
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
    """`./run_all.sh explore` on a copy of the notebooks: its address and token."""
    home = tmp_path_factory.mktemp("lab")
    shutil.copy(ROOT / "run_all.sh", home)
    shutil.copytree(ROOT / "notebooks", home / "notebooks")
    prompt = home / "settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    prompt.parent.mkdir(parents=True)
    prompt.write_text('{"fetchNews": "false", "checkForUpdates": false}')
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token, url = secrets.token_hex(16), f"http://127.0.0.1:{port}"
    own = {
        "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "ws", "JUPYTER_CONFIG_DIR": "cfg",
        "JUPYTER_RUNTIME_DIR": "run", "IPYTHONDIR": "ipy",
    }
    here = {"VIRTUAL_ENV": sys.prefix, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    log = home / "log"
    with open(log, "wb") as output:
        server = subprocess.Popen(
            [
                "./run_all.sh", "explore", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
                "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}", "--LabApp.expose_app_in_browser=True",
            ],
            cwd=home, env={**os.environ, **here, **{key: str(home / value) for key, value in own.items()}},
            stdout=output, stderr=subprocess.STDOUT,
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
        self.page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")

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
