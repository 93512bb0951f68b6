"""The table of events: every kind has a text, and every move of a study or trial a kind."""

from __future__ import annotations

from hpo_service.domain.events import OF_STUDY, OF_TRIAL, OWN_ACCORD, TEXTS, EventKind, is_told
from hpo_service.domain.trial.endings import ENDINGS
from hpo_service.domain.trial.states import StudyState, TrialEvent


def test_every_kind_has_a_text_and_fits_its_column():
    assert list(TEXTS) == list(EventKind)
    assert all(len(kind) <= 32 for kind in EventKind)


def test_every_move_is_a_kind_of_event_but_a_report():
    assert set(OF_STUDY) == set(StudyState)
    assert set(OF_TRIAL) == set(TrialEvent) - {TrialEvent.REPORT}
    assert set(ENDINGS) <= set(OF_TRIAL)
    assert len({*OF_STUDY.values(), *OF_TRIAL.values()}) == len(OF_STUDY) + len(OF_TRIAL)


def test_webhooks_are_told_of_ends_and_trouble_and_not_of_what_people_did():
    assert is_told(EventKind.STUDY_PAUSED, "one error after the other", "")
    assert not is_told(EventKind.STUDY_PAUSED, "night", "ann@desk")
    assert is_told(EventKind.WORKER_LEFT, "the GPU fell off the bus", "")
    assert not is_told(EventKind.WORKER_LEFT, OWN_ACCORD, "")
    assert not is_told(EventKind.TRIAL_PRUNED, "worse than half", "")
