"""What answers look like, for the OpenAPI document: what one can rely on; documents may say more."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Answer(BaseModel):
    """A document that may have further members."""

    model_config = ConfigDict(extra="allow")


class Problem(Answer):
    """What is wrong, and what to do about it (RFC 9457)."""

    type: str = Field(examples=["urn:hpo-service:problem:not-found"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(
        examples=["there is no study 'quikstart' (did you mean quickstart?): see `hpo-service study list`"]
    )


class Health(Answer):
    """Whether the server can work."""

    status: str = Field(examples=["ready"])


class Me(Answer):
    """Who is asking."""

    name: str = Field(examples=["grafana"])
    role: str = Field(examples=["viewer"])
    csrf_token: str = Field(description="What a browser's unsafe requests carry as X-CSRF-Token; empty for a token.")


class StudyLine(Answer):
    """A study in the list."""

    name: str = Field(examples=["quickstart"])
    state: str = Field(examples=["active"])
    reason: str = Field(examples=["created"])


class StudyState(Answer):
    """A study that was created or steered."""

    name: str = Field(examples=["quickstart"])
    state: str = Field(examples=["paused"])
    reason: str = Field(examples=["paused by grafana"])


class Study(Answer):
    """A study with its stages; times in seconds since 1970. Its trials are pages of their own."""

    name: str = Field(examples=["quickstart"])
    state: str = Field(examples=["active"])
    stages: list[dict[str, Any]]
    spec: dict[str, Any]


class Validated(Answer):
    """A study file that is right: the study with every default, and warnings."""

    warnings: list[dict[str, Any]]
    study: dict[str, Any]


class Verdict(Answer):
    """What a study found."""

    study: str
    state: str
    verdict: str
    sentence: str


class Trial(Answer):
    """One trial; with its curve and attempts where it is asked for alone."""

    study: str
    stage: str
    number: int | None
    state: str
    parameters: dict[str, Any]
    value: float | None


class TrialPage(Answer):
    """A page of trials."""

    trials: list[Trial]
    next: str | None = Field(description="The cursor of the next page; null after the last.", examples=["4711"])


class TrialState(Answer):
    """A trial that was stopped or queued again."""

    study: str
    stage: str
    number: int
    state: str


class Worker(Answer):
    """A worker; times in seconds since 1970."""

    id: str
    state: str


class Drained(Answer):
    """A worker that was asked to leave."""

    id: str
    reason: str


class Event(Answer):
    """Something that happened, and why; of which study, stage, trial and worker, if any."""

    id: int = Field(examples=[4711])
    at: float = Field(description="Seconds since 1970.")
    kind: str = Field(examples=["trial_pruned"])
    reason: str


class Token(Answer):
    """An access token, without its secret."""

    id: str
    name: str
    role: str


class MadeToken(Token):
    """A new access token; its secret is shown this once."""

    secret: str
