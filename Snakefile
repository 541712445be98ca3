"""The experiment graph: one rule a notebook, and one for the rows that their tables and figures are drawn from.

A profile of config/ says what runs, decsc_core/study/artifacts.py what is published. Executed notebooks land in
runs/<profile>/notebooks/, rows in runs/<profile>/rows/, logs in runs/<profile>/logs/, what is published in
figures/<profile>/.
"""

import fcntl
import json
import os
import shlex
import shutil
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

import yaml

from decsc_core.denoisers.registry import LEARNED, METHODS
from decsc_core.networks.catalog import SIZES
from decsc_core.noise import CASES
from decsc_core.scenes import DATASETS, SceneError, fingerprints, load_scene, scene_names
from decsc_core.study import profiles, schema
from decsc_core.study.artifacts import ARTIFACTS, of_notebook
from decsc_core.study.campaign import alike, difference, last, read, tuned
from decsc_core.study.evaluate import AS_IS, NOISY
from decsc_core.study.recipes import TrainConfig
from decsc_core.weights import CAMERA_BANDS, described as described_weights

for file in workflow.configfiles:  # Snakemake has read them, but takes the last of two values of one name
    try:
        schema.read(file)
    except ValueError as error:
        sys.exit(str(error))
if config.get("crop") == "null":  # which is a word on the command line
    config["crop"] = None
for part in ("train", "complexity"):  # whose numbers are words on the command line, too
    if isinstance(config.get(part), dict):
        config[part] = {key: yaml.safe_load(value) if isinstance(value, str) else value for key, value in config[part].items()}
try:
    profiles.check(config)
except ValueError as error:
    sys.exit(f"the profile: {error}")
if config["profile"] not in (files := [Path(file).stem for file in workflow.configfiles]):
    sys.exit(f"the profile: profile: {config['profile']!r} is another one, which this would overwrite; write {files[-1]}")

# Snakemake's own lock outlives a run that was killed. Every run holds this one too, which does not: whoever has it alone
# removes what such a run left. The Snakemakes inside of cluster jobs belong to their run and take none.
if workflow.is_main_process:
    os.makedirs(".snakemake", exist_ok=True)
    RUNNING = open(".snakemake/running", "w")
    with suppress(OSError):  # another run is alive, or the file system has no such locks
        fcntl.flock(RUNNING, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(".snakemake/locks", ignore_errors=True)
    with suppress(OSError):
        fcntl.flock(RUNNING, fcntl.LOCK_SH)

PROFILE = config["profile"]
RUNS, FIGURES = f"runs/{PROFILE}", f"figures/{PROFILE}"


def code(*patterns):
    """Files of the package that decide a result: when one of them changes, the result is made again."""
    return sorted(str(path) for pattern in patterns for path in Path("decsc_core").glob(pattern))


DATA = code("checks.py", "detail_level.py", "gaps.py", "metrics.py", "noise.py", "scale.py", "scenes/*.py")
NETWORK = code(
    "deq.py", "weights.py", "model/*.py", "networks/catalog.py", "denoisers/base.py", "denoisers/device.py", "denoisers/equilibrium.py",
    "denoisers/tiling.py", "denoisers/wiener.py", "transforms.py",
)
DRAWING = code("study/figures.py", "study/tables.py", "study/captions.py", "study/paper.py", "study/paper_tables.csv", "study/cubes.py")
WIDGETS = code("widgets/*.py", "study/calibration.py", "study/convergence.py", "study/evaluate.py")
CLASSICAL = code("denoisers/base.py", "denoisers/device.py", "denoisers/classical/*.py", "transforms.py")
PEERS = code(
    "model/dictionary.py", "model/factors.py", "model/gross.py", "model/misfit.py", "model/shifts.py", "model/swin.py", "model/windows.py",
    "networks/*.py", "weights.py", "denoisers/base.py", "denoisers/device.py", "denoisers/learned.py", "denoisers/tiling.py", "transforms.py",
)
BAND_WISE = code("denoisers/base.py", "denoisers/bandwise.py")


def method_code(method):
    """The code of a method: that of its kind, less the denoisers and peers that are only another method's."""
    kind = METHODS[method].kind
    every = {"equilibrium": NETWORK, "learned": PEERS, "model-driven": CLASSICAL, "band-wise": BAND_WISE}[kind]
    others = {*METHODS} - {method.removesuffix("-white")}
    return [path for path in every if Path(path).stem not in others or path.startswith("decsc_core/model/")]


@cache
def content(dataset, split="test"):
    """The fingerprints of the scenes of a split; none if they cannot be found, of which the job will tell why."""
    try:
        return fingerprints(dataset, split)
    except SceneError:
        return {}


def weights_on(dataset):
    """The weights files that the profile names for scenes of a data set, by method."""
    return config["weights"] | ({} if dataset == config["dataset"] else config["remote"].get("weights", {}))


def configured_weights(method, dataset=config["dataset"]):
    """The weights file that the profile names for a method, as a list; an empty one means the shipped weights."""
    return [weights_on(dataset)[method]] if method in weights_on(dataset) else []


def method_files(method, dataset=config["dataset"]):
    """The code and the weights of a method on scenes of a data set; none for the noisy cube itself."""
    if method not in METHODS:
        return []
    shipped = code(*(f"shipped/{method}-{size}-*.safetensors" for size in SIZES))
    return method_code(method) + (configured_weights(method, dataset) or shipped)


def described(key):
    """The runs of the campaign file that the profile names under a key, by name: their configurations, and how it describes them."""
    campaign = config[key]
    try:
        return read(campaign, f"{RUNS}/trained"), schema.read(campaign)
    except OSError as error:
        sys.exit(f"the profile: {key}: {campaign} cannot be read: {error.strerror}")
    except ValueError as error:
        sys.exit(f"the profile: {key}: cannot be used: {error}")


def campaign_of(run):
    """The file that describes a run: the campaign, or the comparison."""
    return config["campaign" if run in CAMPAIGN else "comparison"]


def shelf(run):
    """Where the weights of a run lie if they are published."""
    return f"weights/{Path(campaign_of(run)).stem}/{run}.safetensors"


def trained(run):
    """The weights of a run: published ones, or else those that `train_run` makes."""
    return shelf(run) if os.path.exists(shelf(run)) else f"{RUNS}/trained/{run}/weights.safetensors"


def begun_from(run):
    """The weights that the training of a run begins from; none for most."""
    return [f"{RUNS}/trained/{start}/weights.safetensors"] if (start := RUN[run].get("start")) else []


def compared():
    """The runs of the campaign that are compared with its first one: those of the same method."""
    method = next(iter(CAMPAIGN.values()))["method"]
    return [run for run in CAMPAIGN if CAMPAIGN[run]["method"] == method]


def trained_cases(run):
    """The noise cases of the profile that a run of the comparison was trained for, or all where there is none."""
    cases = RUN[run].get("case", TrainConfig.case)
    return [case for case in config["cases"] if case in ([cases] if isinstance(cases, str) else cases)] or config["cases"]


def run_files(runs, cases):
    """The files that describe some runs, their weights, and the files of their rows in some noise cases."""
    scored = [
        f"{RUNS}/trained/{run}/{config['dataset']}-{case}-{RUN[run]['method']}.{end}"
        for run in runs for case in cases for end in ("csv", "json", "npy")
    ]
    return [*dict.fromkeys(map(campaign_of, runs)), *map(trained, runs), *scored]


def with_last_steps():
    """The files of the rows with DECSC's last steps: of the first seed of each run of the comparison, and of the methods that learn nothing."""
    first = [seeds[0] for seeds in alike({run: COMPARISON_CONFIGS[run] for run in COMPARED})]
    places = [(f"trained/{run}", RUN[run]["method"]) for run in first] + [("rows", method) for method in UNTRAINED]
    return [f"{RUNS}/{place}/{config['dataset']}-last-steps-{method}.{end}" for place, method in places for end in ("csv", "json")]


def compared_files():
    """Those of the runs that are compared with the first one of the campaign."""
    return run_files(compared(), [config["case"]])


def is_heavy(method):
    """Whether jobs of this method get the GPUs, memory and minutes of the profile, not the least."""
    return method in METHODS and METHODS[method].kind != "band-wise"


def is_network(method):
    """Whether jobs of this method get the threads of the profile; the others gain little from more than one."""
    return method in METHODS and METHODS[method].kind in ("equilibrium", "learned")


def rows(dataset, cases, methods, scenes=("",)):
    """The files of the rows of some methods in some noise cases; those of single scenes are in folders of their own."""
    return expand(
        "{folder}/{dataset}-{case}-{method}.{end}",
        folder=[os.path.join(RUNS, "rows", scene).rstrip("/") for scene in scenes],
        dataset=dataset, case=cases, method=methods, end=["csv", "json", "npy"],
    )


def published(notebook):
    """The files of all tables and figures of a notebook; `update` keeps the old ones if the job fails."""
    return [update(f"{FIGURES}/{name}") for artifact in of_notebook(notebook) for name in artifact.files]


def from_notebooks(path):
    """A path as seen from notebooks/, where notebooks run; an empty one stays empty."""
    return os.path.relpath(path, "notebooks") if path else path


def parameters(**values):
    """The parameters of a notebook as JSON: these, and those that all have."""
    return json.dumps(
        {"profile": PROFILE, "seed": config["seed"], "figures": from_notebooks(FIGURES), **values}
    )


def campaign_parameters(**values):
    """The parameters of a notebook that compares the runs of the campaign: these, those, and those that all have."""
    return parameters(
        campaign=from_notebooks(config["campaign"]),
        trained={run: from_notebooks(trained(run)) for run in compared()},
        runs=from_notebooks(RUNS),
        dataset=config["dataset"],
        case=config["case"],
        crop=config["crop"],
        **values,
    )


EVERY_NOTEBOOK = list(dict.fromkeys(artifact.notebook for artifact in ARTIFACTS))
(CAMPAIGN_CONFIGS, CAMPAIGN), (COMPARISON_CONFIGS, COMPARISON) = (described(key) for key in ("campaign", "comparison"))
RUN = COMPARISON | CAMPAIGN
COMPARED, TUNED = last(COMPARISON_CONFIGS), tuned(COMPARISON_CONFIGS)
if both := [run for run in CAMPAIGN if run in COMPARISON and config["campaign"] != config["comparison"]]:
    sys.exit(f"{both[0]!r} is a run of {config['campaign']} and of {config['comparison']}; give one of them another name")
COMPARED_CASES = trained_cases(COMPARED[0])
PUBLISHED_CAMPAIGNS = list(dict.fromkeys(["campaigns/small.yaml", config["comparison"], config["campaign"]]))
PUBLISHED_DECSC = sorted(
    str(path) for pattern in ("weights/decsc-*", "weights/comparison/decsc-paper-*", "decsc_core/shipped/decsc-mamba-*")
    for path in Path().glob(f"{pattern}.safetensors")
)
WEIGHTS = {method: from_notebooks(path) for method, path in config["weights"].items()}
REMOTE_WEIGHTS = {method: from_notebooks(path) for method, path in weights_on(config["remote"]["dataset"]).items()}
REMOTE = config["remote"] | {"weights": REMOTE_WEIGHTS}
UNTRAINED = [name for name in config["methods"] if name in METHODS and name not in LEARNED] or ["tv"]
COSTS_SCORED = [method for method in config["complexity"]["methods"] if method in config["methods"]]
HEAVY = {"mem_mb": config["mem_mb"], "runtime": config["runtime"], "gpu": config["gpus"]}
LIGHT = {"mem_mb": 8000, "runtime": 30}
NOTEBOOK = (
    "OMP_NUM_THREADS={threads} python -m decsc_core.study.notebook {input.notebook:q} {output.executed:q}"
    " --parameters {params.values:q} > {log:q} 2>&1 || {{ grep '^notebook: ' {log:q} >&2; exit 1; }}"
)


onstart:
    try:
        splits = [(config, "test"), (config["remote"], "test"), (config["train"], "train"), (config["train"], "validation")]
        for name, split in dict.fromkeys((part["dataset"], split) for part, split in splits):
            bands = load_scene(name, scene_names(name, split)[0]).cube.shape[2]
            if (name, split) == (config["dataset"], "test") and bands > CAMERA_BANDS:
                sys.exit(f"profile {PROFILE}: dataset: scenes of {name!r} have {bands} bands, its networks {CAMERA_BANDS}; give them as remote")
        for scene, name in config["real"]["scenes"].items():
            load_scene(name, scene)
    except SceneError as error:
        sys.exit(f"profile {PROFILE}: {error}")
    for run in dict.fromkeys([*COMPARED, *TUNED, *TUNED.values(), *compared()]):
        own = (COMPARISON_CONFIGS | CAMPAIGN_CONFIGS)[run]
        if os.path.exists(shelf(run)) and (wrong := difference(own, described_weights(shelf(run))["story"])):
            sys.exit(f"{campaign_of(run)}: {run} is published as {shelf(run)}, but there {wrong}; give the run another name, or take that file away")


rule all:
    input:
        expand(f"{RUNS}/notebooks/{{name}}.ipynb", name=EVERY_NOTEBOOK),


rule evaluate:
    """Score one method on the test scenes."""
    input:
        DATA,
        code("study/cubes.py", "study/evaluate.py", "study/row_files.py"),
        lambda wildcards: method_files(wildcards.method, wildcards.dataset),
        weights=lambda wildcards: configured_weights(wildcards.method, wildcards.dataset),
    output:
        multiext(f"{RUNS}/rows/{{scene}}{{dataset}}-{{case}}-{{method}}", ".csv", ".json", ".npy"),
    wildcard_constraints:
        scene="([^/]+/)?",
        dataset="|".join(DATASETS),
        case="|".join([*CASES, AS_IS]),
        method="|".join([NOISY, *METHODS]),
    params:
        seed=config["seed"],
        crop=f"--crop {config['crop']}" if config["crop"] else "",
        scenes=lambda wildcards: f"--scenes {shlex.quote(wildcards.scene[:-1])}" if wildcards.scene else "",
        content=lambda wildcards: [told for name, told in content(wildcards.dataset).items() if wildcards.scene in ("", f"{name}/")],
    threads: lambda wildcards: config["threads"] if is_network(wildcards.method) else 1
    resources:
        mem_mb=lambda wildcards: config["mem_mb"] if is_heavy(wildcards.method) else 4000,
        runtime=lambda wildcards: config["runtime"] if is_heavy(wildcards.method) else 60,
        gpu=lambda wildcards: config["gpus"] if is_heavy(wildcards.method) else 0,
    log:
        f"{RUNS}/logs/rows-{{scene}}{{dataset}}-{{case}}-{{method}}.log",
    shell:
        "OMP_NUM_THREADS={threads} python -m decsc_core.study.evaluate --profile {PROFILE:q}"
        " --folder \"$(dirname {output[0]:q})\""
        " --dataset {wildcards.dataset} --case {wildcards.case} --method {wildcards.method} --seed {params.seed}"
        " {params.scenes} {params.crop} --weights {input.weights:q} > {log:q} 2>&1 || {{ tail -n 1 {log:q} >&2; exit 1; }}"


rule method:
    """Table I, Figs. 1 to 3 and the equations, each beside its code."""
    input:
        DATA,
        DRAWING,
        NETWORK,
        code("shipped/decsc-*.safetensors", "study/paper_code.py", "study/schematics.py", "study/train.py"),
        WIDGETS,
        notebook="notebooks/00_method.ipynb",
    output:
        published("00_method"),
        executed=f"{RUNS}/notebooks/00_method.ipynb",
    params:
        values=parameters(),
    threads: 1
    resources:
        **LIGHT,
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
        published("01_scenes_and_noise"),
        executed=f"{RUNS}/notebooks/01_scenes_and_noise.ipynb",
    params:
        values=parameters(dataset=config["dataset"]),
        content=content(config["dataset"]),
    threads: 1
    resources:
        **LIGHT,
    log:
        f"{RUNS}/logs/01_scenes_and_noise.log",
    shell:
        NOTEBOOK


rule train:
    """Eq. 25: a training run, watched, and what all others cost and reached."""
    input:
        DATA,
        NETWORK,
        DRAWING,
        code("study/campaign.py", "study/optimizers.py", "study/patches.py", "study/recipes.py", "study/run_folder.py", "study/train.py", "shipped/*.safetensors"),
        PUBLISHED_CAMPAIGNS,
        [trained(run) for run in [*COMPARED, *TUNED, *TUNED.values(), *CAMPAIGN]],  # Snakemake passes over the first of a `map`
        sorted(map(str, Path("weights").rglob("*.safetensors"))),
        notebook="notebooks/02_train.ipynb",
    output:
        published("02_train"),
        executed=f"{RUNS}/notebooks/02_train.ipynb",
    params:
        values=parameters(
            runs=from_notebooks(RUNS), campaigns=list(map(from_notebooks, PUBLISHED_CAMPAIGNS)), **config["train"]
        ),
        content=[content(config["train"]["dataset"], split) for split in ("train", "validation")],
    threads: config["threads"]
    resources:
        **HEAVY,
    log:
        f"{RUNS}/logs/02_train.log",
    shell:
        NOTEBOOK


ruleorder: published_run > train_run


rule published_run:
    """A published network of a campaign, where the training of one that begins from it looks for it."""
    input:
        lambda wildcards: shelf(wildcards.run),
    output:
        f"{RUNS}/trained/{{run}}/weights.safetensors",
    shell:
        "cp {input:q} {output:q}"


rule train_run:
    """One network of a campaign. It is trained once: an edited file, or other scenes, repeat only the runs that they change, and those that begin from them."""
    input:
        lambda wildcards: ancient(campaign_of(wildcards.run)),
        start=lambda wildcards: begun_from(wildcards.run),
    output:
        f"{RUNS}/trained/{{run}}/weights.safetensors",
    params:
        run=lambda wildcards: json.dumps(RUN[wildcards.run]),
        content=lambda wildcards: [content(RUN[wildcards.run].get("dataset", TrainConfig.dataset), split) for split in ("train", "validation")],
    threads: 1  # several side by side are faster than one with several
    resources:
        **HEAVY,
    log:
        f"{RUNS}/logs/train-{{run}}.log",
    shell:
        "OMP_NUM_THREADS={threads} decsc train --campaign {input[0]:q} --run {wildcards.run:q} --out \"$(dirname \"$(dirname {output:q})\")\""
        " > {log:q} 2>&1 || {{ tail -n 1 {log:q} >&2; exit 1; }}"


rule evaluate_run:
    """Score one network of a campaign on the test scenes."""
    input:
        DATA,
        lambda wildcards: method_code(wildcards.method),
        code("study/cubes.py", "study/evaluate.py", "study/row_files.py"),
        weights=lambda wildcards: trained(wildcards.run),
    output:
        multiext(f"{RUNS}/trained/{{run}}/{{dataset}}-{{case}}-{{method}}", ".csv", ".json", ".npy"),
    wildcard_constraints:
        dataset="|".join(DATASETS),
        case="|".join(CASES),
        method="|".join(LEARNED),
    params:
        seed=config["seed"],
        crop=f"--crop {config['crop']}" if config["crop"] else "",
        content=lambda wildcards: content(wildcards.dataset),
    threads: 1  # several side by side are faster than one with several
    resources:
        **HEAVY,
    log:
        f"{RUNS}/logs/trained-{{run}}-{{dataset}}-{{case}}-{{method}}.log",
    shell:
        "OMP_NUM_THREADS={threads} python -m decsc_core.study.evaluate --profile {PROFILE:q}"
        " --folder \"$(dirname {output[0]:q})\""
        " --dataset {wildcards.dataset} --case {wildcards.case} --method {wildcards.method} --seed {params.seed}"
        " {params.crop} --weights {input.weights:q} > {log:q} 2>&1 || {{ tail -n 1 {log:q} >&2; exit 1; }}"


rule close_range:
    """Table II, Figs. 4 and 5."""
    input:
        rows(config["dataset"], config["cases"], config["methods"]),
        config["weights"].values(),
        DRAWING,
        code("study/readings.py", "study/rows.py"),
        notebook="notebooks/03_close_range.ipynb",
    output:
        published("03_close_range"),
        executed=f"{RUNS}/notebooks/03_close_range.ipynb",
    params:
        values=parameters(
            runs=from_notebooks(RUNS),
            dataset=config["dataset"],
            cases=config["cases"],
            case=config["case"],
            methods=config["methods"],
            crop=config["crop"],
            weights=WEIGHTS,
        ),
    threads: config["threads"]
    resources:
        **HEAVY,
    log:
        f"{RUNS}/logs/03_close_range.log",
    shell:
        NOTEBOOK


rule remote_sensing:
    """Table III, Figs. 6 and 7."""
    input:
        rows(config["remote"]["dataset"], config["remote"]["cases"], config["remote"]["methods"]),
        weights_on(config["remote"]["dataset"]).values(),
        DRAWING,
        code("study/rows.py"),
        notebook="notebooks/04_remote_sensing.ipynb",
    output:
        published("04_remote_sensing"),
        executed=f"{RUNS}/notebooks/04_remote_sensing.ipynb",
    params:
        values=parameters(runs=from_notebooks(RUNS), crop=config["crop"], **REMOTE),
    threads: 1
    resources:
        **LIGHT,
    log:
        f"{RUNS}/logs/04_remote_sensing.log",
    shell:
        NOTEBOOK


rule real_noise:
    """Figs. 8 to 11."""
    input:
        [
            rows(dataset, config["real"]["case"], config["real"]["methods"], [scene])
            for scene, dataset in config["real"]["scenes"].items()
        ],
        [weights_on(dataset).values() for dataset in config["real"]["scenes"].values()],
        DRAWING,
        code("study/rows.py", "study/noreference.py"),
        notebook="notebooks/05_real_noise.ipynb",
    output:
        published("05_real_noise"),
        executed=f"{RUNS}/notebooks/05_real_noise.ipynb",
    params:
        values=parameters(runs=from_notebooks(RUNS), crop=config["crop"], weights=REMOTE_WEIGHTS, **config["real"]),
    threads: 1
    resources:
        **LIGHT,
    log:
        f"{RUNS}/logs/05_real_noise.log",
    shell:
        NOTEBOOK


rule complexity:
    """Table IV: what each method costs, measured side by side, and what shifted copies buy."""
    input:
        rows(config["dataset"], config["case"], COSTS_SCORED),
        [method_files(method) for method in config["complexity"]["methods"]],
        DATA,
        DRAWING,
        code("study/averaging.py", "study/complexity.py", "study/measure.py", "study/rows.py"),
        notebook="notebooks/06_complexity.ipynb",
    output:
        published("06_complexity"),
        executed=f"{RUNS}/notebooks/06_complexity.ipynb",
    params:
        values=parameters(
            runs=from_notebooks(RUNS),
            dataset=config["dataset"],
            case=config["case"],
            scored=COSTS_SCORED,
            crop=config["crop"],
            weights=WEIGHTS,
            **config["complexity"],
        ),
    threads: config["threads"]  # one is used, but seconds are measured: the fewer neighbours the better
    resources:
        **HEAVY,
    log:
        f"{RUNS}/logs/06_complexity.log",
    shell:
        NOTEBOOK


rule ablation:
    """Table V."""
    input:
        compared_files(),
        DRAWING,
        code("study/ablation.py", "study/campaign.py"),
        notebook="notebooks/07_ablation.ipynb",
    output:
        published("07_ablation"),
        executed=f"{RUNS}/notebooks/07_ablation.ipynb",
    params:
        values=campaign_parameters(),
    threads: 1
    resources:
        **LIGHT,
    log:
        f"{RUNS}/logs/07_ablation.log",
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
        published("08_convergence"),
        executed=f"{RUNS}/notebooks/08_convergence.ipynb",
    params:
        values=parameters(
            dataset=config["dataset"],
            case=config["case"],
            crop=config["crop"],
            weights=from_notebooks("".join(configured_weights("decsc"))),
        ),
        content=content(config["dataset"]),
    threads: config["threads"]
    resources:
        **HEAVY,
    log:
        f"{RUNS}/logs/08_convergence.log",
    shell:
        NOTEBOOK


rule dictionary_size:
    """Figs. 13 and 14."""
    input:
        compared_files(),
        DRAWING,
        code("study/ablation.py", "study/campaign.py"),
        notebook="notebooks/09_dictionary_size.ipynb",
    output:
        published("09_dictionary_size"),
        executed=f"{RUNS}/notebooks/09_dictionary_size.ipynb",
    params:
        values=campaign_parameters(),
    threads: 1
    resources:
        **LIGHT,
    log:
        f"{RUNS}/logs/09_dictionary_size.log",
    shell:
        NOTEBOOK


rule neumann:
    """Fig. 15, and the phantom gradient beside the exact one."""
    input:
        compared_files(),
        DATA,
        DRAWING,
        method_files("decsc"),
        code("study/ablation.py", "study/campaign.py", "study/convergence.py", "study/neumann.py"),
        notebook="notebooks/10_neumann.ipynb",
    output:
        published("10_neumann"),
        executed=f"{RUNS}/notebooks/10_neumann.ipynb",
    params:
        values=campaign_parameters(weights=from_notebooks("".join(configured_weights("decsc")))),
    threads: config["threads"]
    resources:
        **HEAVY,
    log:
        f"{RUNS}/logs/10_neumann.log",
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
        published("11_explore"),
        executed=f"{RUNS}/notebooks/11_explore.ipynb",
    params:
        values=parameters(
            dataset=config["dataset"],
            case=config["case"],
            weights=from_notebooks("".join(configured_weights("decsc"))),
        ),
        content=content(config["dataset"]),
    threads: config["threads"]
    resources:
        **HEAVY,
    log:
        f"{RUNS}/logs/11_explore.log",
    shell:
        NOTEBOOK


rule choices:
    """What the small networks change of the release, and what each change is worth."""
    input:
        compared_files(),
        DATA,
        DRAWING,
        method_files("decsc"),
        PUBLISHED_DECSC,
        code("study/ablation.py", "study/campaign.py", "study/choices.py", "study/convergence.py"),
        notebook="notebooks/13_choices.ipynb",
    output:
        published("13_choices"),
        executed=f"{RUNS}/notebooks/13_choices.ipynb",
    params:
        values=campaign_parameters(
            cases=config["cases"],
            weights=from_notebooks("".join(configured_weights("decsc"))),
            others=[from_notebooks(path) for path in PUBLISHED_DECSC],
        ),
        content=content(config["dataset"], "validation"),
    threads: config["threads"]
    resources:
        **HEAVY,
    log:
        f"{RUNS}/logs/13_choices.log",
    shell:
        NOTEBOOK


rule last_steps:
    """Score one method with DECSC's last steps after it on the validation scenes."""
    input:
        DATA,
        NETWORK,
        code("study/cubes.py", "study/evaluate.py", "study/last_steps.py", "study/row_files.py"),
        lambda wildcards: method_code(wildcards.method),
        weights=lambda wildcards: trained(wildcards.run[len("trained/"):]) if wildcards.run != "rows" else [],
    output:
        multiext(f"{RUNS}/{{run}}/{{dataset}}-last-steps-{{method}}", ".csv", ".json"),
    wildcard_constraints:
        run="rows|trained/[^/]+",
        dataset="|".join(DATASETS),
        method="|".join(METHODS),
    params:
        cases=" ".join(COMPARED_CASES),
        seed=config["seed"],
        crop=f"--crop {config['crop']}" if config["crop"] else "",
        content=lambda wildcards: content(wildcards.dataset, "validation"),
    threads: 1  # several side by side are faster than one with several
    resources:
        **HEAVY,
    log:
        f"{RUNS}/logs/last-steps-{{run}}-{{dataset}}-{{method}}.log",
    shell:
        "OMP_NUM_THREADS={threads} python -m decsc_core.study.last_steps --folder \"$(dirname {output[0]:q})\""
        " --dataset {wildcards.dataset} --cases {params.cases} --method {wildcards.method} --seed {params.seed}"
        " {params.crop} --weights {input.weights:q} > {log:q} 2>&1 || {{ tail -n 1 {log:q} >&2; exit 1; }}"


rule comparison:
    """The learned methods after short trainings."""
    input:
        run_files(COMPARED, COMPARED_CASES),
        [run_files(both, trained_cases(both[0])) for both in TUNED.items()],
        rows(config["dataset"], COMPARED_CASES, UNTRAINED),
        with_last_steps(),
        DRAWING,
        code("study/ablation.py", "study/campaign.py", "study/comparison.py", "study/further_estimates.py", "study/last_steps.py", "study/rows.py"),
        PEERS,
        notebook="notebooks/14_comparison.ipynb",
    output:
        published("14_comparison"),
        executed=f"{RUNS}/notebooks/14_comparison.ipynb",
    params:
        values=parameters(
            comparison=from_notebooks(config["comparison"]),
            trained={run: from_notebooks(trained(run)) for run in [*COMPARED, *TUNED, *TUNED.values()]},
            runs=from_notebooks(RUNS),
            dataset=config["dataset"],
            cases=COMPARED_CASES,
            untrained=UNTRAINED,
            crop=config["crop"],
        ),
        content=content(config["dataset"], "validation"),
    threads: config["threads"]
    resources:
        **HEAVY,
    log:
        f"{RUNS}/logs/14_comparison.log",
    shell:
        NOTEBOOK


rule report:
    """Tables II to V cell by cell, and everything on one page."""
    input:
        expand(f"{RUNS}/notebooks/{{name}}.ipynb", name=[name for name in EVERY_NOTEBOOK if name != "12_report"]),
        [f"{FIGURES}/{name}" for artifact in ARTIFACTS if artifact.notebook != "12_report" for name in artifact.files],
        rows(config["dataset"], config["cases"], config["methods"]),
        rows(config["remote"]["dataset"], config["remote"]["cases"], config["remote"]["methods"]),
        compared_files(),
        config["weights"].values(),
        weights_on(config["remote"]["dataset"]).values(),
        code("study/report.py", "study/faults.py", "study/icvl_lists.json", "study/paper*", "study/rows.py"),
        notebook="notebooks/12_report.ipynb",
    output:
        published("12_report"),
        executed=f"{RUNS}/notebooks/12_report.ipynb",
    params:
        values=parameters(
            runs=from_notebooks(RUNS),
            dataset=config["dataset"],
            cases=config["cases"],
            case=config["case"],
            methods=config["methods"],
            remote=REMOTE,
            campaign=from_notebooks(config["campaign"]),
            trained={run: from_notebooks(trained(run)) for run in compared()},
            crop=config["crop"],
            weights=WEIGHTS,
        ),
    threads: 1
    resources:
        **LIGHT,
    log:
        f"{RUNS}/logs/12_report.log",
    shell:
        NOTEBOOK
