"""The study file that is written for a model and rows: what was asked for, and the rest with its reasons."""

from __future__ import annotations

import pytest

from hpo_service.domain.study.data_report import DataReport, PartReport
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.studyfile.draft import Known, Wishes, draft_study, read_budget, study_name
from hpo_service.errors import UsageError

WISHES = Wishes("Qwen/Qwen2.5-0.5B", "rows.jsonl")


def part(rows: int, p99: int = 300, longest: int = 310) -> PartReport:
    lengths = {"p50": 100, "p90": 200, "p99": p99, "longest": longest}
    return PartReport(rows=rows, tokens=100 * rows, supervised_tokens=50 * rows, truncated=0, unsupervised=0, **lengths)


def report(rows: int, **lengths: int) -> DataReport:
    tenth = rows // 10
    parts = {"train": part(rows - 2 * tenth), "validation": part(tenth), "test": part(tenth)}
    counts = {"rows_read": rows, "rows_split": rows, "leaked": 0, "repeated": 0, "duplicates": 0}
    return DataReport(
        source="rows.jsonl",
        format="prompt-completion",
        learn="completions",
        max_length=8192,
        longest_row="rows.jsonl:1",
        padding_share=0.1,
        parts=parts,
        whole=part(rows, **lengths),
        fingerprint="0" * 64,
        **counts,
    )


NOTHING = Known()


def study(wishes: Wishes, known: Known = NOTHING) -> StudySpec:
    return StudySpec.model_validate(draft_study(wishes, known).document)


def test_what_was_asked_for_is_what_the_study_says():
    made = study(Wishes("small", "rows.jsonl", target="large", name="mine", method="dora", gpu_hours=20.0))
    assert made.name == "mine"
    assert (made.model.base, made.model.target) == ("small", "large")
    assert made.training.method == "dora"
    assert made.budget.gpu_hours == 20.0


def test_trials_of_a_budget_are_those_of_all_stages():
    assert study(Wishes("small", "rows.jsonl", trials=40)).budget.trials == 40


@pytest.mark.parametrize(
    "model, data, name",
    [
        ("Qwen/Qwen2.5-7B", "data/support chats.jsonl.gz", "qwen2.5-7b-support-chats"),
        ("builtin:llama-tiny", "builtin:stdlib-docstrings", "llama-tiny-stdlib-docstrings"),
        ("./...", "/", "study"),
    ],
)
def test_a_study_is_named_after_its_model_and_rows(model: str, data: str, name: str):
    assert study_name(model, data) == name


def test_rows_are_cut_where_hardly_any_is_longer():
    draft = draft_study(WISHES, Known(rows=report(5000, p99=301, longest=9000)))
    assert draft.document["data"]["max_length"] == 320
    assert draft.reasons["data", "max_length"] == (
        "99 of 100 rows have at most 301 tokens; longer ones are cut, up to 9000"
    )


def test_nothing_is_cut_where_the_longest_row_fits():
    draft = draft_study(WISHES, Known(rows=report(5000, p99=301, longest=310)))
    assert draft.reasons["data", "max_length"].endswith("the longest has 310")


def test_rows_are_never_longer_than_memory_usually_allows():
    assert draft_study(WISHES, Known(rows=report(5000, p99=9000))).document["data"]["max_length"] == 2048


def test_few_rows_are_held_out_in_larger_shares_trained_in_small_batches_and_evaluated_less_often():
    draft = draft_study(WISHES, Known(rows=report(300)))
    assert draft.document["data"]["split"] == {"validation": 0.2, "test": 0.2}
    assert draft.document["training"]["effective_batch"] == 4
    assert draft.reasons["training", "effective_batch"] == "about 180 training rows: 45 optimizer steps"
    assert draft.document["training"]["evaluations_per_epoch"] == 4


def test_many_rows_leave_split_and_batch_at_their_defaults():
    document = draft_study(WISHES, Known(rows=report(5000))).document
    assert "split" not in document["data"]
    assert "training" not in document


@pytest.mark.parametrize(
    "fits, method, reason",
    [
        ({"lora": True, "qlora": True}, "lora", "the model fits 24 GB in 16 bits"),
        (
            {"lora": False, "qlora": True},
            "qlora",
            "in 16 bits the model does not fit 24 GB, with the base in 4 bits it does",
        ),
        (
            {"lora": False, "qlora": False},
            "qlora",
            "in 16 bits the model does not fit 24 GB, and in 4 bits neither does it",
        ),
        ({}, "lora", "whether it fits 24 GB cannot be told: the model's config.json is not on this machine"),
    ],
)
def test_the_base_is_held_in_4_bits_where_only_that_fits(fits: dict[str, bool], method: str, reason: str):
    draft = draft_study(WISHES, Known(memory_gb=24.0, fits=fits))
    assert StudySpec.model_validate(draft.document).training.method == method
    assert reason in draft.reasons.values()


@pytest.mark.parametrize(
    "billions, low, high", [(0.001, 2e-4, 2e-2), (0.5, 1e-4, 5e-3), (7.6, 3e-5, 1e-3), (70.0, 1e-5, 3e-4)]
)
def test_smaller_models_are_searched_at_larger_learning_rates(billions: float, low: float, high: float):
    rate = study(WISHES, Known(billions=billions)).space.resolve().parameters["learning_rate"]
    assert (rate.low, rate.high, rate.log) == (low, high, True)


def test_only_the_hyper_parameters_that_were_named_are_searched():
    made = study(Wishes("small", "rows.jsonl", only=("learning_rate", "lora_rank", "lora_dropout")))
    assert set(made.space.resolve().parameters) == {"learning_rate", "lora_rank", "lora_dropout"}


def test_of_those_that_were_named_the_learning_rate_follows_the_size():
    made = study(Wishes("small", "rows.jsonl", method="qlora", only=("learning_rate",)), Known(billions=0.001))
    assert made.space.resolve().parameters["learning_rate"].high == 2e-2
    assert made.training.method == "qlora"


def test_a_hyper_parameter_without_a_usual_range_cannot_be_named():
    with pytest.raises(UsageError, match="--only momentum: no usual range"):
        draft_study(Wishes("small", "rows.jsonl", only=("momentum",)), Known())


def test_any_key_can_be_asked_for_and_goes_before_what_would_be_chosen():
    keys = {("data", "max_length"): 64, ("space", "parameters"): {"lora_rank": {"choices": [8, 16]}}, ("name",): "own"}
    draft = draft_study(Wishes("small", "rows.jsonl", keys=keys), Known(rows=report(5000), billions=0.5))
    assert draft.document["data"]["max_length"] == 64
    assert draft.document["name"] == "own"
    assert ("data", "max_length") not in draft.reasons
    assert ("space", "parameters", "learning_rate") not in draft.reasons


@pytest.mark.parametrize(
    "text, read", [("20h", (None, 20.0)), ("1.5 hours", (None, 1.5)), ("40", (40, None)), ("12 trials", (12, None))]
)
def test_a_budget_is_hours_or_trials(text: str, read: tuple[int | None, float | None]):
    assert read_budget(text) == read


@pytest.mark.parametrize("text", ["", "0", "0h", "-3h", "20 GB", "h"])
def test_a_budget_that_is_neither_is_refused(text: str):
    with pytest.raises(UsageError, match="write device hours, as in 20h"):
        read_budget(text)


def test_the_range_holds_the_learning_rate_that_somebody_begins_with():
    keys = {("search", "enqueue"): [{"learning_rate": 1e-5}, {"lora_rank": 8}, {"learning_rate": "fast"}, "a"]}
    draft = draft_study(Wishes("small", "rows.jsonl", keys=keys), Known(billions=7.0))
    rate = draft.document["space"]["parameters"]["learning_rate"]
    assert (rate["low"], rate["high"]) == (1e-5, 1e-3)
    assert draft.reasons["space", "parameters", "learning_rate"].endswith("wide enough for what is enqueued")
    assert draft_study(Wishes("small", "rows.jsonl", keys={("search", "enqueue"): 3}), Known(billions=7.0)).document


def test_a_method_asked_for_by_its_key_has_its_own_space_and_no_reason_of_another():
    keys = {("training", "method"): "full"}
    draft = draft_study(
        Wishes("small", "rows.jsonl", keys=keys), Known(billions=0.5, memory_gb=24.0, fits={"lora": True})
    )
    assert draft.document["space"] == {"preset": "full"}
    assert draft.document["training"]["method"] == "full"
    assert not any("16 bits" in reason for reason in draft.reasons.values())
