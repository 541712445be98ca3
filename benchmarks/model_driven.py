"""What the model-driven methods cost and reach beside the originals: CPU-seconds, memory, MPSNR.

    python benchmarks/model_driven.py [--methods bm4d llrt ...] [--cubes a_gauss] [--repeats 3] [--out FILE.json ...]
    python benchmarks/model_driven.py --sizes [--sides 64 128 256]
    python benchmarks/model_driven.py --options [--cubes a_gauss a_mixture b_gauss b_mixture]

The first form and the third run on the recorded cubes in ../shared (or DECSC_SHARED), of 96 x 96 pixels and 31 bands,
with the true mean noise level where a method takes one; the second on an embedded scene with noise of the case
gauss-95, blindly. Every method runs in a process of its own; a first run on a corner of the cube does not count, and of
the others the one with the least CPU time does. CPU time, not wall time, because it is what other load disturbs least.
Memory is what the method adds to the peak of a process that has everything imported. The originals' CPU-seconds were
recorded on one thread of another machine, most of them in GNU Octave, so a ratio tells the order of magnitude.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from decsc_core.atomic import write_text
from decsc_core.denoisers.base import Denoiser
from decsc_core.denoisers.classical.whitened import Whitened
from decsc_core.denoisers.registry import METHODS, make
from decsc_core.metrics import mpsnr
from decsc_core.noise import add_noise
from decsc_core.outputs import file_target
from decsc_core.scenes import photos
from decsc_core.study.measure import fastest, peak_memory, worker

CUBES = ("a_gauss", "a_mixture", "b_gauss", "b_mixture")
SIDES = (64, 128, 256)
ORIGINALS = {
    "bm4d": "bm4d_legacy_mean", "mtsnmf": "mtsnmf", "llrt": "llrt", "ngmeet": "ngmeet", "lrmr": "lrmr_B",
    "e3dtv": "e3dtv_r13", "logtnn": "3dlogtnn",
}
"""The recorded run of each method that had our default parameters."""
MODEL_DRIVEN = tuple(ORIGINALS)

VARIANTS: dict[str, dict[str, Callable[[float], dict]]] = {
    "bm4d": {
        "sigma estimated": lambda sigma: {},
        "sigma and group variance estimated": lambda sigma: {"group_variance": True},
        "whitened": lambda sigma: {"sigma": sigma, "whiten": True},
    },
    "mtsnmf": {
        "sigma estimated": lambda sigma: {},
        "whitened": lambda sigma: {"sigma": sigma, "whiten": True},
    },
    "llrt": {"sigma estimated": lambda sigma: {}},
    "ngmeet": {
        "sigma estimated": lambda sigma: {},
        "whitened": lambda sigma: {"sigma": sigma, "whiten": True},
    },
    "lrmr": {
        "rank 3, block 20, sparsity 0.005": lambda sigma: {"rank": 3, "block": 20, "sparsity": 0.005},
        "one power iteration": lambda sigma: {"power": 1},
    },
    "e3dtv": {
        "rank 13, 13, 8": lambda sigma: {"rank": (13, 13, 8)},
        "rank 8": lambda sigma: {"rank": 8},
        "rank 5": lambda sigma: {"rank": 5},
        "rank 3": lambda sigma: {"rank": 3},
    },
    "logtnn": {
        "sigma estimated": lambda sigma: {},
        "half of sigma": lambda sigma: {"sigma": sigma / 2},
        "theta 0": lambda sigma: {"sigma": sigma, "theta": 0.0},
    },
}
"""Documented options: the arguments of the class, and whether it is `Whitened`, for a cube whose true mean noise level is given."""


class Recorded:
    """The recorded cubes and what the originals reached on them."""

    def __init__(self) -> None:
        shared = Path(os.environ.get("DECSC_SHARED") or Path(__file__).resolve().parents[2] / "shared")
        folder = shared / "golden"
        try:
            self.runs = json.loads((folder / "model_driven.json").read_text())
            with np.load(folder / "model_driven.npz") as archive:
                self.arrays = dict(archive)
        except FileNotFoundError as error:
            sys.exit(f"{error.filename} is not there; set DECSC_SHARED to the folder with the recorded cubes")

    def pair(self, cube: str) -> tuple[np.ndarray, np.ndarray]:
        """The clean and the noisy cube."""
        return self.arrays[f"clean_{cube[0]}"], self.arrays[f"noisy_{cube}"]

    def sigma(self, cube: str) -> float:
        """The true mean noise level, on the 0-255 scale."""
        return 255 * float(self.arrays[f"sigma_{cube[0]}"].mean())


def photo(scene: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """A scene at side x side pixels, cropped or continued by its mirror image, clean and with noise."""
    scene = scene[:side, :side]
    height, width, _ = scene.shape
    clean = np.pad(scene, ((0, side - height), (0, side - width), (0, 0)), mode="symmetric")
    noisy, _ = add_noise(clean, "gauss-95", np.random.default_rng(0))
    return clean, noisy


def built(method: str, *, whiten: bool = False, **options: object) -> Denoiser:
    """The method with some options of its class, on a CPU; `Whitened` or not."""
    denoiser = type(make(method))(device="cpu", **options)
    return Whitened(denoiser) if whiten else denoiser


def measure(method: str, options: dict, clean: np.ndarray, noisy: np.ndarray, repeats: int, threads: int) -> dict:
    """Denoise one cube: CPU and wall time of the best run, memory, MPSNR."""
    import torch

    torch.set_num_threads(threads)
    denoiser = built(method, **options)
    denoiser(noisy[:16, :16])
    before = peak_memory()
    cpu, wall, estimate = fastest(lambda: denoiser(noisy), repeats)
    psnr = mpsnr(clean, estimate.cube)
    return {"CPU [s]": cpu, "wall [s]": wall, "memory [MB]": peak_memory() - before, "MPSNR [dB]": psnr}


def apart(method: str, options: dict, pair: tuple[np.ndarray, np.ndarray], asked: argparse.Namespace) -> dict:
    """`measure` in a process of its own, so that the memory is the method's."""
    with worker(asked.threads) as process:
        return process.submit(measure, method, options, *pair, asked.repeats, asked.threads).result()


def at(method: str, sigma: float) -> dict:
    """The arguments that give `sigma` to a method that takes one."""
    return {"sigma": sigma} if "sigma" in METHODS[method].options else {}


def beside_the_originals(recorded: Recorded, asked: argparse.Namespace) -> list[dict]:
    """One row a method and cube: ours, the original's, the ratio of their CPU times."""
    rows = []
    for method in asked.methods:
        for cube in asked.cubes or CUBES[:1]:
            original = recorded.runs[ORIGINALS[method]][cube]
            ours = apart(method, at(method, recorded.sigma(cube)), recorded.pair(cube), asked)
            rows.append({
                "method": method, "cube": cube, **ours,
                "original [dB]": original["psnr"], "original [CPU s]": original["cpu_seconds"],
                "times faster": original["cpu_seconds"] / ours["CPU [s]"],
            })
            report(rows[-1])
    return rows


def over_sizes(asked: argparse.Namespace) -> list[dict]:
    """One row a method and side, with the power of the number of pixels by which the CPU time grew from the last."""
    scene = photos.build("astronaut").cube
    rows, pairs = [], {side: photo(scene, side) for side in sorted(set(asked.sides or SIDES))}
    for method in asked.methods:
        before = None
        for side, pair in pairs.items():
            row = {"method": method, "side": side, **apart(method, {}, pair, asked)}
            if before:
                growth = np.log(row["CPU [s]"] / before["CPU [s]"]) / np.log(side**2 / before["side"] ** 2)
                row["power of pixels"] = float(growth)
            rows.append(row)
            report(row)
            before = row
    return rows


def of_options(recorded: Recorded, asked: argparse.Namespace) -> list[dict]:
    """One row an option of a method: its gain over the defaults on each cube, and its CPU time relative to theirs."""
    rows, cubes = [], asked.cubes or CUBES
    for method in asked.methods:
        with worker(asked.threads) as process:

            def run(options: Callable[[float], dict]) -> list[dict]:
                found = []
                for cube in cubes:
                    work = method, options(recorded.sigma(cube)), *recorded.pair(cube), asked.repeats, asked.threads
                    found.append(process.submit(measure, *work).result())
                return found

            defaults = run(lambda sigma: at(method, sigma))
            for name, options in VARIANTS[method].items():
                found = run(options)
                rows.append({"method": method, "option": name})
                for cube, theirs, ours in zip(cubes, defaults, found):
                    rows[-1][f"{cube} [dB]"] = ours["MPSNR [dB]"] - theirs["MPSNR [dB]"]
                seconds = [sum(result["CPU [s]"] for result in results) for results in (found, defaults)]
                rows[-1]["relative CPU time"] = seconds[0] / seconds[1]
                report(rows[-1])
    return rows


def report(row: dict) -> None:
    """Print one row as it comes."""
    print(", ".join(f"{key} {value:.4g}" if isinstance(value, float) else str(value) for key, value in row.items()),
          flush=True)


def count(text: str) -> int:
    """A whole number above 0."""
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def main() -> None:
    """Print the table, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--sizes", action="store_true", help="how time and memory grow with the image")
    what.add_argument("--options", action="store_true", help="what the documented options gain")
    parser.add_argument("--methods", nargs="+", choices=MODEL_DRIVEN, default=MODEL_DRIVEN)
    parser.add_argument("--cubes", nargs="+", choices=CUBES, help="recorded cubes; default a_gauss, --options: all")
    parser.add_argument("--sides", nargs="+", type=count, help=f"of the images of --sizes; default {' '.join(map(str, SIDES))}")
    parser.add_argument("--repeats", type=count, default=3)
    parser.add_argument("--threads", type=count, default=1)
    parser.add_argument("--out", nargs="+", type=file_target, default=(), help="also write the table: .json or .md")
    asked = parser.parse_args()
    if wrong := [str(path) for path in asked.out if path.suffix not in (".json", ".md")]:
        parser.error(f"--out {' '.join(wrong)}: give a name that ends in .json or .md")
    if asked.sizes and asked.cubes:
        parser.error("--cubes: --sizes takes an embedded scene, no recorded cubes")
    if asked.sides and not asked.sizes:
        parser.error("--sides: only --sizes takes it; the recorded cubes have a size of their own")

    if asked.sizes:
        rows = over_sizes(asked)
    elif asked.options:
        rows = of_options(Recorded(), asked)
    else:
        rows = beside_the_originals(Recorded(), asked)
    frame = pd.DataFrame(rows).astype(object)
    table = frame.where(frame.notna(), None).to_markdown(index=False, floatfmt=",.4g", missingval="–")
    print(table)
    for path in asked.out:
        write_text(path, (json.dumps(rows, indent=1) if path.suffix == ".json" else table) + "\n")


if __name__ == "__main__":
    main()
