"""What runs cost, and whether that kept the limits of their study."""

from __future__ import annotations

import math

import pytest

from hpo_service.domain.decide.goals.costs import COSTS, adapter_mb, front_ids, goal_values, on_all_rows, to_the_end
from hpo_service.domain.decide.goals.limits import excesses, over_already, violation
from hpo_service.domain.study.direction import Direction
from hpo_service.domain.study.sections import search
from hpo_service.domain.study.sections.search import ConstraintsSpec
from hpo_service.domain.trial.facts import RunFacts
from hpo_service.domain.trial.report import Report

RUN = RunFacts.of({"seconds_train": 30.0, "steps": 100, "steps_planned": 100, "peak_memory_gb": 4.0, "adapter_mb": 2.0})


def facts(**changes: object) -> RunFacts:
    return RunFacts.of({**RUN.flat(), **changes})


def test_the_study_file_has_a_name_for_each_cost() -> None:
    assert tuple(COSTS) == search.COSTS
    assert set(ConstraintsSpec.model_fields) == set(COSTS)


def test_a_run_that_was_resumed_counts_with_all_its_steps_at_the_pace_of_the_last_attempt() -> None:
    assert COSTS["seconds"].of(facts(resumed_at_step=75)) == pytest.approx(120)
    assert COSTS["seconds"].of(facts(resumed_at_step=100)) is None


def test_an_objective_of_ones_own_counts_with_its_seconds() -> None:
    assert COSTS["seconds"].of(RunFacts.of({"seconds_train": 3.0})) == 3.0
    assert COSTS["seconds"].of(RunFacts()) is None


def test_a_run_that_was_stopped_would_have_gone_on_at_its_pace() -> None:
    assert COSTS["seconds"].of(to_the_end(facts(steps=25, seconds_train=30.0))) == pytest.approx(120)
    assert to_the_end(RunFacts()) == RunFacts()


def test_what_is_kept_of_an_adapter_that_changed_its_base_is_twice_as_large() -> None:
    assert adapter_mb(1_000_000) == 4.0
    assert adapter_mb(1_000_000, moves_base=True) == 8.0


def test_a_limit_is_broken_by_what_lies_above_it_and_the_sentence_names_cost_limit_and_unit() -> None:
    limits = ConstraintsSpec(seconds=20, memory_gb=4, adapter_mb=1)
    assert violation(limits, RUN) == (
        "training takes 30 s, and search.constraints.seconds allows 20 s; "
        "its adapter takes 2 MB, and search.constraints.adapter_mb allows 1 MB"
    )
    assert excesses(limits, RUN) == pytest.approx(
        {"seconds": math.log(1.5), "memory_gb": 0.0, "adapter_mb": math.log(2)}
    )


def reported(fraction: float = 0.25, **metrics: float) -> Report:
    return Report(step=2, fraction=fraction, value=1.0, metrics=metrics)


def test_a_run_that_goes_on_and_is_over_a_limit_cannot_keep_it_any_more() -> None:
    limits = ConstraintsSpec(seconds=20, memory_gb=4, adapter_mb=1)
    assert over_already(limits, reported(train_seconds=20.0, memory_gb=4.0, seconds=99.0)) == ""
    assert over_already(limits, reported(train_seconds=21.0)) == (
        "training takes 21 s, and search.constraints.seconds allows 20 s: after 25% of the run already, "
        "so it cannot be chosen"
    )
    assert "it took 5 GB of memory at its peak" in over_already(limits, reported(memory_gb=5.0))


def test_at_the_end_of_a_run_nothing_is_left_to_save() -> None:
    assert over_already(ConstraintsSpec(seconds=1), reported(1.0, train_seconds=21.0)) == ""


def test_seconds_on_a_share_of_the_rows_count_as_on_all() -> None:
    limits = ConstraintsSpec(seconds=20)
    assert over_already(limits, reported(train_seconds=6.0), 0.3) == ""
    assert "training takes 30 s" in over_already(limits, reported(train_seconds=9.0), 0.3)


def test_what_is_not_known_breaks_no_limit() -> None:
    limits = ConstraintsSpec(seconds=1, memory_gb=1, adapter_mb=1)
    assert violation(limits, RunFacts()) == ""
    assert excesses(limits, RunFacts()) == {}
    assert violation(ConstraintsSpec(), RUN) == ""


def test_goals_are_read_in_their_order_and_only_where_all_are_known() -> None:
    assert goal_values(["loss", "adapter_mb", "seconds"], 1.5, RUN) == [1.5, 2.0, 30.0]
    assert goal_values(["loss", "memory_gb"], 1.5, RunFacts()) is None
    assert goal_values(["loss", "memory_gb"], None, RUN) is None
    assert goal_values(["loss"], math.nan, RUN) is None


def test_who_broke_a_limit_or_is_not_known_in_a_goal_is_not_on_the_front_and_beats_nobody() -> None:
    trials = [
        (1, 1.0, facts(seconds_train=9.0)),
        (2, 2.0, facts(seconds_train=3.0)),
        (3, 2.5, facts(seconds_train=4.0)),
        (4, 0.1, facts(seconds_train=0.1, constraint_violated="too large")),
        (5, 0.1, RunFacts()),
    ]
    assert front_ids(["loss", "seconds"], Direction.MINIMIZE, trials) == [1, 2]
    assert front_ids(["loss", "seconds"], Direction.MAXIMIZE, trials) == [2, 3]


def test_a_run_on_a_share_of_the_rows_counts_as_on_all_of_them() -> None:
    assert COSTS["seconds"].of(on_all_rows(RUN, 0.25)) == pytest.approx(120)
    assert on_all_rows(RUN, 1.0) == RUN
    assert on_all_rows(RunFacts(), 0.25) == RunFacts()
