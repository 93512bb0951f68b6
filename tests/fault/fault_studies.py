"""Study specifications of the fault tests."""

from __future__ import annotations

from objectives import STEPS

from hpo_service.domain.study.spec import StudySpec


def spec_of(name: str, objective: str, *, trials: int, lease: float = 20.0, confirmed: bool = False) -> StudySpec:
    """A study of an own objective over three continuous parameters."""
    return StudySpec.model_validate(
        {
            "name": name,
            "objective": {"python": objective},
            "space": {"parameters": {p: {"type": "float", "low": 0.0, "high": 1.0} for p in ("x", "y", "z")}},
            "search": {"budget": {"trials": trials}, "pruner": "none"},
            "training": {"evaluations_per_epoch": STEPS},
            "execution": {"lease_seconds": lease},
            "confirm": {"enabled": confirmed, "seeds": 2, "default": {"x": 0.5}},
        }
    )
