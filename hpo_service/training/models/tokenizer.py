"""The tokenizer of a model: loaded, checked, and told apart from every other."""

from __future__ import annotations

import copy
import hashlib

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from hpo_service.errors import ModelError

REASON_CHARS = 300


def load_tokenizer(
    name: str, path: str, trust_remote_code: bool = False, revision: str | None = None
) -> PreTrainedTokenizerBase:
    """Load the tokenizer of the model that people call `name` and that lies at `path`.

    Raises:
        ModelError: its files are missing or broken.
    """
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            path, trust_remote_code=trust_remote_code, revision=revision
        )
    # Wrong names, no network and broken files come as many types.
    except Exception as error:
        reason = " ".join(str(error).split())[:REASON_CHARS] or type(error).__name__
        raise ModelError(f"model {name} has no usable tokenizer: {reason}") from error
    if not tokenizer("a b c", add_special_tokens=False).input_ids:
        raise ModelError(f"model {name} has no usable tokenizer: its files are missing, so it turns text into nothing")
    return tokenizer


def with_chat_template(tokenizer: PreTrainedTokenizerBase, template: str | None) -> PreTrainedTokenizerBase:
    """The tokenizer as a study's rows are written: a copy with its chat template, or the same where it has none."""
    if template is None:
        return tokenizer
    mine = copy.copy(tokenizer)
    mine.chat_template = template
    return mine


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase, name: str) -> str:
    """Hash of what decides how text becomes ids: models of one family often share it.

    A tokenizer without a description of its own is told by `name`, its model's.
    """
    fast = getattr(tokenizer, "backend_tokenizer", None)
    what = fast.to_str() if fast is not None else name
    also = f"{tokenizer.eos_token_id} {tokenizer.chat_template}"
    return hashlib.sha256(f"{what}\n{also}".encode()).hexdigest()
