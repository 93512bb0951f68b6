"""Which hyper-parameters do not go together, and which of the configurations a space can propose are such."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from pydantic import ValidationError

from hpo_service.domain.study.hyperparameters import Hyperparameters
from hpo_service.domain.study.methods import METHODS, STARTS, Quantisation, adapts_embeddings, held_in
from hpo_service.domain.study.search_space import (
    CategoricalParameter,
    IntParameter,
    Parameter,
    ParameterValue,
    SearchSpace,
)

# Whole numbers are gone through one by one up to this many; of longer ranges the ends and the second are looked at.
FEW_VALUES = 64
# Configurations looked at per rule; what lies beyond costs its trial, not the study.
MOST_LOOKED_AT = 20_000
SHORTEST_PIECE = 8


@dataclass(frozen=True)
class Rule:
    """What must hold between some fields; `broken` says why it does not.

    Attributes:
        fields: those the rule looks at; the first is where it is reported.
        broken: from a configuration and how the base is held to a reason with a remedy, or nothing.
        about_base: whether it is reported at model.quantisation, where that was set.
    """

    fields: tuple[str, ...]
    broken: Callable[[Hyperparameters, Quantisation], str]
    about_base: bool = False


def conflict(hyper: Hyperparameters, quantisation: Quantisation) -> str:
    """Say why a configuration cannot be trained, whatever the model, or nothing where it can."""
    held = held_in(hyper.method, quantisation)
    return next((reason for rule in RULES if (reason := rule.broken(hyper, held))), "")


def conflicts(
    space: SearchSpace, fixed: Hyperparameters, quantisation: Quantisation
) -> Iterator[tuple[Rule, str, dict[str, ParameterValue]]]:
    """Find for each rule the first configuration of the space that breaks it, with the reason and its values."""
    for rule in RULES:
        for values in islice(combinations(space, {*rule.fields}), MOST_LOOKED_AT):
            try:
                hyper = fixed.with_values(values)
            except ValidationError:  # a single value is wrong: that is said at its own key
                continue
            reason = rule.broken(hyper, held_in(hyper.method, quantisation))
            if reason:
                yield rule, reason, values
                break


def combinations(space: SearchSpace, names: set[str]) -> Iterator[dict[str, ParameterValue]]:
    """Go through what these parameters can be together, conditions respected.

    Each comes with the parameters that its conditions look at; ranges are stood for by their ends.
    """
    needed: dict[str, Parameter] = {}
    wanted = set(names)
    for name, parameter in reversed(space.parameters.items()):
        if name in wanted:
            needed[name] = parameter
            wanted |= parameter.when.keys()
    yield from _branches(list(reversed(needed.items())), {})


def _branches(
    parameters: list[tuple[str, Parameter]], chosen: Mapping[str, ParameterValue]
) -> Iterator[dict[str, ParameterValue]]:
    if not parameters:
        yield dict(chosen)
        return
    (name, parameter), rest = parameters[0], parameters[1:]
    if not parameter.applies(chosen):
        yield from _branches(rest, chosen)
        return
    for value in values_of(parameter):
        yield from _branches(rest, {**chosen, name: value})


def values_of(parameter: Parameter) -> list[ParameterValue]:
    """List what a parameter can be: choices, short ranges in full, else the ends of its range.

    Of a long range of whole numbers the second value is listed too, which gives away its step.
    """
    if isinstance(parameter, CategoricalParameter):
        return list(parameter.choices)
    if isinstance(parameter, IntParameter):
        values = range(parameter.low, parameter.high + 1, parameter.step or 1)
        return [*values] if len(values) <= FEW_VALUES else [*values[:2], values[-1]]
    return [parameter.low, parameter.high]


def _own_weights(hyper: Hyperparameters, held: Quantisation) -> str:
    if held == "none" or METHODS[hyper.method].quantisable:
        return ""
    if METHODS[hyper.method].base == "new":
        return f"method {hyper.method} builds new weights, which are never held in {held}: use none"
    return (
        f"method {hyper.method} trains the base's own weights, which a quantised base does not allow: "
        "use none, or method qlora"
    )


def _start(hyper: Hyperparameters, held: Quantisation) -> str:
    start = hyper.init_lora_weights
    if not METHODS[hyper.method].low_rank or held == "none" or STARTS[start].quantised:
        return ""
    able = ", ".join(name for name, each in STARTS.items() if each.quantised)
    return f"{start} reads the base's weights, which are held in {held} here: use {able}, or an unquantised base"


def _moved_base(hyper: Hyperparameters, _held: Quantisation) -> str:
    start = hyper.init_lora_weights
    if not METHODS[hyper.method].low_rank or not STARTS[start].moves_base:
        return ""
    obstacles = {
        f"method {hyper.method}": METHODS[hyper.method].magnitudes,
        f"lora_bias {hyper.lora_bias}": hyper.lora_bias != "none",
        f"target_modules {hyper.target_modules} (embeddings)": adapts_embeddings(hyper.target_modules),
    }
    found = next((name for name, there in obstacles.items() if there), None)
    if found is None:
        return ""
    return f"{start} changes the base, and with {found} no adapter for the unchanged one can be made: use default"


def _even_rank(hyper: Hyperparameters, _held: Quantisation) -> str:
    odd = METHODS[hyper.method].low_rank and hyper.init_lora_weights == "orthogonal" and hyper.lora_rank % 2
    return f"orthogonal adapters need an even rank, not {hyper.lora_rank}: use {hyper.lora_rank + 1}" if odd else ""


def _heads(hyper: Hyperparameters, _held: Quantisation) -> str:
    width, heads = hyper.scratch_width, hyper.scratch_heads
    if METHODS[hyper.method].base != "new" or _fits(width, heads):
        return ""
    fitting = [n for n in range(1, width + 1) if _fits(width, n)]
    if not fitting:
        return f"a width of {width} cannot be cut into heads of an even width: use an even scratch_width"
    near = min(fitting, key=lambda n: (abs(n - heads), n))
    return f"{heads} heads do not cut a width of {width} into heads of an even width: the nearest that do are {near}"


def _fits(width: int, heads: int) -> bool:
    # rotary positions turn pairs of a head's dimensions
    return width % heads == 0 and width // heads % 2 == 0


def _piece(hyper: Hyperparameters, _held: Quantisation) -> str:
    short = METHODS[hyper.method].base == "new" and 0 < hyper.scratch_length < SHORTEST_PIECE
    return f"pieces of {hyper.scratch_length} tokens teach nothing: use {SHORTEST_PIECE} or more" if short else ""


RULES = (
    Rule(("method",), _own_weights, about_base=True),
    Rule(("init_lora_weights", "method"), _start),
    Rule(("init_lora_weights", "method", "lora_bias", "target_modules"), _moved_base),
    Rule(("lora_rank", "init_lora_weights", "method"), _even_rank),
    Rule(("scratch_heads", "scratch_width", "method"), _heads),
    Rule(("scratch_length", "method"), _piece),
)
"""What must hold between hyper-parameters."""
