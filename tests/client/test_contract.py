"""What a client does, whichever way it asks."""

from __future__ import annotations

import csv
import threading
from itertools import islice
from pathlib import Path

import pytest

from hpo_service import errors
from hpo_service.client import Record, Records
from hpo_service.client.client import Client
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from tests.web.conftest import study_file

DICTIONARY = {
    "name": "other",
    "objective": {"python": "nobody:calls_it"},
    "space": {"parameters": {"x": {"low": 0.0, "high": 1.0}}},
    "search": {"budget": {"trials": 3}},
}


@pytest.fixture
def mine(client, site) -> Client:
    client.create(study_file())
    site.run("mine", value=0.7)
    site.run("mine", value=0.3)
    site.run("mine", value=0.9, kind=OutcomeKind.PRUNED)
    return client


def test_a_study_is_created_from_a_text_a_dictionary_and_a_file(client, tmp_path: Path):
    assert client.create(study_file())["state"] == "active"
    assert client.create(study_file())["name"] == "mine", "the very same one again changes nothing"
    assert client.create(DICTIONARY) == {"name": "other", "state": "active", "reason": "created"}
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    file = tmp_path / "third.yaml"
    file.write_text("name: third\nmodel: {base: builtin:llama-tiny}\ndata: {source: rows.jsonl}\n")
    client.create(file)
    assert client.study("third")["spec"]["data"]["source"] == str(tmp_path / "rows.jsonl")
    assert [study["name"] for study in client.studies()] == ["mine", "other", "third"]


def test_a_study_file_is_checked_without_creating_anything(client):
    assert client.validate(DICTIONARY)["study"]["search"]["budget"]["trials"] == 3
    assert client.studies() == []


def test_errors_are_those_of_the_command_line(mine):
    with pytest.raises(errors.NotFoundError, match="did you mean mine"):
        mine.study("mien")
    with pytest.raises(errors.StudyFileError) as found:
        mine.create(study_file("b").replace("trials:", "trails:"))
    assert (found.value.line, found.value.key) == (4, "search.budget.trails")
    with pytest.raises(errors.ConflictError, match="another specification"):
        mine.create(study_file(trials=6))
    with pytest.raises(errors.NotFoundError, match="has not been opened"):
        mine.trial("mine", "confirm", 0)
    with pytest.raises(errors.ConflictError, match="nothing to stop"):
        mine.stop("mine", "search", 0)
    with pytest.raises(errors.UsageError):
        mine.trials("mine", states=["odd"])
    with pytest.raises(errors.UsageError, match="name the study"):
        mine.events(trial=("search", 0))
    with pytest.raises(errors.NotFoundError, match="no export"):
        mine.export("mine", "nowhere", "xls")


def test_a_study_is_steered_and_its_events_say_why(mine):
    assert mine.pause("mine", "night")["state"] == "paused"
    assert mine.resume("mine")["state"] == "active"
    assert mine.drain("mine")["state"] == "draining"
    assert mine.cancel("mine", "wrong data")["reason"] == "wrong data"
    kinds = [(event["kind"], event["reason"]) for event in mine.events("mine", last=4)]
    assert kinds[0] == ("study_paused", "night")
    assert kinds[-1] == ("study_cancelled", "wrong data")
    mine.delete("mine")
    assert mine.studies() == []
    with pytest.raises(errors.NotFoundError):
        mine.delete("mine")


def test_trials_curves_and_one_trial_agree(mine, monkeypatch):
    monkeypatch.setattr("hpo_service.client.client.PAGE", 2)
    trials = mine.trials("mine")
    assert [trial["number"] for trial in trials] == [0, 1, 2]
    assert [trial["number"] for trial in mine.trials("mine", "search", states=["pruned"])] == [2]
    curves = mine.curves("mine")
    assert [(row["number"], row["step"], row["value"]) for row in curves] == [(0, 1, 0.7), (1, 1, 0.3), (2, 1, 0.9)]
    assert mine.trial("mine", "search", 1)["value"] == 0.3
    assert mine.study("mine")["stages"][0]["best"]["number"] == 1


def test_a_trial_is_stopped_and_tried_again(mine, site):
    held = site.claim("mine")
    assert mine.stop("mine", "search", held.number, "too slow")["state"] == "running", "it obeys at its next report"
    site.service.queue.finish(held.lease, Outcome(kind=OutcomeKind.CANCELLED, reason="too slow"))
    assert mine.trial("mine", "search", held.number)["state"] == "cancelled"
    assert mine.retry("mine", "search", held.number)["state"] == "waiting"


def test_workers_are_listed_and_drained(mine):
    (worker,) = mine.workers()
    assert mine.drain_worker(worker["id"], "maintenance") == {"id": "w1", "reason": "maintenance"}
    assert mine.events(worker="w1")[-1]["kind"] == "worker_draining"
    assert [e["kind"] for e in mine.events("mine", ("search", 0))] == ["trial_claimed", "trial_complete"]


def test_results_are_there(mine, tmp_path: Path):
    assert mine.verdict("mine")["recommended"] == "winner 1"
    assert mine.report("mine").lstrip().startswith("<!")
    assert "recommended: winner 1" in mine.best("mine")
    files = mine.export("mine", tmp_path / "tables")
    assert {file.name for file in files} == {"trials.csv", "curves.csv", "attempts.csv", "scores.csv"}
    with (tmp_path / "tables" / "trials.csv").open() as file:
        assert [row["number"] for row in csv.DictReader(file)] == ["0", "1", "2"]


def test_events_are_followed_each_once(mine, site):
    followed = mine.follow("mine", after=0)
    listed = mine.events("mine")
    assert list(islice(followed, len(listed))) == listed
    threading.Timer(0.2, lambda: site.run("mine")).start()
    assert [event["kind"] for event in islice(followed, 2)] == ["trial_claimed", "trial_complete"]
    followed.close()


def test_lists_are_frames_and_small_tables(mine):
    frame = mine.trials("mine").frame()
    assert frame["parameters.x"].between(0, 1).all()
    assert list(frame["state"]) == ["complete", "complete", "pruned"]
    assert "<table>" in mine._repr_html_()
    assert mine.trials("mine")._repr_html_().count("<tr>") == 4


def test_what_a_notebook_shows_is_small_and_takes_no_markup():
    many = Records({"name": f"<b>{'x' * 500}", "n": n} for n in range(1000))
    shown = many._repr_html_()
    assert "<b>" not in shown
    assert "980 more" in shown
    assert len(shown) < 20_000
    assert "&lt;i&gt;" in Record({"a": "<i>"})._repr_html_()
