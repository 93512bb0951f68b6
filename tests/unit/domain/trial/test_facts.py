"""Facts of a run: typed where they are read, one flat object where they are sent and stored."""

import json
import math

import pytest

from hpo_service.domain.study.data_report import DataReport, PartReport
from hpo_service.domain.trial.facts import (
    DataFacts,
    EnvironmentFacts,
    MemoryFacts,
    RunFacts,
    TimingFacts,
    TrainingFacts,
)
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind

STORED = {
    "seconds_train": 1.5,
    "seconds_evaluate": 0.25,
    "seconds_wait": 0.125,
    "seconds_checkpoint": 0.0,
    "seconds_metrics": 3.5,
    "seconds_setup": 2.5,
    "device_seconds": 9,
    "tokens": 4096,
    "steps": 7,
    "steps_planned": 8,
    "micro_batch": 4,
    "accumulation": 2,
    "ranks": 1,
    "evaluations": 3,
    "seed": 42,
    "trainable_parameters": 1234,
    "adapter_mb": 1.25,
    "resumed_at_step": 0,
    "best_value": 2.25,
    "validation_loss": 2.5,
    "metric_rows": 5,
    "rows_trained": 40,
    "rows_watched": 8,
    "rows_watched_because": "8 of 10: so many were asked for",
    "base_fingerprint": "b" * 64,
    "data_fingerprint": "d" * 64,
    "compute": "float32",
    "device": "cpu",
    "versions": "python 3.12",
    "engine": "packed",
    "peak_memory_gb": 1.5,
    "memory_estimate_gb": 0.5,
    "memory_of": "lora on org/small",
    "vram_over_gb": -2.0,
    "oom_halvings": 1,
    "evaluation_tokens": 1000,
    "base_share_held": 0.5,
    "data_format": "alpaca",
    "rows_train": 80,
    "rows_validation": 10,
    "rows_test": 11,
    "rows_truncated": 2,
    "rows_unsupervised": 3,
    "rows_leaked": 4,
    "rows_repeated": 5,
    "rows_duplicated": 6,
    "row_tokens_p50": 20,
    "row_tokens_p90": 30,
    "row_tokens_p99": 40,
    "row_tokens_longest": 50,
    "row_groups": 9,
    "padding_share": 0.25,
    "packing_saved_share": 0.125,
    "checkpoint_warning": "the disk is full",
    "adapter_warning": "the disk is full",
    "checkpoint_refused": "the checkpoint belongs to another data",
    "metrics_warning": "no answers",
    "tracking_warning": "wandb: away",
    "constraint_violated": "seconds 12 above 10",
}
"""Every name under which a fact has been stored, with a value of its kind."""


def test_every_stored_name_has_a_field_and_comes_out_as_it_went_in():
    facts = RunFacts.of(STORED)
    assert facts.extra == {}
    assert facts.flat() == STORED
    assert {name: type(value) for name, value in facts.flat().items()} == {k: type(v) for k, v in STORED.items()}


def test_every_field_is_stored_under_a_name_that_older_versions_know():
    full = {
        name: group.model_fields.keys()
        for name, field in RunFacts.model_fields.items()
        if hasattr(group := field.annotation, "model_fields")
    }
    assert sum(map(len, full.values())) == len(STORED)
    assert all(None not in getattr(RunFacts.of(STORED), name).model_dump().values() for name in full)


def test_readers_use_attributes():
    facts = RunFacts.of(STORED)
    assert (facts.memory.peak_gb, facts.timing.device, facts.fingerprints.data) == (1.5, 9, "d" * 64)
    assert (facts.environment.engine, facts.data.groups, facts.training.steps) == ("packed", 9, 7)
    assert facts.warnings.tracking == "wandb: away"


def test_what_is_not_known_is_not_written():
    assert RunFacts().flat() == {}
    assert RunFacts(training=TrainingFacts(steps=3)).flat() == {"steps": 3}


@pytest.mark.parametrize(
    "odd",
    [
        {"tokens": "many"},
        {"steps": 3.5},
        {"steps": True},
        {"peak_memory_gb": "much"},
        {"memory_of": None},
        {"device": ["a", "b"]},
        {"versions": {"torch": 2}},
        {"of_a_later_version": [1, None]},
        {"memory": 5, "extra": {}, "data": "x"},
        {"half": "\udcff"},
    ],
)
def test_what_another_version_stored_is_kept_as_it_is_and_never_refused(odd):
    facts = RunFacts.of({**odd, "seed": 7})
    assert facts.extra == odd
    assert facts.flat() == {**odd, "seed": 7}
    assert facts.training.seed == 7


def test_text_that_is_no_unicode_does_not_make_a_trial_unreadable():
    assert RunFacts.of({"versions": "\udcff"}).flat() == {"versions": "\udcff"}


def test_two_sets_of_facts_are_put_together_and_the_later_one_stands():
    first = RunFacts(training=TrainingFacts(steps=3, tokens=5), extra={"own": 1})
    second = RunFacts(training=TrainingFacts(steps=4), timing=TimingFacts(setup=1.0), extra={"metric:f1": 0.5})
    assert (first | second).flat() == {"steps": 4, "tokens": 5, "own": 1, "seconds_setup": 1.0, "metric:f1": 0.5}


def test_task_metrics_are_those_that_are_numbers():
    facts = RunFacts.of({"metric:rouge_l": 0.5, "metric:count": 3, "metric:odd": "x", "metric_rows": 4})
    assert facts.metrics == {"rouge_l": 0.5, "count": 3.0}


def test_facts_travel_flat_in_an_outcome_and_numbers_that_are_not_finite_as_they_are():
    facts = {"device_seconds": 3, "vram_over_gb": math.inf, "best_value": math.nan, "own": -math.inf}
    outcome = Outcome(kind=OutcomeKind.COMPLETE, reason="done", facts=facts)
    assert outcome.facts.memory.over_gb == math.inf
    sent = outcome.model_dump_json()
    told = json.loads(sent)["facts"]
    assert math.isnan(told.pop("best_value"))
    assert told == {"device_seconds": 3, "vram_over_gb": math.inf, "own": -math.inf}
    assert Outcome.model_validate_json(sent).facts.flat().items() >= told.items()


def test_an_outcome_takes_facts_that_are_typed_already():
    facts = RunFacts(memory=MemoryFacts(oom_halvings=2), environment=EnvironmentFacts(device="cpu"))
    outcome = Outcome(kind=OutcomeKind.INFEASIBLE, reason="too large", facts=facts)
    assert outcome.facts == facts == RunFacts.of({"oom_halvings": 2, "device": "cpu"})


def test_the_rows_of_a_report_are_facts_of_the_data():
    part = PartReport(
        rows=3, tokens=9, supervised_tokens=5, p50=2, p90=3, p99=4, longest=4, truncated=1, unsupervised=2
    )
    report = DataReport(
        source="rows.jsonl",
        format="alpaca",
        learn="all",
        max_length=8,
        rows_read=12,
        rows_split=11,
        leaked=6,
        repeated=7,
        duplicates=8,
        longest_row="rows.jsonl, line 2",
        padding_share=0.5,
        parts={"train": part, "validation": part, "test": part},
        whole=part,
        fingerprint="f" * 64,
    )
    told = RunFacts(data=DataFacts.of(report)).flat()
    assert told == {
        "data_format": "alpaca",
        **dict.fromkeys(("rows_train", "rows_validation", "rows_test"), 3),
        "rows_truncated": 1,
        "rows_unsupervised": 2,
        "rows_leaked": 6,
        "rows_repeated": 7,
        "rows_duplicated": 8,
        "row_tokens_p50": 2,
        "row_tokens_p90": 3,
        "row_tokens_p99": 4,
        "row_tokens_longest": 4,
    }
    grouped = report.model_copy(update={"whole": part.model_copy(update={"groups": 2})})
    assert DataFacts.of(grouped).groups == 2
