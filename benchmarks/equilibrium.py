"""What the CPU's shortcuts save DECSC: a few shifted copies at a time, and small single volumes convolved in 2-D.

    python benchmarks/equilibrium.py [--sides 64 96 144] [--repeats 3] [--out FILE.json]

The network of the package denoises an embedded scene with noise of the case gauss-95, on one thread. The ways are taken in
turn, each so many times after a warm-up, and of each the run with the least CPU time counts, because CPU time is what
other load disturbs least. All ways give the same estimate but for rounding, which the table shows.
"""

from __future__ import annotations

import argparse
import json
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch

from decsc_core.atomic import write_text
from decsc_core.denoisers import equilibrium
from decsc_core.denoisers.registry import make
from decsc_core.model import detail
from decsc_core.noise import add_noise
from decsc_core.outputs import file_target
from decsc_core.scenes import photos
from decsc_core.study.cubes import centre
from decsc_core.study.measure import fastest

ONE, ALL = 1, 9
"""Shifted copies: a single one, and those that the network averages."""
WAYS = {
    "9 copies at once": (ALL, ALL, detail.SINGLE),
    "a few at a time": (ALL, equilibrium.CPU_COPIES, detail.SINGLE),
    "one by one": (ALL, 1, detail.SINGLE),
    "1 copy, convolved in 3-D": (ONE, 1, 0),
    "1 copy, band by band where it is small": (ONE, 1, detail.SINGLE),
}
"""Copies, how many of them at a time, and the largest single volume convolved band by band; the first way of as many copies is compared with."""


def measure(side: int, repeats: int) -> list[dict]:
    """The rows of one size of image."""
    noisy = add_noise(centre(photos.build("chelsea").cube, side), "gauss-95", np.random.default_rng(0))[0]
    seconds, estimates = {way: [] for way in WAYS}, {}
    for turn in range(repeats + 1):
        for way, (copies, at_a_time, single) in WAYS.items():
            denoise = make("decsc", device="cpu", shifts=copies)
            with patch.object(equilibrium, "CPU_COPIES", at_a_time), patch.object(detail, "SINGLE", single):
                spent, _, estimate = fastest(lambda: denoise(noisy).cube, 1)
            if turn:
                seconds[way].append(spent)
            estimates[way] = estimate
    rows = []
    for way, (copies, *_) in WAYS.items():
        first = next(other for other in WAYS if WAYS[other][0] == copies)
        rows.append({
            "side": side, "way": way, "CPU [s]": min(seconds[way]), "relative": min(seconds[way]) / min(seconds[first]),
            "largest difference": float(abs(estimates[way] - estimates[first]).max()),
        })
    return rows


def main() -> None:
    """Print the table, and write it as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", nargs="+", type=int, default=[64, 96, 144], help="of the images, in pixels")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=file_target, help="also write the table as JSON")
    asked = parser.parse_args()
    if asked.repeats < 1 or min(asked.sides) < 8:
        parser.error("--repeats must be at least 1 and --sides at least 8")
    torch.set_num_threads(1)
    rows = [row for side in asked.sides for row in measure(side, asked.repeats)]
    print(pd.DataFrame(rows).to_markdown(index=False, floatfmt=".3g"))
    if asked.out:
        write_text(asked.out, json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
