"""A log that shows one fault is named by that fault alone, and a healthy one by none."""

import json
import math

import pytest

from hpo_service.domain.advise.diagnosis import diagnose
from hpo_service.domain.advise.faults import FAULTS
from hpo_service.domain.advise.run_log import Curve, RunLog
from hpo_service.errors import DataError
from tests.unit.domain.advise.logs import FAULTY, HEALTHY, falling, log, norms


def found(state):
    return diagnose(RunLog.read(state, "log"))


@pytest.mark.parametrize("name", FAULTS)
def test_a_log_that_shows_one_fault_is_named_by_it_alone(name):
    (only,) = found(FAULTY[name])
    assert only.name == name
    assert only.evidence
    assert only.fault.remedies


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_log_has_no_fault(name):
    assert found(HEALTHY[name]) == []


def test_the_worst_is_said_first():
    state = log(falling(1.8, 0.7, 90, seed=24), [1.4, 1.2, 1.3, 1.5], norms(90, 9.0))
    assert [(each.name, each.level) for each in found(state)] == [("overfit", "severe"), ("large gradients", "warning")]


def test_a_norm_that_the_loss_scaler_skips_is_no_fault():
    given = norms(60)
    given[0] = math.inf
    assert found(log(falling(2.0, 1.2, 60), (), given)) == []
    given[-2:] = [math.nan, math.nan]
    assert [each.name for each in found(log(falling(2.0, 1.2, 60), (), given))] == ["not a number"]


def test_losses_of_zero_or_below_are_not_divided_by():
    assert [each.name for each in found(log([0.5] * 3 + [0.0] * 40, [0.4, 0.0, 0.0]))] == ["no signal"]
    assert [each.name for each in found({"log_history": [{"eval_loss": 0.0, "step": k} for k in range(4)]})] == []


def test_a_loss_as_text_is_read_as_loggers_write_it():
    state = {"log_history": [{"step": k, "loss": 1.0 if k < 5 else "NaN"} for k in range(8)]}
    (only,) = found(json.loads(json.dumps(state)))
    assert only.evidence == "the training loss is no number at step 5"


def test_steps_that_were_logged_twice_count_once():
    history = [{"step": k, "loss": 3.0} for k in range(5)] + [{"step": k, "loss": 2.0} for k in range(3, 8)]
    assert RunLog.read(history, "log").train == Curve(tuple(range(8)), (3.0, 3.0, 3.0, 2.0, 2.0, 2.0, 2.0, 2.0))


@pytest.mark.parametrize(
    "state, words",
    [
        ({}, "has no log_history"),
        ({"log_history": [1]}, "has no log_history"),
        ("text", "has no log_history"),
        ({"log_history": []}, "0 training losses and 0 evaluations, too few to judge"),
        ({"log_history": [{"step": 1, "loss": None}, {"step": 2, "loss": 1.0}]}, "1 training losses"),
        ({"log_history": [{"step": 1, "loss": [2]}]}, "entry 1 of log_history has loss [2], which is no number"),
        ({"log_history": [{"step": True, "loss": 2.0}]}, "entry 1 of log_history has step True"),
    ],
)
def test_what_is_no_log_is_refused_in_one_line(state, words):
    with pytest.raises(DataError) as refused:
        RunLog.read(state, "x.json")
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
