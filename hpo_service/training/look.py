"""A look at a study before its first trial: `python -m hpo_service.training.look` answers one request.

It reads `{"study": ..., "rows": 200}`, a study and how many of its rows to look at, on standard input and writes
`{"findings": [...]}` on standard output; what libraries print goes to standard error. It reads this machine alone: no
weights, and nothing from the network.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from hpo_service.domain.study.finding import Finding, Subject
from hpo_service.domain.study.methods import METHODS
from hpo_service.domain.study.sections.model import ModelSpec
from hpo_service.domain.study.spec import StudySpec
from hpo_service.training.device.libraries import keep_quiet

# Read when the libraries are imported: what is not on this machine is not fetched for a look that takes seconds, and
# nothing is compiled in it, so that two seconds of importing the compiler are saved.
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TORCHDYNAMO_DISABLE": "1"}


def main() -> int:
    """Answer the request on standard input; return the exit status, 1 where every trial would fail."""
    # only the answer goes there: no library's print may spoil it
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    keep_quiet()
    os.environ.update(ENVIRONMENT)
    request: dict[str, Any] = json.load(sys.stdin)
    found = look_at(StudySpec.model_validate(request["study"]), request["rows"])
    with answers:
        json.dump({"findings": [each.model_dump() for each in found]}, answers)
    return int(any(each.level == "error" for each in found))


def look_at(study: StudySpec, rows: int) -> list[Finding]:
    """All that is wrong with a study's first rows, tokenizer and models, errors first."""
    found = [*_whole("data", _rows, study, rows), *_whole("model", _models, study)]
    return sorted(dict.fromkeys(found), key=lambda each: each.level != "error")


def _rows(study: StudySpec, rows: int) -> list[Finding]:
    from hpo_service.training.data.first_look import first_look

    if study.data is None or study.model is None:
        return []
    new = all(METHODS[str(method)].base == "new" for method in study.values_of("method"))
    return [
        each
        for model in _one_by_one(study.model)
        # of configurations the look at models tells
        for each in first_look(
            study.data,
            model,
            rows,
            from_scratch=new,
            before=_prefix(study),
            asks=study.evaluation.select is not None,
            tells_of_configurations=False,
        )
    ]


def _prefix(study: StudySpec) -> int:
    """Tokens that every trial has before its rows: the shortest prefix, where all methods learn one."""
    if not all(METHODS[str(method)].virtual_tokens for method in study.values_of("method")):
        return 0
    return min(int(tokens) for tokens in study.values_of("prefix_tokens"))


def _one_by_one(models: ModelSpec) -> Iterator[ModelSpec]:
    """The base alone, then the target as if it were one: rows go through its own tokenizer."""
    yield models.model_copy(update={"target": None})
    if models.target not in (None, models.base):
        as_base = {"base": models.target, "revision": models.target_revision}
        yield models.model_copy(update={**as_base, "target": None, "target_revision": None})


def _models(study: StudySpec) -> list[Finding]:
    from hpo_service.training.models.check import check_study

    return check_study(study)


def _whole(subject: Subject, look: Callable[..., list[Finding]], *asked: object) -> list[Finding]:
    """What a look finds; one that breaks off stops no study, and hides nothing that another one finds."""
    try:
        return look(*asked)
    # code that comes with models and data raises what it likes
    except Exception as error:
        words = " ".join(f"{type(error).__name__}: {error}".split())
        return [
            Finding(level="unchecked", subject=subject, what=f"the look at the study's {subject} broke off: {words}")
        ]


if __name__ == "__main__":
    sys.exit(main())
