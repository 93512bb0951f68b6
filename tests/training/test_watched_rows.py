"""A run that is watched on a part of the validation rows, and valued on all of them, in either engine."""

from __future__ import annotations

import pytest

from hpo_service.domain.trial.outcome import OutcomeKind
from tests.training.packed.packs import Workshop, stop
from tests.training.tiny import Trainee, pairs, write_rows

WATCHED = 5


@pytest.fixture(scope="module")
def resident(llama: str, tmp_path_factory: pytest.TempPathFactory) -> Trainee:
    folder = tmp_path_factory.mktemp("watched")
    return Trainee(llama, write_rows(folder / "pairs.jsonl", pairs(120)), folder)


@pytest.fixture
def workshop(resident: Trainee, tmp_path) -> Workshop:
    return Workshop(resident, tmp_path)


def watched(workshop, rows=WATCHED, **changes):
    return workshop.config(evaluation_rows=rows, **changes)


def first_rows(scores):
    return sum(scores.nll[:WATCHED]) / sum(scores.tokens[:WATCHED])


def test_the_value_and_the_last_report_are_of_all_rows_and_the_training_is_the_same(workshop):
    outcome, part = workshop.alone(watched(workshop))
    expected, whole = workshop.alone(watched(workshop, "all"))
    assert (outcome.value, outcome.validation) == (expected.value, expected.validation)
    assert len(outcome.validation.nll) > WATCHED
    assert part[-1].value == whole[-1].value == outcome.value
    assert all(one.value != other.value for one, other in zip(part[:-1], whole[:-1], strict=True))


def test_intermediate_reports_are_of_the_first_rows_of_all(workshop):
    _, reported = workshop.alone(watched(workshop))
    crowd = workshop.run({"whole": watched(workshop, "all", evaluations_per_epoch=1), "part": watched(workshop)})
    assert crowd.curve("part") == pytest.approx([report.value for report in reported], rel=1e-5)
    # a run of one evaluation ends where the other ends: the rows that were watched are the first ones
    assert first_rows(crowd.outcome("part").validation) == pytest.approx(
        first_rows(crowd.outcome("whole").validation), rel=1e-6
    )


def test_trials_that_are_watched_on_different_rows_share_a_pack(workshop):
    configs = {
        "part": watched(workshop),
        "all": watched(workshop, "all", lora_rank=8),
        "other": watched(workshop, 9, effective_batch=12, evaluations_per_epoch=3),
    }
    crowd = workshop.run(configs)
    for name, config in configs.items():
        outcome, expected = workshop.alone(config)
        assert crowd.curve(name) == pytest.approx([report.value for report in expected], rel=1e-5)
        assert crowd.outcome(name).value == pytest.approx(outcome.value, rel=1e-5)
        assert len(crowd.outcome(name).validation.nll) == len(outcome.validation.nll)
        assert crowd.outcome(name).validation.tokens == outcome.validation.tokens


@pytest.mark.parametrize("slots", [1, 4])
def test_a_run_that_patience_ends_is_valued_on_all_rows(workshop, slots):
    config = watched(workshop, patience=1, min_improvement=5.0, evaluations_per_epoch=4)
    outcome = workshop.run({"it": config}, slots=slots).outcome("it")
    assert outcome.kind is OutcomeKind.COMPLETE
    assert outcome.reason == "no improvement of 5 in 1 evaluations"
    assert len(outcome.validation.nll) > WATCHED
    assert outcome.value == outcome.validation.mean


@pytest.mark.parametrize("slots", [1, 4])
@pytest.mark.parametrize("step", [2, 4])
def test_it_goes_on_bit_for_bit(workshop, slots, step):
    config = watched(workshop, lora_dropout=0.2)
    undisturbed = Workshop(workshop.trainee, workshop.folder / "undisturbed").run({"it": config}, slots=slots)
    released = workshop.run(
        {"it": config},
        slots=slots,
        decide=lambda trial, report: stop(trial, "release") if report.step == step else None,
    )
    resumed = workshop.run({"it": config}, slots=slots)
    assert resumed.outcome("it").facts.training.resumed_at_step > 0
    assert released.curve("it") + resumed.curve("it") == undisturbed.curve("it")
    assert resumed.outcome("it").validation == undisturbed.outcome("it").validation
    assert resumed.outcome("it").facts.training.best_value == undisturbed.outcome("it").facts.training.best_value


def test_a_checkpoint_of_a_run_that_was_watched_otherwise_is_not_resumed(workshop):
    decide = lambda trial, report: stop(trial, "release") if report.step == 2 else None  # noqa: E731
    workshop.run({"it": watched(workshop)}, decide=decide)
    facts = workshop.run({"it": watched(workshop, "all")}).outcome("it").facts
    assert facts.warnings.checkpoint_refused == "the checkpoint belongs to another configuration"


def test_ways_of_asking_for_the_same_rows_may_resume_each_other(workshop):
    decide = lambda trial, report: stop(trial, "release") if report.step == 2 else None  # noqa: E731
    workshop.run({"it": watched(workshop, "auto")}, decide=decide)
    assert workshop.run({"it": watched(workshop, "all")}).outcome("it").facts.training.resumed_at_step > 0


def test_facts_say_how_many_rows_were_watched_and_why(workshop):
    facts = workshop.run({"it": watched(workshop)}).outcome("it").facts.training
    rows = len(workshop.job().rows.validation)
    assert (facts.watched, facts.watched_reason) == (5, f"5 of {rows}: training.evaluation_rows asks for 5")
    facts = workshop.run({"it": watched(workshop, "auto")}).outcome("it").facts.training
    assert (facts.watched, facts.watched_reason) == (rows, f"all {rows}: up to 256 rows are never cut")
