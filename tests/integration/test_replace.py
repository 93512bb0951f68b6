"""A study that measured nothing gives way to the corrected file; what was measured is never thrown away."""

from __future__ import annotations

import pytest

from hpo_service.domain.events import EventKind
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.outcome import OutcomeKind
from hpo_service.domain.trial.states import StudyState
from hpo_service.errors import ConflictError


def corrected(bench, name="s"):
    with bench.service.db.transaction(read_only=True):
        given = bench.service.study_rows.get("s").specification().model_dump(exclude_unset=True)
    return StudySpec.model_validate({**given, "name": name, "objective": {"python": "mended:module"}})


def failed(bench, trials=3):
    bench.create()
    for _ in range(trials):
        bench.end(bench.must_claim(), OutcomeKind.ERROR, retryable=False)
    bench.service.stages.advance_all()
    assert bench.state() is StudyState.FAILED


def test_a_study_that_failed_without_a_result_is_replaced_with_the_reason(bench):
    failed(bench)
    row = bench.service.replacements.replace(corrected(bench))
    assert (row.state, row.spec["objective"]["python"]) == (StudyState.ACTIVE, "mended:module")
    assert bench.trials() == []
    (event,) = [e for e in bench.service.events.list(study="s") if e.kind == EventKind.STUDY_REPLACED]
    assert event.reason.startswith("in place of one that was failed and had measured nothing: 3 trials failed")


def test_a_new_study_is_created_and_the_very_same_one_stays(bench):
    failed(bench)
    assert bench.service.replacements.replace(corrected(bench, "other")).name == "other"
    with bench.service.db.transaction(read_only=True):
        row = bench.service.study_rows.get("s")
    assert bench.service.replacements.replace(row.specification()).id == row.id


def test_a_study_at_work_is_not_replaced(bench):
    bench.create()
    with pytest.raises(ConflictError, match="is active, and only one that failed can be replaced"):
        bench.service.replacements.replace(corrected(bench))


def test_what_was_measured_is_not_thrown_away(bench):
    bench.create()
    bench.complete(bench.must_claim(), 1.0)
    bench.service.studies.steer("s", StudyState.CANCELLED, "enough")
    with pytest.raises(ConflictError, match=r"has measured something \(1 trials have ended with a value"):
        bench.service.replacements.replace(corrected(bench))


def test_a_single_report_is_a_measurement(bench):
    bench.create()
    running = bench.must_claim()
    bench.report(running, 1, 2.0)
    bench.service.studies.steer("s", StudyState.CANCELLED, "enough")
    bench.end(running, OutcomeKind.CANCELLED)
    with pytest.raises(ConflictError, match="1 have reported one"):
        bench.service.replacements.replace(corrected(bench))
