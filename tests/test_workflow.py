"""The notebooks as sources, running one of them, and the experiment graph that `run_all.sh` builds."""

from __future__ import annotations

import ast
import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path

import nbformat
import numpy as np
import papermill
import pytest
import snakemake.cli
import yaml

from decsc_core import weights
from decsc_core.denoisers import registry
from decsc_core.networks.catalog import build, configure
from decsc_core.study.artifacts import ARTIFACTS, of_notebook
from decsc_core.study.campaign import read
from decsc_core.study.notebook import NotebookError, run

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PROFILES = sorted(path.stem for path in (ROOT / "config").glob("*.yaml"))
EXTRA_KEYS = "metadata.widgets metadata.papermill cell.metadata.papermill cell.metadata.execution"


def command(*words, cwd=ROOT, **environment) -> subprocess.CompletedProcess:
    return subprocess.run(list(map(str, words)), cwd=cwd, env=os.environ | environment, capture_output=True, text=True)


def planned(*words, profile: Path | str = "config/quick.yaml") -> subprocess.CompletedProcess:
    """What `snakemake -n` says, in this process: starting another takes seconds."""
    out, err = StringIO(), StringIO()
    with chdir(ROOT), redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        snakemake.cli.main(["-n", *words, "--cores", "1", "--configfile", str(profile)])
    code = ended.value.code  # a number, or what is said before ending with 1
    said = f"{code}\n" if isinstance(code, str) else ""
    return subprocess.CompletedProcess(words, 1 if said else int(code or 0), out.getvalue(), err.getvalue() + said)


def source(notebook: Path, kind: str = "code") -> list:
    return [cell for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == kind]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_defaults_of_a_notebook_are_the_quick_profiles(notebook):
    """Whoever runs one by hand gets what the quick profile publishes."""
    profile = yaml.safe_load((ROOT / "config/quick.yaml").read_text())
    part = {"02": "train", "04": "remote", "05": "real", "06": "complexity"}.get(notebook.name[:2])
    shared = {key: value for key, value in (profile | (profile[part] if part else {})).items() if not isinstance(value, dict) or key == "scenes"}
    told = {name: parameter["default"] for name, parameter in papermill.inspect_notebook(notebook).items()}
    defaults = {name: ast.literal_eval(text) for name, text in told.items() if name in shared and name not in ("campaign", "comparison")}
    if notebook.stem in ("01_scenes_and_noise", "11_explore", "14_comparison"):  # which take other parts of them
        defaults = {name: defaults[name] for name in ("profile", "dataset") if name in defaults}
    assert defaults == {name: shared[name] for name in defaults}


@pytest.fixture
def tiny(tmp_path):
    """Write a notebook of code cells; the first is its parameters cell. Returns its path."""

    def write(*cells: str, folder: Path = tmp_path, name: str = "tiny.ipynb") -> Path:
        book = nbformat.v4.new_notebook(
            metadata={"kernelspec": {"name": "python3", "display_name": "", "language": "python"}}
        )
        book.cells = [nbformat.v4.new_code_cell(text, id=f"cell-{number}") for number, text in enumerate(cells)]
        book.cells[0].metadata["tags"] = ["parameters"]
        nbformat.write(book, folder / name)
        return folder / name

    return write


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_sources(notebook):
    """The first cell tells what it is; the parameters are plain literals, each with a comment; no outputs."""
    assert nbformat.read(notebook, as_version=4).cells[0].cell_type == "markdown"
    assert source(notebook, "markdown")[0].source.startswith(f"# {notebook.name[:2]} · ")
    cells = [cell for cell in source(notebook) if "parameters" in cell.metadata.get("tags", [])]
    assert len(cells) == 1
    for line, statement in zip(cells[0].source.splitlines(), ast.parse(cells[0].source).body, strict=True):
        ast.literal_eval(statement.value)
        assert re.search(r"  # \S", line), line
    assert all(cell.execution_count is None and not cell.outputs for cell in source(notebook))


def test_notebooks_are_stripped():
    done = command(sys.executable, "-m", "nbstripout", "--verify", "--keep-id", "--extra-keys", EXTRA_KEYS, *NOTEBOOKS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_misspelt_parameter_is_refused(tiny, tmp_path):
    path = tiny("seed = 0  # x", "print(seed)")
    done = command(
        sys.executable, "-m", "decsc_core.study.notebook", path, tmp_path / "out.ipynb", "--parameters", '{"sed": 1}'
    )
    assert done.returncode == 1
    assert (
        done.stderr.strip().splitlines()[-1]
        == "notebook: tiny.ipynb: does not declare the parameter 'sed'; it declares seed"
    )
    assert not (tmp_path / "out.ipynb").exists()


def test_a_damaged_notebook_is_refused(tmp_path):
    path = tmp_path / "torn.ipynb"
    path.write_text('{"cells": [')
    with pytest.raises(NotebookError, match="torn.ipynb: is damaged, no JSON"):
        run(path, tmp_path / "out.ipynb", {})


def test_parameters_arrive_with_their_types(tiny, tmp_path):
    path = tiny(
        "a = 0  # x\nb = []  # y\nc = {}  # z",
        "import json, pathlib\npathlib.Path('seen').write_text(json.dumps([a, b, c]))",
    )
    values = {"a": 2.5, "b": ["tv", "nlm"], "c": {"decsc": "../w"}}
    assert run(path, tmp_path / "deep" / "out.ipynb", values) == tmp_path / "deep" / "out.ipynb"
    assert json.loads((tmp_path / "seen").read_text()) == list(
        values.values()
    )  # written beside the notebook: it runs there
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["out.ipynb"]


@pytest.mark.parametrize(
    ("failing", "reason"),
    [("raise ValueError('no such\\nthing')", "ValueError: no such;"), ("import os; os._exit(3)", "kernel died")],
)
def test_a_failing_notebook_keeps_its_executed_copy(tiny, tmp_path, failing, reason):
    path, output = tiny("seed = 0  # x", "print('before')", failing, "print('after')"), tmp_path / "out.ipynb"
    with pytest.raises(NotebookError, match="tiny.ipynb: cell 'cell-2' failed") as error:
        run(path, output, {})
    assert reason in str(error.value) and "\n" not in str(error.value)
    assert not output.exists()
    kept = [cell for cell in source(tmp_path / "out.failed.ipynb") if cell.id in ("cell-1", "cell-3")]
    assert kept[0].outputs[0]["text"] == "before\n" and not kept[1].outputs

    tiny("seed = 0  # x")
    run(path, output, {})
    assert output.exists() and not (tmp_path / "out.failed.ipynb").exists()


def test_a_notebook_whose_kernel_does_not_start_leaves_nothing(tiny, tmp_path):
    path = tiny("seed = 0  # x")
    path.write_text(path.read_text().replace('"python3"', '"python1"'))
    with pytest.raises(NotebookError, match="^tiny.ipynb: its kernel does not start, No such kernel named python1$"):
        run(path, tmp_path / "deep" / "out.ipynb", {})
    assert not list((tmp_path / "deep").iterdir())


@pytest.mark.slow
def test_the_training_notebook_trains_a_peer_too(copy):
    """It has no solver to tell of."""
    values = {"method": "qrnn3d", "minutes": 0.05, "validate_every": 2, "runs": "../runs/quick", "figures": "../figures/quick"}
    run(copy / "notebooks/02_train.ipynb", copy / "out.ipynb", values)
    told = json.loads((copy / "figures/quick/fig_training.json").read_text())
    assert "Loss (25) per value and validation MPSNR in training." in told["caption"] and "residual" not in told["caption"]


@pytest.fixture(scope="module", params=PROFILES)
def graph(request) -> str:
    """What Snakemake says about all jobs of a profile."""
    done = planned("-F", "-p", profile=f"config/{request.param}.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_graph_runs_every_notebook_with_parameters_it_declares(graph):
    jobs = [shlex.split(line) for line in graph.splitlines() if "-m decsc_core.study.notebook" in line]
    given = {
        words[words.index("--parameters") - 2]: json.loads(words[words.index("--parameters") + 1]) for words in jobs
    }
    assert set(given) == {f"notebooks/{path.name}" for path in NOTEBOOKS}
    for notebook, parameters in given.items():
        assert set(parameters) <= set(papermill.inspect_notebook(str(ROOT / notebook)))
        assert parameters["figures"] == f"../figures/{parameters['profile']}"


def test_the_graph_publishes_what_the_registry_lists(graph):
    declared = set(re.findall(r"figures/[\w-]+/(\w+\.(?:csv|md|tex|json|pdf|png|html))\b", graph))
    assert declared == {name for artifact in ARTIFACTS for name in artifact.files}


def test_the_table_of_trainings_waits_for_all_that_are_evaluated(graph):
    (drawn,) = re.findall(r"^rule train:\n    input: (.+)$", graph, re.M)
    needed = re.findall(r"^rule evaluate_run:\n    input: .+ (\S+\.safetensors)$", graph, re.M)
    assert needed and set(needed) <= set(drawn.split(", "))


@cache
def imported(module: str, stop: tuple[str, ...]) -> set[str]:
    """The files of the package that a module imports, with those that these import, but for what those of `stop` do."""
    file = ROOT / module.replace(".", "/")
    file = next((path for path in (file.with_suffix(".py"), file / "__init__.py") if path.is_file()), None)
    if file is None:
        return set()
    found, todo = {str(file.relative_to(ROOT))}, []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and module not in stop and (node.module or "").startswith("decsc_core"):
            todo += [node.module, *(f"{node.module}.{name.name}" for name in node.names)]
    return found.union(*(imported(name, (*stop, module)) for name in todo))


def test_rows_depend_on_the_code_of_their_method(graph):
    """All that its module imports, but for what only looks for it: the registry, what reads weights, the device."""
    jobs = re.findall(r"^rule (\w+):\n    input: (.+)\n(?:    .+\n)*?    wildcards: .*method=(\S+)$", graph, re.M)
    assert {(rule, method) for rule, _, method in jobs} >= {("evaluate", "noisy"), ("evaluate", "bm4d"), ("evaluate_run", "decsc"), ("last_steps", "e3dtv"), ("last_steps", "decsc")}
    for rule, inputs, method in jobs:
        if method == "noisy":
            continue
        kind = registry.METHODS[method].kind
        modules = {"equilibrium": ["denoisers.equilibrium"], "learned": ["denoisers.learned", f"networks.{method}"]}.get(kind)
        modules = modules or [f"denoisers.{registry._CLASSES[method.removesuffix('-white')][0]}"]
        modules += ["denoisers.classical.whitened"] if method.endswith("-white") else []
        needed = set().union(*(imported(f"decsc_core.{module}", ("decsc_core", "decsc_core.weights")) for module in modules))
        if rule == "last_steps":
            needed |= set().union(*(imported(f"decsc_core.{module}", ("decsc_core",)) for module in ("denoisers.wiener", "model.gross", "model.misfit", "model.noise_levels")))
            needed |= {"decsc_core/study/last_steps.py"}
        needed |= {"decsc_core/study/evaluate.py", "decsc_core/study/row_files.py"}
        looking = {"decsc_core/__init__.py", "decsc_core/denoisers/__init__.py", "decsc_core/denoisers/device.py", "decsc_core/networks/__init__.py",
                   "decsc_core/denoisers/classical/__init__.py"}
        assert needed - looking <= set(inputs.split(", ")), (rule, method)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_saves_what_the_registry_lists(notebook):
    """The kind of an artifact is told by the writer that the notebook calls and by whether it gives the numbers."""
    saved = {}
    for call in (node for cell in source(notebook) for node in ast.walk(ast.parse(cell.source))):
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") in ("save_table", "save_rows", "save_figure", "save_page"):
            kind = call.func.id.removeprefix("save_")
            curves = kind == "figure" and any(keyword.arg == "data" for keyword in call.keywords)
            saved[call.args[1].value] = "curves" if curves else kind
    assert saved == {artifact.name: artifact.kind for artifact in of_notebook(notebook.stem)}


@pytest.fixture
def copy(copy_workflow, tmp_path) -> Path:
    """The workflow in a folder of its own."""
    return copy_workflow(tmp_path)


def test_run_all_makes_a_notebook_once_and_reports_a_broken_one(copy, tiny):
    target = "runs/quick/notebooks/01_scenes_and_noise.ipynb"
    done = command("./run_all.sh", "--cores", 1, target, cwd=copy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(cell.execution_count for cell in source(copy / target))
    published = copy / "figures/quick/fig_noise_cases.png"
    picture = published.read_bytes()
    told = json.loads(published.with_suffix(".json").read_text())
    assert "standing in for ICVL" in told["caption"] and set(told["provenance"]["scenes"]) == {"chelsea", "coffee"}

    again = command("./run_all.sh", "--cores", 1, target, cwd=copy)
    assert again.returncode == 0 and "Nothing to be done" in again.stdout + again.stderr

    settings = papermill.inspect_notebook(str(NOTEBOOKS[1]))
    parameters = "\n".join(f"{name} = {value['default']}  # x" for name, value in settings.items())
    spoil = "import pathlib\nfor path in pathlib.Path(figures).iterdir():\n    path.unlink()\n1 / 0"
    tiny(parameters, spoil, folder=copy / "notebooks", name="01_scenes_and_noise.ipynb")
    broken = command("./run_all.sh", "--cores", 1, target, cwd=copy)
    assert broken.returncode != 0
    assert "01_scenes_and_noise.ipynb: cell 'cell-1' failed, ZeroDivisionError" in broken.stdout + broken.stderr
    assert (copy / target).with_suffix(".failed.ipynb").exists() and not (copy / target).exists()
    assert published.read_bytes() == picture  # what was published before is not lost


def test_a_training_waits_for_the_one_that_it_begins_from(copy, jobs):
    target = "runs/standard/trained/sst-paper-0/weights.safetensors"
    (copy / "weights/comparison/sst-paper-0.safetensors").unlink()
    done = command("./run_all.sh", "--profile", "standard", "-n", target, cwd=copy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert jobs(done.stdout + done.stderr) == {"train_run": 2}
    assert re.findall(r"^ +output: runs/standard/trained/(\S+)/weights", done.stdout + done.stderr, re.M) == ["sst-paper-15-minutes", "sst-paper-0"]


@pytest.mark.slow
def test_rows_are_computed_again_for_new_and_changed_scenes(copy, jobs, tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    (data / "own" / "test").mkdir(parents=True)
    rng = np.random.default_rng(0)
    field, town = data / "own/test/my field.npy", data / "own/test/town.npy"
    every, one = "runs/quick/rows/own-gauss-15-noisy.csv", "runs/quick/rows/my field/own-as-is-noisy.csv"

    def made(*words, data=data) -> dict[str, int]:
        done = command("./run_all.sh", "--cores", 1, *words, every, one, cwd=copy, DECSC_DATA=str(data))
        assert done.returncode == 0, done.stdout + done.stderr
        told = done.stdout + done.stderr
        return {} if "Nothing to be done" in told else jobs(told)

    np.save(field, rng.random((20, 20, 31), dtype=np.float32))
    assert made() == {"evaluate": 2} and (copy / one).is_file()
    moved = shutil.copytree(data, data.with_name("moved"))
    assert made("-n", data=moved) == {}, "neither place nor date of the same file count"
    np.save(field, rng.random((20, 20, 31), dtype=np.float32))
    assert made() == {"evaluate": 2}
    np.save(town, rng.random((20, 20, 31), dtype=np.float32))
    assert made() == {"evaluate": 1}
    assert {row["scene"] for row in csv.DictReader((copy / every).open())} == {"my field", "town"}


CHAIN = """
parent: {method: qrnn3d, preset: tiny, dataset: photos, patches: 4, seed: 0}
child: {method: qrnn3d, preset: tiny, dataset: photos, start: parent, patches: 4}
"""


def publish(folder: Path, run: str) -> weights.Weights:
    """Put a network where the workflow finds the published one of a run, and let it tell of that run's training."""
    campaign, name = run.split("/")
    config = read(folder / f"campaigns/{campaign}.yaml", folder)[name]
    path = folder / f"weights/{run}.safetensors"
    path.parent.mkdir(exist_ok=True)
    story = weights.load(ROOT / "weights/comparison/qrnn3d-0.safetensors").story
    weights.save(build(config.model), path, story | {"training": config.to_json()})
    return weights.load(path)


def train_child(folder: Path, *words) -> str:
    """Let the workflow make the network `child` of the quick profile; what Snakemake says."""
    done = command("./run_all.sh", "--cores", 1, *words, "runs/quick/trained/child/weights.safetensors", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_an_edited_campaign_trains_its_run_and_those_that_begin_from_it_anew(copy, jobs):
    file, folder = copy / "campaigns/ablation-quick.yaml", copy / "runs/quick/trained"
    file.write_text(CHAIN)
    assert jobs(train_child(copy)) == {"train_run": 2}
    file.write_text(CHAIN.replace("seed: 0", "seed: 7"))
    assert jobs(train_child(copy)) == {"train_run": 2}
    parent, child = (weights.load(folder / run / "weights.safetensors") for run in ("parent", "child"))
    assert parent.story["training"]["seed"] == 7 and child.story["ancestor"]["sha256"] == parent.sha256
    assert (folder / "parent.old-1/checkpoint.pt").is_file() and (folder / "child.old-1/checkpoint.pt").is_file()

    os.utime(parent.path)
    file.write_text(f"{file.read_text()}\n")
    assert "Nothing to be done" in train_child(copy), "dates alone train nothing anew"


@pytest.mark.slow
def test_a_training_begins_from_published_weights(copy, jobs):
    (copy / "campaigns/ablation-quick.yaml").write_text(CHAIN)
    published = publish(copy, "ablation-quick/parent")
    assert jobs(train_child(copy)) == {"published_run": 1, "train_run": 1}
    child = weights.load(copy / "runs/quick/trained/child/weights.safetensors")
    assert child.story["ancestor"]["sha256"] == published.sha256
    os.utime(published.path)
    assert "train_run" not in train_child(copy), "dates alone train nothing anew"
    weights.save(published.model, published.path, published.story | {"another": "training"})
    assert jobs(train_child(copy, "-n")) == {"published_run": 1, "train_run": 1}


@pytest.mark.slow
def test_the_training_notebook_is_run_again_for_new_scenes_and_needs_none_for_tests(copy, tiny, tmp_path_factory):
    settings = papermill.inspect_notebook(str(ROOT / "notebooks/02_train.ipynb"))
    tiny(
        "\n".join(f"{name} = {value['default']}  # x" for name, value in settings.items()),
        "from pathlib import Path\nfrom decsc_core.study.artifacts import of_notebook\n"
        "for artifact in of_notebook('02_train'):\n    for name in artifact.files:\n        (Path(figures) / name).touch()",
        folder=copy / "notebooks", name="02_train.ipynb",
    )
    (copy / "campaigns/ablation-quick.yaml").write_text(CHAIN)
    (copy / "campaigns/comparison-quick.yaml").write_text("alone: {method: qrnn3d, preset: tiny, dataset: photos, patches: 4}\n")
    for run in ("ablation-quick/parent", "ablation-quick/child", "comparison-quick/alone"):
        publish(copy, run)
    data = tmp_path_factory.mktemp("data")
    for split in ("train", "validation"):
        (data / "own" / split).mkdir(parents=True)
        np.save(data / "own" / split / f"{split}.npy", np.random.default_rng(0).random((64, 64, 31), dtype=np.float32))

    def made(*words) -> str:
        done = command(
            "./run_all.sh", "--cores", 1, "runs/quick/notebooks/02_train.ipynb", "--config", "train={dataset: own}", *words,
            cwd=copy, DECSC_DATA=str(data),
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    made()
    assert "Nothing to be done" in made("-n")
    np.save(data / "own/train/another.npy", np.ones((64, 64, 31), np.float32))
    assert re.search(r"^train +1$", made("-n"), re.M)


def test_the_readme_s_commands_for_clusters_plan_the_same_jobs(copy, jobs):
    readme = (ROOT / "README.md").read_text().replace("\\\n", " ").replace("/shared/decsc", str(copy))
    plans = {}
    for words, executor in re.findall(r"^.*\./run_all\.sh (.* --executor (slurm|kubernetes) .*)$", readme, re.M):
        done = command("./run_all.sh", *shlex.split(words), "-n", "-p", "--forceall", cwd=copy, DECSC_DATA="/shared/data")
        assert done.returncode == 0, done.stdout + done.stderr
        plans[executor] = done.stdout
        asked = re.findall(r"^    resources: .*\bgpu=(\d)", done.stdout, re.M)
        assert set(asked) == {"0", "1"}
    assert jobs(plans["slurm"]) == jobs(plans["kubernetes"])
    # A pod has only copies of what its job declares, in a folder of the storage plugin.
    commands = re.findall(r"^Shell command: (.+)$", plans["kubernetes"], re.M)
    assert not [words for words in commands if re.search(r"(?<![\w/.])(campaigns|figures|notebooks|runs)/", words)]


def test_remote_sensing_scenes_have_their_own_weights(tmp_path):
    """A method that has none of its own there takes those of the close-range scenes, or of the package."""
    profile = yaml.safe_load((ROOT / "config/standard.yaml").read_text())
    del profile["remote"]["weights"]["sst"]
    (tmp_path / "standard.yaml").write_text(yaml.safe_dump(profile))
    folders = {"cave-mixture": "", "remote-mixture": "", "real-noise-as-is": "eo1_hyperion_paris/"}
    wanted = [f"runs/standard/rows/{place}{name}-{method}.csv" for name, place in folders.items() for method in ("hsdt", "sst", "decsc")]
    done = planned("-p", "--forceall", *wanted, profile=tmp_path / "standard.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    used = re.findall(r"--dataset (\S+) .*--method (\S+) .*--weights (\S*) ?>", done.stdout)
    weights_of = {(dataset, method): Path(path).stem for dataset, method, path in used}
    assert weights_of == {
        (dataset, method): stem
        for dataset, trained in (("cave", "paper"), ("remote", "remote"), ("real-noise", "remote"))
        for method, stem in (("hsdt", f"hsdt-{trained}-0"), ("sst", "sst-long-0"), ("decsc", ""))
    }


def test_notebooks_of_remote_sensing_scenes_are_told_their_weights():
    """With other ones they would compute the rows anew."""
    wanted = [f"runs/standard/notebooks/{name}.ipynb" for name in ("03_close_range", "04_remote_sensing", "05_real_noise", "12_report")]
    done = planned("-p", "--forceall", *wanted, profile="config/standard.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.findall(r"notebooks/(\d\d)_\w+\.ipynb --parameters '(\{.*\})' >", done.stdout)
    told = {number: json.loads(values) for number, values in found}
    assert {number: Path(told[number]["weights"]["hsdt"]).stem for number in ("03", "04", "05", "12")} == {
        "03": "hsdt-paper-0", "04": "hsdt-remote-0", "05": "hsdt-remote-0", "12": "hsdt-paper-0"
    }
    assert told["12"]["remote"]["weights"] == told["04"]["weights"]


def test_a_scene_that_its_data_set_does_not_have_is_told_before_anything_runs(copy):
    profile = copy / "config/quick.yaml"
    profile.write_text(profile.read_text().replace("{chelsea: photos, ", "{nope: photos, "))
    done = command("./run_all.sh", cwd=copy)
    assert done.returncode == 1 and "profile quick: photos has no scene 'nope'; it has astronaut, " in done.stderr
    assert not (copy / "runs").exists() and "Traceback" not in done.stderr


def test_scenes_of_more_bands_than_the_networks_are_told_before_anything_runs(copy, tmp_path, monkeypatch):
    for split in ("train", "validation", "test"):
        folder = tmp_path / "data/own" / split
        folder.mkdir(parents=True)
        np.save(folder / f"{split}.npy", np.random.default_rng(0).random((16, 16, 40), np.float32))
    monkeypatch.setenv("DECSC_DATA", str(tmp_path / "data"))
    profile = copy / "config/quick.yaml"
    profile.write_text(profile.read_text().replace("\ndataset: photos", "\ndataset: own"))
    done = command("./run_all.sh", cwd=copy)
    assert done.returncode == 1
    assert done.stderr.count("profile quick: dataset: scenes of 'own' have 40 bands, its networks 31; give them as remote") == 1


def test_a_profile_may_name_either_reading_of_mixture_noise(tmp_path):
    profile = tmp_path / "quick.yaml"
    text = (ROOT / "config/quick.yaml").read_text()
    profile.write_text(re.sub(r"(?m)^case: \S+", "case: mixture-disjoint", re.sub(r"(?m)^cases: .*", "cases: [mixture-disjoint, mixture-independent]", text)))
    done = planned(profile=profile)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "photos-mixture-disjoint-decsc.csv" in done.stdout


def test_published_weights_of_another_training_are_told_before_anything_runs(copy):
    (copy / "campaigns/ablation-quick.yaml").write_text(CHAIN)
    story = weights.load(ROOT / "weights/comparison/qrnn3d-0.safetensors").story
    (copy / "weights/ablation-quick").mkdir()
    weights.save(build(configure("qrnn3d", "tiny")), copy / "weights/ablation-quick/parent.safetensors", story)
    done = command("./run_all.sh", cwd=copy)
    assert done.returncode == 1 and not (copy / "runs/quick").exists()
    assert "campaigns/ablation-quick.yaml: parent is published as weights/ablation-quick/parent.safetensors, but there " in done.stderr


def test_missing_data_is_one_clear_line(copy):
    done = command("./run_all.sh", "--profile", "standard", cwd=copy, DECSC_DATA=str(copy / "nothing"))
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("profile standard: CAVE")]
    assert len(lines) == 1 and "(DECSC_DATA)" in lines[0] and str(copy / "nothing") in lines[0]
    assert not (copy / "runs/standard/rows").exists() and "Traceback" not in done.stderr


def test_the_numbers_of_a_section_are_numbers_on_the_command_line_too():
    target = "runs/quick/notebooks/02_train.ipynb"
    done = planned("-p", target, "--forcerun", "train", "--config", "train={minutes: 0.5, preset: small}")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(re.search(r"--parameters '(\{.*?\})' >", next(line for line in done.stdout.splitlines() if "02_train.ipynb --parameters" in line)).group(1))
    assert (told["minutes"], told["preset"]) == (0.5, "small")


@pytest.mark.parametrize("crop, given", [("null", set()), ("40", {"40"})])
def test_scenes_are_taken_whole_or_their_centre(crop, given):
    done = planned("-p", "--config", f"crop={crop}")
    assert done.returncode == 0 and "decsc_core.study.evaluate" in done.stdout
    assert set(re.findall(r"--crop (\S+)", done.stdout)) == given


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("datset=cave", "Additional properties are not allowed ('datset' was unexpected); there are profile, seed, "),
        ("crop=8", "crop: 8 is less than the minimum of 11"),
        ("crop=abc", "crop: 'abc' is not of type 'integer', 'null'"),
        ("threads=0", "threads: 0 is less than the minimum of 1"),
        ("seed=-1", "seed: -1 is less than the minimum of 0"),
        ("methods=decsc", "methods: 'decsc' is not of type 'array'; give a list of names, each once"),
        ("cases=[]", "cases: [] should be non-empty; give a list of names, each once"),
        ("remote={methods: [noisy, tv, tv]}", "remote.methods: ['noisy', 'tv', 'tv'] has non-unique elements; give a list of names, each once"),
        ("cases=[mixture]", "case: 'gauss-95' is not one of cases, mixture"),
        ("remote={case: corr}", "remote.case: 'corr' is not one of remote.cases, mixture"),
        ("dataset=[photos]", "dataset: ['photos'] is not one of ['photos', 'cave', "),
        ("campaign=3", "campaign: 3 is not of type 'string'"),
        ("profile=standard", "profile: 'standard' is another one, which this would overwrite; write quick"),
        ("weights=x", "weights: 'x' is not of type 'object'; give a mapping of methods to files"),
        ("weights={sst: [3]}", "weights.sst: ['3'] is not of type 'string'"),
        ("remote={weights: []}", "remote.weights: [] is not of type 'object'; give a mapping of methods to files"),
        ("real={case: [mixture]}", "real.case: ['mixture'] is not one of ['gauss-15', "),
        ("train={case: gauss-5}", "train.case: 'gauss-5' is not one of ['gauss-15', "),
        ("comparison=config/quick.yaml", "comparison: cannot be used: config/quick.yaml: expected a mapping of names to runs"),
        ("dataset=caves", "dataset: 'caves' is not one of ['photos', 'cave', "),
        ("methods=[noisy,bm5d]", "methods.1: 'bm5d' is not one of ['noisy', 'decsc', "),
        ("weights={decs: weights/decsc-small-mixture.safetensors}", "weights: 'decs' is not one of ['decsc', "),
        ("complexity={methods: [noisy, bm4d]}", "complexity.methods.0: 'noisy' is not one of ['decsc', "),
        ("train={preset: tinny}", "train.preset: 'tinny' is not one of paper, small, tiny"),
        ("train={method: tv}", "train.method: 'tv' is not one of ['decsc', "),
        ("complexity={size: large}", "complexity.size: 'large' is not of type 'integer'"),
        ("complexity={methods: [decsc-mamba]}", "complexity.methods: none of them is one of methods, whose scores the table takes; add one to both"),
        ("complexity={shifts: 0}", "complexity.shifts: 0 is less than the minimum of 1"),
        ("train={minutes: 0}", "train.minutes: 0 is less than or equal to the minimum of 0"),
        ("complexity={sizes: 128}", "complexity: Additional properties are not allowed ('sizes' was unexpected); there are size, shifts, methods"),
        ("real={scenes: [chelsea]}", "real.scenes: ['chelsea'] is not of type 'object'; give two scenes and the data set of each"),
        ("real={scenes: {cat: photos}}", "has too many properties; give two scenes and the data set of each"),
        ("real={methods: [decsc, noisy]}", "real.methods.0: 'noisy' was expected"),
        ("real={methods: [noisy]}", "real.methods: ['noisy'] is too short; give noisy first, with which the others are compared"),
        ("campaign=no.yaml", "campaign: no.yaml cannot be read: No such file or directory"),
        ("remote={weights: {hsdt: weights/comparison/hsdt-1.safetensors}}", "remote.weights: are for other scenes than those of 'photos'"),
    ],
)
def test_a_wrong_profile_is_one_line(changed, message):
    done = planned("--config", changed)
    assert done.returncode == 1
    assert done.stderr.startswith("the profile: ") and message in done.stderr and done.stderr.count("\n") == 1


def test_a_profile_that_says_one_thing_twice_is_refused(tmp_path):
    profile = tmp_path / "mine.yaml"
    profile.write_text((ROOT / "config/quick.yaml").read_text().replace("profile: quick", "profile: mine") + "\nseed: 5\n")
    done = planned(profile=profile)
    assert done.returncode == 1 and f"{profile}: not YAML ('seed' stands twice)" in done.stderr and "Traceback" not in done.stderr


def test_run_all_tells_of_a_wrong_profile():
    done = command("./run_all.sh", "-n", "--config", "datset=cave")
    assert done.returncode == 1 and "the profile: Additional properties are not allowed ('datset' was unexpected)" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--profile", "papre"], "run_all.sh: no profile 'papre'; there are: paper quick standard"),
        (["--profile"], "run_all.sh: --profile needs a name"),
        (["setup", "now"], "run_all.sh: setup takes no arguments"),
    ],
)
def test_run_all_refuses_what_it_does_not_know(arguments, message):
    done = command("./run_all.sh", *arguments)
    assert done.returncode == 2 and done.stderr.strip() == message


@pytest.mark.parametrize(
    ("gpus", "words", "limits"),
    [
        (2, ["-n"], "--resources gpu=2"),
        (0, ["-n", "all"], "--resources gpu=1"),
        (2, ["--resources", "gpu=5", "-n"], "--resources gpu=5"),
        (2, ["--executor", "slurm", "-n"], ""),
    ],
)
def test_no_more_trainings_at_once_than_gpus(gpus, words, limits, tmp_path):
    """Stubs stand in for the two programs."""
    listed = "".join(f"GPU {number}: NVIDIA H200 (UUID: GPU-{number})\\n" for number in range(gpus))
    for name, script in (("nvidia-smi", f"printf '{listed}'"), ("snakemake", 'echo "$@"')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    done = command("./run_all.sh", "--profile", "paper", *words, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    assert re.findall(r"--resources \S+", done.stdout) == [limits] * bool(limits)
    assert re.search(r"--resources \S+ (-n|--configfile)", done.stdout) or not limits, "or it would take a target as one more resource"


def test_run_all_is_sound_bash_and_explains_itself():
    assert command("bash", "-n", "run_all.sh").returncode == 0
    told = command("./run_all.sh", "--help").stdout
    assert "--profile NAME" in told and "DECSC_DATA" in told
