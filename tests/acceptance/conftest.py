"""Folders to use the command line in, and two tiny models of one family."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.home import LORA, OBJECTIVE, OWN, Home


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the two members, `small` and `large`, and `rows.jsonl`."""
    # imports torch, which the other tests of this folder do without
    from tests.training.tiny import pairs, save_tiny_llama, write_rows

    folder = tmp_path_factory.mktemp("family")
    save_tiny_llama(folder / "small")
    save_tiny_llama(folder / "large", seed=1, width=64)
    write_rows(folder / "rows.jsonl", pairs(160))
    return folder


@pytest.fixture(scope="module")
def lora_home(family: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Home]]:
    """Makes a folder with a study file of the built-in trainer, `mine.yaml`, and what it names."""
    homes = []

    def make(name: str, *, trials: int = 8, top: int = 2, seeds: int = 2, **variables: str) -> Home:
        home = Home(tmp_path_factory.mktemp(name), variables)
        shutil.copytree(family, home.folder, dirs_exist_ok=True)
        sampler = "tpe" if trials >= 10 else "random"  # as the command advises
        text = LORA.format(name=name, sampler=sampler, trials=trials, top=top, seeds=seeds)
        (home.folder / "mine.yaml").write_text(text)
        homes.append(home)
        return home

    yield make
    for home in homes:
        home.clear()


@pytest.fixture
def own_home(tmp_path: Path) -> Iterator[Home]:
    """A folder with a study file of an own objective, `mine.yaml`."""
    home = Home(tmp_path)
    (tmp_path / "objective_of_the_test.py").write_text(OBJECTIVE)
    (tmp_path / "mine.yaml").write_text(OWN.format(name="mine", trials=6))
    yield home
    home.clear()
