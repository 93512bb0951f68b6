"""Task metrics and trackers in a study file: what is taken, and what is refused with a remedy."""

import pytest
from pydantic import ValidationError

from hpo_service.domain.study.sections.evaluation import EvaluationSpec
from hpo_service.domain.study.sections.tracking import TrackingSpec
from hpo_service.domain.study.spec import StudySpec

TRAINED = {"name": "s", "model": {"base": "org/small"}, "data": {"source": "rows.jsonl"}}
OWN = {"name": "s", "objective": {"python": "a:b"}, "space": {"parameters": {"x": {"low": 0.0, "high": 1.0}}}}


def refused(**sections):
    with pytest.raises(ValidationError) as caught:
        StudySpec.model_validate(sections)
    (error,) = caught.value.errors()
    return ".".join(map(str, error["loc"])), error["msg"]


def test_by_default_nothing_is_measured_or_told_beside_the_loss():
    spec = StudySpec.model_validate(TRAINED)
    assert (spec.evaluation.metrics, spec.tracking.trackers) == ([], [])


def test_metrics_are_named_or_functions_of_ones_own():
    spec = StudySpec.model_validate({**TRAINED, "evaluation": {"metrics": ["rouge_l", "python:my.metrics:bleu"]}})
    assert spec.evaluation.stages == ["confirm"]


@pytest.mark.parametrize(
    "metrics, reason",
    [
        (["rougel"], "rougel is no metric; the nearest is rouge_l"),
        (["accuracy!"], "accuracy! is no metric; those are exact_match, token_f1, rouge_l"),
        (["my.metrics:bleu"], "or python:package.module:function for one of your own"),
        (["rouge_l", "rouge_l"], "names a metric twice"),
    ],
)
def test_other_metrics_are_refused_with_the_nearest(metrics, reason):
    with pytest.raises(ValidationError, match=reason):
        EvaluationSpec(metrics=metrics)


def test_a_tracker_is_named_once():
    with pytest.raises(ValidationError, match="names a tracker twice"):
        TrackingSpec(trackers=["wandb", "wandb"])


def test_metrics_of_stages_that_do_not_happen_are_refused():
    for sections in ({"confirm": {"enabled": False}}, {"evaluation": {"metrics": ["rouge_l"], "stages": ["verify"]}}):
        place, reason = refused(**{**TRAINED, "evaluation": {"metrics": ["rouge_l"]}, **sections})
        assert place == "evaluation.stages"
        assert "no trial would be measured" in reason
        assert "switch confirm on, or name a model.target" in reason
    target = {"base": "org/small", "target": "org/large"}
    both = {"evaluation": {"metrics": ["rouge_l"], "stages": ["verify"]}, "confirm": {"enabled": False}}
    StudySpec.model_validate({**TRAINED, "model": target, **both})


def test_an_own_objective_measures_and_tells_by_itself():
    assert refused(**OWN, evaluation={"metrics": ["rouge_l"]})[0] == "evaluation.metrics"
    assert refused(**OWN, tracking={"trackers": ["wandb"]})[0] == "tracking.trackers"


def test_a_study_that_selects_on_a_metric_maximises_it():
    spec = StudySpec.model_validate({**TRAINED, "evaluation": {"select": "exact_match"}})
    assert spec.search.direction.maximize
    assert StudySpec.model_validate(spec.model_dump(mode="json", exclude_unset=True)) == spec


def test_what_is_selected_on_must_be_a_metric():
    place, reason = refused(**TRAINED, evaluation={"select": "exact_mach"})
    assert place == "evaluation.select"
    assert "exact_mach is no metric; the nearest is exact_match" in reason


def test_less_of_our_metrics_is_never_better():
    place, reason = refused(**TRAINED, evaluation={"select": "rouge_l"}, search={"direction": "minimize"})
    assert (place, reason) == ("search.direction", "of rouge_l more is better: drop direction")
    own = {"evaluation": {"select": "python:my:errors"}, "search": {"direction": "minimize"}}
    assert not StudySpec.model_validate({**TRAINED, **own}).search.direction.maximize


def test_a_loss_is_not_maximised():
    place, reason = refused(**TRAINED, search={"direction": "maximize"})
    assert place == "search.direction"
    assert "a loss is minimised" in reason


@pytest.mark.parametrize("data, reason", [({"format": "text"}, "no prompts"), ({"learn": "all"}, "data.learn")])
def test_rows_that_are_known_to_have_no_prompts_cannot_be_selected_on(data, reason):
    sections = {**TRAINED, "data": {**TRAINED["data"], **data}, "evaluation": {"select": "exact_match"}}
    place, said = refused(**sections)
    assert place == "evaluation.select"
    assert reason in said


def test_a_metric_that_is_selected_on_is_measured_whatever_the_stages():
    sections = {"confirm": {"enabled": False}, "evaluation": {"metrics": ["rouge_l"], "select": "rouge_l"}}
    assert StudySpec.model_validate({**TRAINED, **sections}).evaluation.select == "rouge_l"


def test_an_own_objective_reports_what_is_selected_on():
    assert refused(**OWN, evaluation={"select": "rouge_l"})[0] == "evaluation.select"


def test_a_sharded_base_answers_nothing():
    execution = {"gpus_per_trial": 2, "sharding": "fsdp"}
    place, reason = refused(**TRAINED, evaluation={"select": "rouge_l"}, execution=execution)
    assert place == "execution.sharding"
    assert "drop evaluation.select" in reason
