"""Whether two studies measure the same thing, so that what one found may be believed by the other as it is."""

from __future__ import annotations

from hpo_service.domain.study.spec import StudySpec


def differences(one: StudySpec, other: StudySpec) -> list[str]:
    """Name what differs in what a search trial of two studies measures; nothing where it is the same."""
    models = [study.model.base if study.model else None for study in (one, other)]
    found = ["model"] if models[0] != models[1] else []
    found += [name for name in ("data", "objective", "training") if getattr(one, name) != getattr(other, name)]
    return found + (["evaluation.select"] if one.evaluation.select != other.evaluation.select else [])
