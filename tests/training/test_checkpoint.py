"""Checkpoints: exact to the bit, whole or absent, refused where they do not belong, never fatal."""

import errno
import json
import shutil

import pytest
import torch

from hpo_service.domain.trial.outcome import OutcomeKind
from hpo_service.training.engines.solo import SoloEngine
from hpo_service.training.run import checkpoint as module
from hpo_service.training.run.checkpoint import CheckpointStore, Identity, replace_folder
from hpo_service.training.run.history import History
from hpo_service.training.run.loaded_models import LoadedModels
from hpo_service.training.run.monitor import Monitor
from tests.trials import stop

RELEASE = stop("release", "the node is needed")


def curve(trainee):
    return [(report.step, report.value, report.metrics["learning_rate"]) for report in trainee.reports]


def steps(folder):
    return sorted(int(path.name.split("-")[1]) for path in (folder / "checkpoint").glob("step-*"))


class Killed(BaseException):
    """Stands in for SIGKILL: nothing of ours may catch it."""


@pytest.mark.parametrize(
    "changes",
    [
        {"lora_dropout": 0.2},
        {"lora_dropout": 0.1, "epochs": 2, "effective_batch": 16, "method": "dora"},
        {"method": "full", "learning_rate": 1e-3},
        {"method": "qlora", "lora_dropout": 0.1, "patience": 2, "learning_rate": 1e-5, "min_improvement": 0.01},
    ],
    ids=["dropout", "two epochs", "full", "qlora with patience"],
)
def test_a_released_trial_goes_on_as_if_it_had_not_been_stopped(trainee, tmp_path, changes):
    config = trainee.config(**changes)
    whole = trainee.run(config, "whole")
    expected = curve(trainee)
    released = trainee.run(config, "parts", at_progress=(0.37, RELEASE))
    first = curve(trainee)
    assert (released.kind, released.reason) == (OutcomeKind.RELEASED, RELEASE.reason)
    assert 0 < len(first) < len(expected)
    resumed = trainee.run(config, "parts", engine=SoloEngine(LoadedModels(tmp_path)))
    assert trainee.started.resumed_at >= 0.37
    assert first + curve(trainee) == expected
    assert resumed.validation == whole.validation
    assert (resumed.kind, resumed.reason) == (whole.kind, whole.reason)
    for name in ("tokens", "steps", "best_value", "evaluations"):
        assert resumed.facts.flat()[name] == whole.facts.flat()[name], name


@pytest.mark.parametrize("kill_after", [1, 2, 4])
def test_a_killed_trial_is_resumed_exactly_from_its_last_evaluation(trainee, tmp_path, kill_after):
    config = trainee.config(lora_dropout=0.2)
    whole = trainee.run(config, "whole")
    expected = curve(trainee)

    def kill(report):
        if report.step == kill_after:
            raise Killed

    with pytest.raises(Killed):
        trainee.run(config, "killed", decide=kill)
    resumed = trainee.run(config, "killed", engine=SoloEngine(LoadedModels(tmp_path)))
    assert trainee.started.resumed_at == pytest.approx((kill_after - 1) / 4, abs=0.1)
    assert curve(trainee) == expected[kill_after - 1 :]
    assert resumed.validation == whole.validation


def test_a_trial_killed_after_its_last_evaluation_need_not_be_trained_again(trainee, monkeypatch):
    config = trainee.config(score_test=True)
    whole = trainee.run(config, "whole")

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("hpo_service.training.engines.solo.conclude", killed)
        with pytest.raises(Killed):
            trainee.run(config, "killed")
    resumed = trainee.run(config, "killed")
    assert trainee.started.resumed_at == 1.0
    assert trainee.reports == []
    assert resumed.validation == whole.validation
    assert resumed.test == whole.test


def test_only_the_newest_checkpoint_is_kept(trainee):
    trainee.run(trainee.config(), "trial", decide=lambda report: RELEASE if report.step == 3 else None)
    assert len(steps(trainee.folder / "trial")) == 1
    assert not list((trainee.folder / "trial" / "checkpoint").glob(".unfinished*"))


def test_patience_is_remembered_across_a_resume(trainee):
    config = trainee.config(learning_rate=1e-9, patience=3, evaluations_per_epoch=7)
    trainee.run(config, "trial", decide=lambda report: RELEASE if report.step == 2 else None)
    outcome = trainee.run(config, "trial")
    assert [report.step for report in trainee.reports] == [3, 4]
    assert outcome.reason == "no improvement of 0.001 in 3 evaluations"


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"learning_rate": 1e-4}, "the checkpoint belongs to another configuration"),
        ({"seed": 8}, "the checkpoint belongs to another configuration"),
    ],
    ids=["learning rate", "seed"],
)
def test_a_checkpoint_of_another_configuration_is_refused_with_the_reason(trainee, change, reason):
    trainee.run(trainee.config(), "trial", at_progress=(0.5, RELEASE))
    outcome = trainee.run(trainee.config(**change), "trial")
    assert trainee.started.resumed_at == 0.0
    assert outcome.facts.warnings.checkpoint_refused == reason


def test_a_checkpoint_of_another_base_or_other_rows_is_refused(tmp_path):
    folder = tmp_path / "checkpoint" / "step-00000003-0a1b2c3d"
    folder.mkdir(parents=True)
    marker = {"format": module.FORMAT, "step": 3, "files": {}, "course": {}, "base": "a", "config": "b", "data": "c"}
    marker["engine"] = "solo"
    (folder / module.MARKER).write_text(json.dumps(marker))
    found, refused = CheckpointStore(folder.parent, Identity("a", "b", "c")).newest()
    assert (found.step, refused) == (3, "")
    others = {"base model": ("x", "b", "c"), "data": ("a", "b", "x"), "engine": ("a", "b", "c", "packed")}
    for name, identity in ((name, Identity(*fields)) for name, fields in others.items()):
        assert CheckpointStore(folder.parent, identity).newest() == (
            None,
            f"the checkpoint belongs to another {name}",
        )


@pytest.mark.parametrize("damage", ["marker", "marker gone", "format", "cut short"])
def test_a_damaged_checkpoint_costs_only_itself(trainee, damage):
    config = trainee.config()
    trainee.run(config, "trial", at_progress=(0.5, RELEASE))
    (step,) = (trainee.folder / "trial" / "checkpoint").glob("step-*")
    marker = step / module.MARKER
    if damage == "marker":
        marker.write_text("{")
    elif damage == "cut short":
        weights = step / "adapter_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1])
    elif damage == "format":
        marker.write_text(json.dumps({**json.loads(marker.read_text()), "format": 0}))
    else:
        marker.unlink()
    outcome = trainee.run(config, "trial")
    assert outcome.kind is OutcomeKind.COMPLETE
    assert trainee.started.resumed_at == 0.0
    assert outcome.facts.warnings.checkpoint_refused.startswith("the checkpoint ")


@pytest.mark.parametrize(
    "name", ["optimizer.pt", "adapter_model.safetensors", "rng_state.pth", "scheduler.pt", "trainer_state.json"]
)
def test_flipped_bits_are_found_in_every_file_and_the_trial_starts_afresh(trainee, name, caplog):
    config = trainee.config()
    trainee.run(config, "trial", at_progress=(0.5, RELEASE))
    (step,) = (trainee.folder / "trial" / "checkpoint").glob("step-*")
    flip(step / name)
    outcome = trainee.run(config, "trial")
    assert outcome.kind is OutcomeKind.COMPLETE
    assert trainee.started.resumed_at == 0.0
    assert outcome.facts.warnings.checkpoint_refused == f"the checkpoint is damaged: {name} is not as it was written"
    assert [path.name for path in (trainee.folder / "trial" / "checkpoint.refused").iterdir()] == [step.name]
    assert caplog.text.count("is not resumed from") == 1


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


BASE = Identity("a", "b", "c")


def saved(folder, step, trial="", identity=BASE):
    CheckpointStore(folder, identity, trial).save(step, History(), lambda to: (to / "state").write_text(f"at {step}"))
    return next(folder.glob(f"step-{step:08d}-*"))


def test_a_marker_whose_numbers_changed_on_the_disk_is_refused(tmp_path):
    marker = saved(tmp_path / "checkpoint", 3) / module.MARKER
    marker.write_text(marker.read_text().replace('"without_improvement": 0', '"without_improvement": 2'))
    found, refused = CheckpointStore(tmp_path / "checkpoint", BASE).newest()
    assert (found, refused) == (None, "the checkpoint is damaged: complete.json is not as it was written")


def test_where_the_copy_is_damaged_the_trial_goes_on_from_the_checkpoint_of_the_attempt_before(tmp_path):
    first, second, third = (tmp_path / f"attempt-{number}" / "checkpoint" for number in (1, 2, 3))
    saved(first, 3)
    saved(second, 5)
    shutil.copytree(second, third)
    for folder in (second, third):
        flip(next(folder.glob("step-*")) / "state")
    found, refused = CheckpointStore(third, BASE, earlier=[second, first]).newest()
    assert (found.step, found.folder.parent) == (3, first)
    assert "state is not as it was written" in refused
    assert list(second.glob("step-*"))
    assert CheckpointStore(third, BASE, earlier=[second, first]).newest() == (None, "")


def test_an_attempt_that_was_given_no_checkpoint_takes_none_by_itself(tmp_path):
    saved(tmp_path / "first", 3)
    assert CheckpointStore(tmp_path / "second", BASE, earlier=[tmp_path / "first"]).newest() == (None, "")


def test_a_checkpoint_of_a_trial_that_was_deleted_is_refused(tmp_path):
    saved(tmp_path, 3, "study 1, trial 3 of 10.5")
    assert CheckpointStore(tmp_path, BASE, "study 1, trial 3 of 10.5").newest()[0].step == 3
    found, refused = CheckpointStore(tmp_path, BASE, "study 2, trial 9 of 99.5").newest()
    assert (found, refused) == (None, "the checkpoint belongs to a trial of the same name that was deleted")


def test_one_refused_checkpoint_is_kept(tmp_path):
    folder = tmp_path / "checkpoint"
    for step in (1, 2, 3):
        flip(saved(folder, step) / "state")
        assert CheckpointStore(folder, BASE).newest()[0] is None
    assert len(list((tmp_path / "checkpoint.refused").iterdir())) == 1


def test_a_checkpoint_that_an_earlier_version_wrote_is_accepted_by_its_sizes(tmp_path):
    step = saved(tmp_path, 3)
    marker = json.loads((step / module.MARKER).read_text())
    for name in ("digests", "digest", "trial"):
        del marker[name]
    (step / module.MARKER).write_text(json.dumps(marker))
    assert CheckpointStore(tmp_path, BASE, "study 1, trial 3 of 10.5").newest()[0].step == 3


def test_what_a_killed_writer_left_unfinished_is_not_taken_for_a_checkpoint(trainee):
    config = trainee.config()
    trainee.run(config, "trial", at_progress=(0.5, RELEASE))
    (step,) = (trainee.folder / "trial" / "checkpoint").glob("step-*")
    shutil.copytree(step, step.with_name(".unfinished-1"))
    shutil.rmtree(step)
    trainee.run(config, "trial")
    assert trainee.started.resumed_at == 0.0


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("PytorchStreamWriter failed: file write")]
)
def test_a_full_disk_costs_the_checkpoint_and_not_the_trial(trainee, monkeypatch, error):
    def full(*_):
        raise error

    monkeypatch.setattr(torch, "save", full)
    outcome = trainee.run(trainee.config())
    assert outcome.kind is OutcomeKind.COMPLETE
    assert str(error) in outcome.facts.warnings.checkpoint
    assert list((trainee.folder / "trial" / "checkpoint").iterdir()) == []


def test_a_release_without_a_checkpoint_says_so(trainee, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    outcome = trainee.run(trainee.config(), at_progress=(0.5, RELEASE))
    assert outcome.kind is OutcomeKind.RELEASED
    assert outcome.reason == "the node is needed (no checkpoint: [Errno 28] No space left on device)"


def test_checkpoints_that_cost_too_much_are_written_less_often(trainee, monkeypatch):
    now = [0.0]
    saves = []

    def slow(store, step, history, write):
        saves.append(history.evaluations)
        now[0] += 10.0

    monkeypatch.setattr(CheckpointStore, "save", slow)
    watch_clock = lambda: now.__setitem__(0, now[0] + 1.0) or now[0]  # noqa: E731
    plain = Monitor.__init__

    def with_clock(self, *args, **fields):
        plain(self, *args, **{**fields, "clock": watch_clock})

    monkeypatch.setattr(Monitor, "__init__", with_clock)
    trainee.run(trainee.config(evaluations_per_epoch=7, effective_batch=4))
    assert saves == [1]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    target = tmp_path / "adapter"
    replace_folder(target, lambda folder: (folder / "a").write_text("old"))
    replace_folder(target, lambda folder: (folder / "b").write_text("new"))
    assert [path.name for path in target.iterdir()] == ["b"]

    def broken(folder):
        (folder / "c").write_text("half")
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        replace_folder(target, broken)
    assert [path.name for path in target.iterdir()] == ["b"]
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]
