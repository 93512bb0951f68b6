"""One trial on one screen, and as JSON."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console, Group

from hpo_service.cli.rendering.trial import trial_parts
from hpo_service.cli.trial import place_of
from hpo_service.domain.trial.facts import RunFacts
from hpo_service.errors import UsageError
from hpo_service.presentation.documents.trial import trial_document
from hpo_service.presentation.trial_text import sparkline
from hpo_service.service.studies.trial_record import TrialRecord
from hpo_service.storage.trial.attempts import AttemptRow
from tests.unit.presentation import story

FACTS = {"seconds_train": 12.3456, "tokens": 4096, "data_fingerprint": "f" * 64, "metric:rouge_l": 0.4321}


def record(**changes):
    trial = story.confirm_stage(adapter="/elsewhere/adapter").trials[0]
    metrics = {"train_loss": 3.1, "learning_rate": 2e-4, "tokens_per_second": 12345.6}
    curve = [replace(report, metrics=metrics) for report in trial.curve]
    attempts = [
        AttemptRow(1, trial.id, 1, 1, "w1", 1.0, 0.0, 2.0, "loss", "worker w1 fell silent", 2.0),
        AttemptRow(2, trial.id, 2, 2, "w2", 1.0, 3.0, None, None, "", None),
    ]
    trial = replace(trial, curve=curve, attempt=2, facts=RunFacts.of(FACTS), **changes)
    return TrialRecord("quickstart", story.snapshot().spec, "confirm", trial, attempts, "verify #3")


def text(shown, folders=()):
    console = Console(width=100, file=io.StringIO(), record=True, soft_wrap=True, highlight=False)
    console.print(Group(*trial_parts(shown, folders)))
    return console.export_text()


def test_everything_about_a_trial_is_on_one_screen(tmp_path):
    shown = record()
    folder = tmp_path / "quickstart" / "trials" / "confirm-0000" / "attempt-2"
    (folder / "adapter").mkdir(parents=True)
    folders = shown.folders(tmp_path)
    assert folders == [folder]
    screen = " ".join(text(shown, folders).split())
    value = f"{shown.trial.value:.4f}"
    for part in (
        "quickstart/confirm #0 (winner 1) complete",
        f"value {value}, perplexity 1",
        "rouge_l 0.432",
        "carried on from verify #3",
        "model builtin:llama-small",
        "34 s in 2 attempts",
        "train loss lr tokens/s",
        "12346",
        "1 loss 2.0 w1 worker w1 fell silent",
        "2 running w2",
        "seconds_train 12.35",
        "data_fingerprint ffffffffffff…",
        f"{folder}: adapter",
        "the adapter is not on this machine: look for /elsewhere/adapter",
    ):
        assert part in screen
    assert sparkline([report.value for report in shown.trial.curve]) in screen


def test_a_trial_that_waits_has_no_curve_and_no_facts():
    shown = record(value=None)
    waiting = replace(
        shown, trial=replace(shown.trial, curve=[], facts=RunFacts(), adapter=None), attempts=[], origin=""
    )
    screen = text(waiting)
    assert "curve" not in screen
    assert "facts" not in screen
    assert "carried on" not in screen


def test_as_json_nothing_is_cut_and_nothing_is_not_a_number():
    shown = record(value=1e5)
    document = json.loads(json.dumps(trial_document(shown, []), allow_nan=False))
    assert document["perplexity"] is None
    assert document["facts"]["data_fingerprint"] == "f" * 64
    assert document["curve"][0]["metrics"]["train_loss"] == 3.1
    assert [attempt["outcome"] for attempt in document["attempts"]] == ["loss", None]
    assert (document["study"], document["stage"], document["origin"]) == ("quickstart", "confirm", "verify #3")


def test_a_curve_is_drawn_from_its_lowest_to_its_highest():
    assert sparkline([3.0, 2.0, None, 1.0]) == "█▅·▁"
    assert sparkline([2.0, 2.0]) == "▁▁"
    assert sparkline([]) == ""


@pytest.mark.parametrize(
    "given, place", [("confirm/2", ("confirm", 2)), ("7", ("search", 7)), ("verify/#3", ("verify", 3))]
)
def test_a_trial_is_named_by_stage_and_number(given, place):
    assert place_of(given) == place


@pytest.mark.parametrize("given", ["confirm", "final/2", "search/first", "a/b/3"])
def test_what_names_no_trial_is_refused_with_an_example(given):
    with pytest.raises(UsageError, match=r"names no trial: write STAGE/NUMBER, e.g. confirm/2"):
        place_of(given)
