"""What the handlers of one server share."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated

from fastapi import Depends, Request

from hpo_service.bootstrap import Service
from hpo_service.service.studies.watch import StudyWatch
from hpo_service.web.options import ServeOptions
from hpo_service.web.pages.findings import Findings
from hpo_service.web.throttle import Throttle


@dataclass(frozen=True)
class WebState:
    """The service, how the server was started, and who was wrong about secrets lately."""

    service: Service
    options: ServeOptions
    throttle: Throttle = field(default_factory=Throttle)

    @cached_property
    def watch(self) -> StudyWatch:
        """Reads studies for all who look at them: what has ended is counted once."""
        return self.service.watch

    @cached_property
    def findings(self) -> Findings:
        """What studies found, kept until more has ended."""
        return Findings(self.service.overview, self.service.reader)


def state_of(request: Request) -> WebState:
    """Return what the application of a request was built with."""
    state: WebState = request.app.state.web
    return state


def _service_of(request: Request) -> Service:
    return state_of(request).service


Asked = Annotated[Service, Depends(_service_of)]
"""A handler's parameter that is the service."""
