"""How much device memory a trial needs, part by part, from its configuration and the model's sizes alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hpo_service.domain.memory.demand import Demand
from hpo_service.domain.memory.shape import Matrix

GB = 1e9
# CUDA's context with the libraries' own buffers; nvidia-smi shows it, torch does not count it.
CONTEXT_GB = 0.6
# What the allocator holds beyond the tensors, as a share of what comes and goes with each batch.
FRAGMENTATION = 0.05
# NF4 is 4 bits a weight and, its scales quantised too, 0.127 bits more (QLoRA, arXiv 2305.14314); INT8 is a byte.
QUANTISED_BYTES = {"nf4": (4 + 0.127) / 8, "int8": 1.0}
# Weights that are trained and their gradients are float32.
TRAINED_BYTES = 4
# Bytes that each optimizer of transformers keeps per trained weight: its moments, 4 bytes each or 1 where quantised
# (bitsandbytes, arXiv 2110.02861). Paged ones can give way to the host, which is slow: they count in full.
OPTIMIZER_BYTES = {
    "adamw_torch_fused": 8.0,
    "adamw_torch": 8.0,
    "paged_adamw_32bit": 8.0,
    "adamw_8bit": 2.0,
    "paged_adamw_8bit": 2.0,
    "ademamix": 12.0,
    "ademamix_8bit": 3.0,
    "paged_ademamix_8bit": 3.0,
    "lion_32bit": 4.0,
    "lion_8bit": 1.0,
    "paged_lion_8bit": 1.0,
    "adafactor": 0.1,
    "adagrad": 4.0,
    "rmsprop": 4.0,
    "sgd": 0.0,
}


@dataclass(frozen=True)
class Estimate:
    """Memory in GB (1e9 bytes) by part; `correction` is what measured peaks say the tensors must be multiplied by."""

    parts: dict[str, float]
    correction: float = 1.0

    @property
    def tensors_gb(self) -> float:
        """What torch itself counts at its peak, uncorrected: comparable with `torch.cuda.max_memory_allocated`."""
        return sum(self.parts.values())

    @property
    def reserve_gb(self) -> float:
        """What the device holds besides the tensors: context and fragmentation."""
        return CONTEXT_GB + FRAGMENTATION * sum(self.parts[name] for name in PASSING) * self.correction

    @property
    def total_gb(self) -> float:
        """What the device must have, corrected."""
        return self.tensors_gb * self.correction + self.reserve_gb

    def wording(self) -> str:
        """The parts worth naming, largest first."""
        named = {**self.parts, "context and fragmentation": self.reserve_gb}
        largest = sorted(named.items(), key=lambda part: -part[1])
        return ", ".join(f"{name} {size:.2f}" for name, size in largest if size >= 0.005)


PASSING = ("activations", "logits", "workspace")
"""Parts that come and go with each batch."""


def estimate(demand: Demand) -> Estimate:
    """Estimate the peak of a training step, in GB of 1e9 bytes.

    Parts, by their sources: weights as they are held (QLoRA, arXiv 2305.14314, for NF4; PEFT's
    `prepare_model_for_kbit_training` holds embeddings, head and norms of quantised bases in float32); trained
    weights with gradient and optimizer, 16 bytes each with AdamW (ZeRO, arXiv 1910.02054, section 3, without the half
    copies); activations as autograd keeps them (`layer_bytes`; after Korthikanti et al., arXiv 2205.05198, section
    4); of the logits, in float32, log-softmax and two gradients.

    With checkpointing the backward pass of the last layer begins when the logits have gone: the larger one counts.
    """
    shape, tokens = demand.shape, demand.tokens
    trained = trained_weights(demand)
    layer, logits = tokens * layer_bytes(demand), tokens * logits_bytes(demand)
    kept, last = layer * shape.layers, 0.0
    if demand.checkpointing:
        kept = tokens * shape.layers * shape.hidden_size * demand.stream_bytes
        last = max(0.0, layer - logits)
    sizes = {
        "base weights": _base_bytes(demand) / demand.shards,
        "embeddings and head": shape.table_weights * demand.stream_bytes / demand.shards,
        "trained weights": 0 if demand.whole else trained * TRAINED_BYTES,
        "gradients": trained * TRAINED_BYTES,
        "optimizer": trained * OPTIMIZER_BYTES[demand.optimizer],
        "activations": kept + last,
        "logits": logits,
        "workspace": _workspace(demand),
    }
    return Estimate({name: size / GB for name, size in sizes.items()}, demand.correction)


def side_by_side(demand: Demand, trials: int, pass_tokens: int, head_tokens: int) -> Estimate:
    """Estimate the peak of a step of several trials like this one over one base, whose activations are all kept.

    Args:
        demand: of one of them.
        trials: how many there are, each with its adapter, gradient and moments.
        pass_tokens: most tokens that go through the base at once, unless one row is longer.
        head_tokens: most tokens whose logits exist at once.
    """
    together = min(trials * demand.tokens, max(pass_tokens, demand.length))
    one = replace(demand, micro_batch=1, length=together, checkpointing=False)
    parts = dict(estimate(one).parts)
    parts["logits"] = estimate(replace(one, length=min(together, head_tokens))).parts["logits"]
    return Estimate({name: size * (trials if name in OWN else 1) for name, size in parts.items()}, demand.correction)


OWN = ("trained weights", "gradients", "optimizer")
"""Parts that each of several trials over one base has for itself, whatever is under way."""


def at_rest_gb(demand: Demand) -> float:
    """What is needed before the first batch, a lower bound of every estimate with this configuration."""
    return estimate(replace(demand, length=0)).total_gb


def trained_weights(demand: Demand) -> int:
    """Number of trained weights: all of them, or r(d_in + d_out) for each targeted matrix, or a prefix per layer."""
    shape = demand.shape
    if demand.whole:
        return shape.linear_weights + shape.table_weights
    if demand.kind.virtual_tokens:
        return 2 * demand.virtual_tokens * shape.layers * shape.key_size
    matrices = shape.targeted(demand.targets)
    magnitudes = sum(m.outputs * m.count for m in matrices) if demand.kind.magnitudes else 0
    return sum(demand.rank * (m.inputs + m.outputs) * m.count for m in matrices) + magnitudes


def layer_bytes(demand: Demand) -> float:
    """Bytes per token that autograd keeps of one layer until its backward pass.

    Counted over transformers' Llama with scaled dot-product attention: two norms in float32; queries, keys and values
    (repeated to all heads where a padding mask is given) and the attention's output; the activation's input and
    output and the gated product; and for every matrix with an adapter (or that is trained itself) its input in the
    compute type, DoRA's two outputs, and dropout's mask.
    """
    shape, size = demand.shape, demand.compute_bytes
    norms = shape.hidden_size * shape.norm_bytes * (2 if demand.whole else 1)
    norms += 4 * (shape.attention_size + shape.key_size) if shape.head_norms else 0
    attention = 4 * shape.attention_size * size
    # on a quantised base bitsandbytes gives back what it is given, and that is float32
    held = demand.stream_bytes if demand.quantisation != "none" else size
    inner = shape.inner_size * held * shape.inner_copies
    if shape.experts > 1:
        # what each chosen expert is given and gives back
        inner += 2 * shape.experts_per_token * shape.hidden_size * size
    targets = shape.linear() if demand.whole else _targeted_linear(demand)
    mask = 1 if demand.dropout else 0
    inputs = sum(m.inputs * (size + mask) for m in targets)
    outputs = sum(2 * m.outputs * size for m in targets) if demand.kind.magnitudes else 0
    return norms + attention + inner + inputs + outputs


def logits_bytes(demand: Demand) -> float:
    """Bytes per token of the output: in the backward pass float32 log-softmax, its gradient and that of the logits.

    Measured on an H100 with rows of 512 and 2,048 tokens: 12.02 to 12.08 (benchmarks/gpu/memory.py).
    """
    return demand.shape.vocab_size * (4 + 4 + 4)


def _targeted_linear(demand: Demand) -> list[Matrix]:
    if demand.kind.virtual_tokens:
        return []
    return [m for m in demand.shape.targeted(demand.targets) if m.role not in ("embeddings", "head")]


def _base_bytes(demand: Demand) -> float:
    """Bytes of the matrices inside the layers: bitsandbytes leaves fused experts in the compute type."""
    shape = demand.shape
    if demand.whole:
        return shape.linear_weights * TRAINED_BYTES
    held = QUANTISED_BYTES.get(demand.quantisation, demand.weight_bytes)
    return (shape.linear_weights - shape.expert_weights) * held + shape.expert_weights * demand.weight_bytes


def _workspace(demand: Demand) -> float:
    """What weights take while they are used: a quantised matrix spelled out, one at a time; a gathered layer."""
    shape, size = demand.shape, 0.0
    if demand.quantisation != "none":
        size += max(m.inputs * m.outputs for m in shape.quantised()) * demand.compute_bytes
        if demand.stream_bytes > demand.compute_bytes:
            # the head is held in float32 and multiplied with in the compute type
            size += shape.vocab_size * shape.hidden_size * demand.compute_bytes
    if demand.shards > 1:
        size += _base_bytes(demand) / shape.layers + shape.table_weights * demand.stream_bytes
    return size
