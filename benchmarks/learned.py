"""What the learned networks cost beside their official code: CPU-seconds of one thread, multiply-accumulates, parameters.

    python benchmarks/learned.py [--methods sst sert ...] [--sides 64 128] [--repeats 3] [--step] [--out FILE.json]

Networks of the published sizes, initial weights, batch 1, 31 bands, float32. CPU time, not wall time, because it is what
other load disturbs least; the least of the repeats after one warm-up. The official code's seconds were measured once, on
one thread of another machine (an AVX-512 server core), so a ratio tells the order of magnitude; where the official code
is at hand, run both side by side.
"""

from __future__ import annotations

import argparse
import json

import pandas as pd
import torch
import torch.nn.functional as F

from decsc_core.atomic import write_text
from decsc_core.networks.catalog import LEARNED, PRIORS, build, configure
from decsc_core.outputs import file_target
from decsc_core.study.complexity import gmacs
from decsc_core.study.measure import fastest
from decsc_core.study.paper import label

OFFICIAL = {
    # method: parameters, GMACs at 64 x 64, CPU-seconds forward at 64 x 64 and 128 x 128, CPU-seconds of a training step
    "sst": (4_144_837, 18.73, {64: 0.98, 128: 4.56}, 2.77),
    "sert": (1_905_319, 8.40, {64: 0.59, 128: 2.39}, 1.42),
    "trq3d": (679_107, 16.73, {64: 0.58, 128: 2.21}, 1.67),
    "t3sc": (832_256, 59.2, {64: 1.17, 128: 5.50}, 3.58),
    "qrnn3d": (860_453, 19.64, {64: 0.50, 128: 2.14}, 1.83),
    "hsdt": (521_158, 12.14, {64: 0.51, 128: 2.56}, 1.69),
    "hsdt paper-s": (134_350, 3.16, {64: 0.41, 128: 1.05}, 1.26),
    "hsdt paper-l": (2_094_786, 16.78, {64: 0.62, 128: 2.90}, 1.89),
    "t3sc paper-adaptive": (908_929, None, {}, None),
}
"""Measured on the official networks, by method and, if it is not `paper`, size; MTSNN++ has no official code."""


def measure(method: str, sides: list[int], repeats: int, step: bool) -> dict:
    """One row of the table."""
    name, *size = method.split()
    model = build(configure(name, *size), torch.Generator().manual_seed(0)).eval()
    parameters, macs, forward, training = OFFICIAL.get(method, (None, None, {}, None))
    images = {side: torch.rand(1, 31, side, side, generator=torch.Generator().manual_seed(1)) for side in (64, *sides)}
    row = {
        "method": " ".join([label(name), *size]),
        "parameters": sum(p.numel() for p in model.parameters()),
        "official parameters": parameters,
        "GMACs 64": gmacs(model.config, 64),
        "official GMACs 64": macs,
    }
    for side in sides:
        with torch.no_grad():
            model(images[side])
            row[f"forward {side} [CPU s]"] = fastest(lambda: model(images[side]), repeats)[0]
        row[f"official {side} [CPU s]"] = forward.get(side)
    if step:
        model.train()

        def train() -> None:
            model.zero_grad()
            F.mse_loss(model(images[64]), torch.zeros_like(images[64])).backward()

        train()
        row["step 64 [CPU s]"], row["official step [CPU s]"] = fastest(train, repeats)[0], training
    return row


def main() -> None:
    """Print the table, and write it as JSON if asked."""
    peers = list(dict.fromkeys([*(method for method in LEARNED if method not in PRIORS), *OFFICIAL]))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", choices=peers, default=peers)
    parser.add_argument("--sides", nargs="+", type=int, default=[64, 128])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--step", action="store_true", help="also time a training step at 64 x 64")
    parser.add_argument("--out", type=file_target, help="also write the table as JSON")
    options = parser.parse_args()
    if min(options.repeats, *options.sides) < 1:
        parser.error("--repeats and --sides must be at least 1")
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    rows = []
    for method in options.methods:
        rows.append(measure(method, options.sides, options.repeats, options.step))
        print(f"{method}: {rows[-1]}", flush=True)
    frame = pd.DataFrame(rows).astype(object)
    print(frame.where(frame.notna(), None).to_markdown(index=False, floatfmt=",.4g", missingval="–"))
    if options.out:
        write_text(options.out, json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
