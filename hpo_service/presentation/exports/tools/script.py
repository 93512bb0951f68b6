"""A program that trains the winner with transformers and PEFT alone, every hyper-parameter as it was found."""

from __future__ import annotations

import pprint
from importlib.resources import files

from hpo_service.domain.study.methods import LOW_RANK, METHODS
from hpo_service.presentation.exports.tools.arguments import (
    checkpointing,
    embeddings_left_out,
    order_and_weight,
    packing,
    training_arguments,
)
from hpo_service.presentation.exports.tools.peft import adapter_config
from hpo_service.presentation.exports.tools.tool import Tool, Translation, commented
from hpo_service.service.studies.winner.recipe import Recipe
from hpo_service.service.studies.winner.rows import WrittenRows

FILE, TEMPLATE = "train.py", "train.py.txt"
COMMAND = f"python {FILE}"
OWN = ("step", "exponential", "warmup_stable_decay")
"""Schedules that the program brings itself."""


def translate(recipe: Recipe, rows: WrittenRows) -> Translation:
    """Write the program."""
    hyper = recipe.training
    fields, _ = training_arguments(recipe, rows.train)
    fields = {name: value for name, value in fields.items() if value is not None}
    fields["gradient_checkpointing"] = checkpointing(recipe)
    if hyper.group_by_length:
        fields["train_sampling_strategy"] = "group_by_length"
    if hyper.scheduler in OWN:
        fields["lr_scheduler_type"] = "constant"
        fields.pop("lr_scheduler_kwargs", None)
    adapter = adapter_config(recipe, rows.model) or {}
    kept = ("peft_type", "base_model_name_or_path", "revision")
    settings = {
        "MODEL": rows.model,
        "REVISION": recipe.revision,
        "TRUST_REMOTE_CODE": recipe.model.trust_remote_code,
        "ATTENTION": None if recipe.model.attention == "auto" else recipe.model.attention,
        "DTYPE": "float32" if METHODS[hyper.method].base == "trained" else recipe.dtype,
        "HELD": recipe.held,
        "ADAPTER": {name: value for name, value in adapter.items() if name not in kept} or None,
        "CHAT_TEMPLATE": recipe.data.chat_template,
        "MAX_LENGTH": recipe.data.max_length,
        "LEARN_ALL": recipe.data.learn == "all",
        "LORA_PLUS": hyper.lora_plus_ratio if hyper.method in LOW_RANK else 1.0,
        "SCHEDULE": hyper.scheduler if hyper.scheduler in OWN else None,
        "MIN_LR_RATE": hyper.min_lr_rate,
        "DECAY_RATIO": hyper.decay_ratio,
        "ARGUMENTS": fields,
    }
    left_out = [*embeddings_left_out(recipe), *packing(recipe), *order_and_weight(recipe)]
    header = "".join(f"# {line}\n" for line in commented(recipe, COMMAND, left_out).splitlines())
    written = "\n".join(
        f"{name} = {pprint.pformat(value, sort_dicts=False, width=100)}" for name, value in settings.items()
    )
    template = files(__package__).joinpath(TEMPLATE).read_text("utf-8")
    return Translation({FILE: header + template.replace("# SETTINGS\n", written + "\n")}, COMMAND, left_out)


TOOL = Tool(
    "train.py, a program for transformers and PEFT alone", LOW_RANK | {"full", "prefix"}, translate, own_template=True
)
