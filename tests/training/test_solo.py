"""The solo engine: the same numbers as a plain script, orders obeyed, everything kept that was asked for."""

import math
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments, set_seed

from hpo_service.domain.study.sections.data import SplitSpec
from hpo_service.domain.trial.outcome import OutcomeKind
from hpo_service.errors import DataError, TrialError
from hpo_service.training.data.formats import read_examples
from hpo_service.training.data.reading.source import read_rows
from hpo_service.training.data.rows import prepare_rows
from hpo_service.training.data.split import split_examples
from hpo_service.training.engines.solo import SoloEngine
from hpo_service.training.engines.trainer import token_loss
from hpo_service.training.models.base import load_base
from hpo_service.training.run.loaded_models import LoadedModels
from tests.training.tiny import byte_tokenizer, save_tiny_llama, write_rows
from tests.trials import stop


def plain_rows(llama, source, part):
    """The rows as a plain script would make them: prompt with BOS, completion and EOS, loss on the latter."""
    tokenizer = byte_tokenizer()
    split = split_examples(read_examples(list(read_rows(source)))[1], SplitSpec())
    rows = []
    for example in getattr(split, part):
        prompt, rest = tokenizer(example.prompt).input_ids, tokenizer(example.completion, add_special_tokens=False)
        rest = [*rest.input_ids, tokenizer.eos_token_id]
        rows.append({"input_ids": (prompt + rest)[:64], "labels": ([-100] * len(prompt) + rest)[:64]})
    return rows


def plain_collate(rows):
    longest = max(len(row["input_ids"]) for row in rows)
    pad = lambda name, value: torch.tensor([r[name] + [value] * (longest - len(r[name])) for r in rows])  # noqa: E731
    mask = torch.tensor([[1] * len(r["input_ids"]) + [0] * (longest - len(r["input_ids"])) for r in rows])
    return {"input_ids": pad("input_ids", 0), "labels": pad("labels", -100), "attention_mask": mask}


def plain_loss(model, rows):
    total = count = 0
    model.eval()
    with torch.no_grad():
        for row in rows:
            batch = plain_collate([row])
            tokens = int((batch["labels"][:, 1:] != -100).sum())
            total += float(model(**batch).loss) * tokens
            count += tokens
    return total / count


def plain_curve(llama, source, folder, config):
    """Forty lines of PEFT and Trainer: the validation loss after the planned steps."""
    spec = config.training
    set_seed(config.seed)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(llama),
        LoraConfig(
            r=spec.lora_rank,
            lora_alpha=spec.lora_rank,
            lora_dropout=spec.lora_dropout,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
    )
    train, validation = (plain_rows(llama, source, part) for part in ("train", "validation"))
    steps = math.ceil(len(train) / spec.effective_batch) * spec.epochs
    number = spec.evaluations_per_epoch * spec.epochs
    at = [math.ceil(k * steps / number) for k in range(1, number + 1)]
    curve = []

    class Evaluate(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step in at:
                curve.append(plain_loss(model, validation))

    args = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=spec.epochs,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=spec.effective_batch // 8,
        learning_rate=spec.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(spec.warmup_ratio * steps),
        weight_decay=spec.weight_decay,
        seed=config.seed,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    Trainer(model, args, plain_collate, train, callbacks=[Evaluate()]).train()
    return curve


@pytest.mark.parametrize("changes", [{}, {"effective_batch": 16, "epochs": 2, "lora_dropout": 0.1}], ids=["1", "2"])
def test_the_curve_is_that_of_a_plain_peft_and_trainer_script(trainee, tmp_path, changes):
    config = trainee.config(**changes)
    trainee.run(config)
    curve = [report.value for report in trainee.reports]
    expected = plain_curve(trainee.llama, trainee.data, tmp_path / "plain", config)
    assert len(curve) == 4 * config.training.epochs
    assert curve == pytest.approx(expected, abs=1e-6)
    assert curve[-1] < curve[0] - 0.01


def test_evaluations_are_made_at_the_same_fractions_for_every_batch_size(trainee):
    for batch in (4, 16):
        trainee.run(trainee.config(effective_batch=batch), f"batch-{batch}")
        assert [report.fraction for report in trainee.reports] == [0.25, 0.5, 0.75, 1.0]
        assert [report.step for report in trainee.reports] == [1, 2, 3, 4]


def test_a_report_tells_how_the_training_goes(trainee):
    trainee.run(trainee.config())
    metrics = trainee.reports[-1].metrics
    of_a_step = {"train_loss", "learning_rate", "grad_norm", "tokens_per_second"}
    assert set(metrics) == {*of_a_step, "seconds", "train_seconds", "memory_gb"}
    assert all(math.isfinite(value) for value in metrics.values())
    assert metrics["learning_rate"] < 5e-3


def test_a_resident_base_gives_bitwise_what_a_fresh_one_gives(trainee, tmp_path):
    first = trainee.config(method="dora", lora_rank=8, target_modules="attention", seed=1)
    second = trainee.config(lora_dropout=0.1)
    trainee.run(first, "first")
    trainee.run(trainee.config(target_modules="full", method="rslora"), "between")
    trainee.run(second, "second")
    resident = trainee.reports
    trainee.run(second, "fresh", engine=SoloEngine(LoadedModels(tmp_path)))
    assert [report.value for report in resident] == [report.value for report in trainee.reports]


def test_the_base_is_loaded_once_and_again_after_its_own_weights_were_trained(trainee, monkeypatch):
    loads = []
    monkeypatch.setattr(
        "hpo_service.training.run.loaded_models.load_base", lambda *a, **k: loads.append(a) or load_base(*a, **k)
    )
    trainee.run(trainee.config(), "first")
    trainee.run(trainee.config(learning_rate=1e-3), "second")
    assert len(loads) == 1
    trainee.run(trainee.config(method="full", learning_rate=1e-3), "full")
    assert len(loads) == 1
    trainee.run(trainee.config(), "after")
    assert len(loads) == 2


def test_full_training_does_not_leak_into_the_next_trial(trainee):
    trainee.run(trainee.config(), "before")
    before = trainee.reports
    outcome = trainee.run(trainee.config(method="full", learning_rate=1e-3, keep_adapter=True), "full")
    assert outcome.facts.training.trainable_parameters == trainee.started.models[trainee.llama].parameters
    assert (Path(outcome.adapter) / "config.json").exists()
    trainee.run(trainee.config(), "after")
    assert [r.value for r in trainee.reports] == [r.value for r in before]


@pytest.mark.parametrize("method", ["lora", "rslora", "dora", "qlora", "full"])
def test_every_method_trains_and_improves(trainee, method):
    rate = 1e-3 if method == "full" else 5e-3
    outcome = trainee.run(trainee.config(method=method, learning_rate=rate))
    assert outcome.kind is OutcomeKind.COMPLETE
    assert trainee.reports[-1].value < trainee.reports[0].value


def test_an_int8_base_trains(trainee):
    config = trainee.config(method="qlora")
    config = config.model_copy(update={"model": config.model.model_copy(update={"quantisation": "int8"})})
    assert trainee.run(config).kind is OutcomeKind.COMPLETE


def test_a_finished_trial_tells_its_value_its_scores_and_its_facts(trainee):
    outcome = trainee.run(trainee.config(score_test=True))
    assert outcome.kind is OutcomeKind.COMPLETE
    assert outcome.reason == "trained to the end"
    assert outcome.value == trainee.reports[-1].value == outcome.validation.mean
    assert len(outcome.validation.nll) == outcome.facts.data.validation
    assert len(outcome.test.nll) == outcome.facts.data.test
    assert outcome.facts.training.steps == outcome.facts.training.steps_planned > 0
    assert outcome.facts.training.best_value <= outcome.value
    assert outcome.facts.timing.device >= outcome.facts.timing.train > 0
    assert outcome.facts.training.tokens > 1000
    assert "torch" in outcome.facts.environment.versions
    assert outcome.adapter is None


def test_the_test_rows_are_scored_only_when_asked(trainee):
    assert trainee.run(trainee.config()).test is None


@pytest.mark.parametrize("changes", [{}, {"target_modules": "full"}, {"method": "dora"}], ids=["lora", "full", "dora"])
def test_a_kept_adapter_gives_the_reported_test_loss_in_plain_peft(trainee, changes):
    outcome = trainee.run(trainee.config(score_test=True, keep_adapter=True, **changes))
    reloaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(trainee.llama), outcome.adapter)
    assert reloaded.peft_config["default"].base_model_name_or_path == trainee.llama
    assert plain_loss(reloaded, plain_rows(trainee.llama, trainee.data, "test")) == pytest.approx(
        outcome.test.mean, abs=1e-4
    )
    assert (Path(outcome.adapter) / "adapter_model.safetensors").exists()


def test_a_stop_that_answers_a_report_prunes(trainee):
    order = stop("prune", "worse than the better half")
    outcome = trainee.run(trainee.config(), decide=lambda report: order if report.step == 2 else None)
    assert (outcome.kind, outcome.reason) == (OutcomeKind.PRUNED, "worse than the better half")
    assert outcome.value == trainee.reports[-1].value
    assert len(trainee.reports) == 2
    assert outcome.facts.timing.device > 0


def test_a_stop_between_reports_cancels_at_once(trainee):
    outcome = trainee.run(trainee.config(), at_progress=(0.3, stop("cancel", "a person said so")))
    assert (outcome.kind, outcome.reason) == (OutcomeKind.CANCELLED, "a person said so")
    assert len(trainee.reports) == 1


def test_a_stop_within_a_long_accumulation_does_not_wait_for_its_end(trainee):
    config = trainee.config(effective_batch=64, micro_batch=1)
    outcome = trainee.run(config, at_progress=(0.0, stop("cancel", "a person said so")))
    assert outcome.kind is OutcomeKind.CANCELLED
    assert trainee.reports == []


def test_a_run_without_improvement_ends_by_its_patience(trainee):
    outcome = trainee.run(trainee.config(learning_rate=1e-9, patience=2, evaluations_per_epoch=8))
    assert outcome.kind is OutcomeKind.COMPLETE
    assert outcome.reason == "no improvement of 0.001 in 2 evaluations"
    assert len(trainee.reports) == 3
    assert outcome.value == trainee.reports[-1].value


def test_a_loss_that_is_not_a_number_prunes_at_once(trainee, monkeypatch):
    calls = []

    def broken(trainer, model, inputs, *args, **kwargs):
        calls.append(1)
        loss = plain(trainer, model, inputs, *args, **kwargs)
        return loss * math.nan if len(calls) == 4 else loss

    plain = Trainer.compute_loss
    monkeypatch.setattr(Trainer, "compute_loss", broken)
    outcome = trainee.run(trainee.config())
    assert (outcome.kind, outcome.reason) == (OutcomeKind.PRUNED, "diverged: the training loss became nan")
    assert len(calls) == 4


def test_a_learning_rate_that_explodes_prunes(trainee):
    explosive = {"learning_rate": 1.0, "method": "full", "optimizer": "lion_32bit", "max_grad_norm": 1e6}
    config = trainee.config(**explosive, evaluations_per_epoch=1, effective_batch=1, warmup_ratio=0.5)
    outcome = trainee.run(config)
    assert outcome.kind is OutcomeKind.PRUNED
    assert outcome.reason.startswith("diverged: the ")


def test_started_describes_models_that_are_not_loaded_too(trainee):
    config = trainee.config()
    target = config.model.model_copy(update={"target": "builtin:llama-small"})
    trainee.run(config.model_copy(update={"model": target}))
    models = trainee.started.models
    assert models[trainee.llama].hidden_size == 32
    assert models[trainee.llama].fingerprint
    assert models["builtin:llama-small"].hidden_size > 32
    assert models["builtin:llama-small"].parameters is None


def test_precision_may_change_from_trial_to_trial(trainee):
    config = trainee.config()
    half = config.model_copy(update={"model": config.model.model_copy(update={"dtype": "bfloat16"})})
    trainee.run(config, "before")
    before = trainee.reports[-1].value
    assert trainee.run(half, "half").facts.environment.compute == "bfloat16"
    assert trainee.reports[-1].value == pytest.approx(before, rel=0.05)
    trainee.run(config, "after")
    assert trainee.reports[-1].value == before


def test_a_strange_error_costs_its_trial_and_a_reload(trainee, monkeypatch):
    config = trainee.config()
    trainee.run(config, "before")
    before = trainee.reports

    def broken(*_, **__):
        raise RuntimeError("something odd")

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "compute_loss", broken)
        with pytest.raises(RuntimeError, match="something odd"):
            trainee.run(config, "odd")
    trainee.run(config, "after")
    assert [r.value for r in trainee.reports] == [r.value for r in before]


def test_rows_longer_than_the_model_has_positions_are_refused(trainee, tmp_path):
    rows = [{"prompt": "p" * 150, "completion": f"{i} long enough"} for i in range(60)]
    with pytest.raises(
        DataError, match=r"do not fit the 128 positions of model .*: set data\.max_length to 128 or less"
    ):
        trainee.run(trainee.config(data={"source": write_rows(tmp_path / "long.jsonl", rows), "max_length": 512}))


def test_models_with_the_same_tokenizer_share_their_rows(trainee, tmp_path, monkeypatch):
    prepared = []
    monkeypatch.setattr(
        "hpo_service.training.data.row_cache.prepare_rows", lambda *args: prepared.append(args) or prepare_rows(*args)
    )
    trainee.run(trainee.config(), "small")
    trainee.run(trainee.config(model=save_tiny_llama(tmp_path / "other", seed=3)), "large")
    assert len(prepared) == 1


def test_a_trial_without_model_or_data_is_refused(trainee):
    for missing in ("model", "data"):
        with pytest.raises(TrialError, match=f"names no {missing} for the built-in trainer"):
            trainee.run(trainee.config().model_copy(update={missing: None}))


def test_the_own_loss_is_the_sum_over_the_tokens_of_the_whole_batch():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 4, 5), torch.tensor([[0, 1, 2, 3], [-100, -100, 4, -100]])
    nll = -torch.log_softmax(logits[:, :-1], -1)
    expected = (nll[0, 0, 1] + nll[0, 1, 2] + nll[0, 2, 3] + nll[1, 1, 4]) / 10
    assert float(token_loss({"logits": logits}, labels, torch.tensor(10))) == pytest.approx(float(expected))
