"""Training: random patches of clean scenes, noise drawn for each, mean squared error (Eq. 25), Adam.

Every random number is a function of (seed, index of the patch) or (seed, step), so a run that was interrupted and resumed
equals one that was not: bit for bit on a CPU when the budget is in steps. Several GPUs: start with torchrun.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn
from tqdm.auto import tqdm

from decsc_core import metrics, weights
from decsc_core.atomic import remove_leftovers, write_text, write_whole
from decsc_core.model import DECSC, DECSCConfig, Output
from decsc_core.model.gross import cut
from decsc_core.model.shifts import all_shifts
from decsc_core.networks.catalog import PRIORS, build, method_of
from decsc_core.networks.hsdt import HSDT, HSDTConfig
from decsc_core.networks.volumes import BatchNorm
from decsc_core.scenes import load
from decsc_core.study.optimizers import optimizers
from decsc_core.study.patches import PASS, QUERY, SHIFT, batches, check_scenes, validation_set
from decsc_core.study.provenance import environment
from decsc_core.study.recipes import TrainConfig, learning_rate
from decsc_core.study.run_folder import Log, changed, claim, is_finished, scene_fingerprints

if TYPE_CHECKING:  # importing it takes seconds, which only a training needs
    from lightning_fabric import Fabric


@dataclass
class _Progress:
    """What a checkpoint holds beside model and optimiser."""

    data: dict[str, dict[str, str]]
    step: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    psnr_before: float | None = None
    best: float = -float("inf")
    best_step: int = 0
    best_state: dict = field(default_factory=dict)


@torch.no_grad()
def validate(model: nn.Module, pairs: list[tuple[np.ndarray, np.ndarray]], device: torch.device) -> dict:
    """Mean MPSNR [dB] over the validation pairs, mean evaluations of f, largest relative residual."""
    scores, iterations, residual = [], [], 0.0
    for clean, noisy in pairs:
        image = rearrange(torch.from_numpy(noisy), "h w b -> 1 b h w").to(device)
        output = _as_output(model(image))
        scores.append(metrics.mpsnr(clean, rearrange(output.image[0].cpu().numpy(), "b h w -> h w b")))
        if output.solution is not None:
            iterations.append(output.solution.iterations.float().mean().item())
            residual = max(residual, output.solution.residuals.amin(0).max().item())
    evidence = {"iterations": float(np.mean(iterations)), "residual": residual} if iterations else {}
    return {"psnr": float(np.mean(scores)), **evidence}


def train(config: TrainConfig, folder: Path | str, resume: bool = False, progress: bool = True) -> Path:
    """Train and return the path of the weights with the best validation MPSNR.

    `folder` receives `config.json` (with the fingerprints of the scene files), `log.jsonl` (one object a step or validation),
    `checkpoint.pt` and at the end `weights.safetensors`. With `resume` an interrupted run goes on, and a finished one returns at
    once. Weights that began from others tell what those reached in validation; they are written even where that was more.

    Raises
    ------
    FileExistsError
        If `folder` holds a run and `resume` is False, or one with another configuration, on other scenes or from other weights
        to start from, or files of no run; if another process trains there.
    ValueError
        If the batch cannot be shared by the devices, a scene has too few pixels or other bands than the network, or the
        weights to start from, or the checkpoint, cannot be used.
    RuntimeError
        If the training diverged.
    """
    with ExitStack() as after:
        after.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
        try:
            return _train(config, Path(folder), resume, progress, after)
        except FloatingPointError as error:  # DECSC's, of codes that are not finite
            raise RuntimeError(f"{folder}: the training diverged: {error}") from error


def _train(config: TrainConfig, folder: Path, resume: bool, progress: bool, after: ExitStack) -> Path:
    """`train`; what must be undone is left to `after`."""
    done = folder / "weights.safetensors"
    code, fabric = environment(), _fabric(config)

    def finished_before() -> bool:
        return fabric.broadcast(is_finished(folder, config, resume) if fabric.is_global_zero else None)

    if finished_before():
        return done
    scenes, validation_scenes = load(config.dataset, "train"), load(config.dataset, "validation")
    check_scenes([*scenes, *validation_scenes], config)
    pairs = validation_set(validation_scenes, config)
    model, ancestor = _initial(config)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()} if config.kept else {}
    if fabric.is_global_zero:
        folder.mkdir(parents=True, exist_ok=True)
        claim(folder, after)
    if finished_before():  # another process trained here meanwhile
        return done
    if fabric.is_global_zero:
        remove_leftovers(folder)
        began = {"start_sha256": ancestor["sha256"]} if ancestor else {}
        write_text(folder / "config.json", json.dumps(config.to_json() | began | {"files": scene_fingerprints(config)}, indent=1))

    module, *moved_by = fabric.setup(model, *optimizers(model, config.optimizer, config.learning_rate, config.weight_decay))
    if fabric.device.type == "cuda" and fabric.world_size == 1 and config.precision == "32-true" and not isinstance(model, (DECSC, HSDT)):
        bands = min(config.bands, scenes[0].cube.shape[2])
        _into_training(model, config)
        _record_launches(model, torch.zeros(config.batch, bands, config.patch, config.patch, device=fabric.device))
    data = {split: {scene.name: scene.sha256() for scene in part} for split, part in (("train", scenes), ("validation", validation_scenes))}
    state = {"model": module, **{f"optimizer{number or ''}": one for number, one in enumerate(moved_by)}}
    at = _Progress(data)
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        try:
            at = _Progress(**{"data": data} | fabric.load(checkpoint, state)["progress"])  # earlier ones do not tell of their data
        except Exception as error:  # whatever torch and pickle raise
            raise ValueError(f"{checkpoint}: cannot be read ({type(error).__name__}); it is damaged, remove it to begin anew") from error
        if what := changed(at.data, data):
            raise FileExistsError(f"{folder}: holds a run on other scenes ({what}); choose another folder")
    log = Log(folder / "log.jsonl", at.step) if fabric.is_global_zero else None

    total = config.steps or round(config.minutes * 60)
    unit = "step" if config.steps else "s"
    bar = tqdm(total=total, initial=min(total, at.step if config.steps else round(at.seconds)), unit=unit,
               desc=f"train {', '.join(config.cases)}", disable=not progress or not fabric.is_global_zero, mininterval=1)
    started, saved = time.monotonic() - at.seconds, time.monotonic()
    cpu_started, cpu_before = time.process_time(), at.cpu_seconds

    def clock() -> float:
        seconds = time.monotonic() - started
        return fabric.broadcast(seconds) if config.minutes else seconds  # one clock for all processes

    def finished() -> bool:
        return at.step >= config.steps if config.steps else at.seconds >= config.minutes * 60

    if config.start and at.step == 0:
        at.psnr_before = validate(model.eval(), pairs, fabric.device)["psnr"]
    _into_training(module, config)
    drawn = batches(scenes, config, fabric, at.step)
    while not finished():
        share = at.step / config.steps if config.steps else at.seconds / (config.minutes * 60)
        if isinstance(model, HSDT):
            model.draws.manual_seed(int(np.random.default_rng((config.seed, QUERY, at.step)).integers(2**63)))
        row = _step(fabric, module, moved_by, next(drawn), config, at.step, share)
        at.step += 1
        at.seconds = clock()
        if at.step % config.validate_every == 0 or finished():
            module.eval()
            score = validate(model, pairs, fabric.device)
            _into_training(module, config)
            row |= {f"validation_{name}": value for name, value in score.items()}
            if score["psnr"] > at.best:
                at.best, at.best_step = score["psnr"], at.step
                at.best_state = {name: t.detach().cpu().clone() for name, t in model.state_dict().items()}
            at.seconds = clock()
        if log:
            log.write({"step": at.step, "patches": at.step * config.batch, "seconds": round(at.seconds, 3), **row})
        bar.update((at.step if config.steps else min(total, round(at.seconds))) - bar.n)
        bar.set_postfix(loss=f"{row['loss']:.2e}", best=f"{at.best:.2f} dB", refresh=False)
        if fabric.broadcast(finished() or time.monotonic() - saved > config.checkpoint_seconds):
            of_all = fabric.all_reduce(torch.tensor(time.process_time() - cpu_started, device=fabric.device), reduce_op="sum")
            at.cpu_seconds = cpu_before + of_all.item()

            def save(path: Path) -> None:
                fabric.save(path, state | {"progress": vars(at)})

            if fabric.is_global_zero:
                write_whole(checkpoint, save)
            else:  # all processes take part, the first one writes
                save(checkpoint)
            saved = time.monotonic()
    bar.close()
    if not at.best_state:
        raise RuntimeError(f"{folder}: the training diverged, no validation score was finite; try a smaller learning rate")
    model.load_state_dict(at.best_state)
    if config.kept:
        _pull_back(model, before, config.kept)
        at.best = validate(model.eval(), pairs, fabric.device)["psnr"]
    if fabric.is_global_zero:
        device = torch.cuda.get_device_name(fabric.device) if fabric.device.type == "cuda" else str(fabric.device)
        story = _story(config, at, {**code, "device": device})
        weights.save(model, done, story | ({"ancestor": ancestor} if ancestor else {}))
    return done


def _initial(config: TrainConfig) -> tuple[nn.Module, dict | None]:
    """The network before the first step and, if it was trained before, that training's hash and story."""
    model = build(config.model, torch.Generator().manual_seed(config.seed))
    if config.start is None:
        return model, None
    start = weights.load(config.start)
    own, taken = model.state_dict(), start.model.state_dict()
    if {start.method, method_of(config.model)} == PRIORS.keys():
        if config.kept:
            raise ValueError(f"{config.start}: has the other prior, so there is no whole network of which to keep kept={config.kept}; leave kept out")
        own, taken = (
            {name: tensor for name, tensor in state.items() if not name.startswith("prior_shared.")} for state in (own, taken)
        )
    if {name: t.shape for name, t in own.items()} != {name: t.shape for name, t in taken.items()}:
        raise ValueError(f"{config.start}: holds another network than the one to be trained")
    model.load_state_dict(taken, strict=False)
    if config.fixed_norms and not _norms(model):
        raise ValueError(f"fixed_norms: {method_of(config.model)} has no batch normalization; leave it out")
    return model, {"sha256": start.sha256, "story": start.story}


def _norms(model: nn.Module) -> list[BatchNorm]:
    return [module for module in model.modules() if isinstance(module, BatchNorm)]


def _into_training(model: nn.Module, config: TrainConfig) -> None:
    """Put the network into training mode, but for norms that shall not change."""
    model.train()
    if config.fixed_norms:
        for norm in _norms(model):
            norm.eval()


def _record_launches(model: nn.Module, sample: torch.Tensor) -> None:
    """Let the passes of a network in training mode replay their launches, recorded once with a batch like `sample`: on an H200 up to 2.2 times as many patches a second.

    Not for DECSC, whose solver decides on its way how far it goes, nor for HSDT, whose layers draw at each call which query they take.
    """
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    try:
        torch.cuda.make_graphed_callables(model, (sample,), allow_unused_input=True)
    except RuntimeError as error:
        warnings.warn(f"launches are not recorded, training goes on without: {str(error).splitlines()[0]}", RuntimeWarning, stacklevel=2)
    model.load_state_dict(before)  # passes ran, and batch norms took note


@torch.no_grad()
def _pull_back(model: nn.Module, before: dict[str, torch.Tensor], kept: float) -> None:
    """Put the weights between those and those `before`, of which the share `kept` is kept."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            tensor.lerp_(before[name].to(tensor), kept)


def _fabric(config: TrainConfig) -> Fabric:
    """One device, or those that torchrun hands out."""
    from lightning_fabric import Fabric
    from lightning_fabric.plugins import MixedPrecision

    class Mixed(MixedPrecision):
        """Mixed precision inside the network only: the noisy image, whose noise levels are read off it, stays as it is."""

        def convert_input(self, data: Any) -> Any:
            return data

    world = int(os.environ.get("WORLD_SIZE", 1))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if config.batch % world:
        raise ValueError(f"batch={config.batch} cannot be shared by {world} processes; use a multiple of {world}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    strategy = "ddp_find_unused_parameters_true" if isinstance(config.model, HSDTConfig) else "ddp"
    precision = {"plugins": Mixed(config.precision, device)} if config.precision == "bf16-mixed" else {"precision": config.precision}
    fabric = Fabric(
        accelerator=device, devices=local, num_nodes=world // local, strategy=strategy if world > 1 else "auto", **precision
    )
    fabric.launch()
    if fabric.device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    return fabric


def _story(config: TrainConfig, at: _Progress, code: dict) -> dict:
    """What the weights file tells about its training."""
    start = {"start": config.start and Path(config.start).name}  # folders are no part of the story; `ancestor` has its hash
    return {
        "training": config.to_json() | start,
        "data": at.data,
        "steps": at.step,
        "patches": at.step * config.batch,
        "seconds": round(at.seconds, 1),
        "cpu_seconds": round(at.cpu_seconds, 1),
        "best_step": at.best_step,
        **({"validation_psnr_before": at.psnr_before} if at.psnr_before is not None else {}),
        "validation_psnr": at.best,
        "environment": code,
    }


def _step(fabric: Fabric, module, moved_by: Sequence[torch.optim.Optimizer], batch: Sequence[torch.Tensor], config: TrainConfig, step: int, share: float) -> dict:
    """One optimiser step with a batch of clean and noisy patches; returns what the log tells about it."""
    clean, noisy = (cubes.to(fabric.device, non_blocking=True) for cubes in batch)
    rate = learning_rate(config, share)
    for optimizer in moved_by:
        for group in optimizer.param_groups:
            group["lr"] = rate
    if np.random.default_rng((config.seed, PASS, step)).random() < config.passes:
        with torch.no_grad():
            noisy = cut(noisy, module(noisy, *_solve_arguments(config, step)[:2]).image, config.model.misfit)
    output = _as_output(module(noisy, *_solve_arguments(config, step)))
    loss = F.mse_loss(output.image, clean)
    total = loss + config.jacobian_penalty * output.jacobian if config.jacobian_penalty else loss
    module.zero_grad()
    fabric.backward(total)
    norm = fabric.clip_gradients(module, moved_by[0], max_norm=config.clip, error_if_nonfinite=False)  # of all parameters
    if torch.isfinite(norm):
        for optimizer in moved_by:
            optimizer.step()
    row = {"loss": fabric.all_reduce(loss.detach()).item(), "gradient_norm": float(norm), "learning_rate": rate}
    if config.jacobian_penalty:
        row["jacobian"] = output.jacobian.item()
    if output.solution is not None:
        row["iterations"] = output.solution.iterations.float().mean().item()
        row["residual"] = output.solution.residuals.amin(0).median().item()
    return row


def _solve_arguments(config: TrainConfig, step: int) -> tuple:
    """What DECSC takes beside the image: random shifts, a random depth of the solve, and a probe for the penalty."""
    if not isinstance(config.model, DECSCConfig):
        return ()
    rng = np.random.default_rng((config.seed, SHIFT, step))
    every = all_shifts(config.model.stride)
    shifts = [every[i] for i in sorted(rng.choice(len(every), config.model.train_shifts, replace=False))]
    low, high = config.evaluations
    return shifts, int(rng.integers(low, high + 1)), rng if config.jacobian_penalty else None


def _as_output(result: Output | torch.Tensor) -> Output:
    """The result of any network in the form of DECSC's."""
    return result if isinstance(result, Output) else Output(result, torch.zeros_like(result), None)
