"""The packed engine at work: who is admitted when, and what goes wrong costs no more than it must."""

import itertools

import pytest
import torch

from hpo_service.domain.study.sections.evaluation import EvaluationSpec
from hpo_service.domain.study.sections.tracking import TrackingSpec
from hpo_service.domain.trial.outcome import OutcomeKind
from hpo_service.errors import DoesNotFitError
from hpo_service.training.engines.packed import engine as engine_module
from hpo_service.training.engines.packed.engine import PackedEngine
from hpo_service.training.engines.packed.pack import Pack
from hpo_service.training.engines.packed.probe import PackSize
from hpo_service.training.engines.packed.stack import Stack
from hpo_service.training.tracking import tensorboard
from hpo_service.wire.messages import Failed, Finished, Shutdown, Started
from tests.training.packed.packs import OOM, Workshop, capacities, reasons, reports, stop


def quick(workshop, **changes):
    """A trial of two optimizer steps, with a report after each."""
    return workshop.config(**{"effective_batch": 32, "evaluations_per_epoch": 2, **changes})


def longer(workshop, **changes):
    """The same twice over."""
    return quick(workshop, epochs=2, **changes)


def engines_of(crowd):
    return {m.trial: m.outcome.facts.environment.engine or "solo" for m in crowd.of(Finished)}


def order(crowd, kind=Started):
    return [message.trial for message in crowd.of(kind)]


def undisturbed(workshop, configs, **named):
    return Workshop(workshop.trainee, workshop.folder / "undisturbed").run(configs, **named)


# --- who is admitted ---------------------------------------------------------------------------------------------


def test_a_fifth_trial_takes_the_place_of_the_first_of_four_that_ends_and_the_pack_shrinks_in_the_end(
    workshop, passage
):
    configs = {"short": quick(workshop), **{f"long-{k}": longer(workshop, seed=k) for k in range(3)}}
    crowd = workshop.run({**configs, "fifth": longer(workshop)}, slots=4)
    assert set(engines_of(crowd).values()) == {"packed"}
    happened = [(m.type, m.trial) for m in crowd.sent if m.type in ("started", "finished")]
    assert happened.index(("started", "fifth")) == happened.index(("finished", "short")) + 1
    assert capacities(crowd) == [4]
    assert reasons(crowd) == ["the study asks for 4"]
    assert (passage.sizes[0], max(passage.sizes), passage.sizes[-1]) == (4, 4, 1)
    assert (passage.rooms[0], passage.rooms[-1]) == (4, 1)


def test_trials_that_cannot_be_packed_wait_their_turn_and_run_alone(workshop):
    configs = {
        "a": quick(workshop),
        "b": quick(workshop, lora_rank=2),
        "dora": quick(workshop, method="dora"),
        "c": quick(workshop),
        "biases": quick(workshop, lora_bias="lora_only"),
        "d": quick(workshop),
    }
    crowd = workshop.run(configs, slots=4)
    assert order(crowd) == ["a", "b", "dora", "c", "biases", "d"]
    assert order(crowd, Finished)[2:] == ["dora", "c", "biases", "d"]
    assert engines_of(crowd) == {k: "solo" if k in ("dora", "biases") else "packed" for k in configs}
    assert capacities(crowd) == [4, 1, 4, 1, 4]
    assert reasons(crowd)[1::2] == ["method dora is not a plain low-rank adapter", "lora_bias lora_only is not packed"]


@pytest.mark.parametrize("names", [["q_proj", "lm_head"], ["embed_tokens", "v_proj"]])
def test_adapters_on_embeddings_are_found_out_and_trained_alone(workshop, names):
    odd = quick(workshop, target_modules=names)
    crowd = workshop.run({"a": quick(workshop), "odd": odd, "b": quick(workshop), "again": odd}, slots=4)
    assert engines_of(crowd) == {"a": "packed", "odd": "solo", "b": "packed", "again": "solo"}
    assert order(crowd) == ["a", "odd", "b", "again"]
    first = Workshop(workshop.trainee, workshop.folder / "first").run({"odd": odd, "a": quick(workshop)}, slots=4)
    assert engines_of(first) == {"odd": "solo", "a": "packed"}


def test_trials_on_other_data_make_a_pack_of_their_own(workshop, passage):
    shorter = quick(workshop, data={"max_length": 48})
    crowd = workshop.run({"a": quick(workshop), "b": quick(workshop), "c": shorter, "d": shorter}, slots=4)
    assert set(engines_of(crowd).values()) == {"packed"}
    assert passage.sizes[0] == 2
    assert max(passage.sizes) == 2


def test_a_later_stage_may_ask_for_more_than_the_first(workshop, passage):
    workshop.run({"a": quick(workshop)}, slots=2)
    crowd = workshop.run({k: quick(workshop) for k in "bcd"}, slots=3)
    assert capacities(crowd) == [3]
    assert max(passage.sizes) == 3


def test_a_verdict_against_packing_is_told_and_every_trial_runs_alone(workshop, monkeypatch):
    monkeypatch.setattr(engine_module, "measure", lambda job, limit: PackSize(1, "packing does not pay here: 2: 0.90x"))
    crowd = workshop.run({"a": quick(workshop), "b": quick(workshop)}, measure=True)
    assert engines_of(crowd) == {"a": "solo", "b": "solo"}
    assert set(reasons(crowd)) == {"packing does not pay here: 2: 0.90x"}


def test_a_probe_that_fails_speaks_for_running_alone(workshop, monkeypatch):
    def fail(job, limit):
        raise ZeroDivisionError("nothing to divide")

    monkeypatch.setattr(engine_module, "measure", fail)
    crowd = workshop.run({"a": quick(workshop), "b": quick(workshop)}, measure=True)
    assert engines_of(crowd) == {"a": "solo", "b": "solo"}
    assert reasons(crowd)[0] == "packing was tried and failed (nothing to divide)"


def test_a_trial_that_cannot_be_measured_in_a_pack_says_nothing_about_others(workshop):
    odd = quick(workshop, target_modules=["embed_tokens", "v_proj"])
    crowd = workshop.run({"odd": odd, "a": quick(workshop, lora_rank=2)}, measure=True)
    assert engines_of(crowd)["odd"] == "solo"
    assert reasons(crowd)[0] == "adapters on model.embed_tokens (Embedding) are not packed: it is no linear layer"
    assert "against one trial after another" in reasons(crowd)[1]


def test_a_trial_that_is_told_to_stop_while_it_is_measured_stops(workshop, monkeypatch):
    def interrupted(job, limit):
        job.link.receive(stop("a", "cancel"))
        job.link.check()

    monkeypatch.setattr(engine_module, "measure", interrupted)
    crowd = workshop.run({"a": quick(workshop)}, measure=True)
    assert crowd.outcome("a").kind is OutcomeKind.CANCELLED
    assert order(crowd) == []


def test_an_error_of_the_device_in_a_probe_fails_its_trial_and_the_process(workshop, monkeypatch):
    def broken(job, limit):
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(engine_module, "measure", broken)
    crowd = workshop.run({"a": quick(workshop)}, measure=True)
    assert [(message.trial, message.fatal) for message in crowd.of(Failed)] == [("a", True)]
    assert workshop.status == 1


def test_a_trial_on_a_base_that_does_not_fit_is_infeasible_and_tells_by_how_much(workshop, monkeypatch):
    def too_large(link):
        raise DoesNotFitError("needs 90 GB", over_gb=10.0)

    monkeypatch.setattr(workshop.solo.loaded, "base", too_large)
    crowd = workshop.run({"a": quick(workshop)})
    assert crowd.outcome("a").kind is OutcomeKind.INFEASIBLE
    assert crowd.outcome("a").facts.memory.over_gb == 10.0


def test_a_model_whose_logits_are_made_otherwise_is_trained_alone_and_told_why(workshop, monkeypatch):
    base = workshop.solo.loaded.base(workshop.link()).model
    monkeypatch.setattr(type(base), "get_output_embeddings", lambda model: None)
    crowd = workshop.run({"a": quick(workshop)})
    assert engines_of(crowd) == {"a": "solo"}
    assert "LlamaForCausalLM makes its logits in a way of its own" in reasons(crowd)[0]


def test_time_on_the_device_is_shared_out_among_the_trials(workshop):
    seconds = itertools.count()
    loaded, alone = workshop.solo.loaded, workshop.solo.run
    workshop.packed = PackedEngine(loaded, alone, clock=lambda: float(next(seconds)))
    crowd = workshop.run({"a": quick(workshop), "b": quick(workshop, lora_rank=8), "c": longer(workshop)})
    shares = {k: crowd.outcome(k).facts.timing.device for k in "abc"}
    # some calls of the clock are the test's own, before and after
    assert next(seconds) - 3 <= sum(shares.values()) <= next(seconds)
    assert shares["a"] == pytest.approx(shares["b"], rel=0.2)
    assert shares["c"] > 2 * shares["a"]


# --- who asks for what -------------------------------------------------------------------------------------------


class Diary:
    """A tracker that writes down what it is told."""

    entries: list[str] = []

    def start(self, run):
        self.trial = run.name
        self.entries.append("start")

    def log(self, step, measures):
        self.entries.append(f"log {step}")

    def end(self, outcome):
        self.entries.append(f"end {outcome.kind}")


@pytest.fixture
def diary(monkeypatch):
    monkeypatch.setattr(Diary, "entries", [])
    monkeypatch.setattr(tensorboard, "TRACKER", Diary)
    return Diary.entries


def tracked(config):
    return config.model_copy(update={"tracking": TrackingSpec(trackers=["tensorboard"])})


@pytest.mark.parametrize(
    "changes, last",
    [
        ({}, ["start", "log 1", "log 2", "end complete"]),
        ({"target_modules": ["nonsense"]}, ["start", "end error"]),
        ({"seed": 1}, ["start", "log 1", "end pruned"]),
        ({"epochs": 2}, ["start", "log 1", "log 2", "end cancelled"]),
    ],
)
def test_trackers_are_told_from_start_to_end(workshop, diary, changes, last):
    decide = lambda trial, report: stop(trial, "prune") if changes == {"seed": 1} else None  # noqa: E731

    def told(crowd, message):
        if changes == {"epochs": 2} and message.type == "report" and message.report.step == 2:
            crowd.inbox.append(stop(message.trial, "cancel"))

    workshop.run({"it": tracked(quick(workshop, **changes))}, decide=decide, told=told)
    assert diary == last


def test_answers_are_written_with_the_adapter_of_the_trial(workshop):
    asked = EvaluationSpec(metrics=["token_f1"], examples=4, max_new_tokens=4)
    config = quick(workshop, score_test=True, learning_rate=0.05).model_copy(update={"evaluation": asked})
    crowd = workshop.run({"a": config, "b": quick(workshop, lora_rank=2)})
    outcome, _ = workshop.alone(config, "alone")
    facts = crowd.outcome("a").facts
    assert facts.training.metric_rows > 0
    for fact in ("metric_rows", "metric:token_f1"):
        assert facts.flat()[fact] == outcome.facts.flat()[fact]
    answers = [(workshop.folder / "a" / "answers.jsonl"), (workshop.trainee.folder / "alone" / "answers.jsonl")]
    assert answers[0].read_text() == answers[1].read_text()


def test_a_worker_that_shuts_down_gets_all_trials_back_with_checkpoints(workshop):
    def told(crowd, message):
        if message.type == "report" and message.trial == "a" and message.report.step == 2:
            crowd.inbox.append(Shutdown())

    configs = {"a": longer(workshop), "b": longer(workshop, effective_batch=9)}
    crowd = workshop.run({**configs, "waits": quick(workshop)}, slots=2, told=told)
    assert {m.trial: m.outcome.kind for m in crowd.of(Finished)} == dict.fromkeys([*configs, "waits"], "released")
    again = workshop.run(configs)
    for trial in configs:
        assert again.outcome(trial).facts.training.resumed_at_step == crowd.outcome(trial).facts.training.steps > 0


# --- what goes wrong ---------------------------------------------------------------------------------------------


def fail_when(broken, error=lambda: torch.cuda.OutOfMemoryError(OOM)):
    def before(number, pack, shares):
        if broken(number, pack):
            raise error()

    return before


FOUR = ("a", "b", "c", "d")


def four(workshop):
    batches = dict(zip(FOUR, (16, 12, 14, 24), strict=True))
    return {k: workshop.config(lora_dropout=0.2, seed=batch, effective_batch=batch) for k, batch in batches.items()}


@pytest.fixture(scope="module")
def calm(resident, tmp_path_factory):
    """Four trials that nothing happens to."""
    workshop = Workshop(resident, tmp_path_factory.mktemp("calm"))
    return workshop.run(four(workshop), slots=4)


def assert_undisturbed(crowd, calm, trials=FOUR, facts=("steps", "tokens")):
    for trial in trials:
        assert crowd.curve(trial) == pytest.approx(calm.curve(trial), rel=1e-6)
        assert [r.metrics["train_loss"] for r in reports(crowd, trial)] == pytest.approx(
            [r.metrics["train_loss"] for r in reports(calm, trial)], rel=1e-5
        )
        for fact in facts:
            assert crowd.outcome(trial).facts.flat()[fact] == calm.outcome(trial).facts.flat()[fact]


@pytest.mark.parametrize("tick", [1, 4])
def test_memory_that_runs_out_halves_the_passes_and_costs_no_number(workshop, passage, calm, tick):
    passage.before = fail_when(lambda number, pack: number >= tick and pack.tokens > 512)
    crowd = workshop.run(four(workshop), slots=4)
    assert capacities(crowd) == [4]
    assert_undisturbed(crowd, calm)


def test_copies_of_weights_are_given_up_where_memory_runs_out_and_cost_no_number(workshop, monkeypatch, calm):
    merged = []

    def runs_out(self, slot):
        merged.append(slot)
        raise torch.cuda.OutOfMemoryError(OOM)

    monkeypatch.setattr("hpo_service.training.engines.packed.stack.MERGE_TOKENS", 0)
    monkeypatch.setattr(Stack, "merged", runs_out)
    crowd = workshop.run(four(workshop), slots=4)
    assert len(merged) == 1
    assert capacities(crowd) == [4]
    assert_undisturbed(crowd, calm)


def test_a_trial_that_could_not_be_alone_on_the_device_is_infeasible_in_a_pack_too(workshop, monkeypatch):
    monkeypatch.setenv("HPO_SERVICE_MEMORY_GB", "0.001")
    outcome = workshop.run({"a": quick(workshop)}, slots=2).outcome("a")
    assert outcome.kind is OutcomeKind.INFEASIBLE
    assert "0.00 GB are there" in outcome.reason
    assert outcome.facts.memory.over_gb > 0
    monkeypatch.setenv("HPO_SERVICE_MEMORY_GB", "50")
    roomy = Workshop(workshop.trainee, workshop.folder / "roomy").run({"a": quick(workshop)}, slots=2).outcome("a")
    assert roomy.kind is OutcomeKind.COMPLETE
    assert roomy.facts.memory.over_gb < 0


def test_trials_that_have_no_room_leave_with_a_checkpoint_and_the_others_go_on(workshop, passage, calm):
    passage.before = fail_when(lambda number, pack: number > 5 and len(pack.slots) > 2)
    crowd = workshop.run(four(workshop), slots=4)
    assert capacities(crowd) == [4, 2]
    assert reasons(crowd)[-1] == "out of memory with 4 trials side by side: 2 from now on"
    assert_undisturbed(crowd, calm, "ab")
    for trial in "cd":
        assert crowd.outcome(trial).kind is OutcomeKind.RELEASED
        assert crowd.outcome(trial).reason == reasons(crowd)[-1]
    # what was decided holds for those that come: the two that left are admitted again, and go on
    again = workshop.run({trial: four(workshop)[trial] for trial in "cd"}, slots=4)
    assert capacities(again) == [2]
    for trial in "cd":
        assert again.outcome(trial).facts.training.resumed_at_step == crowd.outcome(trial).facts.training.steps > 0
        assert crowd.curve(trial) + again.curve(trial) == pytest.approx(calm.curve(trial), rel=1e-6)


def test_a_trial_that_does_not_fit_in_a_pack_of_one_runs_alone(workshop, passage):
    passage.before = fail_when(lambda number, pack: True)
    crowd = workshop.run({"a": quick(workshop), "b": quick(workshop)}, slots=2)
    assert engines_of(crowd) == {"a": "solo", "b": "packed"}
    assert crowd.outcome("a").kind is OutcomeKind.COMPLETE
    assert crowd.outcome("b").kind is OutcomeKind.RELEASED
    assert capacities(crowd) == [2, 1, 1, 1]
    assert "not even one packed trial fits into memory" in reasons(crowd)[2]


@pytest.mark.parametrize("tick", [1, 5])
def test_a_strange_exception_has_all_run_alone_and_loses_none(workshop, passage, tick):
    passage.before = fail_when(lambda number, pack: number == tick, lambda: ZeroDivisionError("what is this"))
    configs = {"a": quick(workshop), "b": quick(workshop, lora_rank=8), "c": quick(workshop, seed=1)}
    before = workshop.solo.loaded.base(workshop.link())
    crowd = workshop.run(configs)
    assert engines_of(crowd) == dict.fromkeys("abc", "solo")
    assert order(crowd, Finished) == ["a", "b", "c"]
    assert reasons(crowd)[1] == ("a step of packed trials failed (ZeroDivisionError): they are run one after another")
    assert set(capacities(crowd)[1:]) == {1}
    assert workshop.solo.loaded.base(workshop.link()) is not before
    for trial, config in configs.items():
        assert crowd.curve(trial)[-2:] == [r.value for r in workshop.alone(config)[1]]
        assert workshop.status == 0


@pytest.mark.parametrize("action, kind", [("release", OutcomeKind.RELEASED), ("cancel", OutcomeKind.CANCELLED)])
def test_an_order_to_stop_is_not_forgotten_when_a_pack_breaks_up(workshop, passage, action, kind):
    ticks = []

    def told(crowd, message):
        if message.type == "report" and message.trial == "a" and not ticks:
            crowd.inbox.append(stop("b", action))
            ticks.append(len(passage.sizes))

    passage.before = fail_when(lambda number, pack: bool(ticks), lambda: ZeroDivisionError("what is this"))
    crowd = workshop.run({"a": quick(workshop), "b": longer(workshop, effective_batch=54)}, told=told)
    assert crowd.outcome("a").kind is OutcomeKind.COMPLETE
    assert crowd.outcome("b").kind is kind
    assert order(crowd) == ["a", "b", "a"]


def test_an_error_of_the_device_fails_all_trials_and_the_process(workshop, passage, diary):
    cuda = RuntimeError("CUDA error: an illegal memory access was encountered")
    passage.before = fail_when(lambda number, pack: number == 2, lambda: cuda)
    crowd = workshop.run({"a": tracked(quick(workshop)), "b": quick(workshop)})
    assert workshop.status == 1
    failed = crowd.of(Failed)
    assert [(message.trial, message.fatal) for message in failed] == [("a", True), ("b", True)]
    assert "illegal memory access" in failed[0].reason
    assert diary == ["start", "end error"]


def break_evaluation(monkeypatch, broken):
    plain, tried = Pack.evaluate, []

    def evaluate(pack, slots, part, touch=lambda: None):
        tried.append((part, len(slots), pack.tokens))
        if broken(pack, slots, part):
            raise torch.cuda.OutOfMemoryError(OOM)
        return plain(pack, slots, part, touch)

    monkeypatch.setattr(Pack, "evaluate", evaluate)
    return tried


@pytest.mark.parametrize(
    "broken",
    [
        lambda pack, slots, part: pack.tokens > 512,
        lambda pack, slots, part: len(slots) > 1,
        lambda pack, slots, part: part == "test" and pack.tokens > 512,
    ],
)
def test_memory_that_runs_out_in_an_evaluation_loses_no_step_and_no_report(workshop, monkeypatch, calm, broken):
    tried = break_evaluation(monkeypatch, broken)
    configs = {k: config.model_copy(update={"score_test": True}) for k, config in four(workshop).items()}
    crowd = workshop.run(configs, slots=4)
    assert len(tried) > len({each[0] for each in tried})
    assert capacities(crowd) == [4]
    assert_undisturbed(crowd, calm)


def test_an_evaluation_that_cannot_be_had_in_a_pack_at_all_is_had_alone(workshop, monkeypatch):
    break_evaluation(monkeypatch, lambda pack, slots, part: part == "test")
    configs = {"a": quick(workshop, score_test=True), "b": longer(workshop)}
    crowd = workshop.run(configs)
    assert engines_of(crowd) == {"a": "solo", "b": "solo"}
    assert crowd.outcome("a").test is not None
    assert "these trials cannot be packed: CUDA out of memory" in reasons(crowd)[1]


@pytest.fixture
def narrow(monkeypatch):
    """No stack of a higher rank than 8 fits."""
    plain = Stack.__post_init__

    def allocate(stack):
        if stack.rank > 8:
            raise torch.cuda.OutOfMemoryError(OOM)
        plain(stack)

    monkeypatch.setattr(Stack, "__post_init__", allocate)


def test_a_trial_that_there_is_no_room_for_waits_and_costs_those_in_the_pack_nothing(workshop, narrow, calm):
    crowd = workshop.run(four(workshop), later={2: {"wide": quick(workshop, lora_rank=16)}}, slots=5)
    assert_undisturbed(crowd, calm)
    assert engines_of(crowd) == {**dict.fromkeys(FOUR, "packed"), "wide": "solo"}
    assert capacities(crowd) == [5, 5, 1]
    assert reasons(crowd)[-1] == "no room for 5 trials of rank 16 side by side"
    assert order(crowd, Finished)[-1] == "wide"
    # that there was none for it says nothing about others
    again = workshop.run({"wide": quick(workshop, lora_rank=16), "narrow": quick(workshop, lora_rank=8)})
    assert engines_of(again) == {"wide": "solo", "narrow": "packed"}


@pytest.mark.parametrize("bad", [{"data": {"source": "nowhere.jsonl"}}, {"target_modules": ["nonsense"]}])
def test_a_trial_whose_inputs_are_wrong_costs_itself_only(workshop, calm, bad):
    crowd = workshop.run({"a": four(workshop)["a"], "bad": quick(workshop, **bad), "b": four(workshop)["b"]})
    (failed,) = crowd.of(Failed)
    assert (failed.trial, failed.fatal, failed.retryable) == ("bad", False, False)
    crowd.sent.remove(failed)
    assert_undisturbed(crowd, calm, "ab")
    assert workshop.status == 0


def test_a_configuration_that_cannot_be_trained_is_infeasible_by_itself(workshop):
    odd = quick(workshop, lora_rank=64, init_lora_weights="orthogonal")
    crowd = workshop.run(
        {
            "a": quick(workshop),
            "odd": odd.model_copy(update={"training": odd.training.model_copy(update={"lora_rank": 7})}),
        }
    )
    assert crowd.outcome("a").kind is OutcomeKind.COMPLETE
    assert crowd.outcome("odd").kind is OutcomeKind.INFEASIBLE


def test_what_ends_badly_for_one_at_its_end_leaves_the_others_alone(workshop, monkeypatch, diary):
    def keep(pack, slot):
        raise RuntimeError("the adapter is not as it was")

    monkeypatch.setattr(Pack, "save_adapter", keep)
    crowd = workshop.run({"bad": tracked(quick(workshop, keep_adapter=True)), "good": longer(workshop)})
    (failed,) = crowd.of(Failed)
    assert (failed.trial, failed.reason) == ("bad", "RuntimeError: the adapter is not as it was")
    assert [m.outcome.kind for m in crowd.of(Finished)] == [OutcomeKind.COMPLETE]
    assert diary[-1] == "end error"
