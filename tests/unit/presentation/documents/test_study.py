"""Studies as plain data."""

from __future__ import annotations

import json
import math
from dataclasses import replace

from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.facts import RunFacts
from hpo_service.presentation.documents.study import study_document, study_lines_document
from hpo_service.service.studies.overview import StudyLines
from tests.unit.presentation import story

STUDIES = [
    replace(story.snapshot(story.search_stage(11, 2)), reason="all [bold]is[/bold] well"),
    replace(
        story.snapshot(),
        name="own",
        spec=StudySpec.model_validate({"name": "own", "objective": {"python": "a:b"}, "space": {"preset": "minimal"}}),
    ),
    story.snapshot(story.search_stage(), model={"base": "one"}),
]
LINES = [story.line(snapshot) for snapshot in STUDIES]

UNREADABLE = {"theirs": "study theirs was made by another version: use that version"}


def test_a_study_as_data_has_stages_trials_and_curves() -> None:
    snapshot = story.snapshot()
    broken = replace(snapshot.stages[0].trials[0], facts=RunFacts.of({"best": math.nan}), value=math.inf)
    stage = story.with_trials(snapshot.stages[0], [broken, *snapshot.stages[0].trials[1:]])
    data = json.loads(json.dumps(study_document(replace(snapshot, stages=[stage])), allow_nan=False))
    first, second = data["stages"][0]["trials"][:2]
    assert (first["value"], first["facts"]["best"]) == (None, None)
    assert second["state"] == "complete"
    assert second["curve"][0]["fraction"] == 0.125
    assert data["spec"]["search"] == {"budget": {"trials": 16}}


def test_the_list_as_data_names_model_state_and_progress() -> None:
    first, second, _, theirs = json.loads(json.dumps(study_lines_document(StudyLines(LINES, UNREADABLE))))
    assert first["model"]["target"] == "builtin:llama-small"
    assert (first["stage"], first["trials_ended"], first["trials_budget"]) == ("search", 11, 16)
    assert (second["model"], second["state"]) == (None, "finished")
    assert theirs == {"name": "theirs", "state": "unreadable", "reason": UNREADABLE["theirs"]}
