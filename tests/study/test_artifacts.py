"""Every published artifact can be opened, and the gallery lists them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import matplotlib.image
import pandas as pd
import pytest

from decsc_core.study import artifacts
from decsc_core.study.artifacts import ARTIFACTS, Artifact, gallery

ROOT = Path(__file__).resolve().parents[2]
FINISHED = [
    folder
    for folder in sorted((ROOT / "figures").glob("*/"))
    if folder.name == "standard" or all((ROOT / "runs" / folder.name / "notebooks" / f"{a.notebook}.ipynb").is_file() for a in ARTIFACTS)
]
"""What is committed, and what runs that have ended left here."""


def check(folder: Path, artifact: Artifact) -> None:
    """Open all files of an artifact."""
    for name in artifact.files:
        path = folder / name
        text = path.read_bytes()
        if path.suffix == ".csv":
            assert len(pd.read_csv(path)), name
        elif path.suffix == ".json":
            told = json.loads(text)
            assert told["name"] == artifact.name and told["caption"] and told["provenance"]["environment"], name
        elif path.suffix == ".png":
            assert matplotlib.image.imread(path).std() > 0.01, f"{name} is blank"
        elif path.suffix == ".pdf":
            assert text.startswith(b"%PDF-") and text.rstrip().endswith(b"%%EOF"), name
        elif path.suffix == ".md":
            caption, _, head, rule, *rows = text.decode().splitlines()
            assert caption and re.fullmatch(r"\|(:?-+:?\|)+", rule), name
            assert len(rows) == len(pd.read_csv(path.with_suffix(".csv"))), name
        elif path.suffix == ".tex":
            assert rb"\begin{tabular}" in text and rb"\caption{" in text, name
        else:
            assert path.suffix == ".html" and b"</html>" in text, name


@pytest.mark.parametrize(
    ("folder", "artifact"),
    [pytest.param(folder, a, id=f"{folder.name}-{a.name}") for folder in FINISHED for a in ARTIFACTS],
)
def test_artifacts_of_a_finished_run_can_be_opened(folder, artifact):
    check(folder, artifact)


@pytest.mark.slow
@pytest.mark.parametrize("artifact", ARTIFACTS, ids=lambda artifact: artifact.name)
def test_artifacts_of_a_small_run_can_be_opened(scheduled, artifact):
    check(scheduled / "figures" / "quick", artifact)


def test_names_are_unique_and_every_notebook_is_there():
    assert len({artifact.name for artifact in ARTIFACTS}) == len(ARTIFACTS)
    assert {a.notebook for a in ARTIFACTS} == {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}


def test_the_committed_gallery_is_that_of_the_registry():
    committed = (ROOT / "figures" / "README.md").read_text()
    assert committed == gallery(ROOT / "figures", re.findall(r"^## (.+)$", committed, re.M))


def test_the_gallery_shows_a_profile(tmp_path):
    """What is there is shown with its caption, what is not is said to be missing."""
    shown = Artifact("fig_a", "figure", "03_x", "Fig. 4", "a thing")
    absent = Artifact("table_b", "table", "03_x", "", "b")
    (tmp_path / "standard").mkdir()
    for name in shown.files:
        (tmp_path / "standard" / name).write_text(json.dumps({"caption": "What it shows."}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(artifacts, "ARTIFACTS", (shown, absent))
        artifacts.main([str(tmp_path), "--profiles", "standard"])
    text = (tmp_path / "README.md").read_text()
    assert "| Fig. 4 | `fig_a` | a thing |" in text
    assert "### Fig. 4\n\n![a thing](standard/fig_a.png)\n\nWhat it shows." in text
    assert "### B\n\n`table_b` was not made in this profile." in text
