"""Optuna's studies for optuna-dashboard: a storage that is read, and written only where its owner said so."""

from __future__ import annotations

from typing import Any

from hpo_service.errors import ConflictError
from hpo_service.search.enlisted import EnlistedStorage, SessionSource

WRITES = (
    "create_new_study",
    "delete_study",
    "set_study_user_attr",
    "set_study_system_attr",
    "create_new_trial",
    "set_trial_param",
    "set_trial_state_values",
    "set_trial_intermediate_value",
    "set_trial_user_attr",
    "set_trial_system_attr",
    "upgrade",
    "record_heartbeat",
    "add",
    "constrain",
)
"""What changes Optuna's tables."""


class Projection(EnlistedStorage):
    """Optuna's tables as other programs read them; their schema is looked after by our migrations."""

    def get_current_version(self) -> str:
        """Return the version of the tables."""
        return "current"

    def get_head_version(self) -> str:
        """Return the version that the installed Optuna wants, which is the same."""
        return "current"

    def get_all_versions(self) -> list[str]:
        """Return all versions that the installed Optuna knows."""
        return ["current"]


class ReadOnlyProjection(Projection):
    """The same, but every method that writes refuses, whoever calls it."""


def _refuse(*_: Any, **__: Any) -> Any:
    raise ConflictError("Optuna's studies are shown here and not changed: use this service's own commands")


for _name in WRITES:
    setattr(ReadOnlyProjection, _name, _refuse)


def projection(url: str, session_source: SessionSource, *, writes: bool = False) -> Projection:
    """Return Optuna's tables as a storage of Optuna's; without `writes` it refuses to change them."""
    return (Projection if writes else ReadOnlyProjection)(url, session_source)
