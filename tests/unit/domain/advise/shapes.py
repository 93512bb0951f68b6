"""Sizes of well-known models."""

from typing import Any

from hpo_service.domain.memory.shape import ModelShape


def _llama(hidden: int, inner: int, layers: int, heads: int, kv: int, vocabulary: int) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "vocab_size": vocabulary,
    }


CONFIGS = {
    "1B": {**_llama(2048, 8192, 16, 32, 8, 128256), "tie_word_embeddings": True},
    "Llama-2-7B": _llama(4096, 11008, 32, 32, 32, 32000),
    "Mistral-7B": _llama(4096, 14336, 32, 32, 8, 32000),
    "13B": _llama(5120, 13824, 40, 40, 40, 32000),
    "70B": _llama(8192, 28672, 80, 64, 8, 32000),
}


def shape(name: str) -> ModelShape:
    found = ModelShape.read(CONFIGS[name])
    assert found is not None
    return found
