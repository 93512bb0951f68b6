"""Whether two studies measure the same thing, so that what one found may be believed by the other as it is."""

from __future__ import annotations

from hpo_service.domain.study.protocol import stages_of
from hpo_service.domain.study.spec import StudySpec

NOT_SEARCHED_ON = {"target", "target_revision", "trust_remote_code"}
"""What of the models has no part in what a search measures."""


def differences(one: StudySpec, other: StudySpec) -> list[str]:
    """Name what differs in what a search trial of two studies measures; nothing where it is the same."""
    both = (one, other)
    models = [study.model.model_dump(exclude=NOT_SEARCHED_ON) if study.model else None for study in both]
    found = ["model"] if models[0] != models[1] else []
    found += [name for name in ("data", "objective", "training") if getattr(one, name) != getattr(other, name)]
    shares = [next((rule.share(study) for rule in stages_of(study) if rule.proposes), 1.0) for study in both]
    found += ["the share of the rows"] if shares[0] != shares[1] else []
    judged = [(e.select, e.examples, e.max_new_tokens) if e.select else None for e in (s.evaluation for s in both)]
    return found + (["evaluation"] if judged[0] != judged[1] else [])
