"""Packed trials give the numbers of trials alone, whoever else is in the pack."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from hpo_service.domain.trial.outcome import OutcomeKind
from hpo_service.training.engines.packed.pack import Pack
from hpo_service.training.engines.solo import SoloEngine
from hpo_service.training.models.base import fingerprint
from hpo_service.training.run.loaded_models import LoadedModels
from tests.training.families import save_family
from tests.training.packed.packs import Workshop, reports
from tests.training.test_solo import plain_loss, plain_rows
from tests.training.tiny import Trainee, pairs, write_rows

# 54 training rows: most effective batches do not divide them, and no two trials stay in phase.
MIXED = {
    "plain": {"evaluations_per_epoch": 8},
    "linear": {"lora_rank": 8, "lora_alpha": 16, "learning_rate": 1e-2, "weight_decay": 0.1, "scheduler": "linear"},
    "rslora": {
        "effective_batch": 16,
        "warmup_ratio": 0.2,
        "target_modules": "attention",
        "method": "rslora",
        "seed": 3,
    },
    "clipped": {"effective_batch": 5, "scheduler": "constant_with_warmup", "max_grad_norm": 0.1, "lora_rank": 2},
    "twice": {"effective_batch": 12, "epochs": 2, "target_modules": "minimal", "scheduler": "cosine_with_restarts"},
    "gaussian": {"lora_rank": 16, "learning_rate": 2e-2, "init_lora_weights": "gaussian", "scheduler": "step"},
    "small": {"effective_batch": 7, "lora_rank": 1, "warmup_ratio": 0.5, "micro_batch": 7, "scheduler": "inverse_sqrt"},
    "whole": {"effective_batch": 64, "micro_batch": 16, "epochs": 2, "weight_decay": 0.0, "max_grad_norm": 10.0},
    "curriculum": {"effective_batch": 10, "epochs": 2, "order": "curriculum"},
    "progressive": {"effective_batch": 6, "order": "progressive", "seed": 5},
}
MEASURES = {"train_loss": 1e-5, "learning_rate": 1e-12, "grad_norm": 1e-4}


@pytest.mark.timeout(120)
def test_unlike_trials_have_the_losses_norms_rates_and_scores_they_have_alone(workshop):
    configs = {name: workshop.config(score_test=True, **changes) for name, changes in MIXED.items()}
    crowd = workshop.run(configs)
    for name, config in configs.items():
        alone, expected = workshop.alone(config)
        outcome, found = crowd.outcome(name), reports(crowd, name)
        assert outcome.kind is OutcomeKind.COMPLETE
        assert [r.step for r in found] == [r.step for r in expected]
        assert [r.value for r in found] == pytest.approx([r.value for r in expected], rel=1e-5)
        for measure, tolerance in MEASURES.items():
            values = [r.metrics[measure] for r in expected if measure in r.metrics]
            assert [r.metrics[measure] for r in found if measure in r.metrics] == pytest.approx(values, rel=tolerance)
        assert outcome.validation.nll == pytest.approx(alone.validation.nll, rel=1e-5)
        assert outcome.test.nll == pytest.approx(alone.test.nll, rel=1e-5)
        for fact in ("steps", "steps_planned", "tokens", "micro_batch", "trainable_parameters", "base_fingerprint"):
            assert outcome.facts.flat()[fact] == alone.facts.flat()[fact]
        assert outcome.facts.environment.engine == "packed"


def test_evaluation_through_merged_weights_gives_the_values_of_training_alone(workshop, monkeypatch):
    monkeypatch.setattr("hpo_service.training.engines.packed.stack.MERGE_TOKENS", 0)
    configs = {
        "a": workshop.config(evaluations_per_epoch=3, lora_rank=3, target_modules="attention"),
        "b": workshop.config(evaluations_per_epoch=2, lora_rank=9, learning_rate=1e-2, method="rslora"),
    }
    crowd = workshop.run(configs)
    for name, config in configs.items():
        assert crowd.curve(name) == pytest.approx([r.value for r in workshop.alone(config)[1]], rel=1e-6)


def test_a_trial_with_dropout_is_the_same_alone_in_a_pack_and_beside_seven_others(workshop):
    config = workshop.config(lora_dropout=0.3, evaluations_per_epoch=3)
    others = {
        f"other-{k}": workshop.config(
            lora_dropout=k / 10, lora_rank=k + 1, seed=k, effective_batch=6 + k, evaluations_per_epoch=1
        )
        for k in range(7)
    }
    together = workshop.run({**others, "it": config})
    alone = Workshop(workshop.trainee, workshop.folder / "alone").run({"it": config}, slots=2)
    assert together.curve("it") == pytest.approx(alone.curve("it"), rel=1e-6)
    norms = [[r.metrics["grad_norm"] for r in reports(crowd, "it")] for crowd in (together, alone)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    plain = Workshop(workshop.trainee, workshop.folder / "plain").run({"it": workshop.config(evaluations_per_epoch=3)})
    assert plain.curve("it") != pytest.approx(alone.curve("it"), rel=1e-6)


def test_dropout_depends_on_neither_micro_batch_nor_size_of_the_passes(workshop, monkeypatch):
    curves = []
    for number, (micro, tokens) in enumerate([(8, 1024), (2, 1024), (8, 64)]):
        monkeypatch.setattr("hpo_service.training.engines.packed.pack.TOKENS_CPU", tokens)
        config = workshop.config(lora_dropout=0.3, micro_batch=micro, evaluations_per_epoch=2)
        curves.append(Workshop(workshop.trainee, workshop.folder / str(number)).run({"it": config}).curve("it"))
    assert curves[1] == pytest.approx(curves[0], rel=1e-6)
    assert curves[2] == pytest.approx(curves[0], rel=1e-6)


def quick(workshop, **changes):
    return workshop.config(effective_batch=16, evaluations_per_epoch=2, **changes)


def without_dropout(model):
    file = model / "config.json"
    off = dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), 0.0)
    file.write_text(json.dumps({**json.loads(file.read_text()), **off}))


@pytest.mark.parametrize("family, quantisation", [("llama", "nf4"), ("gpt2", "none"), ("gemma3", "none")])
def test_other_families_and_a_base_in_four_bits_are_packed_as_they_train_alone(family, quantisation, tmp_path):
    path = save_family(family, tmp_path / "model")
    if family == "gpt2":
        without_dropout(Path(path))
    workshop = Workshop(Trainee(path, write_rows(tmp_path / "rows.jsonl", pairs(40)), tmp_path), tmp_path)
    configs = {}
    for name, changes in {"a": {"lora_rank": 8}, "b": {"target_modules": "attention", "learning_rate": 2e-2}}.items():
        config = quick(workshop, **changes)
        model = config.model.model_copy(update={"quantisation": quantisation})
        configs[name] = config.model_copy(update={"model": model})
    crowd = workshop.run(configs)
    for name, config in configs.items():
        _, expected = workshop.alone(config)
        assert crowd.curve(name) == pytest.approx([r.value for r in expected], rel=1e-5)
        assert crowd.outcome(name).facts.environment.engine == "packed"


def test_bfloat16_stays_within_its_own_rounding_of_the_solo_engine(workshop):
    def half(**changes):
        config = quick(workshop, **changes)
        return config.model_copy(update={"model": config.model.model_copy(update={"dtype": "bfloat16"})})

    configs = {"a": half(), "b": half(lora_rank=8, seed=3)}
    crowd = workshop.run(configs)
    for name, config in configs.items():
        outcome, expected = workshop.alone(config)
        assert outcome.facts.environment.compute == crowd.outcome(name).facts.environment.compute == "bfloat16"
        assert crowd.curve(name) == pytest.approx([r.value for r in expected], rel=5e-4)


def test_adapters_from_a_pack_load_in_plain_peft_and_the_base_is_left_as_it_was(workshop):
    base = workshop.solo.loaded.base(workshop.link())
    before, print_before = {k: v.clone() for k, v in base.model.state_dict().items()}, fingerprint(base.model)
    configs = {
        "small": quick(workshop, keep_adapter=True, score_test=True, lora_rank=2, target_modules="attention"),
        "scaled": quick(workshop, keep_adapter=True, score_test=True, lora_rank=8, lora_alpha=4, method="rslora"),
    }
    crowd = workshop.run(configs)
    for name in configs:
        outcome = crowd.outcome(name)
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(workshop.trainee.llama), outcome.adapter)
        rows = plain_rows(workshop.trainee.llama, workshop.trainee.data, "test")
        assert plain_loss(model, rows) == pytest.approx(outcome.test.mean, abs=1e-5)
        assert outcome.test.mean != pytest.approx(plain_loss(model.unload(), rows), abs=1e-3)
    after = workshop.solo.loaded.base(workshop.link())
    assert after is base
    assert fingerprint(base.model) == print_before
    assert all(torch.equal(value, before[name]) for name, value in base.model.state_dict().items())
    assert not any(module._forward_hooks for module in base.model.modules())


def test_a_solo_trial_after_a_pack_is_one_on_a_fresh_base(workshop, tmp_path):
    config = quick(workshop, lora_dropout=0.1)
    workshop.run({"a": quick(workshop), "b": quick(workshop, lora_rank=8)})
    _, after = workshop.alone(config)
    workshop.trainee.run(config, "fresh", engine=SoloEngine(LoadedModels(tmp_path)))
    assert [r.value for r in after] == [r.value for r in workshop.trainee.reports]


def test_gradients_do_not_depend_on_how_many_tokens_go_through_the_base_at_once(workshop):
    job, found = workshop.job(), []
    for tokens in (32, 100_000):
        pack = Pack(job.base, job.rows)
        pack.tokens = tokens
        slots = [pack.admit(job, 3) for _ in range(2)]
        shares = [slot.share() for slot in slots]
        sums = pack.forward_backward(shares)
        found.append((sums.tolist(), pack.stack.grad.clone()))
        pack.close()
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-4, atol=1e-8)
    assert found[0][1][2].abs().max() == 0
    torch.testing.assert_close(found[0][1][0], found[0][1][1], rtol=1e-4, atol=1e-8)
