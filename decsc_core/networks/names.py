"""Names of parameters in official state dicts, and ours."""

from __future__ import annotations

import re

from torch import Tensor


def renamed(official: str, patterns: list[tuple[str, str]]) -> str:
    """`official` after every replacement of `patterns`, in order."""
    for pattern, own in patterns:
        official = re.sub(pattern, own, official)
    return official


def count(state: dict[str, Tensor], pattern: str) -> int:
    """Number of keys that `pattern` describes entirely."""
    return sum(bool(re.fullmatch(pattern, key)) for key in state)
