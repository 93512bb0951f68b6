"""What goes to the hub is looked at first; a token is asked for, and never shown."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hpo_service.errors import ConflictError, HpoServiceError, UsageError
from hpo_service.service.studies.winner.hub import TOKEN, prepare, upload

SECRET = "hf_of_the_test"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    (tmp_path / "adapter_model.safetensors").write_bytes(b"12345678")
    (tmp_path / "README.md").write_text("card")
    (tmp_path / ".work").mkdir()
    (tmp_path / ".work" / "checkpoint.bin").write_bytes(b"not for others")
    return tmp_path


def test_hidden_files_stay_here(weights: Path) -> None:
    assert prepare("me/mine", weights, private=True).files == {"README.md": 4, "adapter_model.safetensors": 8}


@pytest.mark.parametrize("name", ["mine", "me/", "/mine", "me/mine/more", "me/-mine", "https://hub/me/mine"])
def test_a_name_that_is_no_repository_is_refused(name: str, weights: Path) -> None:
    with pytest.raises(UsageError, match="OWNER/NAME"):
        prepare(name, weights, private=True)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConflictError, match="holds no weights"):
        prepare("me/mine", tmp_path, private=True)


def test_without_a_token_nothing_is_tried(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN, raising=False)
    with pytest.raises(UsageError, match="HF_TOKEN is not set"):
        upload(prepare("me/mine", weights, private=True))


class Hub:
    """Stands in for the hub's library."""

    def __init__(self, failing: bool = False) -> None:
        self.failing, self.calls = failing, dict[str, Any]()

    def __call__(self, token: str) -> Hub:
        self.calls["token"] = token
        return self

    def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> str:
        if self.failing:
            raise RuntimeError(f"401 for {self.calls['token']}\nsee the documentation")
        self.calls |= {"name": name, "private": private, "exist_ok": exist_ok}
        return f"https://hub.example/{name}"

    def upload_folder(self, **given: Any) -> None:
        self.calls |= given


def stand_in(monkeypatch: pytest.MonkeyPatch, hub: Hub) -> Hub:
    monkeypatch.setenv(TOKEN, SECRET)
    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(HfApi=hub))  # type: ignore[arg-type]
    return hub


def test_a_new_repository_is_private_and_gets_the_listed_files(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = stand_in(monkeypatch, Hub())
    assert upload(prepare("me/mine", weights, private=True)) == "https://hub.example/me/mine"
    assert hub.calls["private"] is True
    assert hub.calls["allow_patterns"] == ["README.md", "adapter_model.safetensors"]


def test_a_token_is_taken_out_of_what_the_hub_says(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, Hub(failing=True))
    with pytest.raises(HpoServiceError, match="was not uploaded") as raised:
        upload(prepare("me/mine", weights, private=True))
    assert SECRET not in str(raised.value)
    assert "\n" not in str(raised.value)
