"""A trial on a share of the rows: the same rows whoever asks, a whole schedule for them, in either engine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo_service.training.run.job import rows_of_share
from tests.training.packed.packs import Workshop, stop
from tests.training.tiny import Trainee


@pytest.fixture(scope="module")
def resident(llama: str, data_file: str, tmp_path_factory: pytest.TempPathFactory) -> Trainee:
    return Trainee(llama, data_file, tmp_path_factory.mktemp("resident"))


@pytest.fixture
def workshop(resident: Trainee, tmp_path) -> Workshop:
    return Workshop(resident, tmp_path)


def on_share(workshop, share, **changes):
    return workshop.config(**changes).model_copy(update={"share": share})


@given(st.floats(0, 1, exclude_min=True), st.floats(0, 1, exclude_min=True), st.integers(1, 10**7))
def test_there_is_at_least_a_row_never_more_than_all_and_a_smaller_share_has_no_more(one, other, rows):
    small, large = sorted((one, other))
    assert 1 <= rows_of_share(small, rows) <= rows_of_share(large, rows) <= rows == rows_of_share(1.0, rows)


@pytest.mark.parametrize("share, rows", [(0.1, 30), (1 / 3, 100), (0.25, 75)])
def test_rounding_asks_for_no_row_more(share, rows):
    assert rows_of_share(share, 300) == rows


def test_rows_are_the_first_of_all_whatever_the_trials_seed(workshop):
    whole = workshop.job(workshop.config())
    assert whole.train is whole.rows.train
    for seed in (1, 2):
        job = workshop.job(on_share(workshop, 0.5, seed=seed))
        assert len(job.train) == rows_of_share(0.5, len(whole.train)) < len(whole.train)
        for row, same in zip(job.train, whole.train, strict=False):
            assert (row.ids.tolist(), row.labels.tolist()) == (same.ids.tolist(), same.labels.tolist())


def test_the_schedule_and_the_evaluations_are_whole_for_these_rows(workshop):
    whole, half = workshop.job(workshop.config()).plan, workshop.job(on_share(workshop, 0.5)).plan
    assert half.steps == pytest.approx(whole.steps / 2, abs=1)
    assert (half.evaluations, half.fraction(half.evaluations)) == (whole.evaluations, 1.0)
    assert max(step for step in range(1, half.steps + 1) if half.due(step)) == half.steps


def test_memory_is_estimated_as_for_all_rows(workshop):
    assert workshop.job(on_share(workshop, 0.1)).need == workshop.job(workshop.config()).need


def test_both_engines_train_on_the_share_and_say_on_how_many_rows(workshop):
    half = on_share(workshop, 0.5, lora_dropout=0.0, weight_decay=0.1)
    outcome, expected = workshop.alone(half)
    crowd = workshop.run({"half": half, "all": workshop.config(lora_dropout=0.0), "third": on_share(workshop, 0.3)})
    assert crowd.curve("half") == pytest.approx([report.value for report in expected], rel=1e-5)
    trained = {name: crowd.outcome(name).facts.training for name in ("half", "all", "third")}
    assert trained["half"].rows == outcome.facts.training.rows == rows_of_share(0.5, trained["all"].rows)
    assert trained["half"].tokens == outcome.facts.training.tokens < trained["all"].tokens
    assert all(crowd.outcome(name).facts.environment.engine == "packed" for name in trained)


@pytest.mark.parametrize("slots", [1, 4])
def test_a_trial_on_a_share_goes_on_bit_for_bit(workshop, slots):
    half = on_share(workshop, 0.6, lora_dropout=0.2)
    whole = Workshop(workshop.trainee, workshop.folder / "undisturbed").run({"it": half}, slots=slots)
    released = workshop.run(
        {"it": half}, slots=slots, decide=lambda trial, report: stop(trial, "release") if report.step == 2 else None
    )
    resumed = workshop.run({"it": half}, slots=slots)
    assert resumed.outcome("it").facts.training.resumed_at_step > 0
    assert released.curve("it") + resumed.curve("it") == whole.curve("it")
    assert resumed.outcome("it").validation == whole.outcome("it").validation


def test_a_checkpoint_of_another_share_is_not_resumed(workshop):
    decide = lambda trial, report: stop(trial, "release") if report.step == 2 else None  # noqa: E731
    workshop.run({"it": on_share(workshop, 0.6)}, decide=decide)
    facts = workshop.run({"it": on_share(workshop, 0.5)}).outcome("it").facts
    assert facts.warnings.checkpoint_refused == "the checkpoint belongs to another configuration"


def test_pieces_of_a_model_from_scratch_are_cut_from_the_share(trainee):
    changes = {"method": "scratch", "scratch_width": 32, "scratch_layers": 1, "scratch_heads": 2, "scratch_length": 16}
    config = trainee.config(model="builtin:bytes", evaluations_per_epoch=1, **changes)
    half = config.model_copy(update={"share": 0.5})
    whole = trainee.run(config, "whole").facts.training
    cut = trainee.run(half, "half").facts.training
    assert 0 < cut.rows < whole.rows
    assert cut.tokens < whole.tokens
