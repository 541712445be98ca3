"""Denoisers: each maps a noisy cube to a clean one of the same shape, and nothing that uses one knows which it is."""

from decsc_core.denoisers.base import CubeError, Denoiser, Estimate, Record, check_cube

__all__ = ["CubeError", "Denoiser", "Estimate", "Record", "check_cube"]
