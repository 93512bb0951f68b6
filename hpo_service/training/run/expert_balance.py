"""The auxiliary loss of models with experts, row by row, so that it does not depend on how a batch is cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from transformers import PreTrainedModel

from hpo_service.training.data.batches import WEIGHTS
from hpo_service.training.data.tokens import IGNORED

COEFFICIENTS = ("router_aux_loss_coef", "aux_loss_coef")
"""What models call the factor on their auxiliary loss."""


@dataclass
class ExpertBalance:
    """Adds to a loss how unevenly each row uses the experts, weighted by the row's share of the learned tokens.

    The model's own forward adds the unevenness of a whole micro-batch, once for each: what it amounts to would depend
    on how many rows fit into memory. Of single rows it is a sum (as in DeepSeek-V2, arXiv 2405.04434, section 2.2.2).

    Attributes:
        plain: the loss without it, as the Trainer calls it.
        coefficient: factor on the unevenness.
        chosen: experts that a token goes through.
    """

    plain: Callable[..., torch.Tensor]
    coefficient: float
    chosen: int
    _rows: torch.Tensor | None = None
    _weights: torch.Tensor | None = None

    @classmethod
    def of(cls, model: PreTrainedModel, plain: Callable[..., torch.Tensor]) -> Self | None:
        """For a model whose configuration asks for an auxiliary loss; None for any other."""
        coefficient = next((value for name in COEFFICIENTS if (value := getattr(model, name, None))), None)
        chosen = getattr(model, "num_experts_per_tok", None)
        asked = getattr(model.config.get_text_config(), "output_router_logits", False)
        return cls(plain, float(coefficient), int(chosen)) if asked and coefficient and chosen else None

    def see(self, inputs: Mapping[str, torch.Tensor]) -> None:
        """Note which row each token of the next pass belongs to: packed rows are told by positions that restart."""
        ids, mask = inputs["input_ids"], inputs["attention_mask"].bool()
        begins = torch.zeros_like(mask)
        begins[:, 0] = True
        if "position_ids" in inputs:
            begins |= inputs["position_ids"] == 0
        rows = (begins & mask).flatten().cumsum(0) - 1
        self._weights = inputs.get(WEIGHTS)
        self._rows = torch.where(mask.flatten(), rows, -1).view_as(ids)

    def __call__(self, outputs: dict[str, Any], labels: torch.Tensor, num_items_in_batch: torch.Tensor) -> torch.Tensor:
        """The plain loss and the rows' unevenness; `num_items_in_batch` are the learned tokens of the whole batch."""
        loss, rows = self.plain(outputs, labels, num_items_in_batch=num_items_in_batch), self._rows
        assert rows is not None
        real = rows.flatten() >= 0
        of = rows.flatten()[real]
        number = int(of.max()) + 1
        counted = (labels != IGNORED).float() if self._weights is None else (labels != IGNORED) * self._weights
        learned = torch.zeros(number, device=of.device).index_add_(0, of, counted.flatten()[real])
        uneven = self._unevenness(
            [logits.reshape(len(real), -1)[real] for logits in outputs["router_logits"]], of, number
        )
        return loss + self.coefficient * (uneven * learned).sum().to(loss.device) / num_items_in_batch

    def _unevenness(self, layers: list[torch.Tensor], rows: torch.Tensor, number: int) -> torch.Tensor:
        """E x the sum over experts of (share of tokens x mean probability), of each row, over all layers.

        The formula of transformers' `load_balancing_loss_func` (Switch Transformers, arXiv 2101.03961, equations 4 to
        6) for one row.
        """
        experts = layers[0].shape[-1]
        shape = (number, experts)
        used, probable = (torch.zeros(shape, device=rows.device) for _ in range(2))
        for logits in layers:
            probabilities = torch.softmax(logits, dim=-1)
            chosen = torch.topk(probabilities, self.chosen, dim=-1).indices
            ones = torch.zeros_like(probabilities, dtype=torch.float32).scatter_(1, chosen, 1.0)
            used = used.index_add(0, rows, ones)
            probable = probable.index_add(0, rows, probabilities.float())
        tokens = torch.zeros(number, device=rows.device).index_add_(0, rows, torch.ones_like(rows, dtype=torch.float32))
        seen = (tokens * len(layers)).clamp(min=1).unsqueeze(1)
        return experts * (used / seen * (probable / seen)).sum(dim=1)
