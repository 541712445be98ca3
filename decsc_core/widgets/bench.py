"""The bench that all explorers look at: a scene, its noise, and what has been computed from them."""

from __future__ import annotations

import time
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import NamedTuple

import ipywidgets as widgets
import numpy as np
import pandas as pd
import traitlets
from torch import Tensor

from decsc_core import metrics
from decsc_core import weights as files
from decsc_core.denoisers.base import Denoiser, Estimate
from decsc_core.denoisers.device import pick_device
from decsc_core.denoisers.registry import METHODS, make
from decsc_core.denoisers.tiling import starts
from decsc_core.model import DECSC
from decsc_core.noise import LEVELS
from decsc_core.scenes import DATASETS, Scene, SceneError, fingerprint, load_scene, read, scenes_by_split
from decsc_core.scenes.files import files_of
from decsc_core.study.captions import describe_data
from decsc_core.study.convergence import Problem, trace
from decsc_core.study.evaluate import NOISY, noisy_cube, scored_part
from decsc_core.study.paper import label
from decsc_core.widgets.status import Holding, Status, guarded

FILE = "file"
"""The data set that stands for a file whose path is typed in."""
RECORDED = "real-noise"
"""The data set without clean scenes: they come with the noise of the sensor itself, so none is added at first."""
SIDES = (48, 64, 96, 128)
CASES = {
    "Gaussian, a level a band": "gauss-95",
    "mixture, disjoint thirds": "mixture-disjoint",
    "mixture, independent thirds": "mixture-independent",
    "Gaussian, Eq. (26)": "corr",
}
"""The noise cases to choose from; the three Gaussian cases of the paper are one of three levels."""
HIGHEST = 100
"""The highest noise level to choose."""
LARGEST_SEED = 2**31
"""The largest seed to choose."""
EVALUATIONS = 40
"""Most evaluations of f in a trace."""
WRAP = widgets.Layout(flex_flow="row wrap", grid_gap="4px 12px")
STYLE = {"description_width": "5.5em"}


class Result(NamedTuple):
    """What a method made of the noisy cube: its estimate, its scores (see `metrics.scores`), and seconds it took."""

    estimate: Estimate
    scores: dict[str, float]
    seconds: float


class Trace(NamedTuple):
    """A solver's way to the fixed point.

    Attributes
    ----------
    problem : Problem
    curve : DataFrame
        A row an iterate; see `convergence.trace`.
    iterates : list of Tensor (1, d)
        The codes of each row, packed.
    clean, noisy : ndarray, shape (H, W, B)
        The bands that the network saw: as many as its own, or all of the scene, if these are fewer.
    wavelengths : ndarray, shape (B,), or None
        Theirs [nm]; None if they are not known.
    """

    problem: Problem
    curve: pd.DataFrame
    iterates: list[Tensor]
    clean: np.ndarray
    noisy: np.ndarray
    wavelengths: np.ndarray | None


class Bench(Holding, widgets.VBox):
    """A scene, its noise, and what has been computed from them, under the controls that choose them.

    Explorers share it; the trait `version` changes whenever the cubes have.

    Parameters
    ----------
    dataset : str
        A data set of the catalogue, or ``"file"``.
    scene : str
        A scene of it, by default the first test scene; or the path of a file.
    case : str
        A noise case.
    level : float, optional
        Its strength on the 0-255 scale, by default the paper's, see `noise.LEVELS`, and 0 for the data set `RECORDED`.
    seed : int
        Of the noise.
    side : int
        Only the centre of the scene is used, at most that many pixels a side.
    weights : path, optional
        A file of DECSC weights, by default those of the package that suit as many bands as the scene has; read when they
        are needed.

    Attributes
    ----------
    clean, noisy : ndarray, shape (H, W, B), in [0, 1]
    wavelengths : ndarray, shape (B,), or None
        [nm]
    reference : str
        What `clean` is called: "Clean", or "As recorded" for the data set `RECORDED`.

    Raises
    ------
    SceneError, ValueError
        If the scene or the noise cannot be had. Later, when they are chosen by hand, errors show in `status`.
    """

    version = traitlets.Int(0)

    def __init__(
        self,
        dataset: str = "photos",
        scene: str = "",
        *,
        case: str = "gauss-95",
        level: float | None = None,
        seed: int = 0,
        side: int = 64,
        weights: str = "",
    ) -> None:
        if case not in LEVELS:
            raise ValueError(f"unknown noise case {case!r}; choose one of {', '.join(LEVELS)}")
        if side < 1:
            raise ValueError(f"side={side} must be at least 1 pixel")
        if not 0 <= seed <= LARGEST_SEED:
            raise ValueError(f"seed={seed} must be at least 0 and at most {LARGEST_SEED}")
        super().__init__()
        level = self._usual_level(dataset, case) if level is None else level
        if not 0 <= level <= HIGHEST:
            raise ValueError(f"the noise level must be at least 0 and at most {HIGHEST}, not {level}")
        case = {"mixture": "mixture-disjoint"}.get(case, "gauss-95" if case.startswith("gauss") else case)
        self._weights_file, self._networks = weights, {}
        known = [(entry.title, name) for name, entry in DATASETS.items()]
        if dataset not in (FILE, *DATASETS):
            raise SceneError(f"there is no data set {dataset!r}; there are {', '.join(DATASETS)} and {FILE!r}")
        row = {"style": STYLE, "layout": {"width": "26em"}}
        self.dataset = widgets.Dropdown(options=[*known, ("a file …", FILE)], value=dataset, description="Data", **row)
        self.scene = widgets.Dropdown(description="Scene", **row)
        self.path = widgets.Text(
            description="File",
            placeholder="path of a .hdr, .tif, .mat, .npy, .npz",
            continuous_update=False,
            style=STYLE,
            layout=widgets.Layout(width="38em"),
        )
        self.side = widgets.Dropdown(
            options=[(f"central {n} × {n}", n) for n in sorted({*SIDES, side})],
            value=side,
            description="Pixels",
            style=STYLE,
            layout=widgets.Layout(width="18em"),
        )
        self.case = widgets.Dropdown(options=CASES, value=case, description="Noise", **row)
        self.level = widgets.FloatSlider(
            level,
            min=0,
            max=HIGHEST,
            step=1,
            description="Level σ",
            readout_format=".4g",
            continuous_update=False,
            **row,
        )
        self.seed = widgets.BoundedIntText(
            seed, min=0, max=LARGEST_SEED, description="Seed", style=STYLE, layout={"width": "11em"}
        )
        self.status, self.about = Status(), widgets.HTML()
        self.progress = widgets.IntProgress(
            0, 0, EVALUATIONS + 1, description="Evaluations", style={"description_width": "6em"}
        )
        self.progress.layout.display = "none"
        self._set_names()
        if dataset == FILE:
            self.path.value = scene
        elif scene:
            _load_scene(dataset, scene, fingerprint(dataset, scene))
            self.scene.value = scene
        self._load()

        self.dataset.observe(self._choose_dataset, "value")
        self.case.observe(self._choose_case, "value")
        for control in (self.scene, self.path, self.side, self.level, self.seed):
            control.observe(self._change, "value")
        self.children = (
            widgets.HBox([self.dataset, self.scene, self.path, self.side], layout=WRAP),
            widgets.HBox([self.case, self.level, self.seed], layout=WRAP),
            self.about,
            widgets.HBox([self.progress, self.status]),
        )
        self.add_class("decsc-bench")

    @property
    def weights(self) -> files.Weights:
        """The network for this scene, with its story.

        Raises
        ------
        WeightsError
            If the file cannot be used.
        """
        path = self._network_file
        if path not in self._networks:
            loaded = files.load(path)
            if METHODS[loaded.method].kind != "equilibrium":
                raise files.WeightsError(
                    f"{loaded.path}: weights of {loaded.method!r}, which has no fixed point; give DECSC's"
                )
            loaded.model.to(pick_device("auto"))
            self._networks[path] = loaded
        return self._networks[path]

    @property
    def _network_file(self) -> Path | str:
        """Where the network for this scene lies."""
        return self._weights_file or files.shipped("decsc", bands=self.clean.shape[2])

    @property
    def method(self) -> str:
        """Name of the network in the registry."""
        return self.weights.method

    @property
    def model(self) -> DECSC:
        """The network itself."""
        return self.weights.model

    def estimate(self, method: str) -> Result:
        """What a method of the registry, or ``"noisy"``, makes of the noisy cube; computed once.

        The network's estimate comes with the spread over shifts.

        Raises
        ------
        ValueError, RuntimeError
            As `registry.make` and the method itself do.
        """
        if method not in self._results:
            with self.status.busy(f"{label(method)} is at work"):
                began = time.perf_counter()
                estimate = Estimate(self.noisy) if method == NOISY else self._denoiser(method)(self.noisy)
                seconds = time.perf_counter() - began
                self._results[method] = Result(estimate, metrics.scores(self.clean, estimate.cube), seconds)
        return self._results[method]

    def windows(self) -> list[int]:
        """The first bands, from 0, of the windows in which the network sees the scene; one if it has no more bands."""
        bands = self.model.config.bands
        return starts(max(self.clean.shape[2], bands), bands, bands // 2)

    def trace(self, solver: str, tolerance: float, first: int = 0) -> Trace:
        """A solver's iterates on a window of bands, until `tolerance` or `EVALUATIONS`; computed once.

        One copy of the scene is solved, not shifted. A scene of fewer bands than the network is extended by reflection.
        """
        key = solver, tolerance, first
        if key not in self._traces:
            bands = self.model.config.bands
            clean, noisy = (np.ascontiguousarray(cube[..., first : first + bands]) for cube in (self.clean, self.noisy))
            self.progress.value, self.progress.layout.display = 0, ""
            try:
                with self.status.busy(f"{solver.capitalize()} solves for the fixed point"):
                    curve, solution = trace(
                        self.model,
                        clean,
                        noisy,
                        solver,
                        shifts=1,
                        evaluations=EVALUATIONS,
                        rel_tol=tolerance,
                        progress=lambda made: setattr(self.progress, "value", made),
                        keep=True,
                    )
            finally:
                self.progress.layout.display = "none"
            wavelengths = None if self.wavelengths is None else self.wavelengths[first : first + bands]
            problem = Problem(self.model, noisy, 1)
            self._traces[key] = Trace(problem, curve, solution.iterates, clean, noisy, wavelengths)
        return self._traces[key]

    def band_name(self, band: int) -> str:
        """What a band, from 0, is called: its number from 1, and its wavelength if that is known."""
        at = "" if self.wavelengths is None else f" · {self.wavelengths[band]:.0f} nm"
        return f"band {band + 1} of {self.clean.shape[2]}{at}"

    def _denoiser(self, method: str) -> Denoiser:
        """The method, with the spread over shifts if it has any."""
        own = {"weights": self.weights.path} if method == self.method else {}
        spread = {"spread": True} if METHODS[method].kind == "equilibrium" else {}
        return make(method, **own, **spread, bands=self.clean.shape[2])

    def _set_names(self) -> None:
        """Offer the scenes of the data set, those for testing first; none if it is not on this machine."""
        is_file = self.dataset.value == FILE
        self.scene.layout.display, self.path.layout.display = ("none", "") if is_file else ("", "none")
        with self._holding():
            self.scene.options = ()
            if not is_file:
                splits = scenes_by_split(self.dataset.value)
                names = [name for split in ("test", "validation", "train") for name in splits.get(split, ())]
                self.scene.options, self.scene.value = names, names[0]

    @staticmethod
    def _usual_level(dataset: str, case: str) -> float:
        """The level that a case begins with."""
        return 0 if dataset == RECORDED else LEVELS[case]

    @guarded
    def _choose_dataset(self, change: dict) -> None:
        self._set_names()
        self.status.clear()
        if RECORDED in (change["old"], change["new"]):
            with self._holding():
                self.case.value = "gauss-95"
                self.level.value = self._usual_level(change["new"], self.case.value)
        if self.dataset.value != FILE or self.path.value:
            self._load()

    @guarded
    def _choose_case(self, change: dict) -> None:
        if self._held:
            return
        with self._holding():
            self.level.value = LEVELS[self.case.value]
        self._load()

    @guarded
    def _change(self, change: dict) -> None:
        if not self._held:
            self._load()

    def _whole_scene(self) -> Scene:
        """The scene or file that is chosen."""
        if self.dataset.value != FILE:
            if self.scene.value is None:  # there was none when the data set was chosen
                self._set_names()
            return _load_scene(self.dataset.value, self.scene.value, fingerprint(self.dataset.value, self.scene.value))
        path = self.path.value.strip()
        if not path:
            raise SceneError("no file is chosen; type the path of one")
        return _read_file(path, _changed(path))

    def _load(self) -> None:
        """Make the cubes that the controls ask for; if that fails, keep those there are."""
        with self.status.busy("Loading"):
            whole = self._whole_scene()
            scene, single = scored_part(whole, self.side.value)
            height, width, bands = scene.cube.shape
            if min(height, width) < metrics.SSIM_WINDOW:
                least = f"{metrics.SSIM_WINDOW} x {metrics.SSIM_WINDOW}"
                raise SceneError(f"{scene.name}: {height} x {width} pixels are too few, the scores need at least {least}")
            noisy = noisy_cube(scene, self.case.value, self.seed.value, self.level.value)
        self.name, self.clean, self.noisy, self.wavelengths = scene.name, scene.cube, noisy, scene.wavelengths
        self._results: dict[str, Result] = {}
        self._traces: dict[tuple, Trace] = {}
        self.reference = "As recorded" if self.dataset.value == RECORDED else "Clean"
        told = [
            f"{scene.name}, {height} × {width} pixels, {bands} band{'s' * (bands > 1)}.",
            "Data: a file of yours." if self.dataset.value == FILE else describe_data(self.dataset.value),
        ]
        if self.dataset.value == RECORDED:
            told.append("There is no clean reference: scores are against the scene as recorded.")
        if (missing := whole.missing()) is not None:
            told.append(f"Values without data that were filled in: {missing.sum()} of the whole scene.")
        if single.any():
            told.append(f"Bands of a single value, as bad ones are, are left out: {', '.join(map(str, np.flatnonzero(single) + 1))} of {single.size}.")
        told.append(f"Network, where one is used: {Path(self._network_file).stem}.")
        mixed = self.case.value.startswith("mixture") and bands >= 3
        told.append("Level 0 leaves impulses, stripes and deadlines." if mixed else "Level 0 adds no noise.")
        self.about.value = f"<span class='decsc-about' data-scene='{escape(scene.name, quote=True)}'>{escape(' '.join(told))}</span>"
        self.version += 1


@lru_cache(maxsize=4)
def _load_scene(dataset: str, name: str, fingerprint: str) -> Scene:
    """A scene of a data set; the fingerprint tells versions of its files apart."""
    return load_scene(dataset, name)


@lru_cache(maxsize=1)
def _read_file(path: str, changed: int) -> Scene:
    """The scene of a file; `changed` tells its versions apart."""
    return read(Path(path).expanduser())


def _changed(path: str) -> int:
    """When the last of the files that a scene is read from was changed [ns]; 0 if there is none."""
    return max((file.stat().st_mtime_ns for file in files_of(Path(path).expanduser())), default=0)
