"""Tiny random models of well-known families, in Hugging Face format with the tests' tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PretrainedConfig,
    Qwen3Config,
)

from tests.training.tiny import byte_tokenizer

SPECIAL: dict[str, Any] = {"vocab_size": 259, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    **SPECIAL,
}
# Fewer heads for keys than for queries, and a window shorter than the rows, where a family has them.
GROUPED: dict[str, Any] = {**SHAPE, "num_key_value_heads": 2}
FAMILIES: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**GROUPED),
    "qwen3": Qwen3Config(**GROUPED, head_dim=16),
    "gemma3": Gemma3TextConfig(
        **GROUPED, head_dim=16, sliding_window=16, layer_types=["sliding_attention", "full_attention"]
    ),
    "mistral": MistralConfig(**GROUPED, sliding_window=16),
    "phi3": Phi3Config(**GROUPED),
    "gpt-neox": GPTNeoXConfig(**SHAPE),
    "gpt2": GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=128, **SPECIAL),
}


def save_family(name: str, folder: Path) -> str:
    """Save a random model of a family with its tokenizer and return its path."""
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(FAMILIES[name]).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return str(folder)
