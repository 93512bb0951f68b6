"""The child's end of the pipe: messages in order, heartbeats that mean something, trials in turn."""

import json
import os
import subprocess
import sys
import threading

import pytest

from hpo_service.domain.trial.config import TrialConfig
from hpo_service.domain.trial.facts import RunFacts
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.domain.trial.report import Report
from hpo_service.errors import DataError, ForkedProcessError, TrialError, UnfitError
from hpo_service.wire.attempt_folder import AttemptFolder
from hpo_service.wire.child import Channel, Dispatcher, Stopped, TrialLink, in_turn, is_retryable, reason_of
from hpo_service.wire.messages import FROM_CHILD, Admit, Continue, Finished, Heartbeat, Shutdown
from tests import trials
from tests.trials import full, full_name, short, stop

CONFIG = TrialConfig(study="study", stage="search", parameters={}, seed=1)
DONE = Outcome(kind=OutcomeKind.COMPLETE, reason="done", value=1.0)


def admit(trial: str) -> Admit:
    return trials.admit(CONFIG, "folder", trial)


class Supervisor:
    """The other end of two pipes, and a clock that only moves by hand."""

    def __init__(self) -> None:
        here, there = os.pipe(), os.pipe()
        self.writer, self.reader = os.fdopen(here[1], "wb"), os.fdopen(there[0], "rb")
        self.now = 0.0
        self.abandoned = threading.Event()
        self.channel = Channel(
            os.fdopen(here[0], "rb"),
            os.fdopen(there[1], "wb"),
            clock=lambda: self.now,
            abandon=self.abandoned.set,
            orphan_seconds=0.01,
        )

    def send(self, *messages) -> None:
        for message in messages:
            self.write(full(message).model_dump_json().encode() + b"\n")

    def write(self, line: bytes) -> None:
        self.writer.write(line)
        self.writer.flush()

    def leave(self) -> None:
        if not self.writer.closed:
            self.writer.close()

    def heard(self):
        """Everything the child said until it closed its end, heartbeats left out."""
        messages = [short(FROM_CHILD.validate_json(line)) for line in self.reader]
        return [message for message in messages if not isinstance(message, Heartbeat)]


@pytest.fixture
def supervisor():
    supervisor = Supervisor()
    yield supervisor
    supervisor.leave()
    supervisor.channel.close()
    supervisor.reader.close()


def serve(supervisor, run, *messages, fatal=lambda error: False):
    """Send messages, then the end of the pipe, and serve; return exit status and what was said."""
    supervisor.send(*messages)
    supervisor.leave()
    return Dispatcher(supervisor.channel, in_turn(run), fatal).serve(), supervisor.heard()


def test_messages_arrive_in_order_and_the_end_of_the_pipe_is_a_shutdown(supervisor):
    supervisor.send(admit("a"), Continue(trial="a"))
    supervisor.leave()
    received = [supervisor.channel.receive() for _ in range(3)]
    assert received == [admit("a"), full(Continue(trial="a")), Shutdown()]
    assert supervisor.channel.receive(0) is None


def test_receiving_gives_up_after_its_timeout(supervisor):
    assert supervisor.channel.receive(0.001) is None


def test_a_line_that_is_no_message_is_skipped(supervisor, caplog):
    supervisor.write(b"not json\n")
    supervisor.send(Shutdown())
    assert supervisor.channel.receive() == Shutdown()
    assert "not a message" in caplog.text


def test_sending_to_a_supervisor_that_is_gone_is_not_an_error(supervisor, caplog):
    supervisor.reader.close()
    supervisor.channel.send(Finished(trial="a", outcome=DONE))
    assert "was not delivered" in caplog.text


def test_a_heartbeat_is_sent_only_after_a_sign_of_life(supervisor):
    channel = supervisor.channel
    assert channel.beat()
    assert not channel.beat()
    channel.touch({"a": 0.5}, "training")
    assert channel.beat()
    assert not channel.beat()
    channel.close()
    last = FROM_CHILD.validate_json(supervisor.reader.read().splitlines()[-1])
    assert last == Heartbeat(progress={"a": 0.5}, activity="training")


def test_a_busy_child_beats_until_the_limit_it_named(supervisor):
    channel = supervisor.channel
    channel.beat()
    with channel.busy("loading", limit=60):
        assert channel.beat()
        with channel.busy("reading", limit=5):
            supervisor.now = 10.0
            assert not channel.beat()
        assert channel.beat()
        supervisor.now = 61.0
        assert not channel.beat()
    assert channel.beat()
    assert not channel.beat()


def test_what_is_said_within_a_long_call_is_shown_instead_of_it(supervisor):
    channel = supervisor.channel
    channel.touch(activity="training")
    with channel.busy("loading"):
        channel.beat()
        channel.touch(activity="pre-training (40%)")
        channel.beat()
    channel.beat()
    channel.close()
    beats = [FROM_CHILD.validate_json(line).activity for line in supervisor.reader]
    assert beats == ["loading", "pre-training (40%)", "training"]


def test_waiting_for_the_supervisor_is_a_sign_of_life(supervisor):
    channel = supervisor.channel
    waiting = threading.Thread(target=channel.receive)
    waiting.start()
    supervisor.now = 1e9
    beats = 0
    while beats < 3:
        # the first is owed to the start; more come only from the wait
        beats += channel.beat()
    supervisor.send(Shutdown())
    waiting.join()
    assert beats == 3


def test_waiting_for_an_answer_about_a_trial_is_a_sign_of_life_only_for_a_while(supervisor):
    channel = supervisor.channel
    channel.touch({"a": 0.5})
    waiting = threading.Thread(target=channel.receive)
    with channel.busy("setting up", limit=1.0):
        waiting.start()
        while len(channel._busy) < 2:
            pass
    channel.beat()
    assert channel.beat()
    supervisor.now = 61.0
    assert not channel.beat()
    supervisor.send(Shutdown())
    waiting.join()


def test_a_long_call_that_ends_in_one_thread_does_not_end_that_of_another(supervisor):
    channel = supervisor.channel
    first, second = channel.busy("first"), channel.busy("second", limit=5)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    channel.beat()
    assert channel.beat()
    supervisor.now = 10.0
    assert not channel.beat()
    second.__exit__(None, None, None)


def in_a_copy(work):
    """Run something in a process that is forked from this one; return its exit status."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as error:
            os._exit(17 if isinstance(error, ForkedProcessError) else 99)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_forked_copy_cannot_speak_for_the_trial(supervisor):
    report = Report(step=1, fraction=0.5, value=1.0)
    link = TrialLink(admit("a"), supervisor.channel, lambda timeout: False)
    assert in_a_copy(lambda: supervisor.channel.send(Finished(trial="a", outcome=DONE))) == 17
    assert in_a_copy(lambda: link.report(report)) == 17
    assert in_a_copy(lambda: link.started()) == 17
    assert in_a_copy(lambda: link.stop()) == 0
    supervisor.channel.close()
    assert supervisor.heard() == []


@pytest.mark.parametrize(
    "end, status",
    [(lambda: DONE, 0), (lambda: sys.exit(0), 0), (lambda: sys.exit(3), 3), (lambda: 1 / 0, 1)],
    ids=["returns", "exits", "exits with a status", "fails"],
)
def test_a_copy_that_comes_out_of_the_trials_code_ends_and_the_trial_goes_on(supervisor, end, status):
    statuses = []

    def run(link):
        pid = os.fork()
        if pid == 0:
            return end()
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        return DONE

    _, heard = serve(supervisor, run, admit("a"))
    assert statuses == [status]
    assert [message.type for message in heard] == ["finished"]
    assert heard[0].outcome == DONE


def test_reports_from_several_threads_are_answered_each_in_its_turn(supervisor):
    def run(link):
        def work(first):
            for step in range(first, first + 20):
                link.report(Report(step=step, fraction=0.5, value=1.0))
                link.stop()

        threads = [threading.Thread(target=work, args=(100 * i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            link.stop()
        return DONE

    def reply(message):
        return [Continue(trial="a")] if message.type == "report" else []

    messages = converse(supervisor, run, ["a"], reply)
    assert [message.type for message in messages].count("report") == 80
    assert messages[-1].outcome == DONE


def test_a_thread_that_asks_whether_to_stop_does_not_wait_for_anothers_report(supervisor):
    def run(link):
        reporting = threading.Thread(target=link.report, args=(Report(step=1, fraction=0.5, value=1.0),))
        reporting.start()
        while supervisor.channel._busy == []:
            pass
        asked = link.stop()
        supervisor.send(Continue(trial="a"))
        reporting.join()
        return DONE.model_copy(update={"reason": f"asked: {asked}"})

    messages = converse(supervisor, run, ["a"])
    assert messages[-1].outcome.reason == "asked: None"


def test_a_trial_ends_when_its_threads_have_their_answers_and_what_they_report_later_is_refused(supervisor):
    may_answer = {trial: threading.Event() for trial in ("a", "b")}
    ended, threads, refused = threading.Event(), [], []

    def run(link):
        def work():
            link.report(Report(step=1, fraction=0.5, value=1.0))
            ended.wait()
            with pytest.raises(TrialError, match="has ended"):
                link.report(Report(step=2, fraction=0.5, value=1.0))
            refused.append(link.trial)

        threads.append(threading.Thread(target=work))
        threads[-1].start()
        while supervisor.channel._busy == []:
            pass
        may_answer[link.assignment.study].set()
        return DONE

    def reply(message):
        if message.type != "report":
            return []
        assert may_answer[message.trial].wait(30)
        return [Continue(trial=message.trial)]

    messages = converse(supervisor, run, ["a", "b"], reply)
    ended.set()
    for thread in threads:
        thread.join()
    assert [message.type for message in messages] == ["report", "finished"] * 2
    assert len(refused) == 2


def test_a_child_that_ignores_the_loss_of_its_supervisor_is_ended(supervisor):
    supervisor.leave()
    assert supervisor.abandoned.wait(5)


@pytest.mark.parametrize("leaves", [True, False])
def test_a_checkpoint_that_is_left_is_noted_again_for_the_trial_may_have_been_ended_by_others(
    supervisor, tmp_path, leaves
):
    folder = AttemptFolder(tmp_path / "trials" / "search-0003" / "attempt-1")
    identity = "study 1, trial 3 of 5.5"

    def run(link):
        if leaves:
            link.folder.checkpoint.mkdir(parents=True)
        link.report(Report(step=1, fraction=0.1, value=1.0))
        return link.stopped()

    serve(supervisor, run, trials.admit(CONFIG, folder.path, identity=identity))
    assert folder.unfinished.exists() == leaves
    if leaves:
        assert folder.unfinished.read_text() == identity


def converse(supervisor, run, admitted, reply=lambda message: []):
    """Serve in a thread, reply to each message, and shut down once every admitted trial has ended."""
    supervisor.send(*(admit(trial) for trial in admitted))
    serving = threading.Thread(target=Dispatcher(supervisor.channel, in_turn(run)).serve)
    serving.start()
    messages = []
    while sum(message.type in ("finished", "failed") for message in messages) < len(admitted):
        messages.append(short(FROM_CHILD.validate_json(supervisor.reader.readline())))
        supervisor.send(*reply(messages[-1]))
    supervisor.send(Shutdown())
    serving.join()
    return messages


def test_trials_run_in_the_order_of_their_admission(supervisor):
    ran = []
    messages = converse(supervisor, lambda link: ran.append(link.assignment.study) or DONE, ["b", "a", "c"])
    assert ran == ["b", "a", "c"] == [message.trial for message in messages]


def reporting(link):
    """A trial that reports until it is told to stop."""
    link.started(0.25)
    for step in range(1, 4):
        report = Report(step=step, fraction=step / 10, value=1.0, metrics={"loss": 2.0, "odd": float("nan")})
        if link.report(report) is not None:
            return link.stopped(value=1.0, facts=RunFacts.of({"steps": step}))
    return DONE


def answering(supervisor, answers):
    """Run the reporting trial; answer the reports as told, the others with continue."""

    def reply(message):
        return answers.get(message.report.step, [Continue(trial="a")]) if message.type == "report" else []

    return converse(supervisor, reporting, ["a"], reply)


def test_a_stop_that_answers_a_report_prunes_the_trial(supervisor):
    messages = answering(supervisor, {3: [stop("prune", "worse than half", "a")]})
    assert [message.type for message in messages] == ["started", "report", "report", "report", "finished"]
    outcome = messages[-1].outcome
    assert (outcome.kind, outcome.reason, outcome.value) == (OutcomeKind.PRUNED, "worse than half", 1.0)
    assert outcome.facts.flat() == {"steps": 3}


def test_a_stop_with_a_checkpoint_releases_the_trial(supervisor):
    messages = answering(supervisor, {1: [stop("release", "drained", "a")]})
    assert messages[-1].outcome.kind is OutcomeKind.RELEASED


def test_a_measure_that_is_not_finite_is_left_out_of_a_report(supervisor):
    messages = answering(supervisor, {1: [stop("prune", "enough", "a")]})
    assert messages[1].report.metrics == {"loss": 2.0}


def test_an_answer_about_another_trial_is_not_taken(supervisor):
    others = [stop("prune", "late", "old"), Continue(trial="old")]
    messages = answering(supervisor, {1: [*others, Continue(trial="a")], 2: [*others, stop("prune", "now", "a")]})
    assert [message.type for message in messages] == ["started", "report", "report", "finished"]


def test_a_stop_between_reports_cancels(supervisor):
    def run(link):
        while link.stop() is None:
            pass
        return link.stopped()

    _, heard = serve(supervisor, run, admit("a"), stop("cancel", "a person said so", "a"))
    assert heard[0].outcome.kind is OutcomeKind.CANCELLED
    assert heard[0].outcome.reason == "a person said so"


def test_code_with_nothing_to_save_is_left_by_an_exception(supervisor):
    def run(link):
        while True:
            link.check()

    _, heard = serve(supervisor, run, admit("a"), stop("cancel", "enough", "a"))
    assert heard[0].outcome.kind is OutcomeKind.CANCELLED


def test_a_report_after_an_order_to_stop_is_sent_without_waiting(supervisor):
    def run(link):
        while link.stop() is None:
            pass
        link.report(Report(step=1, fraction=0.5, value=1.0))
        return link.stopped()

    _, heard = serve(supervisor, run, admit("a"), stop("cancel", "enough", "a"))
    assert [message.type for message in heard] == ["report", "finished"]
    assert heard[1].outcome.kind is OutcomeKind.CANCELLED


def test_the_loss_of_the_supervisor_stops_a_running_trial_with_a_checkpoint(supervisor):
    def run(link):
        while (order := link.stop()) is None:
            pass
        assert order.saves
        return link.stopped(checkpoint_failed="disk full")

    status, heard = serve(supervisor, run, admit("a"))
    assert status == 0
    assert heard[0].outcome.kind is OutcomeKind.RELEASED
    assert heard[0].outcome.reason == "the worker is shutting down (no checkpoint: disk full)"


def test_waiting_trials_are_given_back_when_stopped_or_at_the_end(supervisor):
    def run(link):
        while link.stop() is None:
            pass
        return link.stopped()

    order = stop("cancel", "cancelled by a person", "b")
    _, heard = serve(supervisor, run, admit("a"), admit("b"), admit("c"), order)
    kinds = {message.trial: (message.outcome.kind, message.outcome.reason) for message in heard}
    assert kinds["b"] == (OutcomeKind.CANCELLED, "cancelled by a person")
    assert kinds["c"] == (OutcomeKind.RELEASED, "the worker is shutting down")
    assert kinds["a"][0] is OutcomeKind.RELEASED


def test_an_exception_fails_its_trial_and_the_next_one_runs(supervisor):
    def run(link):
        if link.assignment.study == "a":
            raise ValueError("first line\nsecond line")
        return DONE

    failed, finished = converse(supervisor, run, ["a", "b"])
    assert (failed.type, failed.reason) == ("failed", "ValueError: first line second line")
    assert not failed.fatal
    assert failed.retryable
    assert finished.outcome == DONE


def test_an_error_that_spoils_the_process_ends_it(supervisor):
    def run(link):
        raise RuntimeError("CUDA error")

    status, heard = serve(supervisor, run, admit("a"), fatal=lambda error: "CUDA" in str(error))
    assert status == 1
    assert heard[0].fatal


def test_an_outcome_that_wears_the_process_out_ends_it(supervisor):
    worn = DONE.model_copy(update={"restart": True})
    status, heard = serve(supervisor, lambda link: worn, admit("a"))
    assert status == 1
    assert heard[0].outcome == worn


def test_wrong_inputs_are_told_as_they_are_and_not_tried_again(supervisor):
    def run(link):
        raise DataError("rows.jsonl, line 3: column 'completion' is missing")

    _, heard = serve(supervisor, run, admit("a"))
    assert heard[0].reason == "rows.jsonl, line 3: column 'completion' is missing"
    assert not heard[0].retryable


def test_a_configuration_that_cannot_be_trained_is_infeasible_and_costs_one_trial(supervisor):
    def run(link):
        if link.assignment.study == "a":
            raise UnfitError("orthogonal adapters need an even rank, not 7: use 8")
        return DONE

    unfit, finished = converse(supervisor, run, ["a", "b"])
    assert (unfit.outcome.kind, unfit.outcome.reason) == (
        OutcomeKind.INFEASIBLE,
        "orthogonal adapters need an even rank, not 7: use 8",
    )
    assert finished.outcome == DONE


def test_an_objective_that_exits_fails_its_trial_only(supervisor):
    status, heard = serve(supervisor, lambda link: sys.exit(3), admit("a"))
    assert status == 0
    assert heard[0].reason == "SystemExit: 3"


def test_inputs_that_were_out_of_reach_may_be_tried_again():
    error = DataError("data set x cannot be loaded")
    assert not is_retryable(error)
    error.__cause__ = OSError("no route")
    assert not is_retryable(error)
    error.__cause__.__cause__ = ConnectionResetError("peer")
    assert is_retryable(error)
    assert is_retryable(RuntimeError("anything"))


def test_a_reason_is_one_line():
    assert reason_of(ValueError()) == "ValueError"
    assert reason_of(TrialError()) == "TrialError"
    assert len(reason_of(ValueError("x" * 10_000))) < 600


def test_ending_as_stopped_without_an_order_is_an_error():
    link = TrialLink(admit("a"), None, lambda timeout: False)
    with pytest.raises(TrialError, match="nobody asked"):
        link.stopped()


def test_stopped_carries_no_reason_of_its_own():
    assert str(Stopped()) == ""


CHILD = """
import os, sys
from hpo_service.wire.child import Channel, Dispatcher, in_turn
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind

def run(link):
    print("a library prints")
    os.write(1, b"and writes\\n")
    os.system("echo a grandchild prints")
    assert sys.stdin.read() == ""
    if link.assignment.study == "waits":
        link.started()
        while link.stop() is None:
            link.touch(0.5)
        return link.stopped()
    return Outcome(kind=OutcomeKind.COMPLETE, reason="done", value=1.0)

sys.exit(Dispatcher(Channel.over_stdio(), in_turn(run)).serve())
"""


@pytest.fixture
def child():
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    yield process
    process.kill()
    process.communicate()


def test_prints_of_libraries_and_grandchildren_do_not_reach_the_supervisor(child):
    out, err = child.communicate(admit("a").model_dump_json().encode() + b"\n", timeout=60)
    messages = [json.loads(line) for line in out.splitlines()]
    assert {message["type"] for message in messages} <= {"heartbeat", "finished"}
    assert err.split() == b"a library prints and writes a grandchild prints".split() or b"grandchild" in err
    assert child.returncode == 0


def test_sigterm_stops_the_trial_with_a_checkpoint_and_sigint_is_left_to_the_supervisor(child):
    child.stdin.write(admit("waits").model_dump_json().encode() + b"\n")
    child.stdin.flush()
    seen = []
    for line in child.stdout:
        seen.append(json.loads(line))
        if seen[-1]["type"] == "started":
            child.send_signal(2)
        if (
            seen[-1]["type"] == "heartbeat"
            and seen[-1]["activity"] == ""
            and seen[-1]["progress"] == {full_name("waits"): 0.5}
        ):
            child.terminate()
        if seen[-1]["type"] == "finished":
            break
    assert seen[-1]["outcome"]["kind"] == "released"
    assert child.wait(timeout=30) == 0
