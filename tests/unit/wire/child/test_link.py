"""How a trial ends that was told to stop: as was decided, whenever the order came."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from hpo_service.domain.trial.config import TrialConfig
from hpo_service.domain.trial.decision import Action
from hpo_service.domain.trial.outcome import OutcomeKind
from hpo_service.domain.trial.report import Report
from hpo_service.errors import TrialError
from hpo_service.wire.child import TrialLink
from hpo_service.wire.messages import Continue, Reported, ToTrial
from hpo_service.wire.undelivered import read_undelivered
from tests.trials import admit, stop

CONFIG = TrialConfig(study="study", stage="search", parameters={}, seed=1)
ENDS = [
    ("prune", OutcomeKind.PRUNED),
    ("cancel", OutcomeKind.CANCELLED),
    ("release", OutcomeKind.RELEASED),
    ("abandon", OutcomeKind.RELEASED),
]


class Supervisor:
    """Answers each report with what a test put down for it."""

    def __init__(self, folder: Path) -> None:
        self.inbox: deque[ToTrial] = deque()
        self.answer: Callable[[Report], ToTrial] = lambda _: Continue(trial="t")
        channel: Any = self
        (folder / "attempt-1").mkdir()
        self.link = TrialLink(admit(CONFIG, folder / "attempt-1"), channel, self.hear)

    def send(self, message: object) -> None:
        if isinstance(message, Reported):
            self.inbox.append(self.answer(message.report))

    def touch(self, *_: object) -> None: ...

    def busy(self, *_: object) -> nullcontext[None]:
        return nullcontext()

    def hear(self, timeout: float | None) -> bool:
        if self.inbox:
            self.link.receive(self.inbox.popleft())
            return True
        assert timeout is not None, "the trial waits for an answer that will never come"
        return False


@pytest.fixture
def supervisor(tmp_path: Path) -> Supervisor:
    return Supervisor(tmp_path)


def report(step: int, value: float = 1.0) -> Report:
    return Report(step=step, fraction=step / 10, value=value)


@pytest.mark.parametrize("action, kind", ENDS)
def test_an_order_that_answers_a_report_ends_the_trial_as_it_says(
    supervisor: Supervisor, action: Action, kind: OutcomeKind
) -> None:
    order = stop(action, "because")
    supervisor.answer = lambda _: order
    assert supervisor.link.report(report(1)) == order
    outcome = supervisor.link.stopped()
    assert (outcome.kind, outcome.reason) == (kind, "because")


@pytest.mark.parametrize("action, kind", ENDS)
def test_an_order_between_two_reports_ends_the_trial_as_it_says(
    supervisor: Supervisor, action: Action, kind: OutcomeKind
) -> None:
    supervisor.link.report(report(1))
    supervisor.inbox.append(stop(action, "because"))
    assert supervisor.link.stop() is not None
    assert supervisor.link.stopped().kind is kind


def test_of_two_orders_the_first_one_stands(supervisor: Supervisor) -> None:
    supervisor.inbox.extend([stop("release", "the worker leaves"), stop("cancel", "by hand")])
    supervisor.link.stop()
    outcome = supervisor.link.stopped()
    assert (outcome.kind, outcome.reason) == (OutcomeKind.RELEASED, "the worker leaves")


def test_the_measure_of_a_trial_that_stopped_is_that_of_its_last_report(supervisor: Supervisor) -> None:
    supervisor.link.report(report(1, 3.0))
    supervisor.link.report(report(2, 2.5))
    supervisor.inbox.append(stop("cancel"))
    supervisor.link.stop()
    assert supervisor.link.stopped().value == 2.5
    assert supervisor.link.stopped(value=0.0).value == 0.0


@pytest.mark.parametrize("action, kept", [("release", [2]), ("prune", [])])
def test_a_report_that_an_order_to_save_overtakes_is_kept_beside_the_checkpoint(
    supervisor: Supervisor, action: Action, kept: list[int]
) -> None:
    supervisor.link.report(report(1))
    supervisor.answer = lambda _: stop(action)
    supervisor.link.report(report(2))
    assert [each.step for each in read_undelivered(supervisor.link.folder, attempt=2)] == kept


@pytest.mark.parametrize("judged, kept", [(1, [2]), (2, [])])
def test_a_report_that_the_judgement_of_an_earlier_one_overtakes_is_kept(
    supervisor: Supervisor, judged: int, kept: list[int]
) -> None:
    supervisor.link.report(report(1))
    supervisor.answer = lambda _: stop("prune").model_copy(update={"answers": judged})
    supervisor.link.report(report(2))
    assert [each.step for each in read_undelivered(supervisor.link.folder, attempt=2)] == kept


def test_a_decision_to_go_on_is_no_order_to_stop(supervisor: Supervisor) -> None:
    supervisor.inbox.append(stop("continue"))
    supervisor.link.stop()
    with pytest.raises(TrialError, match="nobody asked"):
        supervisor.link.stopped()
