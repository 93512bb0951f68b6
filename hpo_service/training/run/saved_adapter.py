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
        tokenizer: kept beside a whole model.
        wanted: whether anything will be kept.
    """
    if not isinstance(model, PeftModel):
        yield lambda folder: _whole(model, tokenizer, folder)
    elif not wanted or not hyper.reads("init_lora_weights") or not STARTS[hyper.init_lora_weights].moves_base:
        yield lambda folder: save_weights(model, folder)
    else:
        with tempfile.TemporaryDirectory() as start:
            _save_start(model, start)
            yield lambda folder: model.save_pretrained(
                str(folder), save_embedding_layers=False, path_initial_model_for_weight_conversion=start
            )


def _whole(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    save_weights(model, folder)
    tokenizer.save_pretrained(str(folder))


def _save_start(model: PeftModel, folder: str) -> None:
    """Write the adapters as they are now, to be read back as they are: nothing is to be decomposed again."""
    config = model.peft_config[model.active_adapter]
    assert isinstance(config, LoraConfig)
    drawn, config.init_lora_weights = config.init_lora_weights, True
    model.save_pretrained(folder, save_embedding_layers=False)
    config.init_lora_weights = drawn
