"""Trials as a supervisor admits them, each with a study of its own, by whose name tests call it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from hpo_service.domain.trial.assignment import Assignment, Lease
from hpo_service.domain.trial.config import TrialConfig
from hpo_service.domain.trial.decision import Action, Decision
from hpo_service.wire.messages import Admit, Stop


def assignment(config: TrialConfig, trial: str = "t", **changes: Any) -> Assignment:
    """A claimed trial with this configuration."""
    given = {"study": trial, "number": 0, "attempt": 1, "lease_seconds": 60.0, "hang_seconds": 600.0}
    lease = Lease(trial_id=1, token=1)
    return Assignment(lease=lease, stage=config.stage, config=config, **{**given, **changes})


def admit(config: TrialConfig, folder: Path | str, trial: str = "t", **changes: Any) -> Admit:
    """The order to run it in this folder."""
    return Admit(assignment=assignment(config, trial, **changes), folder=Path(folder))


def full_name(trial: str) -> str:
    """The trial's name in messages."""
    return f"{trial}/search-0000/1"


def short(message: Any) -> Any:
    """The message with the short name of its trial, if it is about one."""
    return _renamed(message, lambda trial: trial.partition("/")[0])


def full(message: Any) -> Any:
    """The message with the full name of its trial, if it is about one."""
    return _renamed(message, lambda trial: trial if "/" in trial else full_name(trial))


def _renamed(message: Any, name: Any) -> Any:
    if not isinstance(message, BaseModel) or "trial" not in type(message).model_fields:
        return message
    return message.model_copy(update={"trial": name(message.trial)})


def stop(action: Action, reason: str = "for a test", trial: str = "t") -> Stop:
    """An order to stop."""
    return Stop(trial=trial, decision=Decision(action=action, reason=reason))
