"""What decides a key: every field does, unless it is named with the reason why not; and keys stay what they were."""

from dataclasses import fields

import pytest
import torch
from transformers import LlamaConfig

from hpo_service.domain.study.sections.data import DataSpec, SplitSpec
from hpo_service.domain.study.sections.model import ModelSpec
from hpo_service.domain.study.sections.training import TrainingSpec
from hpo_service.domain.trial.config import TrialConfig
from hpo_service.training.data import fingerprint, row_cache
from hpo_service.training.engines.packed import eligible
from hpo_service.training.models import base
from hpo_service.training.models.base import BaseKey
from hpo_service.training.run import checkpoint, job
from hpo_service.training.run.checkpoint import Identity

# A field that is new belongs either here, and then old caches and checkpoints no longer fit, or among those that do
# not decide, with the reason.
DECISIVE = [
    (TrialConfig, job.UNDECISIVE, {"model", "model_name", "data", "training", "seed", "share"}),
    (
        DataSpec,
        row_cache.UNDECISIVE,
        {"format", "learn", "split", "group", "weight", "max_length", "max_rows"}
        | {"columns", "prompt_template", "system", "as_chat", "chat_template"},
    ),
    (TrialConfig, eligible.MAY_DIFFER, {"objective", "model", "model_name", "data", "sharding"}),
    (TrainingSpec, eligible.SHAPELESS, {"target_modules", "lora_rank"}),
]

ROWS = DataSpec(
    source="rows.jsonl",
    max_rows=100,
    split=SplitSpec(seed=7),
    group="author",
    learn="all",
    format="alpaca",
    pack_rows=True,
)
CONFIG = TrialConfig(
    study="s",
    stage="search",
    parameters={"learning_rate": 1e-4},
    seed=3,
    model=ModelSpec(base="builtin:llama-tiny", quantisation="int8"),
    model_name="builtin:llama-tiny",
    data=ROWS,
    training=TrainingSpec(method="lora", learning_rate=1e-4, epochs=2),
    score_test=True,
    keep_adapter=True,
    memory_correction=1.3,
)


@pytest.mark.parametrize("model, undecisive, decisive", DECISIVE)
def test_every_field_decides_or_is_named_with_the_reason_why_not(model, undecisive, decisive):
    assert not undecisive.keys() & decisive
    assert undecisive.keys() | decisive == model.model_fields.keys()
    assert all(undecisive.values())


def test_fields_that_say_where_rows_are_found_tell_one_state_of_them_from_another():
    spec = DataSpec(source="org/rows", subset="en", hub_split="train[:10%]")
    assert fingerprint.stamp(spec) == '["org/rows", "en", "train[:10%]", []]'
    assert set(fingerprint.WHERE) <= DataSpec.model_fields.keys()


def test_fields_that_came_later_decide_where_a_study_uses_them():
    fields_of = DataSpec.model_fields
    assert {n: fields_of[n].get_default(call_default_factory=True) for n in fingerprint.BEFORE} == fingerprint.BEFORE
    plain, changed = DataSpec(source="x"), DataSpec(source="x", system="Be brief.")
    assert row_cache._recipe(plain) != row_cache._recipe(changed)
    digests = {job._digest(CONFIG.model_copy(update={"data": data})) for data in (plain, changed)}
    assert len(digests) == 2
    assert fingerprint.stamp(DataSpec(source="org/a", test="org/b")) != fingerprint.stamp(DataSpec(source="org/a"))


@pytest.mark.parametrize(
    "config, digest",
    [
        (CONFIG, "092d89cc1c9a6c512eb85dd77a43a751bde326aaed7ea4b7f5bddcd05ec600c1"),
        (
            TrialConfig(study="s", stage="search", parameters={}, seed=0),
            "90464b4b8eeea657a520f5aa12ca43f6647e789cfa616db0a04e5e0311e5929e",
        ),
        (
            CONFIG.model_copy(update={"data": DataSpec(source="rows.jsonl"), "model": None}),
            "7c84ec915e16d9a56ddbc831c85b1e85967d27ac3172836bb3c5b789e709afea",
        ),
    ],
)
def test_checkpoints_of_older_versions_belong_to_the_same_configurations(config, digest):
    assert job._digest(config) == digest


@pytest.mark.parametrize(
    "spec, recipe, key",
    [
        (
            ROWS,
            '{"format":"alpaca","learn":"all","split":{"validation":0.1,"test":0.1,"seed":7},"group":"author",'
            '"max_length":512,"max_rows":100}',
            "544b66caff815e39aa020a972b5da3f7",
        ),
        (
            DataSpec(source="x"),
            '{"format":"auto","learn":"completions","split":{"validation":0.1,"test":0.1,"seed":42},"group":null,'
            '"max_length":512,"max_rows":null}',
            "1a44de26814d2a2467a885595938058a",
        ),
    ],
)
def test_tokenised_rows_of_this_revision_are_found_again(spec, recipe, key, monkeypatch):
    monkeypatch.setattr(row_cache, "version", lambda _: "1.2.3")
    assert row_cache._recipe(spec) == recipe
    assert row_cache._key("c" * 64, "t" * 64, spec) == key


def test_a_checkpoint_of_an_older_version_is_told_by_the_same_four_parts():
    assert [field.name for field in fields(Identity)] == ["base", "config", "data", "engine"]
    assert checkpoint.MEANINGS.keys() <= {field.name for field in fields(Identity)}


def test_a_model_is_told_by_all_of_its_configuration_but_where_it_lies_and_who_wrote_it():
    assert base.UNDECISIVE.keys() == {"_name_or_path", "transformers_version"} <= LlamaConfig().to_dict().keys()


# Another value of each field of `ModelSpec`; two are of names, of which the key has the one that is trained.
OTHER = {
    "quantisation": "nf4",
    "dtype": "bfloat16",
    "attention": "eager",
    "revision": "main",
    "trust_remote_code": True,
}
NAMES = {"base", "target", "target_revision"}


def test_every_setting_of_a_model_tells_its_base_from_others():
    assert OTHER.keys() | NAMES == ModelSpec.model_fields.keys()
    plain = BaseKey.of("org/small", ModelSpec(base="org/small", dtype="float32"), "lora")
    for name, value in OTHER.items():
        spec = ModelSpec(**{"base": "org/small", "dtype": "float32", name: value})
        assert BaseKey.of("org/small", spec, "lora") != plain, name
    target = ModelSpec(base="org/small", target="org/large", target_revision="main", dtype="float32")
    assert BaseKey.of("org/large", target, "lora").revision == "main"
    assert BaseKey.of("org/small", target, "lora") == plain
    assert plain.compute == torch.float32


def test_trials_that_hold_their_base_alike_share_a_pack_and_others_do_not():
    def like(method, quantisation, **more):
        model = ModelSpec(base="org/small", quantisation=quantisation)
        training = TrainingSpec(method=method, **more)
        return eligible.likeness(CONFIG.model_copy(update={"model": model, "training": training}))

    assert like("lora", "none") == like("rslora", "none") == like("lora", "none", learning_rate=1e-3, lora_rank=4)
    assert like("lora", "none") != like("qlora", "none")
    assert like("lora", "none") != like("lora", "nf4")


def test_adapters_of_one_rank_on_the_same_modules_are_stacked_alike():
    def shape(**training):
        return eligible.adapter_shape(CONFIG.model_copy(update={"training": TrainingSpec(**training)}))

    assert shape() == shape(learning_rate=1e-3, lora_alpha=4.0, method="rslora", epochs=3)
    assert shape() != shape(lora_rank=4)
    assert shape() != shape(target_modules="minimal")
