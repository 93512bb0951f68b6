"""Reports that could not be delivered at once, kept beside the checkpoints that lie ahead of them.

While the database is away a child trains on, and its checkpoints with it; and a child whose supervisor died with a
report in hand saves a checkpoint before it leaves. Whoever resumes from such a checkpoint would never report what lies
behind it; from this file they can.
"""

from __future__ import annotations

import contextlib
import logging

from pydantic import TypeAdapter

from hpo_service.domain.trial.report import Report
from hpo_service.wire.attempt_folder import AttemptFolder
from hpo_service.wire.framing import read_lines, write_line

_REPORT = TypeAdapter(Report)

log = logging.getLogger(__name__)


def keep_undelivered(folder: AttemptFolder, report: Report) -> None:
    """Append a report to those of an attempt that were not delivered, before the child goes on from it.

    A file that cannot be written (disk full) costs the report only if the worker dies before the outage ends.
    """
    try:
        with folder.undelivered.open("ab") as file:
            write_line(file, report)
    except OSError as error:
        log.warning("report %d of %s is kept in memory alone: %s", report.step, folder.path, error)


def read_undelivered(folder: AttemptFolder, attempt: int) -> list[Report]:
    """Return what the attempts before this one could not deliver, by step; the first report of a step stands.

    A last line that a kill cut short is left out: its child had not gone on from it.
    """
    found: dict[int, Report] = {}
    for earlier in AttemptFolder.first(folder.trial, attempt - 1):
        with contextlib.suppress(OSError), earlier.undelivered.open("rb") as file:
            for report in read_lines(file, _REPORT):
                if isinstance(report, Report):
                    found.setdefault(report.step, report)
    return [found[step] for step in sorted(found)]
