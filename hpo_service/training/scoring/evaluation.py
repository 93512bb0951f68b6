"""The number a trial is judged by: summed NLL of every supervised token, row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from hpo_service.domain.trial.scores import Scores
from hpo_service.training.data.tokens import IGNORED, TokenRow, collate

# Logits of one batch, in elements: 2^28 are 0.5 GiB in bfloat16; on a CPU small batches stay in its caches.
LOGITS_CUDA, LOGITS_CPU = 2**28, 2**21
# Supervised positions whose logits are raised to float32 at once.
CHUNK = 1024


def evaluate(
    model: PreTrainedModel,
    rows: Sequence[TokenRow],
    padding: int,
    *,
    compute: torch.dtype = torch.float32,
    batch_rows: int | None = None,
    batch_tokens: int | None = None,
    touch: Callable[[], None] = lambda: None,
) -> Scores:
    """Score every row: sum of token NLL in nats and number of supervised tokens, in the order of `rows`.

    The model is put into evaluation mode and left there; no random numbers are drawn.

    Args:
        model: a causal language model; called with ids and mask, its logits are [rows, length, vocabulary].
        rows: what to score.
        padding: an id to fill short rows with.
        compute: type of matrix products; other than float32 it is reached by autocast.
        batch_rows: rows per forward pass; left out, as many as `batch_tokens` allow.
        batch_tokens: padded tokens per forward pass; left out, as a bounded size of logits allows.
        touch: called after each batch.
    """
    model.eval()
    where = model.device
    nll = [0.0] * len(rows)
    by_length = sorted(range(len(rows)), key=lambda index: len(rows[index].ids))
    tokens = batch_tokens or affordable_tokens(model)
    with torch.no_grad(), autocast(where, compute):
        for indices in _batches(by_length, rows, tokens, batch_rows):
            batch = {name: tensor.to(where) for name, tensor in collate([rows[i] for i in indices], padding).items()}
            logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
            for index, value in zip(indices, _row_nll(logits, batch["labels"]), strict=True):
                nll[index] = value
            touch()
    return Scores(nll=nll, tokens=[row.supervised for row in rows])


def inner_model(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """The part of a model to call without its gradients.

    Adapters sit inside the base's modules, and the Trainer's wrapper would copy all logits to float32; what is put
    before the sequence, PEFT's own forward puts there.
    """
    inner: object = model
    if isinstance(model, PeftModel) and not model.active_peft_config.is_prompt_learning:
        inner = model.get_base_model()
    return cast(PreTrainedModel, inner)


def affordable_tokens(model: PreTrainedModel) -> int:
    """Padded tokens whose logits are of a bounded size on the model's device."""
    elements = LOGITS_CUDA if model.device.type == "cuda" else LOGITS_CPU
    return int(elements // model.config.get_text_config().vocab_size)


def autocast(where: torch.device, compute: torch.dtype) -> AbstractContextManager[object]:
    """The mixed-precision context of training, so that evaluation computes as training does."""
    return nullcontext() if compute == torch.float32 else torch.autocast(where.type, compute)


def _batches(
    by_length: list[int], rows: Sequence[TokenRow], tokens: int, batch_rows: int | None
) -> Iterator[list[int]]:
    """Neighbours in length together, so that little is padding; at most `tokens` padded tokens (or one row)."""
    batch: list[int] = []
    for index in by_length:
        full = len(batch) >= batch_rows if batch_rows else (len(batch) + 1) * len(rows[index].ids) > tokens
        if batch and full:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _row_nll(logits: torch.Tensor, labels: torch.Tensor) -> list[float]:
    """Sum over each row of -log p(label), float32 per token and float64 in the sum.

    Only supervised positions are raised to float32, a chunk at a time: a full upcast copy would be the peak.
    """
    row, position = torch.nonzero(labels[:, 1:] != IGNORED, as_tuple=True)
    target = labels[row, position + 1]
    sums = torch.zeros(len(labels), dtype=torch.float64, device=logits.device)
    for begin in range(0, len(row), CHUNK):
        part = slice(begin, begin + CHUNK)
        scores = logits[row[part], position[part]].float()
        chosen = scores.gather(1, target[part].unsqueeze(1)).squeeze(1)
        sums.index_add_(0, row[part], (scores.logsumexp(dim=1) - chosen).double())
    return [float(value) for value in sums.tolist()]
