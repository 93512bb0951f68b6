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
from hpo_service.wire.digests import digest_of_text
from hpo_service.wire.framing import BadLine, read_lines, write_line

log = logging.getLogger(__name__)


class KeptReport(Report):
    """A report with the identity of its trial, and a digest of both: names of trials come back, and disks forget."""

    trial: str
    digest: str

    @classmethod
    def of(cls, report: Report, trial: str) -> KeptReport:
        """Seal a report of this trial."""
        return cls(**report.model_dump(), trial=trial, digest=_digest(report, trial))

    @property
    def report(self) -> Report:
        """The report alone."""
        return Report(step=self.step, fraction=self.fraction, value=self.value, metrics=self.metrics)

    def belongs_to(self, trial: str) -> bool:
        """Whether it is that trial's, and as it was written."""
        return self.trial == trial and self.digest == _digest(self.report, self.trial)


# Earlier versions wrote the report alone, and so does who does not know the trial's identity.
_LINE: TypeAdapter[KeptReport | Report] = TypeAdapter(KeptReport | Report)


def keep_undelivered(folder: AttemptFolder, report: Report, trial: str = "") -> None:
    """Append a report to those of an attempt that were not delivered, before the child goes on from it.

    A file that cannot be written (disk full) costs the report only if the worker dies before the outage ends.

    Args:
        folder: of the attempt.
        report: that was not delivered.
        trial: the trial's identity, where it is known.
    """
    try:
        with folder.undelivered.open("ab") as file:
            write_line(file, KeptReport.of(report, trial) if trial else report)
    except OSError as error:
        log.warning("report %d of %s is kept in memory alone: %s", report.step, folder.path, error)


def read_undelivered(folder: AttemptFolder, attempt: int, trial: str = "") -> list[Report]:
    """Return what the attempts before this one could not deliver, by step; the first report of a step stands.

    A last line that a kill cut short is left out: its child had not gone on from it. So is a report of another trial
    of this name, whose study was deleted, and one that is not as it was written; that is said in the log.
    """
    found: dict[int, Report] = {}
    refused = 0
    for earlier in AttemptFolder.first(folder.trial, attempt - 1):
        with contextlib.suppress(OSError), earlier.undelivered.open("rb") as file:
            for line in read_lines(file, _LINE):
                if isinstance(line, BadLine) or (isinstance(line, KeptReport) and not line.belongs_to(trial)):
                    refused += 1
                    continue
                report = line.report if isinstance(line, KeptReport) else line
                found.setdefault(report.step, report)
    if refused:
        log.warning("%s: %d reports are left out: damaged, or of a trial that was deleted", folder.trial, refused)
    return [found[step] for step in sorted(found)]


def _digest(report: Report, trial: str) -> str:
    return digest_of_text(f"{trial}\n{report.model_dump_json()}")
