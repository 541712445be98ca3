from __future__ import annotations

import pytest

from decsc_core.atomic import remove_leftovers, replacing, write_text, write_whole


def test_text_is_written_into_a_new_folder(tmp_path):
    write_text(tmp_path / "a" / "b.txt", "σ = 1\n")
    assert (tmp_path / "a" / "b.txt").read_text(encoding="utf-8") == "σ = 1\n"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.txt"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail(temporary):
        assert temporary.suffix == ".txt"
        temporary.write_text("new")
        temporary.with_name(f"{temporary.name}.lock").write_text("left by a library")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(path, fail)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"a.txt": "old"}


def test_a_name_as_long_as_the_file_system_takes_can_be_written(tmp_path):
    path = tmp_path / f"{'é' * 125}a.txt"
    write_text(path, "new")
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_writer_that_makes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a", tmp_path / "b.hdr") as (first, _):
        first.write_text("only one of two")
    assert not (tmp_path / "b.hdr").exists()


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_text(tmp_path / ".hidden-notes", "mine")
    with pytest.raises(FileNotFoundError), replacing(path) as (temporary,):
        temporary.write_text("torn")
        temporary.rename(tmp_path / "kept")
    write_text(path, "old")
    (tmp_path / "kept").rename(temporary)
    remove_leftovers(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"a.txt", ".hidden-notes"}


def test_a_link_is_followed(tmp_path):
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    write_text(tmp_path / "link.json", "new")
    assert (tmp_path / "link.json").is_symlink() and (tmp_path / "real.json").read_text() == "new"
