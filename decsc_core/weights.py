"""Network weights on disk: safetensors with their story, and the officially released checkpoints.

A weights file holds the tensors, the configuration that rebuilds the network, and the story of how it was trained (data
hashes, seed, budget, code version, results), all readable without executing anything.
"""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from pooch import file_hash
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import nn

from decsc_core.atomic import write_whole
from decsc_core.model import official as official_decsc
from decsc_core.networks.catalog import LEARNED, PRIORS, SIZES, build, method_of, module_of, restore, sizes

SHIPPED = Path(__file__).parent / "shipped"
"""Folder of the weights that come with the package."""

CAMERA_BANDS = 31
"""Bands of the multispectral cameras of CAVE and ICVL."""

DESCRIPTION = "decsc"
"""Metadata entry of a weights file: JSON with `method` and `config`, which rebuild the network, and `story`."""


class WeightsError(ValueError):
    """A weights file that cannot be used; the message names the file and what would be right."""


@dataclass(frozen=True)
class Weights:
    """A network and where it comes from: `story` as written by the training, `sha256` of the file."""

    method: str
    model: nn.Module
    story: dict
    sha256: str
    path: Path

    def told(self) -> dict:
        """What the record of a result holds of them: `file`, `sha256`, `story`."""
        return {"file": self.path.name, "sha256": self.sha256, "story": self.story}


def save(model: nn.Module, path: Path | str, story: dict, dtype: torch.dtype = torch.float32) -> str:
    """Write weights atomically and return the file's SHA-256.

    Parameters
    ----------
    story : dict
        Anything JSON can hold.
    dtype : torch.dtype
        ``torch.float16`` halves the file.

    Raises
    ------
    ValueError
        If a weight is too large for `dtype`.
    """
    path = Path(path)
    while wrapped := getattr(model, "_orig_mod", getattr(model, "module", None)):  # compiled, averaged or shared by devices
        model = wrapped
    tensors = {name: t.detach().to("cpu", dtype).contiguous() for name, t in model.state_dict().items()}
    for name, kept in model.state_dict().items():
        if not torch.equal(kept.isfinite().cpu(), tensors[name].isfinite()):
            raise ValueError(f"{path}: {name} reaches {kept.abs().max():.3g}, which {dtype} cannot hold; store it as torch.float32")
    description = {"method": method_of(model.config), "config": asdict(model.config), "story": story}
    metadata = {DESCRIPTION: json.dumps(description)}  # one entry, for safetensors keeps no order of several
    write_whole(path, lambda temporary: temporary.write_bytes(serialise(tensors, metadata)))
    return file_hash(path)


def halve(path: Path | str, target: Path | str) -> str:
    """Write the weights of a file in half precision, with their story and that they are; return the new SHA-256."""
    loaded = load(path)
    return save(loaded.model, target, loaded.story | {"stored": "float16"}, torch.float16)


def described(path: Path | str) -> dict:
    """What a file that `save` wrote tells of its network, which is not built: `method`, `config` and `story`.

    Raises
    ------
    WeightsError
        If the file is missing or was not written by `save`.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        wanted = "one that decsc train wrote, or for --weights and load_official an authors' checkpoint"
        raise WeightsError(f"{path}: not a safetensors file ({error}); expected {wanted}") from None
    if DESCRIPTION not in metadata:
        raise WeightsError(f"{path}: does not describe its network; only files written by decsc train can be used here")
    try:
        told = json.loads(metadata[DESCRIPTION])
        return {"method": told["method"], "config": told["config"], "story": dict(told.get("story", {}))}
    except (KeyError, TypeError, ValueError) as error:
        raise _useless(path, error) from None


def _useless(path: Path, error: Exception) -> WeightsError:
    told = " ".join(str(error).split())
    return WeightsError(f"{path}: its configuration cannot be used ({told}); expected one that decsc train wrote")


def load(path: Path | str) -> Weights:
    """Rebuild the network of a file that `save` wrote, in float32, on the CPU, in evaluation mode.

    Raises
    ------
    WeightsError
        If the file is missing, was not written by `save`, or does not fit its own configuration.
    """
    path = Path(path)
    told = described(path)
    try:
        model = build(restore(told["method"], told["config"]))
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise _useless(path, error) from None
    with safe_open(path, framework="pt") as file:
        state = {name: file.get_tensor(name).float() for name in file.keys()}
    return Weights(told["method"], _filled(model, state, path), told["story"], file_hash(path), path)


def read(method: str, path: Path | str) -> Weights:
    """The weights of `method` in a file of either kind: one that `save` wrote, or an officially released checkpoint.

    Raises
    ------
    WeightsError
        As `load` and `load_official`.
    """
    path = Path(path)
    if not path.is_file() or not _pickled(path):
        return load(path)
    return Weights(method, load_official(method, path), {"official": path.name}, file_hash(path), path)


def _pickled(path: Path) -> bool:
    """Whether a file begins as `torch.save` begins: a zip archive, or, before PyTorch 1.6, a pickle."""
    with open(path, "rb") as file:
        first = file.read(9)
    return first.startswith((b"PK", b"\x80\x02")) and first[8:] != b"{"  # there begin the words of safetensors, whatever their number before


def shipped(method: str, preset: str | None = None, bands: int | None = None) -> Path:
    """The weights of `method` that come with the package, by default of the largest preset there is.

    Cubes of more bands than `CAMERA_BANDS` are taken for those of imaging spectrometers: for them there may be weights that were
    fine-tuned on remote-sensing scenes.

    Parameters
    ----------
    bands : int, optional
        Bands of the cubes that are to be denoised.

    Raises
    ------
    WeightsError
        If there are none, or no such method or preset.
    """
    if method not in LEARNED:
        raise WeightsError(f"{method!r} is no learned method; choose one of {', '.join(LEARNED)}")
    if preset and preset not in sizes(method):
        raise WeightsError(f"preset {preset!r} of {method!r} does not exist; choose one of {', '.join(sizes(method))}")
    remote = bands is not None and bands > CAMERA_BANDS
    for size in [preset] if preset else SIZES:
        found = [path for path in SHIPPED.glob("*.safetensors") if _preset(method, path) == size]
        if found:
            return min(found, key=lambda path: (path.stem.endswith("-remote") != remote, path))
    there = ", ".join(sorted(path.stem for path in SHIPPED.glob("*.safetensors"))) or "none"
    size = f" of preset {preset!r}" if preset else ""
    raise WeightsError(f"no weights{size} come with the package for {method!r} (there: {there}); train some with decsc train")


def _preset(method: str, path: Path) -> str | None:
    """The preset in the name METHOD-PRESET-CASE of shipped weights, the longest that fits; None for another method's."""
    rest = path.stem.removeprefix(f"{method}-")
    return max((size for size in sizes(method) if rest.startswith(f"{size}-")), key=len, default=None)


def load_official(method: str, path: Path | str, **changes) -> nn.Module:
    """The network of an officially released checkpoint: a pickled dict with the state dict in `net` or `state_dict`, or bare.

    What the tensors tell (widths, depths, atoms, bands) is read from them; `changes` sets any other field of the
    configuration, as DECSC's stride, which is not in its file and the release's 7 unless given.

    Raises
    ------
    WeightsError
        If there is no such method, the file is missing, cannot be read with ``torch.load(weights_only=True)``, or is no
        checkpoint of the method.
    TypeError, ValueError
        If `changes` names no field, or one is out of range.
    """
    path = Path(path)
    if method not in LEARNED:
        raise WeightsError(f"{path}: {method!r} is no learned method; choose one of {', '.join(LEARNED)}")
    if not path.is_file():
        raise WeightsError(f"{path}: no such checkpoint")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on old pickles, which load or are refused below
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are no checkpoint make the unpickler raise anything; it advises to unpickle all
        held = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"it holds {held[1]}" if held else "the file is damaged, or of another kind"
        raise WeightsError(f"{path}: not a checkpoint of plain tensors ({reason}); expected a dict with 'net'") from None
    if isinstance(loaded, dict) and {"model", "optimizer", "progress"} <= loaded.keys():
        raise WeightsError(f"{path}: a checkpoint of decsc train, for resuming it; give the weights.safetensors beside it, there once the training is finished")
    state = next((loaded[key] for key in ("net", "state_dict") if key in loaded), loaded) if isinstance(loaded, dict) else None
    if not isinstance(state, dict):
        raise WeightsError(f"{path}: holds a {type(loaded).__name__}; expected a dict with 'net', the state dict")
    return from_official_state(method, state, path, **changes)


def from_official_state(method: str, state: dict[str, torch.Tensor], source: Path | str = "state dict", **changes) -> nn.Module:
    """Build the network of an official state dict; see `load_official`. WeightsError if it is none of that method."""
    if not all(isinstance(key, str) and isinstance(tensor, torch.Tensor) for key, tensor in state.items()):
        raise WeightsError(f"{source}: not an official checkpoint of {method} (a state dict holds tensors by name)")
    state = {key.removeprefix("module."): tensor for key, tensor in state.items()}
    official = official_decsc if method in PRIORS else module_of(method)
    try:
        config, own = official.config_of(state), official.from_official(state)
    except KeyError as error:
        raise WeightsError(f"{source}: no {error}; not an official checkpoint of {method}") from None
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise WeightsError(f"{source}: not an official checkpoint of {method} ({error})") from None
    if method_of(config) != method:
        raise WeightsError(f"{source}: a checkpoint of {method_of(config)}, not of {method}")
    config = official_decsc.changed(config, **changes) if method in PRIORS else replace(config, **changes)
    return _filled(build(config), own, source)


def _filled(model: nn.Module, state: dict[str, torch.Tensor], source: Path | str) -> nn.Module:
    """The network with the tensors of `state`, whose axes of length 1 may differ."""
    own = model.state_dict()
    missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or unknown:
        what = f"lacks {missing[0]}" if missing else f"has an unknown {unknown[0]}"
        raise WeightsError(f"{source}: {what}; it does not fit the network of its configuration")
    for name, tensor in own.items():
        if [side for side in state[name].shape if side > 1] != [side for side in tensor.shape if side > 1]:
            raise WeightsError(f"{source}: {name} is {tuple(state[name].shape)}, the network needs {tuple(tensor.shape)}")
        if not state[name].isfinite().all():
            raise WeightsError(f"{source}: {name} holds values that are not finite; the training that it is from has failed, or the file is damaged")
    model.load_state_dict({name: state[name].view_as(tensor) for name, tensor in own.items()})
    return model.float().eval()
