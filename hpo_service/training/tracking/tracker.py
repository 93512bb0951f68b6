"""One tracker's side of one run: what it is told, and what every tracker can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from hpo_service.domain.trial.config import TrialConfig
from hpo_service.domain.trial.outcome import Outcome
from hpo_service.wire.child import TrialLink

# Seconds a tracker's server may take to answer before the trial goes on without it.
PATIENCE_SECONDS = 30


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told when a run starts: where it belongs, what it is, and a folder of its own."""

    name: str
    group: str
    project: str
    folder: Path
    config: dict[str, Any]

    @classmethod
    def of(cls, link: TrialLink) -> TrackedRun:
        """Describe an attempt of a trial; nothing but its configuration leaves the machine."""
        config = link.config
        project = config.tracking.project if config.tracking is not None else None
        return cls(
            name=f"{link.assignment.key} attempt {link.assignment.attempt}",
            group=f"{config.study}/{config.stage}",
            project=project or config.study,
            folder=link.folder.path,
            config=flat(config),
        )


def flat(config: TrialConfig) -> dict[str, Any]:
    """Lay a trial's configuration out as one level of names, e.g. `data.max_length`."""
    sections: dict[str, Any] = {
        "stage": str(config.stage),
        "seed": config.seed,
        "model": config.model_name,
        "quantisation": config.model.quantisation if config.model else None,
        **{f"data.{name}": getattr(config.data, name) for name in ("source", "max_length") if config.data},
        **config.training.model_dump(mode="json"),
        "lora_alpha": config.training.alpha,
    }
    return {name: value for name, value in sections.items() if value is not None}


class Tracker(Protocol):
    """One tracker's side of one run."""

    def start(self, run: TrackedRun) -> None:
        """Open the run."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take the measures of an evaluation; steps rise."""

    def end(self, outcome: Outcome) -> None:
        """Close the run with how it ended."""


def open_tracker(name: str) -> Tracker:
    """The tracker that a study file calls so, not started: `TRACKER` of the module of that name beside this one."""
    tracker: Tracker = import_module(f"{__package__}.{name}").TRACKER()
    return tracker


def figures(outcome: Outcome) -> dict[str, float]:
    """The numbers of an outcome: its value, and those among its facts."""
    numbers = {name: float(fact) for name, fact in outcome.facts.flat().items() if isinstance(fact, int | float)}
    return numbers if outcome.value is None else {"value": outcome.value, **numbers}
