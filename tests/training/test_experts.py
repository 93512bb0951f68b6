"""Bases with experts: what adapters and quantisation reach, and an auxiliary loss that no micro-batch changes."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from hpo_service.domain.study.hyperparameters import Hyperparameters
from hpo_service.domain.trial.outcome import OutcomeKind
from hpo_service.errors import UnfitError
from hpo_service.training.models.adapter import target_modules, trainable
from hpo_service.training.models.base import BaseKey, load_base
from hpo_service.training.models.reach import fused_experts, holds_quantised
from hpo_service.training.run.expert_balance import ExpertBalance
from tests.training.experts import EXPERTS, save_experts
from tests.training.test_families import config, values
from tests.training.tiny import Trainee, pairs, write_rows


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("experts") / "pairs.jsonl", pairs(40))


def base(name, **changes):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(type(EXPERTS[name])(**{**EXPERTS[name].to_dict(), **changes}))


@pytest.mark.parametrize("name", EXPERTS)
@pytest.mark.parametrize("targets", ["minimal", "attention", "all-linear", "full"])
def test_presets_leave_experts_and_routers_out_so_that_every_setting_fits(name, targets):
    model = base(name)
    if name == "deepseek" and targets == "minimal":
        return  # its attention is cut otherwise: that its names are missing is said
    hyper = Hyperparameters(lora_rank=2, lora_dropout=0.1, target_modules=targets, method="dora")
    with trainable(model, hyper, 0) as adapted:
        trained = {name.partition(".lora_")[0] for name, weight in adapted.named_parameters() if weight.requires_grad}
    assert trained
    assert not [each for each in trained if ".experts" in each or each.endswith(("mlp.gate", "router"))]


@pytest.mark.parametrize("name", EXPERTS)
@pytest.mark.parametrize("changes", [{}, {"init_lora_weights": "pissa", "lora_dropout": 0.0}], ids=["default", "pissa"])
def test_a_default_configuration_trains_and_is_kept(name, changes, rows, tmp_path):
    trainee = Trainee(save_experts(name, tmp_path / "model"), rows, tmp_path)
    asked = config(trainee, **{"lora_dropout": 0.1, "lora_rank": 1 if changes else 4, **changes})
    outcome = trainee.run(asked)
    assert outcome.kind is OutcomeKind.COMPLETE
    assert values(trainee)[1] < values(trainee)[0]
    assert outcome.adapter is not None


def test_experts_named_by_hand_are_adapted_where_nothing_else_is_asked_of_them(tmp_path):
    model = base("deepseek")
    names = ["o_proj", "gate_proj", "up_proj", "down_proj"]
    assert target_modules(model, names) == names
    with trainable(model, Hyperparameters(target_modules=names, lora_rank=2), 0) as adapted:
        assert any(".experts." in name for name, weight in adapted.named_parameters() if weight.requires_grad)
    with (
        pytest.raises(UnfitError, match=r"names experts of deepseek_v3, .* set lora_dropout to 0"),
        trainable(model, Hyperparameters(target_modules=names, lora_dropout=0.1), 0),
    ):
        pass


@pytest.mark.parametrize("name", ["mixtral", "qwen3-moe"])
def test_experts_keep_their_type_where_the_rest_is_quantised(name, tmp_path, rows):
    trainee = Trainee(save_experts(name, tmp_path / "model"), rows, tmp_path)
    spec = config(trainee).model.model_copy(update={"dtype": "bfloat16"})
    model = load_base(BaseKey.of(trainee.llama, spec, "qlora"), tmp_path, lambda message, fraction: None).model
    assert holds_quantised(model)
    experts = list(fused_experts(model))
    assert experts
    assert {weight.dtype for _, weight in experts} == {torch.bfloat16}
    assert model.lm_head.weight.dtype == model.model.norm.weight.dtype == torch.float32
    asked = config(trainee, method="qlora", lora_dropout=0.1)
    outcome = trainee.run(asked.model_copy(update={"model": spec}))
    assert outcome.kind is OutcomeKind.COMPLETE
    assert values(trainee)[1] < values(trainee)[0]


@pytest.mark.parametrize("pack", [False, True])
def test_the_auxiliary_loss_does_not_depend_on_the_micro_batch(pack, rows, tmp_path):
    # large, so that it would show
    path = save_experts("mixtral", tmp_path / "model", output_router_logits=True, router_aux_loss_coef=1.0)
    trainee = Trainee(path, rows, tmp_path)
    curves = []
    for micro in (8, 2, 1):
        trainee.run(trainee.config(micro_batch=micro, data={"pack_rows": pack}), f"micro {micro}")
        curves.append(values(trainee))
    assert curves[1] == pytest.approx(curves[0], abs=1e-5)
    assert curves[2] == pytest.approx(curves[0], abs=1e-5)


def test_of_one_row_it_is_the_models_own():
    model = base("mixtral", output_router_logits=True, router_aux_loss_coef=0.5)
    ids = torch.arange(20).unsqueeze(0)
    own = model(input_ids=ids, labels=ids)
    balance = ExpertBalance.of(model, lambda outputs, labels, num_items_in_batch: outputs["loss"] * 0)
    balance.see({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    assert balance(own, ids, torch.tensor(20)).item() == pytest.approx(0.5 * own.aux_loss.item(), rel=1e-6)


def test_models_that_do_not_ask_for_it_have_none():
    assert ExpertBalance.of(base("mixtral"), print) is None
    assert ExpertBalance.of(base("deepseek", output_router_logits=True), print) is None
