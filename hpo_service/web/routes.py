"""The table of all routes of ours with the least role of each: what is not in it is not there.

optuna-dashboard's routes are behind one more, `dashboard.Dashboard`, which reads the least role from the method.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hpo_service.domain.access import Role
from hpo_service.web import health, metrics, openapi, sessions
from hpo_service.web.api import answers, events, results, studies, tokens, trials, workers
from hpo_service.web.api.bodies import STUDY_BODY
from hpo_service.web.pages import acts, assets, home
from hpo_service.web.pages import studies as study_pages
from hpo_service.web.pages import trials as trial_pages
from hpo_service.web.pages import workers as worker_pages

VIEWER, OPERATOR, ADMIN = Role.VIEWER, Role.OPERATOR, Role.ADMIN
ANYBODY = None
"""Of routes that are open to strangers."""


@dataclass(frozen=True)
class Route:
    """One row of the table.

    Attributes:
        method: of the request.
        path: under the base path, with parameters in braces.
        least: the least role that may; None for anybody.
        handler: answers; its docstring is what the OpenAPI document says of it.
        answer: what an answer looks like: a model, a media type for what is no JSON, or None for nothing.
        status: of an answer.
        body: description of a body that the handler's parameters do not tell of.
        shown: whether the OpenAPI document tells of it; pages for browsers are not in it.
    """

    method: str
    path: str
    least: Role | None
    handler: Callable[..., Any]
    answer: Any = None
    status: int = 200
    body: dict[str, Any] = field(default_factory=dict)
    shown: bool = True


STREAM = "text/event-stream"
STUDY = "/v1/studies/{name}"
TRIAL = STUDY + "/trials/{stage}/{number}"
STUDY_PAGE = "/studies/{name}"
TRIAL_PAGE = STUDY_PAGE + "/trials/{stage}/{number}"
ACT = "/acts/{act}"

ROUTES: list[Route] = [
    # for machines that look after this one
    Route("GET", "/healthz", ANYBODY, health.alive, answers.Health),
    Route("GET", "/readyz", ANYBODY, health.ready, answers.Health),
    # load balancers ask for the status alone
    Route("HEAD", "/healthz", ANYBODY, health.alive, shown=False),
    Route("HEAD", "/readyz", ANYBODY, health.ready, shown=False),
    Route("GET", "/metrics", VIEWER, metrics.metrics, "text/plain"),
    # pages
    Route("GET", "/", VIEWER, home.home, "text/html", shown=False),
    Route("GET", STUDY_PAGE, VIEWER, study_pages.show_study_page, "text/html", shown=False),
    Route("GET", STUDY_PAGE + "/pictures", VIEWER, study_pages.show_pictures, "text/html", shown=False),
    Route("GET", STUDY_PAGE + "/trials", VIEWER, study_pages.list_trials_page, "text/html", shown=False),
    Route("GET", TRIAL_PAGE, VIEWER, trial_pages.show_trial_page, "text/html", shown=False),
    Route("GET", "/workers", VIEWER, worker_pages.show_workers_page, "text/html", shown=False),
    Route("GET", STUDY_PAGE + ACT, OPERATOR, acts.ask_study, "text/html", shown=False),
    Route("POST", STUDY_PAGE + ACT, OPERATOR, acts.act_on_study, "text/html", shown=False),
    Route("GET", TRIAL_PAGE + ACT, OPERATOR, acts.ask_trial, "text/html", shown=False),
    Route("POST", TRIAL_PAGE + ACT, OPERATOR, acts.act_on_trial, "text/html", shown=False),
    Route("GET", "/workers/{id}" + ACT, OPERATOR, acts.ask_worker, "text/html", shown=False),
    Route("POST", "/workers/{id}" + ACT, OPERATOR, acts.act_on_worker, "text/html", shown=False),
    Route("GET", "/assets/{name}", ANYBODY, assets.asset, "text/css", shown=False),
    # what optuna-dashboard's page makes browsers ask for
    Route("GET", "/favicon.ico", VIEWER, assets.icon, "image/svg+xml", shown=False),
    Route("GET", "/login", ANYBODY, sessions.login_page, "text/html", shown=False),
    Route("POST", "/login", ANYBODY, sessions.log_in, "text/html", shown=False),
    Route("POST", "/logout", VIEWER, sessions.log_out, "text/html", shown=False),
    # the API
    Route("GET", "/v1/openapi.json", VIEWER, openapi.show_openapi, shown=False),
    Route("GET", "/v1/me", VIEWER, tokens.show_me, answers.Me),
    Route("POST", "/v1/validate", VIEWER, studies.validate_study, answers.Validated, body=STUDY_BODY),
    Route("GET", "/v1/studies", VIEWER, studies.list_studies, list[answers.StudyLine]),
    Route("POST", "/v1/studies", OPERATOR, studies.create_study, answers.StudyState, 201, body=STUDY_BODY),
    Route("GET", STUDY, VIEWER, studies.show_study, answers.Study),
    Route("DELETE", STUDY, ADMIN, studies.delete_study, status=204),
    Route("POST", STUDY + "/pause", OPERATOR, studies.pause_study, answers.StudyState),
    Route("POST", STUDY + "/resume", OPERATOR, studies.resume_study, answers.StudyState),
    Route("POST", STUDY + "/drain", OPERATOR, studies.drain_study, answers.StudyState),
    Route("POST", STUDY + "/cancel", OPERATOR, studies.cancel_study, answers.StudyState),
    Route("GET", STUDY + "/verdict", VIEWER, results.show_verdict, answers.Verdict),
    Route("GET", STUDY + "/report.html", VIEWER, results.show_report, "text/html"),
    Route("GET", STUDY + "/best.yaml", VIEWER, results.show_best, "application/yaml"),
    Route("GET", STUDY + "/exports/{kind}", VIEWER, results.export_study, "application/zip"),
    Route("GET", STUDY + "/trials", VIEWER, trials.list_trials, answers.TrialPage),
    Route("GET", TRIAL, VIEWER, trials.show_trial, answers.Trial),
    Route("POST", TRIAL + "/stop", OPERATOR, trials.stop_trial, answers.TrialState),
    Route("POST", TRIAL + "/retry", OPERATOR, trials.retry_trial, answers.TrialState),
    Route("GET", STUDY + "/events", VIEWER, events.list_study_events, list[answers.Event]),
    Route("GET", STUDY + "/events/stream", VIEWER, events.follow_study_events, STREAM),
    Route("GET", TRIAL + "/events", VIEWER, events.list_trial_events, list[answers.Event]),
    Route("GET", "/v1/events", VIEWER, events.list_events, list[answers.Event]),
    Route("GET", "/v1/events/stream", VIEWER, events.follow_events, STREAM),
    Route("GET", "/v1/workers/{id}/events", VIEWER, events.list_worker_events, list[answers.Event]),
    Route("GET", "/v1/workers", VIEWER, workers.list_workers, list[answers.Worker]),
    Route("POST", "/v1/workers/{id}/drain", OPERATOR, workers.drain_worker, answers.Drained),
    Route("GET", "/v1/tokens", ADMIN, tokens.list_tokens, list[answers.Token]),
    Route("POST", "/v1/tokens", ADMIN, tokens.create_token, answers.MadeToken, 201),
    Route("DELETE", "/v1/tokens/{id}", ADMIN, tokens.revoke_token, answers.Token),
]
