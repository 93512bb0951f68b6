"""Verdicts on trials among their peers: when, on whom, and in which words."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import Any, get_args

import optuna
import pytest
from optuna.pruners import PatientPruner, PercentilePruner
from optuna.trial import TrialState as OptunaState
from optuna.trial import create_trial
from pydantic import ValidationError

from hpo_service.domain.decide.early_exit import look_back
from hpo_service.domain.decide.pruning import Measure, Verdict
from hpo_service.domain.study.search_space import CategoricalParameter, FloatParameter, SearchSpace
from hpo_service.domain.study.sections.search import SearchSpec
from hpo_service.domain.trial.curve import Curve, Peers
from hpo_service.domain.trial.states import TrialState
from hpo_service.search.policy import SearchPolicy
from hpo_service.search.pruners import BRACKETS, PRUNERS, SHARES, bracket_of

COMPLETE = TrialState.COMPLETE
SPACE = SearchSpace(parameters={"x": FloatParameter(low=0, high=1)})


def search_spec(pruner: str, **options: object) -> SearchSpec:
    """A study file's `search` with what a pruner cannot do without."""
    needed = {"threshold_upper": 5.0} if pruner == "threshold" else {}
    return SearchSpec.model_validate({"pruner": pruner, **needed, **options})


@dataclass
class Field:
    """A study with eight evaluations a run, in which trials report whatever they are told to."""

    space: SearchSpace = SPACE
    curves: list[Curve] = field(default_factory=list)
    loaded: int = 0

    def trial(self, *values: float, end: TrialState | None = None) -> int:
        """Add a trial that reports these values at evaluations 1, 2, ..."""
        return self.reporting(dict(enumerate(values, start=1)), end)

    def reporting(self, values: dict[int, float], end: TrialState | None = None) -> int:
        self.curves.append(Curve(end or TrialState.RUNNING, values))
        return len(self.curves) - 1

    def peers(self, trial: int) -> Peers:
        self.loaded += 1
        return Peers(self.curves[:trial] + self.curves[trial + 1 :])

    def judge(self, trial: int, pruner: str = "halving", **options: object) -> Verdict:
        return self.ask(trial, search_spec(pruner, **options))

    def ask(self, trial: int, search: SearchSpec, **more: Any) -> Verdict:
        policy = SearchPolicy("sqlite:///nowhere.db", no_session)
        values = self.curves[trial].values
        return policy.judge(values, lambda: self.peers(trial), search, self.space, **{"evaluations": 8, **more})


class NoSession:
    """Judging needs no database."""

    def __call__(self) -> Any:
        raise AssertionError("the database is touched")

    def remove(self) -> None: ...


no_session = NoSession()


@pytest.fixture(name="field")
def make_field() -> Field:
    return Field()


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
    assert field.judge(field.reporting({1: 2.0, 3: 2.0})).prune


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
        field.space, search = space, SearchSpec.model_validate({"pruner": pruner})
        return [step for step, trial in trials.items() if field.ask(trial, search, warmup=warmup).prune]

    assert stopped("halving") == rungs
    assert stopped("percentile") == stopped("median") == list(range(first, 8)), (
        "at the last evaluation nothing is left to save"
    )
    assert stopped("early_exit") == list(range(max(2, first), 8)), "at the first there is no slope"


@pytest.mark.parametrize("pruner", sorted(PRUNERS.keys() - {"none"}))
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


def test_maximizing_keeps_the_larger_half(field: Field) -> None:
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
    verdict = field.ask(trial, SearchSpec(), fraction=0.11, measure=Measure("word error rate"))
    assert verdict.reason.startswith("word error rate 0.25 at 11% of the epoch")


@pytest.mark.parametrize("pruner", PRUNERS)
def test_over_several_epochs_shares_are_of_the_run(field: Field, pruner: str) -> None:
    for _ in range(6):
        field.trial(*[1.0] * 8, end=TrialState.COMPLETE)
    verdict = field.ask(field.trial(2.0, 2.0), search_spec(pruner), measure=Measure(span="run"))
    assert verdict.reason.startswith("validation loss 2 at 25% of the run")


@pytest.mark.parametrize("pruner", ["percentile", "median"])
def test_complete_trials_that_reported_nothing_count_as_complete(field: Field, pruner: str) -> None:
    for _ in range(3):
        field.trial(1.0, end=TrialState.COMPLETE)
    for _ in range(2):
        field.trial(end=TrialState.COMPLETE)
    verdict = field.judge(field.trial(9.0), pruner)
    assert verdict.prune
    assert "of 3 complete trials there" in verdict.reason


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_peer_that_diverged_at_the_rung_is_the_worst_there(field: Field, value: float) -> None:
    for _ in range(2):
        field.trial(9.0, value, end=TrialState.PRUNED)
    field.trial(9.0, 1.0)
    assert field.judge(field.trial(9.0, 2.0)) == Verdict(
        False, "validation loss 2 at 25% of the epoch is 2nd of 4; the better half (up to 2) goes on"
    )


def test_peers_are_loaded_only_where_trials_are_compared(field: Field) -> None:
    between_rungs, diverged, at_a_rung = field.trial(1.0), field.trial(1.0, math.nan), field.trial(1.0, 2.0)
    for pruner in PRUNERS:
        field.judge(diverged, pruner)
    field.judge(between_rungs, "halving")
    for pruner in ("none", "patient", "threshold"):
        field.judge(at_a_rung, pruner)
    assert field.loaded == 0
    field.judge(at_a_rung, "halving")
    assert field.loaded == 1


@pytest.mark.parametrize("pruner, percentile", [("percentile", 75.0), ("median", 50.0)])
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_percentiles_stop_whom_optunas_own_pruner_stops(
    field: Field, pruner: str, percentile: float, direction: str
) -> None:
    draw = random.Random(3)
    for _ in range(12):
        field.trial(*[draw.choice([draw.random(), math.nan]) for _ in range(3)], draw.random(), end=COMPLETE)
    study = optuna.create_study(direction=direction)
    study.add_trials([create_trial(value=0.0, intermediate_values=dict(c.values)) for c in field.curves])
    theirs = PercentilePruner(percentile, n_startup_trials=5)
    for _ in range(30):
        values = [draw.random() for _ in range(draw.randint(1, 4))]
        judged = create_trial(state=OptunaState.RUNNING, intermediate_values=dict(enumerate(values, start=1)))
        ours = field.judge(field.trial(*values), pruner, direction=direction)
        field.curves.pop()
        assert ours.prune == theirs.prune(study, judged)


def test_the_two_latest_reports_and_the_bests_now_and_earlier_are_enough_to_judge_a_trial(field: Field) -> None:
    draw = random.Random(4)
    for _ in range(9):
        field.trial(*[draw.random() for _ in range(8)], end=COMPLETE)
    for pruner in PRUNERS:
        for steps in range(1, 8):
            whole = dict(enumerate([draw.random() for _ in range(steps)], start=1))
            until = [step for step in (steps, *look_back(steps)) if step > 0]
            bests = {min(range(1, step + 1), key=lambda at: whole[at]) for step in until}
            marks = {step: whole[step] for step in sorted({*bests, max(1, steps - 1), steps})}
            found = []
            for values in (whole, marks):
                found.append(field.judge(field.reporting(values), pruner))
                field.curves.pop()
            assert found[0] == found[1]


def test_a_trial_leaves_early_only_where_its_curve_and_its_peers_say_so(field: Field) -> None:
    for _ in range(2):
        field.trial(4.0, 3.0, 2.6, 2.4, 2.3, 2.2, 2.1, 2.0, end=COMPLETE)
    steep = field.judge(field.trial(5.0, 4.5, 4.0, 3.5), "early_exit")
    assert not steep.prune
    assert "may lead to 1.5" in steep.reason
    flat = field.judge(field.trial(4.0, 3.1, 3.05, 3.04), "early_exit")
    assert flat.prune
    assert "0 of 2 that ended gained from here what it lacks" in flat.reason


def test_a_trial_is_compared_with_what_others_count_with_and_not_with_what_they_once_had(field: Field) -> None:
    for _ in range(3):
        field.trial(2.0, 1.0, 2.0, 3.0, 3.0, 3.0, 3.0, 3.0, end=COMPLETE)
    field.trial(1.0, 1.0, end=TrialState.PRUNED)
    assert not field.judge(field.trial(2.9, 2.9, 2.9, 2.9), "early_exit").prune
    field.trial(2.0, 2.0, 2.0, 2.0)
    assert field.judge(field.trial(2.9, 2.9, 2.9, 2.9), "early_exit").prune, "a running one stands with what it has"


def test_a_complete_peer_that_ended_before_counts_with_its_end(field: Field) -> None:
    for value in (1.0, 1.0, 1.0):
        field.reporting({3: value}, COMPLETE)
    assert field.judge(field.trial(2.0, 2.0), "early_exit").prune
    assert field.judge(field.trial(*[2.0] * 6), "early_exit").prune


def test_successive_halving_keeps_a_quarter_where_the_run_has_grown_fourfold(field: Field) -> None:
    for value in (1.0, 2.0, 3.0):
        field.trial(9.0, value)
    worse, better = field.trial(9.0, 1.5), field.trial(9.0, 0.5)
    verdict = field.judge(worse, "successive_halving")
    assert verdict.prune
    assert "only the best quarter" in verdict.reason
    assert not field.judge(better, "successive_halving").prune
    assert not field.judge(field.trial(9.0, 9.0, 9.0), "successive_halving").prune, "between rungs"


def test_brackets_of_hyperband_get_their_shares_and_no_trial_two() -> None:
    drawn = [bracket_of(number) for number in range(3400)]
    assert drawn == [bracket_of(number) for number in range(3400)]
    for bracket, share in SHARES.items():
        assert drawn.count(bracket) == pytest.approx(200 * share, rel=0.2)
    assert BRACKETS.keys() == SHARES.keys()


def test_hyperband_compares_within_a_bracket_and_stops_nobody_in_bracket_0(field: Field) -> None:
    numbers = {bracket: [n for n in range(99) if bracket_of(n) == bracket] for bracket in BRACKETS}
    for bracket, step in ((1, 3), (2, 1)):
        field.curves = [Curve(COMPLETE, dict.fromkeys(range(1, 9), 0.5), n) for n in numbers[0][:5]]
        judged = field.trial(*[9.0] * step)
        search = search_spec("hyperband")
        few = field.ask(judged, search, ordinal=numbers[bracket][0])
        assert not few.prune
        assert f"(bracket {bracket} of hyperband)" in few.reason
        field.curves += [Curve(COMPLETE, dict.fromkeys(range(1, 9), 1.0), n) for n in numbers[bracket][1:4]]
        assert field.ask(judged, search, ordinal=numbers[bracket][0]).prune
        assert not field.ask(judged, search, ordinal=numbers[0][0]).prune


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_patience_stops_whom_optunas_own_pruner_stops(field: Field, direction: str) -> None:
    draw = random.Random(5)
    study = optuna.create_study(direction=direction)
    for patience in (1, 3):
        theirs = PatientPruner(None, patience=patience)
        for _ in range(40):
            values = [draw.random() for _ in range(draw.randint(1, 7))]
            judged = create_trial(state=OptunaState.RUNNING, intermediate_values=dict(enumerate(values, start=1)))
            ours = field.judge(field.trial(*values), "patient", direction=direction, patience=patience)
            assert ours.prune == theirs.prune(study, judged)
            assert "patience" in ours.reason


@pytest.mark.parametrize(
    "limits,stopped,words",
    [
        ({"threshold_upper": 2.0}, [3.0], "not above 2"),
        ({"threshold_lower": 1.5, "threshold_upper": None}, [1.0], "not below 1.5"),
        ({"threshold_lower": 1.5, "threshold_upper": 2.0}, [1.0, 3.0], "not below 1.5 and not above 2"),
    ],
)
def test_a_threshold_stops_who_leaves_its_bounds(
    field: Field, limits: dict[str, float | None], stopped: list[float], words: str
) -> None:
    verdicts = {value: field.judge(field.trial(value), "threshold", **limits) for value in (1.0, 1.75, 3.0)}
    assert [value for value, verdict in verdicts.items() if verdict.prune] == stopped
    assert verdicts[1.75].reason.endswith(words)
    assert all("the threshold of" in verdicts[value].reason for value in stopped)


@pytest.mark.parametrize(
    "options,words",
    [
        ({"pruner": "threshold"}, "give threshold_lower or threshold_upper"),
        ({"threshold_lower": 2.0, "threshold_upper": 2.0}, "must be below threshold_upper, which is 2"),
    ],
)
def test_thresholds_that_cannot_work_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        SearchSpec.model_validate(options)


@pytest.mark.parametrize("pruner", ["patient", "threshold", "early_exit"])
def test_at_the_last_evaluation_and_before_the_warmup_ends_the_others_stop_nobody(field: Field, pruner: str) -> None:
    for _ in range(5):
        field.trial(*[1.0] * 8, end=COMPLETE)
    options = {"threshold_upper": 0.5, "patience": 1}
    last = field.judge(field.trial(*[2.0] * 8), pruner, **options)
    assert "nothing is left to save" in last.reason
    early = field.ask(field.trial(*[2.0] * 3), search_spec(pruner, **options), warmup=0.5)
    assert "before the longest warm-up has ended" in early.reason
    assert field.ask(field.trial(*[2.0] * 4), search_spec(pruner, **options), warmup=0.5).prune
