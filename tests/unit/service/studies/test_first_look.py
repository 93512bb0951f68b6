"""What is asked of the child that looks at a study, and what is said where it cannot look."""

import json

import pytest

from hpo_service.domain.study.finding import Finding
from hpo_service.domain.study.spec import StudySpec
from hpo_service.errors import UnusableInputsError
from hpo_service.service.studies import first_look as module
from hpo_service.service.studies.first_look import first_look, refuse_unusable


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """A machine with a trainer and an empty cache of the hub's."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_DATASETS_CACHE", raising=False)
    monkeypatch.setattr(module, "is_installed", lambda _: True)


@pytest.fixture
def child(monkeypatch):
    """What the child was asked, and what it answers next."""
    asked, answers = [], [(0, json.dumps({"findings": []}), "")]

    def ask(name, request):
        asked.append((name, json.loads(request)))
        return answers[-1]

    monkeypatch.setattr(module, "ask", ask)
    return asked, answers


def study(base="builtin:llama-tiny", source="rows.jsonl", **model):
    return StudySpec.model_validate({"name": "s", "model": {"base": base, **model}, "data": {"source": source}})


def test_the_child_is_given_the_whole_study(child):
    asked, answers = child
    found = [{"level": "warning", "subject": "data", "what": "odd", "where": "rows.jsonl, line 1", "rows": 3}]
    answers.append((0, json.dumps({"findings": found}), ""))
    assert list(map(str, first_look(study()))) == ["rows.jsonl, line 1: odd (and 2 more rows)"]
    ((name, request),) = asked
    assert name == "hpo_service.training.look"
    assert StudySpec.model_validate(request["study"]) == study()
    assert request["rows"] == 200


def test_what_is_not_on_this_machine_needs_no_child(child):
    found = first_look(study("some/model", "some/data", target="other/model"))
    assert child[0] == []
    assert [(each.level, str(each).split(" is not on this machine")[0]) for each in found] == [
        ("unchecked", "some/data"),
        ("unchecked", "model some/model"),
        ("unchecked", "model other/model"),
    ]


@pytest.mark.parametrize("kept", ["hub/models--some--model", "hub/datasets--some--data", "datasets/some___data"])
def test_what_the_hubs_libraries_have_kept_is_looked_at(child, tmp_path, kept):
    (tmp_path / kept).mkdir(parents=True)
    first_look(study("some/model", "some/data"))
    assert len(child[0]) == 1


def test_without_a_trainer_nothing_is_looked_at_and_nothing_is_wrong(child, monkeypatch):
    monkeypatch.setattr(module, "is_installed", lambda name: name != "peft")
    ((level, what),) = [(each.level, str(each)) for each in first_look(study())]
    assert (level, child[0]) == ("unchecked", [])
    assert "no trainer is installed here: pip install 'hpo-service[train]'" in what


def test_a_child_that_dies_stops_no_study(child):
    child[1].append((137, "", "Killed"))
    (found,) = first_look(study())
    assert (found.level, str(found)) == (
        "unchecked",
        "rows and models were not looked at: the look ended with status 137: Killed",
    )
    refuse_unusable([found])


def test_an_objective_of_ones_own_has_nothing_to_look_at(child):
    own = {"name": "s", "objective": {"python": "a:b"}, "space": {"parameters": {"x": {"low": 0.0, "high": 1.0}}}}
    assert first_look(StudySpec.model_validate(own)) == child[0] == []


def test_every_error_is_told_and_warnings_are_none():
    found = [
        Finding(level="error", subject="data", what="no text", where="rows.jsonl, line 4", rows=2),
        Finding(level="error", subject="model", what="no end"),
        Finding(level="warning", subject="model", what="slow"),
    ]
    refuse_unusable(found[2:])
    with pytest.raises(UnusableInputsError, match=r"no text .*; no end") as refused:
        refuse_unusable(found)
    assert refused.value.lines == ["rows.jsonl, line 4: no text (and 1 more rows)", "no end"]
    assert [each["level"] for each in refused.value.findings] == ["error", "error", "warning"]
    assert refused.value.exit_code == 2
