"""The configuration to beat must be one that can be trained."""

from __future__ import annotations

from pydantic import ValidationError

from hpo_service.domain.study.combinations import conflict
from hpo_service.domain.study.fields import StudyFields
from hpo_service.domain.study.hyperparameters import SEARCHABLE, Hyperparameters
from hpo_service.domain.study.validation import Violations


def default_can_be_read(study: StudyFields, wrong: Violations) -> None:
    """It consists of hyper-parameters, each with a value that it can have."""
    if study.confirm.default is not None:
        try:
            Hyperparameters.model_validate(study.confirm.default, strict=True)
        except ValidationError as error:
            wrong.adopt(error, "confirm", "default")


def default_can_be_trained(study: StudyFields, wrong: Violations) -> None:
    """Its values go together; what is wrong with the study is wrong with its default too, and said once."""
    if len(wrong) or study.model is None or not study.confirm.enabled:
        return
    given = {name: value for name, value in (study.confirm.default or {}).items() if name in SEARCHABLE}
    plain = {name: getattr(Hyperparameters(), name) for name in study.space.resolve().parameters.keys() & SEARCHABLE}
    plain.pop("lora_alpha", None)
    try:
        default = study.training.hyperparameters().with_values({**plain, **given})
    except ValidationError:
        return
    reason = conflict(default, study.model.quantisation)
    if reason:
        wrong.add(f"the default to compare with cannot be trained: {reason}", "confirm", "default")
