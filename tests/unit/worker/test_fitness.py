"""A worker that cannot work: it claims nothing, or leaves a study whose trials fail on it, and says why."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from hpo_service.domain.decide.placement import Resources
from hpo_service.domain.trial.assignment import Assignment
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.errors import ChildError, UnfitWorkerError
from hpo_service.wire.messages import LEAVING, Admit, Failed, Finished, Ready, Unusable
from hpo_service.worker.child import training_command
from hpo_service.worker.device.hold import HOLD_SECONDS, DeviceHold

Trial = Callable[..., Assignment]
NO_PEFT = "the trainer's libraries cannot be loaded (No module named 'peft'): pip install 'hpo-service[train]'"
ERROR = Failed(trial="", reason="CUDA error: device lost")


# before the first claim


def test_the_child_proves_that_it_can_train_before_a_trial_is_claimed_and_then_trains(world: Any, trial: Trial) -> None:
    world.script.first_word = Ready(device="cpu")
    world.run(trial(0), trainer=1)
    assert len(world.children) == 1
    assert min(world.queue.times("claim")) >= 20.0
    assert world.queue.kinds() == [OutcomeKind.COMPLETE]


@pytest.mark.parametrize(
    "first_word, words",
    [
        (Unusable(reason=NO_PEFT), "pip install"),
        (ChildError("the child process was killed by SIGSEGV; its log is worker.log"), "does not start.*SIGSEGV.*log"),
    ],
)
def test_where_it_cannot_the_worker_leaves_with_the_reason_and_nothing_is_claimed(
    world: Any, trial: Trial, first_word: Any, words: str
) -> None:
    world.script.first_word = first_word
    with pytest.raises(UnfitWorkerError, match=words):
        world.run(trial(0), trainer=1)
    assert world.queue.times("claim") == []
    assert world.queue.outcomes == []


def test_a_worker_with_a_gpu_that_torch_cannot_use_claims_nothing(world: Any, trial: Trial) -> None:
    world.script.first_word = Ready(device="cpu")
    with pytest.raises(UnfitWorkerError, match="CUDA_VISIBLE_DEVICES"):
        world.run(trial(0), trainer=1, has=Resources(1))
    assert world.queue.times("claim") == []


def test_a_trainer_that_says_nothing_is_given_up(world: Any, trial: Trial) -> None:
    world.script.beats = False
    with pytest.raises(UnfitWorkerError, match="did not start within"):
        world.run(trial(0), trainer=1)
    assert world.child.killed or world.child.closed


def test_a_trainer_that_cannot_be_started_is_no_trial_s_fault(world: Any, trial: Trial) -> None:
    world.start_failure = OSError("no memory")
    with pytest.raises(UnfitWorkerError, match="no memory"):
        world.run(trial(0), trainer=1)
    assert world.queue.times("claim") == []


def test_a_machine_on_which_nothing_can_be_kept_claims_nothing_and_starts_nothing(world: Any, trial: Trial) -> None:
    def full() -> None:
        raise UnfitWorkerError("/out cannot be written (No space left on device)")

    world.look_at_machine = full
    with pytest.raises(UnfitWorkerError, match="No space left"):
        world.run(trial(0), trainer=1)
    assert (world.children, world.queue.times("claim")) == ([], [])


def test_a_worker_without_anything_to_do_proves_nothing(world: Any) -> None:
    world.run(trainer=1)
    assert world.children == []


def test_while_the_trainer_starts_signals_and_renewals_go_on(world: Any, trial: Trial) -> None:
    world.clock.at(100.0, lambda: signal.raise_signal(signal.SIGHUP))
    world.run(trial(0), trainer=1)
    assert 100 <= world.clock.passed < 102
    assert len(world.queue.times("renew")) >= 4
    assert world.child.killed


def test_several_processes_prove_it_together(world: Any, trial: Trial) -> None:
    world.script.first_word = Ready(device="H100")
    world.run(trial(0, gpus=2), trainer=2, has=Resources(2))
    assert [child.command for child in world.children] == [training_command(2)]


def test_a_later_child_that_cannot_train_costs_no_trial(world: Any, trial: Trial) -> None:
    world.script.first_word = Unusable(reason="the GPU has fallen off the bus")
    with pytest.raises(UnfitWorkerError, match="fallen off the bus"):
        world.run(trial(0, slots=2), trial(1, slots=2))
    assert world.queue.kinds() == [OutcomeKind.RELEASED] * 2


# errors in a row


def fails(world: Any, *numbers: int) -> None:
    world.script.breaks.update({(number, 1): ERROR for number in numbers})


def test_after_three_failed_trials_in_a_row_a_worker_leaves_its_study(world: Any, trial: Trial) -> None:
    fails(world, 0, 1, 2)
    with pytest.raises(UnfitWorkerError, match=r"3 trials of study s in a row failed on this worker.*device lost"):
        world.run(*(trial(number) for number in range(6)), study="s")
    assert world.queue.kinds() == [OutcomeKind.ERROR] * 3
    assert len(world.queue.waiting) == 3


def test_a_success_in_between_keeps_it(world: Any, trial: Trial) -> None:
    fails(world, 0, 1, 3, 4)
    world.run(*(trial(number) for number in range(6)), study="s")
    assert world.queue.kinds().count(OutcomeKind.COMPLETE) == 2


@pytest.mark.parametrize("kind", [OutcomeKind.INFEASIBLE, OutcomeKind.CANCELLED])
def test_trials_that_end_otherwise_count_neither_way(world: Any, trial: Trial, kind: OutcomeKind) -> None:
    fails(world, 0, 2, 4)
    for number in (1, 3):
        world.script.breaks[number, 1] = Finished(trial="", outcome=Outcome(kind=kind, reason="does not fit"))
    with pytest.raises(UnfitWorkerError):
        world.run(*(trial(number) for number in range(6)), study="s")


def test_one_trial_that_fails_again_and_again_is_its_own_fault(world: Any, trial: Trial) -> None:
    world.queue.retries = 4
    world.script.steps = 0
    real, failures = world._start, iter([ERROR] * 5)

    def start(*given: Any) -> Any:
        child = real(*given)
        plan = child._plan_step

        def plan_step(name: str) -> None:
            if (failure := next(failures, None)) is None:
                plan(name)
            else:
                child.say(failure.model_copy(update={"trial": name}))

        child._plan_step = plan_step
        return child

    world._start = start
    world.run(trial(0), study="s")
    assert world.queue.kinds() == [OutcomeKind.ERROR] * 5


def test_a_study_that_ended_or_paused_for_it_is_no_fault_of_the_worker(world: Any, trial: Trial) -> None:
    fails(world, 0, 1, 2)
    world.run(trial(0), trial(1), trial(2), study="s")
    assert world.queue.kinds() == [OutcomeKind.ERROR] * 3


def test_a_worker_of_many_studies_leaves_the_one_and_serves_the_others(world: Any, trial: Trial) -> None:
    fails(world, 0, 1, 2)
    world.script.breaks[3, 1] = ERROR
    others = [trial(number).model_copy(update={"study": "other"}) for number in (10, 11)]
    world.clock.at(3000.0, lambda: setattr(world.queue, "draining", True))
    world.run(*(trial(number) for number in range(4)), *others, until_finished=False)
    assert [number for number, _ in world.queue.outcomes][:5] == [0, 1, 2, 10, 11]
    assert world.queue.outcomes[5][0] == 3, "after a while it looks at the study again"


def test_every_error_is_a_reason_to_see_whether_the_study_goes_on(world: Any, trial: Trial) -> None:
    fails(world, 0)
    world.queue.retries = 1
    world.script.seconds = 5.0
    world.run(trial(0), trial(1))
    assert any(abs(time - world.queue.times("finish")[0]) < 0.01 for time in world.janitor.advanced)


# children that are told to leave by somebody else


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_child_that_was_told_to_leave_from_outside_costs_its_trial_no_error(
    world: Any, trial: Trial, number: signal.Signals
) -> None:
    world.script.breaks[0, 2] = ChildError(f"the child process was killed by {number.name}", status=-number)
    world.run(trial(0), trial(1))
    assert world.queue.kinds() == [OutcomeKind.RELEASED, OutcomeKind.COMPLETE]
    assert len(world.children) == 2


def test_a_child_that_leaves_is_given_nothing_more(world: Any, trial: Trial) -> None:
    given_back = Outcome(kind=OutcomeKind.RELEASED, reason=LEAVING.reason)
    world.script.breaks[0, 2] = Finished(trial="", outcome=given_back)
    world.run(trial(0), trial(1))
    assert [len(child.orders(Admit)) for child in world.children] == [1, 1]
    assert world.queue.kinds() == [OutcomeKind.RELEASED, OutcomeKind.COMPLETE]


def test_a_trial_that_reached_a_child_only_as_it_left_is_given_back(world: Any, trial: Trial) -> None:
    world.script.starts_in = 100.0
    left = ChildError("the child process ended with status 0", status=0)
    world.clock.at(5.0, lambda: world.child.say(left))
    world.run(trial(0), max_trials=1)
    assert world.queue.kinds() == [OutcomeKind.RELEASED]


def test_a_trial_that_ends_its_child_with_status_0_is_at_fault(world: Any, trial: Trial) -> None:
    world.script.breaks[0, 2] = ChildError("the child process ended with status 0", status=0)
    world.run(trial(0))
    assert world.queue.kinds() == [OutcomeKind.ERROR]


def test_a_trial_whose_child_is_told_to_leave_each_time_is_charged_from_the_second_time_on(
    world: Any, trial: Trial
) -> None:
    given_back = Outcome(kind=OutcomeKind.RELEASED, reason=LEAVING.reason)
    world.script.breaks[0, 1] = Finished(trial="", outcome=given_back)
    world.run(trial(0), max_trials=1)
    worker = world.worker(max_trials=3, study="s")
    for attempt, kind in enumerate(["left", "killed", "left"], 2):
        end = ChildError("the child process was killed by SIGTERM", status=-signal.SIGTERM)
        world.queue.waiting.append(trial(0, attempt=attempt))
        world.queue.stale.clear()
        world.script.breaks[0, 1] = end if kind == "killed" else Finished(trial="", outcome=given_back)
        worker._options = replace(worker._options, max_trials=attempt - 1)
        worker.run()
    assert world.queue.kinds() == [OutcomeKind.RELEASED] * 2 + [OutcomeKind.ERROR] * 2


def test_a_worker_whose_children_are_told_to_leave_again_and_again_leaves_too(world: Any, trial: Trial) -> None:
    for number in range(3):
        world.script.breaks[number, 1] = ChildError("the child process was killed by SIGTERM", status=-signal.SIGTERM)
    with pytest.raises(UnfitWorkerError, match="SIGTERM"):
        world.run(*(trial(number) for number in range(5)), study="s")


# a device that an earlier child still holds


def test_nothing_is_claimed_while_a_process_of_an_earlier_child_holds_the_device(world: Any, trial: Trial) -> None:
    world.script.breaks[0, 1] = Failed(trial="", reason="CUDA error", fatal=True)
    held: list[int] = []
    world.device_users = lambda: held if world.clock.passed < 40 else []

    def hold() -> None:
        world.child.swept = {4711}
        held.append(4711)

    world.clock.at(1.0, hold)
    world.run(trial(0), trial(1))
    assert world.children[1].orders(Admit)[0][0] >= 40
    assert world.queue.kinds() == [OutcomeKind.ERROR, OutcomeKind.COMPLETE]


def test_the_wait_for_a_device_is_bounded_and_strangers_are_not_waited_for() -> None:
    now = [0.0]
    hold = DeviceHold(lambda: [4711, os.getpid()], lambda: now[0])
    assert not hold.held(())
    assert hold.held({4711})
    now[0] = HOLD_SECONDS
    assert hold.held({4711})
    now[0] = HOLD_SECONDS + 1
    assert not hold.held({4711})
