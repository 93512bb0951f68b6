"""Verdicts on real trials in the database: when, on whom, and in which words."""

from __future__ import annotations

import math
from typing import get_args

import pytest

from hpo_service.domain.decide.pruning import Verdict
from hpo_service.domain.study.search_space import CategoricalParameter, FloatParameter, ParameterValue, SearchSpace
from hpo_service.domain.study.sections.search import SearchSpec
from hpo_service.domain.trial.states import TrialState
from hpo_service.errors import DatabaseUnavailableError
from hpo_service.search.pruners import PRUNERS
from hpo_service.search.studies import OptunaStudies
from hpo_service.storage.database import Database

NAME = "s/search"
SPACE = SearchSpace(parameters={"x": FloatParameter(low=0, high=1)})
POINT: dict[str, ParameterValue] = {"x": 0.5}


class Field:
    """A study with eight evaluations a run, in which trials report whatever they are told to."""

    def __init__(self, database: Database, studies: OptunaStudies, space: SearchSpace = SPACE) -> None:
        self.database, self.studies, self.space = database, studies, space

    def trial(self, *values: float, end: TrialState | None = None) -> int:
        """Add a trial that reports these values at evaluations 1, 2, ..."""
        with self.database.transaction():
            trial_id = self.studies.add_running(NAME, POINT, self.space).optuna_id
            for step, value in enumerate(values, start=1):
                self.studies.report(trial_id, step, value)
            if end is not None:
                self.studies.finish(trial_id, end, values[-1] if end is TrialState.COMPLETE else None, None)
        return trial_id

    def judge(self, trial_id: int, pruner: str = "halving", **options: object) -> Verdict:
        search = SearchSpec.model_validate({"pruner": pruner, **options})
        return self.studies.judge(NAME, trial_id, search, self.space, evaluations=8)


@pytest.fixture
def field(database: Database, studies: OptunaStudies) -> Field:
    return Field(database, studies)


def test_the_table_holds_every_pruner_of_the_study_file_with_a_reason() -> None:
    assert set(PRUNERS) == set(get_args(SearchSpec.model_fields["pruner"].annotation))
    assert all(pruner.reason for pruner in PRUNERS.values())


def test_halving_says_the_rank_and_the_limit(field: Field) -> None:
    for value in (3.0, 3.1, 3.102, 3.2, 3.3, 3.4, 3.05, 3.09):
        field.trial(9.0, value)
    worse = field.judge(field.trial(9.0, 3.214))
    assert worse == Verdict(
        True, "validation loss 3.214 at 25% of the epoch is 7th of 9; only the better half (up to 3.102) goes on"
    )
    better = field.judge(field.trial(9.0, 2.9))
    assert better == Verdict(
        False, "validation loss 2.9 at 25% of the epoch is 1st of 10; the better half (up to 3.1) goes on"
    )


def test_halving_waits_for_four_values(field: Field) -> None:
    for value in (1.0, 2.0):
        field.trial(9.0, value)
    assert not field.judge(field.trial(9.0, 3.0)).prune
    assert field.judge(field.trial(9.0, 4.0)).prune


def test_halving_judges_at_its_rungs_only(field: Field) -> None:
    for _ in range(5):
        field.trial(*[1.0] * 8, end=TrialState.COMPLETE)
    verdicts = [field.judge(field.trial(*[2.0] * step)) for step in range(1, 9)]
    assert [verdict.prune for verdict in verdicts] == [False, True, False, True, False, False, False, False]
    assert "the next is at 25%" in verdicts[0].reason
    assert "none is ahead" in verdicts[5].reason


def test_a_rung_that_was_missed_is_judged_at_the_next_report(field: Field) -> None:
    for _ in range(5):
        field.trial(1.0, 1.0, 1.0)
    with field.database.transaction():
        late = field.studies.add_running(NAME, POINT, SPACE).optuna_id
        field.studies.report(late, 1, 2.0)
        field.studies.report(late, 3, 2.0)
    assert field.judge(late).prune


def test_pruned_and_running_trials_are_peers_but_failed_and_cancelled_are_not(field: Field) -> None:
    for state in (TrialState.FAILED, TrialState.CANCELLED, TrialState.FAILED):
        field.trial(9.0, 1.0, end=state)
    judged = field.trial(9.0, 2.0)
    assert not field.judge(judged).prune
    for peer in (TrialState.PRUNED, None, TrialState.COMPLETE):
        field.trial(9.0, 1.0, end=peer)
    assert field.judge(judged).prune


def test_judging_again_gives_the_same_verdict(field: Field) -> None:
    for value in (1.0, 2.0, 3.0):
        field.trial(9.0, value)
    judged = field.trial(9.0, 4.0)
    assert field.judge(judged) == field.judge(judged)


@pytest.mark.parametrize(
    "space,warmup,rungs,first",
    [
        (SPACE, 0.0, [2, 4], 1),
        (SPACE, 0.25, [2, 4], 2),
        (SPACE, 0.3, [4], 3),
        (SPACE, 0.6, [], 5),
        (SearchSpace(parameters={"warmup_ratio": FloatParameter(low=0.0, high=0.4)}), 0.0, [4], 4),
        (SearchSpace(parameters={"warmup_ratio": CategoricalParameter(choices=[0.1, 0.6])}), 0.0, [], 5),
    ],
)
def test_nobody_is_stopped_before_the_longest_warmup_has_ended(
    field: Field, space: SearchSpace, warmup: float, rungs: list[int], first: int
) -> None:
    for _ in range(9):
        field.trial(*[1.0] * 8, end=TrialState.COMPLETE)
    trials = {step: field.trial(*[2.0] * step) for step in range(1, 9)}

    def stopped(pruner: str) -> list[int]:
        search = SearchSpec.model_validate({"pruner": pruner})
        return [
            step
            for step, trial in trials.items()
            if field.studies.judge(NAME, trial, search, space, evaluations=8, warmup=warmup).prune
        ]

    assert stopped("halving") == rungs
    assert stopped("percentile") == stopped("median") == list(range(first, 9))


@pytest.mark.parametrize("pruner", ["halving", "percentile", "median"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_diverged_trial_is_stopped_at_once(field: Field, pruner: str, value: float) -> None:
    verdict = field.judge(field.trial(value), pruner)
    assert verdict == Verdict(True, f"diverged: validation loss is {value}")


def test_with_pruning_off_nobody_is_stopped(field: Field) -> None:
    for _ in range(6):
        field.trial(*[1.0] * 8, end=TrialState.COMPLETE)
    for values in ([9.0] * 2, [math.nan]):
        verdict = field.judge(field.trial(*values), "none")
        assert not verdict.prune
        assert "switched off" in verdict.reason


@pytest.mark.parametrize("pruner,stopped", [("percentile", [7.0, 8.0]), ("median", [5.0, 7.0, 8.0])])
def test_percentiles_compare_with_complete_trials(field: Field, pruner: str, stopped: list[float]) -> None:
    for value in (1.0, 2.0, 3.0, 4.0, 6.0, 7.5):
        field.trial(9.0, 9.0, value, end=TrialState.COMPLETE)
    verdicts = {value: field.judge(field.trial(9.0, 9.0, value), pruner) for value in (1.5, 3.0, 5.0, 7.0, 8.0)}
    assert [value for value, verdict in verdicts.items() if verdict.prune] == stopped
    assert "of 6 complete trials" in verdicts[1.5].reason


@pytest.mark.parametrize("pruner", ["percentile", "median"])
def test_percentiles_wait_for_five_complete_trials(field: Field, pruner: str) -> None:
    for _ in range(4):
        field.trial(1.0, 1.0, 1.0, end=TrialState.COMPLETE)
    waiting = field.judge(field.trial(9.0, 9.0, 9.0), pruner)
    assert not waiting.prune
    assert "4 of 5" in waiting.reason


def test_maximizing_keeps_the_larger_half(database: Database, studies: OptunaStudies) -> None:
    with database.transaction():
        studies.delete(NAME)
        studies.create(NAME, "maximize")
    field = Field(database, studies)
    for value in (0.1, 0.2, 0.3, 0.4, 0.5):
        field.trial(0.0, value)
    low = field.judge(field.trial(0.0, 0.15), direction="maximize")
    assert low.prune
    assert "(from 0.3)" in low.reason
    assert not field.judge(field.trial(0.0, 0.6), direction="maximize").prune


def test_a_trial_that_reported_nothing_goes_on(field: Field) -> None:
    verdict = field.judge(field.trial())
    assert not verdict.prune
    assert verdict.reason


def test_the_measure_and_the_place_are_named(field: Field) -> None:
    trial = field.trial(0.25)
    verdict = field.studies.judge(
        NAME, trial, SearchSpec(), SPACE, evaluations=8, fraction=0.11, measure="word error rate"
    )
    assert verdict.reason.startswith("word error rate 0.25 at 11% of the epoch")


def test_judging_inside_the_transaction_that_reported_sees_the_report(field: Field) -> None:
    for value in (1.0, 2.0, 3.0):
        field.trial(9.0, value)
    trial = field.trial(9.0)
    with field.database.transaction():
        field.studies.report(trial, 2, 4.0)
        assert field.judge(trial).prune


def test_a_database_that_is_away_is_said_to_be() -> None:
    database = Database("postgresql://nobody@127.0.0.1:1/none")
    studies = OptunaStudies(database.url, database.session_source)
    with pytest.raises(DatabaseUnavailableError, match="s/search"):
        studies.judge(NAME, 1, SearchSpec(), SPACE, evaluations=8)
