"""The recipe is the run that is handed over, complete; its curve says whether more epochs are worth a try."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hpo_service.domain.study.spec import StudySpec
from hpo_service.errors import ConflictError, UsageError
from hpo_service.service.studies.findings.evidence import gather_evidence
from hpo_service.service.studies.snapshot import StudySnapshot
from hpo_service.service.studies.winner.recipe import epochs_advice, recipe_of
from tests.unit.presentation import story


def finished(**changes: Any) -> StudySnapshot:
    return replace(
        story.snapshot(), stages=[story.search_stage(), story.verify_stage(), story.confirm_stage()], **changes
    )


def test_the_recipe_is_of_the_run_that_is_handed_over_on_the_model_it_was_trained_on() -> None:
    snapshot = finished()
    evidence = gather_evidence(snapshot, story.scores)
    recipe = recipe_of(snapshot, evidence, epochs=3)
    assert evidence.exported is not None
    assert evidence.recommended is not None
    assert recipe.trial == f"confirm #{evidence.exported.number}"
    assert recipe.seed == evidence.exported.seed
    assert recipe.base == "builtin:llama-small"
    assert recipe.training.learning_rate == evidence.recommended.parameters["learning_rate"]
    assert (recipe.training.epochs, recipe.searched_epochs) == (3, 1)
    assert recipe.micro_batch * recipe.accumulation == recipe.training.effective_batch


def test_without_a_number_the_epochs_are_those_of_the_study() -> None:
    snapshot = finished()
    assert recipe_of(snapshot, gather_evidence(snapshot, story.scores)).training.epochs == 1


def test_a_study_that_has_measured_nothing_recommends_nothing() -> None:
    snapshot = replace(story.snapshot(), stages=[story.search_stage(ended=0)])
    with pytest.raises(ConflictError, match=r"recommends nothing yet.*let it run"):
        recipe_of(snapshot, gather_evidence(snapshot, story.scores))


def test_an_objective_of_ones_own_is_trained_by_itself_alone() -> None:
    own = {"name": "own", "objective": {"python": "m:f"}, "space": {"parameters": {"x": {"low": 0.0, "high": 1.0}}}}
    snapshot = finished(spec=StudySpec.model_validate(own))
    with pytest.raises(UsageError, match="objective of its own"):
        recipe_of(snapshot, gather_evidence(snapshot, story.scores))


@pytest.mark.parametrize(
    "values, said",
    [
        ([4.0, 3.5, 3.2, 3.0, 2.9], "more epochs are worth a try: the validation loss still fell by 3.3%"),
        ([4.0, 3.0, 2.9, 2.895, 2.894], "more epochs promise little"),
        ([4.0, 2.5, 2.6, 2.8, 3.0], "fewer epochs: the validation loss ends 20.0% above its best"),
    ],
)
def test_the_curve_says_whether_more_epochs_are_worth_a_try(values: list[float], said: str) -> None:
    snapshot = finished()
    evidence = gather_evidence(snapshot, story.scores)
    assert evidence.exported is not None
    shown = evidence.exported.trial_id
    share = 1 / len(values)

    def bent(trial: Any) -> Any:
        if trial.id != shown:
            return trial
        first = trial.curve[0]
        curve = [replace(first, step=n, fraction=n * share, value=value) for n, value in enumerate(values, start=1)]
        return replace(trial, curve=curve)

    stages = [replace(stage, trials=[bent(trial) for trial in stage.trials]) for stage in snapshot.stages]
    assert epochs_advice(replace(snapshot, stages=stages), evidence).startswith(said)
