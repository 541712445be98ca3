"""The data sets by name: where they come from, their terms, which scenes are for training and which for testing."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from . import photos, sources
from .checksums import SHA256
from .files import files_of
from .scene import Scene, SceneError


class MissingData(SceneError):
    """A data set is not on this machine; the message says where it comes from and where to put it."""


@dataclass(frozen=True)
class Dataset:
    """One data set.

    Parameters
    ----------
    name, title : str
        What `load` calls it, and what a caption does.
    origin, terms : str
        Its citation with its own site, and what is known of its terms of use.
    obtain : str
        How to get it and where to put it, below the folder DECSC_DATA.
    splits : dict
        Scene names by 'train', 'validation', 'test'. Empty if they depend on the files found.
    stand_in : str
        What it stands in for when the paper's own data are not there; empty for the paper's own.
    find, read_scene : callable
        The file of a scene's name, None if it is not on this machine; and the scene of file and name. Without `find` there are no files.
    found : callable or None
        The splits by the files found, where `splits` is empty.
    """

    name: str
    title: str
    origin: str
    terms: str
    obtain: str
    splits: dict[str, tuple[str, ...]]
    stand_in: str = ""
    read_scene: Callable[..., Scene] = field(kw_only=True, repr=False)
    find: Callable[[str], Path | None] | None = field(default=None, kw_only=True, repr=False)
    found: Callable[[], dict[str, tuple[str, ...]]] | None = field(default=None, kw_only=True, repr=False)


CAVE_TEST = ("beads", "cloth", "flowers", "glass_tiles", "oil_painting", "thread_spools")
CAVE_VALIDATION = ("pompoms", "sponges")
CAVE_TRAIN = tuple(
    name
    for name in sorted(file[len("cave_") : -len(".npz")] for file in SHA256 if file.startswith("cave_"))
    if name not in CAVE_TEST + CAVE_VALIDATION
)
REMOTE_SPLITS = {
    "train": (
        "aviris_bay_champagne",
        "aviris_jasper_ridge",
        "aviris_la_airport",
        "aviris_la_tanks",
        "aviris_la_terminal",
        "aviris_sandiego_1",
        "aviris_sandiego_2",
        "aviris_sandiego_harbour",
        "enmap_potsdam_1",
        "enmap_potsdam_2",
        "hydice_urban_crop",
    ),
    "validation": ("hymap_berlin", "samson"),
    "test": ("aviris_gulfport_runway", "casi_muufl_gulfport", "pavia_centre_crop"),
}
"""All scenes of one place, such as Los Angeles, San Diego or Gulfport, are in one split."""
ENDS = 2**20
"""Bytes of each end of a file that its fingerprint reads."""
NPZ_COLLECTION = "put the .npz files with the names and SHA-256 of decsc_core/scenes/checksums.py into"
_ALL = (
    Dataset(
        "photos",
        "Embedded photographs",
        "scikit-image's sample photographs (https://scikit-image.org, module skimage.data), raised to spectra by the "
        "basis of Mallett and Yuksel, EGSR 2019",
        "as documented for each photograph in skimage.data",
        "nothing to fetch: the photographs come with scikit-image",
        photos.SPLITS,
        "ICVL: real photographs with made-up spectra of CAVE's numerical rank; its scores are no paper's scores",
        read_scene=photos.build,
    ),
    Dataset(
        "cave",
        "CAVE",
        "Yasuma, Mitsunaga, Iso, Nayar, 'Generalized Assorted Pixel Camera', CUCS-061-08, 2008; "
        "https://www.cs.columbia.edu/CAVE/databases/multispectral/",
        "no licence stated; cite the report",
        "get the scenes from https://www.cs.columbia.edu/CAVE/databases/multispectral/ and unpack them as "
        "cave/beads_ms/beads_ms_01.png and so on, or put files cave_beads.npz and so on into cave/",
        {"train": CAVE_TRAIN, "validation": CAVE_VALIDATION, "test": CAVE_TEST},
        "ICVL: same bands (31, 400-700 nm), other camera, fewer and smaller scenes",
        find=sources.find_cave,
        read_scene=sources.cave,
    ),
    Dataset(
        "icvl",
        "ICVL",
        "Arad, Ben-Shahar, 'Sparse Recovery of Hyperspectral Signal from Natural RGB Images', ECCV 2016; "
        "https://icvl.cs.bgu.ac.il/pages/researches/hyperspectral-imaging.html",
        "see its site; cite the paper",
        "get the .mat files (31 bands, variable 'rad') from "
        "https://icvl.cs.bgu.ac.il/pages/researches/hyperspectral-imaging.html and put them into icvl/ under their own "
        f"names, such as icvl/{sources.ICVL_FIGURE_4}.mat",
        {},
        find=sources.find_icvl,
        read_scene=sources.icvl,
        found=sources.icvl_splits,
    ),
    Dataset(
        "houston2018",
        "Houston 2018",
        "Xu et al., JSTARS 12(6), 2019, doi 10.1109/JSTARS.2019.2911113; https://machinelearning.ee.uh.edu/"
        "2018-ieee-grss-data-fusion-challenge-fusion-of-multispectral-lidar-and-hyperspectral-data/",
        "see its site, which asks for registration; cite the paper",
        "get the contest's FullHSIDataset from https://machinelearning.ee.uh.edu/2018-ieee-grss-data-fusion-challenge-"
        "fusion-of-multispectral-lidar-and-hyperspectral-data/ and put 20170218_UH_CASI_S4_NAD83.hdr and .pix into "
        "houston2018/",
        {"train": ("west", "east", "south"), "validation": ("north",), "test": ("centre",)},
        find=sources.find_houston2018,
        read_scene=sources.houston2018,
    ),
    Dataset(
        "eo1",
        "EO-1 Hyperion",
        "Zhang, He, Zhang, Shen, Yuan, TGRS 52(8), 2014, doi 10.1109/TGRS.2013.2284280",
        "none stated with the paper's sub-image",
        "ask the authors of doi 10.1109/TGRS.2013.2284280 for the 200 x 400 x 166 sub-image (their page once offered "
        "it as noise_EOI.zip) and put it into eo1/ as eo1.mat, .hdr, .tif or .npy",
        {"test": ("eo1",)},
        find=partial(sources.find_single, "eo1"),
        read_scene=sources.single,
    ),
    Dataset(
        "gf5",
        "GF-5 Capital Airport",
        "Gaofen-5 AHSI; the paper names no source for its sub-image",
        "none stated",
        "cut a 300 x 300 x 166 sub-image of Capital Airport from a Gaofen-5 AHSI product and put it into gf5/ as "
        "capital_airport.mat, .hdr, .tif or .npy",
        {"test": ("capital_airport",)},
        find=partial(sources.find_single, "gf5"),
        read_scene=sources.single,
    ),
    Dataset(
        "remote",
        "Remote-sensing crops",
        "crops of AVIRIS, CASI, EnMAP, HYDICE, HyMap, ROSIS and SAMSON images from public repositories",
        "for most none stated; research use, cite each image's paper",
        f"{NPZ_COLLECTION} remote/",
        REMOTE_SPLITS,
        "Houston 2018: airborne and satellite scenes of 64 to 215 bands without their noisy bands, all small",
        find=partial(sources.find_npz, "remote"),
        read_scene=sources.clean,
    ),
    Dataset(
        "real-noise",
        "Really noisy remote-sensing crops",
        "EO-1 Hyperion (Paris) and AVIRIS (Salinas-A, Texas coast) from public repositories",
        "none stated; research use, cite each image's paper",
        f"{NPZ_COLLECTION} real-noise/",
        {"test": ("eo1_hyperion_paris", "aviris_salinas_a_224", "aviris_texas_coast_1")},
        "EO-1 and GF-5: real sensor noise and stripes, no ground truth",
        find=partial(sources.find_npz, "real-noise"),
        read_scene=sources.known_npz,
    ),
    Dataset(
        "own",
        "Own scenes",
        "images of your own",
        "your own",
        "put clean images, in any format that decsc denoise reads, into own/train/, own/validation/ and, to score "
        "methods on them, own/test/",
        {},
        find=sources.find_own,
        read_scene=sources.own,
        found=sources.own_splits,
    ),
)
DATASETS: dict[str, Dataset] = {dataset.name: dataset for dataset in _ALL}


def scenes_by_split(dataset: str) -> dict[str, tuple[str, ...]]:
    """The names of all scenes by 'train', 'validation', 'test', in a fixed order.

    Those of `icvl` and `own` are the files found; see `sources.icvl_split` and `sources.own`.

    Raises
    ------
    SceneError
        If there is no such data set, or files found share a name.
    MissingData
        If the names depend on files and none are found.
    """
    entry = _entry(dataset)
    splits = entry.splits or entry.found()
    if not any(splits.values()):
        raise _missing(entry, "no scene is")
    return splits


def scene_names(dataset: str, split: str) -> tuple[str, ...]:
    """The names of the scenes of a split, in a fixed order.

    Raises
    ------
    SceneError, MissingData
        As `scenes_by_split` does, and if the data set has no such split.
    """
    splits = scenes_by_split(dataset)
    if not splits.get(split):
        raise SceneError(
            f"{dataset} has no scenes for {split!r}; it has {', '.join(key for key in splits if splits[key])}"
        )
    return splits[split]


def load_scene(dataset: str, name: str) -> Scene:
    """One scene by name, as the paper uses it: clean, cut, its bad bands left out.

    Raises
    ------
    MissingData
        If the scene is not on this machine; the message says how to get it and where to put it.
    SceneError
        If there is no such scene or data set, or its file is damaged.
    """
    entry = _entry(dataset)
    known = [scene for names in entry.splits.values() for scene in names]
    if known and name not in known:
        raise SceneError(f"{dataset} has no scene {name!r}; it has {', '.join(known)}")
    if entry.find is None:
        return entry.read_scene(name)
    if (path := entry.find(name)) is None:
        raise _missing(entry, f"scene {name!r} is not")
    return entry.read_scene(path, name)


def fingerprints(dataset: str, split: str) -> dict[str, str]:
    """What tells the file of each scene of a split from a changed one, as far as it is on this machine, without reading it whole.

    A CRC-32 of the size and both ends of the file; of ENVI images header and data count, of CAVE's original scenes all files of the folder.
    Embedded scenes have none.

    Raises
    ------
    SceneError
        As `scene_names` does, but not for missing files.
    """
    try:
        names = scene_names(dataset, split)
    except MissingData:
        return {}
    return {name: found for name in names if (found := fingerprint(dataset, name))}


def fingerprint(dataset: str, name: str) -> str:
    """One of `fingerprints`; empty for an embedded scene and where there is no such file."""
    entry = _entry(dataset)
    return _fingerprint(path) if entry.find and (path := entry.find(name)) else ""


def load(dataset: str, split: str) -> list[Scene]:
    """All scenes of a split.

    ICVL's and Houston's training scenes are large (130 MB and up to 400 MB each): take those one at a time with
    `scene_names` and `load_scene`.

    Raises
    ------
    SceneError, MissingData
        As `scene_names` and `load_scene` do.
    """
    return [load_scene(dataset, name) for name in scene_names(dataset, split)]


def _entry(dataset: str) -> Dataset:
    """The data set of that name."""
    if dataset not in DATASETS:
        raise SceneError(f"there is no data set {dataset!r}; there are {', '.join(DATASETS)}")
    return DATASETS[dataset]


def _fingerprint(path: Path) -> str:
    """Eight hexadecimal digits for a file, with the data files of a header, or for the files in a folder."""
    total = 0
    for part in files_of(path):
        with part.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            for start in (0, max(0, size - ENDS)):
                file.seek(start)
                total = zlib.crc32(file.read(ENDS), total)
        total = zlib.crc32(str(size).encode(), total)
    return f"{total:08x}"


def _missing(entry: Dataset, what: str) -> MissingData:
    """The one line that says what to put where."""
    return MissingData(f"{entry.title}: {what} in {sources.root()} (DECSC_DATA); {entry.obtain}")
