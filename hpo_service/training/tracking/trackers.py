"""Trackers beside the study's own database: each attempt of a trial is a run in TensorBoard, W&B or MLflow.

None of them may cost a trial anything: one that is missing or breaks is left alone from then on, with a warning.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from hpo_service.domain.study.sections.tracking import TRACKER_PACKAGES
from hpo_service.domain.trial.facts import RunFacts, WarningFacts
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.domain.trial.report import Report
from hpo_service.training.tracking.tracker import TrackedRun, Tracker, open_tracker
from hpo_service.wire.child import Stopped, TrialLink

# Seconds that a call to a tracker may take before its silence counts as the trial's.
BUSY_SECONDS = 300.0
REASON_CHARS = 300
_SECRET = re.compile(r"(KEY|TOKEN|PASSWORD|SECRET)$")
_USER_IN_ADDRESS = re.compile(r"(?<=://)[^/@\s]+(?=@)")

log = logging.getLogger(__name__)


@dataclass
class Trackers:
    """The trackers of one run; without any, everything here does nothing."""

    link: TrialLink | None = None
    open: dict[str, Tracker] = field(default_factory=dict)
    warnings: dict[str, str] = field(default_factory=dict)
    _logged: int = 0

    @classmethod
    def start(cls, link: TrialLink) -> Trackers:
        """Open a run in each tracker that the trial's study names."""
        trackers = cls(link)
        spec = link.config.tracking
        for name in spec.trackers if spec is not None else ():
            package = TRACKER_PACKAGES[name]
            found = importlib.util.find_spec(package)
            # a folder of that name, as some of them leave behind, is no package
            if found is None or found.origin is None:
                remedy = "pip install 'hpo-service[trackers]' where trials are trained"
                trackers._give_up(name, f"{package} is not installed: {remedy}")
                continue
            trackers.open[name] = open_tracker(name)
            trackers._tell("starting", lambda tracker: tracker.start(TrackedRun.of(link)), only=name)
        return trackers

    def log(self, report: Report) -> None:
        """Pass an evaluation on, once."""
        if report.step <= self._logged:
            return
        self._logged = report.step
        measures = {"value": report.value, "fraction": report.fraction, **report.metrics}
        self._tell("telling", lambda tracker: tracker.log(report.step, measures))

    def end(self, outcome: Outcome) -> Outcome:
        """Close all runs; return the outcome with what could not be told among its facts."""
        self._tell("closing", lambda tracker: tracker.end(outcome))
        self.open.clear()
        if not self.warnings:
            return outcome
        warning = "; ".join(f"{name}: {why}" for name, why in self.warnings.items())
        return outcome.model_copy(update={"facts": outcome.facts | RunFacts(warnings=WarningFacts(tracking=warning))})

    def _tell(self, doing: str, call: Callable[[Tracker], object], only: str | None = None) -> None:
        for name, tracker in list(self.open.items()):
            if only not in (None, name) or self.link is None:
                continue
            try:
                with self.link.busy(f"{doing} {name}", BUSY_SECONDS):
                    call(tracker)
            # A tracker's library and its server raise what they like; some of theirs are no Exceptions.
            except (Exception, SystemExit) as error:
                reason = scrubbed(f"{type(error).__name__}: {' '.join(str(error).split())}")
                self._give_up(name, reason[:REASON_CHARS])

    def _give_up(self, name: str, why: str) -> None:
        self.open.pop(name, None)
        self.warnings[name] = why
        log.warning("tracker %s is left out: %s", name, why)


@contextmanager
def tracked(link: TrialLink) -> Iterator[Trackers]:
    """Open the trackers of a trial; where it ends in an exception they are told so, and the exception goes on."""
    trackers = Trackers.start(link)
    try:
        yield trackers
    except BaseException as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        stopped = isinstance(error, Stopped)
        trackers.end(link.stopped() if stopped else Outcome(kind=OutcomeKind.ERROR, reason=reason))
        raise


def scrubbed(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """Take out of a message what must not be read: values of secret variables, and users in addresses."""
    for name, value in environment.items():
        if _SECRET.search(name.upper()) and len(value) > 3:
            text = text.replace(value, "***")
    return _USER_IN_ADDRESS.sub("***", text)
