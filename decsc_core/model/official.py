"""DECSC's officially released state dicts, in our names."""

from __future__ import annotations

import re
from dataclasses import replace

from torch import Tensor

from decsc_core.deq import RELEASED
from decsc_core.model.decsc import DECSCConfig, SolverConfig


def config_of(state: dict[str, Tensor]) -> DECSCConfig:
    """Variant, M, J, bands, kernel, heads and states as the tensors tell them, with the release's solver.

    The strides are not in a state dict, see `changed`; here they are no larger than the kernel.
    """
    atoms, bands, kernel, _ = state["share_encoder.weight"].shape
    fields = {
        "bands": bands, "shared_atoms": atoms, "kernel": kernel, "unshared_atoms": state["unique_encoder.weight"].shape[0],
        "prior": "vmamba" if any(".layers." in key for key in state) else "swin",
    }
    if fields["prior"] == "swin":
        offsets, heads = state["soft_threshold_share.blocks.0.attn.relative_position_bias_table"].shape
        fields |= {"heads": heads, "window": (round(offsets**0.5) + 1) // 2}
    else:
        fields["states"] = state["soft_threshold_share.layers.0.blocks.0.op.A_logs"].shape[1]
    blocks = [re.search(r"(?:blocks|layers)\.(\d+)", key) for key in state]
    fields["depth"] = 1 + max(int(match[1]) for match in blocks if match)
    return DECSCConfig(**fields | _strided(min(DECSCConfig.stride, kernel)), solver=SolverConfig(**RELEASED))


def changed(config: DECSCConfig, **changes) -> DECSCConfig:
    """The configuration of a state dict with some fields changed; its strides are the release's unless they are among them.

    Of a stride that has fewer shifts than are averaged by default, all are.

    Raises
    ------
    TypeError, ValueError
        If there is no such field, or it is out of range; if the release's stride is too large for the kernel.
    """
    return replace(config, **_strided(changes.get("stride", DECSCConfig.stride)) | changes)


def _strided(stride: int) -> dict[str, int]:
    """The fields of a configuration that depend on the stride."""
    return {"stride": stride} | {name: min(getattr(DECSCConfig, name), stride**2) for name in ("shifts", "train_shifts")}


def from_official(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under our names, without the tables and masks that our network computes itself."""
    computed = ("relative_position_index", "attn_mask")
    return {_own_key(key): tensor for key, tensor in state.items() if not key.endswith(computed)}


_RENAMED = [
    (r"^share_encoder\.weight", "shared.copies.analysis"),
    (r"^share_decoder\.weight", "shared.copies.synthesis"),
    (r"^share_filters\.weight", "shared.copies.reconstruction"),
    (r"^unique_encoder\.weight", "unshared.copies.analysis"),
    (r"^unique_decoder\.weight", "unshared.copies.synthesis"),
    (r"^unique_filters\.weight", "unshared.copies.reconstruction"),
    (r"^share_lmbdas", "shared_threshold"),
    (r"^unique_lmbdas", "unshared_threshold"),
    (r"^soft_threshold_share\.layers\.(\d+)\.blocks\.0\.", r"prior_shared.blocks.\1."),
    (r"^soft_threshold_share\.", "prior_shared."),
    (r"^soft_threshold_unique\.detail_attn\.local_reduce", "prior_unshared.reduce"),
    (r"^soft_threshold_unique\.detail_attn\.spatial_spectral_select", "prior_unshared.select"),
]
_BRANCHES = {"conv1_5": "plain", "conv1_1.conv": "central", "conv1_2.conv": "horizontal", "conv1_3.conv": "vertical",
             "conv1_4.conv": "spectral"}
_KINDS = {"weight": "weights", "bias": "biases"}


def _own_key(official: str) -> str:
    """Our name of an official DECSC parameter."""
    branch = re.fullmatch(r"soft_threshold_unique\.conv1\.(conv1_\d(?:\.conv)?)\.(weight|bias)", official)
    if branch and branch[1] in _BRANCHES:
        return f"prior_unshared.difference.{_KINDS[branch[2]]}.{_BRANCHES[branch[1]]}"
    for pattern, own in _RENAMED:
        renamed, count = re.subn(pattern, own, official)
        if count:
            return renamed
    return official
