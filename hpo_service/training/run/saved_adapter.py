"""What is kept of a run: its trained weights as plain PEFT or transformers load them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from peft import LoraConfig, PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hpo_service.domain.study.hyperparameters import Hyperparameters
from hpo_service.domain.study.methods import STARTS
from hpo_service.training.run.checkpoint import save_weights

SaveWeights = Callable[[Path], None]


@contextmanager
def weights_saver(
    model: PreTrainedModel | PeftModel, hyper: Hyperparameters, tokenizer: PreTrainedTokenizerBase, *, wanted: bool
) -> Iterator[SaveWeights]:
    """Give what writes the model's trained weights into a folder; to be entered before training starts.

    Adapters that started by taking their part out of the base would need that changed base wherever they are
    loaded. Their start is remembered, and what is kept is the difference: an ordinary adapter of twice the rank on
    the base as everybody has it.

    Args:
        model: the adapters on their base, or a whole model.
        hyper: what it is trained by.
        tokenizer: kept beside the weights.
        wanted: whether anything will be kept.
    """

    def save(folder: Path) -> None:
        save_with_tokenizer(model, tokenizer, folder)

    def save_difference(folder: Path, start: str) -> None:
        model.save_pretrained(str(folder), save_embedding_layers=False, path_initial_model_for_weight_conversion=start)
        tokenizer.save_pretrained(str(folder))

    moves = hyper.reads("init_lora_weights") and STARTS[hyper.init_lora_weights].moves_base
    if not isinstance(model, PeftModel) or not wanted or not moves:
        yield save
    else:
        with tempfile.TemporaryDirectory() as start:
            _save_start(model, start)
            yield lambda folder: save_difference(folder, start)


def save_with_tokenizer(model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write trained weights with the tokenizer that they were trained with, so that the folder is used by itself."""
    save_weights(model, folder)
    tokenizer.save_pretrained(str(folder))


def _save_start(model: PeftModel, folder: str) -> None:
    """Write the adapters as they are now, to be read back as they are: nothing is to be decomposed again."""
    config = model.peft_config[model.active_adapter]
    assert isinstance(config, LoraConfig)
    drawn, config.init_lora_weights = config.init_lora_weights, True
    model.save_pretrained(folder, save_embedding_layers=False)
    config.init_lora_weights = drawn
