"""What the values of a study are, and what its trials report on the way."""

from __future__ import annotations

from typing import Any

from hpo_service.domain.decide.measure import StudyMeasure, measure_of, reported
from hpo_service.domain.decide.pruning import Measure
from hpo_service.domain.study.direction import Direction
from hpo_service.domain.study.spec import StudySpec

TRAINED: dict[str, Any] = {"name": "s", "model": {"base": "org/small"}, "data": {"source": "rows.jsonl"}}
OWN: dict[str, Any] = {
    "name": "s",
    "objective": {"python": "a:b"},
    "space": {"parameters": {"x": {"low": 0.0, "high": 1.0}}},
    "search": {"direction": "maximize"},
}


def read(**sections: Any) -> StudySpec:
    return StudySpec.model_validate(sections)


def test_the_trainers_values_are_losses_on_the_way_and_at_the_end() -> None:
    measure = measure_of(read(**TRAINED))
    assert measure == StudyMeasure("mean NLL per token", Direction.MINIMIZE, "%", "mean NLL per token")
    assert measure.is_loss
    assert measure.reports_losses
    assert measure.known_on_the_way
    assert measure.curve == "validation mean NLL per token"


def test_an_own_objective_has_one_measure_and_the_direction_of_its_file() -> None:
    spec = read(**OWN)
    measure = measure_of(spec)
    assert (measure.name, measure.direction, measure.curve) == ("value", Direction.MAXIMIZE, "value")
    assert not measure.is_loss
    assert measure.known_on_the_way
    assert reported(spec) == Measure("value", Direction.MAXIMIZE, "run")


def test_a_metric_is_maximised_and_told_in_points_while_losses_are_reported() -> None:
    spec = read(**TRAINED, evaluation={"select": "exact_match"})
    measure = measure_of(spec)
    expected = StudyMeasure("exact match", Direction.MAXIMIZE, "points", "mean NLL per token", "exact_match")
    assert measure == expected
    assert not measure.is_loss
    assert measure.reports_losses
    assert not measure.known_on_the_way
    assert reported(spec) == Measure("validation loss", Direction.MINIMIZE, "epoch")


def test_a_metric_of_ones_own_is_told_as_it_is_and_may_be_minimised() -> None:
    select = {"select": "python:my.metrics:errors"}
    measure = measure_of(read(**TRAINED, evaluation=select, search={"direction": "minimize"}))
    assert (measure.name, measure.unit, measure.direction) == ("my.metrics:errors", "", Direction.MINIMIZE)
    assert measure_of(read(**TRAINED, evaluation=select)).direction is Direction.MAXIMIZE


def test_over_several_epochs_reports_are_of_the_run() -> None:
    assert reported(read(**TRAINED, training={"epochs": 2})).span == "run"
