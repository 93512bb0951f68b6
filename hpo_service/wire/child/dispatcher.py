"""Inside the child: trials that wait for an engine, trials that run, and which of them a message is about."""

from __future__ import annotations

import contextlib
import logging
import os
from collections import deque
from collections.abc import Callable

from hpo_service.domain.trial.assignment import Assignment
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.errors import TrialError, UnfitError
from hpo_service.wire.child.failure import is_retryable, reason_of
from hpo_service.wire.child.link import Stopped, TrialLink
from hpo_service.wire.child.own_process import OwnProcess
from hpo_service.wire.child.pipe import Channel
from hpo_service.wire.messages import LEAVING, Admit, Capacity, Failed, Finished, Shutdown, Stop, ToTrial

NOT_AGAIN = "it would end any attempt so; the worker's log says where, and another model, method or version may help"

RunTrial = Callable[[TrialLink], Outcome]

log = logging.getLogger(__name__)


class Dispatcher:
    """Hands the trials that the supervisor admits to an engine, in order, and each message to the trial it is about.

    An engine takes one trial or several at once, and ends each with `finish` or `fail`.
    """

    def __init__(
        self,
        channel: Channel,
        work: Callable[[Dispatcher], object],
        is_fatal: Callable[[BaseException], bool] = lambda _: False,
        will_recur: Callable[[BaseException], bool] = lambda _: False,
        prepare: Callable[[TrialLink], object] = lambda _: None,
    ) -> None:
        """Prepare to serve.

        Args:
            channel: to the supervisor.
            work: called while a trial waits; takes at least that one, and returns when what it took has ended.
            is_fatal: whether an exception leaves this process unusable.
            will_recur: whether an exception that nobody expected would end another attempt the same way.
            prepare: called for a trial before an engine has it.
        """
        self._prepare = prepare
        self._channel, self._work, self._is_fatal, self._will_recur = channel, work, is_fatal, will_recur
        self._waiting: deque[Admit] = deque()
        self._links: dict[str, TrialLink] = {}
        self._leaving = False
        self._usable = True
        self._process = OwnProcess()

    def serve(self) -> int:
        """Serve until the supervisor shuts down or is gone; return the exit status of the process.

        A trial's exception is reported and the next trial runs, unless it leaves the process unusable (1).
        """
        while self._usable and not self._leaving:
            if self._waiting:
                self._work(self)
            else:
                self._hear(None)
        for admit in self._waiting:
            self._return(admit, Stop(trial=admit.trial, decision=LEAVING))
        self._channel.close()
        return 0 if self._usable else 1

    def waiting(self) -> Assignment | None:
        """The trial that has waited longest, if one may be taken now; hears what the supervisor has said."""
        while self._hear(0):
            pass
        return self._waiting[0].assignment if self._waiting and self._usable and not self._leaving else None

    def take_next(self) -> TrialLink:
        """Take the trial that has waited longest."""
        admit = self._waiting.popleft()
        link = self._links[admit.trial] = TrialLink(admit, self._channel, self._hear)
        link.touch(0.0)
        self._prepare(link)
        return link

    def run(self, link: TrialLink, run: RunTrial) -> None:
        """Run one trial to its end, whatever that is; a copy that the trial forked ends here, and says nothing."""
        try:
            outcome = run(link)
        except Stopped:
            self._end_copy(1)
            outcome = link.stopped()
        except (Exception, SystemExit) as error:
            self._end_copy(1, error)
            self.fail(link, error)
            return
        self._end_copy(0)
        self.finish(link, outcome)

    def _end_copy(self, status: int, error: BaseException | None = None) -> None:
        """End this process where it is a copy: code that forked and did not leave comes out where its parent does."""
        if self._process.is_this:
            return
        if isinstance(error, SystemExit):
            status = error.code if isinstance(error.code, int) else int(error.code is not None)
        elif error is not None:
            log.error("a process that the trial had forked failed", exc_info=error)
        os._exit(status)

    def finish(self, link: TrialLink, outcome: Outcome) -> None:
        """Tell how a trial ended."""
        self._usable = self._usable and not outcome.restart
        self._end(Finished(trial=link.trial, outcome=outcome))

    def fail(self, link: TrialLink, error: BaseException) -> None:
        """Tell that a trial ended in an error; one whose configuration cannot be trained is infeasible."""
        if isinstance(error, UnfitError):
            self.finish(
                link, Outcome(kind=OutcomeKind.INFEASIBLE, reason=reason_of(error), restart=self._is_fatal(error))
            )
            return
        if not isinstance(error, TrialError):
            log.error("trial %s failed", link.trial, exc_info=error)
        fatal = self._is_fatal(error)
        self._usable = self._usable and not fatal
        recurs = not fatal and self._will_recur(error)
        reason = f"{reason_of(error)}: {NOT_AGAIN}" if recurs else reason_of(error)
        self._end(Failed(trial=link.trial, reason=reason, fatal=fatal, retryable=is_retryable(error) and not recurs))

    def put_back(self, link: TrialLink) -> None:
        """Let a trial wait again, before all others: nothing of it was told, or what was may be told again.

        One that was told to stop meanwhile has ended.
        """
        if link.stop() is not None:
            self.finish(link, link.stopped())
            return
        del self._links[link.trial]
        self._waiting.appendleft(link.admit)

    def announce_capacity(self, slots: int, reason: str) -> None:
        """Tell how many trials are served at once from now on, and why."""
        self._channel.send(Capacity(slots=slots, reason=reason))

    def _end(self, message: Finished | Failed) -> None:
        link = self._links.get(message.trial)
        if link is not None:
            link.close()
            _enlist(link)
        self._links.pop(message.trial, None)
        self._channel.forget(message.trial)
        self._channel.send(message)

    def _hear(self, timeout: float | None) -> bool:
        message = self._channel.receive(timeout)
        if isinstance(message, Admit):
            self._waiting.append(message)
        elif isinstance(message, Shutdown):
            self._leaving = True
            for trial, link in self._links.items():
                link.receive(Stop(trial=trial, decision=LEAVING))
        elif message is not None:
            self._pass_on(message)
        return message is not None

    def _pass_on(self, message: ToTrial) -> None:
        """Hand a message to the trial it names; about one that has ended there is nothing left to say."""
        if message.trial in self._links:
            self._links[message.trial].receive(message)
        elif isinstance(message, Stop):
            for admit in [each for each in self._waiting if each.trial == message.trial]:
                self._waiting.remove(admit)
                self._return(admit, message)

    def _return(self, admit: Admit, stop: Stop) -> None:
        """End a trial that was told to stop before it began."""
        link = TrialLink(admit, self._channel, self._hear)
        link.receive(stop)
        self._channel.send(Finished(trial=admit.trial, outcome=link.stopped()))


def _enlist(link: TrialLink) -> None:
    """Note that a checkpoint is left; whoever ended the trial meanwhile has removed the note with the earlier ones.

    The supervisor, which would note it too, may be gone.
    """
    with contextlib.suppress(OSError):
        if link.folder.checkpoint.is_dir() and not link.folder.unfinished.exists():
            link.folder.enlist(link.assignment.identity)


def in_turn(run: RunTrial) -> Callable[[Dispatcher], object]:
    """An engine that runs one trial at a time."""
    return lambda dispatcher: dispatcher.run(dispatcher.take_next(), run)
