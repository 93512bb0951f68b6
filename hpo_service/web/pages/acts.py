"""What may be done from a page: each act asks once on a page of its own, with a field for the reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeAlias, TypeVar
from urllib.parse import quote

from fastapi import Form, HTTPException, Request
from starlette.responses import RedirectResponse, Response

from hpo_service.bootstrap import Service
from hpo_service.domain.trial.states import StudyState, TrialEvent, TrialState, next_state
from hpo_service.service.studies.lifecycle import ALLOWED_FROM
from hpo_service.web.api.bodies import PRINTABLE, StageName, StudyName, TrialNumber, WorkerId
from hpo_service.web.authentication import Asking
from hpo_service.web.pages.page import page
from hpo_service.web.state import Asked, state_of

ActName: TypeAlias = str
T = TypeVar("T")
Reason = Annotated[str, Form(max_length=500, pattern=PRINTABLE)]


@dataclass(frozen=True)
class Act:
    """One thing that may be done to a study, a trial or a worker.

    Attributes:
        name: in paths.
        label: of its button.
        about: what it does, which is said before it is asked for.
        done: what its caller has done then, for a reason that nobody gave.
        reasoned: whether a reason is kept.
    """

    name: str
    label: str
    about: str
    done: str
    reasoned: bool = True


STUDY_ACTS: dict[str, tuple[StudyState, Act]] = {
    act.name: (state, act)
    for state, act in [
        (
            StudyState.PAUSED,
            Act("pause", "Pause", "Running trials are given back with a checkpoint; none is handed out.", "paused"),
        ),
        (
            StudyState.ACTIVE,
            Act("resume", "Resume", "Trials are handed out again; failed ones are tried again.", "resumed"),
        ),
        (StudyState.DRAINING, Act("drain", "Drain", "Running trials end; none is handed out.", "drained")),
        (
            StudyState.CANCELLED,
            Act("cancel", "Cancel study", "The study ends: running trials stop at their next report.", "cancelled"),
        ),
    ]
}
"""By name, each with the state that it brings a study into."""

TRIAL_ACTS: dict[str, tuple[TrialEvent, Act]] = {
    "stop": (
        TrialEvent.CANCEL,
        Act("stop", "Stop trial", "The trial ends at its next report. It counts against the budget.", "stopped"),
    ),
    "retry": (
        TrialEvent.RETRY,
        Act(
            "retry", "Retry trial", "The trial is queued again, from the start, under a new number.", "", reasoned=False
        ),
    ),
}
"""By name, each with what happens to the trial."""

WORKER_ACTS: dict[str, Act] = {
    "drain": Act("drain", "Drain worker", "The worker saves its trials, gives them back and exits.", "asked for")
}


def study_acts(state: StudyState) -> list[Act]:
    """Return what may be done to a study in this state."""
    return [act for to, act in STUDY_ACTS.values() if state in ALLOWED_FROM[to]]


def trial_acts(state: TrialState) -> list[Act]:
    """Return what may be done to a trial in this state."""
    return [act for event, act in TRIAL_ACTS.values() if next_state(state, event) is not None]


def ask_study(request: Request, service: Asked, name: StudyName, act: ActName) -> Response:
    """Ask whether something is to be done to a study."""
    _, asked = _found(STUDY_ACTS, act)
    service.checks.require(name)
    return _ask(request, asked, f"study {name}", f"/studies/{quote(name, safe='')}")


def act_on_study(
    request: Request, service: Asked, caller: Asking, name: StudyName, act: ActName, reason: Reason = ""
) -> Response:
    """Pause, resume, drain or cancel a study."""
    state, asked = _found(STUDY_ACTS, act)
    service.studies.steer(name, state, reason.strip() or f"{asked.done} by {caller.name}", by=caller.name)
    return _back(request, f"/studies/{quote(name, safe='')}")


def ask_trial(
    request: Request, service: Asked, name: StudyName, stage: StageName, number: TrialNumber, act: ActName
) -> Response:
    """Ask whether something is to be done to a trial."""
    _, asked = _found(TRIAL_ACTS, act)
    service.reader.record(name, stage, number)
    return _ask(request, asked, f"trial {name}/{stage} #{number}", _trial(name, stage, number))


def act_on_trial(
    request: Request,
    service: Asked,
    caller: Asking,
    name: StudyName,
    stage: StageName,
    number: TrialNumber,
    act: ActName,
    reason: Reason = "",
) -> Response:
    """Stop or retry a trial."""
    _found(TRIAL_ACTS, act)
    does: dict[str, Callable[[], object]] = {
        "stop": lambda: service.studies.stop_trial(
            name, stage, number, reason.strip() or f"stopped by {caller.name}", by=caller.name
        ),
        "retry": lambda: service.studies.retry_trial(name, stage, number, by=caller.name),
    }
    does[act]()
    # a trial that is tried again is planned, and has no number until somebody takes it
    return _back(request, _trial(name, stage, number) if act == "stop" else f"/studies/{quote(name, safe='')}")


def ask_worker(request: Request, service: Asked, id: WorkerId, act: ActName) -> Response:
    """Ask whether something is to be done to a worker."""
    asked = _found(WORKER_ACTS, act)
    _require_worker(service, id)
    return _ask(request, asked, f"worker {id}", "/workers")


def act_on_worker(
    request: Request, service: Asked, caller: Asking, id: WorkerId, act: ActName, reason: Reason = ""
) -> Response:
    """Drain a worker."""
    asked = _found(WORKER_ACTS, act)
    service.workers.drain(id, reason.strip() or f"{asked.done} by {caller.name}", by=caller.name)
    return _back(request, "/workers")


def _found(table: dict[str, T], act: str) -> T:
    if act not in table:
        raise HTTPException(404, f"nothing is called {act[:50]!r}: there is {', '.join(table)}")
    return table[act]


def _require_worker(service: Service, id: str) -> None:
    if all(worker.id != id for worker in service.workers.list_all().workers):
        raise HTTPException(404, f"there is no worker {id[:100]!r}")


def _ask(request: Request, act: Act, about: str, back: str) -> Response:
    return page(request, "ask.html", act=act, about=about, back=back)


def _back(request: Request, path: str) -> Response:
    return RedirectResponse(f"{state_of(request).options.base_path}{path}", 303)


def _trial(name: str, stage: str, number: int) -> str:
    return f"/studies/{quote(name, safe='')}/trials/{quote(stage, safe='')}/{number}"
