"""Shapes of models that are built rather than loaded: architecture in, untrained model out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from hpo_service.domain.study.hyperparameters import Hyperparameters

# Inner widths are whole multiples of this, for the sake of matrix kernels.
INNER_MULTIPLE = 32
DEFAULT_POSITIONS = 512


@dataclass(frozen=True)
class Architecture:
    """A decoder's shape; head width is `hidden_size / heads`, input and output embeddings are shared.

    Attributes:
        intermediate_size: width within each layer's feed-forward block.
        positions: longest sequence in tokens.
        family: key of `FAMILIES`.
        dropout: while training: of the attention in a llama, of every path in a gpt2.
    """

    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    positions: int = DEFAULT_POSITIONS
    family: str = "llama"
    dropout: float = 0.0

    @classmethod
    def of(cls, hyper: Hyperparameters, positions: int) -> Architecture:
        """The shape that the scratch_ settings describe, for rows of up to so many tokens."""
        family = FAMILIES[hyper.scratch_architecture]
        inner = round(hyper.scratch_width * family.inner / INNER_MULTIPLE) * INNER_MULTIPLE
        return cls(
            hidden_size=hyper.scratch_width,
            intermediate_size=max(INNER_MULTIPLE, inner),
            layers=hyper.scratch_layers,
            heads=hyper.scratch_heads,
            positions=positions,
            family=hyper.scratch_architecture,
            dropout=hyper.scratch_dropout,
        )

    def configuration(self, vocabulary: int, **special: int | None) -> PretrainedConfig:
        """The shape as transformers describes it, for a vocabulary with these special tokens."""
        return FAMILIES[self.family].config(
            self,
            vocab_size=vocabulary,
            # The usual 0.02 is far too small at these widths: 0.6 nats worse after 400,000 tokens.
            initializer_range=self.hidden_size**-0.5,
            tie_word_embeddings=True,
            **special,
        )

    def build(self, tokenizer: PreTrainedTokenizerBase, seed: int, attention: str | None = None) -> PreTrainedModel:
        """An untrained model for the tokenizer's vocabulary; the same seed gives the same weights."""
        special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        config = self.configuration(len(tokenizer), **special)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
        return model


@dataclass(frozen=True)
class Blueprint:
    """A model to be built: equal blueprints give equal weights."""

    architecture: Architecture
    seed: int


@dataclass(frozen=True)
class ScratchFamily:
    """How a family writes its configuration, and how many times its width the feed-forward block is."""

    config: Callable[..., PretrainedConfig]
    inner: float


def _llama(shape: Architecture, **common: Any) -> PretrainedConfig:
    return LlamaConfig(
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=shape.positions,
        attention_dropout=shape.dropout,
        **common,
    )


def _gpt2(shape: Architecture, **common: Any) -> PretrainedConfig:
    return GPT2Config(
        n_embd=shape.hidden_size,
        n_inner=shape.intermediate_size,
        n_layer=shape.layers,
        n_head=shape.heads,
        n_positions=shape.positions,
        embd_pdrop=shape.dropout,
        resid_pdrop=shape.dropout,
        attn_pdrop=shape.dropout,
        **common,
    )


FAMILIES = {
    # three gated matrices of 8/3 hold as many weights as two of 4
    "llama": ScratchFamily(_llama, 8 / 3),
    "gpt2": ScratchFamily(_gpt2, 4),
}
"""Families a model can be built as, by the name a study file uses."""
