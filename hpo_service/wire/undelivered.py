"""Reports that could not be delivered at once, kept beside the checkpoints that lie ahead of them.

While the database is away a child trains on, and its checkpoints with it; and a child whose supervisor died with a
report in hand saves a checkpoint before it leaves. Whoever resumes from such a checkpoint would never report what lies
behind it; from this file they can.
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

from pydantic import ValidationError

from hpo_service.domain.trial.report import Report

JOURNAL = "undelivered.jsonl"

log = logging.getLogger(__name__)


def remember(folder: Path, report: Report) -> None:
    """Append a report to the journal of an attempt's folder, before the child goes on from it.

    A journal that cannot be written (disk full) costs the report only if the worker dies before the outage ends.
    """
    try:
        with (folder / JOURNAL).open("a") as journal:
            journal.write(report.model_dump_json() + "\n")
    except OSError as error:
        log.warning("report %d of %s is kept in memory alone: %s", report.step, folder, error)


def recall(folder: Path, attempt: int) -> list[Report]:
    """Read what earlier attempts could not deliver, by step; the first report of a step stands.

    A last line that a kill cut short is left out: its child had not gone on from it.
    """
    found: dict[int, Report] = {}
    for earlier in range(1, attempt):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            for line in (folder.parent / f"attempt-{earlier}" / JOURNAL).read_text().splitlines():
                with contextlib.suppress(ValidationError):
                    report = Report.model_validate_json(line)
                    found.setdefault(report.step, report)
    return [found[step] for step in sorted(found)]
