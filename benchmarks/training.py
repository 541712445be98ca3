"""What a training step costs beside that of the authors' release, and whether as much is learned from a patch.

    python benchmarks/training.py [--shifts 1 3 6] [--steps 8] [--out FILE.json ...]    half an hour, 12 GB
    python benchmarks/training.py --quick [--preset small] [--patch 64]                 only the cost
    DECSC_DATA=/path/to/data python benchmarks/training.py --dataset cave               on real scenes

Two loops train the same network on the same patches with the same optimiser, one patch a step.

- The release's, re-enacted: all shifted copies; 20 evaluations of f by its solver, unless the residual of the whole
  batch falls to 1e-3 before; one with gradient; one whose result is thrown away; five damped ones with gradient.
- The package's, as the presets `small` and `tiny` are trained: few copies, drawn anew for each step; 4 to 12
  evaluations by the solver, drawn anew, of which each copy takes as many as it needs; five with gradient.

The cost is that of a network of the published size: the mean over the steps (of the release's loop: one step), noise
and optimiser included. Every row comes from a process of its own, on one thread. CPU time, not wall time, because it is
what other load disturbs least; memory is what training adds to the peak of a process that has scenes and network.

What is learned is measured on a network small enough to be trained by the release's loop on a CPU: the preset `tiny`,
of which 9 shifted copies take the place of 49, on patches of 32 x 32 pixels; validation averages all 9 copies.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import Tensor

from decsc_core import deq
from decsc_core.atomic import write_text
from decsc_core.model import DECSC, SolverConfig, preset
from decsc_core.model.decsc import Layer
from decsc_core.networks.catalog import SIZES
from decsc_core.outputs import file_target
from decsc_core.scenes import DATASETS, load
from decsc_core.study import train as package
from decsc_core.study.cubes import centre
from decsc_core.study.measure import peak_memory, worker
from decsc_core.study.optimizers import optimizers
from decsc_core.study.patches import check_scenes, patch_batch, validation_set
from decsc_core.study.recipes import RECIPES, training

RELEASE = 0
"""In place of a number of shifted copies: the release's loop."""
LEARNING = {"patch": 32, "learning_rate": 3e-3}
"""Of the trainings whose MPSNR is compared. Of the rates 1e-3 and 3e-3 it is the better one for the package's loop."""
PATCHES, SEEDS = 240, (0, 1)
"""Of these trainings, unless asked otherwise."""


class Released(DECSC):
    """The network with the evaluations of f that the release makes in a training step."""

    def equilibrium(self, layer: Layer, solver: SolverConfig | None = None) -> tuple[Tensor, deq.Solution]:
        """As the network's own, and an evaluation that is thrown away, its graph held while the others are made."""
        with torch.no_grad():
            solution = deq.solve(layer, layer.initial(), **asdict(solver or self.config.solver))
        z = layer(solution.z)
        thrown_away = layer(z.detach().requires_grad_()) if self.training else None
        for damping in self.config.phantom[1:]:
            z = (1 - damping) * z + damping * layer(z)
        del thrown_away
        return z, solution


class Training:
    """A training by one of the loops, one patch a step: a network, its optimiser, and the training scenes."""

    def __init__(self, size: str, shifts: int, dataset: str, **fields) -> None:
        model = preset(size)
        every = model.stride**2
        if shifts == RELEASE:
            loop = {"train_shifts": every, "solver": SolverConfig(**deq.RELEASED), "phantom": deq.RELEASED_DAMPINGS}
            evaluations = (deq.RELEASED["max_iter"],) * 2
        else:
            loop = {"train_shifts": shifts, "solver": SolverConfig(), "phantom": deq.PAPER_DAMPINGS}
            evaluations = RECIPES["decsc"]["small"]["evaluations"]
        model = replace(model, shifts=every, **loop)
        recipe = training("decsc", size, dataset=dataset, **fields | {"batch": 1})
        self.config = replace(recipe, model=model, evaluations=evaluations)
        self.scenes = load(dataset, "train")
        check_scenes(self.scenes, self.config)
        network = Released if shifts == RELEASE else DECSC
        self.model = network(model, torch.Generator().manual_seed(recipe.seed))
        self.fabric = Fabric(accelerator="cpu", devices=1)
        self.module, *self.moved_by = self.fabric.setup(
            self.model, *optimizers(self.model, recipe.optimizer, recipe.learning_rate, recipe.weight_decay)
        )

    def step(self, number: int) -> dict:
        """One step of the training; returns what the log tells about it."""
        self.module.train()
        share = number / self.config.steps
        batch = patch_batch(self.scenes, self.config, range(number, number + 1))
        return package._step(self.fabric, self.module, self.moved_by, batch, self.config, number, share)

    def validate(self) -> float:
        """MPSNR [dB] on the central 64 x 64 pixels of the validation scenes."""
        self.module.eval()
        scenes = [replace(scene, cube=centre(scene.cube, 64)) for scene in load(self.config.dataset, "validation")]
        return package.validate(self.model, validation_set(scenes, self.config), self.fabric.device)["psnr"]


def cost(size: str, shifts: int, dataset: str, patch: int, steps: int) -> dict:
    """What a step costs in this process."""
    torch.set_num_threads(1)
    training = Training(size, shifts, dataset, patch=patch, steps=steps)
    model, before, started = training.config.model, peak_memory(), time.process_time()
    rows = [training.step(number) for number in range(steps)]
    return {
        **named(shifts, model.stride), "solver evaluations": float(np.mean([row["iterations"] for row in rows])),
        "CPU [s]": (time.process_time() - started) / steps, "memory [GB]": (peak_memory() - before) / 1000,
    }


def learn(shifts: int, dataset: str, patches: int, seed: int) -> list[dict]:
    """A training in this process: a row at each quarter of its patches."""
    torch.set_num_threads(1)
    training = Training("tiny", shifts, dataset, steps=patches, seed=seed, **LEARNING)
    rows, seconds = [], 0.0
    for number in range(patches):
        started = time.process_time()
        training.step(number)
        seconds += time.process_time() - started
        if (number + 1) % max(1, patches // 4) == 0:
            rows.append({
                **named(shifts, training.config.model.stride), "patches": number + 1, "seed": seed,
                "MPSNR [dB]": training.validate(), "CPU [s]": seconds / (number + 1),
            })
    return rows


def named(shifts: int, stride: int) -> dict:
    """The first columns of a row."""
    return {"loop": "release" if shifts == RELEASE else "package", "shifts": f"{shifts or stride**2} of {stride**2}"}


def costs(asked: argparse.Namespace) -> pd.DataFrame:
    """A row a loop, and how many times less than the release's it costs."""
    rows = []
    for shifts in (RELEASE, *asked.shifts):
        with worker(1) as process:
            steps = 1 if shifts == RELEASE else asked.steps
            rows.append(process.submit(cost, asked.preset, shifts, asked.dataset, asked.patch, steps).result())
        print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    for name in ("CPU", "memory"):
        column = next(column for column in table if column.startswith(name))
        table[f"times less {name}"] = table[column].iloc[0] / table[column]
    return table


def trainings(asked: argparse.Namespace) -> pd.DataFrame:
    """A row a seed, loop and number of patches."""
    rows = []
    for seed in asked.seeds or SEEDS:
        for shifts in (RELEASE, *asked.shifts):
            with worker(1) as process:
                rows += process.submit(learn, shifts, asked.dataset, asked.patches or PATCHES, seed).result()
            print(rows[-1], flush=True)
    return pd.DataFrame(rows)


def learning(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a loop and number of patches: MPSNR and its difference from the release's loop with the same seed, means over the seeds.

    Parameters
    ----------
    rows : DataFrame
        From `trainings`.
    """
    keys = ["loop", "shifts", "patches"]
    order = rows[keys].drop_duplicates().itertuples(index=False, name=None)
    scores = rows.pivot(index=keys, columns="seed", values="MPSNR [dB]").loc[list(order)]
    above = scores.sub(scores.loc["release"].droplevel("shifts"), level="patches")
    return pd.DataFrame({
        "seeds": scores.count(axis=1), "MPSNR [dB]": scores.mean(axis=1), "above the release [dB]": above.mean(axis=1),
        "standard error [dB]": above.sem(axis=1), "CPU [s]": rows.groupby(keys)["CPU [s]"].mean(),
    }).loc[scores.index].reset_index()


def count(text: str) -> int:
    """A whole number above 0."""
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def main() -> None:
    """Print the tables, and write them where asked; the .json has every training, too."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only the cost, not what is learned")
    parser.add_argument("--preset", choices=SIZES, default="paper", help="network whose cost is measured")
    parser.add_argument("--patch", type=count, default=64, help="side of the patches whose cost is measured [pixel]")
    parser.add_argument("--shifts", nargs="+", type=count, default=(1, 3, 6), help="copies of the package's loop")
    parser.add_argument("--steps", type=count, default=8, help="of the package's loop whose mean cost is measured")
    parser.add_argument("--patches", type=count, help=f"of each training whose MPSNR is compared; default {PATCHES}")
    parser.add_argument("--seeds", nargs="+", type=int, help=f"of these trainings; default {' '.join(map(str, SEEDS))}")
    parser.add_argument("--dataset", choices=DATASETS, default="photos")
    parser.add_argument("--out", nargs="+", type=file_target, default=(), help="also write the tables: .json or .md")
    asked = parser.parse_args()
    if wrong := [str(path) for path in asked.out if path.suffix not in (".json", ".md")]:
        parser.error(f"--out {' '.join(wrong)}: give a name that ends in .json or .md")
    if asked.quick and (asked.patches or asked.seeds):
        parser.error("--patches, --seeds: are of the trainings that --quick leaves out")
    most = min(preset(name).stride ** 2 for name in {asked.preset} | (set() if asked.quick else {"tiny"}))
    for option, numbers in (("--shifts", asked.shifts), ("--seeds", asked.seeds or SEEDS)):
        if len(set(numbers)) < len(numbers):
            parser.error(f"{option} {' '.join(map(str, numbers))}: give each number once")
    if min(asked.seeds or SEEDS) < 0:
        parser.error(f"--seeds {min(asked.seeds)}: is below 0")
    if max(asked.shifts) > most:
        both = "" if asked.quick else "; the tiny network is trained, too, but with --quick"
        parser.error(f"--shifts {max(asked.shifts)}: there are {most} copies at most{both}")

    try:
        tables = {"cost": costs(asked)}
        if not asked.quick:
            rows = trainings(asked)
            tables |= {"learning": learning(rows), "trainings": rows}
    except ValueError as error:
        sys.exit(str(error))
    printed = [tables[name].to_markdown(index=False, floatfmt=",.4g") for name in ("cost", "learning") if name in tables]
    told = "\n\n".join(printed)
    print(told)
    for path in asked.out:
        data = {name: table.to_dict("records") for name, table in tables.items()}
        write_text(path, (json.dumps(data, indent=1) if path.suffix == ".json" else told) + "\n")


if __name__ == "__main__":
    main()
