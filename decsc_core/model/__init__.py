"""The DECSC network: two convolutional dictionaries, two learned priors, one equilibrium."""

from __future__ import annotations

from decsc_core.model.decsc import DECSC, DECSCConfig, PRESETS, Output, SolverConfig, preset

__all__ = ["DECSC", "DECSCConfig", "Output", "PRESETS", "SolverConfig", "preset"]
