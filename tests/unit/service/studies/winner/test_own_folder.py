"""A folder is replaced only by the command that filled it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpo_service.errors import ConflictError
from hpo_service.service.studies.winner.own_folder import MARK, claim


def test_a_new_an_empty_and_an_own_folder_are_claimed(tmp_path: Path) -> None:
    folder = tmp_path / "merged"
    claim(folder, "merge")
    (folder / "config.json").write_text("{}")
    claim(folder, "merge")
    assert (folder / MARK).read_text() == "merge\n"


@pytest.mark.parametrize("mark", [None, b"train\n", b"\xff"])
def test_what_somebody_else_filled_is_refused_and_left_as_it_is(tmp_path: Path, mark: bytes | None) -> None:
    (tmp_path / "config.json").write_text("mine")
    if mark is not None:
        (tmp_path / MARK).write_bytes(mark)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ConflictError, match="holds something that `merge` has not written"):
        claim(tmp_path, "merge")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
