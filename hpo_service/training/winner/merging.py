"""Merged weights: `python -m hpo_service.training.winner.merging` answers one request.

It reads `{"adapter", "base", "revision", "trust_remote_code", "dtype", "cache", "folder", "mark",
"chat_template"}` and writes the base with the
adapter's part added to its weights, in safetensors, with its tokenizer. The base is loaded unquantised.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from hpo_service.errors import ModelError
from hpo_service.training.winner.answering import answer_with, tell


def merge(request: dict[str, Any]) -> dict[str, Any]:
    """Merge, and say how large the model is; the folder, which is the command's own, is replaced whole.

    Raises:
        ModelError: base or adapter cannot be loaded, or the adapter has nothing that could be merged.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from hpo_service.training.builtin.family import resolve_model
    from hpo_service.training.models.base import parameter_count, reason_of
    from hpo_service.training.models.tokenizer import load_tokenizer, with_chat_template

    adapter, folder, name = Path(request["adapter"]), Path(request["folder"]), request["base"]
    path = resolve_model(name, Path(request["cache"]), tell)
    trust, revision = bool(request["trust_remote_code"]), request["revision"]
    tell(f"loading {name}")
    try:
        base = AutoModelForCausalLM.from_pretrained(
            path, revision=revision, trust_remote_code=trust, dtype=getattr(torch, request["dtype"])
        )
        model = PeftModel.from_pretrained(base, str(adapter))
    # loading reaches into the hub and remote code, which raise what they like
    except Exception as error:
        raise ModelError(f"{name} with the adapter in {adapter} cannot be loaded: {reason_of(error)}") from error
    if model.active_peft_config.is_prompt_learning:
        raise ModelError(
            f"the adapter in {adapter} is a prefix, which is no part of any weight: use it with PEFT as it is"
        )
    tell("adding the adapter to the weights")
    merged = model.merge_and_unload(safe_merge=True)
    tell(f"writing {folder}")
    built = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(built, ignore_errors=True)
    merged.save_pretrained(str(built))
    tokenizer = with_chat_template(load_tokenizer(name, path, trust, revision), request["chat_template"])
    tokenizer.save_pretrained(str(built))
    shutil.copy(folder / request["mark"], built)
    earlier = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(earlier, ignore_errors=True)
    folder.rename(earlier)
    built.rename(folder)
    shutil.rmtree(earlier, ignore_errors=True)
    return {"parameters": parameter_count(merged), "dtype": str(next(merged.parameters()).dtype).removeprefix("torch.")}


if __name__ == "__main__":
    sys.exit(answer_with(merge))
