"""A configuration that was measured, with its runs: a seed each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from hpo_service.domain.study.search_space import ParameterValue
from hpo_service.domain.trial.states import TrialState

LOST = (TrialState.PRUNED, TrialState.INFEASIBLE)
"""What became of a run that tells against its configuration; failed and cancelled ones tell nothing."""
LOST_SHARE = 3
"""A configuration that fails in one of so many seeds is never called better."""


@dataclass(frozen=True)
class Run:
    """One run of a configuration: a seed, and what it measured; None where it has no (finite) value."""

    trial_id: int
    number: int | None
    seed: int
    state: TrialState
    validation: float | None
    test: float | None
    adapter: str | None
    reason: str
    metrics: dict[str, float] = field(default_factory=dict)
    violated: str = ""


@dataclass(frozen=True)
class Configuration:
    """One configuration with its runs, in the order of their seeds."""

    label: str
    parameters: dict[str, ParameterValue]
    runs: list[Run]
    origin_id: int | None = None

    @property
    def validation(self) -> float | None:
        """Mean validation value over the seeds that ended."""
        return _mean(run.validation for run in self.runs)

    @property
    def test(self) -> float | None:
        """Mean test value over the seeds that were scored on the test rows."""
        return _mean(run.test for run in self.runs)

    @property
    def lost(self) -> list[Run]:
        """The runs that diverged or did not fit; what failed or was cancelled says nothing about a configuration."""
        return [run for run in self.runs if run.state in LOST]

    @property
    def unreliable(self) -> bool:
        """Whether it failed in a third of its seeds or more: what the others measured is no fair account of it."""
        return bool(self.lost) and len(self.lost) * LOST_SHARE >= len(self.runs)

    @property
    def violated(self) -> str:
        """Which limit the first of its runs broke that broke one, in words; such a configuration is not recommended."""
        return next((run.violated for run in self.runs if run.violated), "")

    @property
    def metrics(self) -> dict[str, float]:
        """Mean over the seeds of each task metric that was measured."""
        names = dict.fromkeys(name for run in self.runs for name in run.metrics)
        means = {name: _mean(run.metrics.get(name) for run in self.runs) for name in names}
        return {name: mean for name, mean in means.items() if mean is not None}


def _mean(values: Iterable[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None
