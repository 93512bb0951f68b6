"""The configuration to beat: what somebody would run who does not search."""

from __future__ import annotations

from collections.abc import Mapping

from hpo_service.domain.study.hyperparameters import Hyperparameters
from hpo_service.domain.study.methods import METHODS
from hpo_service.domain.study.search_space import ParameterValue
from hpo_service.domain.study.spec import StudySpec


def default_parameters(spec: StudySpec, like: Mapping[str, ParameterValue]) -> dict[str, ParameterValue] | None:
    """Return the configuration to beat, over the same parameters as `like`.

    The study's `confirm.default` where given; else, for the built-in trainer, the practitioners' default of each
    searched parameter. What `training` fixes stays fixed for both sides. None for an objective of the user's own
    without `confirm.default`: there is nothing to compare with.
    """
    given, plain = spec.confirm.default or {}, Hyperparameters()
    method = given.get("method", plain.method if "method" in like else spec.training.method)
    plain = plain.with_values({"learning_rate": METHODS[str(method)].rates.start})
    if spec.objective is not None:
        return {**like, **given} if spec.confirm.default is not None else None
    base: dict[str, ParameterValue] = {}
    for name in like:
        value = given.get(name, plain.alpha if name == "lora_alpha" else getattr(plain, name))
        base[name] = value
    if "lora_alpha" in given:
        base.pop("lora_alpha_multiplier", None)  # they say the same thing: what the study says stands
    elif "lora_alpha_multiplier" in given:
        base.pop("lora_alpha", None)
    return {**base, **given}
