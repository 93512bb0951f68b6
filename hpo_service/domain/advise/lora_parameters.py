"""How many weights LoRA trains: by module, rank and preset, and what share of the base that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpo_service.domain.memory.shape import Matrix, ModelShape

USUAL_RANKS = (4, 8, 16, 32, 64)
SOURCE = "r(d_in + d_out) for each adapted matrix (arXiv 2106.09685, section 4.1)"


@dataclass(frozen=True)
class LoraParameters:
    """Trained weights of adapters on a model.

    Attributes:
        base: weights of the base.
        modules: of each kind of matrix that can carry adapters its sizes, and trained weights by rank.
        presets: trained weights by preset of `target_modules` (or "these modules") and rank.
    """

    base: int
    modules: list[tuple[Matrix, dict[int, int]]]
    presets: dict[str, dict[int, int]]

    @classmethod
    def of(cls, shape: ModelShape, ranks: Sequence[int], presets: Sequence[str]) -> LoraParameters:
        """Count them for these ranks and presets."""
        matrices = [*shape.linear(), *shape.tables()]
        return cls(
            shape.linear_weights + shape.table_weights,
            [(matrix, {rank: trained([matrix], rank) for rank in ranks}) for matrix in matrices],
            {name: {rank: trained(shape.targeted(name), rank) for rank in ranks} for name in presets},
        )


def trained(matrices: Sequence[Matrix], rank: int) -> int:
    """Trained weights of adapters of a rank on these matrices."""
    return sum(rank * (matrix.inputs + matrix.outputs) * matrix.count for matrix in matrices)
