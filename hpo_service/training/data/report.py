"""A study's data before the study: `python -m hpo_service.training.data.report` answers one request.

It reads `{"data": ..., "model": ..., "cache": ...}` on standard input and writes `{"report": ...}` or
`{"error": ...}` on standard output; what libraries print goes to standard error. With `"show": 2` it writes
`{"shown": ...}`, the first two rows, instead of a report on all.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from hpo_service.domain.study.sections.data import DataSpec
from hpo_service.domain.study.sections.model import ModelSpec
from hpo_service.domain.study.sources import BUILTIN
from hpo_service.errors import HpoServiceError
from hpo_service.training.device.libraries import keep_quiet

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def main() -> int:
    """Answer the request on standard input; return the exit status, 1 where the data cannot be used."""
    # only the answer goes there: no library's print may spoil it
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    keep_quiet()
    request = json.load(sys.stdin)
    answer: dict[str, Any]
    try:
        answer = {"shown": shown_for(request)} if "show" in request else {"report": answer_to(request)}
    except HpoServiceError as error:
        answer = {"error": " ".join(str(error).split())}
    with answers:
        json.dump(answer, answers)
    return int("error" in answer)


def answer_to(request: dict[str, Any], told: TextIO = sys.stderr) -> dict[str, Any]:
    """Tokenise the rows of a request, or find them in its cache, and return their report as plain data.

    Raises:
        DataError, ModelError: the rows or the tokenizer cannot be used.
    """
    from hpo_service.training.data.row_cache import RowCache
    from hpo_service.training.models.tokenizer import tokenizer_fingerprint

    spec, model = DataSpec.model_validate(request["data"]), ModelSpec.model_validate(request["model"])
    cache = Path(request["cache"])
    progress = _progress(told)
    tokenizer = _tokenizer(model, cache, progress)
    fingerprint = tokenizer_fingerprint(tokenizer, model.base)
    return RowCache(cache / "rows").rows(spec, tokenizer, fingerprint, progress).report.model_dump()


def shown_for(request: dict[str, Any], told: TextIO = sys.stderr) -> list[dict[str, Any]]:
    """The first rows of a request as the model sees them, as plain data.

    Raises:
        DataError, ModelError: the rows or the tokenizer cannot be used.
    """
    from hpo_service.training.data.shown import shown_rows

    spec, model = DataSpec.model_validate(request["data"]), ModelSpec.model_validate(request["model"])
    tokenizer = _tokenizer(model, Path(request["cache"]), _progress(told))
    return [row.model_dump() for row in shown_rows(spec, tokenizer, request["show"])]


def _progress(told: TextIO) -> Callable[[str, float], None]:
    def progress(message: str, fraction: float) -> None:
        told.write(f"{message} ({fraction:.0%})\n")
        told.flush()

    return progress


def _tokenizer(model: ModelSpec, cache: Path, progress: Callable[[str, float], None]) -> PreTrainedTokenizerBase:
    from hpo_service.training.models.tokenizer import load_tokenizer

    path = model.base
    if path.startswith(BUILTIN):
        # seconds of imports that other models need not wait for
        from hpo_service.training.builtin.family import BYTES, byte_tokenizer, resolve_model

        if path == BYTES:
            return byte_tokenizer()
        path = resolve_model(path, cache, progress)
    return load_tokenizer(model.base, path, model.trust_remote_code, model.revision_of(model.base))


if __name__ == "__main__":
    sys.exit(main())
