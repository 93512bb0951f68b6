"""A stage that is planned again keeps what it has, and two configurations never share a name."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from hpo_service.domain.decide.planning.replanning import NOT_PLANNED, Standing, replanned
from hpo_service.domain.study.search_space import canonical_key
from hpo_service.domain.trial.planned import PlannedTrial
from hpo_service.domain.trial.states import TrialState


def winner(x: float, seed: int, label: str = "winner 1") -> PlannedTrial:
    return PlannedTrial(
        role="winner", label=label, parameters={"x": x}, seed=seed, reason=f"{label} with new seed {seed}"
    )


def default(x: float, seed: int) -> PlannedTrial:
    return PlannedTrial(role="default", label="default", parameters={"x": x}, seed=seed)


def standing(id: int, trial: PlannedTrial, state: TrialState = TrialState.COMPLETE, reason: str = "") -> Standing:
    return Standing(id, trial.role, trial.label, dict(trial.parameters), trial.seed, state, reason)


def test_only_what_is_missing_is_added() -> None:
    found = replanned(
        [winner(1, 7), winner(1, 8), default(2, 7)], [standing(1, winner(1, 7)), standing(2, default(2, 7))]
    )
    assert [trial.seed for trial in found.added] == [8]
    assert (found.kept, found.again, found.left_out) == (2, [], [])
    assert found.sentence == "2 of the planned trials are there, 1 are added"


def test_a_new_winner_gets_a_name_of_its_own_and_the_default_stays_what_it_was() -> None:
    found = replanned(
        [winner(3, 7), default(9, 7), default(9, 8)], [standing(1, winner(1, 7)), standing(2, default(2, 7))]
    )
    assert [(trial.label, trial.parameters, trial.seed) for trial in found.added] == [
        ("winner 2", {"x": 3}, 7),
        ("default", {"x": 2}, 8),
    ]
    assert found.added[0].reason == "winner 2 with new seed 7"


def test_what_waits_and_is_not_planned_any_more_is_left_out_and_what_runs_is_not() -> None:
    there = [
        standing(1, winner(1, 7), TrialState.WAITING),
        standing(2, winner(1, 8), TrialState.RUNNING),
        standing(3, winner(3, 7), TrialState.CANCELLED, f"{NOT_PLANNED}: others were better"),
        standing(4, winner(3, 8), TrialState.CANCELLED, "somebody stopped it"),
    ]
    found = replanned([winner(3, 7), winner(3, 8)], there)
    assert (found.left_out, found.again, found.kept, found.added) == ([1], [3], 1, [])
    assert found.sentence.endswith("1 are added, 1 that waited are left out")


PLANS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.booleans()), max_size=12, unique=True)


@given(PLANS, PLANS)
def test_planning_twice_adds_nothing_more_and_names_tell_configurations_apart(first, second) -> None:  # type: ignore[no-untyped-def]
    def planned(plan):  # type: ignore[no-untyped-def]
        ranks = list(dict.fromkeys(x for x, _, is_default in plan if not is_default))
        return [default(99, seed) if d else winner(x, seed, f"winner {1 + ranks.index(x)}") for x, seed, d in plan]

    there = [standing(i, trial) for i, trial in enumerate(replanned(planned(first), []).added)]
    found = replanned(planned(second), there)
    there += [standing(100 + i, trial) for i, trial in enumerate(found.added)]
    assert replanned(planned(second), there).added == []
    named = {(trial.label, trial.parameters["x"]) for trial in there}
    assert len({label for label, _ in named}) == len(named)


def test_what_a_sampler_proposed_meanwhile_is_not_planned_as_well() -> None:
    parameters = {"x": 0.5}
    wanted = PlannedTrial(role="search", label="", parameters=parameters, seed=1, dedupe_key=canonical_key(parameters))
    proposed = Standing(1, "gp", "", dict(parameters), 1, TrialState.COMPLETE)
    assert replanned([wanted], [proposed]).added == []
    assert replanned([replace(wanted, dedupe_key=None)], [proposed]).added == [replace(wanted, dedupe_key=None)]
