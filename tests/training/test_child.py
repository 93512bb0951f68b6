"""The trainer as a process: driven over its pipes from first message to exit."""

import json
import os
import subprocess
import sys

import pytest
import torch

from hpo_service.domain.trial.outcome import OutcomeKind
from hpo_service.errors import DataError
from hpo_service.training.__main__ import cache_folder, use_one_device, why_unusable
from hpo_service.training.device.faults import is_fatal, set_threads, will_recur
from hpo_service.wire.messages import FROM_CHILD, Continue, Shutdown
from tests.training.tiny import pairs, write_rows
from tests.trials import admit as admit_trial
from tests.trials import full_name, stop


class Child:
    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hpo_service.training"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def send(self, message):
        self.process.stdin.write(message.model_dump_json().encode() + b"\n")
        self.process.stdin.flush()

    def hear(self, *, answer=True, but_not=("ready",)):
        """The next message about a trial; reports are answered with continue."""
        for line in self.process.stdout:
            message = FROM_CHILD.validate_json(line)
            if message.type == "report" and answer:
                self.send(Continue(trial=message.trial))
            if message.type not in ("heartbeat", *but_not):
                return message
        raise AssertionError("the child is gone")

    def until_end(self):
        messages = [self.hear()]
        while messages[-1].type not in ("finished", "failed"):
            messages.append(self.hear())
        return messages


@pytest.fixture(scope="module")
def child():
    child = Child()
    yield child
    child.process.kill()
    child.process.communicate()


def test_a_process_serves_trial_after_trial_and_survives_bad_ones(child, trainee, tmp_path):
    def admit(trial, config):
        child.send(admit_trial(config, tmp_path / trial, trial))

    admit("first", trainee.config())
    broken = write_rows(tmp_path / "broken.jsonl", [*pairs(20), {"prompt": "only"}])
    admit("broken", trainee.config(data={"source": broken}))
    admit("pruned", trainee.config())
    first = child.until_end()
    assert [message.type for message in first] == ["started", "report", "report", "report", "report", "finished"]
    assert first[-1].outcome.kind is OutcomeKind.COMPLETE

    (failed,) = child.until_end()
    assert failed.reason == f"{broken}, line 21: column 'completion' is missing"
    assert not failed.fatal
    assert not failed.retryable

    assert child.hear().type == "started"
    report = child.hear(answer=False)
    assert report.report == first[1].report.model_copy(update={"metrics": report.report.metrics})
    child.send(stop("prune", "worse than the better half", full_name("pruned")))
    pruned = child.hear()
    assert (pruned.outcome.kind, pruned.outcome.reason) == (OutcomeKind.PRUNED, "worse than the better half")

    child.send(Shutdown())
    assert child.process.wait(timeout=60) == 0


def test_a_process_whose_supervisor_dies_saves_and_leaves(trainee, tmp_path):
    child = Child()
    config = trainee.config(epochs=100)
    child.send(admit_trial(config, tmp_path / "t"))
    assert child.hear().type == "started"
    child.hear()
    child.process.stdin.close()
    rest = child.process.stdout.read().splitlines()
    outcomes = [json.loads(line)["outcome"] for line in rest if b'"finished"' in line]
    assert [outcome["kind"] for outcome in outcomes] == ["released"]
    assert child.process.wait(timeout=60) == 0
    assert list((tmp_path / "t" / "checkpoint").glob("step-*"))
    child.process.stdout.close()


def test_device_errors_are_fatal_and_others_are_not():
    assert is_fatal(torch.cuda.OutOfMemoryError("CUDA out of memory"))
    assert is_fatal(RuntimeError("CUDA error: device-side assert triggered"))
    assert is_fatal(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"))
    assert is_fatal(MemoryError())
    assert not is_fatal(RuntimeError("shapes do not match"))
    assert not is_fatal(DataError("CUDA is mentioned in a row"))


@pytest.mark.parametrize(
    "error, recurs",
    [
        (KeyError("offset_mapping"), True),
        (AttributeError("'MixtralExperts' object has no attribute 'weight'"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied (304x32 and 96x16)"), True),
        (RuntimeError("expected mat1 and mat2 to have the same dtype"), True),
        (IndexError("index out of range in self"), True),
        (RuntimeError("Connection closed by peer"), False),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), False),
        (OSError("the disk is away"), False),
        (MemoryError(), False),
        (DataError("a row has no shape"), False),
    ],
)
def test_a_programs_mistakes_would_end_any_attempt(error, recurs):
    assert will_recur(error) is recurs


def test_threads_are_as_many_as_the_environment_says(monkeypatch):
    before = torch.get_num_threads()
    try:
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        set_threads()
        assert torch.get_num_threads() == 2
        monkeypatch.setenv("OMP_NUM_THREADS", "many")
        set_threads()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    "given, rank, used",
    [(None, 0, "0"), ("3", 0, "3"), ("2,3", 0, "2"), ("", 0, ""), (None, 1, "1"), ("2,3", 1, "3"), ("", 1, "")],
)
def test_a_process_uses_one_device(monkeypatch, given, rank, used):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given or "")
    if given is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    use_one_device(rank)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == used


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("HPO_SERVICE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("HPO_SERVICE_CACHE")
    assert cache_folder().name == "hpo-service"
    assert os.environ.get("HPO_SERVICE_CACHE") is None


def test_the_first_word_of_a_child_is_that_its_device_works():
    child = Child()
    try:
        assert child.hear(but_not=()).type == "ready"
    finally:
        child.process.kill()
        child.process.communicate()


def test_a_library_that_is_missing_is_said_in_one_line_with_the_remedy():
    reason = why_unusable(ModuleNotFoundError("No module named 'peft'"))
    assert "No module named 'peft'" in reason
    assert "pip install 'hpo-service[train]'" in reason


def test_a_device_that_does_not_work_is_said_to_be_the_machine_s_fault():
    assert "cannot use this machine (RuntimeError: CUDA error: device lost)" in why_unusable(
        RuntimeError("CUDA error: device lost")
    )
