"""Tiny random models with experts, in Hugging Face format with the tests' tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    DeepseekV3Config,
    GptOssConfig,
    MixtralConfig,
    PhimoeConfig,
    PretrainedConfig,
    Qwen2MoeConfig,
    Qwen3MoeConfig,
)

from tests.training.families import GROUPED
from tests.training.tiny import byte_tokenizer

FOUR: dict[str, Any] = {"num_local_experts": 4, "num_experts_per_tok": 2}
SMALL: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
EXPERTS: dict[str, PretrainedConfig] = {
    "mixtral": MixtralConfig(**GROUPED, **FOUR, sliding_window=None),
    "qwen3-moe": Qwen3MoeConfig(**GROUPED, **SMALL, head_dim=16),
    "qwen2-moe": Qwen2MoeConfig(**GROUPED, **SMALL, shared_expert_intermediate_size=32),
    "gpt-oss": GptOssConfig(**GROUPED, **FOUR, head_dim=16, sliding_window=16),
    "phimoe": PhimoeConfig(**GROUPED, **FOUR, router_jitter_noise=0.0, input_jitter_noise=0.0),
    "deepseek": DeepseekV3Config(
        **{**GROUPED, "num_key_value_heads": 4},
        n_routed_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        q_lora_rank=8,
        kv_lora_rank=8,
        qk_rope_head_dim=4,
        qk_nope_head_dim=8,
        v_head_dim=8,
        n_group=1,
        topk_group=1,
        first_k_dense_replace=1,
        n_shared_experts=1,
    ),
}


def save_experts(name: str, folder: Path, **changes: Any) -> str:
    """Save a random model of a family with its tokenizer and return its path."""
    torch.manual_seed(0)
    config = type(EXPERTS[name])(**{**EXPERTS[name].to_dict(), **changes})
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return str(folder)
