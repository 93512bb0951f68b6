"""The study file that somebody would want who names a model and rows: every choice with its reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

from hpo_service.domain.study.data_report import DataReport
from hpo_service.domain.study.methods import METHODS
from hpo_service.domain.study.presets import PRESETS
from hpo_service.domain.study.search_space import CategoricalParameter, Parameter
from hpo_service.errors import UsageError

KeyPath = tuple[str, ...]
Chosen = Iterator[tuple[KeyPath, Any, str]]
"""Keys of a study file with their values, and why these."""

LENGTH_STEP = 32
LONGEST = 2048
"""Rows are cut here where nobody asks for more: memory and time grow with the longest."""
FEW_ROWS = 500
LARGE_SHARES = {"validation": 0.2, "test": 0.2}
"""Held out of few rows."""
USUAL_SHARES = {"validation": 0.1, "test": 0.1}
FEW_EVALUATIONS = 4
"""Of a run on few rows: three are the fewest by which early exit can tell anything."""
BATCHES = (16, 8, 4)
LEAST_STEPS = 50
"""Optimizer steps that a run should have: a schedule of fewer is hardly one."""
TUNED_METHODS = ("lora", "qlora")
"""Methods that are chosen between, the first that fits: the base in 16 bits, or in 4."""
USUAL_METHOD = TUNED_METHODS[0]


@dataclass(frozen=True)
class RateRange:
    """Learning rates to search for LoRA on models of up to so many billions of weights."""

    billions: float
    low: float
    high: float
    source: str


RATES: tuple[RateRange, ...] = (
    RateRange(0.05, 2e-4, 2e-2, "models this small want far larger rates (measured with the built-in ones)"),
    RateRange(0.9, 1e-4, 5e-3, "small models want larger rates than guides give for 7B"),
    RateRange(4.0, 5e-5, 2e-3, "guides: 5e-4 to 1e-3 for 1B to 3B"),
    RateRange(10.0, 3e-5, 1e-3, "guides: 1e-4 to 5e-4 for 7B"),
    RateRange(20.0, 2e-5, 5e-4, "guides: 5e-5 to 2e-4 for 13B"),
    RateRange(float("inf"), 1e-5, 3e-4, "guides: 1e-5 to 1e-4 for 30B and more"),
)
"""By the size of the model that is searched on; each is wider than the guides it names, for the sampler narrows it."""


@dataclass(frozen=True)
class Wishes:
    """What somebody asks for; what is left out is chosen.

    Attributes:
        model: that is searched on: hub name, folder or `builtin:` name.
        data: rows, as `data.source` names them.
        target: the larger model that the configuration is for.
        name: of the study.
        method: how to train.
        only: the hyper-parameters to search, and no others.
        trials: of all stages.
        gpu_hours: of all stages.
        keys: values of other keys of the study file, by path; they go before whatever is chosen.
    """

    model: str
    data: str
    target: str | None = None
    name: str | None = None
    method: str | None = None
    only: tuple[str, ...] = ()
    trials: int | None = None
    gpu_hours: float | None = None
    keys: Mapping[KeyPath, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Known:
    """What was found out before.

    Attributes:
        rows: a report on the rows, or on some of them; None where they were not looked at.
        billions: weights of the model that is searched on, in billions; None where that is not known.
        memory_gb: of the smallest GPU, in GB; None without one.
        fits: whether the largest model fits it, by method; a method is left out where that cannot be told.
    """

    rows: DataReport | None = None
    billions: float | None = None
    memory_gb: float | None = None
    fits: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Draft:
    """A study file to be.

    Attributes:
        document: as YAML reads it.
        reasons: why a key has its value, by its path; what a person asked for needs none.
    """

    document: dict[str, Any]
    reasons: dict[KeyPath, str]


def draft_study(wishes: Wishes, known: Known) -> Draft:
    """Write the study file: what was asked for, and the rest chosen by a table of rules."""
    document: dict[str, Any] = {}
    reasons: dict[KeyPath, str] = {}
    for rule in RULES:
        for path, value, why in rule(wishes, known):
            _put(document, path, value)
            if why:
                reasons[path] = why
    for path, value in wishes.keys.items():
        _put(document, path, value)
        # a reason for what was chosen instead, here or below, would be wrong
        reasons = {there: why for there, why in reasons.items() if there[: len(path)] != path}
    return Draft(document, reasons)


def study_name(model: str, data: str) -> str:
    """Name a study after its model and its rows: `qwen2.5-7b-support`."""
    return "-".join(filter(None, (_stem(model), _stem(data))))[:100] or "study"


def read_budget(text: str) -> tuple[int | None, float | None]:
    """Read `20h` (device hours) or `40` (trials); return trials and hours, one of them None.

    Raises:
        UsageError: it is neither.
    """
    hours = re.fullmatch(r"(\d+(?:\.\d+)?)\s*h(?:ours?)?", text.strip())
    trials = re.fullmatch(r"(\d+)(?:\s*trials?)?", text.strip())
    if hours and float(hours[1]) > 0:
        return None, float(hours[1])
    if trials and int(trials[1]) > 0:
        return int(trials[1]), None
    raise UsageError(f"--budget {text}: write device hours, as in 20h, or a number of trials, as in 40")


def _stem(name: str) -> str:
    last = PurePath(name.partition(":")[2] if name.startswith("builtin:") else name).name
    last = re.sub(r"(\.(jsonl?|csv|parquet|txt))+(\.(gz|zst))?$", "", last.lower())
    return re.sub(r"[^a-z0-9.]+", "-", last).strip("-.")


def _put(document: dict[str, Any], path: KeyPath, value: Any) -> None:
    for key in path[:-1]:
        below = document.get(key)
        if not isinstance(below, dict):
            below = document[key] = {}
        document = below
    document[path[-1]] = value


def _named(wishes: Wishes, known: Known) -> Chosen:
    del known
    yield ("name",), wishes.name or study_name(wishes.target or wishes.model, wishes.data), ""


def _models(wishes: Wishes, known: Known) -> Chosen:
    del known
    yield ("model", "base"), wishes.model, "searched on" if wishes.target else ""
    if wishes.target:
        yield ("model", "target"), wishes.target, "what the configuration is for"


def _rows(wishes: Wishes, known: Known) -> Chosen:
    yield ("data", "source"), wishes.data, ""
    if known.rows is None:
        return
    whole = known.rows.whole
    length = min(LONGEST, max(LENGTH_STEP, -(-whole.p99 // LENGTH_STEP) * LENGTH_STEP))
    rest = "the longest has" if whole.longest <= length else "longer ones are cut, up to"
    longest = f"{rest} {whole.longest}"
    yield ("data", "max_length"), length, f"99 of 100 rows have at most {whole.p99} tokens; {longest}"
    if known.rows.rows_split < FEW_ROWS:
        why = f"{known.rows.rows_split} rows: a tenth would tell configurations apart poorly"
        yield ("data", "split"), dict(LARGE_SHARES), why


def method_asked(wishes: Wishes) -> str | None:
    """The method that somebody wants, by its option or its key; None where it is left to be chosen."""
    asked = wishes.method or wishes.keys.get(("training", "method"))
    return asked if isinstance(asked, str) and asked in METHODS else None


def _method(wishes: Wishes, known: Known) -> tuple[str, str]:
    asked = method_asked(wishes)
    if asked is not None:
        return asked, ""
    for method in TUNED_METHODS:
        if known.fits.get(method, known.memory_gb is None):
            break
    else:
        method = TUNED_METHODS[0 if not known.fits else -1]
    if known.memory_gb is None:
        return method, ""
    room = f"{known.memory_gb:g} GB"
    if not known.fits:
        return method, f"whether it fits {room} cannot be told: the model's config.json is not on this machine"
    if method != USUAL_METHOD:
        fits = "with the base in 4 bits it does" if known.fits.get(method) else "and in 4 bits neither does it"
        return method, f"in 16 bits the model does not fit {room}, {fits}"
    return method, f"the model fits {room} in 16 bits"


def _space(wishes: Wishes, known: Known) -> Chosen:
    method, why = _method(wishes, known)
    preset = PRESETS[METHODS[method].preset]
    if wishes.only:
        yield ("space", "preset"), "none", why if method == USUAL_METHOD else ""
        for name in wishes.only:
            yield ("space", "parameters", name), _searched(name, preset.parameters, wishes, known), ""
        return
    yield (
        ("space", "preset"),
        METHODS[method].preset,
        why if method == USUAL_METHOD else "",
    )
    if known.billions is not None and method in TUNED_METHODS:
        rates = _rates(known.billions, wishes)
        yield ("space", "parameters", "learning_rate"), _written(rates), rates.source


def _searched(name: str, usual: Mapping[str, Parameter], wishes: Wishes, known: Known) -> dict[str, Any]:
    if name == "learning_rate" and known.billions is not None:
        return _written(_rates(known.billions, wishes))
    everywhere = {n: p for preset in reversed(PRESETS.values()) for n, p in preset.parameters.items()} | dict(usual)
    found = everywhere.get(name)
    if found is None:
        raise UsageError(f"--only {name}: no usual range is known of it; those are {', '.join(sorted(everywhere))}")
    if isinstance(found, CategoricalParameter):
        return {"choices": list(found.choices)}
    said: dict[str, Any] = {"low": found.low, "high": found.high}
    return {**said, "log": True} if found.log else said


def _rates(billions: float, wishes: Wishes) -> RateRange:
    """The range for a size, as wide as it must be to hold the rates that somebody wants to begin with."""
    rates = next(rates for rates in RATES if billions <= rates.billions)
    begun = wishes.keys.get(("search", "enqueue"))
    asked = [each.get("learning_rate") for each in begun if isinstance(each, dict)] if isinstance(begun, list) else []
    held = [rate for rate in asked if isinstance(rate, float) and 0 < rate < 1]
    low, high = min([rates.low, *held]), max([rates.high, *held])
    if (low, high) == (rates.low, rates.high):
        return rates
    return replace(rates, low=low, high=high, source=f"{rates.source}; wide enough for what is enqueued")


def _written(rates: RateRange) -> dict[str, Any]:
    return {"low": rates.low, "high": rates.high, "log": True}


def _budget(wishes: Wishes, known: Known) -> Chosen:
    del known
    if wishes.trials is not None:
        yield ("budget", "trials"), wishes.trials, "of all stages; search gets what verify and confirm leave"
    if wishes.gpu_hours is not None:
        yield ("budget", "gpu_hours"), wishes.gpu_hours, "device hours of all stages"


def _training(wishes: Wishes, known: Known) -> Chosen:
    method, why = _method(wishes, known)
    if method != USUAL_METHOD:
        yield ("training", "method"), method, why
    if known.rows is None:
        return
    shares = LARGE_SHARES if known.rows.rows_split < FEW_ROWS else USUAL_SHARES
    rows = round(known.rows.rows_split * (1 - sum(shares.values())))
    batch = next((size for size in BATCHES if rows / size >= LEAST_STEPS), BATCHES[-1])
    if batch != BATCHES[0]:
        yield ("training", "effective_batch"), batch, f"about {rows} training rows: {-(-rows // batch)} optimizer steps"
    if shares is LARGE_SHARES:
        why = "of so few rows a fifth is evaluated on: eight evaluations would cost more than the training"
        yield ("training", "evaluations_per_epoch"), FEW_EVALUATIONS, why


RULES: tuple[Callable[[Wishes, Known], Chosen], ...] = (_named, _models, _rows, _space, _budget, _training)
"""Who chooses what, in the order in which a study file is read."""
