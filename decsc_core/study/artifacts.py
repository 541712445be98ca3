"""Everything that is published: each table and figure once, with the paper's item and the notebook that makes it.

The workflow takes its outputs from here, the tests what to open, and ``figures/README.md`` its lines:

    python -m decsc_core.study.artifacts figures [--profiles standard]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from decsc_core.atomic import write_text

ENDINGS = {
    "table": ("csv", "md", "tex", "json"),
    "figure": ("pdf", "png", "json"),
    "curves": ("pdf", "png", "json", "csv"),
    "rows": ("csv", "json"),
    "page": ("html", "csv"),
}
"""The files of each kind of artifact.

Curves are a figure with its numbers, as a page is text with its numbers; rows are what a table's means are taken over.
"""


@dataclass(frozen=True)
class Artifact:
    """One published table or figure.

    Parameters
    ----------
    name : str
        Of its files, in the folder of a profile.
    kind : str
        One of `ENDINGS`.
    notebook : str
        The notebook that makes it, without ending.
    item : str
        What it is in the paper; empty if the paper has no such table or figure.
    shows : str
        What is to be seen, in a few words.
    """

    name: str
    kind: str
    notebook: str
    item: str
    shows: str

    @property
    def files(self) -> tuple[str, ...]:
        """Names of its files."""
        return tuple(f"{self.name}.{end}" for end in ENDINGS[self.kind])


_PUBLISHED = {
    "00_method": (
        ("table1_notation", "table", "Table I", "the symbols, each with its code"),
        ("fig01_equilibrium", "curves", "Fig. 1", "forward and backward pass, evaluation by evaluation"),
        ("fig02_layer", "curves", "Fig. 2", "the layer f: what is computed from what"),
        ("fig03_difference", "curves", "Fig. 3", "the branches of the difference convolution"),
        ("table_paper_and_release", "table", "", "where the paper and the authors' release differ"),
    ),
    "01_scenes_and_noise": (
        ("table_scenes", "table", "", "the test scenes: size, bands, rank"),
        ("fig_scenes", "figure", "", "the test scenes in false colour, and spectra"),
        ("fig_noise_cases", "figure", "", "what each noise case does to a band, a spectrum, a row mean"),
        ("table_noise_levels", "table", "", "MPSNR of the noisy cube, expected and measured"),
    ),
    "02_train": (
        ("table_training", "table", "", "a training run in numbers"),
        ("fig_training", "curves", "", "loss, MPSNR, residual and evaluations while it trains"),
        ("fig_training_crop", "figure", "", "what the trained network makes of a validation scene"),
        ("training", "table", "", "the published weights: what each training cost and reached"),
    ),
    "03_close_range": (
        ("table2_close_range", "table", "Table II", "every method and noise case, means over the test scenes"),
        ("table2_scenes", "table", "", "MPSNR of each test scene"),
        ("table2_rows", "rows", "", "the rows behind Table II: every scene, noise case and method"),
        ("fig04_close_range", "figure", "Fig. 4", "false colour, every method"),
        ("fig05_row_mean", "curves", "Fig. 5", "row-mean profiles, every method"),
        ("fig05_differences", "table", "", "distance of each row-mean profile from the clean one"),
        ("table_mixture_readings", "table", "", "what depends on how the mixture noise is read"),
    ),
    "04_remote_sensing": (
        ("table3_remote_sensing", "table", "Table III", "every method and noise case, means over the test scenes"),
        ("table3_scenes", "table", "", "MPSNR of each test scene"),
        ("table3_rows", "rows", "", "the rows behind Table III: every scene, noise case and method"),
        ("fig06_remote_sensing", "figure", "Fig. 6", "false colour, every method"),
        ("fig07_row_mean", "curves", "Fig. 7", "row-mean profiles, every method"),
        ("fig07_differences", "table", "", "distance of each row-mean profile from the clean one"),
    ),
    "05_real_noise": (
        ("fig08_real_noise", "figure", "Fig. 8", "false colour of a noisy scene, every method"),
        ("fig09_row_mean", "curves", "Fig. 9", "its row-mean profiles"),
        ("fig10_real_noise", "figure", "Fig. 10", "false colour of another noisy scene"),
        ("fig11_row_mean", "curves", "Fig. 11", "its row-mean profiles"),
        ("table_no_reference", "table", "", "measures without a reference, every method"),
    ),
    "06_complexity": (
        ("table4_complexity", "table", "Table IV", "parameters, multiply-accumulates, seconds, memory, MPSNR"),
        ("table4_gmacs", "table", "", "multiply-accumulates by size of the image, and the paper's count"),
        ("table_copies", "table", "", "what averaging more shifted copies gains"),
        ("fig_copies", "curves", "", "what averaging more copies gains on each scene"),
    ),
    "07_ablation": (
        ("table5_ablation", "table", "Table V", "what each module is worth"),
        ("table5_rows", "rows", "", "the rows behind Table V: every scene, network and seed of its training"),
        ("fig_ablation", "curves", "", "what each module is worth on every scene and for every seed of training"),
    ),
    "08_convergence": (
        ("fig12_convergence", "curves", "Fig. 12", "MPSNR and residual against evaluations of f"),
        ("table_convergence", "table", "", "each solver: evaluations, residual, spectral radius"),
        ("table_deeper", "table", "", "five times as deep as in use: MPSNR, residual, who converges"),
        ("fig_deeper", "curves", "", "five times as deep as in use, evaluation by evaluation"),
        ("fig_spread", "curves", "", "the spread over shifts beside the true error, and its calibration"),
    ),
    "09_dictionary_size": (
        ("fig13_shared_atoms", "curves", "Fig. 13", "MPSNR against the number of shared atoms"),
        ("fig14_unshared_atoms", "curves", "Fig. 14", "MPSNR against the number of unshared atoms"),
        ("table_dictionary_size", "table", "", "MPSNR against the numbers of atoms, in numbers"),
    ),
    "10_neumann": (
        ("fig15_neumann", "curves", "Fig. 15", "phantom against exact gradient, and memory, by L"),
        ("table_neumann", "table", "", "phantom against exact gradient, in numbers"),
    ),
    "11_explore": (
        ("fig_explore", "figure", "", "what the explorers begin with"),
    ),
    "13_choices": (
        ("table_choices", "table", "", "what the small networks change of the release, and what each change is worth"),
        ("fig_choices", "curves", "", "what each choice does to MPSNR and residual, evaluation by evaluation"),
        ("table_misfit", "table", "", "how much of what the dictionaries cannot represent is best added back"),
        ("table_networks", "table", "", "DECSC's published networks side by side: for all noise or for some, small or of the paper's size"),
    ),
    "14_comparison": (
        ("table_comparison", "table", "", "the learned methods after short trainings on the same scenes"),
        ("fig_comparison", "curves", "", "the learned methods after short trainings, every seed"),
        ("table_tuned", "table", "", "what some of them gain by further training for one noise case alone"),
        ("table_misfit_gains", "table", "", "what the last steps of DECSC's denoiser would give to every method"),
        ("table_further_estimates", "table", "", "what further estimates, nearer to those before, would give to the peers in mixture noise"),
    ),
    "12_report": (
        ("report", "page", "Tables II-V", "every printed number beside ours, faults of the paper, all of the above"),
    ),
}
"""Name, kind, the paper's item and what it shows of each artifact, by notebook."""
ARTIFACTS = tuple(
    Artifact(name, kind, notebook, item, shows)
    for notebook, rows in _PUBLISHED.items()
    for name, kind, item, shows in rows
)
"""All of it, in the order of the notebooks."""


def of_notebook(notebook: str) -> tuple[Artifact, ...]:
    """What one notebook publishes."""
    return tuple(artifact for artifact in ARTIFACTS if artifact.notebook == notebook)


def gallery(folder: Path, profiles: Sequence[str] = ()) -> str:
    """The text of ``figures/README.md``: every artifact, then the pictures and tables of some profiles.

    Parameters
    ----------
    folder : path
        The folder of the profiles' folders.
    profiles : sequence of str
        Those to show.
    """
    lines = [
        "# Tables and figures",
        "",
        "One line for each, from `decsc_core/study/artifacts.py`. `./run_all.sh --profile NAME` makes them in",
        "`figures/NAME/`: a table as `.csv` (full precision), `.md` and `.tex`, a figure as `.pdf` and `.png`, curves",
        "also as `.csv`, rows (of a scene, noise case and method each) as `.csv`, each with a `.json` of its caption and",
        "provenance: data, weights, code, versions. All of it is in `report.html` as well, one file.",
        "",
        "| paper | files | what it shows | notebook |",
        "|---|---|---|---|",
    ]
    for a in ARTIFACTS:
        link = f"[{a.notebook}](../notebooks/{a.notebook}.ipynb)"
        lines.append(f"| {a.item or '–'} | `{a.name}` | {a.shows} | {link} |")
    for profile in profiles:
        lines += ["", f"## {profile}"]
        for artifact in ARTIFACTS:
            shows = artifact.shows[0].upper() + artifact.shows[1:]
            lines += ["", f"### {f'{artifact.item}: {artifact.shows}' if artifact.item else shows}", ""]
            lines += _shown(folder, profile, artifact)
    return "\n".join(lines) + "\n"


def _shown(folder: Path, profile: str, artifact: Artifact) -> list[str]:
    """One artifact of a profile: its picture or table with its caption, or that it was not made."""
    stem = folder / profile / artifact.name
    if not all((folder / profile / name).is_file() for name in artifact.files):
        return [f"`{artifact.name}` was not made in this profile."]
    if artifact.kind == "page":
        return [f"[{artifact.shows}]({profile}/{artifact.name}.html)"]
    if artifact.kind == "table":
        return stem.with_suffix(".md").read_text().splitlines()
    caption = json.loads(stem.with_suffix(".json").read_text())["caption"]
    if artifact.kind == "rows":
        return [f"[`{artifact.files[0]}`]({profile}/{artifact.files[0]})", "", caption]
    return [f"![{artifact.shows}]({profile}/{artifact.name}.png)", "", caption]


def main(arguments: Sequence[str] | None = None) -> None:
    """Write README.md of the folder of figures."""
    parser = argparse.ArgumentParser(prog="python -m decsc_core.study.artifacts", description=main.__doc__)
    parser.add_argument("folder", type=Path, help="the folder of the profiles' folders")
    parser.add_argument("--profiles", nargs="*", default=(), help="profiles whose pictures and tables to show")
    options = parser.parse_args(arguments)
    write_text(options.folder / "README.md", gallery(options.folder, options.profiles))


if __name__ == "__main__":
    main()
