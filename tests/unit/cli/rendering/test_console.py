"""A console whose reader has left."""

from __future__ import annotations

import os
import sys

import pytest

from hpo_service.cli.rendering.console import BROKEN_PIPE, console


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_command_whose_reader_has_left_ends_as_by_sigpipe_and_says_nothing_more(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        monkeypatch.setattr(sys, name, stream)
        shown = console(stderr=name == "stderr")
        with pytest.raises(SystemExit) as ended:
            shown.print("trial 1 has ended")
        shown.print("trial 2 has ended")
    assert ended.value.code == BROKEN_PIPE == 141
