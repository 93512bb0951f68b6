"""A study takes more trials, seeds and values, and everything it measured stays."""

from __future__ import annotations

import pytest

from hpo_service.domain.events import EventKind
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.studyfile.extension import Extension, Wider
from hpo_service.domain.trial.outcome import OutcomeKind
from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.errors import ConflictError, UsageError

OWN = {"confirm": {"default": {"x": 0.9, "y": 0.9}, "seeds": 2}}


def distance(assignment):
    return 1 + float(assignment.config.parameters["x"]) + float(assignment.config.parameters["y"])


def extend(bench, **more):
    return bench.service.extensions.extend("s", Extension(**more))


def finished(bench, **sections):
    bench.create(**{**OWN, **sections})
    bench.drain_queue(distance)
    assert bench.service.reader.snapshot("s").state is StudyState.FINISHED
    return measured(bench)


def measured(bench):
    stages = bench.service.reader.snapshot("s").stages
    return {(view.stage, t.number): (t.value, t.state) for view in stages for t in view.trials}


def kept(bench, before):
    return before.items() <= measured(bench).items()


def test_more_seeds_add_confirmation_runs_and_nothing_else(bench):
    before = finished(bench)
    done = extend(bench, seeds=4)
    assert done.reason == "extended: 2 to 4 seeds each"
    assert done.study.state is StudyState.ACTIVE
    assert bench.drain_queue(distance) == 4, "two more of the winner, two more of the default"
    assert kept(bench, before)
    evidence = bench.service.reader.evidence(bench.service.reader.snapshot("s"))
    assert evidence.comparison.seeds == 4
    assert len({t.seed for t in bench.trials("confirm")}) == 4


def test_more_trials_search_on_and_a_winner_that_stays_is_not_run_again(bench):
    before = finished(bench)
    extend(bench, trials=6)
    assert bench.drain_queue(lambda a: 9.0 + distance(a)) == 2, "worse ones: the winner stays as it is"
    assert kept(bench, before)
    assert len(bench.trials("confirm")) == 4
    snapshot = bench.service.reader.snapshot("s")
    assert snapshot.state is StudyState.FINISHED
    assert "4 of the planned trials are there, 0 are added" in snapshot.stage("confirm").plan["why"]


def test_a_better_winner_is_confirmed_beside_the_one_before_and_the_same_default(bench):
    before = finished(bench)
    extend(bench, trials=6)
    assert bench.drain_queue(lambda a: 0.01 * distance(a)) == 2 + 2, "the default's runs are not repeated"
    assert kept(bench, before)
    evidence = bench.service.reader.evidence(bench.service.reader.snapshot("s"))
    assert [c.label for c in evidence.configurations] == ["winner 1", "default", "winner 2"]
    assert evidence.winner.label == "winner 2"
    assert len(evidence.default.runs) == 2


def test_all_three_stages_go_on_where_a_model_has_a_target(bench, trained):
    bench.create(**trained)
    bench.service.queue.describe("s", trained.facts)
    total = bench.drain_queue(lambda a: 1.0 / float(a.config.parameters["learning_rate"]))
    extend(bench, trials=6)
    assert bench.drain_queue(lambda a: 9e9) == 2
    assert len(bench.service.reader.snapshot("s").stages) == 3
    assert sum(len(bench.trials(stage)) for stage in ("search", "verify", "confirm")) == total + 2


def test_what_waits_behind_the_search_waits_until_it_has_ended(bench):
    bench.create(**OWN)
    for _ in range(4):
        bench.complete(a := bench.must_claim(), distance(a))
    bench.service.stages.advance_all()
    first = bench.must_claim()
    extend(bench, trials=5)
    assert bench.must_claim().stage == "search"
    assert bench.claim() is None
    assert bench.complete(first, 2.0) is TrialState.COMPLETE, "what runs behind it ends as it would"
    assert [view.open for view in bench.service.reader.snapshot("s").stages] == [True, False]


def test_runs_that_wait_for_a_winner_of_before_are_left_out_and_taken_up_again(bench):
    bench.create(**OWN)
    for _ in range(4):
        bench.complete(a := bench.must_claim(), distance(a))
    bench.service.stages.advance_all()
    extend(bench, trials=5)
    bench.complete(bench.must_claim(), 0.001)
    bench.service.stages.advance_all()
    old = [t for t in bench.trials("confirm") if t.label == "winner 1"]
    assert {t.state for t in old} == {TrialState.CANCELLED}
    assert all(t.reason.startswith("not planned any more: ") for t in old)
    extend(bench, trials=6)
    best = bench.trials("search")[-1]
    bench.complete(bench.must_claim(), 0.5)
    assert best.value == 0.001
    bench.service.stages.advance_all()
    assert bench.drain_queue(distance) == 4
    assert bench.service.reader.snapshot("s").state is StudyState.FINISHED


def test_a_wider_range_is_searched_and_needs_trials(bench):
    finished(bench)
    ranges = {"x": Wider(ends=(-5.0, 1.0))}
    with pytest.raises(ConflictError, match=r"would run nothing more .*give --trials above 4 too"):
        extend(bench, ranges=ranges)
    assert bench.service.reader.snapshot("s").state is StudyState.FINISHED, "nothing is written then"
    extend(bench, trials=30, ranges=ranges)
    bench.drain_queue(distance)
    assert min(t.parameters["x"] for t in bench.trials("search")) < 0


def test_choices_are_added_behind_those_there_are(bench):
    space = {"parameters": {"x": {"low": 0.0, "high": 1.0}, "y": {"choices": [1, 2]}}}
    finished(bench, space=space, confirm={"enabled": False})
    extend(bench, trials=24, ranges={"y": Wider(choices=("1", "2", "4"))})
    bench.drain_queue(distance)
    assert {t.parameters["y"] for t in bench.trials("search")} == {1, 2, 4}


def test_a_grid_that_was_gone_through_goes_on_with_its_new_points(bench):
    space = {"parameters": {"x": {"low": 0, "high": 2, "type": "int"}, "y": {"choices": [1]}}}
    search = {"sampler": "grid", "pruner": "none", "budget": {"trials": 10}}
    finished(bench, space=space, search=search, confirm={"enabled": False})
    assert len(bench.trials("search")) == 3
    extend(bench, ranges={"x": Wider(ends=(0, 4))})
    assert bench.drain_queue(distance) == 2


def test_a_study_that_failed_goes_on_with_its_failed_trials(bench):
    bench.create(**OWN)
    for _ in range(3):
        bench.end(bench.must_claim(), OutcomeKind.ERROR, retryable=False)
    bench.service.stages.advance_all()
    assert bench.service.reader.snapshot("s").state is StudyState.FAILED
    extend(bench, trials=5)
    assert bench.drain_queue(distance) == 5 + 4
    assert bench.service.reader.snapshot("s").state is StudyState.FINISHED


def test_a_running_search_only_gets_more_room(bench):
    bench.create(**OWN)
    running = bench.must_claim()
    extend(bench, trials=7, seeds=3)
    bench.complete(running, 1.0)
    assert bench.drain_queue(distance) == 6 + 6


def test_the_file_before_and_the_extended_one_are_the_same_study(bench):
    finished(bench)
    before = bench.service.study_rows
    with bench.service.db.transaction(read_only=True):
        made_of = before.get("s").specification()
    extend(bench, trials=6)
    with bench.service.db.transaction(read_only=True):
        now = before.get("s").specification()
    assert now.search.budget.trials == 6
    assert bench.service.studies.create(made_of).id == bench.service.studies.create(now).id
    other = StudySpec.model_validate({**now.model_dump(exclude_unset=True), "search": {"budget": {"trials": 9}}})
    with pytest.raises(ConflictError, match=r"differs in .*search.budget.trials.*where it asks for more, `hpo-service"):
        bench.service.studies.create(
            other.model_copy(update={"search": now.search.model_copy(update={"budget": other.search.budget})})
        )


def test_an_extension_is_an_event_with_its_reason(bench):
    finished(bench)
    extend(bench, trials=6)
    kinds = {event.kind: event for event in bench.service.events.list(study="s")}
    assert kinds[EventKind.STUDY_EXTENDED].reason == "extended: 4 to 6 search trials"
    assert EventKind.STAGE_REOPENED in kinds


def test_less_or_the_same_is_refused_and_a_cancelled_study_too(bench):
    finished(bench)
    for more in ({"trials": 3}, {"trials": 4}, {"seeds": 2}, {"gpu_hours": 1.0}, {"ranges": {"x": Wider((0.2, 0.5))}}):
        with pytest.raises(UsageError):
            extend(bench, **more)
    bench.service.extensions.extend("s", Extension(trials=5))
    bench.service.studies.steer("s", StudyState.CANCELLED, "enough")
    with pytest.raises(ConflictError, match="study resume s` first"):
        extend(bench, trials=9)


def test_a_search_in_two_parts_goes_on_in_both(bench, trained):
    bench.create(**{**trained, "protocol": "progressive", "confirm": {"enabled": False}})
    bench.service.queue.describe("s", trained.facts)
    bench.drain_queue(lambda a: 1.0 / float(a.config.parameters["learning_rate"]))
    before = measured(bench)
    extend(bench, trials=8)
    bench.drain_queue(lambda a: 9e9)
    assert kept(bench, before)
    snapshot = bench.service.reader.snapshot("s")
    assert snapshot.state is StudyState.FINISHED
    assert [view.tally.total for view in snapshot.stages[:2]] == [4, 4]


def test_a_study_without_a_search_takes_seeds_alone(bench, trained):
    bench.create(**{**trained, "protocol": "quick"})
    bench.service.queue.describe("s", trained.facts)
    bench.drain_queue(lambda a: 1.0 / float(a.config.parameters["learning_rate"]))
    with pytest.raises(ConflictError, match="has no search"):
        extend(bench, trials=30)
    extend(bench, seeds=3)
    assert bench.drain_queue(lambda a: 1.0) == 2
