"""scikit-image's denoisers, each band on its own: the honest floor that a hyperspectral method has to beat.

Every band's noise level is estimated from its finest diagonal wavelet coefficients. The settings were chosen
once, for all noise levels, by the mean PSNR over the four Gaussian cases on windows of ten CAVE scenes: the two
validation scenes (pompoms, sponges) and eight training scenes.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import pywt
from skimage.restoration import cycle_spin, denoise_nl_means, denoise_tv_chambolle, denoise_wavelet
from tqdm.auto import tqdm

from decsc_core.detail_level import detail_level
from decsc_core.denoisers.base import Denoiser, Estimate

SMALLEST_SIDE = 6


class BandWise(Denoiser):
    """A method for single images, applied to each band with that band's own noise level.

    A band without measurable noise is returned as it is, and so is an image with a side shorter than 6 pixels,
    in which no level of the wavelet fits that measures the noise. Where fine texture is stronger than the noise
    it is taken for noise, so a textured band that was nearly clean can come back worse.
    """

    kind = "band-wise"

    def _denoise(self, noisy: np.ndarray, progress: bool) -> Estimate:
        height, width, bands = noisy.shape
        if min(height, width) < SMALLEST_SIDE:
            return Estimate(noisy)
        for band in tqdm(range(bands), desc=self.name, unit="band", disable=not progress):
            image = noisy[..., band].astype(np.float64)
            sigma = detail_level(image)
            if sigma > 0:
                noisy[..., band] = self._denoise_band(image, sigma)
        return Estimate(noisy)

    @abstractmethod
    def _denoise_band(self, image: np.ndarray, sigma: float) -> np.ndarray:
        """Denoise one float64 image (H, W) whose noise has standard deviation `sigma`, in the image's unit."""


class TotalVariation(BandWise):
    """Total variation, by Chambolle's algorithm, with the noise level as its weight.

    The library's default tolerance stops long before the minimum (0.9 dB in the mean PSNR), so a hundredth of
    it is used.
    """

    name = "tv"

    def _denoise_band(self, image: np.ndarray, sigma: float) -> np.ndarray:
        return denoise_tv_chambolle(image, weight=sigma, eps=2e-6, max_num_iter=1000)


class Wavelet(BandWise):
    """BayesShrink soft thresholding of db2 wavelets on all levels, averaged over 4 x 4 shifts (cycle spinning).

    All levels, because the library's default leaves the three coarsest alone, where heavy noise still shows.
    """

    name = "wavelet"

    def _denoise_band(self, image: np.ndarray, sigma: float) -> np.ndarray:
        wavelet = "db2"
        levels = pywt.dwt_max_level(min(image.shape), wavelet)
        settings = {"sigma": sigma, "wavelet": wavelet, "wavelet_levels": levels, "method": "BayesShrink"}
        return cycle_spin(image, denoise_wavelet, max_shifts=3, func_kw=settings, workers=1)


class NonLocalMeans(BandWise):
    """Non-local means with patches of 7 x 7 pixels, sought up to 6 pixels away, and a filter strength of 0.8 sigma."""

    name = "nlm"

    def _denoise_band(self, image: np.ndarray, sigma: float) -> np.ndarray:
        return denoise_nl_means(image, patch_size=7, patch_distance=6, h=0.8 * sigma, sigma=sigma, fast_mode=True)
