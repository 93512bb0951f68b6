"""Whose checkpoint an attempt may take over: that of the same trial with the same configuration."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpo_service.domain.study.sections.data import DataSpec
from hpo_service.domain.study.sections.evaluation import EvaluationSpec
from hpo_service.domain.study.sections.model import ModelSpec
from hpo_service.domain.study.sections.objective import ObjectiveSpec
from hpo_service.domain.study.sections.tracking import TrackingSpec
from hpo_service.domain.study.sections.training import TrainingSpec
from hpo_service.domain.trial.assignment import Assignment
from hpo_service.domain.trial.config import TrialConfig
from hpo_service.wire.attempt_folder import AttemptFolder
from hpo_service.worker.attempt_record import UNDECISIVE, AttemptRecord

Trial = Callable[..., Assignment]

OTHER: dict[str, Any] = {
    "study": "other",
    "stage": "verify",
    "parameters": {"x": 99},
    "seed": 99,
    "objective": ObjectiveSpec(python="m:f"),
    "model": ModelSpec(base="other"),
    "model_name": "other",
    "data": DataSpec(source="other"),
    "training": TrainingSpec(lora_rank=3),
    "score_test": True,
    "keep_adapter": True,
    "evaluation": EvaluationSpec(metrics=["token_f1"]),
    "tracking": TrackingSpec(trackers=["tensorboard"]),
    "sharding": "fsdp",
    "memory_correction": 1.25,
    "share": 0.5,
}
"""Another value of each field of a configuration."""


@pytest.fixture
def folder(tmp_path: Path) -> AttemptFolder:
    folder = AttemptFolder.numbered(tmp_path, 1)
    folder.path.mkdir()
    return folder


def _stored(folder: AttemptFolder, given: Assignment) -> AttemptRecord | None:
    AttemptRecord.of(given).write(folder)
    return AttemptRecord.read(folder)


@pytest.mark.parametrize("name", sorted(OTHER))
def test_every_field_decides_whose_checkpoint_it_is_but_those_that_are_measured_anew(
    folder: AttemptFolder, trial: Trial, name: str
) -> None:
    given = trial(7)
    other = given.model_copy(update={"config": given.config.model_copy(update={name: OTHER[name]})})
    assert AttemptRecord.of(given).may_take_over(_stored(folder, other)) == (name in UNDECISIVE)
    assert AttemptRecord.of(other).may_take_over(_stored(folder, given)) == (name in UNDECISIVE)


def test_every_field_of_a_configuration_is_classified() -> None:
    assert OTHER.keys() == TrialConfig.model_fields.keys() >= UNDECISIVE.keys()
    assert all(UNDECISIVE.values())


def test_a_file_that_an_earlier_version_wrote_fits_whatever_it_measured(folder: AttemptFolder, trial: Trial) -> None:
    given = trial(7, identity="study 1, trial 7 of 10.5")
    corrected = given.config.model_copy(update={"memory_correction": 0.875})
    folder.configuration.write_text(corrected.model_dump_json(exclude_defaults=True))
    assert AttemptRecord.of(given).may_take_over(AttemptRecord.read(folder))


def test_a_trial_of_the_same_name_and_configuration_is_another_one_where_its_study_was_made_again(
    folder: AttemptFolder, trial: Trial
) -> None:
    before, now = trial(7, identity="study 1, trial 7 of 10.5"), trial(7, identity="study 2, trial 9 of 99.5")
    found = _stored(folder, before)
    assert AttemptRecord.of(before).may_take_over(found)
    assert not AttemptRecord.of(now).may_take_over(found)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"claim": 3}'])
def test_a_file_that_cannot_be_read_fits_nothing(folder: AttemptFolder, trial: Trial, text: str) -> None:
    folder.configuration.write_text(text)
    assert not AttemptRecord.of(trial(7)).may_take_over(AttemptRecord.read(folder))


def test_names_in_any_script_are_written(folder: AttemptFolder, trial: Trial) -> None:
    given = trial(7)
    named = given.model_copy(update={"config": given.config.model_copy(update={"parameters": {"größe": "大きい"}})})
    assert AttemptRecord.of(named).may_take_over(_stored(folder, named))
    assert json.loads(folder.configuration.read_text())["parameters"] == {"größe": "大きい"}
