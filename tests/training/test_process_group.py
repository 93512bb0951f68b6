"""Several processes for one trial: the numbers of one process, one voice, and an end together whatever happens."""

import math
import time
from dataclasses import replace
from functools import partial

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file

from hpo_service.domain.study.sections.training import TrainingSpec
from hpo_service.domain.trial.outcome import OutcomeKind
from hpo_service.errors import DataError, TrialError
from hpo_service.training.data.tokens import IGNORED, TokenRow, collate
from hpo_service.training.device.faults import is_fatal
from hpo_service.training.distributed.follower import follow
from hpo_service.training.distributed.process_group import BUCKET, Failure, PeerError, ProcessGroup, _buckets
from hpo_service.training.engines.data_parallel import ELSEWHERE, SUPERVISED, RankCollator, rank_seed
from hpo_service.training.run.steps import StepPlan
from hpo_service.wire.child import Stopped
from hpo_service.wire.messages import Continue
from hpo_service.worker.child import LAUNCHER, Child
from tests.training.tiny import pairs, write_rows
from tests.trials import admit, full_name, stop

RANKS = 2
SECONDS = 180.0
"""Until a test gives up on a start; all that follows takes less than a second on an idle machine."""
SOON = 5.0


class Trainer:
    """A child of two processes, with faults, and the supervisor's words to it."""

    def __init__(self, folder):
        command = (*LAUNCHER, "--nproc-per-node", str(RANKS), "-m", "tests.training.rank_faults")
        self.child = Child(command, folder / "child.log", {"OMP_NUM_THREADS": "1"})

    def admit(self, trial, config, folder):
        self.child.send(admit(config, folder, trial))

    def hear(self, seconds=SECONDS):
        """The next message that is no heartbeat."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            message = self.child.receive(0.1)
            if message is not None and message.type not in ("heartbeat", "ready"):
                return message
        raise AssertionError("nothing was heard")

    def until_end(self, answer=lambda report: None):
        """All messages of a trial; each report gets an answer."""
        messages = [self.hear()]
        while messages[-1].type not in ("finished", "failed"):
            if messages[-1].type == "report":
                self.child.send(answer(messages[-1].report) or Continue(trial=messages[-1].trial))
            messages.append(self.hear())
        return messages

    def processes(self):
        return psutil.Process(self.child.pid).children(recursive=True)


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    trainer = Trainer(tmp_path_factory.mktemp("ranks"))
    yield trainer
    trainer.child.kill()


def reports(messages):
    return [message.report for message in messages if message.type == "report"]


def test_two_ranks_give_the_losses_of_one_process(trainer, trainee, tmp_path):
    # 45 rows to train on: the last step of an epoch has fewer rows than ranks
    rows = write_rows(tmp_path / "rows.jsonl", pairs(55))
    more = {"epochs": 2, "effective_batch": 4, "micro_batch": 1, "score_test": True, "keep_adapter": True}
    # evaluations before the last are of fewer rows than ranks could share equally
    config = trainee.config(data={"source": rows}, evaluation_rows=3, **more)
    alone = trainee.run(config, "alone")
    assert alone.facts.data.train % 4 == 1
    trainer.admit("t", config, tmp_path / "together")
    messages = trainer.until_end()
    outcome = messages[-1].outcome
    assert outcome.kind is OutcomeKind.COMPLETE
    assert [each.step for each in reports(messages)] == [each.step for each in trainee.reports]
    for one, two in zip(trainee.reports, reports(messages), strict=True):
        assert two.value == pytest.approx(one.value, abs=1e-5)
        for name in ("train_loss", "grad_norm", "learning_rate"):
            assert two.metrics[name] == pytest.approx(one.metrics[name], abs=1e-5), name
    assert outcome.validation.nll == pytest.approx(alone.validation.nll, abs=1e-4)
    assert outcome.validation.tokens == alone.validation.tokens
    assert outcome.test.nll == pytest.approx(alone.test.nll, abs=1e-4)
    first, second = (load_file(f"{each.adapter}/adapter_model.safetensors") for each in (alone, outcome))
    assert all((first[name] - second[name]).abs().max() < 1e-5 for name in first)
    assert (outcome.facts.training.ranks, outcome.facts.training.accumulation) == (2, 2)
    assert outcome.facts.training.tokens == alone.facts.training.tokens
    assert outcome.facts.timing.device > 2 * outcome.facts.timing.train


@pytest.mark.parametrize(
    "changes",
    [{"data": {"pack_rows": True}}, {"group_by_length": True}, {"order": "progressive"}],
    ids=["packed", "grouped", "progressive"],
)
def test_what_lays_rows_otherwise_gives_the_losses_of_one_process(trainer, trainee, tmp_path, changes):
    config = trainee.config(evaluations_per_epoch=2, effective_batch=16, **changes)
    trainee.run(config, "alone")
    trainer.admit("t", config, tmp_path / "together")
    messages = trainer.until_end()
    assert messages[-1].outcome.kind is OutcomeKind.COMPLETE
    assert [each.value for each in reports(messages)] == pytest.approx(
        [each.value for each in trainee.reports], abs=1e-5
    )


def test_rows_with_weights_give_the_losses_of_one_process(trainer, trainee, tmp_path):
    rows = write_rows(tmp_path / "rows.jsonl", [{**row, "w": 1 + i % 3} for i, row in enumerate(pairs(70))])
    config = trainee.config(evaluations_per_epoch=2, data={"source": rows, "weight": "w"})
    trainee.run(config, "alone")
    trainer.admit("t", config, tmp_path / "together")
    found = reports(trainer.until_end())
    assert [each.value for each in found] == pytest.approx([each.value for each in trainee.reports], abs=1e-5)
    losses = [[each.metrics["train_loss"] for each in ran] for ran in (found, trainee.reports)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_a_base_in_shares_gives_the_same_numbers(trainer, trainee, tmp_path):
    config = trainee.config(evaluations_per_epoch=2, keep_adapter=True)
    alone = trainee.run(config, "alone")
    trainer.admit("t", config.model_copy(update={"sharding": "fsdp"}), tmp_path / "shares")
    messages = trainer.until_end()
    outcome = messages[-1].outcome
    assert [each.value for each in reports(messages)] == pytest.approx(
        [each.value for each in trainee.reports], abs=1e-5
    )
    assert outcome.facts.fingerprints.base == alone.facts.fingerprints.base
    first, second = (load_file(f"{each.adapter}/adapter_model.safetensors") for each in (alone, outcome))
    assert all((first[name] - second[name]).abs().max() < 1e-5 for name in first)
    assert 0.4 < outcome.facts.memory.base_share_held < 0.6


def test_a_prune_decision_ends_both_ranks_at_once_and_the_next_trial_runs(trainer, trainee, tmp_path):
    order = stop("prune", "worse than the better half", full_name("pruned"))
    trainer.admit("pruned", trainee.config(epochs=50), tmp_path / "pruned")
    assert trainer.hear().type == "started"
    trainer.hear()
    began = time.monotonic()
    trainer.child.send(order)
    outcome = trainer.hear().outcome
    assert (outcome.kind, outcome.reason) == (OutcomeKind.PRUNED, "worse than the better half")
    trainer.admit("next", trainee.config(), tmp_path / "next")
    assert trainer.hear().type == "started"
    assert time.monotonic() - began < SOON
    assert trainer.until_end()[-1].outcome.kind is OutcomeKind.COMPLETE


@pytest.mark.parametrize("sharding", ["none", "fsdp"])
def test_an_order_to_save_and_leave_is_resumed_with_the_very_same_numbers(trainer, trainee, tmp_path, sharding):
    config = trainee.config(lora_dropout=0.2).model_copy(update={"sharding": sharding})
    trainer.admit("whole", config, tmp_path / "whole")
    whole = trainer.until_end()
    trainer.admit("part", config, tmp_path / "part")
    save = stop("release", "the node is needed", full_name("part"))
    first = trainer.until_end(lambda report: save if report.step == 2 else None)
    assert first[-1].outcome.kind is OutcomeKind.RELEASED
    trainer.admit("part", config, tmp_path / "part")
    rest = trainer.until_end()
    assert rest[0].resumed_at > 0
    values = [each.value for each in [*reports(first), *reports(rest)]]
    assert values == [each.value for each in reports(whole)]
    assert rest[-1].outcome.facts.training.tokens == whole[-1].outcome.facts.training.tokens


def test_data_that_cannot_be_used_is_one_line_from_rank_0(trainer, trainee, tmp_path):
    broken = write_rows(tmp_path / "broken.jsonl", [*pairs(20), {"prompt": "only"}])
    trainer.admit("broken", trainee.config(data={"source": broken}), tmp_path / "t")
    (failed,) = trainer.until_end()
    assert failed.reason == f"{broken}, line 21: column 'completion' is missing"
    assert (failed.fatal, failed.retryable) == (False, False)


@pytest.mark.parametrize("rank, reason", [(0, "a strange error"), (1, "rank 1 of 2: RuntimeError: a strange error")])
def test_an_exception_on_one_rank_ends_the_trial_on_both_within_seconds(trainer, trainee, tmp_path, rank, reason):
    trial = f"fault={rank},2,error"
    trainer.admit(trial, trainee.config(), tmp_path / "t")
    assert trainer.hear().type == "started"
    began = time.monotonic()
    failed = trainer.until_end()[-1]
    assert time.monotonic() - began < SOON
    assert reason in failed.reason
    assert (failed.fatal, failed.retryable) == (False, True)
    trainer.admit("after", trainee.config(), tmp_path / "after")
    assert trainer.until_end()[-1].outcome.kind is OutcomeKind.COMPLETE


def test_a_loss_that_is_not_a_number_on_one_rank_ends_both(trainer, trainee, tmp_path):
    trainer.admit("fault=1,2,nan", trainee.config(), tmp_path / "t")
    outcome = trainer.until_end()[-1].outcome
    assert (outcome.kind, outcome.reason) == (OutcomeKind.PRUNED, "diverged: the training loss became nan")
    assert outcome.facts.training.steps == 3


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_runs_out_of_memory_has_both_go_on_with_less(trainer, trainee, tmp_path, rank):
    config = trainee.config(effective_batch=8)
    trainee.run(config, "alone")
    trainer.admit(f"fault={rank},3,memory", config, tmp_path / "t")
    messages = trainer.until_end()
    outcome = messages[-1].outcome
    assert outcome.kind is OutcomeKind.COMPLETE
    # each rank has 4 of the 8 rows, and room for one at a time
    assert (
        outcome.facts.training.micro_batch,
        outcome.facts.training.accumulation,
        outcome.facts.memory.oom_halvings,
    ) == (1, 4, 2)
    assert [r.value for r in reports(messages)] == pytest.approx([r.value for r in trainee.reports], abs=1e-5)
    assert sum(message.type == "started" for message in messages) == 1


def test_a_rank_that_is_killed_ends_the_other_and_leaves_nothing_behind(trainer, trainee, tmp_path):
    # in the middle of a step, while the other waits for its share of the weights
    trainer.admit("fault=1,1,killed", trainee.config().model_copy(update={"sharding": "fsdp"}), tmp_path / "t")
    trainer.hear()
    ranks = trainer.processes()
    assert len(ranks) == RANKS
    began = time.monotonic()
    failed = trainer.until_end()[-1]
    assert time.monotonic() - began < SOON
    assert failed.fatal
    assert "one of the 2 processes of the trial ended without a word" in failed.reason
    trainer.child.kill()
    _, alive = psutil.wait_procs(ranks, timeout=SOON)
    assert not alive


# what ranks say to each other, without a second process


class Table(ProcessGroup):
    """Rank 0 or 1 of two; what the other one says is written before."""

    def __init__(self, *others, rank=0):
        super().__init__(rank, 2)
        self.said, self.others = [], list(others)

    def _gather(self, message, group=None):
        self.said.append(message)
        received = [message, self.others.pop(0)]
        return received if self.rank == 0 else received[::-1]


FAILED = Failure("error", "a strange error", retryable=True, fatal=False)


def test_numbers_arrive_exactly_and_so_do_those_that_are_not_finite():
    words = Table({"loss": math.inf}).exchange({"loss": 0.1 + 0.2})
    assert words == [{"loss": 0.1 + 0.2}, {"loss": math.inf}]


@pytest.mark.parametrize(
    "word, error, text",
    [
        (FAILED, PeerError, "rank 1 of 2: a strange error"),
        (replace(FAILED, kind="memory"), torch.OutOfMemoryError, "rank 1 of 2: a strange error"),
        (replace(FAILED, kind="stopped"), Stopped, ""),
    ],
)
def test_a_failure_that_is_heard_is_raised_and_not_told_again(word, error, text):
    table = Table(word)

    def library():
        try:
            table.exchange({"loss": 1.0})
        except Exception as heard:
            raise ValueError("something of its own") from heard

    with pytest.raises(error) as caught, table.failing_together():
        library()
    assert text in str(caught.value)
    assert table.said == [{"loss": 1.0}]


def test_a_failure_of_ones_own_is_told_at_the_next_word():
    table = Table({"loss": 1.0})
    with pytest.raises(DataError, match="no rows"), table.failing_together():
        raise DataError("no rows")
    assert table.said == [Failure("error", "no rows", retryable=False, fatal=False)]


def test_where_two_ranks_fail_at_once_both_say_what_the_lower_one_met():
    own = Failure("stopped", "Stopped", retryable=True, fatal=False)
    for rank, other in ((0, replace(FAILED, kind="memory")), (1, own)):
        mine = Stopped() if rank == 0 else torch.OutOfMemoryError("CUDA out of memory")
        with pytest.raises(Stopped), Table(other, rank=rank).failing_together():
            raise mine


def test_an_error_while_gradients_are_added_ends_the_processes_for_the_others_cannot_hear_it():
    table = Table()
    weight = torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.ones(2)
    with pytest.raises(PeerError) as caught, table.failing_together():
        table.add_gradients([weight])  # there is no process group
    assert is_fatal(caught.value)
    assert table.said == []


def test_ranks_that_would_train_unlike_things_do_not_begin():
    table = Table({"base": "b", "rows": "r"})
    with pytest.raises(PeerError, match="unlike base: a, b"), table.failing_together():
        table.agree(base="a", rows="r")
    assert len(table.said) == 1


def test_a_process_that_follows_goes_on_after_a_fault_and_ends_where_it_cannot_or_is_sent_home(trainee):
    endings = {"stopped": Stopped(), "strange": RuntimeError("strange"), "fatal": PeerError("gone", fatal=True)}
    ran = []

    def run(link):
        ran.append(link.assignment.study)
        link.touch(0.5)
        with link.busy("work"):
            link.started()
        raise endings[link.assignment.study]

    def follow_orders(*trials):
        orders = [admit(trainee.config(), "f", trial) for trial in trials]
        home = ProcessGroup(1, 2)
        home._gather = lambda message, group: [orders.pop(0) if orders else None, message]
        return follow(home, run)

    assert follow_orders("stopped", "strange") == 0
    assert follow_orders("strange", "fatal", "stopped") == 1
    assert ran == ["stopped", "strange", "strange", "fatal"]


def test_a_process_alone_says_nothing():
    ranks = ProcessGroup()
    ranks.announce(None)
    ranks.agree(base="a")
    with pytest.raises(ValueError, match="mine"), ranks.failing_together():
        raise ValueError("mine")


def test_a_share_of_rows_is_every_nth_and_a_rank_without_one_learns_nothing():
    rows = [TokenRow(np.full(4, i, np.int32), np.asarray([IGNORED, i, i, i], np.int32)) for i in range(3)]
    batches = [RankCollator(ProcessGroup(rank, 2), partial(collate, padding=0))(rows) for rank in (0, 1)]
    assert [batch["input_ids"][:, 0].tolist() for batch in batches] == [[0, 2], [1]]
    assert [(batch[SUPERVISED], batch[ELSEWHERE]) for batch in batches] == [(9, 4), (9, 8)]
    idle = RankCollator(ProcessGroup(1, 2), partial(collate, padding=0))(rows[:1])
    assert (idle["labels"] == IGNORED).all()
    assert (idle[SUPERVISED], idle[ELSEWHERE]) == (3, 0)


@pytest.mark.parametrize("sizes", [[3], [BUCKET, 1, 2], [1, BUCKET + 1, 2, 2]])
def test_gradients_are_added_in_buckets_of_bounded_size_and_one_type(sizes):
    tensors = [torch.empty(size, device="meta") for size in sizes]
    tensors.append(torch.empty(1, device="meta", dtype=torch.float64))
    buckets = list(_buckets(tensors))
    assert [each for bucket in buckets for each in bucket] == tensors
    assert all(len(bucket) == 1 or sum(t.numel() for t in bucket) <= BUCKET for bucket in buckets)
    assert all(len({t.dtype for t in bucket}) == 1 for bucket in buckets)


def test_no_two_ranks_or_steps_draw_the_same():
    assert len({rank_seed(7, step, rank) for step in range(20) for rank in range(4)}) == 80
    assert all(0 <= rank_seed(7, step, 1) < 2**63 for step in range(20))


def test_a_plan_for_several_ranks_keeps_the_effective_batch():
    plan = StepPlan.of(TrainingSpec(effective_batch=24, micro_batch=4), 100, ranks=3)
    assert (plan.micro_batch, plan.accumulation, plan.ranks, plan.steps) == (4, 2, 3, 5)
    with pytest.raises(TrialError, match="16 cannot be shared equally by 3 GPUs"):
        StepPlan.of(TrainingSpec(effective_batch=16), 100, ranks=3)
