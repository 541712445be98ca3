"""Training: random patches of clean scenes, noise drawn for each, mean squared error (Eq. 25), Adam.

Every random number is a function of (seed, index of the patch) or (seed, step), so a run that was interrupted and resumed
equals one that was not: bit for bit on a CPU when the budget is in steps. Several GPUs: start with torchrun.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import math
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from pooch import file_hash
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from decsc_core import metrics, noise, weights
from decsc_core.atomic import remove_leftovers, write_text, write_whole
from decsc_core.checks import check_numbers
from decsc_core.model import DECSC, DECSCConfig, Output
from decsc_core.model.gross import cut
from decsc_core.model.shifts import all_shifts
from decsc_core.networks.catalog import PRIORS, build, configure, method_of, restore, sizes
from decsc_core.networks.hsdt import HSDT, HSDTConfig
from decsc_core.networks.volumes import BatchNorm
from decsc_core.scenes import Scene, fingerprints, load
from decsc_core.study.cubes import centre
from decsc_core.study.provenance import environment

if TYPE_CHECKING:  # importing it takes seconds, which only a training needs
    from lightning_fabric import Fabric

VALIDATION_SIDE = 128
LOADERS = 2
"""Processes that draw patches while a GPU trains."""
LARGEST_SEED = 2**63 - 1
PRECISIONS = ("32-true", "bf16-mixed")
OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
_PATCH, _SHIFT, _VALIDATION, _WINDOW, _PASS, _QUERY = range(6)


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Parameters
    ----------
    model : DECSCConfig or a peer's configuration
    dataset : str
        A data set of the catalogue with a training and a validation split. Of scenes with more bands than the network, or than
        `weights.CAMERA_BANDS` if it takes any number, patches and validation have windows of adjacent bands, drawn at random.
    case : str or tuple of str
        A noise case, or several: each patch then draws one of them, and validation takes them all.
    start : str or None
        Weights file to start from, of a network with the same tensors as that of `model`: fine-tuning. From DECSC with the
        other prior all but the prior on the shared codes is taken. None: initial weights by `seed`.
    kept : float
        Share of the weights to start from that the result keeps, w = kept w_start + (1 - kept) w_trained: between two networks
        of one ancestry there is often one with the better score of the one and the steadiness of the other (Wortsman et al.,
        Robust fine-tuning of zero-shot models, CVPR 2022).
    fixed_norms : bool
        Normalize with the batch statistics that the weights to start from hold, in training as at test, and leave them as they
        are: those of a few patches, or of one noise case, are others. For networks with batch normalization only.
    seed : int
    steps, minutes : int, float or None
        Budget: exactly one of the two. Minutes count all of the training time, validation included, over all resumed parts.
    batch, patch : int
        Patches a step (over all devices) and their side in pixels.
    optimizer : {"adam", "adamw"}
    learning_rate, weight_decay : float
        Of the optimizer.
    schedule : pairs of (share, factor)
        From each share of the budget on, the learning rate is `factor` times the first one; see `halved`.
    clip : float
        Largest gradient norm (the release: 1e6, never active).
    jacobian_penalty : float
        Weight of the mean squared entry of the Jacobian of f at the fixed point, times its width (Bai et al., ICML 2021).
    evaluations : (int, int)
        DECSC only, as `jacobian_penalty`. Smallest and largest cap on the solver's evaluations, drawn anew for each step;
        shallower and varied solves make training cheap and keep deeper ones at test from being worse.
    passes : float
        DECSC with a misfit only: share of the steps whose patches come as a second pass sees them, once denoised and their
        gross errors cut down.
    validate_every : int
        Steps between validations; the weights with the best validation MPSNR are kept.
    checkpoint_seconds : float
        Time between checkpoints, that is the most that an interruption can lose.
    precision : str
        ``"32-true"``, on a GPU with TF32, or ``"bf16-mixed"``, as Lightning Fabric knows them; the latter is seldom worth it: on an H200, batches of 16, the
        networks of published size took 0.8 to 1.2 times as many patches a second with it.
    """

    model: Any
    dataset: str = "cave"
    case: str | tuple[str, ...] = "gauss-95"
    start: str | None = None
    kept: float = 0.0
    fixed_norms: bool = False
    seed: int = 0
    steps: int | None = None
    minutes: float | None = None
    batch: int = 8
    patch: int = 64
    optimizer: str = "adam"
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    schedule: tuple[tuple[float, float], ...] = ()
    clip: float = 1.0
    jacobian_penalty: float = 0.0
    evaluations: tuple[int, int] = (20, 20)
    passes: float = 0.0
    validate_every: int = 200
    checkpoint_seconds: float = 60.0
    precision: str = "32-true"

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("give the budget either as steps or as minutes")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision {self.precision!r} does not exist; choose one of {', '.join(PRECISIONS)}")
        check_numbers(self, steps=1, batch=1, patch=1, validate_every=1, weight_decay=0, jacobian_penalty=0, checkpoint_seconds=0)
        for name in ("minutes", "learning_rate", "clip"):
            if (value := getattr(self, name)) is not None and value <= 0:
                raise ValueError(f"{name}={value} must be a number above 0")
        if not 0 <= self.kept < 1 or (self.kept and not self.start):
            raise ValueError(f"kept={self.kept} must be at least 0 and below 1, and above 0 only with weights to start from")
        if self.fixed_norms and not self.start:
            raise ValueError("fixed_norms is for weights to start from; there are no statistics to keep before a training")
        object.__setattr__(self, "evaluations", tuple(self.evaluations))
        if len(self.evaluations) != 2 or not all(isinstance(number, int) for number in self.evaluations) or not 1 <= self.evaluations[0] <= self.evaluations[1]:
            raise ValueError(f"evaluations={self.evaluations} must be two whole numbers, the smaller one, at least 1, first")
        for name in ("jacobian_penalty", "evaluations"):
            value, default = getattr(self, name), getattr(TrainConfig, name)
            if value != default and not isinstance(self.model, DECSCConfig):
                raise ValueError(f"{name}={value} is for DECSC alone, other networks have no fixed point; leave it at {default}")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise ValueError(f"seed={self.seed} must be a whole number from 0 to {LARGEST_SEED}")
        object.__setattr__(self, "schedule", tuple((float(share), float(factor)) for share, factor in self.schedule))
        shares = [share for share, _ in self.schedule]
        if shares != sorted(shares) or not all(0 <= share < 1 and 0 < factor < math.inf for share, factor in self.schedule):
            raise ValueError(f"schedule={self.schedule} must be pairs of a share of the budget, rising from 0 to below 1, and a factor above 0")
        if not 0 <= self.passes <= 1 or (self.passes and not getattr(self.model, "misfit", 0)):
            raise ValueError(f"passes={self.passes} must lie between 0 and 1, and above 0 only for DECSC with a misfit")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer {self.optimizer!r} does not exist; choose one of {', '.join(OPTIMIZERS)}")
        object.__setattr__(self, "case", self.case if isinstance(self.case, str) else tuple(self.case))
        if not self.cases:
            raise ValueError("case names no noise case")
        for case in self.cases:
            if case not in noise.CASES:
                raise ValueError(f"case {case!r} does not exist; choose one of {', '.join(noise.CASES)}")

    @property
    def cases(self) -> tuple[str, ...]:
        """The noise cases, also if it is a single one."""
        return (self.case,) if isinstance(self.case, str) else self.case

    @property
    def bands(self) -> int:
        """The most bands of a patch."""
        return getattr(self.model, "bands", None) or weights.CAMERA_BANDS

    def to_json(self) -> dict:
        """Plain types only."""
        return {"method": method_of(self.model), **asdict(self)}

    def digest(self) -> str:
        """Eight hexadecimal digits that differ between configurations, for the names of folders."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:8]

    @classmethod
    def from_json(cls, told: dict) -> TrainConfig:
        """What `to_json` told; fields that came after it have their defaults.

        Raises
        ------
        TypeError, ValueError
            If it is no such thing.
        """
        fields = dict(told)
        return cls(restore(fields.pop("method", ""), fields.pop("model", {})), **fields)


def halved(times: int) -> tuple[tuple[float, float], ...]:
    """The schedule that halves the learning rate `times` times, at equal parts of the budget."""
    return tuple((part / (times + 1), 0.5**part) for part in range(1, times + 1))


_DECSC = {
    "paper": {"clip": 1e6, "schedule": halved(2)},
    "small": {"batch": 4, "learning_rate": 1e-3, "schedule": halved(5), "clip": 0.05, "evaluations": (4, 12),
              "validate_every": 300},
    "tiny": {"batch": 4, "patch": 48, "learning_rate": 1e-3, "schedule": halved(5), "clip": 0.05, "evaluations": (4, 12),
             "validate_every": 100},
}
_ON_CPU = {"paper": {}, "small": {"batch": 4}, "tiny": {"batch": 4, "patch": 48, "validate_every": 100}}
_QRNN3D = {"batch": 16, "learning_rate": 1e-3, "schedule": ((0.4, 0.1), (0.6, 1.0), (0.7, 0.1), (0.9, 0.01)), "clip": 1e6}
_RELEASED: dict[str, dict] = {
    "sst": {"optimizer": "adamw", "weight_decay": 1e-4, "schedule": ((0.6, 0.1),), "clip": 1e6},
    "sert": {"batch": 16, "schedule": ((0.5, 0.1),), "clip": 1e6},
    "trq3d": _QRNN3D,
    "qrnn3d": _QRNN3D,
    "t3sc": {"batch": 16, "learning_rate": 3e-4, "schedule": ((0.5, 0.5), (0.75, 0.25)), "clip": 1e6},
    "mtsnnpp": {"learning_rate": 1e-3, "schedule": halved(2), "clip": 1e6},
    "hsdt": {"batch": 16, "learning_rate": 1e-3, "clip": 1e6,
             "schedule": ((0.25, 0.1), (0.375, 1.0), (0.56, 0.1), (0.69, 0.05), (0.75, 0.01), (0.81, 0.005), (0.94, 0.001))},
}
_LATE = {"clip": 1.0, "schedule": ((0.7, 0.3), (0.9, 0.1))}
_SHORT = {
    **dict.fromkeys(("sst", "sert"), _LATE | {"learning_rate": 1e-3}),
    **dict.fromkeys(("qrnn3d", "trq3d", "hsdt"), _LATE | {"learning_rate": 2e-3}),
    "t3sc": _LATE | {"learning_rate": 1e-3},
}
RECIPES: dict[str, dict[str, dict]] = {
    "decsc": _DECSC,
    "decsc-mamba": _DECSC,
    **{
        method: {
            size: released | _ON_CPU[size.split("-")[0]] | (_SHORT.get(method, {}) if size.split("-")[0] != "paper" else {})
            for size in sizes(method)
        }
        for method, released in _RELEASED.items()
    },
}
"""What the training of each method and size changes of the defaults: the optimiser and schedule of its paper or release.

Epochs became shares of the budget. Left out of the releases' are: changes of the noise level between epochs, for each
network is trained for one noise case or a mixture of cases; QRNN3D's and TRQ3DNet's smaller patches, 64 a step, in the
second half; HSDT's epoch of warming up; T3SC's going back to earlier weights when validation falls by 4 dB, for the best
validation's weights are kept. The smaller sizes are meant for hundreds of steps instead of hundreds of thousands: there the
learning rate is higher and falls late. MTSNN++ has no release; its recipe is ours, within the range of the same authors' others.
"""


def training(method: str, size: str = "paper", **fields) -> TrainConfig:
    """The training of a method's network of a size by its recipe, with some fields of `TrainConfig` given or changed.

    Raises
    ------
    ValueError
        If there is no such method or size, or a field is out of range.
    """
    model = configure(method, size)
    return TrainConfig(model, **RECIPES[method][size] | fields)


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


def band_window(cube: np.ndarray, bands: int, rng: np.random.Generator) -> np.ndarray:
    """As many adjacent bands of (H, W, B), drawn where there are more; nothing is drawn for a cube that has no more."""
    if cube.shape[2] <= bands:
        return cube
    first = rng.integers(cube.shape[2] - bands + 1)
    return cube[:, :, first : first + bands]


def patch_batch(scenes: list[Scene], config: TrainConfig, indices: Iterator[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Clean and noisy patches (N, B, patch, patch), one of the eight flips and rotations each, a seeded draw an index."""
    clean, noisy = [], []
    for index in indices:
        rng = np.random.default_rng((config.seed, _PATCH, index))
        cube = band_window(scenes[rng.integers(len(scenes))].cube, config.bands, rng)
        top, left = (rng.integers(side - config.patch + 1) for side in cube.shape[:2])
        patch = np.rot90(cube[top : top + config.patch, left : left + config.patch], rng.integers(4))
        patch = np.ascontiguousarray(patch[::-1] if rng.integers(2) else patch)
        case = config.case if isinstance(config.case, str) else str(rng.choice(config.case))
        clean.append(patch)
        noisy.append(noise.add_noise(patch, case, rng)[0])
    return tuple(torch.from_numpy(rearrange(np.stack(cubes), "n h w b -> n b h w")).contiguous() for cubes in (clean, noisy))


class _Patches(Dataset):
    """The batches by the indices of their patches, for a `DataLoader`."""

    def __init__(self, scenes: list[Scene], config: TrainConfig) -> None:
        self.scenes, self.config = scenes, config

    def __getitem__(self, indices: range) -> tuple[torch.Tensor, torch.Tensor]:
        return patch_batch(self.scenes, self.config, indices)


def _batches(scenes: list[Scene], config: TrainConfig, fabric: Fabric, step: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """This process's part of the batch of each step from `step` on; for a GPU drawn ahead, by processes of their own."""
    local = config.batch // fabric.world_size
    starts = itertools.count(step * config.batch + fabric.global_rank * local, config.batch)
    on_gpu = fabric.device.type == "cuda"
    return iter(DataLoader(
        _Patches(scenes, config), batch_size=None, sampler=(range(first, first + local) for first in starts),
        num_workers=LOADERS if on_gpu else 0, pin_memory=on_gpu, generator=torch.Generator(),
    ))


def validation_set(scenes: list[Scene], config: TrainConfig) -> list[tuple[np.ndarray, np.ndarray]]:
    """Centre crops of at most 128 pixels a side and their noisy versions in each case, the same at every validation.

    Scenes with more bands than a patch have one window of them for each case.
    """
    pairs = []
    for (place, case), (number, scene) in itertools.product(enumerate(config.cases), enumerate(scenes)):
        window = band_window(scene.cube, config.bands, np.random.default_rng((config.seed, _WINDOW, number, place)))
        cube = centre(window, VALIDATION_SIDE)
        pairs.append((cube, noise.add_noise(cube, case, np.random.default_rng((config.seed, _VALIDATION, number)))[0]))
    return pairs


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
        return fabric.broadcast(_finished(folder, config, resume) if fabric.is_global_zero else None)

    if finished_before():
        return done
    scenes, validation_scenes = load(config.dataset, "train"), load(config.dataset, "validation")
    _check_scenes([*scenes, *validation_scenes], config)
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
        write_text(folder / "config.json", json.dumps(config.to_json() | began | {"files": _files(config)}, indent=1))

    optimizer = OPTIMIZERS[config.optimizer](
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    module, optimizer = fabric.setup(model, optimizer)
    if fabric.device.type == "cuda" and fabric.world_size == 1 and config.precision == "32-true" and not isinstance(model, (DECSC, HSDT)):
        bands = min(config.bands, scenes[0].cube.shape[2])
        _into_training(model, config)
        _record_launches(model, torch.zeros(config.batch, bands, config.patch, config.patch, device=fabric.device))
    data = {split: {scene.name: scene.sha256() for scene in part} for split, part in (("train", scenes), ("validation", validation_scenes))}
    state, at = {"model": module, "optimizer": optimizer}, _Progress(data)
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        try:
            at = _Progress(**{"data": data} | fabric.load(checkpoint, state)["progress"])  # earlier ones do not tell of their data
        except Exception as error:  # whatever torch and pickle raise
            raise ValueError(f"{checkpoint}: cannot be read ({type(error).__name__}); it is damaged, remove it to begin anew") from error
        if what := _changed(at.data, data):
            raise FileExistsError(f"{folder}: holds a run on other scenes ({what}); choose another folder")
    log = _Log(folder / "log.jsonl", at.step) if fabric.is_global_zero else None

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
    batches = _batches(scenes, config, fabric, at.step)
    while not finished():
        share = at.step / config.steps if config.steps else at.seconds / (config.minutes * 60)
        if isinstance(model, HSDT):
            model.draws.manual_seed(int(np.random.default_rng((config.seed, _QUERY, at.step)).integers(2**63)))
        row = _step(fabric, module, optimizer, next(batches), config, at.step, share)
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


def claim(folder: Path, after: ExitStack) -> None:
    """Keep other trainings out of a folder, or raise FileExistsError if one is there; a process that is killed lets go of it."""
    held = os.open(folder, os.O_RDONLY)
    after.callback(os.close, held)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise FileExistsError(f"{folder}: another training is running there; wait for it, or choose another folder") from None
    except OSError:
        pass  # the file system has no such locks


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


def _check_scenes(scenes: list[Scene], config: TrainConfig) -> None:
    """Raise ValueError for the first scene that cannot give patches to this network."""
    own = getattr(config.model, "bands", None)
    wanted = min(own or scenes[0].cube.shape[2], config.bands)
    for scene in scenes:
        height, width, bands = scene.cube.shape
        if min(bands, config.bands) != wanted:
            raise ValueError(f"{config.dataset}: {scene.name} has {bands} bands, {'the network' if own else scenes[0].name} {wanted}")
        if min(height, width) < config.patch:
            raise ValueError(f"{config.dataset}: {scene.name} is {height} x {width} pixels, smaller than patch={config.patch}")


def _finished(folder: Path, config: TrainConfig, resume: bool) -> bool:
    """Whether `folder` holds the finished run of that configuration; refuse a folder that holds another run, or files of none."""
    kept = [path for path in (folder / "checkpoint.pt", folder / "weights.safetensors") if path.exists()]
    if not (folder / "config.json").exists():
        if kept:
            raise FileExistsError(f"{kept[0]}: is there, but no config.json that tells of its training; choose another folder")
        return False
    if not kept:  # it ended before there was anything to keep
        return False
    if not resume:
        raise FileExistsError(f"{folder}: holds a training run; resume it or choose another folder")
    if what := unlike(folder, config):
        raise FileExistsError(f"{folder}: holds a run {what}; choose another folder")
    return (folder / "weights.safetensors").exists()


def unlike(folder: Path, config: TrainConfig) -> str:
    """What tells the run in `folder` from that of a configuration, in a few words; empty if nothing, or if there is none."""
    path = folder / "config.json"
    if not path.exists():
        return ""
    try:
        told = dict(json.loads(path.read_text()))
        began, files = told.pop("start_sha256", None), told.pop("files", None)
        there = TrainConfig.from_json(told)
        if began and config.start:  # the hash says which weights, wherever they lie
            there = replace(there, start=config.start)
    except (TypeError, ValueError):
        return "with another configuration"
    for one in fields(config):
        if getattr(there, one.name) != getattr(config, one.name):
            what = "of the network" if one.name == "model" else f"{one.name} was {getattr(there, one.name)}, not {getattr(config, one.name)}"
            return f"with another configuration ({what})"
    if began and Path(config.start).exists() and file_hash(config.start) != began:
        return f"that began from other weights than {config.start} has"
    if files and any((now := _files(config)).values()) and (what := _changed(files, now)):  # or they are not on this machine any more
        return f"on other scenes ({what})"
    return ""


def _files(config: TrainConfig) -> dict[str, dict[str, str]]:
    """The `fingerprints` of the scenes of a training, by split."""
    return {split: fingerprints(config.dataset, split) for split in ("train", "validation")}


def _changed(before: dict[str, dict[str, str]], data: dict[str, dict[str, str]]) -> str:
    """The first scene in which the data of a run differ from those there are, and how; empty if none."""
    for split in data:
        for scene in dict.fromkeys([*before[split], *data[split]]):
            if before[split].get(scene) != data[split].get(scene):
                how = "is gone" if scene not in data[split] else "has changed" if scene in before[split] else "is new"
                return f"{scene} of its {split} split {how}"
    return ""


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
        accelerator="auto", devices=local, num_nodes=world // local, strategy=strategy if world > 1 else "auto", **precision
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


def _step(fabric: Fabric, module, optimizer, batch: Sequence[torch.Tensor], config: TrainConfig, step: int, share: float) -> dict:
    """One optimiser step with a batch of clean and noisy patches; returns what the log tells about it."""
    clean, noisy = (cubes.to(fabric.device, non_blocking=True) for cubes in batch)
    rate = learning_rate(config, share)
    for group in optimizer.param_groups:
        group["lr"] = rate
    if np.random.default_rng((config.seed, _PASS, step)).random() < config.passes:
        with torch.no_grad():
            noisy = cut(noisy, module(noisy, *_solve_arguments(config, step)[:2]).image, config.model.misfit)
    output = _as_output(module(noisy, *_solve_arguments(config, step)))
    loss = F.mse_loss(output.image, clean)
    total = loss + config.jacobian_penalty * output.jacobian if config.jacobian_penalty else loss
    optimizer.zero_grad()
    fabric.backward(total)
    norm = fabric.clip_gradients(module, optimizer, max_norm=config.clip, error_if_nonfinite=False)
    if torch.isfinite(norm):
        optimizer.step()
    row = {"loss": fabric.all_reduce(loss.detach()).item(), "gradient_norm": float(norm), "learning_rate": rate}
    if config.jacobian_penalty:
        row["jacobian"] = output.jacobian.item()
    if output.solution is not None:
        row["iterations"] = output.solution.iterations.float().mean().item()
        row["residual"] = output.solution.residuals.amin(0).median().item()
    return row


def learning_rate(config: TrainConfig, share: float) -> float:
    """The learning rate after that share of the budget."""
    return config.learning_rate * next((factor for start, factor in reversed(config.schedule) if share >= start), 1.0)


def _solve_arguments(config: TrainConfig, step: int) -> tuple:
    """What DECSC takes beside the image: random shifts, a random depth of the solve, and a probe for the penalty."""
    if not isinstance(config.model, DECSCConfig):
        return ()
    rng = np.random.default_rng((config.seed, _SHIFT, step))
    every = all_shifts(config.model.stride)
    shifts = [every[i] for i in sorted(rng.choice(len(every), config.model.train_shifts, replace=False))]
    low, high = config.evaluations
    return shifts, int(rng.integers(low, high + 1)), rng if config.jacobian_penalty else None


def _as_output(result: Output | torch.Tensor) -> Output:
    """The result of any network in the form of DECSC's."""
    return result if isinstance(result, Output) else Output(result, torch.zeros_like(result), None)


def log_rows(path: Path) -> list[dict]:
    """The complete lines of a training's log; none if there is no log."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:  # the line that an interruption cut
            break
    return rows


class _Log:
    """JSON lines; on resuming, lines after the checkpoint are dropped, for those steps are taken again."""

    def __init__(self, path: Path, step: int) -> None:
        write_text(path, "".join(json.dumps(row) + "\n" for row in log_rows(path) if row["step"] <= step))
        self.path = path

    def write(self, row: dict) -> None:
        """Append one object."""
        with open(self.path, "a") as file:
            file.write(json.dumps(row) + "\n")
