"""The numbers of a model's configuration that decide how much memory it takes: matrices, layers, vocabulary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

# Names that configurations of different families give to the same number, the usual one first.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "intermediate_size": ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"),
    "layers": ("num_hidden_layers", "n_layer", "n_layers"),
    "heads": ("num_attention_heads", "n_head", "n_heads"),
    "kv_heads": ("num_key_value_heads", "num_kv_heads", "n_head_kv"),
    "head_dim": ("head_dim",),
    "vocab_size": ("vocab_size",),
    "experts": ("num_local_experts", "num_experts", "n_routed_experts"),
    "experts_per_token": ("num_experts_per_tok", "moe_k", "top_k_experts"),
    "expert_size": ("moe_intermediate_size", "expert_ffn_hidden_size"),
    "shared_size": ("shared_expert_intermediate_size",),
    "shared_experts": ("n_shared_experts",),
}
# Families whose feed-forward has two matrices; the others gate it and have three.
UNGATED = frozenset(
    {"bloom", "codegen", "falcon", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox", "gptj", "mpt", "opt", "phi"}
    | {"starcoder2", "xglm"}
)
# Families that hold query, key and value in one matrix, and gate and up in one.
FUSED_ATTENTION = frozenset({"bloom", "falcon", "gpt2", "gpt_bigcode", "gpt_neox", "mpt", "phi3"})
FUSED_FEED_FORWARD = frozenset({"phi3"})
# Bytes per hidden unit and layer that a family's norms keep: RMS norms copy to float32, a layer norm keeps its input.
NORM_BYTES = {**dict.fromkeys(("gemma2", "gemma3", "gemma3_text"), 16), **dict.fromkeys(UNGATED, 4)}
TWO_RMS_NORMS = 8
# Families that also normalise queries and keys.
HEAD_NORMS = frozenset({"gemma3", "gemma3_text", "qwen3", "qwen3_moe"})
# Families whose activation is spelled out in steps, each of which keeps what it made.
STEPWISE_ACTIVATION = frozenset({"codegen", "gpt2", "gpt_neo", "gptj", "phi"})
# Families that share input and output embeddings where the configuration does not say.
TIED = frozenset({"bloom", "falcon", "gemma", "gemma2", "gemma3", "gemma3_text", "gpt2", "gpt_neo", "mpt", "opt"})

MODULE_NAMES: dict[str, frozenset[str]] = {
    "q": frozenset({"q_proj"}),
    "k": frozenset({"k_proj"}),
    "v": frozenset({"v_proj"}),
    "qkv": frozenset({"qkv_proj", "query_key_value", "c_attn", "Wqkv"}),
    "o": frozenset({"o_proj", "out_proj", "dense", "c_proj"}),
    "gate": frozenset({"gate_proj"}),
    "up": frozenset({"up_proj", "c_fc", "dense_h_to_4h", "fc1"}),
    "gate_up": frozenset({"gate_up_proj"}),
    "down": frozenset({"down_proj", "c_proj", "dense_4h_to_h", "fc2"}),
    "shared_gate": frozenset({"gate_proj"}),
    "shared_up": frozenset({"up_proj"}),
    "shared_down": frozenset({"down_proj"}),
    "embeddings": frozenset({"embed_tokens", "wte", "embed_in"}),
    "head": frozenset({"lm_head", "embed_out"}),
}
"""What families call the module of each role."""
EXPERT_ROLES = frozenset({"gate", "up", "down"})
"""Roles of which there is one for each expert, where a model has several."""
PRESET_ROLES: dict[str, frozenset[str]] = {
    "minimal": frozenset({"q", "v", "qkv"}),
    "attention": frozenset({"q", "k", "v", "qkv", "o"}),
    "all-linear": frozenset(MODULE_NAMES) - {"embeddings", "head"},
    "full": frozenset(MODULE_NAMES),
}
"""Which roles a preset of `target_modules` covers."""


class Matrix(BaseModel):
    """The weights of one role: `count` matrices of `outputs` x `inputs`."""

    model_config = ConfigDict(frozen=True)

    role: str
    inputs: int
    outputs: int
    count: int

    @property
    def weights(self) -> int:
        """Number of weights of all of them."""
        return self.inputs * self.outputs * self.count


class ModelShape(BaseModel):
    """A decoder's sizes; `head_dim` x `heads` is the attention's width, which need not be `hidden_size`.

    With several `experts` each has the feed-forward's width; they lie in one tensor a layer, which neither the presets'
    adapters nor quantisation reach, and a token goes through `experts_per_token` of them and a shared one.

    The last three say what training keeps of a layer: `norm_bytes` per hidden unit, whether queries and keys are
    normalised too, and how often the feed-forward's width is kept around its activation.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    hidden_size: int = Field(gt=0)
    intermediate_size: int = Field(gt=0)
    layers: int = Field(gt=0)
    heads: int = Field(gt=0)
    kv_heads: int = Field(gt=0)
    head_dim: int = Field(gt=0)
    vocab_size: int = Field(gt=0)
    tied: bool = False
    gated: bool = True
    fused_attention: bool = False
    fused_feed_forward: bool = False
    experts: int = Field(default=1, gt=0)
    experts_per_token: int = Field(default=1, gt=0)
    shared_size: int = Field(default=0, ge=0)
    norm_bytes: int = TWO_RMS_NORMS
    head_norms: bool = False
    inner_copies: int = 3

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> Self | None:
        """Read the sizes off a model's `config.json`; None where it does not name them."""
        text = {**config, **(config.get("text_config") or {})}
        family = str(text.get("model_type", ""))
        found = {name: _first(text, keys) for name, keys in SYNONYMS.items()}
        hidden, heads = found["hidden_size"], found["heads"]
        if not hidden or not heads:
            return None
        fields = {
            **{name: found[name] for name in ("hidden_size", "layers", "heads", "vocab_size")},
            "intermediate_size": found["expert_size"] or found["intermediate_size"] or 4 * hidden,
            "kv_heads": found["kv_heads"] or heads,
            "head_dim": found["head_dim"] or hidden // heads,
            "tied": bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", family in TIED))),
            "gated": family not in UNGATED,
            "fused_attention": family in FUSED_ATTENTION,
            "fused_feed_forward": family in FUSED_FEED_FORWARD,
            "experts": found["experts"] or 1,
            "experts_per_token": found["experts_per_token"] or 1,
            "shared_size": found["shared_size"] or (found["shared_experts"] or 0) * (found["expert_size"] or 0),
            "norm_bytes": NORM_BYTES.get(family, TWO_RMS_NORMS),
            "head_norms": family in HEAD_NORMS,
            "inner_copies": 4 if family in STEPWISE_ACTIVATION else 1 if family in UNGATED else 3,
        }
        try:
            return cls.model_validate(fields)
        except ValidationError:
            return None

    @property
    def attention_size(self) -> int:
        """Width of all query heads together."""
        return self.heads * self.head_dim

    @property
    def key_size(self) -> int:
        """Width of all key (or value) heads together."""
        return self.kv_heads * self.head_dim

    def linear(self) -> list[Matrix]:
        """The matrices inside the layers."""
        width, attention, keys, inner = self.hidden_size, self.attention_size, self.key_size, self.intermediate_size
        sizes = {"qkv": (width, attention + 2 * keys)} if self.fused_attention else {}
        if not self.fused_attention:
            sizes |= {"q": (width, attention), "k": (width, keys), "v": (width, keys)}
        sizes["o"] = (attention, width)
        if self.fused_feed_forward:
            sizes["gate_up"] = (width, 2 * inner)
        else:
            sizes |= {"gate": (width, inner), "up": (width, inner)} if self.gated else {"up": (width, inner)}
        sizes["down"] = (inner, width)
        if self.shared_size:
            shared = (width, self.shared_size)
            sizes |= {"shared_gate": shared, "shared_up": shared, "shared_down": shared[::-1]}
        each = {role: self.layers * (self.experts if role in EXPERT_ROLES else 1) for role in sizes}
        return [Matrix(role=r, inputs=i, outputs=o, count=each[r]) for r, (i, o) in sizes.items()]

    def quantised(self) -> list[Matrix]:
        """Those of them that bitsandbytes can hold in 4 or 8 bits."""
        return [matrix for matrix in self.linear() if self.experts == 1 or matrix.role not in EXPERT_ROLES]

    def tables(self) -> list[Matrix]:
        """Embeddings and output head; where they are tied, the weights are there once."""
        embeddings = Matrix(role="embeddings", inputs=self.vocab_size, outputs=self.hidden_size, count=1)
        return [embeddings, Matrix(role="head", inputs=self.hidden_size, outputs=self.vocab_size, count=1)]

    def targeted(self, targets: str | Iterable[str]) -> list[Matrix]:
        """The matrices that adapters on these targets (a preset's name, or names of modules) lie beside."""
        everything = [*self.linear(), *self.tables()]
        if isinstance(targets, str):
            beyond = EXPERT_ROLES if self.experts > 1 else frozenset()
            return [matrix for matrix in everything if matrix.role in PRESET_ROLES[targets] - beyond]
        names = {name.rpartition(".")[2] for name in targets}
        return [matrix for matrix in everything if MODULE_NAMES[matrix.role] & names]

    @property
    def table_weights(self) -> int:
        """Number of weights of embeddings and output head."""
        return self.vocab_size * self.hidden_size * (1 if self.tied else 2)

    @property
    def linear_weights(self) -> int:
        """Number of weights of the matrices inside the layers, experts included."""
        return sum(matrix.weights for matrix in self.linear())

    @property
    def expert_weights(self) -> int:
        """Number of weights of the experts, which stay in 16 bits where the others are quantised."""
        return self.linear_weights - sum(matrix.weights for matrix in self.quantised())

    @property
    def inner_size(self) -> int:
        """Width of all feed-forward blocks that a token goes through."""
        return self.intermediate_size * (self.experts_per_token if self.experts > 1 else 1) + self.shared_size


def _first(config: Mapping[str, Any], keys: tuple[str, ...]) -> int | None:
    """The first of these keys that holds a whole number; of a list, one per layer, the largest counts."""
    for key in keys:
        value = config.get(key)
        if isinstance(value, list) and value and all(isinstance(each, int) for each in value):
            value = max(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None
