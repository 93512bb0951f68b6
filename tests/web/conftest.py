"""A server's application over a database with one study, and somebody of every role."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from hpo_service.bootstrap import Service
from hpo_service.domain.access import Role
from hpo_service.domain.trial.assignment import Assignment
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.domain.trial.report import Report
from hpo_service.settings import Settings
from hpo_service.web.api.events import Streams
from hpo_service.web.app import build_app
from hpo_service.web.door import Door
from hpo_service.web.options import ServeOptions
from hpo_service.web.throttle import Throttle
from tests.web.asking import Asker

STUDY = """\
name: {name}
objective: {{python: "nobody:calls_it"}}
space: {{parameters: {{x: {{low: 0.0, high: 1.0}}}}}}
search: {{sampler: random, pruner: none, budget: {{trials: {trials}}}}}
confirm: {{enabled: false}}
"""


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Site:
    """A server's application, and who may ask it."""

    service: Service
    options: ServeOptions = field(default_factory=ServeOptions)
    clock: Clock = field(default_factory=Clock)
    # whoever walks all routes shall not stay on one
    streams: Streams = field(default_factory=lambda: Streams(seconds=0.0))

    def __post_init__(self) -> None:
        self.app: Door = build_app(
            self.service, self.options, throttle=Throttle(self.clock), background=False, streams=self.streams
        )
        self.stranger = Asker(self.app)
        self.secrets = {role: self.service.access.issue(f"the {role}", role).secret for role in Role}
        self.viewer, self.operator, self.admin = (self.of(role) for role in Role)

    def of(self, role: Role | None) -> Asker:
        """Somebody of this role; a stranger without one."""
        return self.stranger if role is None else self.stranger.by(self.secrets[role])

    def claim(self, study: str) -> Assignment:
        """Have worker `w1` take a trial."""
        with self.service.db.transaction():
            self.service.worker_rows.register("w1", "host", 1, "0", "cpu")
        assignment = self.service.queue.claim("w1", study)
        assert assignment is not None
        return assignment

    def run(self, study: str, value: float = 0.5, kind: OutcomeKind = OutcomeKind.COMPLETE) -> Assignment:
        """Have it run one to its end."""
        assignment = self.claim(study)
        self.service.queue.report(assignment.lease, Report(step=1, fraction=1.0, value=value))
        self.service.queue.finish(assignment.lease, Outcome(kind=kind, value=value, reason="for a test"))
        return assignment


def study_file(name: str = "mine", trials: int = 5) -> str:
    return STUDY.format(name=name, trials=trials)


on_both = pytest.mark.parametrize("site_url", ["migrated_sqlite", "migrated_postgres"], indirect=True)
"""Of tests that ask something of the database in its own words, or send it what it may not take."""


@pytest.fixture
def site_url(request: pytest.FixtureRequest) -> str:
    """URL of the database; a test names another kind by the fixture that makes it."""
    url: str = request.getfixturevalue(getattr(request, "param", "migrated_sqlite"))
    return url


@pytest.fixture
def sites(site_url: str) -> Iterator[Callable[..., Site]]:
    """Makes applications over one database."""
    service = Service(Settings.read(storage=site_url), connections=4)
    service.db  # noqa: B018 - made before threads ask for it

    def make(**options: Any) -> Site:
        return Site(service, ServeOptions(**options))

    yield make
    service.db.dispose()


@pytest.fixture
def site(sites: Callable[..., Site]) -> Site:
    """One with a study, `mine`, of five trials."""
    made = sites()
    assert made.operator("POST", "/v1/studies", study_file()).status == 201
    return made
