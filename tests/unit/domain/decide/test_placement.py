"""Who may have the trials of a stage: memory that was asked for or estimated, labels, GPUs."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from hpo_service.domain.decide.placement import Needs, Resources, needs_of, product_label
from hpo_service.domain.memory.shape import ModelShape
from hpo_service.domain.study.protocol import STAGES
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.model_facts import ModelFacts

BIG = Resources(gpus=1, memory_gb=85.0, labels=("gpu", "nvidia-h100-80gb-hbm3", "spot"))
SMALL = Resources(gpus=1, memory_gb=10.0, labels=("gpu", "mig"))
CPU = Resources(labels=("cpu",))


def study(requires, **more):
    sections = {
        "name": "s",
        "model": {"base": "org/small", "target": "org/large"},
        "data": {"source": "org/rows", "max_length": 512},
        "space": {"preset": "minimal"},
        "execution": {"requires": requires},
    }
    return StudySpec.model_validate({**sections, **more})


def facts(layers=16):
    sizes = {"hidden_size": 2048, "intermediate_size": 8192, "heads": 32, "kv_heads": 8, "head_dim": 64}
    shape = ModelShape(**sizes, layers=layers, vocab_size=128_000)
    return ModelFacts(family="llama", hidden_size=2048, shape=shape)


@pytest.mark.parametrize(
    "needs, has, missing",
    [
        (Needs(), CPU, ""),
        (Needs(gpus=2), BIG, "2 GPUs"),
        (Needs(gpus=2), CPU, ""),
        (Needs(memory_gb=40), BIG, ""),
        (Needs(memory_gb=40), SMALL, "40 GB on each GPU"),
        (Needs(memory_gb=40, estimated=True), CPU, "about 40 GB on each GPU"),
        (Needs(labels=("spot",)), BIG, ""),
        (Needs(labels=("spot", "fast")), SMALL, "labels spot, fast"),
        (Needs(memory_gb=90, labels=("fast",)), BIG, "90 GB on each GPU and label fast"),
    ],
)
def test_a_worker_is_told_what_it_lacks(needs, has, missing):
    assert needs.missing(has) == missing


def test_of_several_workers_the_one_that_comes_nearest_says_what_is_missing():
    needs = Needs(memory_gb=40, labels=("spot", "fast"))
    assert needs.missing_everywhere([CPU, BIG]) == "label fast"
    assert needs.missing_everywhere([CPU, SMALL, Resources(1, 40.0, ("spot", "fast"))]) == ""
    assert needs.missing_everywhere([]) == ""


def test_a_stage_has_what_it_asks_for_itself_and_the_rest_from_the_study():
    spec = study(
        {"memory_gb": 20, "labels": ["spot"], "stages": {"verify": {"memory_gb": 70}, "confirm": {"labels": []}}}
    )
    found = {name: needs_of(spec, rule, {}) for name, rule in STAGES.items()}
    assert found["search"] == Needs(memory_gb=20, labels=("spot",))
    assert found["verify"] == Needs(memory_gb=70, labels=("spot",))
    assert found["confirm"] == Needs(memory_gb=20)


def test_an_estimate_is_of_the_model_of_the_stage_and_grows_with_it():
    known = {"org/small": facts(16), "org/large": facts(64)}
    spec = study({"memory_gb": "estimate"})
    search, verify = (needs_of(spec, STAGES[name], known) for name in ("search", "verify"))
    assert search.estimated
    assert 3 < search.memory_gb < 8
    assert verify.memory_gb > 2 * search.memory_gb


def test_an_estimate_of_a_model_that_nobody_has_seen_asks_for_nothing():
    needs = needs_of(study({"memory_gb": "estimate"}), STAGES["search"], {})
    assert needs.memory_gb is None
    assert needs.missing(CPU) == ""


def test_an_estimate_where_every_model_is_new_asks_for_nothing():
    spec = study({"memory_gb": "estimate"})
    spec = spec.model_copy(update={"training": spec.training.model_copy(update={"method": "scratch"})})
    assert needs_of(spec, STAGES["search"], {"org/small": facts(16)}).memory_gb is None


@pytest.mark.parametrize("stored", [None, {}, {"gpus": 2, "memory_gb": 24.0, "labels": ["a", "b"]}])
def test_what_a_worker_has_is_read_as_it_was_stored(stored):
    read = Resources.read(stored)
    assert Resources.read(read.document()) == read
    assert read.gpus == (stored or {}).get("gpus")


def test_product_names_are_labels():
    assert product_label("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"
    assert product_label("NVIDIA A100-SXM4-40GB MIG 1g.5gb") == "nvidia-a100-sxm4-40gb-mig-1g.5gb"


@pytest.mark.parametrize(
    "requires",
    [{"memory_gb": 0}, {"memory_gb": "much"}, {"labels": ["two words"]}, {"stages": {"warmup": {}}}, {"label": "x"}],
)
def test_what_cannot_be_asked_for_is_refused(requires):
    with pytest.raises(ValidationError, match=r"execution\.requires"):
        study(requires)
