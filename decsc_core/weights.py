"""Network weights on disk: safetensors with their story, and the officially released checkpoints.

A weights file holds the tensors, the configuration that rebuilds the network, and the story of how it was trained (data
hashes, seed, budget, code version, results), all readable without executing anything.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise

from decsc_core.atomic import write_whole
from decsc_core.model import DECSC, DECSCConfig

SHIPPED = Path(__file__).parent / "shipped"
"""Folder of the weights that come with the package."""

DESCRIPTION = "decsc"
"""Metadata entry of a weights file: JSON with `config`, which rebuilds the network, and `story`."""


class WeightsError(ValueError):
    """A weights file that cannot be used; the message names the file and what would be right."""


@dataclass(frozen=True)
class Weights:
    """A network and where it comes from: `story` as written by the training, `sha256` of the file."""

    model: DECSC
    story: dict
    sha256: str
    path: Path


def save(model: DECSC, path: Path | str, story: dict, dtype: torch.dtype = torch.float32) -> str:
    """Write weights atomically and return the file's SHA-256.

    Parameters
    ----------
    story : dict
        Anything JSON can hold.
    dtype : torch.dtype
        ``torch.float16`` halves the file.
    """
    path = Path(path)
    tensors = {name: t.detach().to("cpu", dtype).contiguous() for name, t in model.state_dict().items()}
    description = {"config": model.config.to_json(), "story": story}
    metadata = {DESCRIPTION: json.dumps(description)}  # one entry, for safetensors keeps no order of several
    write_whole(path, lambda temporary: temporary.write_bytes(serialise(tensors, metadata)))
    return file_sha256(path)


def load(path: Path | str) -> Weights:
    """Rebuild the network of a file that `save` wrote, in float32, on the CPU, in evaluation mode.

    Raises
    ------
    WeightsError
        If the file is missing, is not a DECSC weights file, or does not fit its own configuration.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name).float() for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a safetensors file ({error}); official checkpoints load with load_official") from None
    if DESCRIPTION not in metadata:
        raise WeightsError(f"{path}: holds no DECSC configuration; only files written by decsc train can be used here")
    try:
        description = json.loads(metadata[DESCRIPTION])
        config = DECSCConfig(**description["config"])
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: its configuration cannot be used ({error}); expected one that decsc train wrote") from None
    model = _build(config, state, path)
    return Weights(model, description.get("story", {}), file_sha256(path), path)


def shipped(method: str, preset: str | None = None) -> Path:
    """The weights of `method` that come with the package, by default of the largest preset there is.

    Raises
    ------
    WeightsError
        If there are none.
    """
    wanted = [preset] if preset else ["paper", "small", "tiny"]
    for size in wanted:
        found = sorted(SHIPPED.glob(f"{method}-{size}-*.safetensors"))
        if found:
            return found[0]
    there = ", ".join(sorted(path.stem for path in SHIPPED.glob("*.safetensors"))) or "none"
    size = f" of preset {preset!r}" if preset else ""
    raise WeightsError(f"no weights{size} come with the package for {method!r} (there: {there}); train some with decsc train")


def load_official(path: Path | str, **config) -> DECSC:
    """The network of an officially released DECSC checkpoint (`net` inside a pickled dict, or a bare state dict).

    Variant, M, J, bands, kernel, heads and states are read from the tensors; the strides are not in the file. `config`
    overrides any other field of `DECSCConfig`.

    Raises
    ------
    WeightsError
        If the file is missing, cannot be read with ``torch.load(weights_only=True)``, or is not a DECSC checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such checkpoint")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are no checkpoint make the unpickler raise anything
        reason = (str(error) or "it ends too early").splitlines()[0]
        raise WeightsError(f"{path}: not a checkpoint of plain tensors ({reason}); expected a dict with 'net'") from None
    state = loaded.get("net", loaded) if isinstance(loaded, dict) else None
    if not isinstance(state, dict):
        raise WeightsError(f"{path}: holds a {type(loaded).__name__}; expected a dict with 'net', the state dict")
    return from_official_state(state, path, **config)


def from_official_state(state: dict[str, torch.Tensor], source: Path | str = "state dict", **config) -> DECSC:
    """Build the network of an official DECSC state dict; see `load_official`."""
    state = {key.removeprefix("module."): tensor for key, tensor in state.items()}
    state = {key: t for key, t in state.items() if not key.endswith(("relative_position_index", "attn_mask"))}

    def shape(key: str, axes: int) -> torch.Size:
        if getattr(state.get(key), "ndim", None) != axes:
            raise WeightsError(f"{source}: no {key} of {axes} axes; not a DECSC checkpoint")
        return state[key].shape

    shared = shape("share_encoder.weight", 4)
    fields = {
        "bands": shared[1], "shared_atoms": shared[0], "kernel": shared[2],
        "unshared_atoms": shape("unique_encoder.weight", 5)[0],
        "prior": "vmamba" if any(".layers." in key for key in state) else "swin",
    }
    if fields["prior"] == "swin":
        table = shape("soft_threshold_share.blocks.0.attn.relative_position_bias_table", 2)
        fields |= {"heads": table[1], "window": (round(table[0] ** 0.5) + 1) // 2}
    else:
        fields["states"] = shape("soft_threshold_share.layers.0.blocks.0.op.A_logs", 2)[1]
    blocks = [re.search(r"(?:blocks|layers)\.(\d+)", key) for key in state]
    fields["depth"] = 1 + max(int(match[1]) for match in blocks if match)
    return _build(DECSCConfig(**fields | config), {_own_key(key): t for key, t in state.items()}, source)


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


def _build(config: DECSCConfig, state: dict[str, torch.Tensor], source: Path | str) -> DECSC:
    """The network of `config` with `state`, whose axes of length 1 may differ."""
    model = DECSC(config)
    own = model.state_dict()
    missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or unknown:
        what = f"lacks {missing[0]}" if missing else f"has an unknown {unknown[0]}"
        raise WeightsError(f"{source}: {what}; it does not fit the network of its configuration")
    for name, tensor in own.items():
        if [side for side in state[name].shape if side > 1] != [side for side in tensor.shape if side > 1]:
            raise WeightsError(f"{source}: {name} is {tuple(state[name].shape)}, the network needs {tuple(tensor.shape)}")
    model.load_state_dict({name: state[name].view_as(tensor) for name, tensor in own.items()})
    return model.eval()


def file_sha256(path: Path | str) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
