"""The study file as data: a model per section; every field has a default worth having, and bounds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from hpo_service.domain.study.combinations import conflict, conflicts, values_of
from hpo_service.domain.study.hyperparameters import ALPHA_GIVEN_TWICE, SEARCHABLE, Hyperparameters
from hpo_service.domain.study.search_space import CategoricalParameter, ParameterValue
from hpo_service.domain.study.sections.confirm import ConfirmSpec
from hpo_service.domain.study.sections.data import DataSpec
from hpo_service.domain.study.sections.evaluation import EvaluationSpec
from hpo_service.domain.study.sections.execution import ExecutionSpec
from hpo_service.domain.study.sections.model import ModelSpec
from hpo_service.domain.study.sections.objective import COMMAND_PLACEHOLDERS, ObjectiveSpec
from hpo_service.domain.study.sections.search import SearchSpec
from hpo_service.domain.study.sections.section import Section
from hpo_service.domain.study.sections.space import SpaceSpec
from hpo_service.domain.study.sections.tracking import TrackingSpec
from hpo_service.domain.study.sections.training import TrainingSpec
from hpo_service.domain.study.sections.transfer import TransferSpec
from hpo_service.domain.study.sharing import check_batches, check_sharing
from hpo_service.domain.study.sources import BUILTIN_TOKENIZERS
from hpo_service.domain.study.spelling import nearest
from hpo_service.domain.study.validation import Violations

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"


class StudySpec(Section):
    """Everything a study file says."""

    name: str = Field(pattern=NAME_PATTERN, description="Name of the study, unique in its database.")
    description: str = Field(default="", max_length=2000, description="Free text for people.")
    model: ModelSpec | None = Field(default=None, description="The models.")
    data: DataSpec | None = Field(default=None, description="The rows.")
    objective: ObjectiveSpec | None = Field(default=None, description="Your own objective instead.")
    space: SpaceSpec = Field(default_factory=SpaceSpec, description="What is searched.")
    search: SearchSpec = Field(default_factory=SearchSpec, description="How it is searched.")
    training: TrainingSpec = Field(default_factory=TrainingSpec, description="How one run is trained.")
    transfer: TransferSpec = Field(default_factory=TransferSpec, description="From small to large.")
    confirm: ConfirmSpec = Field(default_factory=ConfirmSpec, description="The proof.")
    evaluation: EvaluationSpec = Field(default_factory=EvaluationSpec, description="Task metrics.")
    tracking: TrackingSpec = Field(default_factory=TrackingSpec, description="Other places runs are reported to.")
    execution: ExecutionSpec = Field(default_factory=ExecutionSpec, description="Leases and attempts.")

    @model_validator(mode="before")
    @classmethod
    def _own_objectives_start_from_an_empty_space(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("objective") is not None:
            space = data.get("space", {})
            if isinstance(space, dict) and "preset" not in space:
                return {**data, "space": {**space, "preset": "none"}}
        return data

    @model_validator(mode="after")
    def _sections_fit_together(self) -> Self:
        wrong = Violations()
        if self.objective is None:
            self._check_builtin_trainer(wrong)
        else:
            self._check_own_objective(wrong)
        self._check_space(wrong)
        self._check_evaluation(wrong)
        check_sharing(self, wrong)
        wrong.settle("StudySpec")
        return self

    def _check_builtin_trainer(self, wrong: Violations) -> None:
        if self.model is None:
            wrong.add("is missing: name model.base, or give an objective of your own", "model")
        if self.data is None:
            wrong.add("is missing: name data.source", "data")
        if self.search.direction != "minimize":
            wrong.add("maximize is for objectives of your own: a loss is minimised", "search", "direction")
        self._check_searched_hyperparameters(wrong)
        self._check_alpha(wrong)
        self._check_methods(wrong)
        check_batches(self, wrong)
        self._check_packing(wrong)
        if self.confirm.default is not None:
            try:
                Hyperparameters.model_validate(self.confirm.default, strict=True)
            except ValidationError as error:
                wrong.adopt(error, "confirm", "default")
        if not len(wrong):  # what is wrong with the study is wrong with its default too
            self._check_default(wrong)

    def _check_default(self, wrong: Violations) -> None:
        """The configuration to beat must be one that can be trained."""
        if self.model is None or not self.confirm.enabled:
            return
        given = {name: value for name, value in (self.confirm.default or {}).items() if name in SEARCHABLE}
        plain = {name: getattr(Hyperparameters(), name) for name in self.space.resolve().parameters.keys() & SEARCHABLE}
        plain.pop("lora_alpha", None)
        try:
            default = self.training.hyperparameters().with_values({**plain, **given})
        except ValidationError:
            return
        reason = conflict(default, self.model.quantisation)
        if reason:
            wrong.add(f"the default to compare with cannot be trained: {reason}", "confirm", "default")

    def _check_own_objective(self, wrong: Violations) -> None:
        for section in ("model", "data"):
            if getattr(self, section) is not None:
                reason = "an objective of your own replaces the built-in trainer"
                wrong.add(f"{reason}: drop {section}, or drop objective", section)
        parameters = self.space.resolve().parameters
        for name in self.confirm.default or {}:
            if name not in parameters:
                wrong.add(_unknown("parameter of this space", name, parameters), "confirm", "default", name)
        known = [*parameters, *COMMAND_PLACEHOLDERS]
        for name in self.objective.placeholders() if self.objective else ():
            if name not in known:
                wrong.add(f"{{{name}}} {_unknown('parameter of this space', name, known)}", "objective", "command")

    def _check_evaluation(self, wrong: Violations) -> None:
        if self.objective is not None:
            if self.evaluation.metrics:
                wrong.add("an objective of your own measures what it likes: drop evaluation", "evaluation", "metrics")
            if self.tracking.trackers:
                wrong.add("an objective of your own tells trackers itself: drop tracking", "tracking", "trackers")
            return
        held = {"verify": self.verifies, "confirm": self.confirm.enabled}
        if self.evaluation.metrics and not any(held[stage] for stage in self.evaluation.stages):
            remedy = "switch confirm on, or name a model.target and evaluation.stages: [verify]"
            reason = f"no trial would be measured, for this study has no {' or '.join(self.evaluation.stages)} stage"
            wrong.add(f"{reason}: {remedy}", "evaluation", "stages")

    def _check_space(self, wrong: Violations) -> None:
        space = self.space.resolve()
        if not space.parameters:
            wrong.add("nothing is searched: list parameters under space.parameters or choose a preset", "space")
        if self.search.sampler == "grid" and space.size() is None:
            endless = ", ".join(space.endless())
            reason = f"grid needs a finite space: give {endless} a step or choices, or use tpe"
            wrong.add(reason, "search", "sampler")

    def _check_searched_hyperparameters(self, wrong: Violations) -> None:
        for name, parameter in self.space.parameters.items():
            place = ("space", "parameters", name)
            if name not in SEARCHABLE:
                wrong.add(_unknown("hyper-parameter", name, SEARCHABLE), *place)
            elif isinstance(parameter, CategoricalParameter):
                for index, choice in enumerate(parameter.choices):
                    _check_value(wrong, name, choice, (*place, "choices", index))
            elif parameter is not None:
                _check_value(wrong, name, parameter.low, (*place, "low"))
                _check_value(wrong, name, parameter.high, (*place, "high"))

    def _check_alpha(self, wrong: Violations) -> None:
        searched = self.space.resolve().parameters
        remedy = f"{ALPHA_GIVEN_TWICE}, or write `{{}}: null` under space.parameters"
        if "lora_alpha" in searched and "lora_alpha_multiplier" in searched:
            wrong.add(remedy.format("lora_alpha_multiplier"), "space", "parameters", "lora_alpha")
        if "lora_alpha_multiplier" in searched and self.training.lora_alpha is not None:
            wrong.add(remedy.format("lora_alpha_multiplier"), "training", "lora_alpha")
        if "lora_alpha" in searched and self.training.lora_alpha_multiplier != 1.0:
            wrong.add(remedy.format("lora_alpha"), "training", "lora_alpha_multiplier")

    def _check_methods(self, wrong: Violations) -> None:
        if self.model is None:
            return
        space, fixed = self.space.resolve(), self.training.hyperparameters()
        for rule, reason, values in conflicts(space, fixed, self.model.quantisation):
            if rule.about_base and self.model.quantisation != "none":
                wrong.add(reason, "model", "quantisation")
            elif rule.fields[0] in values:
                wrong.add(f"{reason}{_way_out(rule.fields, values)}", "space", "parameters", rule.fields[0])
            else:
                wrong.add(reason, "training", rule.fields[0])
        methods = self.values_of("method")
        if "prefix" in methods and self.training.activation_checkpointing == "on":
            reason = "method prefix keeps keys and values that checkpointing would throw away: use auto or off"
            wrong.add(reason, "training", "activation_checkpointing")
        if "scratch" in methods and self.model.target is not None:
            reason = "method scratch builds its model from the scratch_ settings, so nothing is carried over: drop it"
            wrong.add(reason, "model", "target")
        if self.model.base in BUILTIN_TOKENIZERS and set(methods) != {"scratch"}:
            reason = f"{self.model.base} is a tokenizer without a model: it needs training.method scratch"
            wrong.add(reason, "model", "base")

    def _check_packing(self, wrong: Violations) -> None:
        if self.data is None or not self.data.pack_rows:
            return
        if self.training.group_by_length:
            reason = "packed rows leave no padding to save: drop one of data.pack_rows and this"
            wrong.add(reason, "training", "group_by_length")
        if "prefix" in self.values_of("method"):
            reason = "method prefix puts its tokens before a sequence, not before each packed row: set it to false"
            wrong.add(reason, "data", "pack_rows")

    def values_of(self, name: str) -> list[ParameterValue]:
        """List what a hyper-parameter may be in search: choices, a short range, ends of a long one, or one value."""
        parameter = self.space.resolve().parameters.get(name)
        if parameter is None:
            value = getattr(self.training, name)
            return [value] if isinstance(value, ParameterValue) else []
        return values_of(parameter)

    @property
    def verifies(self) -> bool:
        """Whether there is a larger target model, and so a verify stage."""
        return self.model is not None and self.model.target is not None


def _check_value(wrong: Violations, name: str, value: ParameterValue, place: tuple[str | int, ...]) -> None:
    """Note it where the hyper-parameter itself refuses a value that the space would propose."""
    try:
        Hyperparameters.model_validate({name: value}, strict=True)
    except ValidationError as error:
        wrong.adopt_value(error, *place)


def _way_out(fields: tuple[str, ...], values: Mapping[str, ParameterValue]) -> str:
    """Say how to keep a combination out of the space, where more than one of its parameters is searched."""
    others = [f"{name} {values[name]}" for name in fields[1:] if name in values]
    return f" (proposed with {', '.join(others)}; a `when` keeps it out)" if others else ""


def _unknown(what: str, name: str, valid: Iterable[str]) -> str:
    near = nearest(name, valid)
    return f"is no {what}; " + (f"the nearest is {near}" if near else f"those are {', '.join(sorted(valid))}")
