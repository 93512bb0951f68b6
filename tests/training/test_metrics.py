"""Task metrics by hand, and functions of the user's own that go wrong."""

import sys
from types import ModuleType

import pytest

from hpo_service.domain.study.sections.evaluation import METRICS
from hpo_service.errors import TrialError
from hpo_service.training.scoring.metrics import BUILTIN, Measured, Sample, common_subsequence, measure


def sample(prediction, reference):
    return Sample("what?", reference, prediction)


def test_what_a_study_file_may_name_is_what_there_is():
    assert BUILTIN.keys() == METRICS.keys()


@pytest.mark.parametrize(
    "prediction, reference, exact, f1, rouge",
    [
        ("Paris", "Paris", 1, 1, 1),
        (" the  capital ", "the capital", 1, 1, 1),
        ("paris", "Paris", 0, 1, 1),
        ("It is Paris.", "Paris", 0, 0.5, 0.5),
        ("The dog bit a man", "A man bit the dog", 0, 1, 2 * 2 / 10),
        ("police killed the gunman", "police kill the gunman", 0, 2 / 3, 3 / 4),
        ("", "", 1, 1, 1),
        ("", "something", 0, 0, 0),
        ("the", "a", 0, 1, 0),
        ("größe zählt", "Größe zählt", 0, 1, 1),
    ],
)
def test_metrics_are_those_of_their_sources(prediction, reference, exact, f1, rouge):
    one = [sample(prediction, reference)]
    assert measure("exact_match", one).value == exact
    assert measure("token_f1", one).value == pytest.approx(f1)
    assert measure("rouge_l", one).value == pytest.approx(rouge)


def test_a_metric_is_the_mean_over_the_rows():
    rows = [sample("yes", "yes"), sample("no", "yes"), sample("yes", "yes"), sample("maybe", "no")]
    assert measure("exact_match", rows).value == 0.5


def test_the_longest_common_subsequence_may_have_gaps():
    assert common_subsequence("abcbdab", "bdcaba") == 4
    assert common_subsequence("abc", "") == 0


@pytest.fixture
def own(monkeypatch):
    module = ModuleType("metrics_of_the_test")
    module.length = lambda samples: sum(len(each.prediction) for each in samples)
    module.broken = lambda samples: 1 / 0
    module.text = lambda samples: "good"
    module.short = lambda samples: [1.0] * (len(samples) + 1)
    module.rows = lambda samples: [each.prediction == each.reference for each in samples]
    module.endless = lambda samples: float("inf")
    module.number = 7
    monkeypatch.setitem(sys.modules, "metrics_of_the_test", module)


def test_a_function_of_ones_own_sees_all_samples(own):
    assert measure("python:metrics_of_the_test:length", [sample("ab", ""), sample("c", "")]).value == 3.0


def test_a_function_of_ones_own_may_tell_of_each_sample(own):
    samples = [sample("ab", "ab"), sample("c", "d")]
    assert measure("python:metrics_of_the_test:rows", samples) == Measured(0.5, [1.0, 0.0])
    assert measure("python:metrics_of_the_test:length", samples).rows is None


@pytest.mark.parametrize(
    "name, reason",
    [
        ("broken", "raised ZeroDivisionError: division by zero"),
        ("text", "returned 'good': it must return a finite number"),
        ("short", "returned 2 values for 1 samples: it must return a finite number, or a list of one for each sample"),
        ("endless", "returned inf: it must return a finite number"),
        ("number", "is not a function"),
        ("missing", "cannot be imported .*start workers where Python finds it"),
    ],
)
def test_a_function_that_goes_wrong_is_named_with_the_reason(own, name, reason):
    with pytest.raises(TrialError, match=f"metric python:metrics_of_the_test:{name} {reason}"):
        measure(f"python:metrics_of_the_test:{name}", [sample("a", "b")])


def test_a_module_that_is_not_there_is_named_too():
    with pytest.raises(TrialError, match=r"metric python:nowhere.at.all:f cannot be imported \(No module named"):
        measure("python:nowhere.at.all:f", [sample("a", "b")])
