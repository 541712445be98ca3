from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from decsc_core import metrics


class ModelDrivenGolden:
    """What the originals of the model-driven methods were given, and what they reached."""

    CUBES = ("a_gauss", "a_mixture", "b_gauss", "b_mixture")

    def __init__(self, folder: Path) -> None:
        self.records = json.loads((folder / "model_driven.json").read_text())
        with np.load(folder / "model_driven.npz") as archive:
            self.arrays = dict(archive)

    def noisy(self, cube: str) -> np.ndarray:
        """The noisy cube (96, 96, 31), float32."""
        return self.arrays[f"noisy_{cube}"]

    def sigma(self, cube: str) -> float:
        """The true mean noise level over the bands, on the 0-255 scale."""
        return 255 * float(self.arrays[f"sigma_{cube[0]}"].mean())

    def gains(self, method: str, cube: str, estimate: np.ndarray) -> dict[str, float]:
        """Our score less the original's: psnr [dB], ssim (7 x 7 uniform window), ssim_gauss, sam [rad]."""
        clean, theirs = self.arrays[f"clean_{cube[0]}"].astype(float), self.records[method][cube]
        estimate = np.asarray(estimate, dtype=float)
        ours = {
            "psnr": metrics.mpsnr(clean, estimate),
            "ssim": structural_similarity(clean, estimate, data_range=1.0, channel_axis=2),
            "ssim_gauss": metrics.ssim(clean, estimate),
            "sam": metrics.sam(clean, estimate),
        }
        return {name: ours[name] - theirs[name] for name in ours}


@pytest.fixture(scope="session")
def golden(shared) -> ModelDrivenGolden:
    """The goldens of the model-driven methods; see `ModelDrivenGolden`."""
    return ModelDrivenGolden(shared / "golden")


@pytest.fixture
def noisy_ramp() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """Makes a smooth cube and the same with Gaussian noise."""

    def ramp(height: int, width: int, bands: int, sigma: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
        rows, columns, wavelengths = np.ogrid[0:1:height * 1j, 0:1:width * 1j, 0:1:bands * 1j]
        clean = (0.5 + 0.3 * np.sin(3 * rows + columns) * np.cos(2 * wavelengths)).astype(np.float32)
        noise = np.random.default_rng(0).standard_normal(clean.shape, dtype=np.float32)
        return clean, clean + np.float32(sigma) * noise

    return ramp
