"""The learned networks by the name of their method: DECSC with its two priors, and its peers."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import Any

import torch
from torch import nn

from decsc_core.model import DECSC, DECSCConfig, preset

PRIORS = {"decsc": "swin", "decsc-mamba": "vmamba"}

_PEERS = {
    "sst": ("sst", "SST"),
    "trq3d": ("trq3d", "TRQ3D"),
    "sert": ("sert", "SERT"),
    "t3sc": ("t3sc", "T3SC"),
    "mtsnnpp": ("mtsnnpp", "MTSNNPP"),
    "qrnn3d": ("qrnn3d", "QRNN3D"),
    "hsdt": ("hsdt", "HSDT"),
}
"""Module and class of each peer; its configuration is the class of the same name with `Config` appended."""

LEARNED = (*PRIORS, *_PEERS)
"""Names of all learned methods."""

SIZES = ("paper", "small", "tiny")
"""Sizes of every network: the published one, one that trains on a CPU within hours, one for tests."""


def _class(method: str, suffix: str = "") -> type:
    """A class of a peer's module."""
    module, name = _PEERS[method]
    return getattr(import_module(f"decsc_core.networks.{module}"), name + suffix)


def module_of(method: str):
    """The module of a peer, with its `PRESETS` and its reading of official checkpoints."""
    return import_module(f"decsc_core.networks.{_PEERS[method][0]}")


def sizes(method: str) -> tuple[str, ...]:
    """Names of the sizes of a method: `SIZES`, and what else was published of it."""
    return SIZES if method in PRIORS else tuple(module_of(method).PRESETS)


def configure(method: str, size: str = "paper", **changes: Any):
    """The configuration of a learned method's network: a size with some fields changed.

    Raises
    ------
    ValueError
        If there is no such method or size, or a field is out of range.
    """
    if method not in LEARNED:
        raise ValueError(f"{method!r} is no learned method; choose one of {', '.join(LEARNED)}")
    if size not in sizes(method):
        raise ValueError(f"preset {size!r} does not exist; choose one of {', '.join(sizes(method))}")
    if method in PRIORS:
        return preset(size, prior=PRIORS[method], **changes)
    return replace(_class(method, "Config")(**module_of(method).PRESETS[size]), **changes)


def restore(method: str, fields: dict):
    """The configuration that was stored as plain `fields`.

    Raises
    ------
    TypeError, ValueError
        If the fields are not those of the method's network.
    """
    if method not in LEARNED:
        raise ValueError(f"{method!r} is no learned method")
    return DECSCConfig(**fields) if method in PRIORS else _class(method, "Config")(**fields)


def method_of(config) -> str:
    """The method whose network a configuration describes."""
    if isinstance(config, DECSCConfig):
        return next(method for method, prior in PRIORS.items() if prior == config.prior)
    return next(method for method, (_, name) in _PEERS.items() if type(config).__name__ == f"{name}Config")


def as_method(config, method: str):
    """The same network with the prior of `method`, if both are DECSC's; any other configuration unchanged."""
    return replace(config, prior=PRIORS[method]) if method in PRIORS and isinstance(config, DECSCConfig) else config


def build(config, generator: torch.Generator | None = None) -> nn.Module:
    """The network of a configuration, with initial weights drawn from `generator` and from no other."""
    method = method_of(config)
    with torch.random.fork_rng(devices=[]):  # torch's layers draw weights of their own, which are replaced
        return (DECSC if method in PRIORS else _class(method))(config, generator)


def parameters(config) -> int:
    """How many parameters the network of a configuration has."""
    return sum(parameter.numel() for parameter in build(config).parameters())
