"""Which family a model belongs to: within one, configs carry over; across families they do not."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hpo_service.domain.study.sources import BUILTIN, Surroundings, is_local


@dataclass(frozen=True)
class Family:
    """A family of models; `name` is None where only the architecture is known.

    Attributes:
        name: what people call the family and generation.
        architecture: `model_type` of its configs, or None where the name says nothing about it.
    """

    name: str | None
    architecture: str | None

    def is_other(self, than: Family) -> bool:
        """Whether the two are certainly not of one family."""
        if self.name is not None and than.name is not None:
            return self.name != than.name
        return None not in (self.architecture, than.architecture) and self.architecture != than.architecture

    def __str__(self) -> str:
        """Give the name that people know."""
        return self.name or str(self.architecture)


HUB_NAMES: tuple[tuple[str, Family], ...] = (
    # names of more than one family come first: a distilled or renamed model keeps its base's architecture
    ("deepseek-r1-distill-qwen", Family("DeepSeek-R1-Distill-Qwen", "qwen2")),
    ("deepseek-r1-distill-llama", Family("DeepSeek-R1-Distill-Llama", "llama")),
    ("tinyllama", Family("TinyLlama", "llama")),
    ("code-?llama", Family("Code Llama", "llama")),
    ("smollm3", Family("SmolLM3", "smollm3")),
    ("smollm2", Family("SmolLM2", "llama")),
    ("smollm", Family("SmolLM", "llama")),
    (r"llama-?3", Family("Llama 3", "llama")),
    (r"llama-?2", Family("Llama 2", "llama")),
    ("qwen3", Family("Qwen3", "qwen3")),
    (r"qwen2\.5", Family("Qwen2.5", "qwen2")),
    ("qwen2", Family("Qwen2", "qwen2")),
    (r"qwen1\.5", Family("Qwen1.5", "qwen2")),
    ("mixtral", Family("Mixtral", "mixtral")),
    ("ministral", Family("Ministral", "mistral")),
    ("mistral", Family("Mistral", "mistral")),
    ("gemma-3", Family("Gemma 3", "gemma3_text")),
    ("gemma-2", Family("Gemma 2", "gemma2")),
    ("gemma", Family("Gemma", "gemma")),
    ("phi-4", Family("Phi-4", "phi3")),
    (r"phi-3", Family("Phi-3", "phi3")),
    (r"phi-[12]", Family("Phi", "phi")),
    ("olmo-?2", Family("OLMo 2", "olmo2")),
    ("olmo", Family("OLMo", "olmo")),
    ("pythia", Family("Pythia", "gpt_neox")),
    ("falcon3", Family("Falcon 3", "llama")),
    ("falcon", Family("Falcon", "falcon")),
    ("granite", Family("Granite", "granite")),
    ("bloomz?", Family("BLOOM", "bloom")),
    ("xglm", Family("XGLM", "xglm")),
    ("opt", Family("OPT", "opt")),
    ("(distil)?gpt-?2", Family("GPT-2", "gpt2")),
)
"""Beginnings of a word in a hub name, most telling first, and the family they mean."""


def family_of(model: str, around: Surroundings) -> Family | None:
    """Return the family of a model by its name or its local config, or None where it cannot be told."""
    if model.startswith(BUILTIN):
        stem = model.removeprefix(BUILTIN).partition("-")[0]
        return Family(BUILTIN + stem, stem)
    if is_local(model, around):
        architecture = around.architecture(around.absolute(model))
        return Family(None, architecture) if architecture else None
    name = model.rpartition("/")[2].lower()
    return next((family for stem, family in HUB_NAMES if re.search(rf"(?<![a-z]){stem}", name)), None)


def billions(model: str) -> float | None:
    """Read a model's size off its name, in billions of weights, or None where it does not tell.

    `SmolLM2-135M` is 0.135, `Qwen2.5-7B-Instruct` is 7.
    """
    found = re.search(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)([mb])(?![a-z])", model.rpartition("/")[2].lower())
    if not found:
        return None
    return float(found[1]) / (1000 if found[2] == "m" else 1)
