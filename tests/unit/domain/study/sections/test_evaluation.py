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
