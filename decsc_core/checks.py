"""What is asked of every array and number that comes from outside."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sized
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


_KINDS = {"int": (Integral, "a whole number"), "float": (Real, "a number"), "bool": (bool, "true or false")}


def check_numbers(config: Any, **least: float) -> None:
    """Hold the fields of a dataclass that are annotated as ``int``, ``float``, either or None, or ``bool`` to that, and some to the `least` they may be.

    Raises
    ------
    ValueError
        For the first that is wrong.
    """
    for field in fields(config):
        wanted, _, none = field.type.partition(" | ")
        value = getattr(config, field.name)
        if wanted not in _KINDS or (none and value is None):
            continue
        kind, what = _KINDS[wanted]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool) or (kind is Real and not -math.inf < value < math.inf):
            raise ValueError(f"{field.name}={value!r} must be {what}")
    for name, smallest in least.items():
        if (value := getattr(config, name)) is not None and not value >= smallest:
            raise ValueError(f"{name}={value} must be at least {smallest}")


def check_not_empty(**given: Sized) -> None:
    """Raise ValueError for the first of these that holds nothing."""
    for name, values in given.items():
        if not len(values):
            raise ValueError(f"{name} is empty; give at least one")


def make_tuple(config: Any, name: str) -> tuple:
    """Make a field of a frozen dataclass a tuple, and return it; ValueError if it is no list or the like, or a text."""
    value = getattr(config, name)
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError(f"{name}={value!r} must be a list")
    object.__setattr__(config, name, tuple(value))
    return tuple(value)


def check_tuples(config: Any, *names: str) -> None:
    """Make these fields of a frozen dataclass tuples, of whole numbers of at least 1.

    Raises
    ------
    ValueError
        For the first that holds anything else.
    """
    for name in names:
        value = make_tuple(config, name)
        if not all(isinstance(count, Integral) and count >= 1 for count in value):
            raise ValueError(f"{name}={value} must hold whole numbers of at least 1")
