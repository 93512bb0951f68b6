"""One study's pages: what goes on in it, its pictures, and its trials."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import Query, Request
from starlette.responses import Response

from hpo_service.bootstrap import Service
from hpo_service.domain.decide.measure import measure_of
from hpo_service.domain.trial.endings import LABELS
from hpo_service.domain.trial.states import TrialState
from hpo_service.presentation.outlook import outlook, planned_stages
from hpo_service.service.studies.snapshot import StudySnapshot, TrialView
from hpo_service.web.api.bodies import MOST_ID, PRINTABLE, StudyName
from hpo_service.web.pages.acts import study_acts
from hpo_service.web.pages.page import live_page
from hpo_service.web.pages.sparkline import sparkline
from hpo_service.web.state import Asked, state_of

MOST_LIVE = 24
"""Running trials that are shown one by one."""
MOST_EVENTS = 20
MOST_TRIALS = 100
"""Trials on a page."""

CAPTIONS = {
    "interval": "Each winner against the default, with its interval: right of 0 is better.",
    "seeds": "The confirmation runs, seed by seed.",
    "bracket": "Transfer: what the target model measured at multiples of the carried-over learning rate.",
    "curves": "Learning curves of the search: the best bold, those stopped early faint.",
    "rates": "Value against learning rate; hollow: stopped early.",
}
"""What is said under each picture."""


def show_study_page(request: Request, service: Asked, name: StudyName) -> Response:
    """Show one study as it is now."""
    state = state_of(request)
    snapshot = state.watch.snapshot(name)
    return live_page(
        request,
        "study.html",
        study=snapshot,
        stages=_stages(service, snapshot),
        labels=LABELS,
        states=[state for state in LABELS if any(view.count(state) for view in snapshot.stages)],
        outlook=outlook(snapshot),
        evidence=state.findings.evidence(snapshot),
        cost=state.findings.cost(snapshot),
        **_running(service, snapshot),
        best=_best(snapshot),
        acts=study_acts(snapshot.state),
        events=service.events.list(name, last=MOST_EVENTS)[::-1],
    )


def show_pictures(request: Request, name: StudyName) -> Response:
    """Show the report's figures of a study as they are now."""
    snapshot = state_of(request).watch.snapshot(name)
    drawn = state_of(request).findings.figures(snapshot)
    return live_page(request, "pictures.html", study=snapshot, figures=drawn, captions=CAPTIONS)


def list_trials_page(
    request: Request,
    service: Asked,
    name: StudyName,
    stage: Annotated[str, Query(max_length=16, pattern=PRINTABLE)] = "",
    state: Annotated[str, Query(max_length=16, pattern=PRINTABLE)] = "",
    cursor: Annotated[int, Query(ge=0, le=MOST_ID)] = 0,
) -> Response:
    """Show the trials of a study, a page at a time."""
    states = [found for found in TrialState if found == state]
    page = service.trial_list.page(name, stage=stage or None, states=states, after=cursor, limit=MOST_TRIALS)
    snapshot = state_of(request).watch.snapshot(name)
    return live_page(
        request,
        "trials.html",
        study=snapshot,
        trials=page.trials,
        next=page.next,
        stage=stage,
        state=state,
        cursor=cursor,
        labels=LABELS,
    )


def dashboard_id(service: Service, study: str, stage: str) -> int | None:
    """Return the id under which optuna-dashboard shows a stage, None where it has none."""
    return service.projection(writes=False).find_study(f"{study}/{stage}")


def _stages(service: Service, snapshot: StudySnapshot) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "view": (view := snapshot.stage(name)),
            "planned": view.budget if view else planned,
            "optuna": dashboard_id(service, snapshot.name, name) if view else None,
        }
        for name, planned in planned_stages(snapshot.spec).items()
    ]


def _running(service: Service, snapshot: StudySnapshot) -> dict[str, Any]:
    """The running trials, each with what its worker has and its curve."""
    listed = [(view.stage, t) for view in snapshot.stages for t in view.trials if t.state is TrialState.RUNNING]
    shown = listed[:MOST_LIVE]
    curves = service.overview.curves([trial.id for _, trial in shown])
    devices = service.workers.devices([trial.worker for _, trial in shown if trial.worker])
    rows = [
        {
            "stage": stage,
            "trial": trial,
            "devices": devices.get(trial.worker or "", ""),
            "spark": sparkline([report.value for report in curves.get(trial.id, [])]),
        }
        for stage, trial in shown
    ]
    reported = "Value" if measure_of(snapshot.spec).known_on_the_way else "Loss"
    return {"running": rows, "not_shown": len(listed) - len(shown), "reported": reported}


def _best(snapshot: StudySnapshot) -> tuple[str, TrialView] | None:
    direction = snapshot.spec.search.direction
    found: Iterable[tuple[str, TrialView]] = (
        (view.stage, best) for view in reversed(snapshot.stages) if (best := view.best(direction)) is not None
    )
    return next(iter(found), None)
