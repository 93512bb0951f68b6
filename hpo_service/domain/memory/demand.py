"""What of a trial decides how much device memory it takes."""

from __future__ import annotations

from dataclasses import dataclass

from hpo_service.domain.memory.micro_batches import DEFAULT_MICRO_BATCH, micro_batch
from hpo_service.domain.memory.shape import ModelShape
from hpo_service.domain.study.methods import METHODS, Method, Quantisation, held_in
from hpo_service.domain.study.sections.training import TrainingSpec

FLOAT32_BYTES = 4


@dataclass(frozen=True)
class Demand:
    """What decides a trial's memory.

    Attributes:
        shape: sizes of the model.
        shards: devices over which the frozen base is spread.
        method: as in `Hyperparameters`.
        quantisation: how the frozen base is held: none, nf4 or int8.
        weight_bytes: bytes of a base weight that is not quantised.
        table_bytes: bytes of a weight of embeddings and head; left out, as this package holds them.
        compute_bytes: bytes of a number in matrix products.
        rank: of the adapters.
        targets: preset or names of the modules with adapters.
        dropout: whether adapters drop their inputs out, which keeps a mask.
        virtual_tokens: of prefix tuning.
        optimizer: as in `Hyperparameters`.
        micro_batch: rows per forward pass.
        length: tokens of the longest row.
        checkpointing: whether only layers' inputs are kept and the rest is computed again.
        correction: measured peak over estimate of trials like this; 1 where none has been measured.
    """

    shape: ModelShape
    shards: int = 1
    method: str = "lora"
    quantisation: str = "none"
    weight_bytes: int = 2
    table_bytes: int | None = None
    compute_bytes: int = 2
    rank: int = 16
    targets: str | tuple[str, ...] = "all-linear"
    dropout: bool = False
    virtual_tokens: int = 0
    optimizer: str = "adamw_torch_fused"
    micro_batch: int = 1
    length: int = 512
    checkpointing: bool = False
    correction: float = 1.0

    @property
    def kind(self) -> Method:
        """What its method trains."""
        return METHODS[self.method]

    @property
    def tokens(self) -> int:
        """Tokens of one forward pass, padding included."""
        return self.micro_batch * self.length

    @property
    def whole(self) -> bool:
        """Whether the model's own weights are trained."""
        return self.kind.base != "frozen"

    @property
    def stream_bytes(self) -> int:
        """Bytes of a number between layers, and of embeddings: float32 in quantised bases and where trained."""
        if self.table_bytes is not None:
            return self.table_bytes
        return 4 if self.whole or self.quantisation != "none" else self.weight_bytes

    @classmethod
    def of(
        cls,
        training: TrainingSpec,
        shape: ModelShape,
        *,
        length: int,
        compute_bytes: int = 2,
        quantisation: Quantisation = "none",
        ranks: int = 1,
        shards: int = 1,
        limit: int | None = None,
        on_gpu: bool = True,
        correction: float = 1.0,
    ) -> Demand:
        """What a run needs.

        Args:
            training: the run.
            shape: sizes of its model.
            length: tokens of its longest row.
            compute_bytes: bytes of a number in matrix products; frozen weights are held in the same type.
            quantisation: what the study says of the base.
            ranks: processes that share each batch.
            shards: devices over which the frozen base is spread.
            limit: rows of a micro-batch, where memory has run out before.
            on_gpu: whether it runs on one.
            correction: measured peak over estimate.
        """
        wanted = training.micro_batch or DEFAULT_MICRO_BATCH
        weights, targets = shape.linear_weights + shape.table_weights, training.target_modules
        frozen = METHODS[training.method].base == "frozen"
        return cls(
            shape=shape,
            shards=shards,
            method=training.method,
            quantisation=held_in(training.method, quantisation),
            weight_bytes=compute_bytes if frozen else FLOAT32_BYTES,
            compute_bytes=compute_bytes,
            rank=training.lora_rank,
            targets=targets if isinstance(targets, str) else tuple(targets),
            dropout=training.lora_dropout > 0,
            virtual_tokens=training.prefix_tokens,
            optimizer=training.optimizer,
            checkpointing=training.checkpoints_activations(weights, on_gpu=on_gpu),
            micro_batch=micro_batch(max(1, training.effective_batch // ranks), min(wanted, limit or wanted)),
            length=length,
            correction=correction,
        )
