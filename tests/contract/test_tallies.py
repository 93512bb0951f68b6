"""What is counted of trials agrees with the trials, on every kind of database, and reads only what it must."""

from __future__ import annotations

import random
from typing import Any

import pytest

from hpo_service.domain.study.direction import Direction
from hpo_service.domain.trial.facts import RunFacts
from hpo_service.domain.trial.report import Report
from hpo_service.domain.trial.states import TrialEvent, TrialState
from hpo_service.domain.trial.tally import Tally
from hpo_service.service.studies.snapshot import trial_view
from tests.counting import statements


def settle(world: Any, state: TrialState = TrialState.COMPLETE, **more: Any) -> Any:
    trial = world.admit()
    with world.db.transaction():
        return world.trials.settle(trial.id, state, reason="over", **more)


def test_ended_trials_are_counted_by_state_with_their_time(world):
    rows = [settle(world, state) for state in [TrialState.COMPLETE, TrialState.PRUNED, TrialState.COMPLETE]]
    failed = settle(world, TrialState.FAILED)
    world.admit()
    with world.db.transaction():
        tally = world.trials.tallies.of_ended(world.stage.id, but_not=[failed.id])
        assert world.trials.tallies.revivable(world.stage.id) == 1
    expected = Tally.of((row.state, row.device_seconds, row.device_seconds) for row in rows)
    assert {s: tally.count(s) for s in TrialState} == {s: expected.count(s) for s in TrialState}
    assert tally.device_seconds == pytest.approx(expected.device_seconds)


def test_what_was_loaded_for_all_is_no_trials_own_time(world):
    rows = [
        settle(world, device_seconds=spent, facts=RunFacts.of(facts))
        for spent, facts in (
            (10.0, {"seconds_setup": 2.0, "device_seconds": 7.0}),
            (10.0, {"seconds_setup": 2.0, "device_seconds": 10.0, "ranks": 2}),
            (3.0, {"seconds_setup": 5.0, "device_seconds": 3.0}),
            (4.0, {"seconds_setup": 1.0}),
        )
    ]
    views = [trial_view(row, []) for row in rows]
    with world.db.transaction():
        tally = world.trials.tallies.of_ended(world.stage.id)
    assert [view.own_seconds for view in views] == [5.0, 6.0, 0.0, 4.0]
    assert sum(tally.own.values()) == pytest.approx(15.0)
    assert tally.mean_seconds(TrialState.COMPLETE) == pytest.approx(5.0)


def test_an_empty_stage_has_nothing_to_count(world):
    with world.db.transaction():
        tallies, stage = world.trials.tallies, world.stage.id
        assert (tallies.total(stage), tallies.of_ended(stage).total, tallies.revivable(stage)) == (0, 0, 0)
        assert (tallies.best(stage, Direction.MINIMIZE), tallies.run_seconds(stage), tallies.to_run(stage)) == (
            None,
            [],
            0.0,
        )
        assert not tallies.has(stage, *TrialState)
        assert tallies.leases() == {}


def test_the_best_is_the_first_of_equals_in_the_studys_direction(world):
    rows = [settle(world, value=value) for value in (2.0, 1.0, 1.0, None)]
    settle(world, TrialState.PRUNED, value=0.5)
    with world.db.transaction():
        assert world.trials.tallies.best(world.stage.id, Direction.MINIMIZE).id == rows[1].id
        assert world.trials.tallies.best(world.stage.id, Direction.MAXIMIZE).id == rows[0].id


def test_whether_there_are_so_many_trials_in_a_state(world):
    settle(world), settle(world)
    with world.db.transaction():
        has = world.trials.tallies.has
        assert has(world.stage.id, TrialState.COMPLETE, at_least=2)
        assert not has(world.stage.id, TrialState.COMPLETE, at_least=3)
        assert not has(world.stage.id, TrialState.RUNNING, TrialState.WAITING)


def test_open_trials_those_asked_for_and_new_ones_are_read_once_each_and_in_order(world):
    ended, asked, running, new = settle(world), settle(world), world.admit(), settle(world)
    with world.db.transaction():
        rows = world.trials.tallies.open_or_new(world.stage.id, [asked.id, running.id], since=new.ordinal)
    assert [row.id for row in rows] == [asked.id, running.id, new.id]
    assert ended.id not in {row.id for row in rows}


def test_durations_are_those_of_trials_that_ran_and_shares_those_that_are_left(world):
    ran = settle(world, device_seconds=7.0)
    settle(world, copied_from=ran.id, device_seconds=0.0)
    settle(world, TrialState.PRUNED, device_seconds=3.0)
    running = world.admit()
    world.plan(1)
    with world.db.transaction():
        world.trials.extend(running.lease, 60.0, 0.75)
        assert world.trials.tallies.run_seconds(world.stage.id) == [7.0]
        assert world.trials.tallies.to_run(world.stage.id) == pytest.approx(1.25)


def test_leases_tell_how_far_they_reach(world):
    world.admit(lease=-5.0)
    world.admit(lease=100.0)
    settle(world)
    with world.db.transaction():
        reach = world.trials.tallies.leases()[world.stage.id]
    assert reach.shortest == pytest.approx(-5.0, abs=2.0)
    assert reach.longest == pytest.approx(100.0, abs=2.0)


def test_marks_are_the_two_latest_reports_and_the_bests_now_and_earlier(world):
    trial = world.admit()
    values = [3.0, 1.0, 2.0, float("nan"), 4.0]
    with world.db.transaction():
        for step, value in enumerate(values, start=1):
            world.trials.reports.add(trial, Report(step=step, fraction=0.1, value=value))
        reports = world.trials.reports
        assert str(reports.marks(trial.id, Direction.MINIMIZE)) == "{1: 3.0, 2: 1.0, 4: nan, 5: 4.0}"
        assert str(reports.marks(trial.id, Direction.MAXIMIZE)) == "{1: 3.0, 4: nan, 5: 4.0}"
        assert reports.last_value(trial.id) == 4.0
        assert reports.latest([trial.id, -1])[trial.id].step == 5


def test_the_latest_report_is_the_latest_with_a_number(world):
    trial, silent = world.admit(), world.admit()
    with world.db.transaction():
        for step, value in enumerate([3.0, float("nan")], start=1):
            world.trials.reports.add(trial, Report(step=step, fraction=0.1, value=value))
        found = world.trials.reports.latest([trial.id, silent.id])
        assert {trial_id: row.value for trial_id, row in found.items()} == {trial.id: 3.0}
        assert world.trials.reports.last_value(silent.id) is None


def test_curves_read_again_are_those_read_by_somebody_who_comes_new(world, connect):
    """Whatever happens between two looks: trials that come, report, end, fail and are tried again."""
    draw = random.Random(1)
    other = type(world)(connect(), world.study.name)
    running: list[Any] = []
    failed: list[Any] = []
    for _ in range(60):
        with world.db.transaction():
            action = draw.choice(["admit", "report", "settle", "fail", "retry"])
            if action == "report" and running:
                trial = draw.choice(running)
                step = draw.randint(1, 9)
                world.trials.reports.add(trial, Report(step=step, fraction=0.1, value=draw.random()))
            elif action == "settle" and running:
                state = draw.choice([TrialState.COMPLETE, TrialState.PRUNED, TrialState.INFEASIBLE])
                world.trials.settle(running.pop().id, state, reason="over")
            elif action == "fail" and running:
                failed.append(running.pop())
                world.trials.settle(failed[-1].id, TrialState.FAILED, reason="over")
            elif action == "retry" and failed:
                world.trials.retry(failed.pop().id)
                running.append(world.trials.claim_waiting(world.stage.id, "w", 60.0))
        if action == "admit":
            running.append(world.admit())
        with world.db.transaction(read_only=True):
            kept = world.trials.reports.curves(world.stage.id)
        with other.db.transaction(read_only=True):
            anew = type(other.trials.reports)(other.db).curves(world.stage.id)
        assert sorted(map(str, kept)) == sorted(map(str, anew))


def test_a_comparison_reads_no_more_reports_the_more_trials_have_ended(world):
    def look() -> list[str]:
        with world.db.transaction(read_only=True), statements(world.db) as seen:
            world.trials.reports.curves(world.stage.id)
        return [statement for statement in seen if "hpo_report" in statement]

    settle(world)
    assert len(look()) == 1
    assert look() == []


@pytest.mark.parametrize("event", [TrialEvent.EXPIRE, TrialEvent.RELEASE])
def test_device_time_holds_what_earlier_attempts_took_and_what_runs(world, event):
    trial = world.admit()
    with world.db.transaction():
        world.trials.requeue(trial.id, event, reason="lost")
    world.claim()
    settle(world, device_seconds=11.0)
    with world.db.transaction():
        assert world.trials.attempts.device_seconds(world.stage.id) == pytest.approx(11.0, abs=2.0)
