"""The other side of a trial's link: takes its reports, answers them, gives orders."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from hpo_service.domain.study.sections.objective import ObjectiveSpec
from hpo_service.domain.study.sections.training import TrainingSpec
from hpo_service.domain.trial.config import TrialConfig
from hpo_service.domain.trial.decision import Action
from hpo_service.domain.trial.report import Report
from hpo_service.wire.child import Channel, TrialLink
from hpo_service.wire.messages import Continue, Reported, Started, Stop
from tests.trials import admit, stop

TRIAL = "s/search-0001/1"


class Conversation:
    """Stands for the channel and the supervisor behind it.

    Attributes:
        reports: what was reported.
        started: how often the trial said that it began.
        touches: progress told with signs of life.
        busy_with: long calls that were announced.
        orders: per step, the order to stop that answers its report.
        on_report: called with each report.
    """

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.started = 0
        self.touches: list[float | None] = []
        self.busy_with: list[str] = []
        self.orders: dict[int, Stop] = {}
        self.on_report: Callable[[Report], object] = lambda _: None
        self._inbox: deque[Continue | Stop] = deque()
        self.link: TrialLink | None = None

    def order(self, action: Action = "cancel", reason: str = "stopped by hand") -> None:
        """Tell the trial to stop."""
        self._inbox.append(stop(action, reason, TRIAL))

    def send(self, message: Any) -> None:
        if isinstance(message, Started):
            self.started += 1
        if isinstance(message, Reported):
            self.reports.append(message.report)
            self.on_report(message.report)
            self._inbox.append(self.orders.get(message.report.step, Continue(trial=TRIAL)))

    def touch(self, progress: Mapping[str, float] | None, activity: str) -> None:
        self.touches.append(None if progress is None else progress[TRIAL])

    @contextmanager
    def busy(self, activity: str, limit: float) -> Iterator[None]:
        self.busy_with.append(activity)
        yield

    def hear(self, timeout: float | None) -> bool:
        if not self._inbox:
            assert timeout is not None, "the trial waits for an answer that will never come"
            return False
        assert self.link is not None
        self.link.receive(self._inbox.popleft())
        return True


@pytest.fixture
def talk() -> Conversation:
    """What is said between one trial and its supervisor."""
    return Conversation()


@pytest.fixture
def link(talk: Conversation, tmp_path: Path) -> Callable[..., TrialLink]:
    """Makes the trial's end of the conversation."""

    def link(**changes: Any) -> TrialLink:
        parameters = changes.pop("parameters", {"lr": 0.1, "optimizer": "adam"})
        objective = changes.pop("objective", ObjectiveSpec(python="m:f"))
        training = TrainingSpec(**changes)
        config = TrialConfig(
            study="s", stage="search", parameters=parameters, seed=7, objective=objective, training=training
        )
        order = admit(config, tmp_path / "attempt-1", "s", number=1)
        talk.link = TrialLink(order, cast(Channel, talk), talk.hear)
        return talk.link

    return link
