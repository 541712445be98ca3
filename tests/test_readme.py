from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from decsc_core.denoisers.registry import METHODS
from decsc_core.study import paper
from decsc_core.study.paper import label

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_links_lead_somewhere(target: str) -> None:
    assert (ROOT / target).exists()


def test_commands_exist() -> None:
    from decsc_core.cli import app

    known = {command.name or command.callback.__name__ for command in app.registered_commands}
    used = set(re.findall(r"^decsc (\w+)", README, re.M)) | set(re.findall(r"`decsc (\w+)", README))
    assert used and used <= known


def test_the_results_are_those_of_the_standard_profile() -> None:
    """Every MPSNR of the first table, as `figures/standard/table2_scenes.csv` has it, and the best of each scene bold."""
    results = pd.read_csv(ROOT / "figures/standard/table2_scenes.csv").set_index("method")
    head, _, *lines = re.search(r"^\| method \|.*?\n\n", README, re.M | re.S)[0].strip().splitlines()
    assert [cell.strip() for cell in head.split("|")[2:-2]] == [*results.columns, "mean"]
    told = {}
    for line in lines:
        name, *cells = (cell.strip() for cell in line.split("|")[1:-2])
        told[name] = cells
    assert list(told) == list(results.index)
    results["mean"] = results.mean(axis=1)
    for name, cells in told.items():
        best = results.loc[name] == results.max()
        assert cells == [f"**{value:.2f}**" if best[scene] else f"{value:.2f}" for scene, value in results.loc[name].items()]


def test_the_means_of_every_case_are_those_of_the_standard_profile() -> None:
    """The best method that learns nothing, the best peer that learned, and DECSC (Swin), the best bold; then what the paper prints."""
    table = re.search(r"^\| scenes \| noise case.*?\n\n", README, re.M | re.S)[0].strip().splitlines()[2:]
    told = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table]
    expected = []
    for number, scenes, name in ((2, "CAVE", "table2_close_range"), (3, "remote sensing", "table3_remote_sensing")):
        printed = paper.table(number).query("method == 'decsc'").set_index("case")["psnr"]
        means = pd.read_csv(ROOT / f"figures/standard/{name}.csv").query("index == 'psnr'").set_index("case")
        for case, row in means.drop(columns=["index", label("decsc-mamba")], errors="ignore").astype(float).iterrows():
            cells = []
            for kinds in (("model-driven", "band-wise"), ("learned",), ("equilibrium",)):
                there = [label(method) for method, about in METHODS.items() if about.kind in kinds and label(method) in row]
                best = row[there].idxmax() if there else None
                text = f"{best} {row[best]:.2f}".removeprefix("DECSC ") if best else "–"
                cells.append(f"**{text}**" if best == row.idxmax() else text)
            expected.append([scenes, f"`{case}`", *cells, f"{printed[case]:.2f}"])
    assert told == expected
