"""The project's own two-member Llama family, pre-trained once on the standard library into the user's cache."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from hpo_service.errors import ModelError
from hpo_service.training.builtin.architecture import Architecture
from hpo_service.training.builtin.corpus import source_documents
from hpo_service.training.builtin.pretraining import PretrainingPlan, pretrain
from hpo_service.training.files.node_cache import Progress, build_once

PREFIX = "builtin:"
# Part of every cache key: raise it when a change below, or in `corpus` or `pretraining`, changes the weights.
REVISION = 1
BYTES = "builtin:bytes"
BYTE_VOCABULARY = 256 + 3
BOS, EOS, PAD = "<s>", "</s>", "<pad>"


@dataclass(frozen=True)
class Recipe:
    """Everything a member's weights follow from, beside the Python version whose library is read."""

    architecture: Architecture
    plan: PretrainingPlan
    vocabulary: int = 2048
    corpus_chars: int = 3_000_000
    seed: int = 0


# One head width (64) and one depth, so that width alone grows, as the transfer rules assume; two layers because
# at these widths a deeper and narrower model is no better and costs half as much again in a trial.
FAMILY = {
    "llama-tiny": Recipe(
        Architecture(hidden_size=192, intermediate_size=448, layers=2, heads=3),
        PretrainingPlan(steps=1000, batch_size=4, length=64, learning_rate=5e-3),
    ),
    "llama-small": Recipe(
        Architecture(hidden_size=384, intermediate_size=896, layers=2, heads=6),
        PretrainingPlan(steps=900, batch_size=4, length=64, learning_rate=3e-3),
    ),
}


def is_builtin(name: str) -> bool:
    """Whether a model or data name means something the project makes itself."""
    return name.startswith(PREFIX)


def resolve_model(
    name: str,
    cache: Path,
    progress: Progress = lambda _message, _fraction: None,
    family: dict[str, Recipe] | None = None,
    meanwhile: Callable[[], object] | None = None,
) -> str:
    """The path of a builtin model, pre-trained on first use; any other name comes back unchanged.

    Safe when several processes ask at once: one builds, the others wait. A model appears complete or not at all.

    Args:
        name: a model's name as a study file writes it.
        cache: the user's cache folder; models go into its subfolder `models`.
        progress: told what is being built and how far it is.
        family: recipes by name without the prefix; the project's own when left out.
        meanwhile: called once if another process is found building this model, instead of only waiting for it.

    Raises:
        ModelError: no member of that name, or the cache cannot be written.
        DataError: this Python ships without its library's source.
    """
    if not is_builtin(name):
        return name
    members = FAMILY if family is None else family
    member = name.removeprefix(PREFIX)
    if member not in members:
        known = ", ".join(PREFIX + each for each in members)
        raise ModelError(f"there is no builtin model {name}; the builtin models are {known}")
    recipe = members[member]
    target = cache / "models" / f"{member}-{_key(recipe)}"
    try:
        return str(build_once(target, progress, lambda folder: _build(recipe, member, folder, progress), meanwhile))
    except OSError as error:
        raise ModelError(
            f"cannot build {name} under {cache}: {error}; free space there or set HPO_SERVICE_CACHE to another folder"
        ) from error


def train_tokenizer(documents: list[str], vocabulary: int) -> PreTrainedTokenizerBase:
    """A byte-level BPE tokenizer of exactly the given size, which encodes any text and starts it with BOS.

    BOS, EOS and padding are three different tokens, so that masking the padding never hides an EOS.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[BOS, EOS, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, pad_token=PAD, clean_up_tokenization_spaces=False
    )


def byte_tokenizer() -> PreTrainedTokenizerBase:
    """A tokenizer with one token for each byte beside BOS, EOS and padding: 259 in all."""
    return train_tokenizer([], BYTE_VOCABULARY)


def token_stream(tokenizer: PreTrainedTokenizerBase, documents: list[str]) -> torch.Tensor:
    """The documents' ids one after the other, each between BOS and EOS."""
    ids: list[int] = []
    for encoded in tokenizer(documents).input_ids:
        ids.extend(encoded)
        ids.append(tokenizer.eos_token_id)
    return torch.tensor(ids, dtype=torch.long)


def _key(recipe: Recipe) -> str:
    made_from = {"revision": REVISION, "python": platform.python_version(), "recipe": asdict(recipe)}
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:12]


def _build(recipe: Recipe, member: str, folder: Path, progress: Progress) -> None:
    """Write tokenizer, weights and the recipe they follow from into an empty folder."""
    told = f"pre-training {PREFIX}{member} (once)"
    progress(f"{told}: reading the standard library", 0.0)
    documents = source_documents(recipe.corpus_chars)
    tokenizer = train_tokenizer(documents, recipe.vocabulary)
    model = recipe.architecture.build(tokenizer, recipe.seed)
    outcome = pretrain(
        model,
        token_stream(tokenizer, documents),
        recipe.plan,
        recipe.seed,
        lambda message, fraction: progress(f"{told}: {message}", fraction),
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    record = {"recipe": asdict(recipe), "python": platform.python_version(), "outcome": asdict(outcome)}
    (folder / "pretraining.json").write_text(json.dumps(record, indent=2) + "\n")
    progress(f"{told}: done, loss {outcome.loss:.2f}", 1.0)
