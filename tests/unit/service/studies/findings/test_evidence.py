"""What a study is said to have found, from complete and from partial results."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from hpo_service.domain.trial.facts import RunFacts
from hpo_service.domain.trial.scores import Scores, Split
from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.service.studies.findings.evidence import Evidence, LoadScores, Verdict, gather_evidence, resolved
from hpo_service.service.studies.snapshot import StageView, StudySnapshot, TrialView
from tests.unit.presentation import story


def found(snapshot: StudySnapshot) -> Evidence:
    return gather_evidence(snapshot, lambda trial_id, split: story.scores(trial_id, split, finished=snapshot))


def confirmed(stage: StageView, **spec: Any) -> Evidence:
    return found(story.snapshot(story.search_stage(), story.verify_stage(), stage, **spec))


def changed(stage: StageView, role: str, **changes: Any) -> StageView:
    """The stage with some fields of all trials of a role changed."""
    return story.with_trials(stage, [replace(t, **changes) if t.role == role else t for t in stage.trials])


OWN = {"model": None, "data": None, "objective": {"python": "mine:objective"}, "space": {"preset": "minimal"}}


def own_objective(stage: StageView, **more: Any) -> StudySnapshot:
    spec = story.SPEC | OWN | more
    snapshot = story.snapshot(story.search_stage(), stage)
    return replace(snapshot, spec=type(snapshot.spec).model_validate({k: v for k, v in spec.items() if v is not None}))


def test_a_winner_that_is_better_on_the_test_rows_is_called_so_and_exported() -> None:
    evidence = found(story.snapshot())
    assert evidence.verdict is Verdict.BETTER
    assert evidence.sentence.startswith("the winner is better than the default by 3.")
    assert "95% interval" in evidence.sentence
    assert evidence.recommended is evidence.winner
    assert evidence.exported is not None
    assert evidence.exported.seed == 1042, "the seed with the lowest validation value"
    assert "winner 1 2.6900, default 2.7800" in evidence.choice
    assert evidence.export == "seed 1042 has the lowest validation value of 3: 2.6840"
    assert evidence.remarks == []
    assert evidence.selected_on == "validation mean NLL per token"


def test_every_seed_is_listed_with_what_it_measured() -> None:
    winner, default = found(story.snapshot()).configurations
    assert [run.seed for run in winner.runs] == [1042, 1043, 1044]
    assert winner.validation == sum(run.validation for run in winner.runs) / 3
    assert default.label == "default"
    assert default.test is not None
    assert default.test > winner.test


def test_a_winner_that_is_worse_is_called_worse_and_the_default_recommended() -> None:
    evidence = confirmed(story.confirm_stage(gain=-0.05))
    assert evidence.verdict is Verdict.WORSE
    assert evidence.sentence.startswith("the winner is WORSE than the default")
    assert evidence.recommended is evidence.default
    assert any("the default has the best mean validation value itself" in remark for remark in evidence.remarks)


def test_a_winner_like_the_default_is_not_distinguishable() -> None:
    evidence = confirmed(story.confirm_stage(gain=0.0))
    assert evidence.verdict is Verdict.UNCLEAR
    assert "not distinguishable from the default" in evidence.sentence


def test_a_running_confirm_stage_gives_a_preliminary_verdict() -> None:
    evidence = confirmed(story.confirm_stage(4))
    assert evidence.comparison is not None
    assert evidence.comparison.seeds == 2
    assert "preliminary: 2 of 6 confirm runs have not ended" in evidence.remarks


def test_one_seed_each_claims_nothing() -> None:
    evidence = confirmed(story.confirm_stage(2))
    assert evidence.verdict is Verdict.UNCLEAR
    assert "no interval" in evidence.sentence


def test_without_a_run_of_the_default_nothing_is_compared() -> None:
    evidence = confirmed(story.confirm_stage(1))
    assert evidence.verdict is Verdict.UNTESTED
    assert evidence.sentence == "not compared: no run of the default has ended with a finite value"
    assert evidence.recommended is evidence.winner


def test_without_a_run_of_the_winner_the_default_is_recommended() -> None:
    evidence = confirmed(changed(story.confirm_stage(), "winner", state=TrialState.FAILED, value=None, reason="NaN"))
    assert evidence.winner is None
    assert evidence.sentence == "not compared: no run of the winner has ended with a finite value"
    assert evidence.recommended is not None
    assert evidence.recommended.label == "default"
    assert "winner 1 with seed 1043 is failed and not counted: NaN" in evidence.remarks


def test_a_seed_that_failed_is_named_and_left_out() -> None:
    stage = story.confirm_stage()
    trials = [
        replace(t, state=TrialState.FAILED, value=None, reason="boom") if t.id == 202 else t for t in stage.trials
    ]
    evidence = confirmed(story.with_trials(stage, trials))
    assert evidence.comparison is not None
    assert evidence.comparison.seeds == 2
    assert evidence.remarks == ["winner 1 with seed 1043 is failed and not counted: boom"]


def diverging(stage: StageView, role: str, seeds: int) -> StageView:
    """The stage with so many runs of a role ended as diverged."""
    lost = [t.id for t in stage.trials if t.role == role][:seeds]
    ended = {"state": TrialState.PRUNED, "value": None, "reason": "diverged: the training loss became nan"}
    return story.with_trials(stage, [replace(t, **ended) if t.id in lost else t for t in stage.trials])


def test_a_winner_that_diverges_in_a_third_of_its_seeds_is_not_called_better_nor_recommended() -> None:
    evidence = confirmed(diverging(story.confirm_stage(), "winner", 1))
    assert evidence.verdict is Verdict.UNCLEAR
    assert evidence.sentence.startswith(
        "not called better, 1 of 3 seeds of the winner ended without a finite value; by the other seeds the winner is"
    )
    assert evidence.recommended is not None
    assert evidence.recommended.label == "default"
    assert "winner 1 is not recommended: it failed in 1 of 3 seeds" in evidence.remarks


def test_two_of_three_diverging_seeds_leave_nothing_to_claim() -> None:
    evidence = confirmed(diverging(story.confirm_stage(), "winner", 2))
    assert evidence.verdict is not Verdict.BETTER
    assert evidence.recommended is not None
    assert evidence.recommended.label == "default"


def test_a_default_that_diverges_is_said_first_and_the_winner_recommended() -> None:
    evidence = confirmed(diverging(story.confirm_stage(), "default", 1))
    assert evidence.sentence.startswith("1 of 3 seeds of the default ended without a finite value; the winner is")
    assert evidence.recommended is not None
    assert evidence.recommended.label == "winner 1"


def test_the_better_of_several_winners_is_compared_and_all_intervals_are_kept() -> None:
    stage = story.confirm_stage()
    second = [
        replace(t, id=t.id + 50, label="winner 2", value=(t.value or 0) + 0.02)
        for t in stage.trials
        if t.role == "winner"
    ]
    evidence = confirmed(story.with_trials(stage, [*stage.trials, *second]))
    assert evidence.winner is not None
    assert evidence.winner.label == "winner 1"
    assert set(evidence.comparisons) == {"winner 1", "winner 2"}
    assert evidence.comparison == evidence.comparisons["winner 1"]


def test_without_scores_of_test_rows_the_seeds_values_are_compared_and_that_is_said() -> None:
    evidence = gather_evidence(story.snapshot(), lambda trial_id, split: None)
    assert evidence.comparison is not None
    assert evidence.comparison.examples == 0
    assert any("test rows were not scored for both" in remark for remark in evidence.remarks)
    assert evidence.configurations[0].test is None


def test_scores_of_other_rows_are_not_compared_with_each_other() -> None:
    def scores(trial_id: int, split: str) -> Scores | None:
        known = story.scores(trial_id, split)
        return known if trial_id % 2 or known is None else Scores(nll=known.nll[:-1], tokens=known.tokens[:-1])

    evidence = gather_evidence(story.snapshot(), scores)
    assert evidence.comparison is not None
    assert evidence.comparison.examples == 0
    assert any("were not scored on the same rows" in remark for remark in evidence.remarks)


def test_few_test_rows_are_remarked_upon() -> None:
    def scores(trial_id: int, split: str) -> Scores | None:
        known = story.scores(trial_id, split)
        return known and Scores(nll=known.nll[:10], tokens=known.tokens[:10])

    evidence = gather_evidence(story.snapshot(), scores)
    assert "only 10 test rows: an interval from so few is a rough guide" in evidence.remarks


def test_an_own_objective_is_compared_by_its_values_in_its_direction() -> None:
    own = own_objective(
        story.confirm_stage(), search={"direction": "maximize"}, confirm={"default": {"learning_rate": 2e-4}}
    )
    evidence = gather_evidence(own, lambda trial_id, split: None)
    assert evidence.direction.maximize
    assert (evidence.measure, evidence.selected_on) == ("value", "value")
    assert evidence.verdict is Verdict.WORSE, "the winner's values are lower"
    assert evidence.recommended is evidence.default
    assert not any("test rows" in remark for remark in evidence.remarks)
    assert resolved(own.spec, {}) is None


def test_an_own_objective_without_a_default_has_nothing_to_beat() -> None:
    stage = story.confirm_stage()
    own = own_objective(story.with_trials(stage, [t for t in stage.trials if t.role == "winner"]))
    evidence = gather_evidence(own, lambda trial_id, split: None)
    assert evidence.sentence == "not compared: there is no default to beat; name one under confirm.default"
    assert evidence.recommended is evidence.winner


def test_without_confirm_the_best_of_the_last_stage_is_named_with_the_remark_that_it_was_not_confirmed() -> None:
    snapshot = story.snapshot(
        story.search_stage(), story.verify_stage(), state=StudyState.FINISHED, confirm={"enabled": False}
    )
    evidence = found(snapshot)
    assert evidence.stage == "verify"
    assert evidence.verdict is Verdict.UNTESTED
    assert evidence.sentence.startswith("not confirmed: verify #2 has the best validation value so far")
    assert any("confirm is switched off" in remark for remark in evidence.remarks)
    assert evidence.exported is not None
    assert evidence.exported.number == 2


def test_a_confirm_stage_in_which_all_failed_falls_back_on_the_stage_before() -> None:
    failed = {"state": TrialState.FAILED, "value": None, "reason": "boom"}
    stage = changed(changed(story.confirm_stage(), "winner", **failed), "default", **failed)
    evidence = confirmed(stage, confirm={"seeds": 3})
    assert evidence.stage == "verify"
    assert evidence.remarks == ["no run of the confirm stage ended with a finite value"]


def test_a_study_that_ended_early_says_why_there_is_no_proof() -> None:
    snapshot = replace(story.snapshot(story.search_stage(4)), state=StudyState.CANCELLED, reason="enough")
    assert found(snapshot).remarks == ["the study ended before its confirm stage: enough"]


def test_a_study_with_nothing_measured_says_so() -> None:
    evidence = found(story.snapshot(story.search_stage(0)))
    assert (evidence.stage, evidence.winner, evidence.recommended, evidence.exported) == (None, None, None, None)
    assert evidence.comparison is None
    assert evidence.sentence == "nothing was measured yet"
    assert evidence.remarks == ["the confirm stage has not measured anything yet"]


def test_a_study_without_a_target_says_that_nothing_was_carried_over() -> None:
    snapshot = story.snapshot(story.search_stage(), story.confirm_stage(), model={"base": "builtin:llama-tiny"})
    assert "searched and confirmed on the same model, builtin:llama-tiny" in found(snapshot).remarks


def test_the_complete_hyper_parameters_hold_what_is_fixed_and_what_was_found() -> None:
    snapshot = story.snapshot(story.search_stage(0), training={"scheduler": "linear"})
    settings = resolved(snapshot.spec, {"lora_rank": 8, "lora_alpha_multiplier": 2})
    assert settings is not None
    assert (settings.scheduler, settings.lora_rank, settings.alpha) == ("linear", 8, 16)


def test_a_trial_without_a_label_is_its_own_configuration() -> None:
    stage = story.confirm_stage()
    evidence = confirmed(story.with_trials(stage, [_unlabelled(t) for t in stage.trials]))
    assert len(evidence.configurations) == 2


def _unlabelled(trial: TrialView) -> TrialView:
    return replace(trial, label="") if trial.role == "winner" else trial


SELECTED = {"evaluation": {"select": "exact_match", "examples": 200}}


def answers(snapshot: StudySnapshot, right: dict[str, float]) -> LoadScores:
    """The answers to test rows: of each label so many are right, the same rows for all seeds but for a few."""
    labels = {t.id: t.label for view in snapshot.stages for t in view.trials}

    def load(trial_id: int, split: Split) -> Scores | None:
        if split != "test_answers" or labels.get(trial_id) not in right:
            return None
        luck = np.random.default_rng(trial_id).normal(0, 0.03, 200)
        return Scores.of_answers([float(row) for row in np.linspace(0, 1, 200) + luck < right[labels[trial_id]]])

    return load


def selected(values: dict[str, float], **spec: Any) -> StudySnapshot:
    """A confirm stage whose trials are worth what they answered to validation rows."""
    stage = story.confirm_stage()
    trials = [replace(t, value=values[t.label] + 0.01 * (t.seed - 1043)) for t in stage.trials]
    return story.snapshot(story.search_stage(), story.with_trials(stage, trials), **{**SELECTED, **spec})


def test_a_study_that_selects_on_a_metric_says_its_verdict_in_that_metric() -> None:
    snapshot = selected({"winner 1": 0.6, "default": 0.4})
    evidence = gather_evidence(snapshot, answers(snapshot, {"winner 1": 0.62, "default": 0.38}))
    assert evidence.verdict is Verdict.BETTER
    assert evidence.comparison is not None
    assert (evidence.comparison.unit, evidence.comparison.examples) == ("points", 200)
    assert " points of exact match, 0.6" in evidence.sentence
    assert " against 0.3" in evidence.sentence
    assert (evidence.selected_on, evidence.is_loss, evidence.metric) == ("validation exact match", False, True)
    assert evidence.exported is not None
    assert evidence.exported.seed == 1044, "the seed with the highest validation value"
    assert evidence.recommended is evidence.winner


def test_less_of_a_metric_is_worse() -> None:
    snapshot = selected({"winner 1": 0.4, "default": 0.6})
    evidence = gather_evidence(snapshot, answers(snapshot, {"winner 1": 0.38, "default": 0.62}))
    assert evidence.verdict is Verdict.WORSE
    assert evidence.recommended is evidence.default


def test_a_metric_that_gives_one_number_is_compared_by_the_test_values_of_the_seeds() -> None:
    snapshot = selected({"winner 1": 4.0, "default": 3.0}, evaluation={"select": "python:my:score"})
    tested = {"winner 1": 5.0, "default": 4.0}
    stage = snapshot.stages[-1]
    trials = [
        replace(t, facts=RunFacts.of({"metric:my:score": tested[t.label] + 0.01 * (t.seed - 1043)}))
        for t in stage.trials
    ]
    snapshot = replace(snapshot, stages=[*snapshot.stages[:-1], story.with_trials(stage, trials)])
    evidence = gather_evidence(snapshot, lambda trial_id, split: None)
    assert evidence.sentence.startswith("the winner is better than the default by 1.00 in test my:score, 5 against 4")
    assert any("gives one number and none for each row" in remark for remark in evidence.remarks)


def test_values_stand_in_where_test_rows_were_not_answered() -> None:
    evidence = gather_evidence(selected({"winner 1": 0.6, "default": 0.4}), lambda trial_id, split: None)
    assert "20.00 points of validation exact match, 0.6 against 0.4" in evidence.sentence
    assert any("test rows were not scored for both" in remark for remark in evidence.remarks)


def test_before_anything_is_confirmed_the_metric_is_named() -> None:
    evidence = found(story.snapshot(story.search_stage(), **SELECTED))
    assert "has the best validation exact match so far" in evidence.sentence
