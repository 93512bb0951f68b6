"""The lines between supervisor and child: each is read back as what it was, and nothing else is taken."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ValidationError

from hpo_service.domain.trial.config import TrialConfig
from hpo_service.domain.trial.model_facts import ModelFacts
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.domain.trial.report import Report
from hpo_service.wire.messages import (
    FROM_CHILD,
    TO_CHILD,
    Continue,
    Failed,
    Finished,
    Heartbeat,
    Reported,
    Shutdown,
    Started,
)
from tests.trials import admit, stop

CONFIG = TrialConfig(study="s", stage="search", parameters={"depth": 3}, seed=1)
ORDERS = [
    admit(CONFIG, "/out", "mine"),
    Continue(trial="search-0001"),
    stop("release", "7th of 9", "search-0001"),
    Shutdown(),
]
ANSWERS = [
    Started(trial="search-0001", models={"a/b": ModelFacts(family="llama", hidden_size=64)}),
    Reported(trial="search-0001", report=Report(step=1, fraction=0.25, value=2.5)),
    Finished(trial="search-0001", outcome=Outcome(kind=OutcomeKind.COMPLETE, reason="done", value=2.0)),
    Failed(trial="search-0001", reason="out of memory", fatal=True),
    Heartbeat(progress={"search-0001": 0.5}, activity="training"),
]


@pytest.mark.parametrize("message", ORDERS, ids=lambda message: message.type)
def test_an_order_is_read_back_as_it_was_sent(message):
    line = message.model_dump_json()
    assert "\n" not in line
    assert TO_CHILD.validate_json(line) == message


@pytest.mark.parametrize("message", ANSWERS, ids=lambda message: message.type)
def test_an_answer_is_read_back_as_it_was_sent(message):
    line = message.model_dump_json()
    assert "\n" not in line
    assert FROM_CHILD.validate_json(line) == message


@pytest.mark.parametrize("message", [*ORDERS, *ANSWERS], ids=lambda message: message.type)
def test_neither_side_takes_the_others_lines(message: BaseModel):
    wrong_side = FROM_CHILD if message in ORDERS else TO_CHILD
    with pytest.raises(ValidationError):
        wrong_side.validate_json(message.model_dump_json())


@pytest.mark.parametrize("line", ["", "{}", '{"type": "dance"}', '{"type": "shutdown", "now": true}', "Loading..."])
def test_a_line_that_is_no_message_is_refused(line):
    with pytest.raises(ValidationError):
        TO_CHILD.validate_json(line)


def test_a_failed_trial_is_tried_again_unless_that_is_pointless():
    assert Failed(trial="t", reason="r").retryable
    assert not Failed(trial="t", reason="r", retryable=False).retryable


def test_a_trial_is_named_in_messages_as_its_assignment_says():
    assert admit(CONFIG, "/out", "mine", number=3, attempt=2).trial == "mine/search-0003/2"
