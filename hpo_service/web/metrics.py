"""`/metrics` for Prometheus: counts that the database makes, kept for a few seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from fastapi import Request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from starlette.responses import Response

from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.errors import DatabaseUnavailableError, SchemaError
from hpo_service.service.counting import Counts

KEPT_SECONDS = 5.0
"""How old the numbers may be, however many ask."""


@dataclass
class Metrics:
    """The last counts, read again when they are too old."""

    read: Callable[[], Counts]
    clock: Callable[[], float] = time.monotonic
    _at: float | None = None
    _counts: Counts | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format; without a database the one that says so alone."""
        registry = CollectorRegistry()
        registry.register(_Once(self._current()))
        return generate_latest(registry)

    def _current(self) -> Counts | None:
        with self._lock:
            if self._at is None or self.clock() - self._at >= KEPT_SECONDS:
                try:
                    self._counts = self.read()
                except (DatabaseUnavailableError, SchemaError):
                    self._counts = None
                self._at = self.clock()
            return self._counts


@dataclass(frozen=True, eq=False)
class _Once:
    """A collector of counts that were made already."""

    counts: Counts | None

    def collect(self) -> Iterator[Metric]:
        yield _gauge(
            "hpo_database_up", "1 where the database answers and has this version's schema.", self.counts is not None
        )
        counts = self.counts
        if counts is None:
            return
        yield _by_state("hpo_studies", "Studies by state.", counts.studies, StudyState)
        yield _by_state("hpo_trials", "Trials by state.", counts.trials, TrialState)
        yield _by_state("hpo_workers", "Workers by state.", counts.workers)
        for name, (about, value) in SUMS.items():
            yield _gauge(name, about, value(counts))


SUMS: dict[str, tuple[str, Callable[[Counts], float]]] = {
    "hpo_expired_leases": ("Running trials whose lease is over and not yet settled.", lambda c: c.expired_leases),
    "hpo_device_seconds": ("Device time of all trials, ended attempts only.", lambda c: c.device_seconds),
    "hpo_lost_attempts": ("Attempts that ended because a worker fell silent.", lambda c: c.losses),
    "hpo_failed_attempts": ("Attempts that ended with an error.", lambda c: c.errors),
}
"""Numbers without a label. A study that is deleted takes its own with it, so none of them is a counter."""


def _by_state(name: str, about: str, found: dict[str, int], states: Iterable[str] = ()) -> Metric:
    family = GaugeMetricFamily(name, about, labels=["state"])
    for state in dict.fromkeys([*map(str, states), *sorted(found)]):
        family.add_metric([state], found.get(state, 0))
    return family


def _gauge(name: str, about: str, value: float) -> Metric:
    family = GaugeMetricFamily(name, about)
    family.add_metric([], float(value))
    return family


def metrics(request: Request) -> Response:
    """Return the metrics in Prometheus' text format."""
    return Response(request.app.state.metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})
