"""Every denoiser by name: what the command line, the notebooks and the evaluation choose from."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from decsc_core.denoisers.base import Denoiser

@dataclass(frozen=True)
class Method:
    """One entry of the registry.

    Attributes
    ----------
    params : int
        Learnable parameters of the paper-size network for 31 bands; 0 where nothing is learned.
    options : tuple of str
        The options of `make` that the method takes.
    """

    name: str
    kind: str
    params: int
    summary: str
    options: tuple[str, ...] = ()


_NETWORK = ("weights", "preset", "shifts", "spread", "device")
_LEARNED = ("weights", "preset", "device")
_BLIND = ("device",)
_AWARE = ("sigma", "device")

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("decsc", "equilibrium", 4_295_152, "Deep equilibrium convolutional sparse coding, Swin prior (Ye et al., 2025)", _NETWORK),
        Method("decsc-mamba", "equilibrium", 5_056_944, "The same with the VMamba prior", _NETWORK),
        Method("bm4d", "model-driven", 0, "Block matching and 4-D filtering (Maggioni et al., 2013)", _AWARE),
        Method("mtsnmf", "model-driven", 0, "Multitask sparse non-negative matrix factorisation (Ye et al., 2015)", _AWARE),
        Method("llrt", "model-driven", 0, "Hyper-Laplacian low-rank tensor, nonlocal groups (Chang et al., 2017)", _AWARE),
        Method("ngmeet", "model-driven", 0, "Nonlocal groups in a spectral subspace (He et al., 2019)", _AWARE),
        Method("ngmeet-white", "model-driven", 0, "The same on bands of equal noise: each divided by its noise level before, multiplied after (ours)", _AWARE),
        Method("lrmr", "model-driven", 0, "Low-rank matrix recovery, block by block (Zhang et al., 2014)", _BLIND),
        Method("e3dtv", "model-driven", 0, "Enhanced 3-D total variation (Peng et al., 2020)", _BLIND),
        Method("logtnn", "model-driven", 0, "Low fibered rank by a log tensor nuclear norm, 3DlogTNN (Zheng et al., 2020)", _AWARE),
        Method("sst", "learned", 4_144_837, "Spatial-spectral transformer (Li et al., 2023)", _LEARNED),
        Method("trq3d", "learned", 679_107, "Transformer and quasi-recurrent network, TRQ3DNet (Pang et al., 2022)", _LEARNED),
        Method("sert", "learned", 1_905_319, "Spectral enhanced rectangle transformer (Li et al., 2023)", _LEARNED),
        Method("t3sc", "learned", 832_256, "Trainable spectral-spatial sparse coding (Bodrito et al., 2021)", _LEARNED),
        Method("mtsnnpp", "learned", 1_948_032, "MTSNN++ (Xiong et al., 2023), our reconstruction from its abstract", _LEARNED),
        Method("qrnn3d", "learned", 860_453, "3-D quasi-recurrent network (Wei et al., 2020)", _LEARNED),
        Method("hsdt", "learned", 521_158, "Hybrid spectral denoising transformer, size M (Lai et al., 2023)", _LEARNED),
        Method("tv", "band-wise", 0, "Total variation of each band, scikit-image"),
        Method("wavelet", "band-wise", 0, "Wavelet shrinkage of each band, scikit-image"),
        Method("nlm", "band-wise", 0, "Non-local means of each band, scikit-image"),
    )
}

LEARNED = tuple(name for name, method in METHODS.items() if method.params)
"""Those that take weights."""

_CLASSES = {
    "bm4d": ("classical.bm4d", "BM4D"),
    "mtsnmf": ("classical.mtsnmf", "MTSNMF"),
    "llrt": ("classical.llrt", "LLRT"),
    "ngmeet": ("classical.ngmeet", "NGMeet"),
    "lrmr": ("classical.lrmr", "LRMR"),
    "e3dtv": ("classical.e3dtv", "E3DTV"),
    "logtnn": ("classical.logtnn", "LogTNN"),
    "tv": ("bandwise", "TotalVariation"),
    "wavelet": ("bandwise", "Wavelet"),
    "nlm": ("bandwise", "NonLocalMeans"),
}
"""Module and class of the methods that need no weights."""

def make(
    name: str, *, weights: Path | str | None = None, preset: str | None = None, shifts: int | None = None,
    sigma: float | None = None, device: str = "auto", spread: bool = False, bands: int | None = None,
) -> Denoiser:
    """The denoiser called `name`.

    Parameters
    ----------
    weights : path, optional
        A file written by ``decsc train``, or an officially released checkpoint; default: the weights of the package.
    preset : str, optional
        Which of the shipped weights: those of this network size.
    bands : int, optional
        Of the cubes to be denoised: which of the shipped weights suit them best, see `weights.shipped`. Methods without weights
        do not need it.
    sigma : float, optional
        Noise level on the 0-255 scale, the mean over bands; default: estimated from the cube.
    shifts, device, spread
        See `Equilibrium`.

    Raises
    ------
    ValueError
        If there is no such method, or an option does not go with it.
    WeightsError
        If the weights cannot be used, or none are shipped for the method.
    """
    if name not in METHODS:
        raise ValueError(f"method {name!r} does not exist; choose one of {', '.join(METHODS)}")
    given = {"weights": weights, "preset": preset, "shifts": shifts, "sigma": sigma, "spread": spread or None}
    given = {option: value for option, value in given.items() if value is not None}
    if device != "auto" and not (device == "cpu" and "device" not in METHODS[name].options):
        given["device"] = device
    wrong = [option for option in given if option not in METHODS[name].options]
    if wrong:
        raise ValueError(f"method {name!r} does not take {' or '.join(wrong)}; leave that out")
    if name == "ngmeet-white":
        from decsc_core.denoisers.classical.whitened import Whitened

        return Whitened(make("ngmeet", **given))
    if name in _CLASSES:
        module, kind = _CLASSES[name]
        return getattr(import_module(f"decsc_core.denoisers.{module}"), kind)(**given)
    from decsc_core import weights as files
    from decsc_core.denoisers.device import pick_device
    from decsc_core.denoisers.equilibrium import Equilibrium
    from decsc_core.denoisers.learned import Learned

    pick_device(device)
    if weights and preset:
        raise ValueError("a weights file brings its own network size; give weights or preset, not both")
    loaded = files.read(name, weights or files.shipped(name, preset, bands))
    if loaded.method != name:
        raise files.WeightsError(f"{loaded.path}: these weights are of {loaded.method!r}; use that method with them")
    if METHODS[name].kind == "learned":
        return Learned(loaded, device=device)
    return Equilibrium(loaded, shifts=shifts, device=device, spread=spread)
