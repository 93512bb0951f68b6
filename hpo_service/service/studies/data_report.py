"""The data report: a child process looks at the rows of a study, so that this one never loads what trains models."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE

from hpo_service.domain.study.data_report import DataReport
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
    if spec.data is None or spec.model is None:
        raise UsageError(f"study {spec.name} has an objective of its own, and so no data to report on")
    request = {
        "data": spec.data.model_dump(mode="json"),
        "model": spec.model.model_dump(mode="json"),
        "cache": str(cache),
    }
    status, said, last = ask(MODULE, json.dumps(request), tell)
    try:
        answer = json.loads(said)
    except ValueError:
        raise ChildError(f"the data report ended with status {status}: {last}{_remedy(last)}") from None
    if "error" in answer:
        raise DataError(answer["error"])
    return DataReport.model_validate(answer["report"])


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
        # the answer is written last and fits into the pipe, so nobody waits for the other
        for line in child.stderr:
            last = line.strip() or last
            tell(last)
        answer = child.stdout.read()
    return child.returncode, answer, last


def _remedy(reason: str) -> str:
    return "; pip install 'hpo-service[train]'" if reason.startswith("ModuleNotFoundError") else ""
