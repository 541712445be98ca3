from __future__ import annotations

import hashlib
import itertools
import shutil

import h5py
import numpy as np
import pytest

from decsc_core.scenes import DATASETS, MissingData, SceneError, fingerprints, load, load_scene, scene_names, sources, write
from decsc_core.scenes.checksums import SHA256
from decsc_core.scenes.scene import Scene


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DECSC_DATA", str(tmp_path))
    return tmp_path


@pytest.fixture
def shared_data(shared, monkeypatch):
    monkeypatch.setenv("DECSC_DATA", str(shared / "data"))
    return shared / "data"


@pytest.mark.parametrize("name", list(DATASETS))
def test_splits_are_disjoint_and_every_entry_is_described(name):
    entry = DATASETS[name]
    for first, second in itertools.combinations(entry.splits.values(), 2):
        assert not set(first) & set(second)
    for names in entry.splits.values():
        assert len(set(names)) == len(names) > 0
    assert set(entry.splits) <= {"train", "validation", "test"}
    assert entry.name == name
    assert all((entry.title, entry.origin, entry.terms, entry.obtain))


def test_cave_split_is_fixed():
    splits = DATASETS["cave"].splits
    assert splits["test"] == ("beads", "cloth", "flowers", "glass_tiles", "oil_painting", "thread_spools")
    assert splits["validation"] == ("pompoms", "sponges")
    joined = "\n".join(name for split in ("train", "validation", "test") for name in splits[split])
    assert len(splits["train"]) == 20
    digest = hashlib.sha256(joined.encode()).hexdigest()
    assert digest[:12] == "d2480104da2e", "the published split must not move"


def test_every_shared_file_is_in_exactly_one_place(shared):
    in_folder = {path.stem for path in (shared / "data").glob("*.npz")}
    placed = [f"cave_{name}" for names in DATASETS["cave"].splits.values() for name in names]
    for dataset in ("remote", "real-noise"):
        placed += [name for names in DATASETS[dataset].splits.values() for name in names]
    assert len(set(placed)) == len(placed)
    assert set(placed) == in_folder == {file.removesuffix(".npz") for file in SHA256}


def test_checksums_are_those_of_the_data_readme(shared):
    readme = (shared / "data" / "README.md").read_text()
    for file, checksum in SHA256.items():
        line = next(line for line in readme.splitlines() if line.startswith(f"| `{file}`"))
        assert f"`{checksum}`" in line


@pytest.mark.parametrize("place", ["la_", "sandiego_", "gulfport", "potsdam"])
def test_scenes_of_one_place_are_in_one_split(place):
    splits = DATASETS["remote"].splits
    assert len({split for split, names in splits.items() for name in names if place in name}) == 1


def test_load_cave_from_files_in_the_root(shared_data):
    scenes = load("cave", "validation")
    assert [scene.name for scene in scenes] == ["pompoms", "sponges"]
    for scene in scenes:
        assert scene.cube.shape[2] == 31 and (scene.scale, scene.offset) == (1.0, 0.0)
        np.testing.assert_array_equal(scene.wavelengths, np.arange(400, 701, 10))


def test_remote_scenes_lack_their_noisy_bands(shared_data):
    scene = load_scene("remote", "pavia_centre_crop")
    with np.load(shared_data / "pavia_centre_crop.npz") as archive:
        kept = archive["cube"][:, :, 5:]
        wavelengths = archive["wavelengths_nm"][5:]
    assert scene.cube.shape == (105, 120, 97)
    np.testing.assert_allclose(scene.wavelengths, wavelengths)
    np.testing.assert_allclose(np.percentile(scene.cube, [0.1, 99.9]), [0, 1], atol=1e-6)
    np.testing.assert_allclose(scene.physical(), kept, atol=2e-3)
    assert load_scene("remote", "hydice_urban_crop").cube.shape[2] == 165


@pytest.mark.parametrize("name", list(sources.BAD_BANDS))
def test_noisy_bands_resemble_their_neighbours_less_than_the_others_do(shared_data, name):
    with np.load(shared_data / f"{name}.npz") as archive:
        cube = archive["cube"].astype(np.float64)
    bands = cube.shape[2]
    standard = (cube - cube.mean(axis=(0, 1))) / cube.std(axis=(0, 1))
    correlation = np.einsum("hwb,hwc->bc", standard, standard) / cube[:, :, 0].size
    near = [[other for other in (b - 2, b - 1, b + 1, b + 2) if 0 <= other < bands] for b in range(bands)]
    best = np.array([correlation[b, near[b]].max() for b in range(bands)])
    bad = [band for noisy in sources.BAD_BANDS[name] for band in noisy]
    assert best[bad].max() < np.percentile(np.delete(best, bad), 10)


def test_real_noise_keeps_all_bands(shared_data):
    assert [scene.cube.shape[2] for scene in load("real-noise", "test")] == [128, 224, 204]


def test_a_damaged_cave_file_is_noticed(shared, folder):
    content = bytearray((shared / "data" / "cave_cd.npz").read_bytes())
    content[1000] ^= 1
    (folder / "cave").mkdir()
    (folder / "cave" / "cave_cd.npz").write_bytes(content)
    with pytest.raises(SceneError, match=rf"cave_cd\.npz: SHA-256 is \w+ but should be {SHA256['cave_cd.npz']}"):
        load_scene("cave", "cd")
    shutil.copy(shared / "data" / "cave_cd.npz", folder / "cave" / "cave_cd.npz")
    assert load_scene("cave", "cd").name == "cd"


def test_cave_in_its_original_folders(folder):
    from skimage.io import imsave

    images = folder / "cave" / "complete_ms_data" / "beads_ms" / "beads_ms"
    images.mkdir(parents=True)
    bands = np.random.default_rng(0).integers(0, 65536, (31, 8, 8), dtype=np.uint16)
    for number, band in enumerate(bands, 1):
        imsave(images / f"beads_ms_{number:02d}.png", band, check_contrast=False)
    scene = load_scene("cave", "beads")
    assert scene.name == "beads" and scene.cube.shape == (8, 8, 31)


@pytest.mark.parametrize("name", [name for name in DATASETS if name != "photos"])
def test_missing_data_say_where_to_put_them_in_one_line(folder, name):
    with pytest.raises(MissingData) as error:
        load(name, "test")
    message = str(error.value)
    assert "\n" not in message and str(folder) in message and f"{name}/" in message and "DECSC_DATA" in message


def test_photos_need_nothing(folder):
    assert [scene.name for scene in load("photos", "validation")] == ["rocket"]


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(SceneError, match="no data set 'kave'; there are photos, cave, icvl"):
        load("kave", "test")
    with pytest.raises(SceneError, match="cave has no scenes for 'tset'; it has train, validation, test"):
        load("cave", "tset")
    with pytest.raises(SceneError, match="eo1 has no scenes for 'train'; it has test"):
        scene_names("eo1", "train")
    with pytest.raises(SceneError, match="cave has no scene 'bead'; it has cd, "):
        load_scene("cave", "bead")


def test_icvl_split_goes_by_name_and_keeps_the_figures_scene_for_testing(folder):
    names = [f"scene_{number:04d}" for number in range(2000)] + [sources.ICVL_FIGURE_4]
    splits = [sources.icvl_split(name) for name in names]
    assert splits[-1] == "test"
    assert splits.count("test") / 2000 == pytest.approx(50 / 201, abs=0.03)
    assert splits.count("validation") / 2000 == pytest.approx(0.02, abs=0.01)
    (folder / "icvl").mkdir()
    for name in names[:40]:
        (folder / "icvl" / f"{name}.mat").touch()
    found = [scene_names("icvl", split) for split in ("train", "test")]
    assert found[0] and found[1] and not set(found[0]) & set(found[1])
    assert all(sources.icvl_split(name) == "train" for name in found[0])


def test_icvl_is_divided_by_its_maximum_and_cut_to_its_centre(folder):
    (folder / "icvl").mkdir()
    cube = np.random.default_rng(0).integers(1, 4000, (600, 520, 31)).astype(np.float64)
    cube[0, 0, 0] = 4095.0
    with h5py.File(folder / "icvl" / f"{sources.ICVL_FIGURE_4}.mat", "w") as file:
        file["rad"] = cube.transpose()
        file["rad"].attrs["MATLAB_class"] = np.bytes_("double")
    (scene,) = load("icvl", "test")
    assert scene.cube.shape == (512, 512, 31)
    np.testing.assert_allclose(scene.cube, cube[44:556, 4:516] / 4095, atol=1e-6)
    np.testing.assert_allclose(scene.physical(), cube[44:556, 4:516], atol=2e-3)
    assert scene.wavelengths[-1] == 700


def test_houston_is_cut_into_its_centre_and_the_rest(folder):
    cube = np.random.default_rng(0).integers(1, 9000, (530, 560, 50)).astype(np.uint16)
    cube[:, :, 48:] = 60000
    whole = Scene(cube.astype(np.float32), "houston")
    (folder / "houston2018").mkdir()
    write(whole, folder / "houston2018" / "houston2018.hdr")
    (centre,) = load("houston2018", "test")
    assert centre.cube.shape == (512, 512, 46)
    np.testing.assert_allclose(centre.physical(), cube[9:521, 24:536, 2:48], atol=2e-3)
    assert centre.cube.max() < 1.1, "the two channels that are not spectral must not take part in the scaling"
    rest = load("houston2018", "train") + load("houston2018", "validation")
    assert {(scene.scale, scene.offset) for scene in rest} == {(centre.scale, centre.offset)}
    assert sum(scene.cube[:, :, 0].size for scene in [centre, *rest]) == 530 * 560
    by_name = {scene.name: scene.physical() for scene in rest}
    np.testing.assert_allclose(by_name["west"], cube[:, :24, 2:48], atol=2e-3)
    np.testing.assert_allclose(by_name["east"], cube[:, 536:, 2:48], atol=2e-3)
    np.testing.assert_allclose(by_name["north"], cube[:9, 24:536, 2:48], atol=2e-3)
    np.testing.assert_allclose(by_name["south"], cube[521:, 24:536, 2:48], atol=2e-3)


def test_houston_of_another_size_is_refused(folder):
    np.save(folder / "houston2018.npy", np.ones((20, 20, 48), np.float32))
    with pytest.raises(SceneError, match="houston2018.npy: the image is 20 x 20 x 48; Houston 2018 has 1202 x 4172"):
        load("houston2018", "test")


def test_a_single_scene_in_any_format(folder):
    np.save(folder / "capital_airport.npy", np.random.default_rng(0).random((6, 7, 8)))
    (scene,) = load("gf5", "test")
    assert scene.name == "capital_airport" and scene.cube.shape == (6, 7, 8)


def test_own_scenes_are_the_files_found_in_the_folder_of_each_split(folder):
    """Of any format and any extension's case; an ENVI image is one scene, whatever its two files are called."""
    with pytest.raises(MissingData, match="Own scenes: no scene is in .*; put clean images, .* into own/train/, own/validation/"):
        scene_names("own", "train")
    rng = np.random.default_rng(0)
    cubes = {place: rng.random((9, 8, 5), dtype=np.float32) for place in ("train/b.npy", "train/a.hdr", "train/c.MAT", "validation/d.tif")}
    for place, cube in cubes.items():
        (folder / "own" / place).parent.mkdir(parents=True, exist_ok=True)
        write(Scene(cube, "x"), folder / "own" / place)
    for name in ("notes.txt", "._b.npy", ".0123abcd-b.npy"):  # of macOS, and of a file that is being written
        (folder / "own/train" / name).touch()
    assert len(list((folder / "own/train").iterdir())) == 7
    assert scene_names("own", "train") == ("a", "b", "c") and scene_names("own", "validation") == ("d",)
    for place, cube in cubes.items():
        scene = load_scene("own", place[-5])
        assert scene.name == place[-5]
        np.testing.assert_allclose(scene.cube, cube, atol=1e-6)
    with pytest.raises(SceneError, match="own has no scenes for 'test'; it has train, validation"):
        scene_names("own", "test")
    with pytest.raises(MissingData, match="scene 'e' is not in"):
        load_scene("own", "e")


def test_own_scenes_may_be_folders_of_band_images(folder):
    from skimage.io import imsave

    rng = np.random.default_rng(0)
    for place, parts in (("train", "beads_ms"), ("test", "clay_ms/clay_ms")):
        bands = folder / "own" / place / parts
        bands.mkdir(parents=True)
        for number in range(1, 32):
            imsave(bands / f"x_{number:02d}.png", rng.integers(0, 65536, (9, 8), dtype=np.uint16), check_contrast=False)
    (folder / "own/train/.ipynb_checkpoints").mkdir()
    assert scene_names("own", "train") == ("beads_ms",) and scene_names("own", "test") == ("clay_ms",)
    scene = load_scene("own", "clay_ms")
    assert scene.name == "clay_ms" and scene.cube.shape == (9, 8, 31)
    before = fingerprints("own", "test")
    (bands / "x_17.png").write_bytes((bands / "x_16.png").read_bytes())
    assert fingerprints("own", "test") != before


def test_own_scenes_with_one_name_or_without_data_are_refused(folder):
    for split in ("train", "test"):
        (folder / "own" / split).mkdir(parents=True)
    holes = np.random.default_rng(0).random((9, 8, 5), dtype=np.float32)
    np.savez(folder / "own/train/a.npz", cube=holes, nodata=holes[..., 0] > 0.5)
    with pytest.raises(SceneError, match=r"own/train/a.npz: \d+ values have no data; keep only pixels and bands that are complete"):
        load_scene("own", "a")
    marked = Scene.from_physical(holes, "b", bad=np.arange(5) == 2)
    write(marked, folder / "own/train/b.hdr")
    with pytest.raises(SceneError, match=r"own/train/b.hdr: 1 band is marked as bad; write the scene without, for it is no clean reference"):
        load_scene("own", "b")
    np.save(folder / "own/test/a.npy", holes)
    for ask in (lambda: scene_names("own", "train"), lambda: load_scene("own", "a")):
        with pytest.raises(SceneError, match=r"own/test/a.npy: .*own/train/a.npz has the same name; give each scene a name of its own"):
            ask()
    (folder / "own/test/a.npy").unlink()
    np.save(folder / "own/train/b.npy", holes)
    with pytest.raises(SceneError, match=r"own/train/b.npy: .*own/train/b.hdr has the same name; give each scene a name of its own"):
        scene_names("own", "train")


def test_fingerprints_tell_new_and_changed_scenes_and_are_the_same_elsewhere(folder, tmp_path, monkeypatch):
    test = folder / "own" / "test"
    test.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("field.npy", "town.img"):
        write(Scene(rng.random((20, 20, 5), dtype=np.float32), name), test / name)
    before = fingerprints("own", "test")
    assert list(before) == ["field", "town"] and fingerprints("own", "test") == before

    (test / "field.npy").touch()
    shutil.copytree(folder / "own", tmp_path / "elsewhere" / "own")
    monkeypatch.setenv("DECSC_DATA", str(tmp_path / "elsewhere"))
    assert fingerprints("own", "test") == before, "neither dates nor the place count"

    moved = tmp_path / "elsewhere" / "own" / "test"
    data = bytearray((moved / "town.img").read_bytes())
    data[7] ^= 1
    (moved / "town.img").write_bytes(data)
    changed = fingerprints("own", "test")
    assert changed["town"] != before["town"] and changed["field"] == before["field"]
    (moved / "town.hdr").write_text((moved / "town.hdr").read_text() + "data ignore value = 0\n")
    assert fingerprints("own", "test")["town"] != changed["town"]
    shutil.copy(moved / "field.npy", moved / "wood.npy")
    assert list(fingerprints("own", "test")) == ["field", "town", "wood"]


def test_fingerprints_of_scenes_without_files(folder):
    assert fingerprints("photos", "test") == fingerprints("own", "test") == fingerprints("cave", "test") == {}
    with pytest.raises(SceneError, match="has no scenes for 'tests'"):
        fingerprints("cave", "tests")


def test_the_fingerprint_of_a_scene_of_band_images(folder):
    bands = folder / "cave" / "beads_ms"
    bands.mkdir(parents=True)
    for number in range(1, 32):
        (bands / f"beads_ms_{number:02d}.png").write_bytes(bytes([number]) * 40)
    before = fingerprints("cave", "test")
    assert list(before) == ["beads"]
    (bands / "beads_ms_17.png").write_bytes(bytes([3]) * 40)
    assert fingerprints("cave", "test") != before
