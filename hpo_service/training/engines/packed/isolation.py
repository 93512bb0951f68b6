"""Whether a base treats every row by itself: it draws nothing at random, and rows change nothing for each other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers import PreTrainedModel

from hpo_service.training.device.faults import is_fatal, is_out_of_memory
from hpo_service.training.scoring.evaluation import autocast

# Settings by which families draw at random in training: dropout under many names, layers left out, routers disturbed.
DRAWING = ("drop", "jitter")
# Those of parts that a causal language model does not have.
NOT_OURS = ("classifier", "summary", "pooler", "cls", "head_drop", "vision", "audio")
# Rows tried and their length; and how often the first is tried again.
ROWS, LENGTH, TRIES = 2, 32, 6
# Largest difference of logits, over their spread, that another row's rounding explains: by bytes of the type.
ROUNDED = {4: 1e-4, 2: 0.1}


def isolation_refusal(model: PreTrainedModel, compute: torch.dtype) -> str:
    """Why rows of different trials would not be treated alone, or nothing: from the configuration, then by trying."""
    said = _dropout(model) or next(_drawing(model), "")
    if said:
        return f"the base has dropout of its own ({said}), whose masks would depend on the other trials"
    if getattr(model.config.get_text_config(), "output_router_logits", False):
        return "the auxiliary loss of the base's experts looks at all rows of a batch, so that trials would mix"
    try:
        return _tried(model, compute)
    # models come with code of their own, which raises what it likes
    except Exception as error:
        if is_fatal(error) or is_out_of_memory(error):
            raise
        return f"the base cannot be tried on two rows ({type(error).__name__})"


def _dropout(model: PreTrainedModel) -> str:
    return next((name for name, module in model.named_modules() if isinstance(module, nn.Dropout) and module.p > 0), "")


def _drawing(model: PreTrainedModel) -> Iterator[str]:
    for name, value in model.config.get_text_config().to_dict().items():
        ours = any(word in name for word in DRAWING) and not any(word in name for word in NOT_OURS)
        if ours and isinstance(value, float) and value > 0:
            yield "attention" if name == "attention_dropout" else name


def _tried(model: PreTrainedModel, compute: torch.dtype) -> str:
    where = model.device
    vocabulary = int(model.config.get_text_config().vocab_size)
    rows = torch.arange(ROWS * LENGTH, device=where).remainder(vocabulary).view(ROWS, LENGTH)
    with _training(model, compute), torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
        before = _random_state(where)
        alone = [_logits(model, rows[:1])]
        # a sum in another order is no draw: only a model that asks for random numbers is asked again
        if not torch.equal(before, _random_state(where)):
            alone += [_logits(model, rows[:1]) for _ in range(TRIES)]
        among = _logits(model, rows)[:1]
    if any(not torch.equal(alone[0], each) for each in alone):
        return "the base draws at random in training: tried again, one row gave other results"
    tolerance = ROUNDED[min(compute.itemsize, among.element_size())] * float(alone[0].float().std())
    if not float((among - alone[0]).float().abs().max()) <= tolerance:
        return "the base mixes rows: beside another row, one gave other results than alone"
    return ""


def _random_state(where: torch.device) -> torch.Tensor:
    on_host = torch.random.get_rng_state()
    return torch.cat([on_host, torch.cuda.get_rng_state(where)]) if where.type == "cuda" else on_host


@contextmanager
def _training(model: PreTrainedModel, compute: torch.dtype) -> Iterator[None]:
    was = model.training
    model.train()
    try:
        with torch.no_grad(), autocast(model.device, compute):
            yield
    finally:
        model.train(was)


def _logits(model: PreTrainedModel, rows: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=rows, use_cache=False).logits
    return logits
