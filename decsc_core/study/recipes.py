"""What a training is: its configuration, and the recipe of each method, the optimiser and schedule of its paper or release."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from decsc_core import noise, weights
from decsc_core.checks import check_numbers
from decsc_core.model import DECSCConfig
from decsc_core.networks.catalog import configure, method_of, restore, sizes
from decsc_core.study.optimizers import OPTIMIZERS

LARGEST_SEED = 2**63 - 1
PRECISIONS = ("32-true", "bf16-mixed")


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
    optimizer : {"adam", "adamw", "muon"}
        "muon" moves the weights of linear layers and convolutions and stacks of matrices by Muon, the rest by AdamW (`optimizers.Muon`).
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
        Time between checkpoints, that is the most that an interruption can lose. Another one makes no other training.
    precision : str
        ``"32-true"``, on a GPU with TF32, or ``"bf16-mixed"``, as Lightning Fabric knows them; the latter is seldom worth it: on an H200, batches of 16, the
        networks of published size took 0.8 to 1.2 times as many patches a second with it.

    Raises
    ------
    ValueError
        If a field is out of range, or does not go with another one or with the network.
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
    checkpoint_seconds: float = field(default=60.0, compare=False)
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
        if isinstance(self.model, DECSCConfig):
            try:
                replace(self.model.solver, max_iter=self.evaluations[0])
            except ValueError as error:
                raise ValueError(f"evaluations={self.evaluations} do not go with the solver: {error}") from None
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

    def difference(self, other: TrainConfig) -> str:
        """The first field that another training has otherwise, in a few words; empty if it is the same training."""
        for one in fields(self):
            here, there = getattr(self, one.name), getattr(other, one.name)
            if one.compare and here != there:
                return "the network is another one" if one.name == "model" else f"{one.name} was {here}, not {there}"
        return ""

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
        given = dict(told)
        return cls(restore(given.pop("method", ""), given.pop("model", {})), **given)


def learning_rate(config: TrainConfig, share: float) -> float:
    """The learning rate after that share of the budget."""
    return config.learning_rate * next((factor for start, factor in reversed(config.schedule) if share >= start), 1.0)


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
