"""Studies advance by themselves: each stage opens from the results of the one before, with its reasons."""

from __future__ import annotations

import math

import pytest

from hpo_service.domain.events import EventKind
from hpo_service.domain.trial.outcome import OutcomeKind
from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.errors import ConflictError, NotFoundError


def loss_of(assignment):
    """Lower learning rates lose: the order of configurations is known."""
    return 1.0 / float(assignment.config.parameters["learning_rate"])


def test_a_study_goes_through_all_three_stages(bench, trained):
    bench.create(**trained)
    bench.service.queue.describe("s", trained.facts)
    assert bench.drain_queue(loss_of) == 4 + 9 + 4
    snapshot = bench.service.reader.snapshot("s")
    assert snapshot.state is StudyState.FINISHED
    assert [view.stage for view in snapshot.stages] == ["search", "verify", "confirm"]
    assert all(view.reason for view in snapshot.stages)
    search, verify, confirm = snapshot.stages
    best = search.best()
    carried = [t for t in verify.trials if t.origin_id == best.id]
    assert [t.label for t in carried] == [f"search #{best.number}, lr x {factor}" for factor in ("0.5", "1", "2")]
    factor = carried[1].parameters["learning_rate"] / best.parameters["learning_rate"]
    by_rank = (carried[1].parameters["lora_rank"] / best.parameters["lora_rank"]) ** -0.5
    assert factor == pytest.approx(0.5 * by_rank), "hidden size 64 to 256: (64/256)^0.5, and alpha grows with rank"
    assert carried[1].parameters["lora_rank"] == min(64, 2 * best.parameters["lora_rank"])
    winners = [t for t in confirm.trials if t.role == "winner"]
    assert len({t.seed for t in winners}) == 2
    assert {t.seed for t in winners}.isdisjoint({t.seed for t in search.trials})
    defaults = [t for t in confirm.trials if t.role == "default"]
    assert [t.parameters["learning_rate"] for t in defaults] == [2e-4, 2e-4]


def test_a_bracket_whose_best_lies_at_its_edge_goes_on_and_the_default_runs_beside_it(bench, trained):
    trained["transfer"] = {"top": 1}
    bench.create(**trained)
    bench.service.queue.describe("s", trained.facts)
    assert bench.drain_queue(loss_of) == 4 + (3 + 1 + 3) + 4, "higher is always better here: three steps are allowed"
    _, verify, _ = bench.service.reader.snapshot("s").stages
    assert [t.label.rpartition(" ")[2] for t in verify.trials] == ["0.5", "1", "2", "default", "4", "8", "16"]
    assert [t.role for t in verify.trials] == ["carried"] * 3 + ["control"] + ["extended"] * 3
    assert verify.budget == 7
    assert "is the best and the highest of the bracket" in verify.plan["trials"][verify.trials[-1].label]
    events = bench.service.events.list("s", last=None)
    assert [e.kind for e in events if e.kind == EventKind.STAGE_EXTENDED] == [EventKind.STAGE_EXTENDED] * 3


def test_the_control_stops_nobody_and_is_stopped_by_nobody(bench, trained):
    trained["transfer"] = {"top": 2, "extend": 0}
    bench.create(**trained, training={"evaluations_per_epoch": 4}, search={"budget": {"trials": 4}})
    bench.service.queue.describe("s", trained.facts)
    while (assignment := bench.claim()) is not None:
        bench.complete(assignment, loss_of(assignment))
    bench.service.stages.advance_all()
    waiting = [bench.must_claim() for _ in range(7)]
    roles = {t.id: t.role for t in bench.trials("verify")}
    control = next(a for a in waiting if roles[a.lease.trial_id] == "control")
    others = [a for a in waiting if a is not control]
    assert bench.report(control, 1, 0.1).action == "continue"
    decisions = [bench.report(a, 1, 1.0 + i).action for i, a in enumerate(others)]
    assert decisions == ["continue"] * 3 + ["prune"] * 3, "four values make a comparison, and the control's is none"
    assert bench.report(control, 2, 99.0).action == "continue"


def test_a_calibrated_study_learns_from_the_one_before(bench, trained):
    trained["transfer"] = {"top": 1, "control": False, "extend": 0, "bracket": [2.0]}
    bench.create(**trained)
    bench.service.queue.describe("s", trained.facts)
    bench.drain_queue(loss_of)
    trained["transfer"] = {"top": 1, "control": False, "extend": 0, "bracket": [1.0], "rule": "calibrated"}
    bench.create(name="t", **trained)
    bench.service.queue.describe("t", trained.facts)
    bench.drain_queue(loss_of)
    [trial] = bench.service.reader.snapshot("t").stages[1].trials
    reason = bench.service.reader.snapshot("t").stages[1].plan["trials"][trial.label]
    assert "(64/256)^0.25 (learned from s)" in reason, "what was found, width^0, and what was believed, halved"


def test_advancing_twice_changes_nothing_more(bench, trained):
    study = bench.create(**trained)
    bench.service.queue.describe("s", trained.facts)
    while (assignment := bench.claim()) is not None:
        bench.complete(assignment, loss_of(assignment))
    assert bench.service.stages.advance(study.id) is True
    assert bench.service.stages.advance(study.id) is False
    assert len(bench.trials("verify")) == 9


def test_a_stage_stays_open_while_a_trial_runs(bench):
    bench.create()
    running = [bench.must_claim() for _ in range(4)]
    for assignment in running[1:]:
        bench.complete(assignment)
    assert bench.service.stages.advance_all() is False
    bench.complete(running[0])
    assert bench.service.stages.advance_all() is True


def test_pruned_trials_are_never_carried_over(bench, trained):
    bench.create(**trained)
    bench.service.queue.describe("s", trained.facts)
    first = bench.must_claim()
    bench.report(first, 1, 0.001)
    bench.end(first, OutcomeKind.PRUNED, value=0.001)
    bench.drain_queue(loss_of)
    assert all(t.origin_id != first.lease.trial_id for t in bench.trials("verify"))


def test_a_study_whose_first_trials_all_fail_gives_up_with_their_reason(bench):
    bench.create()
    for _ in range(3):
        bench.end(bench.must_claim(), OutcomeKind.ERROR, retryable=False)
    bench.service.stages.advance_all()
    snapshot = bench.service.reader.snapshot("s")
    assert snapshot.state is StudyState.FAILED
    assert "3 trials failed and none succeeded" in snapshot.reason
    assert bench.claim() is None


def test_a_study_without_a_complete_trial_fails_with_the_stage_it_could_not_open(bench, trained):
    bench.create(**trained)
    while (assignment := bench.claim()) is not None:
        bench.end(assignment, OutcomeKind.PRUNED, value=1.0)
    bench.service.stages.advance_all()
    snapshot = bench.service.reader.snapshot("s")
    assert snapshot.state is StudyState.FAILED
    assert "verify cannot start" in snapshot.reason


@pytest.mark.parametrize("trials", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", [OutcomeKind.PRUNED, OutcomeKind.INFEASIBLE, OutcomeKind.ERROR])
def test_a_study_that_measured_nothing_has_failed_at_any_budget(bench, trials, kind):
    bench.create(search={"budget": {"trials": trials}, "pruner": "none"})
    while (assignment := bench.claim()) is not None:
        bench.end(assignment, kind, **({"retryable": False} if kind is OutcomeKind.ERROR else {}))
    assert bench.service.stages.advance_all() is True
    snapshot = bench.service.reader.snapshot("s")
    assert snapshot.state is StudyState.FAILED
    assert "search measured nothing" in snapshot.reason or "none succeeded" in snapshot.reason


def test_a_complete_trial_without_a_finite_value_measured_nothing(bench):
    bench.create(search={"budget": {"trials": 1}, "pruner": "none"})
    bench.complete(bench.must_claim(), float("nan"))
    bench.service.stages.advance_all()
    snapshot = bench.service.reader.snapshot("s")
    assert snapshot.state is StudyState.FAILED
    assert "no trial of search ran to the end with a finite value (1 " in snapshot.reason


@pytest.mark.parametrize("trials", [1, 2])
def test_a_small_study_that_failed_goes_on_after_it_is_resumed(bench, trials):
    bench.create(search={"budget": {"trials": trials}, "pruner": "none"})
    for _ in range(trials):
        bench.end(bench.must_claim(), OutcomeKind.ERROR, retryable=False)
    bench.service.stages.advance_all()
    bench.service.studies.steer("s", StudyState.ACTIVE, "mended")
    assert bench.drain_queue() == trials
    assert bench.state() is StudyState.FINISHED


def failed_beside_a_complete_one(bench):
    bench.create(search={"budget": {"trials": 2}, "pruner": "none"})
    bench.complete(bench.must_claim())
    failed = bench.must_claim()
    bench.end(failed, OutcomeKind.ERROR, retryable=False)
    bench.service.stages.advance_all()
    assert bench.state() is StudyState.FINISHED
    return failed


def test_resuming_a_finished_study_opens_its_last_stage_for_what_failed_there(bench):
    failed_beside_a_complete_one(bench)
    bench.service.studies.steer("s", StudyState.ACTIVE, "mended")
    assert bench.drain_queue() == 1
    assert bench.state() is StudyState.FINISHED
    with pytest.raises(ConflictError, match="finished"):
        bench.service.studies.steer("s", StudyState.ACTIVE, "nothing is left to mend")


def test_a_failed_trial_of_a_finished_study_is_retried(bench):
    failed = failed_beside_a_complete_one(bench)
    bench.service.studies.retry_trial("s", "search", failed.number)
    assert bench.drain_queue() == 1
    assert bench.state() is StudyState.FINISHED


def test_creating_the_same_study_again_changes_nothing(bench):
    assert bench.create().id == bench.create().id


def test_another_study_of_the_same_name_is_refused_and_what_differs_is_named(bench):
    bench.create()
    with pytest.raises(ConflictError, match=r"differs in search\.budget\.trials"):
        bench.create(search={"budget": {"trials": 9}, "pruner": "none"})


def test_a_study_with_running_trials_is_not_deleted(bench):
    bench.create()
    assignment = bench.must_claim()
    with pytest.raises(ConflictError, match="1 running trials"):
        bench.service.studies.delete("s")
    bench.complete(assignment)
    bench.service.studies.delete("s")
    with pytest.raises(NotFoundError):
        bench.service.reader.snapshot("s")
    assert bench.create().state is StudyState.ACTIVE


def test_a_finished_study_cannot_be_paused(bench):
    bench.create()
    bench.drain_queue()
    with pytest.raises(ConflictError, match="finished"):
        bench.service.studies.steer("s", StudyState.PAUSED, "late")


def test_cancelling_ends_waiting_trials_at_once(bench):
    bench.create()
    bench.end(bench.must_claim(), OutcomeKind.RELEASED)
    bench.service.studies.steer("s", StudyState.CANCELLED, "no more")
    assert [t.state for t in bench.trials()] == [TrialState.CANCELLED]


def test_own_objectives_are_confirmed_only_against_a_default_that_is_given(bench):
    bench.create(confirm={"seeds": 2})
    bench.drain_queue()
    assert {t.role for t in bench.trials("confirm")} == {"winner"}
    bench.create(name="t", confirm={"seeds": 2, "default": {"x": 0.5, "y": 0.5}})
    bench.drain_queue()
    roles = [t.role for t in bench.trials("confirm", "t")]
    assert (roles.count("winner"), roles.count("default")) == (2, 2)


def rate_of(assignment):
    """The learning rate that a trial is given, on a logarithmic scale: 1e-3 is the best."""
    return 1.0 + abs(math.log10(float(assignment.config.parameters["learning_rate"]) / 1e-3))


@pytest.mark.parametrize(
    "protocol, trials",
    [
        ("quick", {"quick": 3 + 2, "confirm": 4}),
        ("progressive", {"coarse": 4, "fine": 4, "verify": 3, "confirm": 4}),
        ("proxy", {"proxy": 8, "recheck": 2, "verify": 3, "confirm": 4}),
        ("random", {"search": 8, "verify": 3, "confirm": 4}),
    ],
)
def test_a_study_goes_through_the_stages_of_its_protocol(bench, trained, protocol, trials):
    trained["transfer"] = {"top": 2, "bracket": [1.0], "extend": 0}
    search = {"budget": {"trials": 8}, "pruner": "none"}
    bench.create(**trained, protocol=protocol, search=search, training={"evaluations_per_epoch": 1})
    bench.service.queue.describe("s", trained.facts)
    bench.drain_queue(rate_of)
    snapshot = bench.service.reader.snapshot("s")
    assert snapshot.state is StudyState.FINISHED, snapshot.reason
    assert {view.stage: len(view.trials) for view in snapshot.stages} == trials
    first, *others = snapshot.stages
    shares = {"quick": {0.2, 1.0}, "progressive": {0.25}, "proxy": {0.25}, "random": {1.0}}
    assert {t.share for t in first.trials} == shares[protocol]
    assert {t.share for view in others for t in view.trials} == {1.0}


def test_the_fine_stage_begins_with_the_best_of_the_coarse_one(bench, trained):
    bench.create(**trained, protocol="progressive", search={"budget": {"trials": 12}, "pruner": "none"})
    bench.service.queue.describe("s", trained.facts)
    bench.drain_queue(rate_of)
    coarse, fine = bench.service.reader.snapshot("s").stages[:2]
    best = coarse.best()
    begun = [t for t in fine.trials if t.origin_id is not None]
    assert begun[0].origin_id == best.id
    assert fine.trials[: len(begun)] == begun
    assert len(fine.trials) == 6
    rates = [t.parameters["learning_rate"] for t in fine.trials]
    everywhere = [t.parameters["learning_rate"] for t in coarse.trials]
    assert max(rates) / min(rates) < max(everywhere) / min(everywhere)
