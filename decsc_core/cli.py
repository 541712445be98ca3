"""The command `decsc`: denoise, degrade and score one's own scenes, train, and see what there is."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from decsc_core import __version__, noise as noises
from decsc_core.console import OneLineGroup, Refused, blaming, say, telling
from decsc_core.denoisers.registry import LEARNED, METHODS, make
from decsc_core.gaps import without_image
from decsc_core.outputs import check_file_target, check_folder_target, json_text, json_tree, write_json

if TYPE_CHECKING:
    from decsc_core.denoisers import Denoiser, Estimate
    from decsc_core.scenes import Scene

MethodName = StrEnum("MethodName", {name: name for name in METHODS})
CaseName = StrEnum("CaseName", {name: name for name in noises.CASES})
Device = StrEnum("Device", {name: name for name in ("auto", "cpu", "cuda")})
LearnedName = StrEnum("LearnedName", {name: name for name in LEARNED})
Precision = StrEnum("Precision", {name: name for name in ("32-true", "bf16-mixed")})

SCENE = "ENVI (.hdr or its data file), GeoTIFF, MATLAB up to 7.3, .npy, .npz"
In = Annotated[Path, typer.Argument(metavar="IN", help=f"Scene: {SCENE}, or a CAVE folder.")]
Out = Annotated[Path, typer.Argument(metavar="OUT", help=f"Scene to write, by its extension: {SCENE}.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

app = typer.Typer(
    name="decsc", cls=OneLineGroup, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Hyperspectral image denoising by deep equilibrium convolutional sparse coding (DECSC), and its peers.",
)


def main() -> None:
    """Run the command line and exit: 0, 2 after a mistake (one line on stderr), 130 after an interruption.

    A signal to end, such as a cluster's at the end of the time, is exit code 128 + its number, after tidying up.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup sets it
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    app(prog_name="decsc")


def _takers(option: str) -> str:
    """The methods that take an option, for its help."""
    return ", ".join(name for name, method in METHODS.items() if option in method.options)


def _version(wanted: bool) -> None:
    """Print the version and exit, if it is wanted."""
    if wanted:
        typer.echo(f"decsc {__version__}")
        raise typer.Exit


def _positive(value: float | None) -> float | None:
    """A finite number above 0, or none at all."""
    if value is not None and not 0 < value < float("inf"):
        raise typer.BadParameter(f"{value} is not a number above 0")
    return value


def _not_negative(value: float | None) -> float | None:
    """A finite number of at least 0, or none at all."""
    if value is not None and not 0 <= value < float("inf"):
        raise typer.BadParameter(f"{value} is not a number of at least 0")
    return value


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Nothing but what all commands share."""


@app.command()
def denoise(
    source: In,
    out: Out,
    method: Annotated[MethodName, typer.Option(help="See decsc methods.")] = MethodName("decsc"),
    weights: Annotated[Path | None, typer.Option(metavar="FILE", help="Weights that decsc train wrote, or an official checkpoint of the method.")] = None,
    preset: Annotated[str | None, typer.Option(help="Network size of the weights that come with the package.")] = None,
    shifts: Annotated[int | None, typer.Option(min=1, help=f"Shifts averaged, more are slower and better; of {_takers('shifts')}.")] = None,
    sigma: Annotated[
        float | None,
        typer.Option(
            callback=_positive,
            help=f"Noise level instead of an estimate, 255 times that of the scene as it is scaled to [0, 1]; of {_takers('sigma')}.",
        ),
    ] = None,
    device: Annotated[Device, typer.Option(help="auto takes the GPU if there is one.")] = Device("auto"),
    record: Annotated[Path | None, typer.Option(metavar="FILE.json", help="Also write how it went.")] = None,
) -> None:
    """Denoise a scene; wavelengths, georeference and no-data go along where the format of OUT has a place for them.

    Floats that span at least 0.25 of about [0, 1], their darkest areas at about 0, are taken as they are, all others and integers are scaled by their
    0.1 and 99.9 percentiles and written back in their own units.
    """
    from decsc_core.scenes import read, write
    from decsc_core.scenes.files import files_of

    written = _scene_target(out, source)
    if weights is not None:
        for path in written:
            check_file_target(path, weights)
    if record is not None:
        with blaming(str(source)):
            parts = files_of(source)
        check_file_target(record, source, *parts, *written, *([weights] if weights else []))
    if device == "cuda":
        from decsc_core.denoisers.device import pick_device

        with blaming("--device"):
            pick_device(device.value)
    with blaming(), telling():
        scene = read(source)
    with blaming(f"--method {method}", str(weights)):
        denoiser = make(method.value, weights=weights, preset=preset, shifts=shifts, sigma=sigma, device=device.value, bands=scene.cube.shape[2])
    _tell_scene(source, scene)
    if sigma is not None and scene.scale != 1:
        say(f"--sigma {sigma:g} is a noise level of {sigma / 255 * abs(scene.scale):.3g} in the units of {source}")
    _tell_weights(denoiser)
    started = time.perf_counter()
    with blaming(str(source)), telling():
        estimate = denoiser(scene.cube, progress=_shows_progress())
    seconds = time.perf_counter() - started
    _tell_convergence(estimate)
    if np.array_equal(estimate.cube, scene.cube):
        say(f"{method.value} gave the scene back as it was: it found no noise, or the scene is too small for it")
    with blaming(str(out)), telling():
        write(scene.with_cube(estimate.cube), out)
    if record is not None:
        with blaming(str(record)):
            write_json(record, _record(scene, denoiser, estimate, seconds))


def _scene_target(path: Path, source: Path) -> tuple[Path, ...]:
    """The files that writing a scene to `path` makes; refuses what cannot be written or is part of `source`."""
    from decsc_core.scenes.envi import headers
    from decsc_core.scenes.files import files_of, targets

    with blaming(str(path)):
        made = targets(path)
    for part in made:
        check_file_target(part, source)
    with blaming(str(source)):
        parts = files_of(source)
    for part in (*made, *(headers(made[0]) if len(made) > 1 else ())):
        check_file_target(part, *parts)
    return made


def _shows_progress() -> bool:
    """Whether stderr is a terminal; it is None if it was closed."""
    return sys.stderr is not None and sys.stderr.isatty()


def _tell_scene(source: Path, scene: Scene) -> None:
    """Say on stderr how large a scene is, how many values it lacks, which bands, from 1, are bad or dead, and how large areas of one spectrum are."""
    height, width, bands = scene.cube.shape
    missing = scene.missing()
    lacking = "" if missing is None else f", {missing.sum()} values without data"
    single, empty = without_image(scene.cube)
    bad = scene.metadata.get("bad_bands", {})
    marked = f"; marked as bad, left as they are: {_numbers(bad)}" if bad else ""
    others = [band for band in np.flatnonzero(single) if band not in bad]
    dead = f"; of a single value, left as they are: {_numbers(others)}" if others else ""
    areas = np.count_nonzero(empty)
    alike = f"; {areas} pixels in areas of one spectrum, left as they are" if areas else ""
    say(f"{source}: {height} x {width} pixels, {bands} bands{lacking}{marked}{dead}{alike}")


def _numbers(bands: Iterable[int]) -> str:
    """Bands counted from 1, as text."""
    return ", ".join(str(band + 1) for band in bands)


def _tell_weights(denoiser: Denoiser) -> None:
    """Say on stderr which weights are used."""
    used = getattr(denoiser, "weights", None)
    if used is not None:
        trained = f"trained for {_trained_for(used.story) or 'an unknown noise case'}"
        origin = "officially released" if "official" in used.story else trained
        say(f"weights {used.path.name}, {origin}, SHA-256 {used.sha256[:12]}")


def _trained_for(story: dict) -> str | None:
    """The noise case, or cases, of a weights file's story; None if it tells of none."""
    case = story.get("training", {}).get("case")
    return ", ".join(case) if isinstance(case, list) else case


def _tell_convergence(estimate: Estimate) -> None:
    """Say on stderr how many iterations stopped short."""
    records = estimate.record or []
    short = [entry for entry in records if entry.converged is False]
    if short:
        worst = max(min(entry.residuals) for entry in short)
        parts = f"{len(short)} of {len(records)} tiles, band windows and passes" if len(records) > 1 else "the iteration"
        say(f"{parts} did not converge (residuals up to {worst:.1e})")


def _record(scene: Scene, denoiser: Denoiser, estimate: Estimate, seconds: float) -> dict:
    """What `--record` writes.

    `record` has one entry for each tile, band window and pass, null if none was iterated; `converged` is null, too, where the number of
    steps is fixed.
    """
    used = getattr(denoiser, "weights", None)
    weights = used and {"file": used.path.name, "sha256": used.sha256, "trained_for": _trained_for(used.story)}
    entries = [entry.to_json() for entry in estimate.record or []]
    ends = [entry["converged"] for entry in entries]
    return {
        "scene": scene.name,
        "shape": list(scene.cube.shape),
        "method": denoiser.name,
        "weights": weights,
        "version": __version__,
        "seconds": seconds,
        "converged": False if False in ends else None if None in ends or not ends else True,
        "record": entries or None,
    }


@app.command()
def noise(
    source: In,
    out: Out,
    case: Annotated[CaseName, typer.Option(help="Noise case of the paper.")],
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same noise.")] = 0,
) -> None:
    """Add the paper's noise to a scene, in its [0, 1] scale, and print what was drawn as one line of JSON.

    Bands that are bad or of a single value stay as they are; areas of one spectrum, as borders, get noise like all others.

    gauss-15, -55 and -95 have another sigma in every band, up to that; mixture adds impulses, stripes and dead columns to
    gauss-95, in disjoint thirds of the bands or, mixture-independent, in thirds drawn one by one; corr has sigmas that follow
    a bell curve over the bands. Sigmas are those of the bands' Gaussian noise on the 0-255 scale; bands count from 0.
    """
    from decsc_core.scenes import read, write

    _scene_target(out, source)
    with blaming(), telling():
        scene = read(source)
    noisy, dead = scene.cube.copy(), without_image(scene.cube)[0]
    if dead.any():
        say(f"bands that are bad or of a single value in {source} stay as they are; counted from 1: {_numbers(np.flatnonzero(dead))}")
    noisy[:, :, ~dead], degradation = noises.add_noise(scene.cube[:, :, ~dead], case.value, np.random.default_rng(seed))
    with blaming(str(out)), telling():
        write(scene.with_cube(noisy), out)
    drawn, numbers = degradation.to_json(), np.flatnonzero(~dead).tolist()
    sigmas = drawn["sigmas"]
    summary = {
        "case": drawn["case"],
        "seed": seed,
        "shape": list(noisy.shape),
        "sigma": {"min": min(sigmas), "mean": float(np.mean(sigmas)), "max": max(sigmas)},
        **{kind: {"bands": sorted(numbers[int(band)] for band in drawn[kind])} for kind in ("impulse", "stripes", "deadlines")},
    }
    typer.echo(json_text(summary))


@app.command()
def score(
    clean: Annotated[Path, typer.Argument(metavar="CLEAN", help=f"Reference scene: {SCENE}, or a CAVE folder.")],
    estimate: Annotated[Path, typer.Argument(metavar="ESTIMATE", help="Scene to score, in the same physical units.")],
    json: Json = False,
) -> None:
    """Compare a scene with a clean one: MPSNR [dB], SSIM, global SSIM, SAM [rad].

    Both are brought by their physical values to the scale in which the clean scene spans [0, 1]. Bands that are bad or of a
    single value in the clean scene do not count; pixels without data do, with their filled-in values. In JSON an infinite
    MPSNR, where a band is reproduced exactly, is null.
    """
    from decsc_core import metrics
    from decsc_core.scenes import read

    with blaming(), telling():
        reference, scored = read(clean), read(estimate)
    if reference.cube.shape != scored.cube.shape:
        shapes = scored.cube.shape, reference.cube.shape
        raise Refused(f"{estimate}: the scene is {shapes[0]} but {clean} is {shapes[1]}; give scenes of one shape")
    dead = without_image(reference.cube)[0]
    if dead.any():
        say(f"bands that are bad or of a single value in {clean} do not count: {_numbers(np.flatnonzero(dead))}")
    cubes = ((s.physical()[..., ~dead] - np.float64(reference.offset)) / reference.scale for s in (reference, scored))
    with blaming(str(clean)):
        scores = metrics.scores(*cubes)
    if json:
        typer.echo(json_text(scores))
        return
    typer.echo(f"MPSNR        {scores['psnr']:.3f} dB")
    typer.echo(f"SSIM         {scores['ssim']:.4f}")
    typer.echo(f"global SSIM  {scores['ssim_global']:.4f}")
    typer.echo(f"SAM          {scores['sam']:.4f} rad")


@app.command()
def train(
    context: typer.Context,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Receives the weights, the log and the checkpoint.")],
    campaign: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Carry out all runs of a YAML file, each in a folder inside FOLDER.")
    ] = None,
    run: Annotated[str | None, typer.Option(metavar="NAME", help="Of the campaign only this run.")] = None,
    method: Annotated[LearnedName, typer.Option(help="The learned methods of decsc methods.")] = LearnedName("decsc"),
    preset: Annotated[str, typer.Option(
        help="Network size and its recipe: paper, small, tiny; HSDT also paper-s, paper-l; T3SC paper-adaptive, small-adaptive. "
        "With --start the recipe alone."
    )] = "small",
    dataset: Annotated[str, typer.Option(
        help="See decsc data; own: your own scenes. The network takes their number of bands, windows of 31 if they differ."
    )] = "cave",
    case: Annotated[list[CaseName], typer.Option(help="Noise case of the paper; given several times, each patch draws one.")] = [CaseName("gauss-95")],
    start: Annotated[Path | None, typer.Option(metavar="FILE", help="Go on from these weights, of the same network or DECSC with the other prior.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the initial weights, the patches and their noise.")] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Budget in steps; give this or minutes.")] = None,
    minutes: Annotated[float | None, typer.Option(callback=_positive, help="Budget in minutes.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in FOLDER.")] = False,
    batch: Annotated[int | None, typer.Option(min=1, help="Patches a step, by default the recipe's.")] = None,
    learning_rate: Annotated[float | None, typer.Option(callback=_positive, help="Adam's, at first; by default the recipe's.")] = None,
    jacobian_penalty: Annotated[float | None, typer.Option(
        callback=_not_negative,
        help="Weight of the penalty on the Jacobian at the fixed point, which makes DECSC converge; by default none.",
    )] = None,
    precision: Annotated[Precision | None, typer.Option(help="Numbers of the network, by default 32-true.")] = None,
) -> None:
    """Train a network by the recipe of its preset and print where the weights are and their validation MPSNR.

    With --campaign, train all networks of a file: finished runs are left alone, interrupted ones go on. The files in campaigns/
    are examples, decsc_core/study/campaign.py and recipes.py tell the fields of a run.
    """
    if campaign is not None:
        return _carry_out(campaign, run, out, context)
    if run is not None:
        raise Refused("--run: names a run of a campaign; give --campaign too")
    if (steps is None) == (minutes is None):
        raise Refused("--steps, --minutes: give the budget as exactly one of the two")
    check_folder_target(out)
    from decsc_core import weights
    from decsc_core.study import train as study
    from decsc_core.study.recipes import training

    cases = tuple(dict.fromkeys(name.value for name in case))
    given = {"batch": batch, "learning_rate": learning_rate, "jacobian_penalty": jacobian_penalty,
             "precision": precision and precision.value}
    changes = {name: value for name, value in given.items() if value is not None}
    with blaming("--preset", "jacobian_penalty", "seed"):
        config = training(
            method.value, preset, dataset=dataset, case=cases if len(cases) > 1 else cases[0], seed=seed, steps=steps, minutes=minutes, **changes
        )
    if start is not None:
        with blaming("--start"):
            config = replace(config, model=_network(start, method.value), start=str(start))
    with blaming("--dataset"):
        bands, needed = _bands(dataset), getattr(config.model, "bands", None)
        if start is None and needed:
            config = replace(config, model=replace(config.model, bands=bands))
    if start is not None and needed and bands < needed:
        advice = "leave --start out, or give it weights for as few"
        raise Refused(f"--start: {start} holds a network for {needed} bands, scenes of {dataset} have {bands}; {advice}")
    with blaming(str(out), dataset):
        path = study.train(config, out, resume=resume, progress=_shows_progress())
        story = weights.load(path).story if os.environ.get("RANK", "0") == "0" else None
    if story is not None:
        told = f"{path}  validation MPSNR {story['validation_psnr']:.3f} dB after {story['best_step']} steps"
        if (before := story.get("validation_psnr_before")) is not None:
            told += f", {before:.3f} dB before"
            if round(before, 3) > round(story["validation_psnr"], 3):
                told += ": worse; try a smaller --learning-rate or a larger budget"
        typer.echo(told)


def _carry_out(campaign: Path, run: str | None, out: Path, context: typer.Context) -> None:
    """Carry out a campaign, or one run of it, and print how far they are."""
    given = [name for name in context.params if context.get_parameter_source(name).name == "COMMANDLINE"]
    if others := [name for name in given if name not in ("campaign", "run", "out", "resume")]:
        raise Refused(f"--{others[0].replace('_', '-')}: a campaign says this for each of its runs; leave it out")
    check_folder_target(out)
    from decsc_core.study import campaign as study

    with blaming(str(campaign)):
        runs = study.read(campaign, out)
    if run is not None:
        if run not in runs:
            raise Refused(f"--run: {campaign} has no run {run!r}; it has {', '.join(runs)}")
        runs = {run: runs[run]}
    with blaming(str(out)):
        study.carry_out(runs, out, progress=_shows_progress())
    if os.environ.get("RANK", "0") == "0":
        with blaming(str(out)):
            state = study.state(runs, out)
        typer.echo(state.to_string(index=False, float_format="{:.4g}".format))


def _network(file: Path, method: str) -> Any:
    """The configuration of the network that a method's training makes of a weights file."""
    from decsc_core import weights
    from decsc_core.networks.catalog import as_method, method_of

    loaded = weights.load(file)
    config = as_method(loaded.model.config, method)
    if method_of(config) != method:
        raise Refused(f"--start: {file} holds a network of {loaded.method}, not of {method}")
    return config


def _bands(dataset: str) -> int:
    """The number of bands for a network, by the scenes of a data set's training and validation split; of those of others than `own` the first tell."""
    from decsc_core.scenes import load_scene, scene_names
    from decsc_core.weights import CAMERA_BANDS

    names = [name for split in ("train", "validation") for name in scene_names(dataset, split)[: None if dataset == "own" else 1]]
    bands = {load_scene(dataset, name).cube.shape[2] for name in names}
    return bands.pop() if len(bands) == 1 else min(*bands, CAMERA_BANDS)


@app.command()
def info(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help=f"Scene ({SCENE}, or a CAVE folder) or weights (.safetensors).")
    ],
) -> None:
    """Print as JSON what a scene or a weights file holds.

    Values are in the units of the file; scale and offset bring [0, 1] to them; the hash is of the cube in [0, 1].
    """
    if file.suffix.lower() == ".safetensors":
        from decsc_core import weights

        with blaming(str(file)):
            loaded = weights.load(file)
        held = {"sha256": loaded.sha256, "method": loaded.method, "config": asdict(loaded.model.config), "story": loaded.story}
    else:
        from decsc_core.describe import scene_summary
        from decsc_core.scenes import read

        with blaming(), telling():
            held = scene_summary(read(file))
    typer.echo(json_tree({"file": str(file), **held}))


@app.command()
def methods(json: Json = False) -> None:
    """List the methods; `params` counts the learned parameters of the paper-size network."""
    if json:
        typer.echo(json_text([asdict(method) for method in METHODS.values()]))
        return
    for method in METHODS.values():
        typer.echo(f"{method.name:12} {method.kind:13} {method.params:>10,}  {method.summary}")


@app.command()
def data(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A data set, for its details.")] = None,
) -> None:
    """List the data sets and how many of their scenes are here; with NAME also its details and scenes."""
    from decsc_core.describe import dataset_lines
    from decsc_core.scenes import DATASETS
    from decsc_core.scenes.sources import root

    if name is not None and name not in DATASETS:
        raise Refused(f"{name}: there is no such data set; there are {', '.join(DATASETS)}")
    with blaming("DECSC_DATA"):
        told = [dataset_lines(entry, details=name is not None) for entry in (DATASETS.values() if name is None else [DATASETS[name]])]
    place = root()
    typer.echo(f"looked for in {place}{'' if place.is_dir() else ', which does not exist'}; set the environment variable DECSC_DATA for another folder")
    for lines in told:
        typer.echo("\n" + "\n".join(lines))
