"""weights: what is saved comes back, what cannot be used is refused in one line, released checkpoints load."""

from __future__ import annotations

import hashlib
import json
import re
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from pooch import file_hash
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from decsc_core import weights
from decsc_core.denoisers.registry import make
from decsc_core.deq import RELEASED
from decsc_core.model import DECSC, DECSCConfig, SolverConfig, preset
from decsc_core.study.recipes import TrainConfig
from decsc_core.study.train import train
from decsc_core.weights import DESCRIPTION, WeightsError, halve, load, load_official, save

STORY = {"steps": 7, "data": {"train": {"scene": "0f"}}, "validation_psnr": 31.25, "note": "β ≠ B"}

METHODS = {"swin": "decsc", "vmamba": "decsc-mamba"}


@pytest.fixture(params=["swin", "vmamba"])
def model(request) -> DECSC:
    config = preset("tiny", prior=request.param, bands=4, depth=1, solver=SolverConfig(max_iter=9), phantom=(1.0, 0.5))
    return DECSC(config, torch.Generator().manual_seed(4))


def refused(call, *arguments) -> str:
    """The message of the WeightsError that `call` raises, which is one line that names the file."""
    with pytest.raises(WeightsError) as error:
        call(*arguments)
    message = str(error.value)
    assert "\n" not in message and message.startswith(str(arguments[0])), message
    return message


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


# Our own files


def test_what_is_saved_comes_back(model, tmp_path):
    path = tmp_path / "new" / "folder" / "w.safetensors"
    sha256 = save(model, path, STORY)
    loaded = load(path)
    assert equal(loaded.model.state_dict(), model.state_dict())
    assert loaded.model.config == model.config and isinstance(loaded.model.config.solver, SolverConfig)
    assert loaded.story == STORY and loaded.path == path and not loaded.model.training
    assert loaded.sha256 == sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [entry.name for entry in path.parent.iterdir()] == ["w.safetensors"]
    noisy = torch.rand(1, 4, 9, 10)
    with torch.no_grad():
        assert torch.equal(loaded.model(noisy).image, model.eval()(noisy).image)


@pytest.mark.parametrize("changes", [{"depth": 2.0}, {"kernel": 5.0}, {"stride": 1.5}, {"solver": None}, {"bands": "many"}])
def test_a_file_whose_network_cannot_be_built_is_named(model, tmp_path, changes):
    path = tmp_path / "odd.safetensors"
    save(model, path, STORY)
    with safe_open(path, "pt") as file:
        told, tensors = json.loads(file.metadata()[DESCRIPTION]), {name: file.get_tensor(name) for name in file.keys()}
    told["config"] |= changes
    save_file(tensors, path, {DESCRIPTION: json.dumps(told)})
    with pytest.raises(WeightsError, match=rf"^{re.escape(str(path))}: its configuration cannot be used \(.+\); expected one that decsc train wrote$"):
        load(path)


def test_half_precision_halves_the_file_and_loads_as_float32(model, tmp_path):
    whole, half = tmp_path / "whole", tmp_path / "half"
    save(model, whole, STORY)
    save(model, half, STORY, torch.float16)
    tensors = sum(4 * tensor.numel() for tensor in model.state_dict().values())
    assert whole.stat().st_size - half.stat().st_size == pytest.approx(tensors / 2, rel=0.01)
    loaded = load(half).model.state_dict()
    for name, tensor in model.state_dict().items():
        assert loaded[name].dtype == torch.float32 == tensor.dtype
        torch.testing.assert_close(loaded[name], tensor, rtol=2**-11, atol=2**-24)

    again = tmp_path / "again"
    assert halve(whole, again) == load(again).sha256
    assert load(again).story == STORY | {"stored": "float16"} and again.stat().st_size < 0.6 * whole.stat().st_size
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in load(again).model.state_dict().items())


def test_a_compiled_an_averaged_and_a_parallel_model_are_saved_as_what_they_wrap(model, tmp_path):
    for wrapped in (torch.compile(model), torch.optim.swa_utils.AveragedModel(model), torch.nn.DataParallel(model), torch.compile(torch.nn.DataParallel(model))):
        save(wrapped, tmp_path / "w", STORY)
        assert equal(load(tmp_path / "w").model.state_dict(), model.state_dict())


def test_weights_beyond_half_precision_are_refused_not_made_infinite(model, tmp_path):
    with torch.no_grad():
        model.shared_threshold[0] = 1e6
    with pytest.raises(ValueError, match=r"w: shared_threshold reaches 1e\+06, which torch.float16 cannot hold"):
        save(model, tmp_path / "w", STORY, torch.float16)
    assert not list(tmp_path.iterdir())
    save(model, tmp_path / "w", STORY)
    assert load(tmp_path / "w").model.shared_threshold[0] == 1e6


def test_weights_that_are_not_finite_are_refused(model, tmp_path):
    name, tensor = next(iter(model.state_dict().items()))
    tensor.view(-1)[0] = torch.nan
    weights.save(model, tmp_path / "w.safetensors", {})
    with pytest.raises(WeightsError, match=rf"w\.safetensors: {name} holds values that are not finite"):
        weights.load(tmp_path / "w.safetensors")


def test_configuration_and_story_can_be_read_without_this_package(model, tmp_path):
    save(model, tmp_path / "w", STORY)
    with safe_open(tmp_path / "w", framework="np") as file:
        metadata = file.metadata()
        assert set(file.keys()) == set(model.state_dict())
    description = json.loads(metadata["decsc"])
    assert description["story"] == STORY
    assert DECSCConfig(**description["config"]) == model.config


def test_the_same_weights_give_the_same_file(model, tmp_path):
    first = save(model, tmp_path / "first", STORY)
    assert {save(model, tmp_path / "again", STORY) for _ in range(3)} == {first}


def test_an_interrupted_save_leaves_the_old_file_alone(model, tmp_path, monkeypatch):
    path = tmp_path / "w"
    before = save(model, path, STORY)

    def torn(target: Path, content: bytes) -> None:
        target.write_text(content[:9].hex())
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", torn)
    with pytest.raises(KeyboardInterrupt):
        save(model, path, {})
    assert load(path).sha256 == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_story_that_json_cannot_hold_leaves_nothing_behind(model, tmp_path):
    with pytest.raises(TypeError):
        save(model, tmp_path / "w", {"when": object()})
    assert not list(tmp_path.iterdir())


def test_files_that_are_not_weights_are_refused(model, tmp_path):
    path = tmp_path / "w.safetensors"
    assert refused(load, path).endswith("no such weights file")
    path.write_text("not a tensor in sight\n" * 40)
    assert "not a safetensors file" in refused(load, path)
    path.write_bytes(b"")
    assert "not a safetensors file" in refused(load, path)
    save(model, path, STORY)
    whole = path.read_bytes()
    for length in (4, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert "not a safetensors file" in refused(load, path)
    torch.save({"net": model.state_dict()}, path)
    assert "load_official" in refused(load, path)


def test_files_that_do_not_fit_are_refused(model, tmp_path):
    path, state = tmp_path / "w.safetensors", model.state_dict()
    config = {"decsc": json.dumps({"method": METHODS[model.config.prior], "config": asdict(model.config)})}
    save_file(state, path)
    assert "does not describe its network" in refused(load, path)
    save_file({name: t for name, t in state.items() if name != "shared_threshold"}, path, config)
    assert "lacks shared_threshold" in refused(load, path)
    save_file(state | {"more": torch.zeros(3)}, path, config)
    assert "has an unknown more" in refused(load, path)
    save_file(state | {"shared_threshold": torch.zeros(15, 1, 1)}, path, config)
    assert "shared_threshold is (15, 1, 1), the network needs (16, 1, 1)" in refused(load, path)
    turned = state["shared.copies.synthesis"].transpose(0, 1).contiguous()
    save_file(state | {"shared.copies.synthesis": turned}, path, config)
    assert "shared.copies.synthesis is (4, 16, 5, 5), the network needs (16, 4, 5, 5)" in refused(load, path)


@pytest.mark.parametrize("config", [
    '{"bands": 4, "colour": "red"}', '{"bands": 1}', '{"bands": 4', '{"prior": "resnet"}', '[4]',
])
def test_a_configuration_that_cannot_be_used_is_refused(config, tmp_path):
    path = tmp_path / "w.safetensors"
    save_file({"shared_threshold": torch.zeros(3)}, path, {"decsc": f'{{"method": "decsc", "config": {config}}}'})
    assert "configuration" in refused(load, path)


def test_shipped_weights_are_found_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "SHIPPED", tmp_path)
    with pytest.raises(WeightsError, match=r"^no weights come with the package for 'decsc' \(there: none\)"):
        weights.shipped("decsc")
    for stem in ("decsc-tiny-gauss-95", "decsc-small-gauss-95", "decsc-mamba-paper-gauss-95"):
        (tmp_path / f"{stem}.safetensors").touch()
    assert weights.shipped("decsc").stem == "decsc-small-gauss-95"
    assert weights.shipped("decsc", "tiny").stem == "decsc-tiny-gauss-95"
    assert weights.shipped("decsc-mamba").stem == "decsc-mamba-paper-gauss-95"
    (tmp_path / "decsc-small-remote.safetensors").touch()
    assert weights.shipped("decsc").stem == weights.shipped("decsc", bands=31).stem == "decsc-small-gauss-95"
    assert weights.shipped("decsc", bands=32).stem == weights.shipped("decsc", "small", 200).stem == "decsc-small-remote"
    assert weights.shipped("decsc", "tiny", 200).stem == "decsc-tiny-gauss-95"
    with pytest.raises(WeightsError, match="^no weights of preset 'paper' come with the package for 'decsc'"):
        weights.shipped("decsc", "paper")


def test_shipped_weights_of_another_preset_are_not_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "SHIPPED", tmp_path)
    for stem in ("hsdt-paper-s-all", "hsdt-small-all", "decsc-small-all"):
        (tmp_path / f"{stem}.safetensors").touch()
    assert weights.shipped("hsdt", "paper-s").stem == "hsdt-paper-s-all"
    assert weights.shipped("hsdt").stem == "hsdt-small-all"
    with pytest.raises(WeightsError, match="^no weights of preset 'paper' come with the package for 'hsdt'"):
        weights.shipped("hsdt", "paper")
    for preset in ("s*", "mall", "paper-s"):
        with pytest.raises(WeightsError) as error:
            make("decsc", preset=preset)
        assert str(error.value) == f"preset {preset!r} of 'decsc' does not exist; choose one of paper, small, tiny"
    with pytest.raises(WeightsError, match="^'bm4d' is no learned method; choose one of decsc, decsc-mamba, sst"):
        weights.shipped("bm4d")


# Released checkpoints

GOLDEN = {"sst": "sst", "sert": "sert", "trq3dnet": "trq3d", "t3sc": "t3sc", "t3sc_beta": "t3sc", "qrnn3d": "qrnn3d",
          "hsdt_m": "hsdt", "decsc_swin": "decsc", "decsc_vmamba": "decsc-mamba"}


def released(shared: Path, name: str) -> dict[str, Tensor]:
    """The state dict of a golden file."""
    path = shared / "golden" / "learned" / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"no file {path}")
    with np.load(path) as file:
        return {key[6:]: torch.from_numpy(file[key]) for key in file.files if key.startswith("state/")}


@pytest.mark.parametrize("name, method", GOLDEN.items())
def test_a_released_file_of_every_network_is_read_and_denoises(shared, name, method, tmp_path):
    """As the releases write them: `net` beside the optimiser, behind data parallelism; Lightning's for T3SC."""
    state, path = released(shared, name), tmp_path / "released.pth"
    if method == "t3sc":
        torch.save({"state_dict": state, "epoch": 60, "global_step": 9, "hyper_parameters": {"bands": 31}}, path)
    else:
        torch.save({"net": {f"module.{key}": t for key, t in state.items()}, "optimizer": {"state": {}}, "epoch": 9}, path)
    network = load_official(method, path)
    expected = weights.from_official_state(method, state)
    assert network.config == expected.config and equal(network.state_dict(), expected.state_dict())
    denoiser = make(method, weights=path, device="cpu")
    assert denoiser.weights.story == {"official": "released.pth"} and denoiser.weights.sha256 == file_hash(path)
    assert denoiser.weights.told() == {"file": "released.pth", "sha256": file_hash(path), "story": {"official": "released.pth"}}
    cube = np.random.default_rng(0).random((9, 10, 31), dtype=np.float32)
    if method not in ("decsc", "decsc-mamba"):
        with torch.no_grad():
            found = network(torch.from_numpy(cube).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()
        np.testing.assert_allclose(denoiser(cube).cube, found, atol=1e-6)
    with pytest.raises(WeightsError, match="not an official checkpoint of (sst|qrnn3d)|a checkpoint of"):
        make("qrnn3d" if method == "sst" else "sst", weights=path)


@pytest.mark.parametrize("first", [b"PK", b"\x80\x02"])
def test_weights_whose_length_looks_like_a_checkpoint_are_read_as_weights(first, tmp_path):
    """The first bytes of safetensors are the length of their header, any number."""
    model, path = DECSC(preset("tiny")), tmp_path / "w.safetensors"
    wanted = int.from_bytes(first, "little") + 2**16
    save(model, path, {"note": ""})
    save(model, path, {"note": "x" * (wanted - int.from_bytes(path.read_bytes()[:8], "little"))})
    assert path.read_bytes()[:2] == first
    assert make("decsc", weights=path).weights.sha256 == file_hash(path)


@pytest.mark.parametrize("held, message", [
    (Namespace(lr=1), "not a checkpoint of plain tensors (it holds argparse.Namespace); expected a dict with 'net'"),
    ({"net": {1: torch.zeros(1)}}, "not an official checkpoint of sst (a state dict holds tensors by name)"),
    ({"net": {"conv_first.weight": None}}, "not an official checkpoint of sst (a state dict holds tensors by name)"),
])
def test_the_line_about_a_checkpoint_that_cannot_be_used(held, message, tmp_path):
    torch.save(held, tmp_path / "c.pth")
    with pytest.raises(WeightsError) as error:
        load_official("sst", tmp_path / "c.pth")
    assert str(error.value) == f"{tmp_path / 'c.pth'}: {message}"


def test_the_line_about_a_checkpoint_of_ours(tmp_path):
    config = TrainConfig(preset("tiny"), dataset="photos", case="gauss-95", steps=1, batch=1)
    train(config, tmp_path / "run", progress=False)
    path = tmp_path / "run" / "checkpoint.pt"
    with pytest.raises(WeightsError) as error:
        make("decsc", weights=path)
    assert str(error.value) == f"{path}: a checkpoint of decsc train, for resuming it; give the weights.safetensors beside it, there once the training is finished"


@pytest.fixture(params=["swin", "vmamba"])
def official(request, shared) -> dict[str, Tensor]:
    """A state dict of DECSC under the names of the released code."""
    return released(shared, f"decsc_{request.param}")


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrapped", [True, False])
def test_a_released_checkpoint_becomes_a_network(official, prefix, wrapped, tmp_path):
    state = {prefix + name: tensor for name, tensor in official.items()}
    optimizer = {"state": {0: {"step": 3, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
    saved = {"net": state, "optimizer": optimizer, "epoch": 30, "iteration": 9} if wrapped else state
    torch.save(saved, tmp_path / "c.pth")
    model = load_official(method_of(official), tmp_path / "c.pth", shifts=4, gradient="implicit")
    assert (model.config.shifts, model.config.gradient, model.training) == (4, "implicit", False)
    own = model.state_dict()
    trained = {name: t for name, t in official.items() if not name.endswith("relative_position_index")}
    assert len(own) == len(trained) and sum(t.numel() for t in own.values()) == sum(t.numel() for t in trained.values())
    pairs = {
        "share_encoder.weight": "shared.copies.analysis", "share_decoder.weight": "shared.copies.synthesis",
        "share_filters.weight": "shared.copies.reconstruction", "unique_encoder.weight": "unshared.copies.analysis",
        "unique_decoder.weight": "unshared.copies.synthesis", "unique_filters.weight": "unshared.copies.reconstruction",
        "share_lmbdas": "shared_threshold", "unique_lmbdas": "unshared_threshold",
    }
    for released, ours in pairs.items():
        assert torch.equal(own[ours].flatten(), official[released].flatten())


@pytest.mark.parametrize("stride, shifts", [(4, 16), (7, 49), (9, 49)])
def test_the_stride_of_a_released_checkpoint_can_be_given(official, stride, shifts):
    """All its shifts are averaged, but no more than by the release."""
    config = weights.from_official_state(method_of(official), official, stride=stride).config
    assert (config.stride, config.shifts, config.train_shifts) == (stride, shifts, shifts)
    config = weights.from_official_state(method_of(official), official, stride=stride, shifts=2).config
    assert (config.shifts, config.train_shifts) == (2, shifts)


def test_a_checkpoint_with_smaller_atoms_than_the_releases_stride(official):
    small = {key: t[..., :5, :5] if t.shape[-2:] == (9, 9) else t for key, t in official.items()}
    config = weights.from_official_state(method_of(official), small, stride=3).config
    assert (config.kernel, config.stride, config.shifts) == (5, 3, 9)
    with pytest.raises(ValueError, match="^stride=7 must lie between 1 and the kernel side 5"):
        from_official_state(small)


@pytest.mark.parametrize("changes, kind, message", [
    ({"strides": 4}, TypeError, "strides"),
    ({"stride": 10}, ValueError, "^stride=10 must lie between 1 and the kernel side 9"),
    ({"stride": 4, "shifts": 17}, ValueError, r"^shifts=17 must lie between 1 and stride\^2 = 16$"),
    ({"gradient": "none"}, ValueError, "^gradient='none'; choose one of"),
])
def test_a_mistake_of_the_caller_is_not_blamed_on_the_checkpoint(official, changes, kind, message):
    with pytest.raises(kind, match=message) as error:
        weights.from_official_state(method_of(official), official, **changes)
    assert not isinstance(error.value, WeightsError) and "checkpoint" not in str(error.value)


def test_fields_of_a_released_peer_can_be_changed(shared):
    state = released(shared, "sst")
    with pytest.raises(TypeError, match="strides"):
        weights.from_official_state("sst", state, strides=4)


def method_of(state: dict[str, Tensor]) -> str:
    """Which of the two networks a state dict under the released names belongs to."""
    return "decsc-mamba" if any(".layers." in name for name in state) else "decsc"


def from_official_state(state: dict[str, Tensor]) -> DECSC:
    return weights.from_official_state(method_of(state), state)


def test_the_other_networks_checkpoint_is_refused(official, tmp_path):
    torch.save({"net": official}, tmp_path / "c.pth")
    right, wrong = sorted(("decsc", "decsc-mamba"), key=lambda name: name != method_of(official))
    with pytest.raises(WeightsError, match=f"a checkpoint of {right}, not of {wrong}$"):
        load_official(wrong, tmp_path / "c.pth")
    with pytest.raises(WeightsError, match="'sstt' is no learned method; choose one of decsc, decsc-mamba, sst"):
        load_official("sstt", tmp_path / "c.pth")


def test_a_released_checkpoint_survives_our_own_format(official, tmp_path):
    model = from_official_state(official)
    save(model, tmp_path / "w", {})
    assert equal(load(tmp_path / "w").model.state_dict(), model.state_dict())


@pytest.mark.parametrize("name, prior", [("decsc_swin", "swin"), ("decsc_vmamba", "vmamba")])
def test_every_tensor_of_the_full_size_checkpoints_has_a_place(name, prior, shared):
    path = shared / "golden" / "learned" / "official_state_dicts.json"
    if not path.is_file():
        pytest.skip(f"no file {path}")
    listed = json.loads(path.read_text())[name]
    state = {key: torch.zeros(shape, dtype=getattr(torch, dtype)) for key, (dtype, *shape) in listed["keys"].items()}
    model = from_official_state(state)
    assert model.config == preset("paper", prior=prior, solver=SolverConfig(**RELEASED))
    assert sum(parameter.numel() for parameter in model.parameters()) == listed["n_parameters"]
    assert all((parameter == 0).all() for parameter in model.parameters())


def test_incomplete_and_foreign_state_dicts_are_refused(official):
    assert "not an official checkpoint of decsc" in refused_state({"conv_first.weight": torch.zeros(90, 31, 3, 3)})
    assert "not an official checkpoint of decsc" in refused_state(official | {"share_encoder.weight": torch.zeros(4)})
    assert "not an official checkpoint of decsc" in refused_state(official | {"share_encoder.weight": 3})
    for name in official:
        if not name.endswith("relative_position_index"):
            refused_state({key: t for key, t in official.items() if key != name})
    assert "has an unknown scheduler" in refused_state(official | {"scheduler": torch.zeros(1)})
    turned = official["share_decoder.weight"].transpose(2, 3).transpose(0, 1).contiguous()
    assert "shared.copies.synthesis is" in refused_state(official | {"share_decoder.weight": turned})


def refused_state(state: dict[str, Tensor]) -> str:
    with pytest.raises(WeightsError) as error:
        from_official_state(state)
    assert "\n" not in str(error.value)
    return str(error.value)


def load_decsc(path: Path) -> DECSC:
    return load_official("decsc", path)


class _Touch:
    """Unpickled by a careless loader, it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_that_is_not_plain_tensors_is_refused_and_not_run(tmp_path):
    trap, path = tmp_path / "sprung", tmp_path / "c.pth"
    torch.save({"net": {"share_encoder.weight": _Touch(trap)}}, path)
    assert "not a checkpoint of plain tensors" in refused(load_decsc, path)
    assert not trap.exists()
    torch.load(path, weights_only=False)
    assert trap.exists(), "the trap works"


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_files_that_are_not_checkpoints_are_refused(tmp_path):
    path = tmp_path / "c.pth"
    assert refused(load_decsc, path).endswith("no such checkpoint")
    refused(load_decsc, tmp_path)
    for content in (b"", b"plain text", b"\x80\x04.", b"PK\x03\x04 not really"):
        path.write_bytes(content)
        assert "not a checkpoint of plain tensors" in refused(load_decsc, path)
    torch.save({"net": {"share_encoder.weight": torch.zeros(5000)}}, path)
    path.write_bytes(path.read_bytes()[:9000])
    assert "not a checkpoint of plain tensors" in refused(load_decsc, path)
    torch.save([torch.zeros(2)], path)
    assert "holds a list; expected a dict with 'net'" in refused(load_decsc, path)
    torch.save({"net": 3}, path)
    assert "expected a dict with 'net'" in refused(load_decsc, path)
