"""Trackers are told of every run, and cost a trial nothing: TensorBoard as it is, W&B and MLflow by their surface.

W&B and MLflow are too large to be installed for tests (165 MB); the stand-ins take the calls that the real ones took
when the adapters were written (wandb 0.31, mlflow-skinny 3.17), and where those are installed they are tried too.
"""

import importlib.machinery
import sys
from types import ModuleType, SimpleNamespace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hpo_service.domain.study.sections.tracking import TRACKER_PACKAGES, TrackingSpec
from hpo_service.domain.trial.endings import SAID
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.domain.trial.report import Report
from hpo_service.errors import DataError
from hpo_service.training.tracking import trackers
from hpo_service.training.tracking.tracker import open_tracker
from hpo_service.training.tracking.trackers import Trackers, scrubbed
from tests.trials import stop

END = Outcome(kind=OutcomeKind.COMPLETE, reason="done", value=1.5, facts={"tokens": 7, "device": "cpu"})


def tracking(trainee, *names, **more):
    config = trainee.config(evaluations_per_epoch=2, **more)
    return config.model_copy(update={"tracking": TrackingSpec(trackers=list(names))})


def pretend(monkeypatch, name, **contents):
    """Put a module in the place of a package."""
    module = ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None, origin="of the test")
    for key, value in contents.items():
        setattr(module, key, value)
    monkeypatch.setitem(sys.modules, name, module)
    return module


class Calls(list):
    """Records calls by name."""

    def taking(self, name, answer=None):
        def take(*given, **named):
            self.append((name, given, named))
            return answer

        return take

    def named(self, name):
        return [(given, named) for each, given, named in self if each == name]


@pytest.fixture
def wandb(monkeypatch):
    calls = Calls()
    run = SimpleNamespace(
        log=calls.taking("log"), finish=calls.taking("finish"), summary=SimpleNamespace(update=calls.taking("summary"))
    )
    pretend(monkeypatch, "wandb", init=calls.taking("init", run), Settings=lambda **named: named)
    return calls


@pytest.fixture
def mlflow(monkeypatch):
    calls = Calls()
    client = SimpleNamespace(
        get_experiment_by_name=calls.taking("find"),
        create_experiment=calls.taking("experiment", "42"),
        create_run=calls.taking("run", SimpleNamespace(info=SimpleNamespace(run_id="r1"))),
        **{name: calls.taking(name) for name in ("log_param", "log_metric", "set_tag", "set_terminated")},
    )
    pretend(monkeypatch, "mlflow", MlflowClient=lambda: client)
    pretend(monkeypatch, "mlflow.exceptions", MlflowException=RuntimeError)
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    calls.client = client
    return calls


def test_what_a_study_file_may_name_is_what_there_is():
    for name in TRACKER_PACKAGES:
        assert all(callable(getattr(open_tracker(name), act)) for act in ("start", "log", "end"))
    known = TrackingSpec.model_json_schema()["properties"]["trackers"]["items"]["enum"]
    assert known == list(TRACKER_PACKAGES) == ["tensorboard", "wandb", "mlflow"]
    assert {SAID[kind].tracked for kind in OutcomeKind} <= {"FINISHED", "FAILED", "KILLED"}


def test_a_run_in_tensorboard_has_the_curve_and_the_end(trainee):
    outcome = trainee.run(tracking(trainee, "tensorboard"))
    assert "tracking_warning" not in outcome.facts.flat()
    read = EventAccumulator(str(trainee.folder / "trial" / "tensorboard")).Reload()
    values = [report.value for report in trainee.reports]
    assert [event.value for event in read.Scalars("value")] == pytest.approx(values)
    assert [event.step for event in read.Scalars("train_loss")] == [1, 2]
    assert read.Scalars("final/value")[0].value == pytest.approx(outcome.value)
    assert read.Scalars("final/tokens")[0].value == outcome.facts.training.tokens
    text = read.Tensors("end/text_summary")[0].tensor_proto.string_val[0].decode()
    assert text == "complete: trained to the end"
    assert "| lora_rank | 4 |" in read.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()


def test_a_run_in_wandb_is_opened_fed_and_finished(trainee, wandb):
    outcome = trainee.run(tracking(trainee, "wandb"))
    ((_, opened),) = wandb.named("init")
    assert (opened["project"], opened["group"], opened["reinit"]) == ("study", "study/search", "create_new")
    assert opened["settings"]["console"] == "off"
    assert opened["config"]["learning_rate"] == 5e-3
    assert opened["config"]["seed"] == 7
    assert [(named["step"], given[0]["value"]) for given, named in wandb.named("log")] == [
        (report.step, report.value) for report in trainee.reports
    ]
    ((summary, _),) = wandb.named("summary")
    assert summary[0]["outcome"] == "complete"
    assert summary[0]["value"] == outcome.value
    assert wandb[-1] == ("finish", (), {"exit_code": 0})


def test_a_run_in_mlflow_is_opened_fed_and_terminated(trainee, mlflow):
    trainee.run(tracking(trainee, "mlflow"), decide=lambda report: stop("prune", "worse"))
    assert mlflow.named("experiment") == [(("study",), {})]
    ((given, named),) = mlflow.named("run")
    assert (given, named["tags"]) == (("42",), {"group": "study/search"})
    assert ("r1", "lora_rank", "4") in [given for given, _ in mlflow.named("log_param")]
    losses = [named["step"] for given, named in mlflow.named("log_metric") if given[1] == "value"]
    assert losses == [1]
    assert ("r1", "outcome", "pruned") in [given for given, _ in mlflow.named("set_tag")]
    assert mlflow[-1] == ("set_terminated", ("r1", "FINISHED"), {})


def test_an_experiment_that_another_worker_makes_meanwhile_is_taken(trainee, mlflow):
    answers = [None, SimpleNamespace(experiment_id="7")]

    def taken(name):
        raise RuntimeError("RESOURCE_ALREADY_EXISTS")

    mlflow.client.get_experiment_by_name = lambda name: answers.pop(0)
    mlflow.client.create_experiment = taken
    assert "tracking_warning" not in trainee.run(tracking(trainee, "mlflow")).facts.flat()
    assert mlflow.named("run")[0][0] == ("7",)


def test_a_tracker_that_is_not_installed_is_one_warning(trainee, monkeypatch):
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    outcome = trainee.run(tracking(trainee, "wandb"))
    assert outcome.kind is OutcomeKind.COMPLETE
    assert outcome.facts.warnings.tracking == (
        "wandb: wandb is not installed: pip install 'hpo-service[trackers]' where trials are trained"
    )


@pytest.mark.parametrize("breaks", ["init", "log", "finish"])
def test_a_tracker_that_breaks_is_left_alone_and_the_trial_goes_on(trainee, wandb, monkeypatch, breaks):
    def broken(*_, **__):
        attempts.append(1)
        raise ConnectionError("no route to https://me:hunter2@wandb.example with key-1234")

    attempts = []
    monkeypatch.setenv("WANDB_API_KEY", "key-1234")
    module = sys.modules["wandb"]
    if breaks == "init":
        module.init = broken
    else:
        setattr(module.init(), breaks, broken)
    outcome = trainee.run(tracking(trainee, "tensorboard", "wandb"))
    assert outcome.kind is OutcomeKind.COMPLETE
    assert len(attempts) == 1
    assert outcome.facts.warnings.tracking == ("wandb: ConnectionError: no route to https://***@wandb.example with ***")
    assert EventAccumulator(str(trainee.folder / "trial" / "tensorboard")).Reload().Scalars("value")


def test_a_trial_that_fails_or_is_stopped_is_told_as_such(trainee, wandb):
    with pytest.raises(DataError):
        trainee.run(tracking(trainee, "wandb", data={"source": "/nowhere/rows.jsonl"}))
    assert wandb.named("summary")[-1][0][0]["outcome"] == "error"
    assert wandb[-1] == ("finish", (), {"exit_code": 1})
    order = stop("cancel", "a person said so")
    trainee.run(tracking(trainee, "wandb", effective_batch=64, micro_batch=1), "stopped", at_progress=(0.0, order))
    assert wandb.named("summary")[-1][0][0] == {"outcome": "cancelled", "reason": "a person said so"}


def test_a_report_is_told_once():
    calls = Calls()
    link = SimpleNamespace(busy=trackers_busy)
    told = Trackers(link, {"wandb": SimpleNamespace(log=calls.taking("log"))})
    for step in (1, 2, 1, 2, 3):
        told.log(Report(step=step, fraction=step / 4, value=1.0))
    assert [given[0] for given, _ in calls.named("log")] == [1, 2, 3]


def trackers_busy(activity, limit):
    import contextlib

    return contextlib.nullcontext()


def test_without_trackers_an_outcome_is_what_it_was():
    assert Trackers().end(END) is END


def test_secrets_do_not_get_into_messages():
    environment = {"WANDB_API_KEY": "abcdef", "MLFLOW_TRACKING_PASSWORD": "hunter2", "HOME": "/root", "X_TOKEN": "1"}
    text = "401 for abcdef at http://me:hunter2@host/x, hunter2, /root, 1"
    assert scrubbed(text, environment) == "401 for *** at http://***@host/x, ***, /root, 1"


def test_the_real_wandb_takes_it(trainee, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is not installed: its stand-in is tested")
    monkeypatch.setenv("WANDB_MODE", "offline")
    outcome = trainee.run(tracking(trainee, "wandb"))
    assert "tracking_warning" not in outcome.facts.flat()
    assert list(trainee.folder.glob("trial/wandb/offline-run-*/*.wandb"))


def test_the_real_mlflow_takes_it(trainee, monkeypatch, tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed: its stand-in is tested")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path / 'runs'}")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    outcome = trainee.run(tracking(trainee, "mlflow"))
    assert "tracking_warning" not in outcome.facts.flat()
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("study").experiment_id])
    assert (run.info.status, run.data.tags["outcome"]) == ("FINISHED", "complete")
    history = client.get_metric_history(run.info.run_id, "value")
    assert [each.value for each in history] == pytest.approx([report.value for report in trainee.reports])
