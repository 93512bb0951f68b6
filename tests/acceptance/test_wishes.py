"""What a new user wishes for is one option or one key, and the page on getting started says which."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpo_service import cli
from hpo_service.domain.study.spec import StudySpec
from hpo_service.service.studies.study_file import read_study_file

PAGE = Path(__file__).parents[2] / "docs" / "get-started.md"


def space(spec: StudySpec) -> dict[str, Any]:
    return dict(spec.space.resolve().parameters)


def data(spec: StudySpec) -> Any:
    assert spec.data is not None
    return spec.data


WISHES: dict[str, Callable[[StudySpec], bool]] = {
    "--only learning_rate,lora_rank": lambda spec: set(space(spec)) == {"learning_rate", "lora_rank"},
    "--method qlora --gpu 24": lambda spec: spec.training.method == "qlora",
    "--set data.validation=dev.jsonl": lambda spec: data(spec).validation.endswith("/dev.jsonl"),
    "--set data.columns='{prompt: question, completion: answer}'": lambda spec: (
        data(spec).columns == {"prompt": "question", "completion": "answer"}
    ),
    "--set data.system='You answer in one sentence.'": lambda spec: data(spec).system == "You answer in one sentence.",
    "--set data.source='[a.jsonl, b.jsonl]'": lambda spec: len(data(spec).sources) == 2,
    "--set space.parameters.target_modules='{choices: [attention, all-linear]}'": lambda spec: (
        list(space(spec)["target_modules"].choices) == ["attention", "all-linear"]
    ),
    "--budget 3h": lambda spec: spec.budget.gpu_hours == 3.0,
    "--set search.enqueue='[{learning_rate: 1e-4, lora_rank: 32}]'": lambda spec: (
        spec.search.enqueue == [{"learning_rate": 1e-4, "lora_rank": 32}]
    ),
    "--set evaluation.select=exact_match": lambda spec: spec.evaluation.select == "exact_match",
}
"""Wishes that are part of the study, as the page writes them, and how the study shows that it has them."""
LATER = ("hpo-service study extend NAME --trials 30", "hpo-service train NAME --epochs 3")
"""Wishes that come after a study; what these commands do is tried where they are."""


@pytest.fixture
def rows(family: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model and rows; their lengths are not looked at."""
    shutil.copytree(family, tmp_path, dirs_exist_ok=True)
    for name in ("a.jsonl", "b.jsonl", "dev.jsonl"):
        shutil.copy(tmp_path / "rows.jsonl", tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hpo_service.service.studies.drafting._rows", lambda *_: (None, []))
    return tmp_path


@pytest.mark.parametrize("said", WISHES)
def test_a_wish_is_one_option_or_one_key(said: str, rows: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["init", "./small", "rows.jsonl", "--file", "mine.yaml", *shlex.split(said)])
    assert not ended.value.code
    assert WISHES[said](read_study_file(rows / "mine.yaml").spec)


def test_several_files_may_be_a_pattern(rows: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["init", "./small", "?.jsonl", "--file", "mine.yaml"])
    assert not ended.value.code
    assert data(read_study_file(rows / "mine.yaml").spec).source == str(rows / "?.jsonl")


@pytest.mark.parametrize("command", LATER)
def test_what_comes_after_a_study_is_a_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    *names, option, _number = shlex.split(command.replace("NAME ", ""))[1:]
    with pytest.raises(SystemExit) as ended:
        cli.main([*names, "--help"])
    assert not ended.value.code
    assert option in capsys.readouterr().out


def test_the_page_has_them_all() -> None:
    text = PAGE.read_text()
    assert [said for said in (*WISHES, *LATER) if f"`{said}`" not in text] == []
