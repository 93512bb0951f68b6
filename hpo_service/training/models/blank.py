"""Models without weights, on the meta device: shapes and code are all there, and nothing is read or computed."""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from hpo_service.domain.study.sections.model import ModelSpec
from hpo_service.errors import ModelError
from hpo_service.training.builtin.family import FAMILY, PREFIX
from hpo_service.training.models.base import causal_config, reason_of

# A vocabulary for builtin models, whose tokenizer need not have been made: nothing that is looked at depends on it.
VOCABULARY = 1024
# Rows and tokens of a step on the meta device.
BATCH = (2, 8)


def blank_model(name: str, spec: ModelSpec) -> PreTrainedModel:
    """The model of this name as its configuration says, or the builtin one.

    Raises:
        ModelError: the configuration cannot be used, or no model can be made of it.
    """
    config = _configuration(name, spec)
    try:
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(
                config,
                trust_remote_code=spec.trust_remote_code,
                # the other ways to go through experts look at which are chosen
                experts_implementation="batched_mm",
            )
    # code that comes with models, and packages that it needs, raise what they like
    except Exception as error:
        raise ModelError(f"model {name} cannot be built: {reason_of(error)}") from error
    return model


def step(model: torch.nn.Module) -> None:
    """A forward and a backward pass of shapes; raises what the model's code raises."""
    ids = torch.zeros(BATCH, dtype=torch.long, device="meta")
    model.train()
    # made by hand, for what transformers makes of a plain mask it reads numbers
    mask = torch.zeros((BATCH[0], 1, BATCH[1], BATCH[1]), device="meta")
    loss = model(input_ids=ids, attention_mask=mask, use_cache=False).logits.float().sum()
    if loss.requires_grad:
        loss.backward()


def _configuration(name: str, spec: ModelSpec) -> PretrainedConfig:
    recipe = FAMILY.get(name.removeprefix(PREFIX)) if name.startswith(PREFIX) else None
    if recipe is not None:
        return recipe.architecture.configuration(VOCABULARY)
    return causal_config(name, name, spec.trust_remote_code, spec.revision_of(name))
