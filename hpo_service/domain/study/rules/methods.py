"""What methods ask of the model, of its data and of each other's settings."""

from __future__ import annotations

from collections.abc import Mapping

from hpo_service.domain.study.combinations import conflicts
from hpo_service.domain.study.fields import StudyFields
from hpo_service.domain.study.methods import METHODS
from hpo_service.domain.study.search_space import ParameterValue
from hpo_service.domain.study.sources import BUILTIN_TOKENIZERS
from hpo_service.domain.study.validation import Violations


def hyperparameters_go_together(study: StudyFields, wrong: Violations) -> None:
    """Every configuration that the space can propose can be trained."""
    if study.model is None:
        return
    space, fixed = study.space.resolve(), study.training.hyperparameters()
    for rule, reason, values in conflicts(space, fixed, study.model.quantisation):
        if rule.about_base and study.model.quantisation != "none":
            wrong.add(reason, "model", "quantisation")
        elif rule.fields[0] in values:
            wrong.add(f"{reason}{_way_out(rule.fields, values)}", "space", "parameters", rule.fields[0])
        else:
            wrong.add(reason, "training", rule.fields[0])


def _way_out(fields: tuple[str, ...], values: Mapping[str, ParameterValue]) -> str:
    """Say how to keep a combination out of the space, where more than one of its parameters is searched."""
    others = [f"{name} {values[name]}" for name in fields[1:] if name in values]
    return f" (proposed with {', '.join(others)}; a `when` keeps it out)" if others else ""


def methods_suit_the_model(study: StudyFields, wrong: Violations) -> None:
    """Every method that may be proposed can train the models that the study names."""
    if study.model is None:
        return
    names = _methods(study)
    uncheckpointed = next((name for name in names if not METHODS[name].checkpointable), None)
    if uncheckpointed and study.training.activation_checkpointing == "on":
        keeps = f"method {uncheckpointed} keeps keys and values that checkpointing would throw away"
        wrong.add(f"{keeps}: use auto or off", "training", "activation_checkpointing")
    builders = [name for name in names if METHODS[name].base == "new"]
    if builders and study.model.target is not None:
        builds = f"method {builders[0]} builds its model from the scratch_ settings"
        wrong.add(f"{builds}, so nothing is carried over: drop it", "model", "target")
    if study.model.base in BUILTIN_TOKENIZERS and len(builders) < len(study.values_of("method")):
        able = " or ".join(name for name, method in METHODS.items() if method.base == "new")
        reason = f"{study.model.base} is a tokenizer without a model: it needs training.method {able}"
        wrong.add(reason, "model", "base")


def methods_suit_packed_rows(study: StudyFields, wrong: Violations) -> None:
    """Rows that share a sequence leave no padding to save, and no place for tokens before each."""
    if study.data is None or not study.data.pack_rows:
        return
    if study.training.group_by_length:
        reason = "packed rows leave no padding to save: drop one of data.pack_rows and this"
        wrong.add(reason, "training", "group_by_length")
    prefixing = next((name for name in _methods(study) if METHODS[name].virtual_tokens), None)
    if prefixing:
        puts = f"method {prefixing} puts its tokens before a sequence, not before each packed row"
        wrong.add(f"{puts}: set it to false", "data", "pack_rows")


def _methods(study: StudyFields) -> list[str]:
    """The methods that may be proposed; a name that is none is said where it stands."""
    return [str(name) for name in study.values_of("method") if name in METHODS]
