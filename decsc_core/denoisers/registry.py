"""Every denoiser by name: what the command line, the notebooks and the evaluation choose from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from decsc_core.denoisers.base import Denoiser


@dataclass(frozen=True)
class Method:
    """One entry of the registry; `params` are those of the paper-size network for 31 bands, 0 where nothing is learned."""

    name: str
    kind: str
    params: int
    summary: str


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("decsc", "equilibrium", 4_295_152, "Deep equilibrium convolutional sparse coding, Swin prior (Ye et al., 2025)"),
        Method("decsc-mamba", "equilibrium", 5_056_944, "The same with the VMamba prior"),
        Method("tv", "band-wise", 0, "Total variation of each band, scikit-image"),
        Method("wavelet", "band-wise", 0, "Wavelet shrinkage of each band, scikit-image"),
        Method("nlm", "band-wise", 0, "Non-local means of each band, scikit-image"),
    )
}

_PRIORS = {"decsc": "swin", "decsc-mamba": "vmamba"}


def make(
    name: str, *, weights: Path | str | None = None, preset: str | None = None, shifts: int | None = None,
    device: str = "auto", spread: bool = False,
) -> Denoiser:
    """The denoiser called `name`.

    Parameters
    ----------
    weights : path, optional
        A file written by ``decsc train``; default: the weights that come with the package.
    preset : str, optional
        Which of the shipped weights: those of this network size.
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
    if METHODS[name].kind == "band-wise":
        if weights or preset or shifts:
            raise ValueError(f"method {name!r} has no weights, presets or shifts; leave these options out")
        from decsc_core.denoisers import bandwise

        return {"tv": bandwise.TotalVariation, "wavelet": bandwise.Wavelet, "nlm": bandwise.NonLocalMeans}[name]()
    from decsc_core import weights as files
    from decsc_core.denoisers.equilibrium import Equilibrium, pick_device

    pick_device(device)
    if weights and preset:
        raise ValueError("a weights file brings its own network size; give weights or preset, not both")
    loaded = files.load(weights or files.shipped(name, preset))
    prior = loaded.model.config.prior
    if prior != _PRIORS[name]:
        other = next(key for key, value in _PRIORS.items() if value == prior)
        raise files.WeightsError(f"{loaded.path}: weights of a {prior} prior; use method {other!r} with them")
    return Equilibrium(loaded, name, shifts=shifts, device=device, spread=spread)
