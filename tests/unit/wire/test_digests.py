"""Damage that leaves a file's size as it was is found, whichever file it is in."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpo_service.wire.digests import damaged_file, digest_of, digest_of_text, digests_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "deep").mkdir()
    (tmp_path / "weights").write_bytes(b"\0" * 100)
    (tmp_path / "deep" / "state").write_text("state")
    return tmp_path


def test_a_whole_folder_has_no_damage_and_new_files_are_none(folder: Path) -> None:
    digests = digests_of(folder)
    assert digests.keys() == {"weights", "deep/state"}
    (folder / "new").write_text("later")
    assert damaged_file(folder, digests) == ""


@pytest.mark.parametrize("name", ["weights", "deep/state"])
def test_a_flipped_bit_a_missing_file_and_one_cut_short_are_named(folder: Path, name: str) -> None:
    digests, whole = digests_of(folder), (folder / name).read_bytes()
    for damaged in (bytes([whole[0] ^ 1]) + whole[1:], whole[:-1]):
        (folder / name).write_bytes(damaged)
        assert damaged_file(folder, digests) == name
    (folder / name).unlink()
    assert damaged_file(folder, digests) == name


def test_a_text_has_the_digest_of_a_file_with_it(folder: Path) -> None:
    assert digest_of_text("state") == digest_of(folder / "deep" / "state")
