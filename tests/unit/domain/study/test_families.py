"""Families and sizes read off names, and nearest names read off mistakes."""

from __future__ import annotations

import pytest

from hpo_service.domain.study.families import HUB_NAMES, Family, billions, family_of
from hpo_service.domain.study.sources import Surroundings
from hpo_service.domain.study.spelling import ALIASES, nearest

AROUND = Surroundings(
    absolute=lambda name: f"/here/{name}",
    exists=lambda path: False,
    architecture=lambda path: "llama" if path.endswith("known") else None,
)


@pytest.mark.parametrize(
    "model, family",
    [
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "SmolLM2"),
        ("HuggingFaceTB/SmolLM3-3B", "SmolLM3"),
        ("meta-llama/Llama-2-13b-hf", "Llama 2"),
        ("meta-llama/Meta-Llama-3-8B", "Llama 3"),
        ("unsloth/Llama-3.2-1B-bnb-4bit", "Llama 3"),
        ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", "TinyLlama"),
        ("codellama/CodeLlama-7b-hf", "Code Llama"),
        ("Qwen/Qwen2.5-Coder-7B", "Qwen2.5"),
        ("Qwen/Qwen3-8B", "Qwen3"),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "DeepSeek-R1-Distill-Qwen"),
        ("NousResearch/Hermes-2-Pro-Mistral-7B", "Mistral"),
        ("google/gemma-2-9b", "Gemma 2"),
        ("EleutherAI/pythia-160m", "Pythia"),
        ("facebook/opt-1.3b", "OPT"),
        ("bigscience/bloomz-560m", "BLOOM"),
        ("openai-community/gpt2-medium", "GPT-2"),
        ("builtin:llama-tiny", "builtin:llama"),
    ],
)
def test_a_family_is_read_off_a_hub_name(model, family):
    assert str(family_of(model, AROUND)) == family


@pytest.mark.parametrize("model", ["someone/adopted-model", "x/y", "./other"])
def test_a_family_that_cannot_be_told_is_none(model):
    assert family_of(model, AROUND) is None


def test_a_local_model_has_the_architecture_of_its_config():
    family = family_of("./known", AROUND)
    assert family == Family(None, "llama")
    assert str(family) == "llama"


def test_generations_differ_and_an_architecture_alone_is_compared_as_such():
    smol, llama2 = Family("SmolLM2", "llama"), Family("Llama 2", "llama")
    assert smol.is_other(llama2)
    assert not smol.is_other(smol)
    assert not Family(None, "llama").is_other(llama2)
    assert Family(None, "qwen2").is_other(llama2)
    assert not Family(None, None).is_other(llama2)


def test_no_hub_name_hides_a_later_one():
    for index, (stem, _) in enumerate(HUB_NAMES):
        plain = stem.replace("\\", "").replace("-?", "-").replace("z?", "").replace("(distil)?", "")
        plain = plain.replace("[12]", "1")
        family = family_of(f"x/{plain}-7b", AROUND)
        assert family == HUB_NAMES[index][1], plain


@pytest.mark.parametrize(
    "model, size",
    [
        ("HuggingFaceTB/SmolLM2-135M", 0.135),
        ("Qwen/Qwen2.5-0.5B-Instruct", 0.5),
        ("meta-llama/Llama-2-13b-hf", 13),
        ("unsloth/Llama-3.2-1B-bnb-4bit", 1),
        ("builtin:llama-tiny", None),
        ("openai-community/gpt2-medium", None),
    ],
)
def test_a_size_is_read_off_a_name(model, size):
    assert billions(model) == size


@pytest.mark.parametrize(
    "word, valid, meant",
    [
        ("lerning_rate", ["learning_rate", "lora_rank"], "learning_rate"),
        ("LR", ["learning_rate", "lora_rank"], "learning_rate"),
        ("bayes", ["tpe", "gp", "random"], "gp"),
        ("alpha", ["lora_alpha_multiplier"], "lora_alpha_multiplier"),
        ("zzz", ["learning_rate"], None),
        ("anything", [], None),
    ],
)
def test_the_nearest_name_is_by_spelling_or_by_another_tools_word(word, valid, meant):
    assert nearest(word, valid) == meant


def test_no_alias_stands_for_itself():
    assert all(alias not in meanings for alias, meanings in ALIASES.items())
