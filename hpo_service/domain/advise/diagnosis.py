"""Which faults of the table a run shows."""

from __future__ import annotations

from dataclasses import dataclass

from hpo_service.domain.advise.faults import FAULTS, Fault
from hpo_service.domain.advise.run_log import RunLog
from hpo_service.domain.advise.signs import Level


@dataclass(frozen=True)
class Diagnosis:
    """A fault that was found in a run, with the figures that show it."""

    name: str
    level: Level
    evidence: str
    fault: Fault


def diagnose(log: RunLog) -> list[Diagnosis]:
    """Name all faults of a run, the worst first; one that another explains is left out."""
    found: list[Diagnosis] = []
    hidden: set[str] = set()
    for name, fault in FAULTS.items():
        seen = None if name in hidden else fault.sees(log)
        if seen is not None:
            found.append(Diagnosis(name, *seen, fault))
            hidden |= fault.hides
    order = {"severe": 0, "warning": 1, "note": 2}
    return sorted(found, key=lambda each: order[each.level])
