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


def check_numbers(config: Any, **least: float) -> None:
    """Hold the fields of a dataclass that are annotated as ``int`` or ``float`` to that, and some of them to the `least` that they may be.

    Raises
    ------
    ValueError
        For the first that is wrong.
    """
    for field in fields(config):
        kind, what = {"int": (Integral, "whole number"), "float": (Real, "number")}.get(field.type, (object, ""))
        value = getattr(config, field.name)
        if not isinstance(value, kind) or (what and isinstance(value, bool)):
            raise ValueError(f"{field.name}={value!r} must be a {what}")
    for name, smallest in least.items():
        if not getattr(config, name) >= smallest:
            raise ValueError(f"{name}={getattr(config, name)} must be at least {smallest}")
