"""What is stored of a study as JSON: its file, and what is known of its models, as this version reads them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache

from pydantic import ValidationError

from hpo_service.domain.study.spec import STORED, StudySpec
from hpo_service.domain.trial.model_facts import ModelFacts
from hpo_service.errors import UnreadableStudyError

PARSED_STUDIES = 256
"""Study files that are kept parsed: a worker asks for its studies' several times in each call to the queue."""


@lru_cache(maxsize=PARSED_STUDIES)
def parsed(document: str) -> StudySpec:
    """The study file with this very text; it is frozen, so that all who ask may share it.

    Raises:
        ValidationError: it does not say what this version understands.
    """
    return StudySpec.model_validate(json.loads(document), context=STORED)


def known_facts(facts: object) -> Iterator[tuple[str, ModelFacts]]:
    """Read what is known of models; what a later version knows besides, or otherwise, is passed over.

    Studies are read many at a time: one must not keep the others from being read.
    """
    fields = ModelFacts.model_fields
    for name, fact in facts.items() if isinstance(facts, Mapping) else ():
        with suppress(ValidationError):
            yield name, ModelFacts.model_validate({key: fact[key] for key in fact if key in fields})


def first_of(error: ValidationError) -> str:
    """The first thing that is wrong, and how many more there are."""
    first, *others = error.errors(include_url=False)
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}".removeprefix(": ") + (f" (and {len(others)} more)" if others else "")


def unreadable(study: str, reason: str) -> UnreadableStudyError:
    """The error for a study that another version wrote, in a way that this one does not understand."""
    return UnreadableStudyError(
        f"study {study} was made by another version of hpo-service and cannot be read by this one "
        f"({' '.join(reason.split())}): use that version here too"
    )
