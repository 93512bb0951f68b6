"""Where everything lies that a trial leaves behind: its folder, one inside it for each attempt, and their files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hpo_service.domain.trial.assignment import Assignment

UNFINISHED = ".unfinished"
"""Folder beside those of the trials, with a file for each trial that may have checkpoints."""


def log_folder(output: Path) -> Path:
    """The folder of the logs that workers and their children write."""
    return output / "logs"


def trial_folder(output: Path, study: str, trial: str) -> Path:
    """The folder of a trial, by its key (e.g. `search-0007`)."""
    return trials_folder(output, study) / trial


def trials_folder(output: Path, study: str) -> Path:
    """The folder of all trials of a study."""
    return output / study / "trials"


@dataclass(frozen=True)
class AttemptFolder:
    """The folder of one attempt; every attempt has its own, so that a stale holder overwrites nothing."""

    path: Path

    @classmethod
    def of(cls, output: Path, assignment: Assignment) -> AttemptFolder:
        """The folder of a claimed trial's present attempt."""
        return cls.numbered(trial_folder(output, assignment.study, assignment.key), assignment.attempt)

    @classmethod
    def first(cls, trial: Path, attempts: int) -> list[AttemptFolder]:
        """The folders of a trial's first attempts, so many of them, whether or not they exist."""
        return [cls.numbered(trial, number) for number in range(1, attempts + 1)]

    @classmethod
    def found_in(cls, trial: Path) -> list[AttemptFolder]:
        """The folders of attempts that there are of the trial with this folder."""
        return [cls(path) for path in trial.glob("attempt-*")]

    @classmethod
    def numbered(cls, trial: Path, attempt: int) -> AttemptFolder:
        """The folder of an attempt of the trial with this folder."""
        return cls(trial / f"attempt-{attempt}")

    @property
    def links(self) -> list[Path]:
        """Symbolic links in the place of the folder or of what belongs in it; there should be none."""
        if self.path.is_symlink():
            return [self.path]
        own = (
            self.configuration,
            self.checkpoint,
            self.partial_checkpoint,
            self.undelivered,
            self.adapter,
            self.answers,
            self.validation_answers,
            self.seal,
            self.refused_checkpoint,
            self.refused_undelivered,
        )
        return [path for path in own if path.is_symlink()]

    @property
    def earlier(self) -> list[AttemptFolder]:
        """The folders that there are of the attempts before this one, the latest first."""
        before = [each for each in self.found_in(self.trial) if 0 < each._number < self._number]
        return sorted(before, key=lambda each: each._number, reverse=True)

    @property
    def _number(self) -> int:
        number = self.path.name.removeprefix("attempt-")
        return int(number) if number.isdecimal() else 0

    @property
    def trial(self) -> Path:
        """The folder of the trial."""
        return self.path.parent

    @property
    def configuration(self) -> Path:
        """What the attempt was about; a checkpoint is handed on only to the same."""
        return self.path / "trial.json"

    @property
    def checkpoint(self) -> Path:
        """Folder of what a later attempt may resume from."""
        return self.path / "checkpoint"

    @property
    def partial_checkpoint(self) -> Path:
        """Folder of a checkpoint that is being copied from an earlier attempt."""
        return self.path / "checkpoint.partial"

    @property
    def refused_checkpoint(self) -> Path:
        """Folder of a checkpoint that was set aside: it is damaged, or belongs to another trial."""
        return self.path / "checkpoint.refused"

    @property
    def seal(self) -> Path:
        """Digests of the files of a checkpoint that an objective left, from its orderly end until it is taken up."""
        return self.path / "checkpoint.json"

    @property
    def unfinished(self) -> Path:
        """A file that is there while the trial may have checkpoints; it holds the trial's identity."""
        return self.trial.parent / UNFINISHED / self.trial.name

    def enlist(self, identity: str) -> None:
        """Note that the trial may have checkpoints, for whoever removes those of trials that have ended.

        Args:
            identity: of the trial; nothing is noted where it is not known.

        Raises:
            OSError: it cannot be written.
        """
        if identity:
            self.unfinished.parent.mkdir(exist_ok=True)
            self.unfinished.write_text(identity)

    @property
    def refused_undelivered(self) -> Path:
        """Reports that lay in this attempt's place, of a trial that was deleted."""
        return self.path / "undelivered.refused.jsonl"

    @property
    def undelivered(self) -> Path:
        """Reports that did not reach the database at once, a line each."""
        return self.path / "undelivered.jsonl"

    @property
    def adapter(self) -> Path:
        """Folder of the trained adapter, where it is kept."""
        return self.path / "adapter"

    @property
    def answers(self) -> Path:
        """What the trained model answered to test rows for task metrics, a line each."""
        return self.path / "answers.jsonl"

    @property
    def validation_answers(self) -> Path:
        """What it answered to validation rows, where the study selects on a metric, a line each."""
        return self.path / "answers.validation.jsonl"
