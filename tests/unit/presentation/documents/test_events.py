"""Events as people and machines read them: one line or one object each."""

from __future__ import annotations

from dataclasses import replace

from hpo_service.presentation.documents.events import event_document, event_line
from hpo_service.storage.events import EventRow

PRUNED = EventRow(
    7, 1769851810.5, "mine", "search", 3, 7, "w1", "trial_pruned", "above the\nmedian", {"attempt": 1, "value": 2.5}
)


def test_an_event_is_one_line_with_time_place_reason_and_who():
    assert event_line(PRUNED) == "2026-01-31 09:30:10  mine search #7  trial pruned: above the median (w1)"
    asked = replace(PRUNED, kind="trial_stop_asked", details={"by": "ann@desk"})
    assert event_line(asked).endswith("trial stop asked: above the median (w1, by ann@desk)")


def test_a_worker_that_the_reason_names_is_not_named_twice():
    assert event_line(replace(PRUNED, reason="taken by w1")).endswith("taken by w1")


def test_an_event_of_a_worker_or_of_a_planned_trial_says_what_it_is_about():
    joined = replace(PRUNED, study=None, stage=None, number=None, kind="worker_joined", reason="registered")
    assert event_line(joined).endswith("  w1  worker joined: registered")
    planned = replace(PRUNED, number=None, worker=None, kind="trial_promoted", details={"label": "winner 1"})
    assert "  mine search winner 1  trial promoted: " in event_line(planned)


def test_a_kind_of_a_later_version_is_shown_too():
    assert "trial teleported" in event_line(replace(PRUNED, kind="trial_teleported"))


def test_machines_get_the_time_twice_and_everything_else_as_it_is():
    document = event_document(PRUNED)
    assert (document["at"], document["time"]) == (1769851810.5, "2026-01-31T09:30:10.500+00:00")
    assert (document["kind"], document["reason"], document["details"]) == (PRUNED.kind, PRUNED.reason, PRUNED.details)
