"""A worker's ordinary days: claims, reports, decisions, leases, checkpoints, kinds of children."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from typing import Any

import pytest

from hpo_service.domain.trial.assignment import Assignment
from hpo_service.domain.trial.decision import Decision
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.domain.trial.report import Report
from hpo_service.errors import ChildError, NotFoundError
from hpo_service.wire.messages import Admit, Continue, Failed, Finished, Heartbeat, Reported, Stop
from hpo_service.worker.child import OBJECTIVE, TRAINER, training_command

Trial = Callable[..., Assignment]


def test_a_trial_is_claimed_trained_reported_and_finished(world: Any, trial: Trial) -> None:
    world.run(trial(0))
    assert world.queue.reports == {0: [1, 2, 3]}
    ((number, outcome),) = world.queue.outcomes
    assert (number, outcome.kind, outcome.value) == (0, OutcomeKind.COMPLETE, 0.5)
    assert [type(m) for _, m in world.child.sent] == [Admit, Continue, Continue, Continue]
    assert world.child.closed


def test_the_child_is_told_what_to_train_where_and_which_models_to_describe(world: Any, trial: Trial) -> None:
    world.run(trial(3, attempt=2))
    ((_, admit),) = world.child.orders(Admit)
    assert admit.trial == "s/search-0003/2"
    assert admit.folder == world.output / "s" / "trials" / "search-0003" / "attempt-2"
    assert admit.assignment.config.models == ["small", "large"]
    assert admit.assignment == trial(3, attempt=2)


def test_what_the_child_learns_about_models_is_stored(world: Any, trial: Trial) -> None:
    world.run(trial(0))
    ((facts),) = [about for _, call, about in world.queue.log if call == "describe"]
    assert facts["small"].hidden_size == 64


def test_the_child_stays_between_trials(world: Any, trial: Trial) -> None:
    world.run(trial(0), trial(1))
    assert len(world.children) == 1
    assert len(world.child.orders(Admit)) == 2
    assert world.queue.kinds() == [OutcomeKind.COMPLETE] * 2


def test_a_worker_with_one_trial_claims_exactly_one(world: Any, trial: Trial) -> None:
    world.run(trial(0), trial(1), trial(2), max_trials=1, until_finished=False)
    assert [number for number, _ in world.queue.outcomes] == [0]
    assert len(world.queue.waiting) == 2


def test_max_trials_counts_slots_too(world: Any, trial: Trial) -> None:
    world.run(*(trial(i, slots=4) for i in range(6)), max_trials=3, until_finished=False)
    assert sorted(number for number, _ in world.queue.outcomes) == [0, 1, 2]


def test_as_many_trials_run_at_once_as_the_study_allows(world: Any, trial: Trial) -> None:
    world.run(*(trial(i, slots=2) for i in range(3)))
    first, second, third = (time for time, _ in world.child.orders(Admit))
    assert second - first < 1.0
    assert third >= world.queue.times("finish")[0]
    assert world.queue.kinds() == [OutcomeKind.COMPLETE] * 3


def test_how_many_trials_run_at_once_is_told_once_and_again_when_it_changes(
    world: Any, trial: Trial, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    world.run(trial(0, slots=2), trial(1, slots=2), trial(2, slots=2), trial(3, slots=3))
    told = [record.getMessage() for record in caplog.records if "at once" in record.getMessage()]
    assert told[0] == "up to 2 trials at once: they fit"
    assert all(before != after for before, after in itertools.pairwise(told))


def test_a_study_that_allows_one_at_a_time_gets_no_more_from_a_child_that_served_more_before(
    world: Any, trial: Trial
) -> None:
    world.run(trial(0, slots=2), trial(1, slots=2), trial(2), trial(3))
    *_, last = (time for time, _ in world.child.orders(Admit))
    ended = {number: time for (number, _), time in zip(world.queue.outcomes, world.queue.times("finish"), strict=True)}
    assert last >= ended[2]


def test_while_it_holds_trials_a_worker_claims_from_the_same_study_only(world: Any, trial: Trial) -> None:
    world.run(trial(0, slots=2), trial(1, slots=2))
    asked_for = [about for _, call, about in world.queue.log if call == "claim"]
    assert asked_for[:2] == [None, "s"]


def test_another_kind_of_study_gets_another_kind_of_child(world: Any, trial: Trial) -> None:
    world.run(trial(0), trial(1, objective="m:f"), trial(2))
    assert [child.command for child in world.children] == [TRAINER, OBJECTIVE, TRAINER]
    assert [child.killed for child in world.children] == [True, True, False]


def test_a_trial_on_several_gpus_gets_a_child_with_a_process_for_each(world: Any, trial: Trial) -> None:
    world.run(trial(0, gpus=2), trial(1, gpus=2), trial(2))
    assert [child.command for child in world.children] == [training_command(2), TRAINER]
    assert world.queue.kinds() == [OutcomeKind.COMPLETE] * 3


def test_the_childs_variables_and_log_are_the_workers(world: Any, trial: Trial) -> None:
    world.run(trial(0), environment={"OMP_NUM_THREADS": "3"})
    assert world.child.environment == {"OMP_NUM_THREADS": "3"}
    assert world.child.log == world.output / "logs" / "worker-w.log"


def test_trials_that_only_repeat_values_are_gone_through_without_a_pause(world: Any, trial: Trial) -> None:
    world.queue.copies = 50
    world.run(trial(0))
    assert world.queue.times("claim")[50] < 1
    assert world.queue.kinds() == [OutcomeKind.COMPLETE]


def test_a_worker_that_holds_a_trial_hears_of_it_while_others_repeat_values(world: Any, trial: Trial) -> None:
    world.script.seconds = 0.01
    world.queue.waiting.append(trial(0, slots=2))
    world.clock.at(1.0, lambda: setattr(world.queue, "copies", 500))
    world.run(trial(1, slots=2))
    assert world.queue.kinds() == [OutcomeKind.COMPLETE] * 2


# decisions


@pytest.mark.parametrize("action, kind", [("prune", OutcomeKind.PRUNED), ("cancel", OutcomeKind.CANCELLED)])
def test_a_decision_to_stop_answers_the_report(world: Any, trial: Trial, action: str, kind: OutcomeKind) -> None:
    world.queue.decisions[0, 2] = Decision.model_validate({"action": action, "reason": "too far behind"})
    world.run(trial(0))
    ((_, outcome),) = world.queue.outcomes
    assert (outcome.kind, outcome.reason, outcome.value) == (kind, "too far behind", 1.0)
    assert world.queue.reports == {0: [1, 2]}
    ((_, stop),) = world.child.orders(Stop)
    assert (stop.answers, stop.saves) == (2, False)


@pytest.mark.parametrize("kind", [OutcomeKind.COMPLETE, OutcomeKind.INFEASIBLE, OutcomeKind.PRUNED])
def test_a_child_that_ends_a_trial_by_itself_as_the_order_to_stop_is_on_its_way_keeps_that_outcome(
    world: Any, trial: Trial, kind: OutcomeKind
) -> None:
    world.script.obeys_in = None
    world.queue.asked[0] = Decision(action="release", reason="study paused")
    own = Outcome(kind=kind, reason="by itself", value=2.0)
    world.clock.at(20, lambda: world.child.say(Finished(trial="s/search-0000/1", outcome=own)))
    world.run(trial(0), max_trials=1)
    assert len(world.child.orders(Stop)) == 1
    assert world.queue.outcomes == [(0, own)]


def test_a_request_from_outside_reaches_the_child_with_a_renewal(world: Any, trial: Trial) -> None:
    world.script.seconds = 1000.0
    world.clock.at(20, lambda: world.queue.asked.update({0: Decision(action="release", reason="study paused")}))
    world.run(trial(0, hang_seconds=5000.0), max_trials=1)
    ((time, stop),) = world.child.orders(Stop)
    assert stop.saves
    assert time <= 20 + 60 / 4 + 1
    assert [(o.kind, o.reason) for _, o in world.queue.outcomes] == [(OutcomeKind.RELEASED, "study paused")]


def test_the_child_is_told_to_stop_once(world: Any, trial: Trial) -> None:
    world.script.obeys_in = 40.0
    world.queue.asked[0] = Decision(action="cancel", reason="stopped by hand")
    world.run(trial(0), max_trials=1)
    assert len(world.child.orders(Stop)) == 1
    assert world.queue.kinds() == [OutcomeKind.CANCELLED]


# leases


def test_leases_are_renewed_four_times_in_their_length_with_the_progress(world: Any, trial: Trial) -> None:
    world.script.seconds = 100.0
    world.run(trial(0, lease_seconds=40.0))
    times = world.queue.times("renew")
    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert all(9.0 <= pause <= 11.5 for pause in pauses[1:])
    shares = [about[0] for _, call, about in world.queue.log if call == "renew" and 0 in about]
    assert shares == sorted(shares)
    assert 0.0 < shares[-1] <= 1.0


def test_what_the_child_is_busy_with_is_told_until_it_is_gone(world: Any, trial: Trial, died: ChildError) -> None:
    world.script.beats = False
    world.clock.at(5, lambda: world.child.say(Heartbeat(activity="loading the model")))
    world.clock.at(40, lambda: world.child.say(died))
    world.clock.at(100, lambda: setattr(world.queue, "draining", True))
    world.script.seconds = 1000.0
    world.run(trial(0), until_finished=False)
    assert "loading the model" in world.queue.activities
    assert world.queue.activities[-1] == "waiting for trials"


def test_a_worker_without_trials_gives_signs_of_life(world: Any) -> None:
    world.janitor.moves.append(lambda: None)
    world.clock.at(100, lambda: world.queue.__setattr__("draining", True))
    world.run(until_finished=False)
    assert 4 <= len(world.queue.times("renew")) <= 8


def test_a_worker_that_is_told_to_drain_leaves_when_it_holds_nothing(world: Any) -> None:
    world.queue.draining = True
    world.run(until_finished=False)
    assert world.clock.passed < 30


def test_a_worker_that_is_told_to_drain_gives_its_trials_back(world: Any, trial: Trial) -> None:
    world.script.seconds = 1000.0
    world.clock.at(30, lambda: setattr(world.queue, "draining", True))
    world.run(trial(0), trial(1), until_finished=False)
    assert [(n, o.kind) for n, o in world.queue.outcomes] == [(0, OutcomeKind.RELEASED)]
    assert len(world.queue.waiting) == 1


# nothing to do


def test_looks_for_work_become_rarer_and_a_trial_makes_them_frequent_again(world: Any, trial: Trial) -> None:
    world.clock.at(100, lambda: world.queue.waiting.append(trial(0)))
    world.clock.at(300, lambda: world.queue.__setattr__("draining", True))
    world.run(until_finished=False)
    claims = world.queue.times("claim")
    idle = [time for time in claims if 50 < time < 100]
    assert 16 <= len(idle) <= 40
    done = world.queue.times("finish")[0]
    assert len([time for time in claims if done <= time < done + 3.0]) >= 4


def test_the_end_of_a_trial_is_a_reason_to_look_for_work_at_once(world: Any, trial: Trial) -> None:
    world.script.seconds = 40.0
    world.clock.at(150, lambda: setattr(world.queue, "draining", True))
    world.run(trial(0, slots=2), until_finished=False)
    done = world.queue.times("finish")[0]
    assert min(time - done for time in world.janitor.advanced + world.queue.times("claim") if time >= done) < 0.01


def test_with_nothing_to_claim_stages_advance_and_what_they_open_is_claimed_at_once(world: Any, trial: Trial) -> None:
    world.janitor.moves.append(lambda: world.queue.waiting.append(trial(5)))
    world.run()
    assert [number for number, _ in world.queue.outcomes] == [5]
    assert world.child.orders(Admit)[0][0] < 1.0


def test_the_reaper_runs_now_and_then(world: Any, trial: Trial) -> None:
    world.script.seconds = 50.0
    world.run(trial(0))
    assert 14 <= len(world.janitor.reaped) <= 32


def test_a_study_that_was_deleted_between_two_steps_of_a_claim_is_passed_over(world: Any, trial: Trial) -> None:
    def once() -> None:
        world.queue.on_claim = lambda: None
        raise NotFoundError("study number 1 was deleted")

    world.queue.on_claim = once
    world.run(trial(0))
    assert world.queue.kinds() == [OutcomeKind.COMPLETE]


# checkpoints


def test_a_released_trial_keeps_its_checkpoint_for_the_next_attempt(world: Any, trial: Trial) -> None:
    world.queue.asked[0] = Decision(action="release", reason="study paused")
    world.run(trial(0), max_trials=1)
    folder = world.output / "s" / "trials" / "search-0000"
    assert (folder / "attempt-1" / "checkpoint" / "position").exists()
    world.queue.asked.clear()
    world.queue.stale.clear()
    seen = []
    world.queue.decisions = Watching(lambda: seen.append((folder / "attempt-2" / "checkpoint" / "position").exists()))
    world.run(trial(0, attempt=2), max_trials=1)
    assert seen == [True] * 3
    assert not list(folder.glob("attempt-*/checkpoint"))


class Watching(dict[Any, Any]):
    """A table of decisions that calls back whenever one is asked for."""

    def __init__(self, action: Callable[[], object]) -> None:
        super().__init__()
        self._action = action

    def get(self, key: Any, default: Any = None) -> Any:
        self._action()
        return default


# children that fail


def test_an_error_settles_the_attempt_and_the_child_lives_on(world: Any, trial: Trial) -> None:
    world.script.breaks[0, 2] = Failed(trial="", reason="row 3 has no text", retryable=False)
    world.run(trial(0), trial(1))
    assert [(o.kind, o.retryable) for _, o in world.queue.outcomes] == [
        (OutcomeKind.ERROR, False),
        (OutcomeKind.COMPLETE, True),
    ]
    assert world.queue.outcomes[0][1].reason == "row 3 has no text"
    assert len(world.children) == 1


def test_a_fatal_error_restarts_the_child(world: Any, trial: Trial) -> None:
    world.script.breaks[0, 1] = Failed(trial="", reason="CUDA error", fatal=True)
    world.queue.retries = 1
    world.run(trial(0))
    assert world.queue.kinds() == [OutcomeKind.ERROR, OutcomeKind.COMPLETE]
    assert [child.killed for child in world.children] == [True, False]


def test_a_child_is_replaced_after_an_outcome_that_asks_for_it(world: Any, trial: Trial) -> None:
    worn = Outcome(kind=OutcomeKind.INFEASIBLE, reason="does not fit", restart=True)
    world.script.breaks[0, 2] = Finished(trial="", outcome=worn)
    world.run(trial(0), trial(1))
    assert world.queue.kinds() == [OutcomeKind.INFEASIBLE, OutcomeKind.COMPLETE]
    assert [child.killed for child in world.children] == [True, False]


def test_neighbours_of_a_fatal_error_are_released_and_count_no_error(world: Any, trial: Trial) -> None:
    world.script.breaks[0, 2] = Failed(trial="", reason="CUDA error", fatal=True)
    world.run(trial(0, slots=2), trial(1, slots=2))
    ended = dict(world.queue.outcomes)
    assert ended[0].kind is OutcomeKind.ERROR
    assert ended[1].kind is OutcomeKind.RELEASED
    assert "s/search-0000/1: CUDA error" in ended[1].reason


def test_a_child_that_dies_is_replaced_and_its_trial_is_retried_with_the_reason(
    world: Any, trial: Trial, died: ChildError
) -> None:
    world.script.breaks[0, 2] = died
    world.queue.retries = 1
    world.run(trial(0))
    first, second = world.queue.outcomes
    assert (first[1].kind, first[1].reason) == (OutcomeKind.ERROR, str(died))
    assert second[1].kind is OutcomeKind.COMPLETE
    assert len(world.children) == 2


def test_all_trials_of_a_child_that_dies_are_retried(world: Any, trial: Trial, died: ChildError) -> None:
    world.script.breaks[1, 2] = died
    world.run(trial(0, slots=2), trial(1, slots=2))
    assert sorted(world.queue.kinds()) == [OutcomeKind.ERROR, OutcomeKind.ERROR]


def test_a_child_that_dies_while_it_stops_leaves_the_end_that_was_asked_for(
    world: Any, trial: Trial, died: ChildError
) -> None:
    world.queue.decisions[0, 1] = Decision(action="prune", reason="too far behind")
    world.script.obeys_in = None
    world.clock.at(20, lambda: world.child.say(died))
    world.run(trial(0), max_trials=1)
    ((_, outcome),) = world.queue.outcomes
    assert outcome.kind is OutcomeKind.PRUNED
    assert outcome.reason == f"too far behind ({died})"


def test_an_error_while_stopping_leaves_the_end_that_was_asked_for(world: Any, trial: Trial) -> None:
    world.queue.decisions[0, 1] = Decision(action="cancel", reason="stopped by hand")
    world.script.obeys_in = None
    failed = Failed(trial="s/search-0000/1", reason="ValueError")
    world.clock.at(20, lambda: world.child.say(failed))
    world.run(trial(0), max_trials=1)
    assert world.queue.kinds() == [OutcomeKind.CANCELLED]


def test_a_silent_child_is_killed_and_its_trial_is_retried(world: Any, trial: Trial) -> None:
    world.script.breaks[0, 2] = None
    world.queue.retries = 1
    world.run(trial(0, hang_seconds=30.0))
    first, second = world.queue.outcomes
    assert first[1].kind is OutcomeKind.ERROR
    assert "silent for 30 s" in first[1].reason
    assert "worker-w.log" in first[1].reason
    assert second[1].kind is OutcomeKind.COMPLETE
    assert world.children[0].killed
    assert 30 < world.queue.times("finish")[0] < 45


def test_what_the_child_said_while_the_worker_was_frozen_counts_as_life(world: Any, trial: Trial) -> None:
    frozen: list[bool] = []

    def freeze() -> None:
        if not frozen and world.clock.passed > 5:
            frozen.append(True)
            world.clock.now += 1000.0

    world.queue.on_renew = freeze
    world.run(trial(0, hang_seconds=30.0))
    assert frozen
    assert world.queue.kinds() == [OutcomeKind.COMPLETE]
    assert len(world.children) == 1


def test_the_silence_of_a_child_without_work_is_not_held_against_it(world: Any, trial: Trial) -> None:
    world.script.beats = False
    world.script.starts_in = 15.0
    world.script.seconds = 20.0
    world.clock.at(500, lambda: world.queue.waiting.append(trial(1, hang_seconds=30.0)))
    world.clock.at(700, lambda: setattr(world.queue, "draining", True))
    world.run(trial(0, hang_seconds=30.0), until_finished=False)
    assert world.queue.kinds() == [OutcomeKind.COMPLETE] * 2
    assert len(world.children) == 1


def test_a_child_that_does_not_stop_when_told_is_killed_in_the_end(world: Any, trial: Trial) -> None:
    world.script.obeys_in = None
    world.queue.decisions[0, 1] = Decision(action="prune", reason="too far behind")
    world.run(trial(0, hang_seconds=30.0), max_trials=1)
    ((_, outcome),) = world.queue.outcomes
    assert outcome.kind is OutcomeKind.PRUNED
    assert "did not stop within 30 s" in outcome.reason
    assert world.children[0].killed


def test_the_neighbours_of_a_trial_that_does_not_stop_count_no_error(world: Any, trial: Trial) -> None:
    world.script.obeys_in = None
    world.script.seconds = 20.0
    world.queue.decisions[0, 1] = Decision(action="prune", reason="too far behind")
    world.run(trial(0, hang_seconds=30.0, slots=2), trial(1, hang_seconds=30.0, slots=2), max_trials=2)
    assert {n: o.kind for n, o in world.queue.outcomes} == {0: OutcomeKind.PRUNED, 1: OutcomeKind.RELEASED}


def test_a_child_that_left_between_two_trials_is_replaced_before_the_next(world: Any, trial: Trial) -> None:
    def leave() -> None:
        world.child.ended = True

    world.clock.at(50, leave)
    world.clock.at(60, lambda: world.queue.waiting.append(trial(1)))
    world.clock.at(150, lambda: setattr(world.queue, "draining", True))
    world.run(trial(0), until_finished=False)
    assert world.queue.kinds() == [OutcomeKind.COMPLETE] * 2
    assert len(world.children) == 2


def test_the_death_of_a_child_without_work_harms_nobody(world: Any, trial: Trial, died: ChildError) -> None:
    world.clock.at(50, lambda: world.child.say(died))
    world.clock.at(60, lambda: world.queue.waiting.append(trial(1)))
    world.clock.at(150, lambda: setattr(world.queue, "draining", True))
    world.run(trial(0), until_finished=False)
    assert world.queue.kinds() == [OutcomeKind.COMPLETE] * 2
    assert len(world.children) == 2


def test_a_worker_that_can_start_no_child_gives_the_trial_back_and_leaves(world: Any, trial: Trial) -> None:
    world.start_failure = OSError(12, "Cannot allocate memory")
    with pytest.raises(ChildError, match=r"worker w cannot start a child process.*worker-w\.log"):
        world.run(trial(0))
    assert world.queue.kinds() == [OutcomeKind.RELEASED]


def test_a_report_that_cannot_be_stored_fails_its_trial_and_not_the_worker(world: Any, trial: Trial) -> None:
    real = world.queue.report
    poisoned = lambda lease, report: 1 / 0 if lease.trial_id == 0 else real(lease, report)  # noqa: E731
    world.queue.report = poisoned
    world.run(trial(0), trial(1))
    assert world.queue.kinds() == [OutcomeKind.ERROR, OutcomeKind.COMPLETE]
    ((_, outcome), _) = world.queue.outcomes
    assert "cannot be stored (ZeroDivisionError)" in outcome.reason
    assert not outcome.retryable


def test_what_nobody_expects_ends_the_worker_and_its_child(world: Any, trial: Trial) -> None:
    world.clock.at(15, lambda: world.queue.__setattr__("renew", lambda *_: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        world.run(trial(0))
    assert world.child.closed


def test_messages_about_trials_it_does_not_hold_are_passed_over(world: Any, trial: Trial) -> None:
    report = Report(step=1, fraction=0.5, value=1.0)
    done = Outcome(kind=OutcomeKind.COMPLETE, reason="done", value=0.0)
    for message in (
        Heartbeat(progress={"other": 0.5}),
        Reported(trial="other", report=report),
        Finished(trial="other", outcome=done),
    ):
        world.clock.at(5, lambda message=message: world.child.say(message))
    world.run(trial(0))
    assert world.queue.reports == {0: [1, 2, 3]}
    assert [number for number, _ in world.queue.outcomes] == [0]


def test_infeasible_is_final_and_keeps_its_reason(world: Any, trial: Trial) -> None:
    outcome = Outcome(kind=OutcomeKind.INFEASIBLE, reason="out of memory at batch 64")
    world.clock.at(5, lambda: world.child.say(Finished(trial="s/search-0000/1", outcome=outcome)))
    world.run(trial(0))
    assert world.queue.outcomes == [(0, outcome)]


# the reaper


def test_a_worker_never_takes_back_what_it_holds(world: Any, trial: Trial) -> None:
    world.script.seconds = 30.0
    world.run(trial(4, slots=2), trial(5, slots=2))
    assert {4, 5} in [set(held) for held in world.janitor.spared]
    assert all(set(held) <= {4, 5} for held in world.janitor.spared)


def test_a_trial_that_is_somebody_elses_is_not_spared(world: Any, trial: Trial) -> None:
    world.script.seconds, world.script.obeys_in = 1000.0, 100.0
    world.clock.at(30, lambda: world.queue.stale.add(4))
    world.run(trial(4), max_trials=1)
    spared = [set(held) for held in world.janitor.spared]
    assert {4} in spared
    assert spared[-1] == set()


def test_a_worker_that_was_frozen_renews_before_it_looks_for_silent_ones(world: Any, trial: Trial) -> None:
    world.script.seconds = 100.0
    frozen_until = 1000.0
    world.clock.at(30, lambda: setattr(world.clock, "now", world.clock.now + frozen_until))
    world.run(trial(0, lease_seconds=60.0))
    assert min(t for t in world.queue.times("renew") if t > frozen_until) <= min(
        t for t in world.janitor.reaped if t > frozen_until
    )
    calls = [name for _, name in world.queue.tries if name in ("renew", "reap")]
    times = [time for time, name in world.queue.tries if name in ("renew", "reap")]
    assert next(name for time, name in zip(times, calls, strict=True) if time > frozen_until) == "renew"
