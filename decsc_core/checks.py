"""What is asked of every array and number that comes from outside."""

from __future__ import annotations

from dataclasses import fields
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def real_numbers(array: ArrayLike, name: str) -> np.ndarray:
    """Whatever holds real numbers as an array, not copied if it is one.

    Raises
    ------
    ValueError
        If it cannot be read as an array, has numbers or other things that are not real, or masked entries.
    """
    try:
        numbers = np.asarray(array)
    except (ValueError, TypeError, RuntimeError) as error:  # of lists of unequal lengths, and of tensors with gradients or on a GPU
        raise ValueError(f"{name} must be an array of real numbers: {' '.join(str(error).split())}") from None
    if numbers.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold real numbers, not {numbers.dtype}")
    if np.ma.is_masked(array):
        raise ValueError(f"{name} has {np.ma.count_masked(array)} masked of {numbers.size} values; fill them first")
    return numbers


def check_numbers(config: Any) -> None:
    """Raise a ValueError for the first field of a dataclass that is annotated as ``int`` or ``float`` and holds something else."""
    for field in fields(config):
        kind, what = {"int": (Integral, "whole number"), "float": (Real, "number")}.get(field.type, (object, ""))
        value = getattr(config, field.name)
        if not isinstance(value, kind) or (what and isinstance(value, bool)):
            raise ValueError(f"{field.name}={value!r} must be a {what}")
