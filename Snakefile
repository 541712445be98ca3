"""The experiment graph: one rule a notebook, and one for the rows that their tables and figures are drawn from.

A profile of config/ says what runs. Executed notebooks land in runs/<profile>/notebooks/, rows in runs/<profile>/rows/,
logs in runs/<profile>/logs/, and what is published in figures/<profile>/.
"""

import json
import os
import sys
from pathlib import Path

from decsc_core.denoisers.registry import METHODS
from decsc_core.noise import CASES
from decsc_core.scenes import DATASETS, SceneError, load_scene, scene_names

KEYS = {"profile", "seed", "dataset", "cases", "case", "methods", "crop", "weights", "train", "threads", "gpus", "mem_mb", "runtime"}
NAMES = {"dataset": DATASETS, "case": CASES, "method": ["noisy", *METHODS]}
for wrong in sorted(set(config) ^ KEYS):
    what = "not a key of" if wrong in config else "missing in"
    sys.exit(f"{wrong!r} is {what} the profile; a profile has {', '.join(sorted(KEYS))}")
chosen = [
    ("dataset", config["dataset"]),
    *(("case", name) for name in [*config["cases"], config["case"]]),
    *(("method", name) for name in config["methods"]),
]
for kind, name in chosen:
    if name not in NAMES[kind]:
        sys.exit(f"the profile's {kind} {name!r} does not exist; there are {', '.join(NAMES[kind])}")

PROFILE = config["profile"]
RUNS, FIGURES = f"runs/{PROFILE}", f"figures/{PROFILE}"


def code(*patterns):
    """Files of the package that decide a result: when one of them changes, the result is made again."""
    return sorted(str(path) for pattern in patterns for path in Path("decsc_core").glob(pattern))


DATA = code("noise.py", "metrics.py", "scenes/*.py")
NETWORK = code(
    "deq.py", "weights.py", "model/*.py", "denoisers/base.py", "denoisers/equilibrium.py", "denoisers/tiling.py"
)
DRAWING = code("study/figures.py", "study/tables.py", "study/captions.py", "study/paper.py", "study/cubes.py")
WIDGETS = code("widgets/*.py", "study/convergence.py", "study/evaluate.py")
CLASSICAL = code("denoisers/base.py", "denoisers/classical/*.py")
PEERS = code("networks/*.py", "weights.py", "denoisers/base.py", "denoisers/learned.py", "denoisers/tiling.py")
BAND_WISE = code("denoisers/base.py", "denoisers/bandwise.py")


def method_code(method):
    """The code of a method: that of its kind, less what is only another method's."""
    kind = METHODS[method].kind
    every = {"equilibrium": NETWORK, "learned": PEERS, "model-driven": CLASSICAL, "band-wise": BAND_WISE}[kind]
    return [path for path in every if Path(path).stem not in METHODS or Path(path).stem == method]


def configured_weights(method):
    """The weights file that the profile names for a method, as a list; an empty one means the shipped weights."""
    return [config["weights"][method]] if method in config["weights"] else []


def method_files(method):
    """The code and the weights of a method; none for the noisy cube itself."""
    if method not in METHODS:
        return []
    return method_code(method) + (configured_weights(method) or code(f"shipped/{method}-*.safetensors"))


def is_heavy(method):
    """Whether jobs of this method get the GPUs, memory and minutes of the profile, not the least."""
    return method in METHODS and METHODS[method].kind != "band-wise"


def is_network(method):
    """Whether jobs of this method get the threads of the profile; the others gain little from more than one."""
    return method in METHODS and METHODS[method].kind in ("equilibrium", "learned")


def rows(case, method):
    """The files of the rows of one method and noise case."""
    return [f"{RUNS}/rows/{config['dataset']}-{case}-{method}.{end}" for end in ("csv", "json", "npy")]


def table(name):
    """The files of a published table; `update` keeps the old ones if the job fails."""
    return [update(f"{FIGURES}/{name}.{end}") for end in ("csv", "md", "tex", "json")]


def figure(name, *more):
    """The files of a published figure; `more` is "csv" where the numbers behind its curves are saved."""
    return [update(f"{FIGURES}/{name}.{end}") for end in ("pdf", "png", "json", *more)]


def from_notebooks(path):
    """A path as seen from notebooks/, where notebooks run; an empty one stays empty."""
    return os.path.relpath(path, "notebooks") if path else path


def parameters(**values):
    """The parameters of a notebook as JSON: these, and those that all have."""
    return json.dumps(
        {"profile": PROFILE, "seed": config["seed"], "figures": from_notebooks(FIGURES), **values}
    )


NOTEBOOK = (
    "OMP_NUM_THREADS={threads} python -m decsc_core.study.notebook {input.notebook} {output.executed}"
    " --parameters {params.values:q} > {log} 2>&1 || {{ grep '^notebook: ' {log} >&2; exit 1; }}"
)


onstart:
    for name in {config["dataset"], config["train"]["dataset"]}:
        try:
            load_scene(name, scene_names(name, "test")[0])
        except SceneError as error:
            sys.exit(f"profile {PROFILE}: {error}")


rule all:
    input:
        expand(
            f"{RUNS}/notebooks/{{name}}.ipynb",
            name=["00_method", "01_scenes_and_noise", "02_train", "03_close_range", "08_convergence", "11_explore"],
        ),


rule evaluate:
    """Score one method on the test scenes."""
    input:
        DATA,
        "decsc_core/study/evaluate.py",
        lambda wildcards: method_files(wildcards.method),
    output:
        multiext(f"{RUNS}/rows/{{dataset}}-{{case}}-{{method}}", ".csv", ".json", ".npy"),
    wildcard_constraints:
        dataset="|".join(NAMES["dataset"]),
        case="|".join(NAMES["case"]),
        method="|".join(NAMES["method"]),
    params:
        seed=config["seed"],
        crop=f"--crop {config['crop']}" if config["crop"] else "",
        weights=lambda wildcards: configured_weights(wildcards.method),
    threads: lambda wildcards: config["threads"] if is_network(wildcards.method) else 1
    resources:
        mem_mb=lambda wildcards: config["mem_mb"] if is_heavy(wildcards.method) else 4000,
        runtime=lambda wildcards: config["runtime"] if is_heavy(wildcards.method) else 60,
        gpu=lambda wildcards: config["gpus"] if is_heavy(wildcards.method) else 0,
    log:
        f"{RUNS}/logs/rows-{{dataset}}-{{case}}-{{method}}.log",
    shell:
        "OMP_NUM_THREADS={threads} python -m decsc_core.study.evaluate --profile {PROFILE} --folder {RUNS}/rows"
        " --dataset {wildcards.dataset} --case {wildcards.case} --method {wildcards.method} --seed {params.seed}"
        " {params.crop} --weights {params.weights:q} > {log} 2>&1 || {{ tail -n 1 {log} >&2; exit 1; }}"


rule method:
    """Table I and the equations, each beside its code."""
    input:
        NETWORK,
        code("noise.py", "study/paper_code.py", "study/train.py"),
        WIDGETS,
        notebook="notebooks/00_method.ipynb",
    output:
        table("table1_notation"),
        table("table_paper_and_release"),
        executed=f"{RUNS}/notebooks/00_method.ipynb",
    params:
        values=parameters(),
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    log:
        f"{RUNS}/logs/00_method.log",
    shell:
        NOTEBOOK


rule scenes_and_noise:
    """Eq. 26, the noise cases, the scenes."""
    input:
        DATA,
        DRAWING,
        WIDGETS,
        notebook="notebooks/01_scenes_and_noise.ipynb",
    output:
        table("table_scenes"),
        figure("fig_scenes"),
        figure("fig_noise_cases"),
        table("table_noise_levels"),
        executed=f"{RUNS}/notebooks/01_scenes_and_noise.ipynb",
    params:
        values=parameters(dataset=config["dataset"]),
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    log:
        f"{RUNS}/logs/01_scenes_and_noise.log",
    shell:
        NOTEBOOK


rule train:
    """Eq. 25: a training run, watched."""
    input:
        DATA,
        NETWORK,
        DRAWING,
        code("study/train.py"),
        notebook="notebooks/02_train.ipynb",
    output:
        table("table_training"),
        figure("fig_training", "csv"),
        figure("fig_training_crop"),
        executed=f"{RUNS}/notebooks/02_train.ipynb",
    params:
        values=parameters(runs=from_notebooks(RUNS), **config["train"]),
    threads: config["threads"]
    resources:
        mem_mb=config["mem_mb"],
        runtime=config["runtime"],
        gpu=config["gpus"],
    log:
        f"{RUNS}/logs/02_train.log",
    shell:
        NOTEBOOK


rule close_range:
    """Table II, Figs. 4 and 5."""
    input:
        [rows(case, method) for case in config["cases"] for method in config["methods"]],
        DRAWING,
        notebook="notebooks/03_close_range.ipynb",
    output:
        table("table2_close_range"),
        table("table2_scenes"),
        figure("fig04_close_range"),
        figure("fig05_row_mean", "csv"),
        table("fig05_differences"),
        executed=f"{RUNS}/notebooks/03_close_range.ipynb",
    params:
        values=parameters(
            runs=from_notebooks(RUNS),
            dataset=config["dataset"],
            cases=config["cases"],
            case=config["case"],
            methods=config["methods"],
            crop=config["crop"],
            weights={method: from_notebooks(path) for method, path in config["weights"].items()},
        ),
    threads: 1
    resources:
        mem_mb=8000,
        runtime=30,
    log:
        f"{RUNS}/logs/03_close_range.log",
    shell:
        NOTEBOOK


rule convergence:
    """Fig. 12, and the solvers beside each other."""
    input:
        DATA,
        DRAWING,
        method_files("decsc"),
        WIDGETS,
        notebook="notebooks/08_convergence.ipynb",
    output:
        figure("fig12_convergence", "csv"),
        table("table_convergence"),
        executed=f"{RUNS}/notebooks/08_convergence.ipynb",
    params:
        values=parameters(
            dataset=config["dataset"],
            case=config["case"],
            weights=from_notebooks("".join(configured_weights("decsc"))),
        ),
    threads: config["threads"]
    resources:
        mem_mb=config["mem_mb"],
        runtime=config["runtime"],
        gpu=config["gpus"],
    log:
        f"{RUNS}/logs/08_convergence.log",
    shell:
        NOTEBOOK


rule explore:
    """The explorers, and what they begin with as a figure."""
    input:
        DATA,
        DRAWING,
        method_files("decsc"),
        WIDGETS,
        notebook="notebooks/11_explore.ipynb",
    output:
        figure("fig_explore"),
        executed=f"{RUNS}/notebooks/11_explore.ipynb",
    params:
        values=parameters(
            dataset=config["dataset"],
            case=config["case"],
            weights=from_notebooks("".join(configured_weights("decsc"))),
        ),
    threads: config["threads"]
    resources:
        mem_mb=config["mem_mb"],
        runtime=config["runtime"],
        gpu=config["gpus"],
    log:
        f"{RUNS}/logs/11_explore.log",
    shell:
        NOTEBOOK
