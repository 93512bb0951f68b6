"""Which bases treat every row by itself, so that trials can share a pass."""

from copy import deepcopy

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BioGptConfig,
    FalconConfig,
    GPT2Config,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    Starcoder2Config,
    XGLMConfig,
)

from hpo_service.training.engines.packed.isolation import isolation_refusal
from hpo_service.wire.messages import Capacity
from tests.training.experts import EXPERTS, FOUR
from tests.training.families import FAMILIES, GROUPED, SHAPE, SPECIAL

OPT = {"hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "word_embed_proj_dim": 32}
FALCON = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
XGLM = {"d_model": 32, "ffn_dim": 64, "num_layers": 2, "attention_heads": 4}
OWN = "the base has dropout of its own ({})"


def experts(name, **changes):
    return type(EXPERTS[name])(**{**EXPERTS[name].to_dict(), **changes})


@pytest.mark.parametrize(
    "config, reason",
    [
        (FAMILIES["gpt2"], OWN.format("transformer.drop")),
        (LlamaConfig(**GROUPED, attention_dropout=0.1), OWN.format("attention")),
        (OPTConfig(**OPT, **SPECIAL), OWN.format("dropout")),
        (OPTConfig(**OPT, **SPECIAL, dropout=0.0, layerdrop=0.1), OWN.format("layerdrop")),
        (BioGptConfig(**SHAPE), OWN.format("hidden_dropout_prob")),
        (FalconConfig(**FALCON, **SPECIAL, hidden_dropout=0.1), OWN.format("hidden_dropout")),
        (XGLMConfig(**XGLM, **SPECIAL), OWN.format("dropout")),
        (Starcoder2Config(**GROUPED, residual_dropout=0.1), OWN.format("residual_dropout")),
        (experts("phimoe", router_jitter_noise=0.01), OWN.format("router_jitter_noise")),
        (experts("mixtral", router_jitter_noise=0.01), OWN.format("router_jitter_noise")),
        (experts("mixtral", output_router_logits=True), "the auxiliary loss of the base's experts"),
        (OPTConfig(**OPT, **SPECIAL, dropout=0.0), ""),
        (FalconConfig(**FALCON, **SPECIAL), ""),
        (Starcoder2Config(**GROUPED, residual_dropout=0.0, embedding_dropout=0.0), ""),
        (FAMILIES["llama"], ""),
        (FAMILIES["gpt-neox"], ""),
        (EXPERTS["mixtral"], ""),
        (EXPERTS["qwen3-moe"], ""),
        (GPT2Config(n_embd=8, n_layer=1, n_head=1, attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0, vocab_size=9), ""),
    ],
    ids=lambda each: each.model_type if hasattr(each, "model_type") else None,
)
def test_a_base_that_draws_at_random_itself_serves_one_trial_at_a_time(config, reason):
    found = isolation_refusal(AutoModelForCausalLM.from_config(config), torch.float32)
    assert found.startswith(reason)
    assert bool(found) == bool(reason)


class Odd(LlamaForCausalLM):
    """A model whose own code does to its states what no setting tells."""

    def __init__(self, change):
        super().__init__(LlamaConfig(**GROUPED))
        self.model.embed_tokens.register_forward_hook(lambda _module, _ids, states: change(states))


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda states: torch.nn.functional.dropout(states, 0.01, training=True), "the base draws at random"),
        (lambda states: states + 0.01 * states.mean(dim=0, keepdim=True), "the base mixes rows"),
        (lambda states: states.foo, "the base cannot be tried on two rows (AttributeError)"),
        # random numbers that are asked for, and not used, do no harm
        (lambda states: states + 0 * torch.rand_like(states), ""),
    ],
    ids=["draws", "mixes", "fails", "draws in vain"],
)
def test_what_no_setting_tells_is_found_by_trying(change, reason):
    model = Odd(change)
    before = torch.get_rng_state()
    found = isolation_refusal(model.eval(), torch.float32)
    assert found.startswith(reason)
    assert bool(found) == bool(reason)
    assert not model.training
    assert torch.equal(torch.get_rng_state(), before)


def test_bfloat16_rounds_otherwise_beside_others_and_is_no_mixing():
    for shared in (FAMILIES["llama"], EXPERTS["mixtral"], MORE):
        config = deepcopy(shared)  # the model writes its type into it
        assert isolation_refusal(AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16), torch.bfloat16) == ""


MORE = type(EXPERTS["mixtral"])(**GROUPED, **{**FOUR, "num_experts_per_tok": 1})


def test_a_base_that_is_refused_serves_one_trial_after_another(workshop, monkeypatch):
    name = "hpo_service.training.engines.packed.engine.isolation_refusal"
    monkeypatch.setattr(name, lambda model, compute: f"it mixes in {compute}")
    crowd = workshop.run({trial: workshop.config(evaluations_per_epoch=1) for trial in ("a", "b")}, slots=2)
    assert {message.reason for message in crowd.of(Capacity)} == {"it mixes in torch.float32"}
    assert not any("engine" in crowd.outcome(trial).facts for trial in ("a", "b"))
