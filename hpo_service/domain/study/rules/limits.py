"""What databases, samplers and workers can hold: a study beyond it would be accepted and never served."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from hpo_service.domain.study.fields import StudyFields
from hpo_service.domain.study.sections.search import LARGEST_SEED
from hpo_service.domain.study.validation import Violations

LARGEST_WHOLE = 2**53
"""Whole numbers up to here are exact in Optuna's columns, which are 64-bit floats, and so fit every column of ours."""
LARGEST_FLOAT = 1e300
"""The distance between any two numbers is finite up to here, also in the space of a stage that encloses them."""
LONGEST_TEXT = 100_000
"""Bytes: Linux hands a program no argument above 131,072, and every trial of a choice stores all its choices."""
LONGEST_NAME = 512
"""Characters that Optuna's column takes of a parameter's name."""
MOST_PARAMETERS = 500
"""A claim with that many takes one to two seconds; samplers go through branches by recursion, which ends at 1,000."""
SHORTEST_LEASE = 2.0
"""Seconds: leases are renewed four times within their length, and workers look around every half second."""
SHORTEST_SILENCE = 5.0
"""Seconds: a child gives a sign of life every second, and a busy machine may hold that up."""

Place = tuple[str | int, ...]


def values_can_be_stored(study: StudyFields, wrong: Violations) -> None:
    """Every text and number that the file gives, wherever it stands, can be written into any of the databases."""
    for place, value in _given(study, ()):
        reason = _why_not_stored(value)
        if reason:
            wrong.add(reason, *place)


def seeds_are_of_32_bits(study: StudyFields, wrong: Violations) -> None:
    """A seed is one that every library takes."""
    reason = f"must be at most {LARGEST_SEED}: use a smaller one"
    if study.search.seed > LARGEST_SEED:
        wrong.add(reason, "search", "seed")
    if study.data is not None and study.data.split.seed > LARGEST_SEED:
        wrong.add(reason, "data", "split", "seed")


def parameters_are_few_with_short_names(study: StudyFields, wrong: Violations) -> None:
    """A trial with all of its parameters can be stored and sampled."""
    parameters = study.space.resolve().parameters
    if len(parameters) > MOST_PARAMETERS:
        reason = f"{len(parameters)} parameters are more than the {MOST_PARAMETERS} that can be searched"
        wrong.add(f"{reason}: fix some, or search groups of them by one", "space", "parameters")
    for name in parameters:
        if len(name) > LONGEST_NAME:
            reason = f"is a name of {len(name)} characters, and {LONGEST_NAME} can be stored: shorten it"
            wrong.add(reason, "space", "parameters", name)


def times_can_be_kept(study: StudyFields, wrong: Violations) -> None:
    """A worker in good health keeps its leases, and its child is not taken for hung."""
    lease, silence = study.execution.lease_seconds, study.execution.hang_seconds
    if lease < SHORTEST_LEASE:
        reason = f"must be at least {SHORTEST_LEASE:g}, not {lease:g}: workers that are alive would lose their trials"
        wrong.add(reason, "execution", "lease_seconds")
    if silence < SHORTEST_SILENCE:
        reason = f"must be at least {SHORTEST_SILENCE:g}, not {silence:g}: children that are alive would be killed"
        wrong.add(reason, "execution", "hang_seconds")


def _given(node: object, place: Place) -> Iterator[tuple[Place, object]]:
    """Go through what the file gives, keys included, each with its place."""
    if isinstance(node, BaseModel):
        for name in node.__class__.model_fields:
            if name in node.model_fields_set:
                yield from _given(getattr(node, name), (*place, name))
    elif isinstance(node, Mapping):
        for key, value in node.items():
            if _why_not_stored(key):  # a path with such a key could not be shown
                yield place, key
            else:
                yield from _given(value, (*place, key))
    elif isinstance(node, list):
        for index, item in enumerate(node):
            yield from _given(item, (*place, index))
    else:
        yield place, node


def _why_not_stored(value: object) -> str:
    if isinstance(value, str):
        return why_no_text(value)
    if isinstance(value, int) and abs(value) > LARGEST_WHOLE:
        return f"whole numbers beyond 2^53 ({LARGEST_WHOLE}) are not stored exactly: use a smaller one"
    if isinstance(value, float) and abs(value) > LARGEST_FLOAT:
        return f"numbers beyond {LARGEST_FLOAT:g} cannot be reckoned with: use a smaller one"
    return ""


def why_no_text(text: str) -> str:
    """Say why a text cannot be stored, or nothing where it can."""
    shown = ascii(text[:40])
    if "\0" in text:
        return f"the text {shown} holds the character NUL, which no database takes: drop it"
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return f"the text {shown} holds half a character (a lone surrogate): write the whole one"
    if size > LONGEST_TEXT:
        return f"a text of {size} bytes is longer than the {LONGEST_TEXT} that can be stored: name a file instead"
    return ""
