"""Models as people have them: each family trains, is evaluated, saved, loaded by plain PEFT, and resumed exactly."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from hpo_service.domain.trial.outcome import OutcomeKind
from hpo_service.training.engines.solo import SoloEngine
from hpo_service.training.models.base import BaseKey, load_base
from hpo_service.training.run.loaded_models import LoadedModels
from tests.training.families import FAMILIES, save_family
from tests.training.test_solo import plain_loss, plain_rows
from tests.training.tiny import Trainee, pairs, write_rows
from tests.trials import stop

RELEASE = stop("release", "the node is needed")


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> str:
    return write_rows(tmp_path_factory.mktemp("families") / "pairs.jsonl", pairs(30))


def config(trainee, quantisation="none", **changes):
    asked = trainee.config(evaluations_per_epoch=2, score_test=True, keep_adapter=True, **changes)
    return asked.model_copy(update={"model": asked.model.model_copy(update={"quantisation": quantisation})})


def values(trainee):
    return [report.value for report in trainee.reports]


def run_whole_and_in_parts(trainee, asked):
    """Run a trial undisturbed and again with a stop after its first evaluation; the two must be one."""
    whole = trainee.run(asked, "whole")
    curve = values(trainee)
    assert whole.kind is OutcomeKind.COMPLETE
    assert curve[1] < curve[0]
    trainee.run(asked, "parts", decide=lambda report: RELEASE if report.step == 1 else None)
    first = values(trainee)
    resumed = trainee.run(asked, "parts")
    assert first + values(trainee) == curve
    assert resumed.test == whole.test
    return whole


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_trains_is_saved_reloaded_and_resumed(family, rows, tmp_path):
    trainee = Trainee(save_family(family, tmp_path / "model"), rows, tmp_path)
    whole = run_whole_and_in_parts(trainee, config(trainee, lora_dropout=0.1))
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(trainee.llama), whole.adapter)
    assert plain_loss(loaded, plain_rows(trainee.llama, rows, "test")) == pytest.approx(whole.test.mean, abs=1e-5)
    prefixed = trainee.run(config(trainee, method="prefix", prefix_tokens=5, learning_rate=0.05), "prefix")
    assert prefixed.kind is OutcomeKind.COMPLETE
    assert values(trainee)[1] < values(trainee)[0]


@pytest.mark.parametrize("family, quantisation", [("llama", "nf4"), ("gpt-neox", "int8")])
def test_quantised_bases_train_on_the_cpu_stay_as_they_are_and_reload(family, quantisation, rows, tmp_path):
    trainee = Trainee(save_family(family, tmp_path / "model"), rows, tmp_path)
    asked = config(trainee, quantisation, method="qlora", lora_dropout=0.1)
    trainee.run(config(trainee, quantisation, method="qlora", seed=3, target_modules="attention"), "before")
    whole = run_whole_and_in_parts(trainee, asked)
    key = BaseKey.of(trainee.llama, asked.model, "qlora")
    base = load_base(key, tmp_path, lambda message, fraction: None).model
    with torch.no_grad():
        loss = plain_loss(PeftModel.from_pretrained(base, whole.adapter), plain_rows(trainee.llama, rows, "test"))
    assert loss == pytest.approx(whole.test.mean, abs=1e-4)
    trainee.run(asked, "fresh", engine=SoloEngine(LoadedModels(Path(tmp_path))))
    assert trainee.reports[-1].value == whole.value
