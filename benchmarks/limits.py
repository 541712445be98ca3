"""Where DECSC makes a scene worse: in nearly no noise, and in the dark bands of radiance.

    python benchmarks/limits.py [--side 64] [--shifts 9] [--out FILE.json]

White noise is added to the centres of scenes, and `decsc` denoises them as `decsc denoise` would. A band is worse if its squared error is
larger than that of the noise. **Weak noise**: CAVE's validation scenes, one sigma for all bands. **Radiance**: crops of remote-sensing
images that the network was tuned on, values as they are and times the spectrum of a black body of 5800 K, which stands for the sun;
sigma is a fifteenth of each band's standard deviation, or of its mean.

The scenes have fine texture and noise of their own, which count as truth, so that who takes the noise away is told to err. The table
says how strong both are together: the level, over sigma, that `noise_levels` finds in the clean bands, the median of them.
"""

from __future__ import annotations

import argparse
import json
import sys

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from decsc_core.atomic import write_text
from decsc_core.denoisers.registry import make
from decsc_core.model.noise_levels import noise_levels
from decsc_core.outputs import file_target
from decsc_core.scenes import load, load_scene
from decsc_core.study.cubes import centre

SIGMAS = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
"""Of weak noise, on the 0-255 scale."""
RADIANCE = ("aviris_sandiego_harbour", "enmap_potsdam_1")
"""Scenes, of the training split of `remote`."""
WEAKER = 15
"""How many times weaker than a band its noise is."""
KELVIN, SECOND_CONSTANT = 5800, 1.4388e7
"""Of the black body: its temperature, and Planck's second radiation constant hc/k [nm K]."""


def sunlight(wavelengths: np.ndarray) -> np.ndarray:
    """Planck's law at wavelengths [nm], up to a factor."""
    return (wavelengths / 1e3) ** -5.0 / np.expm1(SECOND_CONSTANT / (wavelengths * KELVIN))


def cases(side: int) -> list[tuple[str, str, np.ndarray, np.ndarray]]:
    """Scene, what is done to it, the clean cube (H, W, B) in [0, 1], sigma of each band in its units."""
    found = []
    for scene in load("cave", "validation"):
        cube = centre(scene.cube, side)
        found += [(scene.name, f"sigma {sigma:g}", cube, np.full(cube.shape[2], sigma / 255)) for sigma in SIGMAS]
    for name in RADIANCE:
        scene = load_scene("remote", name)
        for light, factors in (("as it is", 1.0), ("in sunlight", sunlight(scene.wavelengths))):
            cube = centre(scene.cube, side) * factors
            cube = np.clip(cube / np.percentile(cube, 99.9), 0, 1).astype(np.float32)
            for of, level in (("deviation", cube.std((0, 1))), ("mean", cube.mean((0, 1)))):
                found.append((name, f"{light}, sigma 1/{WEAKER} of each band's {of}", cube, level / WEAKER))
    return found


def measure(cube: np.ndarray, sigmas: np.ndarray, shifts: int | None) -> dict[str, float]:
    """How much nearer the estimate is than the noisy cube, and in which share of the bands it is not."""
    noisy = (cube + sigmas * np.random.default_rng(0).standard_normal(cube.shape)).astype(np.float32)
    estimate = make("decsc", bands=cube.shape[2], shifts=shifts)(noisy).cube
    before, after = (np.square(np.asarray(x, float) - cube).mean((0, 1)) for x in (noisy, estimate))
    gain = 10 * np.log10(before / after)
    own = noise_levels(torch.from_numpy(cube).permute(2, 0, 1)[None]).flatten().numpy() / sigmas
    return {
        "texture and noise before [sigma]": float(np.median(own)),
        "mean gain [dB]": gain.mean(), "smallest gain [dB]": gain.min(), "worse bands [%]": 100 * (gain < 0).mean(),
    }


def main() -> None:
    """Print the table, and write it as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=64, help="of the centres, in pixels")
    parser.add_argument("--shifts", type=int, help="shifted copies (default: those of the network)")
    parser.add_argument("--out", type=file_target, help="also write the table as JSON")
    asked = parser.parse_args()
    if asked.side < 16:
        parser.error("--side must be at least 16")
    try:
        tasks = tqdm(cases(asked.side), unit="cube", disable=None)
        rows = [{"scene": scene, "case": case, **measure(cube, sigmas, asked.shifts)} for scene, case, cube, sigmas in tasks]
    except ValueError as error:
        sys.exit(str(error))
    print(pd.DataFrame(rows).to_markdown(index=False, floatfmt=".2f"))
    if asked.out:
        write_text(asked.out, json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
