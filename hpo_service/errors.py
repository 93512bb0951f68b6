"""The one error module: every failure a person can cause or meet, with its exit code, and a remedy in its message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class HpoServiceError(Exception):
    """Base of all expected errors; the command line prints `str(error)` as one line.

    Attributes:
        exit_code: the process's exit status when the error reaches the command line.
    """

    exit_code = 1


class StudyFileError(HpoServiceError):
    """A study file is wrong: the message names file, line and key.

    Attributes:
        file: the file as the caller named it.
        line: counted from 1; 0 where the file could not be read at all.
        key: dotted path of the key, empty where the error is about the file as a whole.
    """

    exit_code = 2

    def __init__(self, message: str, *, file: str = "", line: int = 0, key: str = "") -> None:
        super().__init__(message)
        self.file, self.line, self.key = file, line, key


class UnusableInputsError(HpoServiceError):
    """Every trial of a study would fail with the rows or models that it names, as a look at them has found.

    Attributes:
        lines: what is wrong, each with its remedy.
        findings: all that was found, warnings included, as plain data.
    """

    exit_code = 2

    def __init__(self, lines: Sequence[str], findings: Sequence[Mapping[str, object]]) -> None:
        super().__init__("; ".join(lines))
        self.lines, self.findings = lines, findings


class UsageError(HpoServiceError):
    """A command was called with arguments that do not fit together."""

    exit_code = 2


class NotFoundError(HpoServiceError):
    """A record that was asked for by name does not exist."""

    exit_code = 3


class ConflictError(HpoServiceError):
    """The record exists but its present state does not allow what was asked."""

    exit_code = 4


class DatabaseUnavailableError(HpoServiceError):
    """The database could not be reached or broke the connection; the same call may succeed later."""

    exit_code = 5


class ServerUnavailableError(HpoServiceError):
    """The server could not be reached or broke the connection; the same request may succeed later."""

    exit_code = 5


class SchedulerError(HpoServiceError):
    """What is to run workers refused, does not answer or cannot be asked from here; the message has its words."""


class AccessError(HpoServiceError):
    """The server knows nobody by this access token, or its role does not allow what was asked."""

    exit_code = 10


class DatabaseFaultError(HpoServiceError):
    """The database cannot work: its file is damaged or was removed, its disk is full. Calling again is no use."""

    exit_code = 8


class DatabaseRefusedError(HpoServiceError):
    """The database would not store one thing it was given, such as a value that is too large; all else goes on."""


class SchemaError(HpoServiceError):
    """The database's schema is missing, older or newer than this version of the package."""

    exit_code = 6


class LibraryError(HpoServiceError):
    """An installed library lacks what this package uses of it: another release; the message names one that fits."""

    exit_code = 6


class UnreadableStudyError(HpoServiceError):
    """A stored study does not fit this version's models: another version made it; the others go on."""

    exit_code = 6


class StaleLeaseError(HpoServiceError):
    """The caller no longer holds the trial: its lease was settled, and its write changed nothing."""


class TrialError(HpoServiceError):
    """A trial cannot be trained as asked; the message says which input is wrong.

    Attributes:
        retryable: whether another attempt may do better; False where it can only fail the same way.
        fatal: whether the process that trained it must be replaced.
    """

    retryable = False
    fatal = False


class DataError(TrialError):
    """The training data cannot be used; the message names file, row or column."""


class ModelError(TrialError):
    """The model or tokenizer cannot be loaded or is not a causal language model."""


class UnfitError(TrialError):
    """A configuration that cannot be trained, whatever the machine: it costs its own trial, as infeasible."""


class DoesNotFitError(UnfitError):
    """A configuration needs more memory than the device has; the message names sizes and remedies.

    Attributes:
        over_gb: by how much it is too large, in GB of 1e9 bytes, above 0.
        estimate_gb: what its tensors were thought to take, or None where that could not be told.
        ran_out: whether memory ran out in trying; False where it was refused beforehand.
    """

    def __init__(
        self, message: str, *, over_gb: float, estimate_gb: float | None = None, ran_out: bool = False
    ) -> None:
        super().__init__(message)
        self.over_gb, self.estimate_gb, self.ran_out = over_gb, estimate_gb, ran_out
        self.fatal = ran_out


class AttemptError(TrialError):
    """This attempt failed for a reason that the next one may not meet: a command that was killed, a busy machine."""

    retryable = True


class ForkedProcessError(TrialError):
    """A copy that was forked from a trial's process tried to speak for the trial: a DataLoader worker, a pool."""


class ChildError(HpoServiceError):
    """The trainer child ended, hung or wrote something that is not a message.

    Attributes:
        status: with which it ended, negative where a signal ended it; None where it has not.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class UnfitWorkerError(HpoServiceError):
    """A worker cannot do its work here, or not in this study: it leaves, and others go on."""

    exit_code = 9


class OutOfTimeError(HpoServiceError):
    """A worker's time is up before its study has ended: start another one, it goes on from the checkpoints."""

    exit_code = 11


class FileStoreError(HpoServiceError):
    """The shared folder or object storage would not take, give or remove something; what lies on the node stays."""


class StudyFailedError(HpoServiceError):
    """A study ended without a result; the message says at which stage and why."""


class ServedStudyFailedError(StudyFailedError):
    """The study that a worker was to serve until its end has failed: nothing is left to do for the worker."""

    exit_code = 7
