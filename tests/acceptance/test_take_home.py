"""A finished study's winner is exported, merged and looked at for the hub from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.acceptance.home import Home


@pytest.fixture(scope="module")
def finished(lora_home: Callable[..., Home]) -> Home:
    """A folder with a study that has ended."""
    home: Home = lora_home("mine", trials=3, top=1)
    ended = home.run("run", "mine.yaml", "--quick")
    assert ended.returncode == 0, ended.stderr
    return home


def said(home: Home, *arguments: str) -> Any:
    ended = home.run(*arguments, "--json")
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.mark.slow
def test_a_winner_is_exported_trained_in_full_merged_and_looked_at_for_the_hub(finished: Home) -> None:
    results = finished.folder / "hpo-output" / "mine"
    assert {"README.md", "tokenizer.json", "config.yaml"} <= {path.name for path in (results / "best").iterdir()}

    exported = said(finished, "export", "mine", "--to", "script", "--epochs", "2")
    assert (results / "export" / "script" / "train.py").is_file()
    assert exported["command"] == "python train.py"

    trained = said(finished, "train", "mine", "--epochs", "2")
    assert trained["epochs"] == 2
    assert [share for share, _ in trained["curve"]] == [0.5, 1.0]
    assert not (results / "final" / ".work").exists()

    merged = said(finished, "merge", "mine", "--weights", str(results / "final"))
    assert (results / "merged" / "model.safetensors").is_file()
    assert merged["remark"] is None

    listed = said(finished, "push", "mine", "me/mine", "--dry-run")
    assert not listed["uploaded"]
    assert listed["private"]
    assert "adapter_model.safetensors" in listed["files"]


def test_commands_about_a_winner_say_in_one_line_what_is_missing(own_home: Home) -> None:
    assert own_home.run("study", "create", "mine.yaml").returncode == 0
    own = own_home.run("export", "mine", "--to", "trl")
    assert own.returncode == 2
    assert own.stderr.startswith("error: study mine has an objective of its own")
    missing = own_home.run("train", "nobody", "--json")
    assert missing.returncode == 3
    assert "nobody" in json.loads(missing.stderr)["error"]["message"]
