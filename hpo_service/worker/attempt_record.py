"""What an attempt was about, as a file in its folder says: who may take over its checkpoint is decided by it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Self

from hpo_service.domain.trial.assignment import Assignment
from hpo_service.domain.trial.config import TrialConfig
from hpo_service.wire.attempt_folder import AttemptFolder

CLAIM = "claim"
"""Key of what is not configuration: which trial it is, and how often it had failed. Earlier versions wrote none."""

UNDECISIVE = {
    "memory_correction": "measured anew at each claim; decides micro-batches, which change no step",
}
"""Fields of a configuration in which attempts of one trial may differ; all others decide whose checkpoint it is."""


@dataclass(frozen=True)
class AttemptRecord:
    """One attempt's configuration, without its defaults; its trial's identity, and attempts of it that had failed."""

    configuration: dict[str, Any]
    trial: str = ""
    failures: int | None = None

    @classmethod
    def of(cls, assignment: Assignment) -> Self:
        """Describe an attempt that was just claimed."""
        return cls(_plain(assignment.config), assignment.identity, assignment.failures)

    @classmethod
    def read(cls, folder: AttemptFolder) -> Self | None:
        """Read what lies in an attempt's folder; None where there is nothing that can be read."""
        try:
            stored = json.loads(folder.configuration.read_text())
            claim = stored.pop(CLAIM, {})
            return cls(stored, claim.get("trial", ""), claim.get("failures"))
        except (OSError, ValueError, TypeError, AttributeError):
            return None

    def write(self, folder: AttemptFolder) -> None:
        """Write it into the attempt's folder; raises OSError."""
        claim = {CLAIM: {"trial": self.trial, "failures": self.failures}} if self.trial else {}
        text = json.dumps({**self.configuration, **claim}, separators=(",", ":"))
        folder.configuration.write_text(text)

    def is_of_another_trial(self, earlier: AttemptRecord) -> bool:
        """Whether both say which trial they are of, and not of the same: a study was deleted in between."""
        return bool(self.trial and earlier.trial and self.trial != earlier.trial)

    def may_take_over(self, earlier: AttemptRecord | None) -> bool:
        """Whether that attempt's checkpoint is one of this very run."""
        if earlier is None or self.is_of_another_trial(earlier):
            return False
        return _decisive(self.configuration) == _decisive(earlier.configuration)


def _plain(config: TrialConfig) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(config.model_dump_json(exclude_defaults=True))
    return plain


def _decisive(configuration: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in configuration.items() if name not in UNDECISIVE}
