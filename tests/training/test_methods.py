"""Every method, start, optimizer and schedule: trained, kept so that others can load it, resumed to the bit."""

import itertools
import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    get_scheduler,
)
from transformers.trainer_utils import SchedulerType
from transformers.training_args import OptimizerNames

from hpo_service.bootstrap import Service
from hpo_service.domain.study.hyperparameters import Hyperparameters, Optimizer, Scheduler
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.outcome import OutcomeKind
from hpo_service.domain.trial.report import Report
from hpo_service.errors import DataError, ModelError, UnfitError
from hpo_service.settings import Settings
from hpo_service.training.data.pieces import pieces
from hpo_service.training.data.tokens import TokenRow, TokenRows
from hpo_service.training.distributed.process_group import ProcessGroup
from hpo_service.training.engines.solo import SoloEngine
from hpo_service.training.engines.trainer import build_trainer
from hpo_service.training.models.adapter import trainable
from hpo_service.training.models.base import BaseKey, load_base
from hpo_service.training.run.loaded_models import LoadedModels
from hpo_service.training.run.schedules import SCHEDULES, own_schedule
from hpo_service.training.run.steps import StepPlan
from tests.training.test_solo import plain_loss, plain_rows
from tests.training.tiny import Trainee, byte_tokenizer, pairs, save_tiny_llama, write_rows
from tests.trials import stop

RELEASE = stop("release", "the node is needed")
SCRATCH = {"method": "scratch", "scratch_width": 32, "scratch_layers": 1, "scratch_heads": 2}
BYTES = "builtin:bytes"


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Trainee:
    folder = tmp_path_factory.mktemp("methods")
    return Trainee(save_tiny_llama(folder / "llama"), write_rows(folder / "pairs.jsonl", pairs(30)), folder)


@pytest.fixture
def quick(shared, tmp_path) -> Trainee:
    """A folder of its own for each test, one engine with its base for all."""
    trainee = Trainee(shared.llama, shared.data, tmp_path)
    trainee.engine = shared.engine
    return trainee


def config(trainee, model=None, **changes):
    return trainee.config(model=model, **{"evaluations_per_epoch": 2, **changes})


def values(trainee):
    return [report.value for report in trainee.reports]


@pytest.fixture(scope="module")
def undisturbed(shared) -> list[float]:
    """What a plain trial gives on a base that has served nobody."""
    shared.run(config(shared, lora_dropout=0.1), "undisturbed", engine=SoloEngine(LoadedModels(shared.folder)))
    return values(shared)


@pytest.mark.parametrize(
    "before",
    [
        {"init_lora_weights": "gaussian", "target_modules": "full"},
        {"init_lora_weights": "orthogonal", "method": "rslora"},
        {"init_lora_weights": "mica", "target_modules": "minimal"},
        {"method": "dora", "activation_checkpointing": "on"},
        {"method": "prefix"},
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": "pissa_niter_16"},
        {"init_lora_weights": "olora"},
        {"lora_bias": "all"},
        {"method": "full", "learning_rate": 1e-3},
        SCRATCH,
    ],
    ids=lambda before: " ".join(map(str, before.values())),
)
def test_a_base_is_kept_where_it_is_bitwise_as_good_as_new_and_loaded_again_where_not(
    quick, undisturbed, before, monkeypatch
):
    loads = []
    monkeypatch.setattr(
        "hpo_service.training.run.loaded_models.load_base", lambda *a, **k: loads.append(a) or load_base(*a, **k)
    )
    engine = SoloEngine(LoadedModels(quick.folder))
    first = config(quick, seed=3, **before)
    quick.run(first, "before", engine=engine)
    quick.run(config(quick, lora_dropout=0.1), "after", engine=engine)
    assert values(quick) == undisturbed
    assert len(loads) == (1 if first.training.leaves_base else 2)


@pytest.mark.parametrize(
    "model, changes",
    [
        (None, {"method": "prefix", "learning_rate": 0.05}),
        (None, {"init_lora_weights": "pissa_niter_16", "method": "rslora"}),
        (None, {"optimizer": "adamw_8bit", "method": "full", "learning_rate": 1e-3}),
        (None, {"optimizer": "lion_32bit", "lora_plus_ratio": 16.0, "init_lora_weights": "mica"}),
        (BYTES, {**SCRATCH, "scratch_architecture": "gpt2"}),
        (BYTES, {**SCRATCH, "scratch_length": 12, "scheduler": "step"}),
    ],
    ids=["prefix", "pissa rslora", "full in 8 bits", "mica lora+", "gpt2 from scratch", "pieces from scratch"],
)
def test_a_run_is_resumed_exactly_and_what_it_leaves_loads_elsewhere(quick, model, changes):
    asked = config(quick, model, score_test=True, keep_adapter=True, **changes)
    whole = quick.run(asked, "whole")
    curve = values(quick)
    assert curve[-1] < curve[0]
    quick.run(asked, "parts", decide=lambda report: RELEASE if report.step == 1 else None)
    first = values(quick)
    resumed = quick.run(asked, "parts")
    assert len(first) == 1
    assert first + values(quick) == curve
    assert resumed.test == whole.test
    if (Path(whole.adapter) / "adapter_config.json").exists():
        loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(quick.llama), whole.adapter)
    else:
        loaded = AutoModelForCausalLM.from_pretrained(whole.adapter)
        assert len(AutoTokenizer.from_pretrained(whole.adapter)) == 259
    rows = plain_rows(quick.llama, quick.data, "test")
    assert plain_loss(loaded, rows) == pytest.approx(whole.test.mean, abs=2e-5)


def test_an_adapter_that_changed_its_base_is_kept_as_one_for_the_unchanged_base(quick):
    outcome = quick.run(config(quick, init_lora_weights="olora", keep_adapter=True))
    written = json.loads((Path(outcome.adapter) / "adapter_config.json").read_text())
    assert written["init_lora_weights"] is True
    assert written["r"] == 8


def test_checkpointing_changes_memory_not_numbers(quick):
    quick.run(config(quick, lora_dropout=0.1, activation_checkpointing="off"), "off")
    expected = values(quick)
    quick.run(config(quick, lora_dropout=0.1, activation_checkpointing="on"), "on")
    assert values(quick) == expected


def test_attention_is_as_chosen_and_agrees(quick):
    def run(attention):
        asked = config(quick)
        quick.run(
            asked.model_copy(update={"model": asked.model.model_copy(update={"attention": attention})}), attention
        )
        return values(quick)

    assert run("eager") == pytest.approx(run("sdpa"), abs=1e-5)
    with pytest.raises(ModelError, match=r"model\.attention flash_attention_2 needs a GPU"):
        run("flash_attention_2")


def test_a_configuration_that_does_not_fit_together_is_told_before_anything_is_loaded(quick, monkeypatch):
    monkeypatch.setattr("hpo_service.training.run.loaded_models.load_base", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(UnfitError, match="6 heads do not cut a width of 32"):
        quick.run(
            config(quick, BYTES, **{**SCRATCH, "scratch_heads": 6}), engine=SoloEngine(LoadedModels(quick.folder))
        )


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"init_lora_weights": "olora", "target_modules": ["q_proj", "embed_tokens"]}, "does not fit embeddings"),
        ({"init_lora_weights": "mica", "lora_rank": 64}, "adapters do not fit the model: MiCA requires"),
    ],
)
def test_adapters_that_this_model_cannot_carry_cost_one_trial(quick, undisturbed, changes, reason):
    with pytest.raises(UnfitError, match=reason):
        quick.run(config(quick, **changes), "unfit")
    quick.run(config(quick, lora_dropout=0.1), "after")
    assert values(quick) == undisturbed


def test_a_prefix_must_fit_before_the_rows(quick):
    with pytest.raises(DataError, match=r"behind a prefix of 100 do not fit the 128 positions .* to 28 or less"):
        quick.run(config(quick, method="prefix", prefix_tokens=100))


@pytest.mark.parametrize("name", get_args(Optimizer))
def test_every_optimizer_that_is_offered_steps_here(name, tmp_path):
    assert name in {each.value for each in OptimizerNames}
    arguments = TrainingArguments(output_dir=str(tmp_path), optim=name, use_cpu=True, learning_rate=1e-2)
    kind, given = Trainer.get_optimizer_cls_and_kwargs(arguments)
    layer = torch.nn.Linear(128, 64)  # large enough for states of 8 bits
    before = layer.weight.detach().clone()
    optimizer = kind(layer.parameters(), **given)
    layer(torch.randn(4, 128)).square().mean().backward()
    optimizer.step()
    assert not torch.equal(layer.weight, before)
    assert torch.isfinite(layer.weight).all()


def factors(warmup=10, **changes):
    """Factor on the peak learning rate at each of 100 steps, the first 10 of them warm-up."""
    hyper = Hyperparameters.model_validate(changes)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = own_schedule(hyper, optimizer, warmup, 100) or get_scheduler(
        hyper.scheduler, optimizer, warmup, 100, SCHEDULES[hyper.scheduler].arguments(hyper)
    )
    seen = []
    for _ in range(100):
        seen.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return seen


def test_every_schedule_that_is_offered_is_known():
    assert set(SCHEDULES) == set(get_args(Scheduler))
    theirs = {each.value for each in SchedulerType}
    mended = {"inverse_sqrt", "warmup_stable_decay"}
    own = {name for name, schedule in SCHEDULES.items() if schedule.shape is not None}
    assert own == (SCHEDULES.keys() - theirs) | mended


@pytest.mark.parametrize("name", [name for name in get_args(Scheduler) if name != "constant"])
@pytest.mark.parametrize("warmup", [1, 10, 60, 99])
def test_every_schedule_warms_up_from_nothing_and_reaches_its_peak(name, warmup):
    seen = factors(warmup, scheduler=name, decay_ratio=1.0)
    assert seen[: warmup + 1] == pytest.approx([step / warmup for step in range(warmup + 1)])
    assert max(seen) == seen[warmup]


def test_the_inverse_root_falls_without_warm_up_too():
    assert factors(0, scheduler="inverse_sqrt")[:4] == pytest.approx([1, 2**-0.5, 3**-0.5, 0.5])


def test_a_decay_that_warm_up_leaves_no_room_for_is_the_shorter():
    seen = factors(60, scheduler="warmup_stable_decay", decay_ratio=0.8, min_lr_rate=0.1)
    assert seen[60:] == sorted(seen[60:], reverse=True)
    assert (seen[60], seen[70]) == pytest.approx((1, 0.55))


@pytest.mark.parametrize(
    "changes, at_30, at_60, last",
    [
        ({"scheduler": "linear"}, 0.778, 0.444, 0.011),
        ({"scheduler": "constant"}, 1, 1, 1),
        ({"scheduler": "constant_with_warmup"}, 1, 1, 1),
        ({"scheduler": "cosine"}, 0.883, 0.413, 0.0),
        ({"scheduler": "cosine_with_restarts", "scheduler_cycles": 3}, 0.25, 0.25, 0.001),
        ({"scheduler": "cosine_with_min_lr", "min_lr_rate": 0.2}, 0.906, 0.531, 0.2),
        ({"scheduler": "polynomial", "scheduler_power": 2}, 0.605, 0.198, 0.0),
        ({"scheduler": "inverse_sqrt"}, 0.577, 0.408, 0.318),
        ({"scheduler": "warmup_stable_decay", "decay_ratio": 0.3, "min_lr_rate": 0.1}, 1, 1, 0.115),
        ({"scheduler": "step"}, 1, 0.1, 0.01),
        ({"scheduler": "exponential", "min_lr_rate": 0.01}, 0.359, 0.077, 0.011),
    ],
    ids=lambda each: each["scheduler"] if isinstance(each, dict) else "",
)
def test_a_schedule_has_the_shape_that_its_settings_say(changes, at_30, at_60, last):
    seen = factors(**changes)
    assert (seen[30], seen[60], seen[-1]) == pytest.approx((at_30, at_60, last), abs=0.006)
    assert (seen[0] < 0.2) == (changes["scheduler"] != "constant")


def test_a_run_of_one_step_still_learns(quick):
    changes = {"effective_batch": 64, "evaluations_per_epoch": 1, "scheduler": "polynomial"}
    quick.run(config(quick, learning_rate=1e-9, **changes), "still")
    still = values(quick)
    quick.run(config(quick, learning_rate=5e-2, **changes), "one")
    assert values(quick)[0] < still[0] - 1e-3


def test_lora_plus_gives_b_a_larger_rate_and_keeps_decay(quick, tmp_path):
    asked = config(quick, lora_plus_ratio=16.0, weight_decay=0.1, target_modules="full")
    base = load_base(BaseKey.of(quick.llama, asked.model, "lora"), tmp_path, lambda message, fraction: None)
    row = TokenRow(np.arange(9, dtype=np.int32), np.arange(9, dtype=np.int32))
    with trainable(base.model, asked.training, 1) as model:
        trainer = build_trainer(
            asked,
            StepPlan.of(asked.training, 1),
            base,
            TokenRows.of([row]),
            model,
            TrainerCallback(),
            str(tmp_path),
            ProcessGroup(),
        )
        groups = trainer.create_optimizer().param_groups
        rates = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
        by_name = {name: rates[id(p)] for name, p in model.named_parameters() if p.requires_grad}
    assert {rate for name, rate in by_name.items() if "lora_A" in name} == {(5e-3, 0.1)}
    assert {rate for name, rate in by_name.items() if "lora_B" in name} == {(8e-2, 0.1)}
    assert {rate for name, rate in by_name.items() if "lora_embedding" in name} == {(5e-3, 0.1)}


def test_trained_biases_are_trained_in_full_precision(tmp_path):
    folder = tmp_path / "gpt2"
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=259, n_embd=16, n_layer=1, n_head=2, n_positions=128))
    gpt2.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    trainee = Trainee(str(folder), write_rows(tmp_path / "pairs.jsonl", pairs(30)), tmp_path)
    asked = config(trainee, lora_bias="all", keep_adapter=True, score_test=True)
    half = asked.model_copy(update={"model": asked.model.model_copy(update={"dtype": "bfloat16"})})
    base = load_base(BaseKey.of(str(folder), half.model, "lora"), tmp_path, lambda message, fraction: None)
    with trainable(base.model, asked.training, 1) as model:
        biases = [p for name, p in model.named_parameters() if name.endswith("bias")]
        assert biases
        assert all(p.requires_grad and p.dtype == torch.float32 for p in biases)
    assert trainee.run(half, "half").kind is OutcomeKind.COMPLETE
    outcome = trainee.run(asked, "biases")
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), outcome.adapter)
    rows = plain_rows(str(folder), trainee.data, "test")
    assert plain_loss(loaded, rows) == pytest.approx(outcome.test.mean, abs=2e-5)


def test_a_model_from_scratch_has_the_shape_that_was_asked_for_and_is_drawn_from_the_seed(quick):
    names = itertools.count()

    def first(seed, **changes):
        asked = config(quick, BYTES, seed=seed, keep_adapter=True, **{**SCRATCH, **changes})
        outcome = quick.run(asked, str(next(names)))
        return values(quick), outcome

    curve, outcome = first(1)
    assert outcome.facts.training.trainable_parameters == quick.started.models[BYTES].parameters
    assert quick.started.models[BYTES].hidden_size == 32
    assert first(1)[0] == curve
    assert first(2)[0] != curve
    written = json.loads((Path(first(1, scratch_layers=2, scratch_heads=4)[1].adapter) / "config.json").read_text())
    assert (written["num_hidden_layers"], written["num_attention_heads"], written["hidden_size"]) == (2, 4, 32)
    assert (written["max_position_embeddings"], written["attention_dropout"]) == (64, 0.1)


def test_a_model_from_scratch_may_take_another_models_tokenizer(quick):
    outcome = quick.run(config(quick, **SCRATCH))
    assert outcome.kind is OutcomeKind.COMPLETE
    assert quick.started.models[quick.llama].parameters < 40_000


def test_pieces_lose_one_label_at_each_cut_and_none_without():
    ids = np.arange(20, dtype=np.int32)
    labels = ids.copy()
    labels[:9] = -100
    row = TokenRow(ids, labels)
    assert [each.ids.tolist() for each in pieces([row], 0)] == [ids.tolist()]
    cut = pieces([row], 8)
    assert [each.ids.tolist() for each in cut] == [list(range(8, 16)), list(range(16, 20))]  # the first teaches nothing
    assert [each.labels.tolist() for each in cut] == [[-100, *range(9, 16)], [-100, 17, 18, 19]]
    assert row.labels[16] == 16


def test_a_study_searches_methods_each_with_its_own_settings(quick, tmp_path):
    service = Service(Settings(storage=f"sqlite:///{tmp_path}/s.db", output=tmp_path, cache=tmp_path))
    service.upgrade()
    adapters = ["lora", "dora"]
    service.studies.create(
        StudySpec.model_validate(
            {
                "name": "methods",
                "model": {"base": quick.llama},
                "data": {"source": quick.data, "max_length": 64},
                "space": {
                    "preset": "none",
                    "parameters": {
                        "method": {"choices": [*adapters, "prefix"]},
                        "lora_rank": {"choices": [2, 4], "when": {"method": adapters}},
                        "prefix_tokens": {"choices": [3, 5], "when": {"method": "prefix"}},
                        "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
                    },
                },
                "search": {"budget": {"trials": 6}, "sampler": "random", "pruner": "none", "seed": 1},
                "training": {"evaluations_per_epoch": 1},
                "confirm": {"enabled": False},
            }
        )
    )
    with service.db.transaction():
        service.worker_rows.register("w", "host", 1, "0", "cpu")
    seen = {}
    while (assignment := service.queue.claim("w", "methods")) is not None:
        outcome = quick.run(assignment.config, str(tmp_path / assignment.key))
        assert outcome.kind is OutcomeKind.COMPLETE
        service.queue.report(assignment.lease, Report(step=1, fraction=1.0, value=outcome.value))
        service.queue.finish(assignment.lease, outcome)
        parameters = assignment.config.parameters
        seen.setdefault(parameters["method"], set()).add(frozenset(parameters))
    service.db.dispose()
    assert sum(map(len, seen.values())) == len(seen) == 3
    assert seen["prefix"] == {frozenset({"method", "prefix_tokens", "learning_rate"})}
    assert seen["dora"] == {frozenset({"method", "lora_rank", "learning_rate"})}
