"""What a study file says about the search space: a preset, plus parameters added, replaced or removed."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from hpo_service.domain.study.hyperparameters import Hyperparameters
from hpo_service.domain.study.methods import modules_as_text
from hpo_service.domain.study.presets import PRESETS
from hpo_service.domain.study.search_space import Parameter, SearchSpace
from hpo_service.domain.study.sections.section import Section
from hpo_service.domain.study.spelling import ALIASES
from hpo_service.domain.study.validation import one_of


class SpaceSpec(Section):
    """What is searched: a preset plus overrides; null removes a parameter of the preset."""

    preset: Annotated[str, one_of(PRESETS)] = Field(
        default="lora", description="Named starting point; `none` starts empty."
    )
    parameters: dict[str, Parameter | None] = Field(
        default_factory=dict, description="Parameters added to or replacing those of the preset."
    )

    @field_validator("parameters", mode="before")
    @classmethod
    def _types_may_be_left_out(cls, parameters: Any) -> Any:
        if not isinstance(parameters, dict):
            return parameters
        return {name: _typed(name, given) for name, given in parameters.items()}

    @model_validator(mode="after")
    def _resolves(self) -> Self:
        self.resolve()
        return self

    def resolve(self) -> SearchSpace:
        """Merge preset and overrides into the space that is searched.

        Parameters with a condition come last, in the study's order, so that they may name any of the others.
        """
        merged = {**PRESETS[self.preset].parameters, **self.parameters}
        wanted = {name: parameter for name, parameter in merged.items() if parameter is not None}
        listed = [name for name in {**self.parameters, **wanted} if name in wanted]
        ordered = sorted(wanted, key=lambda name: listed.index(name) if wanted[name].when else -1)
        return SearchSpace(parameters={name: wanted[name] for name in ordered})


def _typed(name: Any, given: Any) -> Any:
    """Write lists of modules as text, and add a `type` that was left out: the hyper-parameter's, or its bounds' own."""
    if name == "target_modules" and isinstance(given, dict) and isinstance(given.get("choices"), list):
        given = {**given, "choices": [modules_as_text(choice) for choice in given["choices"]]}
    if not isinstance(given, dict) or "type" in given:
        return given
    meant = {here for key in given for here in (key, *ALIASES.get(str(key), ()))}
    if "choices" in meant:
        return {"type": "categorical", **given}
    if not meant & {"low", "high"}:
        return given
    field = Hyperparameters.model_fields.get(name)
    bounds = [given[key] for key in ("low", "high", "step") if given.get(key) is not None]
    whole = field.annotation is int if field else all(isinstance(bound, int) for bound in bounds)
    return {"type": "int" if whole else "float", **given}
