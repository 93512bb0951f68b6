"""A frozen base held in shares: every rank keeps its part of each layer, and gathers a layer to compute it."""

from __future__ import annotations

from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from hpo_service.errors import ModelError
from hpo_service.training.distributed.process_group import ProcessGroup
from hpo_service.training.models.base import device


def shard(model: PreTrainedModel, ranks: ProcessGroup) -> None:
    """Leave this rank its share of the weights, on its device; all ranks hold the same whole model before.

    Adapters that are put on later are whole on every rank: their gradients are added up as without sharding.
    Source: fully sharded data parallel (FSDP), arXiv 2304.11277, as torch's `fully_shard`.

    Raises:
        ModelError: the model does not say what its layers are.
    """
    layers = set(model._no_split_modules or ())
    found = [module for module in model.modules() if type(module).__name__ in layers]
    if not found:
        family = model.config.model_type
        raise ModelError(f"a {family} does not say what its layers are: set execution.sharding to none")
    mesh = DeviceMesh.from_group(ranks.tensors, device().type)
    # a frozen weight is only gathered: there is no gradient to give back
    model.requires_grad_(False)
    for module in [*found, model]:
        # always given back after use: a checkpoint, which rank 0 alone writes, would give it back on rank 0 alone
        fully_shard(module, mesh=mesh, reshard_after_forward=True)


def share_held(model: PreTrainedModel) -> float:
    """The part of the weights that lies on this rank."""
    weights = [each for each in model.parameters() if isinstance(each, DTensor)]
    return sum(each.to_local().numel() for each in weights) / max(1, sum(each.numel() for each in weights))
