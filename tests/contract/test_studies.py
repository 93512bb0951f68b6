"""The contract of studies, stages, workers and scores, on every kind of database."""

from __future__ import annotations

import math

import pytest

from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.model_facts import ModelFacts
from hpo_service.domain.trial.planned import PlannedTrial
from hpo_service.domain.trial.scores import Scores
from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.errors import ConflictError, NotFoundError
from hpo_service.storage import schema
from hpo_service.storage.dialects.clock import Now
from hpo_service.storage.trial.scores import ScoreStore
from hpo_service.storage.workers import WorkerState, WorkerStore


class TestStudies:
    def test_a_new_study_is_active_and_keeps_its_file(self, world, study_spec):
        with world.db.transaction():
            row = world.studies.get(world.study.name)
        assert row.state is StudyState.ACTIVE
        assert row.reason
        given = study_spec(row.name)
        # what was given stays apart from what was left to its default: checks of the file depend on it
        assert row.spec == given.model_dump(mode="json", exclude_unset=True)
        assert StudySpec.model_validate(row.spec) == given

    def test_a_name_is_taken_once(self, world, study_spec):
        with pytest.raises(ConflictError, match=world.study.name), world.db.transaction():
            world.studies.create(study_spec(world.study.name))

    def test_a_missing_study_is_answered_with_the_nearest_names(self, world):
        wrong = world.study.name[:-1] + "?"
        with world.db.transaction():
            assert world.studies.find(wrong) is None
        with pytest.raises(NotFoundError, match=rf"{world.study.name}.*study list"), world.db.transaction():
            world.studies.get(wrong)

    def test_studies_are_listed_in_the_order_they_were_created(self, world, study_spec):
        with world.db.transaction():
            world.studies.create(study_spec("a-later-one"))
            names = [row.name for row in world.studies.list()]
        assert names == [world.study.name, "a-later-one"]

    @pytest.mark.parametrize("state", list(StudyState))
    def test_a_final_state_sets_the_end_and_any_other_clears_it(self, world, state):
        with world.db.transaction():
            world.studies.set_state(world.study.id, StudyState.FAILED, "broken")
            row = world.studies.set_state(world.study.id, state, "asked for")
        assert (row.state, row.reason) == (state, "asked for")
        assert (row.ended_at is not None) is state.final
        assert row.updated_at >= row.created_at

    def test_facts_about_models_are_added_to_what_is_known(self, world):
        small = ModelFacts(family="llama", hidden_size=64, parameters=10)
        large = ModelFacts(family="llama", hidden_size=128)
        with world.db.transaction():
            world.studies.save_facts(world.study.id, {"small": large})
            row = world.studies.save_facts(world.study.id, {"small": small, "large": large})
        assert row.facts == {"small": small, "large": large}

    @pytest.mark.parametrize("act", ["lock", "set_state", "save_facts"])
    def test_a_deleted_study_is_missed(self, world, act):
        arguments: tuple[object, ...] = {
            "lock": (),
            "set_state": (StudyState.PAUSED, "?"),
            "save_facts": ({},),
        }[act]
        with world.db.transaction():
            world.studies.delete(world.study.id)
        with pytest.raises(NotFoundError, match="deleted"), world.db.transaction():
            getattr(world.studies, act)(world.study.id, *arguments)

    def test_deleting_a_study_leaves_nothing_behind(self, world):
        first = world.admit(key="a")
        with world.db.transaction():
            world.trials.settle(first.id, TrialState.COMPLETE, reason="done", value=1.0)
            ScoreStore(world.db).save(first.id, "test", Scores(nll=[1.0], tokens=[2]))
            carried = PlannedTrial(role="carried", parameters={}, seed=1, origin_id=first.id)
            world.trials.plan(world.stage, [carried])
            world.studies.delete(world.study.id)
        with world.db.transaction():
            for table in schema.metadata.sorted_tables:
                assert world.db.connection.execute(table.select()).all() == [], table.name

    @pytest.mark.parametrize("dialect", ["postgresql"])  # on SQLite every transaction excludes the others
    def test_a_locked_study_makes_others_wait_but_not_readers_or_reporters(self, world, another):
        trial, peer = world.admit(), another()
        with world.db.transaction():
            world.studies.lock(world.study.id)
            with peer.db.transaction():
                assert peer.studies.get(world.study.name).id == world.study.id
                assert peer.trials.extend(trial.lease, 60, 0.5).progress == 0.5
                taken = schema.study.select().with_for_update(nowait=True, key_share=True)
                with pytest.raises(Exception, match="could not obtain lock"):
                    peer.db.connection.execute(taken)
                peer.db.connection.rollback()


class TestStages:
    def test_a_stage_is_opened_once(self, world):
        with world.db.transaction():
            before = world.studies.stages(world.study.id)
            world.open_stage("search", budget=5)
            assert world.studies.stages(world.study.id) == before

    def test_a_stage_keeps_its_space_and_plan(self, world):
        space = StudySpec.model_validate(world.study.spec).space.resolve()
        with world.db.transaction():
            opened = world.studies.open_stage(
                world.study.id,
                "verify",
                optuna_name="x/verify",
                trials=3,
                gpu_hours=1.5,
                space=space,
                plan={"chosen": [1, 2], "loss": math.nan},
                reason="the best three",
            )
        with world.db.transaction():
            study, stage = world.studies.of_stage(opened.id)
        assert stage == opened
        assert study.id == world.study.id
        assert (stage.stage, stage.optuna_name, stage.trials, stage.gpu_hours) == (
            "verify",
            "x/verify",
            3,
            1.5,
        )
        assert stage.space == space
        assert stage.plan == {"chosen": [1, 2], "loss": None}
        assert stage.open

    def test_a_closed_stage_offers_nothing_and_stays_closed(self, world):
        with world.db.transaction():
            world.studies.close_stage(world.stage.id, "done")
            _, closed = world.studies.of_stage(world.stage.id)
            world.studies.close_stage(world.stage.id, "done again")
            _, again = world.studies.of_stage(world.stage.id)
            assert world.studies.claimable() == []
        assert closed.closed
        assert not closed.open
        assert again == closed
        assert closed.closed_at >= closed.opened_at

    def test_a_stages_budget_is_lowered_never_raised(self, world):
        with world.db.transaction():
            world.studies.limit_stage(world.stage.id, 7)
            world.studies.limit_stage(world.stage.id, 9)
            assert world.studies.of_stage(world.stage.id)[1].trials == 7

    @pytest.mark.parametrize("state", list(StudyState))
    def test_only_active_studies_are_claimable(self, world, state):
        with world.db.transaction():
            world.studies.set_state(world.study.id, state, "asked for")
            found = [(study.name, stage.id) for study, stage in world.studies.claimable()]
        assert found == ([(world.study.name, world.stage.id)] if state is StudyState.ACTIVE else [])

    def test_the_stage_of_a_deleted_study_is_missed(self, world):
        with world.db.transaction():
            world.studies.delete(world.study.id)
        with pytest.raises(NotFoundError, match="deleted"), world.db.transaction():
            world.studies.of_stage(world.stage.id)


class TestWorkers:
    @pytest.fixture
    def workers(self, world):
        store = WorkerStore(world.db)
        with world.db.transaction():
            store.register("w1", "host", 123, "0.1.0", "0,1")
        return store

    def silence(self, world, seconds):
        with world.db.transaction():
            world.db.connection.execute(schema.worker.update().values(seen_at=Now() - seconds))

    def test_a_registered_worker_is_active(self, world, workers):
        with world.db.transaction():
            (row,) = workers.list()
            assert workers.beat("w1") is WorkerState.ACTIVE
        assert (row.id, row.host, row.pid, row.version, row.devices) == ("w1", "host", 123, "0.1.0", "0,1")
        assert row.state is WorkerState.ACTIVE

    def test_a_worker_that_is_asked_to_drain_learns_it_from_its_next_beat(self, world, workers):
        with world.db.transaction():
            workers.drain("w1", "maintenance")
            assert workers.beat("w1") is WorkerState.DRAINING
            assert workers.list()[0].reason == "maintenance"

    def test_a_silent_worker_is_lost_until_it_is_heard_again(self, world, workers):
        self.silence(world, 100)
        with world.db.transaction():
            assert workers.mark_lost(200) == []
            assert workers.mark_lost(50) == ["w1"]
            assert workers.mark_lost(50) == []
            assert workers.list()[0].state is WorkerState.LOST
            assert workers.beat("w1") is WorkerState.ACTIVE

    def test_a_draining_worker_that_falls_silent_may_not_claim_again(self, world, workers):
        with world.db.transaction():
            workers.drain("w1", "maintenance")
        self.silence(world, 100)
        with world.db.transaction():
            assert workers.mark_lost(50) == ["w1"]
            assert workers.beat("w1") is WorkerState.STOPPED

    def test_a_stopped_worker_is_not_drained_and_comes_back_by_registering(self, world, workers):
        with world.db.transaction():
            workers.stop("w1", "asked by a signal")
            assert workers.drain("w1", "late").reason == "asked by a signal"
            assert workers.beat("w1") is WorkerState.STOPPED
            assert workers.register("w1", "host", 124, "0.1.0", "cpu").state is WorkerState.ACTIVE
            assert [row.pid for row in workers.list()] == [124]

    def test_only_workers_that_take_trials_are_counted(self, world, workers):
        with world.db.transaction():
            before = workers.active()
            workers.register("w9", "host", 1, "0.1.0", "cpu")
            assert workers.active() == before + 1
            workers.drain("w9", "maintenance")
            assert workers.active() == before

    def test_a_missing_worker_is_answered_with_the_nearest_names(self, world, workers):
        with pytest.raises(NotFoundError, match=r"'w2'.*w1.*worker list"), world.db.transaction():
            workers.drain("w2", "?")

    def pruned(self, world, workers, keep):
        with world.db.transaction():
            count = workers.prune(1000.0, keep)
            return count, {row.id for row in workers.list()}

    def gone(self, world, workers, id, ago, lost=False):
        with world.db.transaction():
            workers.register(id, "host", 1, "0.1.0", "cpu")
            if not lost:
                workers.stop(id, "left")
            changed = {"seen_at": Now() - ago, **({"state": WorkerState.LOST} if lost else {})}
            world.db.connection.execute(schema.worker.update().where(schema.worker.c.id == id).values(**changed))

    def test_workers_that_left_long_ago_are_removed_and_those_that_are_here_stay(self, world, workers):
        self.gone(world, workers, "left lately", 10)
        self.gone(world, workers, "left long ago", 2000)
        self.gone(world, workers, "lost long ago", 2000, lost=True)
        self.silence_only(world, "w1", 5000)
        assert self.pruned(world, workers, 100) == (2, {"w1", "left lately"})

    def silence_only(self, world, id, seconds):
        with world.db.transaction():
            silenced = schema.worker.update().where(schema.worker.c.id == id).values(seen_at=Now() - seconds)
            world.db.connection.execute(silenced)

    def test_of_very_many_that_left_the_latest_stay_and_a_silent_one_may_come_back(self, world, workers):
        for age in range(1, 6):
            self.gone(world, workers, f"left {age}", 10 * age)
        self.gone(world, workers, "lost", 900, lost=True)
        assert self.pruned(world, workers, 3) == (3, {"w1", "left 1", "left 2", "lost"})

    def test_a_worker_that_a_running_trial_names_stays(self, world, workers):
        self.gone(world, workers, "holder", 2000, lost=True)
        world.admit(worker="holder")
        assert self.pruned(world, workers, 0) == (0, {"w1", "holder"})


class TestScores:
    def test_scores_come_back_rounded_to_float32(self, world):
        store, trial = ScoreStore(world.db), world.admit()
        scores = Scores(nll=[0.1, 1e-3, 12345.678], tokens=[1, 2**31 - 1, 0])
        with world.db.transaction():
            assert store.load(trial.id, "validation") is None
            store.save(trial.id, "validation", scores)
            found = store.load(trial.id, "validation")
            assert store.load(trial.id, "test") is None
        assert found is not None
        assert found.tokens == scores.tokens
        assert found.nll == pytest.approx(scores.nll, rel=1e-7)

    def test_later_scores_replace_earlier_ones(self, world):
        store, trial = ScoreStore(world.db), world.admit()
        with world.db.transaction():
            store.save(trial.id, "test", Scores(nll=[1.0, 2.0], tokens=[1, 1]))
            store.save(trial.id, "test", Scores(nll=[3.0], tokens=[4]))
            assert store.load(trial.id, "test") == Scores(nll=[3.0], tokens=[4])

    def test_lists_of_different_length_are_refused(self, world):
        trial = world.admit()
        with pytest.raises(ValueError, match="2 NLLs but 1 token"), world.db.transaction():
            ScoreStore(world.db).save(trial.id, "test", Scores(nll=[1.0, 2.0], tokens=[1]))
