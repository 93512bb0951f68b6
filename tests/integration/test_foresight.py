"""What a confirm stage can see is told from what earlier studies measured, else from an assumption that is said."""

from __future__ import annotations

import pytest

from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.states import StudyState

OWN = {"confirm": {"default": {"x": 0.9, "y": 0.9}, "seeds": 3}}


def spec(**sections):
    given = {"name": "later", "objective": {"python": "nobody:calls_it"}, "search": {"budget": {"trials": 4}}}
    space = {"parameters": {"x": {"low": 0.0, "high": 1.0}, "y": {"low": 0.0, "high": 1.0}}}
    return StudySpec.model_validate({**given, "space": space, **OWN, **sections})


def test_without_an_earlier_study_it_is_assumed(bench):
    found = bench.service.foresight.sensitivity(spec())
    assert not found.measured
    assert "assumed, since no earlier study here" in found.sentence()
    more = bench.service.foresight.sensitivity(spec(confirm={**OWN["confirm"], "seeds": 6}))
    assert more.smallest < found.smallest


def test_an_earlier_study_of_the_same_objective_tells(bench):
    bench.create(**OWN)
    while (claimed := bench.claim()) is not None or bench.service.stages.advance_all():
        if claimed is not None:  # without scores: the seeds' values are compared
            bench.complete(claimed, 100.0 + claimed.config.seed % 7 + float(claimed.config.parameters["x"]))
    assert bench.state() is StudyState.FINISHED
    found = bench.service.foresight.sensitivity(spec())
    assert found.measured
    assert "as the runs of s differed, which confirmed with the same objective" in found.sentence()
    comparison = bench.service.reader.evidence(bench.service.reader.snapshot("s")).comparison
    assert found.smallest == pytest.approx(comparison.smallest)
    other = bench.service.foresight.sensitivity(spec(objective={"python": "another:one"}))
    assert not other.measured


@pytest.mark.parametrize("confirm", [{"enabled": False}, {"seeds": 3}])
def test_a_study_that_compares_with_nothing_sees_nothing(bench, confirm):
    assert bench.service.foresight.sensitivity(spec(confirm=confirm)) is None


def test_test_rows_count_where_the_file_says_how_many(bench):
    def trained(rows):
        data = {"source": "org/rows", "split": {"validation": 0.1, "test": 0.2}} | ({"max_rows": rows} if rows else {})
        given = {"objective": None, "model": {"base": "org/small"}, "data": data, "space": {"preset": "minimal"}}
        return bench.service.foresight.sensitivity(spec(**given, confirm={"seeds": 3}))

    few, many, unknown = trained(500), trained(50_000), trained(None)
    assert few.smallest > many.smallest > unknown.smallest
    assert "of 100 test rows" in few.why
    assert "does not say how many" in unknown.why
