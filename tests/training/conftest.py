"""What the tests of the trainer share: one tiny model, one small file of rows, and a place to run trials."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from tests.training.tiny import Trainee, pairs, save_tiny_llama, write_rows

# As the child does after its imports: the Trainer collects garbage before each trial.
gc.freeze()


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_llama(tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture(scope="session")
def data_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_rows(tmp_path_factory.mktemp("data") / "pairs.jsonl", pairs(70))


@pytest.fixture
def trainee(llama: str, data_file: str, tmp_path: Path) -> Trainee:
    return Trainee(llama, data_file, tmp_path)
