"""Where else runs are reported to while they are trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from hpo_service.domain.study.sections.section import Section

TRACKER_PACKAGES: dict[str, str] = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}
"""Trackers that a study file may name, and the package that each needs where trials are trained.

Each is a module of that name in `training/tracking`, which gives its class as `TRACKER`.
"""

if TYPE_CHECKING:
    TrackerName = str
else:
    TrackerName = Literal[tuple(TRACKER_PACKAGES)]


class TrackingSpec(Section):
    """Trackers beside the study's own database; each attempt of a trial is a run in them.

    Addresses and keys come from the variables that each tracker documents (WANDB_API_KEY, MLFLOW_TRACKING_URI, ...),
    set where workers are started; they never stand in a study file.
    """

    trackers: list[TrackerName] = Field(
        default=[], description="Who is told of every evaluation; needs the extra `trackers`."
    )
    project: str | None = Field(
        default=None,
        min_length=1,
        max_length=128,
        description="Project (W&B) or experiment (MLflow); left out, the study's name.",
    )

    @field_validator("trackers")
    @classmethod
    def _each_once(cls, trackers: list[str]) -> list[str]:
        if len(set(trackers)) < len(trackers):
            raise ValueError("names a tracker twice; drop one")
        return trackers
