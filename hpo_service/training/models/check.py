"""A look at a study's models before its first trial, from their configurations: no weights are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from hpo_service.domain.decide.planning.default import default_parameters
from hpo_service.domain.decide.transfer.scaling import scaled_rank
from hpo_service.domain.study.combinations import combinations
from hpo_service.domain.study.finding import Finding, Level, not_here
from hpo_service.domain.study.hyperparameters import Hyperparameters
from hpo_service.domain.study.methods import METHODS, held_in
from hpo_service.domain.study.protocol import stages_of
from hpo_service.domain.study.sections.model import ModelSpec
from hpo_service.domain.study.sections.space import SpaceSpec
from hpo_service.domain.study.sections.training import TrainingSpec
from hpo_service.domain.study.sections.transfer import TransferSpec
from hpo_service.domain.study.sources import BUILTIN, BUILTIN_TOKENIZERS, looks_local
from hpo_service.domain.study.spec import StudySpec
from hpo_service.errors import ModelError, UnfitError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# What of a configuration decides whether a model can carry it.
DECISIVE = frozenset(
    {"method", "target_modules", "init_lora_weights", "lora_bias", "lora_rank", "lora_dropout", "prefix_tokens"}
)
# Configurations that are looked at, and those of them that a step of shapes is made with.
LOOKED_AT, STEPPED = 2_000, 24
# Presets by which people mean all of a model.
ALL = ("all-linear", "full")


def check_study(study: StudySpec) -> list[Finding]:
    """All that is wrong with a study's models and their files, and with the default that its winner has to beat."""
    if study.model is None:
        return []
    found = check_models(study.model, study.training, study.space, study.transfer)
    if all(each.level == "warning" for each in found):
        found += [*_unfit_default(study, study.model), *_unfit_machine(study, study.model)]
    return [*found, *_unusable_weights(study, study.model)]


def check_models(
    model: ModelSpec, training: TrainingSpec, space: SpaceSpec, transfer: TransferSpec | None = None
) -> list[Finding]:
    """All that is wrong with a study's models as far as their configurations tell, errors first.

    An error stops every trial on a model, a warning some of them, or says what is left out. The target is looked at
    with ranks as they are carried over.
    """
    proposed = _configurations(training, space)
    carried = [_carried(each, transfer or TransferSpec()) for each in proposed]
    asked = {model.base: proposed, **({model.target: carried} if model.target not in (None, model.base) else {})}
    if all(METHODS[each.method].base == "new" for each in proposed):
        asked = {}
    found = [
        each
        for name, configurations in asked.items()
        if name not in BUILTIN_TOKENIZERS
        for each in _check(name, model, configurations)
    ]
    return sorted(dict.fromkeys(found), key=lambda each: each.level != "error")


def _carried(hyper: Hyperparameters, transfer: TransferSpec) -> Hyperparameters:
    if not METHODS[hyper.method].low_rank:
        return hyper
    return hyper.model_copy(update={"lora_rank": scaled_rank(hyper.lora_rank, transfer)})


def _unfit_default(study: StudySpec, model: ModelSpec) -> Iterator[Finding]:
    """Why no run of the default would have a result: the winner would be compared with nothing."""
    from hpo_service.training.models.blank import blank_model

    like = next(combinations(study.space.resolve(), set(DECISIVE)), {})
    parameters = default_parameters(study, like)
    name = next((rule.model_of(study) for rule in stages_of(study) if rule.compares), None)
    if parameters is None or name is None or name in BUILTIN_TOKENIZERS:
        return
    hyper = study.training.hyperparameters().with_values(parameters)
    if METHODS[hyper.method].base == "new":
        return
    reason = _Tried(blank_model(name, model), model).reason(hyper)
    if reason:
        remedy = "confirm.default gives another"
        yield _finding(
            "warning", f"model {name}: no run of the default to beat would have a result: {reason}; {remedy}"
        )


def _unfit_machine(study: StudySpec, model: ModelSpec) -> Iterator[Finding]:
    """What the study asks of devices that this machine does not have; its workers may run elsewhere."""
    from hpo_service.training.models.base import BaseKey

    for method in study.values_of("method"):
        try:
            BaseKey.of(model.base, model, str(method))
        except ModelError as error:
            yield _finding("warning", f"on this machine every trial would fail: {error}")
    for name in dict.fromkeys(filter(None, (model.base, model.target))):
        reason = _unreadable_weights(name, model)
        if reason:
            yield _finding("warning", f"on this machine every trial of model {name} would fail: {reason}")


def _unreadable_weights(name: str, model: ModelSpec) -> str:
    """Why weights that were saved in a few bits cannot be read here: their library is missing, or a device."""
    from transformers.quantizers.auto import AutoHfQuantizer

    from hpo_service.training.models.base import causal_config, reason_of

    if name.startswith(BUILTIN):
        return ""
    config = causal_config(name, name, model.trust_remote_code, model.revision_of(name))
    saved = getattr(config, "quantization_config", None)
    if saved is None:
        return ""
    try:
        AutoHfQuantizer.from_config(saved, pre_quantized=True).validate_environment(device_map={"": "cpu"})
    # each library's check raises what it likes
    except Exception as error:
        return reason_of(error)
    return ""


def _unusable_weights(study: StudySpec, model: ModelSpec) -> Iterator[Finding]:
    from hpo_service.training.models.weights import weights_fault

    if all(METHODS[str(method)].base == "new" for method in study.values_of("method")):
        return
    for name in dict.fromkeys(filter(None, (model.base, model.target))):
        folder = Path(name).expanduser()
        fault = weights_fault(folder) if folder.is_dir() else ""
        if fault:
            yield _finding("error", f"model {name} {fault}")


def _configurations(training: TrainingSpec, space: SpaceSpec) -> list[Hyperparameters]:
    """What the study can propose, as far as it decides whether a model can carry it; ranges by their ends."""
    found = []
    fixed = training.hyperparameters()
    for values in islice(combinations(space.resolve(), set(DECISIVE)), LOOKED_AT):
        try:
            found.append(fixed.with_values(values))
        except ValidationError:  # a value is wrong by itself, which is said where the study file is read
            continue
    return found


def _check(name: str, model: ModelSpec, configurations: Sequence[Hyperparameters]) -> Iterator[Finding]:
    from hpo_service.training.models.blank import blank_model

    try:
        blank = blank_model(name, model)
    except ModelError as error:
        if looks_local(name) or not isinstance(error.__cause__, OSError):
            yield _finding("error", str(error))
        else:
            yield not_here("model", name)
        return
    adapted = [each for each in configurations if METHODS[each.method].base != "new"]
    yield from _unfit(name, blank, model, adapted)
    yield from _left_out(name, blank, model, adapted)


def _unfit(
    name: str, blank: PreTrainedModel, model: ModelSpec, configurations: Sequence[Hyperparameters]
) -> Iterator[Finding]:
    """Configurations that the model cannot carry, each reason once: an error where none is left."""
    tried = _Tried(blank, model)
    reasons = [tried.reason(each) for each in configurations]
    failing = {reason: reasons.count(reason) for reason in reasons if reason}
    hopeless = bool(reasons) and all(reasons)
    for reason, count in failing.items():
        some = f"model {name}: {count} of {len(reasons)} kinds of trials would end as infeasible: {reason}"
        what = f"model {name}: {reason}" if hopeless else some
        yield _finding("error" if hopeless else "warning", what)


class _Tried:
    """What has been found out of a model, so that configurations that are alike to it are tried once."""

    def __init__(self, blank: PreTrainedModel, model: ModelSpec) -> None:
        self._blank, self._model = blank, model
        self._steps: dict[str, str] = {}
        self._can_step = _step_error(blank) is None

    def reason(self, hyper: Hyperparameters) -> str:
        """Why the model cannot carry a configuration, or nothing."""
        from hpo_service.training.models.adapter import targeted
        from hpo_service.training.models.fits import reasons

        try:
            layers = targeted(self._blank, hyper)
        except ModelError as error:
            return str(error)
        quantised = _is_quantised(self._blank, self._model, hyper)
        return next(reasons(self._blank, hyper, layers, quantised=quantised), "") or self._step(hyper)

    def _step(self, hyper: Hyperparameters) -> str:
        """Why adapters cannot be put on, or a step with them fails on shapes alone."""
        # ranks and starts are numbers and decompositions: all of them go the same ways
        kind = hyper.model_copy(update={"init_lora_weights": "default", "lora_rank": 4, "lora_alpha": 4.0})
        kind = kind.model_copy(update={"lora_dropout": 0.1 if hyper.lora_dropout else 0.0})
        key = str(kind.model_dump(include=set(DECISIVE)))
        if key not in self._steps and len(self._steps) < STEPPED and METHODS[hyper.method].low_rank:
            self._steps[key] = self._stepped(kind)
        return self._steps.get(key, "")

    def _stepped(self, hyper: Hyperparameters) -> str:
        from hpo_service.training.device.faults import will_recur
        from hpo_service.training.models.adapter import trainable
        from hpo_service.training.models.base import reason_of

        try:
            with trainable(self._blank, hyper, seed=0) as adapted:
                error = _step_error(adapted) if self._can_step else None
        except UnfitError as unfit:
            return str(unfit)
        # what only the meta device lacks is no fault of the model's
        if error is None or not will_recur(error):
            return ""
        return f"a step with these adapters fails ({type(error).__name__}: {reason_of(error)})"


def _step_error(model: Any) -> Exception | None:
    """What a step of shapes raises."""
    from hpo_service.training.models.blank import step

    try:
        step(model)
    # models come with code of their own, which raises what it likes
    except Exception as error:
        return error
    return None


def _left_out(
    name: str, blank: PreTrainedModel, model: ModelSpec, configurations: Sequence[Hyperparameters]
) -> Iterator[Finding]:
    """What adapters on "all" and quantisation do not reach, with its share of the weights."""
    from hpo_service.training.models.adapter import targeted
    from hpo_service.training.models.reach import inner_layers, parts_left_out, wording

    kinds = {(str(each.target_modules), METHODS[each.method].low_rank): each for each in configurations}
    for hyper in kinds.values():
        if METHODS[hyper.method].low_rank and hyper.target_modules in ALL:
            said = wording(parts_left_out(blank, targeted(blank, hyper).__contains__), "not adapted")
            if said:
                yield _finding("warning", f"model {name}, target_modules {hyper.target_modules}: {said}")
    if any(held_in(each.method, model.quantisation) != "none" for each in configurations):
        said = wording(parts_left_out(blank, inner_layers(blank).__contains__), "not quantised")
        if said:
            yield _finding("warning", f"model {name}: {said}; they stay in 16 bits, and memory is estimated so")


def _is_quantised(blank: PreTrainedModel, model: ModelSpec, hyper: Hyperparameters) -> bool:
    already = getattr(blank.config, "quantization_config", None)
    return held_in(hyper.method, model.quantisation) != "none" or already is not None


def _finding(level: Level, what: str) -> Finding:
    return Finding(level=level, subject="model", what=" ".join(what.split()))
