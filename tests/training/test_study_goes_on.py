"""A trial with a fault in it costs its study that one trial: the others run, and the best of them wins."""

import pytest

from hpo_service.bootstrap import Service
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.settings import Settings
from hpo_service.wire.child import TrialLink
from hpo_service.wire.messages import Admit, Continue, Reported
from tests.training.faulty import Faults
from tests.training.tiny import ScriptedSupervisor

TRIALS = 6


@pytest.fixture
def service(migrated_sqlite, tmp_path):
    made = Service(Settings(storage=migrated_sqlite, output=tmp_path / "out", cache=tmp_path / "cache"))
    with made.db.transaction():
        made.worker_rows.register("w", "host", 1, "0", "cpu")
    yield made
    made.db.dispose()


def study(llama, data_file):
    return StudySpec.model_validate(
        {
            "name": "s",
            "model": {"base": llama},
            "data": {"source": data_file, "max_length": 64},
            "space": {"preset": "none", "parameters": {"learning_rate": {"low": 1e-3, "high": 5e-3}}},
            "search": {"budget": {"trials": TRIALS}, "sampler": "random", "pruner": "none"},
            "training": {"effective_batch": 16, "lora_rank": 4, "evaluations_per_epoch": 2, "patience": 0},
            "confirm": {"enabled": False},
        }
    )


class Telling(ScriptedSupervisor):
    """Passes reports on to the queue, as a worker does."""

    def __init__(self, service, assignment):
        super().__init__(lambda report: None, None)
        self.service, self.assignment = service, assignment

    def hear(self, timeout):
        if timeout == 0:
            return False
        message = self.messages[-1]
        assert isinstance(message, Reported)
        assert self.service.queue.report(self.assignment.lease, message.report).action == "continue"
        self.link.receive(Continue(trial=message.trial))
        return True


def work(service, trainee, faults):
    """Claim and train everything there is; `faults` puts something into the trial of each number."""
    while (assignment := service.queue.claim("w")) is not None:
        supervisor = Telling(service, assignment)
        folder = trainee.folder / assignment.key
        admit = Admit(assignment=assignment, folder=folder)
        link = supervisor.link = TrialLink(admit, supervisor, supervisor.hear)
        with pytest.MonkeyPatch.context() as patch:
            faults.get(assignment.number, lambda _: None)(Faults(patch))
            service.queue.finish(assignment.lease, trainee.engine.run(link))
    service.stages.advance_all()


def test_every_fault_costs_its_own_trial_and_the_study_ends_with_the_best_of_the_others(
    service, trainee, llama, data_file
):
    service.studies.create(study(llama, data_file))
    work(
        service,
        trainee,
        {
            0: lambda faults: faults.forward(lambda count, rows: True),
            1: lambda faults: faults.no_number_in("loss", 4),
            2: lambda faults: faults.backward(lambda count: count == 5),
            3: lambda faults: faults.no_number_in("gradient", 7),
            4: lambda faults: faults.no_number_in("evaluation", 2),
        },
    )
    snapshot = service.reader.snapshot("s")
    trials = snapshot.stages[0].trials
    assert snapshot.state is StudyState.FINISHED
    assert [trial.state for trial in trials] == [
        TrialState.INFEASIBLE,
        TrialState.PRUNED,
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.PRUNED,
        TrialState.COMPLETE,
    ]
    assert trials[0].reason.startswith("out of memory training on one row of up to ")
    assert trials[1].reason == "diverged: the training loss became nan"
    assert trials[2].facts.memory.oom_halvings == 1
    assert trials[3].reason == "diverged: the gradient norm became inf"
    assert trials[4].reason == "diverged: the validation loss became nan"
    assert not any("\n" in trial.reason for trial in trials)
    # each was one attempt: none of this is worth trying again
    assert [trial.attempt for trial in trials] == [1] * TRIALS
    best = snapshot.stages[0].best()
    assert best is not None
    assert best.value == min(trial.value for trial in (trials[2], trials[5]))
    constraints = [trial.constraints for trial in service.policy.trials("s/search")]
    assert constraints[0]["vram_over_gb"] > 0
