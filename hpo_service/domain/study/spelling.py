"""The nearest valid name for one that is not: by spelling, or by what other tools call the same thing."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

ALIASES: dict[str, tuple[str, ...]] = {
    # hyper-parameters, as TRL, Axolotl, LLaMA-Factory and PEFT call them
    "alpha": ("lora_alpha", "lora_alpha_multiplier"),
    "batch_size": ("effective_batch",),
    "clip": ("max_grad_norm",),
    "dropout": ("lora_dropout",),
    "gradient_accumulation_steps": ("effective_batch",),
    "gradient_clipping": ("max_grad_norm",),
    "attn_implementation": ("attention",),
    "bias": ("lora_bias",),
    "gradient_checkpointing": ("activation_checkpointing",),
    "heads": ("scratch_heads",),
    "init_weights": ("init_lora_weights",),
    "layers": ("scratch_layers",),
    "loraplus_lr_ratio": ("lora_plus_ratio",),
    "lora_r": ("lora_rank",),
    "lora_target": ("target_modules",),
    "lora_target_modules": ("target_modules",),
    "lr": ("learning_rate",),
    "lr_scheduler": ("scheduler",),
    "lr_scheduler_type": ("scheduler",),
    "model_dim": ("scratch_width",),
    "micro_batch_size": ("micro_batch",),
    "modules": ("target_modules",),
    "num_virtual_tokens": ("prefix_tokens",),
    "n_layer": ("scratch_layers",),
    "n_head": ("scratch_heads",),
    "num_epochs": ("epochs",),
    "num_train_epochs": ("epochs",),
    "optim": ("optimizer",),
    "per_device_train_batch_size": ("micro_batch",),
    "r": ("lora_rank",),
    "rank": ("lora_rank",),
    "train_batch_size": ("effective_batch",),
    "use_flash_attention_2": ("attention",),
    "warmup": ("warmup_ratio",),
    "warmup_steps": ("warmup_ratio",),
    # data and model
    "assistant_only_loss": ("learn",),
    "completion_only_loss": ("learn",),
    "cutoff_len": ("max_length",),
    "dataset": ("data", "source"),
    "dataset_name": ("source",),
    "dataset_config": ("subset",),
    "dataset_config_name": ("subset",),
    "dataset_split": ("hub_split",),
    "load_in_4bit": ("quantisation",),
    "load_in_8bit": ("quantisation",),
    "max_seq_length": ("max_length",),
    "model_name_or_path": ("base",),
    "packing": ("pack_rows",),
    "path": ("source",),
    "sample_packing": ("pack_rows",),
    "sequence_len": ("max_length",),
    "train_on_inputs": ("learn",),
    "mask_prompt": ("learn",),
    # spaces and sweeps, as Weights & Biases sweeps, Optuna and Ray Tune call them
    "bayes": ("gp", "tpe"),
    "distribution": ("type", "log"),
    "hyperband": ("halving",),
    "asha": ("halving",),
    "max": ("high",),
    "min": ("low",),
    "n_trials": ("trials",),
    "num_samples": ("trials",),
    "parameters": ("space",),
    "search_space": ("space",),
    "upper": ("high",),
    "lower": ("low",),
    "values": ("choices",),
    "4bit": ("nf4",),
    "8bit": ("int8",),
}
"""What people coming from other tools write, and what stands for it here."""


def nearest(word: str, valid: Iterable[str]) -> str | None:
    """Return the valid name that was most likely meant, or None where nothing comes close."""
    names = list(valid)
    for alias in ALIASES.get(word.lower(), ()):
        if alias in names:
            return alias
    close = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.6)
    return close[0] if close else None


def did_you_mean(name: str, existing: Iterable[str]) -> str:
    """Return " (did you mean a or b?)" with the nearest existing names, or "" where none is near."""
    near = difflib.get_close_matches(name, list(existing), n=3, cutoff=0.5)
    return f" (did you mean {' or '.join(near)}?)" if near else ""


def unknown(what: str, name: str, valid: Iterable[str]) -> str:
    """Say that a name is none of those that there are; the nearest, or all of them where none is near."""
    known = list(valid)
    near = nearest(name, known)
    return f"is no {what}; " + (f"the nearest is {near}" if near else f"those are {', '.join(sorted(known))}")
