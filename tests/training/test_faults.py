"""A number that is none ends a run at once, wherever it first shows."""

import math

import pytest

from hpo_service.domain.trial.outcome import OutcomeKind
from hpo_service.training.run.history import SCALER_TRIES, History
from tests.training.faulty import Faults


@pytest.fixture(scope="module")
def clean(llama, data_file, tmp_path_factory):
    """The curve of a run that nothing happened to."""
    from tests.training.tiny import Trainee

    trainee = Trainee(llama, data_file, tmp_path_factory.mktemp("clean"))
    trainee.run(trainee.config(effective_batch=16))
    return [report.value for report in trainee.reports]


@pytest.mark.parametrize(
    "place, at, reason, reports",
    [
        *[("loss", at, "diverged: the training loss became nan", (at - 1) // 2) for at in (1, 2, 7)],
        *[("gradient", at, "diverged: the gradient norm became ", (at - 1) // 2) for at in (1, 4)],
        *[("evaluation", at, "diverged: the validation loss became nan", at - 1) for at in (1, 4)],
    ],
)
def test_a_number_that_is_none_prunes_at_its_step_and_spoils_no_other_trial(trainee, clean, place, at, reason, reports):
    with pytest.MonkeyPatch.context() as patch:
        Faults(patch).no_number_in(place, at)
        outcome = trainee.run(trainee.config(effective_batch=16), "bad")
    assert outcome.kind is OutcomeKind.PRUNED
    assert outcome.reason.startswith(reason)
    assert [report.value for report in trainee.reports] == clean[:reports]
    assert not outcome.restart
    if at == 1:
        trainee.run(trainee.config(effective_batch=16), "good")
        assert [report.value for report in trainee.reports] == clean


def test_one_gradient_that_is_no_number_is_enough_without_a_loss_scaler():
    history = History()
    assert history.add_norm(1e30) == ""
    assert history.add_norm(math.inf) == "diverged: the gradient norm became inf"


def test_a_loss_scaler_may_skip_steps_until_it_has_found_its_scale():
    history = History()
    answers = [history.add_norm(math.inf, SCALER_TRIES) for _ in range(SCALER_TRIES)]
    assert answers == [""] * 19 + ["diverged: the gradient norm became inf in 20 steps in a row"]
    history.add_norm(1.0, SCALER_TRIES)
    assert history.add_norm(math.nan, SCALER_TRIES) == ""
