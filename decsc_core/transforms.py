"""Orthonormal transforms as matrices."""

from __future__ import annotations

import numpy as np
import scipy.fft
import torch
from torch import Tensor


def cosines(length: int) -> Tensor:
    """The cosine transform of type II: (frequency, pixel), in double precision."""
    return torch.from_numpy(scipy.fft.dct(np.eye(length), axis=0, norm="ortho"))
