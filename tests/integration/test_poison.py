"""A study that cannot be served stops nobody else's, whatever part of the work fails; large ones are served."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from sqlalchemy import literal_column, update

from hpo_service.domain.study.rules.limits import MOST_PARAMETERS
from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.search.policy import SearchPolicy
from hpo_service.service.stages.advance import Stages
from hpo_service.service.trials import queue
from hpo_service.service.trials.reaper import Reaper
from hpo_service.storage import schema


@pytest.fixture
def two(bench: Any) -> Any:
    """A study that will turn out bad, and a good one after it."""
    bench.create(name="bad")
    bench.create(name="good")
    return bench


def poisoned(monkeypatch: pytest.MonkeyPatch, owner: Any, method: str, is_bad: Any) -> list[int]:
    """Have a method fail on the bad study; return a list that grows with each time it did."""
    true, failed = getattr(owner, method), []

    def poison(self: Any, *arguments: Any, **more: Any) -> Any:
        if is_bad(*arguments):
            failed.append(1)
            raise ArithmeticError("range exceeds valid bounds")
        return true(self, *arguments, **more)

    monkeypatch.setattr(owner, method, poison)
    return failed


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_a_study_that_cannot_be_sampled_stops_no_other_claim(two, monkeypatch, caplog):
    failed = poisoned(monkeypatch, SearchPolicy, "suggest", lambda name, *_: name == "bad/search")
    assert two.drain_queue() == 4
    assert (two.state("good"), two.state("bad")) == (StudyState.FINISHED, StudyState.ACTIVE)
    assert len(failed) < 4, "it is left alone for a while"
    (said,) = warnings(caplog)
    assert said.startswith("study bad: a claim failed (ArithmeticError: range exceeds valid bounds)")


def test_a_worker_of_that_study_alone_goes_on_too(two, monkeypatch, caplog):
    poisoned(monkeypatch, SearchPolicy, "suggest", lambda name, *_: name == "bad/search")
    assert [two.service.queue.claim("w1", "bad") for _ in range(3)] == [None] * 3
    assert len(warnings(caplog)) == 1


def test_a_study_that_cannot_advance_stops_no_other(two, monkeypatch, caplog):
    with two.service.db.transaction():
        bad = two.service.study_rows.get("bad").id
    poisoned(monkeypatch, Stages, "advance", lambda study_id: study_id == bad)
    assert two.drain_queue() == 8
    assert two.state("good") is StudyState.FINISHED
    assert ["study bad: advancing it failed" in line for line in warnings(caplog)] == [True]


def test_a_study_whose_trials_cannot_be_taken_back_keeps_no_other_from_it(two, monkeypatch, caplog):
    held = [two.must_claim() for _ in range(5)]
    assert {one.study for one in held} == {"bad", "good"}
    for one in held:
        two.run_out(one)
    ours = two.trial(held[-1]).study_id
    poisoned(monkeypatch, Reaper, "_take_back", lambda trial: trial.study_id != ours)
    assert [trial.study_id for trial in two.service.reaper.reap()] == [ours]
    assert two.service.reaper.reap() == []
    assert two.trial(held[0]).state is TrialState.RUNNING
    assert ["study bad: taking trials back failed" in line for line in warnings(caplog)] == [True]


def test_a_trial_whose_configuration_cannot_be_made_is_not_held(two, monkeypatch):
    def broken(*_: Any) -> Any:
        raise TypeError("no such field")

    monkeypatch.setattr(queue, "assignment", broken)
    assert two.claim() is None
    assert two.trials(study="bad") == two.trials(study="good") == []


def spoil(bench: Any, column: Any, text: str) -> None:
    """Write a text as it is into a column of the bad study, or of its stage."""
    of = column.table.c.id if column.table is schema.study else column.table.c.study_id
    with bench.service.db.transaction():
        bad = bench.service.study_rows.get("bad").id
        statement = update(column.table).where(of == bad).values({column: literal_column(f"'{text}'")})
        bench.service.db.connection.execute(statement)


@pytest.mark.parametrize(
    "column, text",
    [
        (schema.study.c.spec, "7"),
        (schema.study.c.facts, "[]"),
        (schema.study.c.facts, "null"),
        (schema.study.c.state, "resting"),
        (schema.stage.c.space, '"none"'),
        (schema.stage.c.optuna_name, "no/where"),
    ],
    ids=str,
)
def test_a_study_whose_row_holds_nonsense_costs_no_other_its_work(two, column, text):
    for _ in range(2):
        two.run_out(two.must_claim())
    spoil(two, column, text)
    two.drain_queue()
    two.service.reaper.reap()
    assert two.state("good") is StudyState.FINISHED
    assert [each.snapshot.name for each in two.service.overview.lines().lines][-1] == "good"


@pytest.mark.parametrize("dialect", ["sqlite"])  # PostgreSQL takes no such text
@pytest.mark.parametrize("column", [schema.study.c.spec, schema.study.c.facts], ids=str)
def test_a_text_that_is_no_json_costs_no_other_its_work(two, column):
    spoil(two, column, "{off")
    assert two.drain_queue() >= 4
    assert two.state("good") is StudyState.FINISHED


def test_an_interrupt_is_no_poison(two, monkeypatch):
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(SearchPolicy, "suggest", interrupted)
    with pytest.raises(KeyboardInterrupt):
        two.claim()


@pytest.mark.parametrize(
    "parameters",
    [
        {f"p{i}": {"low": 0.0, "high": 1.0} for i in range(MOST_PARAMETERS)},
        {"prompt": {"choices": [" ".join(f"{word} {i * 7919}" for i in range(600)) for word in ("lorem", "ipsum")]}},
        {"x" * 512: {"choices": ["é" * 2000, "日" * 2000]}},
    ],
    ids=["most parameters", "long choices", "long name"],
)
def test_the_largest_studies_that_are_accepted_are_served(bench, parameters):
    sampler = {"sampler": "tpe", "startup_trials": 1, "budget": {"trials": 3}, "pruner": "none"}
    bench.create(space={"parameters": parameters}, search=sampler)
    assert bench.drain_queue() == min(3, 3 if len(parameters) > 1 else 2)
    assert bench.state() is StudyState.FINISHED
