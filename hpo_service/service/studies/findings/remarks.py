"""What a reader of a study's findings must know besides, in sentences."""

from __future__ import annotations

from collections.abc import Mapping

from hpo_service.domain.decide.selection import Choice
from hpo_service.domain.study.direction import Direction
from hpo_service.domain.study.search_space import ParameterValue
from hpo_service.domain.study.spec import StudySpec
from hpo_service.service.studies.snapshot import StudySnapshot


def why_unconfirmed(snapshot: StudySnapshot) -> str:
    """Say why the best of a study was not compared with the default."""
    confirm = snapshot.where(lambda rule: rule.compares)
    if confirm is not None and not confirm.open:
        return "no run of the confirm stage ended with a finite value"
    if not snapshot.spec.confirm.enabled:
        return "confirm is switched off in the study file: the best of many is usually not as good as it looks"
    if snapshot.state.final:
        return f"the study ended before its confirm stage: {snapshot.reason}"
    return "the confirm stage has not measured anything yet"


def outside(spec: StudySpec, default: Mapping[str, ParameterValue]) -> list[str]:
    """Say of each value of the default that the search could not come upon it."""
    return [f"the default's {one}" for one in spec.space.resolve().outside(dict(default))]


def beyond_limits(broken: Mapping[str, str]) -> list[str]:
    """Say which configurations are not recommended because a run of theirs broke a limit, by their labels."""
    return [f"{label} is not recommended, since it broke a limit: {why}" for label, why in broken.items()]


def handed_over(seed: int, choice: Choice, direction: Direction) -> str:
    """Say why the run with this seed is handed over, the best of those that were chosen."""
    best = f"{choice.chosen[0].value:.4f}"
    return f"seed {seed} has the {direction.superlative} validation value of {len(choice.chosen)}: {best}"
