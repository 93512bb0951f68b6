"""The data report: a child process looks at the rows of a study, so that this one never loads what trains models."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE
from threading import Thread
from typing import Any

from hpo_service.domain.study.data_report import DataReport, ShownRow
from hpo_service.domain.study.spec import StudySpec
from hpo_service.errors import ChildError, DataError, UsageError

MODULE = "hpo_service.training.data.report"


def report_data(spec: StudySpec, cache: Path, tell: Callable[[str], object] = lambda _: None) -> DataReport:
    """Let a child process look at the rows of a study.

    Args:
        spec: the study.
        cache: folder of what can be made again.
        tell: given each line that the child writes about what it is doing.

    Raises:
        UsageError: the study has no rows.
        DataError: the rows or the tokenizer cannot be used.
        ChildError: the child ended without an answer.
    """
    return DataReport.model_validate(_answer(spec, cache, tell, {})["report"])


def show_rows(
    spec: StudySpec, cache: Path, rows: int, tell: Callable[[str], object] = lambda _: None
) -> list[ShownRow]:
    """Let a child process read the first rows of a study as the model sees them; see `report_data`.

    Raises:
        UsageError, DataError, ChildError: as there.
    """
    return [ShownRow.model_validate(row) for row in _answer(spec, cache, tell, {"show": rows})["shown"]]


def _answer(spec: StudySpec, cache: Path, tell: Callable[[str], object], asked: dict[str, Any]) -> dict[str, Any]:
    if spec.data is None or spec.model is None:
        raise UsageError(f"study {spec.name} has an objective of its own, and so no data to report on")
    request = {
        "data": spec.data.model_dump(mode="json"),
        "model": spec.model.model_dump(mode="json"),
        "cache": str(cache),
        **asked,
    }
    status, said, last = ask(MODULE, json.dumps(request), tell)
    try:
        answer: dict[str, Any] = json.loads(said)
    except ValueError:
        raise ChildError(f"the data report ended with status {status}: {last}{_remedy(last)}") from None
    if "error" in answer:
        raise DataError(answer["error"])
    return answer


def ask(module: str, request: str, tell: Callable[[str], object] = lambda _: None) -> tuple[int, str, str]:
    """Run a child that answers one request; return its status, its answer, and the last line it wrote beside it."""
    last = "it wrote nothing"
    command = [sys.executable, "-m", module]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        with suppress(BrokenPipeError), child.stdin as requests:  # a child that has died says why on its way out
            requests.write(request)
        # beside the other, since a long answer fills its pipe while the child still holds both
        answers, stdout = list[str](), child.stdout
        reader = Thread(target=lambda: answers.append(stdout.read()))
        reader.start()
        for line in child.stderr:
            last = line.strip() or last
            tell(last)
        reader.join()
    return child.returncode, "".join(answers), last


def _remedy(reason: str) -> str:
    return "; pip install 'hpo-service[train]'" if reason.startswith("ModuleNotFoundError") else ""
