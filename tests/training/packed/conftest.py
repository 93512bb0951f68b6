"""One resident base for all tests of packs, and a place of its own for each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.packed.packs import Passage, Workshop
from tests.training.tiny import Trainee


@pytest.fixture(scope="session")
def resident(llama: str, data_file: str, tmp_path_factory: pytest.TempPathFactory) -> Trainee:
    return Trainee(llama, data_file, tmp_path_factory.mktemp("resident"))


@pytest.fixture
def workshop(resident: Trainee, tmp_path: Path) -> Workshop:
    return Workshop(resident, tmp_path)


@pytest.fixture
def passage(monkeypatch: pytest.MonkeyPatch) -> Passage:
    return Passage(monkeypatch)
