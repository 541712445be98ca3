"""How many patches a second the networks are trained on.

    python benchmarks/throughput.py [--methods sst sert ...] [--preset paper] [--batch 8] [--steps 150] [--out FILE.json]

The training of the package itself on embedded scenes, on a GPU where there is one, else on one thread of a CPU; the first
third of the steps is not counted. On a GPU, training replays launches that were recorded once, but DECSC's, whose solver
decides on its way how far it goes, and HSDT's, which draws at every step: the others are measured without that, too.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import torch

from decsc_core.atomic import write_text
from decsc_core.networks.catalog import LEARNED, PRIORS, SIZES
from decsc_core.outputs import file_target
from decsc_core.study import train as package
from decsc_core.study.measure import worker
from decsc_core.study.paper import label
from decsc_core.study.recipes import training


def rate(method: str, size: str, batch: int, steps: int, replay: bool) -> float:
    """Patches a second of a training in this process."""
    torch.set_num_threads(1)
    if not replay:
        package._record_launches = lambda *_: None
    config = training(method, size, dataset="photos", steps=steps, batch=batch, validate_every=sys.maxsize)
    with TemporaryDirectory() as folder:
        package.train(config, folder, progress=False)
        log = [json.loads(line) for line in (Path(folder) / "log.jsonl").read_text().splitlines()]
    first, last = log[len(log) // 3], log[-2]  # the last step has the validation
    return (last["patches"] - first["patches"]) / (last["seconds"] - first["seconds"])


def measure(method: str, size: str, batch: int, steps: int) -> dict:
    """One row of the table; every rate comes from a process of its own."""
    ways = {"launched one by one [patches/s]": False}
    if torch.cuda.is_available() and method not in (*PRIORS, "hsdt"):
        ways["replayed [patches/s]"] = True
    row = {"method": label(method), "preset": size, "patches a step": batch}
    for name, replay in ways.items():
        with worker(1) as process:
            row[name] = process.submit(rate, method, size, batch, steps, replay).result()
    if len(ways) == 2:
        slow, fast = (row[name] for name in ways)
        row["times faster"] = fast / slow
    return row


def main() -> None:
    """Print the table, and write it as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", choices=LEARNED, default=list(LEARNED))
    parser.add_argument("--preset", choices=SIZES, default="paper")
    parser.add_argument("--batch", type=int, default=8, help="patches a step")
    parser.add_argument("--steps", type=int, default=150, help="of each training, at least 4")
    parser.add_argument("--out", type=file_target, help="also write the table as JSON")
    asked = parser.parse_args()
    if asked.batch < 1 or asked.steps < 4:
        parser.error("--batch must be at least 1 and --steps at least 4")
    rows = []
    for method in asked.methods:
        rows.append(measure(method, asked.preset, asked.batch, asked.steps))
        print(rows[-1], flush=True)
    frame = pd.DataFrame(rows).astype(object)
    print(frame.where(frame.notna(), None).to_markdown(index=False, floatfmt=",.4g", missingval="–"))
    if asked.out:
        write_text(asked.out, json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
