"""A packed trial that was interrupted goes on as if nothing had happened, in a pack and nowhere else."""

import pytest

from hpo_service.domain.trial.outcome import OutcomeKind
from tests.training.packed.packs import Workshop, reports, stop


class Killed(BaseException):
    """What no part of the engine catches."""


def dropping(workshop, **changes):
    return workshop.config(lora_dropout=0.2, effective_batch=12, weight_decay=0.1, **changes)


@pytest.fixture
def undisturbed(workshop):
    """The curve of a trial that nothing happened to, and its last scores."""
    crowd = Workshop(workshop.trainee, workshop.folder / "undisturbed").run({"it": dropping(workshop)})
    return crowd.curve("it"), crowd.outcome("it").validation


@pytest.mark.parametrize("order", ["curriculum", "progressive"])
def test_a_trial_goes_on_in_the_order_of_its_rows(workshop, order):
    whole = Workshop(workshop.trainee, workshop.folder / "whole").run({"it": dropping(workshop, order=order)})
    decide = lambda trial, report: stop(trial, "release") if report.step == 2 else None  # noqa: E731
    first = workshop.run({"it": dropping(workshop, order=order)}, decide=decide)
    second = workshop.run({"it": dropping(workshop, order=order)})
    assert second.outcome("it").facts.training.resumed_at_step == 3
    assert first.curve("it") + second.curve("it") == whole.curve("it")


def test_a_trial_that_was_released_goes_on_bit_for_bit(workshop, undisturbed):
    decide = lambda trial, report: stop(trial, "release") if report.step == 2 else None  # noqa: E731
    first = workshop.run({"it": dropping(workshop)}, decide=decide)
    assert first.outcome("it").kind is OutcomeKind.RELEASED
    second = workshop.run({"it": dropping(workshop)})
    assert second.outcome("it").facts.training.resumed_at_step == first.outcome("it").facts.training.steps == 3
    assert (first.curve("it") + second.curve("it"), second.outcome("it").validation) == undisturbed
    tokens = Workshop(workshop.trainee, workshop.folder / "u").run({"it": dropping(workshop)}).outcome("it").facts
    assert second.outcome("it").facts.training.tokens == tokens.training.tokens
    assert "checkpoint_refused" not in second.outcome("it").facts.flat()


def test_a_trial_whose_process_died_goes_on_bit_for_bit_from_its_checkpoint(workshop, passage, undisturbed):
    def kill(number, pack, shares):
        if number == 8:
            raise Killed

    passage.sizes.clear()
    passage.before = kill
    with pytest.raises(Killed):
        workshop.run({"it": dropping(workshop)})
    passage.before = lambda number, pack, shares: None
    crowd = workshop.run({"it": dropping(workshop)})
    resumed_at = crowd.outcome("it").facts.training.resumed_at_step
    assert 0 < resumed_at < crowd.outcome("it").facts.training.steps
    assert crowd.curve("it") == undisturbed[0][-len(crowd.curve("it")) :]
    assert crowd.outcome("it").validation == undisturbed[1]


def test_a_trial_goes_on_in_other_company_within_rounding(workshop, undisturbed):
    decide = lambda trial, report: stop(trial, "release") if report.step == 2 else None  # noqa: E731
    first = workshop.run({"it": dropping(workshop), "a": dropping(workshop, seed=1)}, decide=decide)
    other = workshop.config(lora_rank=16, effective_batch=9, evaluations_per_epoch=1)
    second = workshop.run({"b": other, "it": dropping(workshop), "c": other})
    assert first.curve("it") + second.curve("it") == pytest.approx(undisturbed[0], rel=1e-6)


def test_a_trial_that_had_made_its_last_step_is_only_scored(workshop, passage):
    decide = lambda trial, report: stop(trial, "release") if report.step == 4 else None  # noqa: E731
    first = workshop.run({"it": dropping(workshop)}, decide=decide)
    ticks = len(passage.sizes)
    second = workshop.run({"it": dropping(workshop)})
    assert len(passage.sizes) == ticks
    assert second.curve("it") == []
    assert second.outcome("it").kind is OutcomeKind.COMPLETE
    assert second.outcome("it").validation.mean == pytest.approx(first.curve("it")[-1], rel=1e-9)


@pytest.mark.parametrize("engines", [("packed", "solo"), ("solo", "packed")])
def test_a_checkpoint_is_refused_by_the_other_engine_which_starts_anew(workshop, engines):
    config = workshop.config(effective_batch=27, evaluations_per_epoch=2)
    slots = {"packed": 2, "solo": 1}
    decide = lambda trial, report: stop(trial, "release") if report.step == 1 else None  # noqa: E731
    first = workshop.run({"it": config}, slots=slots[engines[0]], decide=decide)
    assert first.outcome("it").kind is OutcomeKind.RELEASED
    second = workshop.run({"it": config}, slots=slots[engines[1]])
    assert second.outcome("it").facts.warnings.checkpoint_refused == "the checkpoint belongs to another engine"
    assert second.outcome("it").facts.training.resumed_at_step == 0
    assert [report.step for report in reports(second, "it")] == [1, 2]
