"""Deep equilibrium convolutional sparse coding (DECSC) for hyperspectral image denoising, and its peers."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("decsc-core")
except PackageNotFoundError:  # imported from a checkout that was never installed
    __version__ = "0+uninstalled"
