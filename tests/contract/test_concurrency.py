"""Many at once, on every kind of database: budgets stay exact, claims stay single."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from hpo_service.domain.trial.states import TrialEvent, TrialState
from hpo_service.errors import StaleLeaseError

PEERS = 8


def together(work: Callable[[int], list[int]]) -> list[int]:
    """Run the work in every peer at once and return what all of them returned."""
    with ThreadPoolExecutor(PEERS) as pool:
        return [item for part in pool.map(work, range(PEERS)) for item in part]


def test_a_budget_is_spent_exactly(world, another):
    budget, peers = 40, [another() for _ in range(PEERS)]

    def admit_all(i: int) -> list[int]:
        peer = peers[i]
        admitted: list[int] = []
        while True:
            with peer.db.transaction():
                peer.studies.lock(peer.study.id)
                if peer.trials.tallies.total(peer.stage.id) >= budget:
                    return admitted
                admitted.append(peer.admit(key=f"{i}-{len(admitted)}", worker=f"w{i}").ordinal)

    assert sorted(together(admit_all)) == list(range(budget))


def test_a_configuration_that_all_propose_is_admitted_once(world, another):
    peers = [another() for _ in range(PEERS)]

    def admit(i: int) -> list[int]:
        peer = peers[i]
        with peer.db.transaction():
            stage = peer.lock_stage()
            trial = peer.trials.admit(
                stage,
                parameters={},
                dedupe_key="the same",
                role="search",
                seed=1,
                worker_id=f"w{i}",
                lease_seconds=60,
            )
        return [] if trial is None else [trial.id]

    assert len(together(admit)) == 1


def test_every_waiting_trial_is_claimed_once(world, another):
    planned, peers = world.plan(40), [another() for _ in range(PEERS)]

    def claim_all(i: int) -> list[int]:
        claimed = []
        while (trial := peers[i].claim(f"w{i}")) is not None:
            claimed.append(trial.id)
        return claimed

    assert sorted(together(claim_all)) == [row.id for row in planned]


def test_every_expired_trial_is_taken_back_once(world, another):
    expired, peers = [world.admit(lease=-1) for _ in range(20)], [another() for _ in range(PEERS)]

    def reap(i: int) -> list[int]:
        peer = peers[i]
        taken: list[int] = []
        while True:
            with peer.db.transaction():
                found = peer.trials.expired(limit=1)
                if not found:
                    return taken
                peer.trials.requeue(found[0].id, reason="fell silent", event=TrialEvent.EXPIRE)
                taken.append(found[0].id)

    assert sorted(together(reap)) == sorted(trial.id for trial in expired)
    assert {world.get(trial.id).losses for trial in expired} == {1}


def test_a_holder_and_the_reaper_never_both_win(world, another):
    trials, holder, reaper = [world.admit(lease=-1) for _ in range(20)], another(), another()

    def finish() -> list[int]:
        won = []
        for trial in trials:
            try:
                with holder.db.transaction():
                    holder.trials.hold(trial.lease)
                    holder.trials.settle(trial.id, TrialState.COMPLETE, reason="done", value=1.0)
                won.append(trial.id)
            except StaleLeaseError:
                pass
        return won

    def reap() -> list[int]:
        taken = []
        for _ in trials:
            with reaper.db.transaction():
                for trial in reaper.trials.expired(limit=1):
                    reaper.trials.requeue(trial.id, reason="fell silent", event=TrialEvent.EXPIRE)
                    taken.append(trial.id)
        return taken

    with ThreadPoolExecutor(2) as pool:
        finished, reaped = pool.submit(finish), pool.submit(reap)
        assert set(finished.result()).isdisjoint(reaped.result())
    with world.db.transaction():
        counts = world.counts()
    assert counts[TrialState.COMPLETE] == len(finished.result())
    assert counts[TrialState.WAITING] == len(reaped.result())


def test_a_stage_is_opened_by_one_of_many(world, another):
    peers = [another() for _ in range(PEERS)]

    def open_verify(i: int) -> list[int]:
        with peers[i].db.transaction():
            opened = peers[i].studies.open_stage(
                world.study.id,
                "verify",
                optuna_name="x/verify",
                trials=1,
                gpu_hours=None,
                space=world.stage.space,
                plan={},
                reason="search has ended",
            )
        return [] if opened is None else [opened.id]

    assert len(together(open_verify)) == 1
