"""Which trials are packed, and why others are not."""

from pathlib import Path

import pytest
import torch
from torch import nn

from hpo_service.domain.study.methods import METHODS, STARTS
from hpo_service.training.engines.packed.eligible import PLAIN, module_refusal, refusal


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"method": "rslora", "lora_dropout": 0.5, "init_lora_weights": "gaussian"},
        {"method": "qlora", "scheduler": "step", "optimizer": "adamw_torch"},
        {"target_modules": ["q_proj", "down_proj"], "init_lora_weights": "orthogonal", "epochs": 3},
        {"target_modules": "minimal", "max_grad_norm": 0.1, "lora_rank": 1024},
    ],
)
def test_plain_low_rank_adapters_are_packed(trainee, changes):
    assert refusal(trainee.config(**changes)) == ""


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"method": "dora"}, "method dora is not a plain low-rank adapter"),
        ({"method": "full"}, "method full is not a plain low-rank adapter"),
        ({"method": "prefix"}, "method prefix is not a plain low-rank adapter"),
        ({"method": "scratch"}, "method scratch is not a plain low-rank adapter"),
        ({"target_modules": "full"}, "adapters on embeddings are not packed"),
        ({"lora_bias": "all"}, "lora_bias all is not packed"),
        ({"lora_bias": "lora_only"}, "lora_bias lora_only is not packed"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights pissa is not packed"),
        ({"init_lora_weights": "olora"}, "init_lora_weights olora is not packed"),
        ({"init_lora_weights": "mica"}, "init_lora_weights mica is not packed"),
        ({"optimizer": "adamw_8bit"}, "optimizer adamw_8bit is not packed"),
        ({"optimizer": "sgd"}, "optimizer sgd is not packed"),
        ({"lora_plus_ratio": 16.0}, "lora_plus_ratio 16.0 is not packed"),
        ({"group_by_length": True}, "group_by_length True is not packed"),
        ({"data": {"pack_rows": True}}, "rows that share a sequence are not cut into passes"),
    ],
)
def test_everything_else_is_refused_with_the_setting_that_is_to_blame(trainee, changes, reason):
    assert refusal(trainee.config(**changes)) == reason


@pytest.mark.parametrize(
    "changes, method, words",
    [
        ({"dtype": "float16"}, "lora", "float16 needs a loss scale"),
        ({"quantisation": "int8"}, "lora", "8-bit layers choose their outlier columns"),
        ({"quantisation": "int8"}, "qlora", "8-bit layers choose their outlier columns"),
        ({"quantisation": "nf4"}, "lora", ""),
        ({"dtype": "bfloat16"}, "lora", ""),
    ],
)
def test_so_are_bases_whose_arithmetic_looks_at_all_rows(trainee, changes, method, words):
    config = trainee.config(method=method)
    config = config.model_copy(update={"model": config.model.model_copy(update=changes)})
    found = refusal(config)
    assert found.startswith(words)
    assert bool(found) == bool(words)


def test_adapters_sit_on_linear_layers_behind_which_rows_stay_apart():
    head = nn.Linear(2, 3)
    assert module_refusal("q_proj", nn.Linear(2, 2), head) == ""
    assert "it is computed in chunks" in module_refusal("lm_head", head, head)
    assert "adapters on embed (Embedding) are not packed" in module_refusal("embed", nn.Embedding(2, 2), head)
    assert "it is no linear layer" in module_refusal("conv", nn.Conv1d(1, 1, 1), None)


def test_eight_bit_layers_do_mix_rows():
    """The reason they are refused: should it go away, so can the refusal. On a CPU they mix where they evaluate."""
    import bitsandbytes

    torch.manual_seed(0)
    weight, row, neighbour = torch.randn(8, 16).half(), torch.randn(4, 16).clamp(-4, 4), torch.randn(4, 16)
    neighbour[:, 3] = 10.0

    def first(*rows):
        state = bitsandbytes.MatmulLtState()
        state.threshold, state.has_fp16_weights, state.is_training = 6.0, False, False
        state.CB, state.SCB, _ = bitsandbytes.functional.int8_vectorwise_quant(weight)
        return bitsandbytes.matmul(torch.stack(rows).half(), weight, state=state, threshold=6.0)[0]

    assert torch.equal(first(row, row), first(row))
    assert not torch.equal(first(row, neighbour), first(row))


def test_the_page_names_everything_that_is_not_packed():
    page = (Path(__file__).parents[3] / "docs" / "packing.md").read_text()
    methods = {name for name, method in METHODS.items() if not method.packable}
    starts = set(STARTS) - PLAIN["init_lora_weights"]
    for name in (*PLAIN, *methods, *starts, *PLAIN["optimizer"], "float16", "int8", "pack_rows"):
        assert f"`{name}" in page or f": {name}`" in page or f".{name}`" in page, name
