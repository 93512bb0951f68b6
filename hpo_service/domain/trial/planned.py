"""A trial to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hpo_service.domain.study.search_space import ParameterValue

CARRIED, EXTENDED = "carried", "extended"
"""Roles of a configuration carried over: in the bracket as it was planned, and beyond its edge."""
CONTROL = "control"
"""Role of a trial that is only there to be compared with: it stops nobody, is never stopped, and never chosen."""


@dataclass(frozen=True)
class PlannedTrial:
    """A trial to be: its configuration, and what it is for.

    Attributes:
        role: what the trial is for: search, carried, control, winner, default, ...
        parameters: the values it runs with.
        seed: of its training.
        label: a short name for people; trials of one configuration share it.
        reason: why it is run so.
        origin_id: the trial whose configuration was carried over.
        score_test: whether the test rows are scored.
        keep_adapter: whether its adapter is kept.
        dedupe_key: set where no other trial of the stage may have the same.
        share: of the training rows that it is trained on, above 0 and up to 1; its schedule is whole for those.
    """

    role: str
    parameters: Mapping[str, ParameterValue]
    seed: int
    label: str = ""
    reason: str = ""
    origin_id: int | None = None
    score_test: bool = False
    keep_adapter: bool = False
    dedupe_key: str | None = None
    share: float = 1.0
