"""Which device to compute on, how much of its memory, and in what precision."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import torch


def pick_device(name: str) -> torch.device:
    """The device called `name`; ``"auto"`` is the GPU when there is one.

    Raises
    ------
    ValueError
        If torch does not know it or cannot use it on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
        return torch.device(name)
    except (AssertionError, RuntimeError, TypeError) as error:
        raise ValueError(f"device {name!r} cannot be used here ({str(error).splitlines()[0]}); try auto or cpu") from None


def spare_memory(device: torch.device, on_cpu: int) -> int:
    """Bytes that tensors may take: half of what is free on a GPU, with what torch keeps there for tensors to come, or `on_cpu`."""
    if device.type != "cuda":
        return on_cpu
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return (torch.cuda.mem_get_info(device)[0] + kept) // 2


def without_autocast(method: Callable) -> Callable:
    """A method of an object with a `device` that computes in its own precision, whatever is set where it is called."""

    @wraps(method)
    def run(self, *args, **kwargs):
        with torch.autocast(self.device.type, enabled=False):
            return method(self, *args, **kwargs)

    return run
