"""What happens to one trial of a pack changes no number of another."""

import math

import pytest

from hpo_service.domain.trial.outcome import OutcomeKind
from tests.training.packed.packs import Workshop, slot_of, stop


@pytest.fixture
def alone(workshop):
    """Curves of trials that were packed with nobody."""

    def curve(config):
        return Workshop(workshop.trainee, workshop.folder / "alone").run({"it": config}).curve("it")

    return curve


def test_a_trial_does_not_notice_neighbours_that_diverge_end_are_replaced_or_made_room_for(workshop, passage, alone):
    config = workshop.config(lora_dropout=0.1, target_modules="attention", epochs=2)
    some = {"target_modules": "attention", "evaluations_per_epoch": 8}
    first = {
        "spoiled": workshop.config(**some),
        "it": config,
        "wild": workshop.config(lora_rank=3, **some),
        "pruned": workshop.config(lora_rank=2, **some),
        "cancelled": workshop.config(**some),
        "released": workshop.config(seed=3, **some),
    }
    later = {
        12: {"higher": workshop.config(lora_rank=32, effective_batch=27)},
        15: {"wider": workshop.config(target_modules="all-linear", effective_batch=27, lora_dropout=0.5)},
    }

    def spoil(number, pack, shares):
        for trial, at, value in (("spoiled", 3, math.nan), ("wild", 4, math.inf)):
            if number == at:
                pack.stack.weight[slot_of(pack, trial).index] = value

    passage.before = spoil

    def decide(trial, report):
        if (trial, report.step) == ("pruned", 2):
            return stop(trial, "prune")
        return stop(trial, "release") if (trial, report.step) == ("released", 3) else None

    def told(crowd, message):
        if message.type == "report" and message.trial == "it" and message.report.step == 3:
            crowd.inbox.append(stop("cancelled", "cancel"))

    crowd = workshop.run(first, decide=decide, later=later, told=told, slots=6)
    kinds = {trial: crowd.outcome(trial).kind for trial in (*first, "higher", "wider")}
    assert kinds == {
        "spoiled": OutcomeKind.PRUNED,
        "it": OutcomeKind.COMPLETE,
        "wild": OutcomeKind.PRUNED,
        "pruned": OutcomeKind.PRUNED,
        "cancelled": OutcomeKind.CANCELLED,
        "released": OutcomeKind.RELEASED,
        "higher": OutcomeKind.COMPLETE,
        "wider": OutcomeKind.COMPLETE,
    }
    assert crowd.outcome("spoiled").reason == "diverged: the training loss became nan"
    assert crowd.outcome("wild").reason == "diverged: the training loss became nan"
    assert max(passage.sizes) == 6
    assert passage.sizes[-1] == 1
    assert crowd.curve("it") == pytest.approx(alone(config), rel=1e-6)
    # those that came into the middle of it are as they are alone, too
    for trial, admitted in {**later[12], **later[15]}.items():
        assert crowd.curve(trial) == pytest.approx(alone(admitted), rel=1e-6)


def test_a_place_that_was_left_holds_nothing_of_who_had_it(workshop, passage):
    config = workshop.config(effective_batch=27, evaluations_per_epoch=2)

    def spoil(number, pack, shares):
        if number == 2:
            for buffer in (pack.stack.weight, pack.stack.first, pack.stack.second, pack.stack.grad):
                buffer[slot_of(pack, "bad").index] = math.nan

    passage.before = spoil
    first = {"bad": config, "stays": workshop.config(epochs=2)}
    crowd = workshop.run(first, later={1: {"next": config}}, slots=2)
    assert crowd.outcome("bad").kind is OutcomeKind.PRUNED
    # the third took the place of the first: no other room was made
    assert passage.rooms[0] == max(passage.rooms) == 2
    passage.before = lambda number, pack, shares: None
    untouched = Workshop(workshop.trainee, workshop.folder / "untouched")
    assert crowd.curve("next") == pytest.approx(untouched.run({"next": config}).curve("next"), rel=1e-6)


def test_a_gradient_that_is_no_number_ends_its_own_trial_alone(workshop, passage):
    def spoil(number, pack, shares):
        if number == 1:
            pack.stack.grad[slot_of(pack, "bad").index, 0] = math.inf

    passage.before = spoil
    config = workshop.config(effective_batch=16, evaluations_per_epoch=2)
    crowd = workshop.run({"bad": config, "good": config})
    assert crowd.outcome("bad").kind is OutcomeKind.PRUNED
    assert crowd.outcome("bad").reason.startswith("diverged: the gradient norm became")
    assert crowd.outcome("good").kind is OutcomeKind.COMPLETE
