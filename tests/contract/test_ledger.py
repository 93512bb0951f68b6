"""The contract of the ledger, on every kind of database: both books say the same, or neither says anything."""

from __future__ import annotations

import math
from typing import Any

import optuna as plain_optuna
import pytest

from hpo_service.domain.study.direction import Direction
from hpo_service.domain.trial.endings import ENDINGS, FINAL
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.domain.trial.report import Report
from hpo_service.domain.trial.scores import Scores
from hpo_service.domain.trial.states import TrialEvent, TrialState
from hpo_service.errors import ConflictError
from hpo_service.service.trials.ledger import TrialLedger
from hpo_service.storage.events import About

X = {"learning_rate": 1e-4}


class UndoneError(Exception):
    """Raised at the end of a transaction that is to be rolled back."""


class Books:
    """A ledger over one stage, and what plain Optuna reads of it."""

    def __init__(self, world: Any, optuna: Any) -> None:
        self.world, self.ledger = world, TrialLedger(world.trials, optuna)
        self.db, self.trials, self.stage = world.db, world.trials, world.stage
        with self.db.transaction():
            self.ledger.open_study(self.stage.optuna_name, "minimize")

    def admit(self, key: str | None = None) -> Any:
        with self.db.transaction():
            return self.ledger.admit(
                self.stage, parameters=X, dedupe_key=key, seed=1, worker_id="w1", lease_seconds=60, devices=1.0
            )

    def report(self, trial: Any, *values: float) -> None:
        with self.db.transaction():
            for step, value in enumerate(values, start=1):
                self.ledger.report(trial, Report(step=step, fraction=step / 8, value=value))

    def finish(self, trial: Any, kind: OutcomeKind, **more: Any) -> TrialState:
        with self.db.transaction():
            return self.ledger.finish(trial, Outcome(kind=kind, reason="over", **more))

    def told(self) -> list[Any]:
        storage = plain_optuna.storages.RDBStorage(self.db.url)
        try:
            return list(plain_optuna.load_study(study_name=self.stage.optuna_name, storage=storage).trials)
        finally:
            storage.remove_session()
            storage.engine.dispose()


@pytest.fixture
def books(world, optuna):
    return Books(world, optuna)


def test_an_admitted_trial_is_in_both_books_under_one_number(books):
    first, second = books.admit("a"), books.admit("b")
    assert books.admit("a") is None
    assert [(t.number, t._trial_id, t.params) for t in books.told()] == [
        (row.number, row.optuna_id, X) for row in (first, second)
    ]


def test_a_planned_trial_enters_optunas_study_with_its_first_claim_and_only_once(books):
    books.world.plan(1)
    assert books.told() == []
    with books.db.transaction():
        first = books.ledger.claim(books.stage, "w1", 60, 1.0)
        books.ledger.give_back(first, TrialEvent.RELEASE, "drained")
        second = books.ledger.claim(books.stage, "w2", 60, 1.0)
        assert books.ledger.claim(books.stage, "w3", 60, 1.0) is None
    assert (first.number, first.optuna_id) == (second.number, second.optuna_id)
    assert [t.number for t in books.told()] == [0]


def test_a_report_is_in_both_books_and_the_first_of_a_step_stands_in_both(books):
    trial = books.admit()
    books.report(trial, 3.0, math.nan)
    books.report(trial, 9.0)
    with books.db.transaction():
        ours = books.trials.reports.marks(trial.id, Direction.MINIMIZE)
    [told] = books.told()
    assert str(ours) == str(told.intermediate_values) == "{1: 3.0, 2: nan}"


@pytest.mark.parametrize("state", list(FINAL))
def test_every_end_is_told_to_optuna_as_the_table_says(books, state):
    trial = books.admit()
    books.report(trial, 2.0)
    kind = FINAL[state].outcome
    if kind is None:
        with books.db.transaction():
            assert books.ledger.end(trial, state, "over") is state
    else:
        assert books.finish(trial, kind, value=1.5) is state
    [told] = books.told()
    assert told.state.name == FINAL[state].optuna
    assert books.world.get(trial.id).state is state
    with books.db.transaction():
        [attempt] = books.trials.attempts.of(trial.id)
    assert attempt.outcome == FINAL[state].closed_as


@pytest.mark.parametrize("event", [event for event, row in ENDINGS.items() if not row.state.final])
def test_a_trial_that_is_given_back_goes_on_as_running_for_optuna(books, event):
    trial = books.admit()
    with books.db.transaction():
        assert books.ledger.give_back(trial, event, "why") is TrialState.WAITING
    [told] = books.told()
    assert told.state.name == "RUNNING"
    with books.db.transaction():
        [attempt] = books.trials.attempts.of(trial.id)
    row = books.world.get(trial.id)
    assert (attempt.outcome, row.errors + row.losses) == (ENDINGS[event].closed_as, int(bool(ENDINGS[event].counts)))


@pytest.mark.parametrize("event", [row.event for row in FINAL.values()])
def test_what_ends_a_trial_does_not_give_it_back(books, event):
    trial = books.admit()
    with pytest.raises(ConflictError, match="ends a trial"), books.db.transaction():
        books.ledger.give_back(trial, event, "why")


@pytest.mark.parametrize("value", [None, math.nan])
def test_an_end_without_a_value_teaches_what_was_reported_last(books, value):
    trial = books.admit()
    books.report(trial, 3.0, 2.0)
    assert books.finish(trial, OutcomeKind.COMPLETE, value=value) is TrialState.PRUNED
    [told] = books.told()
    assert (told.state.name, told.value) == ("PRUNED", 2.0)
    assert books.world.get(trial.id).value is None


def test_a_failure_after_any_step_leaves_neither_book_changed(books):
    def steps() -> None:
        with books.db.transaction():
            trial = books.ledger.admit(
                books.stage, parameters=X, dedupe_key="a", seed=1, worker_id="w1", lease_seconds=60, devices=1.0
            )
            books.ledger.report(trial, Report(step=1, fraction=0.5, value=1.0))
            books.ledger.finish(trial, Outcome(kind=OutcomeKind.COMPLETE, reason="over", value=1.0))
            raise UndoneError

    with pytest.raises(UndoneError):
        steps()
    assert books.told() == []
    with books.db.transaction():
        assert books.trials.tallies.total(books.stage.id) == 0


def test_a_copy_has_its_twins_value_and_curve_in_optunas_study(books):
    twin = books.admit("a")
    books.report(twin, 3.0, math.inf, 2.0)
    books.finish(twin, OutcomeKind.COMPLETE, value=2.0)
    with books.db.transaction():
        books.ledger.copy(books.stage, X, books.trials.get(twin.id))
        _, copy = books.trials.list(books.stage.study_id)
    told = books.told()[1]
    assert (copy.state, copy.value, copy.copied_from) == (TrialState.COMPLETE, 2.0, twin.id)
    assert (told.number, told.state.name, told.value) == (copy.number, "COMPLETE", 2.0)
    assert told.intermediate_values == {1: 3.0, 3: 2.0}


def test_pruning_sees_in_our_book_what_it_would_see_in_optunas(books):
    judged, diverging, ended, failed, silent = (books.admit(key) for key in "abcde")
    books.report(judged, 5.0)
    books.report(diverging, 4.0, math.nan, math.inf)
    books.report(ended, 3.0, 2.0)
    books.finish(ended, OutcomeKind.COMPLETE, value=2.0)
    books.report(failed, 1.0)
    with books.db.transaction():
        books.ledger.end(failed, TrialState.FAILED, "broken")
        books.ledger.copy(books.stage, X, books.trials.get(ended.id))
    books.world.plan(1)
    with books.db.transaction(read_only=True):
        curves = books.trials.reports.curves(books.stage.id, but_not=judged.id)
        assert books.trials.reports.marks(judged.id, Direction.MINIMIZE) == {1: 5.0}
    theirs = [trial for trial in books.told() if trial.number != judged.number and trial.state.name != "FAIL"]
    ours = [curve for curve in curves if curve.compares]
    assert ours[-1].state is TrialState.WAITING
    # in no order: those that have ended for good come first
    seen = [(str(dict(curve.values)), curve.state is TrialState.COMPLETE) for curve in ours[:-1]]
    assert sorted(seen) == sorted((str(trial.intermediate_values), trial.state.name == "COMPLETE") for trial in theirs)
    assert silent.number == 4


def test_a_waiting_trial_is_cancelled_in_both_books_and_a_running_one_is_asked(books):
    waiting, running = books.admit(), books.admit()
    with books.db.transaction():
        books.ledger.give_back(waiting, TrialEvent.RELEASE, "drained")
        for trial in (waiting, running):
            books.ledger.cancel(trial, "enough")
    assert [trial.state.name for trial in books.told()] == ["FAIL", "RUNNING"]
    assert books.world.get(waiting.id).state is TrialState.CANCELLED
    assert books.world.get(running.id).cancel_reason == "enough"


def test_a_trial_that_was_taken_meanwhile_is_asked_and_not_ended(books):
    seen_waiting = books.world.plan(1)[0]
    with books.db.transaction():
        books.ledger.claim(books.stage, "w1", 60, 1.0)
        books.ledger.cancel(seen_waiting, "enough")
    row = books.world.get(seen_waiting.id)
    assert (row.state, row.cancel_reason) == (TrialState.RUNNING, "enough")
    assert [trial.state.name for trial in books.told()] == ["RUNNING"]


def test_a_retried_trial_is_a_new_one_for_optuna(books):
    trial = books.admit()
    books.report(trial, 1.0)
    with books.db.transaction():
        books.ledger.end(trial, TrialState.FAILED, "broken")
        books.ledger.retry(trial)
        again = books.ledger.claim(books.stage, "w2", 60, 1.0)
    assert (again.id, again.number) == (trial.id, 1)
    assert [(told.number, told.state.name) for told in books.told()] == [(0, "FAIL"), (1, "RUNNING")]


def test_deleting_takes_a_studys_trials_out_of_optuna_too(books, optuna):
    books.admit()
    with books.db.transaction():
        books.ledger.delete_studies([books.stage])
        assert not optuna.exists(books.stage.optuna_name)


def test_what_the_ledger_writes_is_an_event_in_the_same_transaction_and_a_report_is_none(books):
    trial = books.admit()
    books.report(trial, 3.0, 2.0)
    books.finish(trial, OutcomeKind.COMPLETE, value=1.5)
    with books.db.transaction():
        twin = books.trials.get(trial.id)
        books.ledger.copy(books.stage, X, twin)
    waiting = books.admit()
    with books.db.transaction():
        count = len(books.trials.events.list(About()))

    def step() -> None:
        with books.db.transaction():
            books.ledger.give_back(waiting, TrialEvent.RELEASE, "undone")
            raise UndoneError

    with pytest.raises(UndoneError):
        step()
    with books.db.transaction():
        events = books.trials.events.list(About())
    assert len(events) == count
    assert [(e.kind, e.number, e.worker) for e in events if e.trial_id is not None] == [
        ("trial_claimed", 0, "w1"),
        ("trial_complete", 0, "w1"),
        ("trial_copied", 1, None),
        ("trial_claimed", 2, "w1"),
    ]
    assert events[-2].details == {"value": 1.5}


def test_a_trial_that_was_stopped_early_has_no_value_where_only_the_end_has_one(books):
    trial = books.admit("a")
    books.report(trial, 3.0, 2.0)
    with books.db.transaction():
        pruned = Outcome(kind=OutcomeKind.PRUNED, reason="over", value=2.0)
        books.ledger.finish(trial, pruned, known_on_the_way=False)
        books.ledger.copy(books.stage, X, books.trials.get(trial.id))
        first, copy = books.trials.list(books.stage.study_id)
    assert (first.state, first.value, copy.state, copy.value) == (TrialState.PRUNED, None, TrialState.PRUNED, None)
    assert copy.reason == f"the same configuration as trial #{trial.number}: it was pruned and is so again"
    for told in books.told():
        assert (told.state.name, told.values, told.intermediate_values) == ("PRUNED", None, {1: 3.0, 2: 2.0})


def test_a_metric_is_the_value_beside_losses_on_the_way_and_its_rows_are_kept(books):
    trial = books.admit("a")
    books.report(trial, 3.0, 2.0)
    rows = Scores.of_answers([1.0, 0.0, 1.0, 0.0])
    with books.db.transaction():
        done = Outcome(kind=OutcomeKind.COMPLETE, reason="over", value=0.5, test_answers=rows)
        books.ledger.finish(trial, done, known_on_the_way=False)
        kept = books.trials.scores.load(trial.id, "test_answers")
    [told] = books.told()
    assert (books.world.get(trial.id).value, told.value, told.intermediate_values) == (0.5, 0.5, {1: 3.0, 2: 2.0})
    assert kept == rows
    assert kept.mean == 0.5
