"""The table of events: every kind has a text, and every move of a study or trial a kind."""

from __future__ import annotations

from hpo_service.domain.events import OF_STUDY, OF_TRIAL, TEXTS, EventKind
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
