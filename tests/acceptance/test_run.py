"""`hpo-service run` from an empty folder to the end: as it should go, interrupted, killed and with wrong inputs."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.errors import HpoServiceError
from tests.acceptance.home import Home, ended, wait_until

DISK = re.compile(r"disk: about \d+ MB for each trial that runs at a time, and \d+ MB in the end for \d+ adapters.*\n")
"""What is said of the disk that a study takes before it begins."""
TRIALS = 12

# One finished study serves many tests here: they stay in one test process.
pytestmark = pytest.mark.xdist_group("run")


# a study that nothing happens to


@dataclass(frozen=True)
class Finished:
    """A finished study, what its `run` said, and the study as `study show --json` tells it."""

    home: Home
    run: subprocess.CompletedProcess[str]
    study: dict[str, Any]

    def stage(self, name: str) -> dict[str, Any]:
        return next(stage for stage in self.study["stages"] if stage["stage"] == name)

    @property
    def folder(self) -> Path:
        return self.home.folder / "hpo-output" / "mine"


@pytest.fixture(scope="module")
def finished(lora_home: Callable[..., Home]) -> Finished:
    home = lora_home("mine", trials=TRIALS, top=3, seeds=3)
    done = home.run("run", "mine.yaml", "--workers", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    return Finished(home, done, json.loads(home.run("study", "show", "mine", "--json").stdout))


@pytest.fixture(scope="module")
def again(finished: Finished) -> subprocess.CompletedProcess[str]:
    """The same command once more, for machines."""
    return finished.home.run("run", "mine.yaml", "--json")


def test_a_run_tells_its_story_and_ends_with_what_was_found(finished):
    out = finished.run.stdout
    assert DISK.fullmatch(finished.run.stderr)
    for line in (
        f"search begins with {TRIALS} trials",
        "the best so far",
        "verify begins with 10 trials",
        "confirm begins with 6 trials",
        "the study is finished: all stages have ended",
        "test, mean of seeds",
        f"Report  {finished.folder / 'report.html'}",
        f"Best    {finished.folder / 'best'}",
    ):
        assert line in out


def test_every_stage_has_run_and_some_search_trials_were_pruned_with_a_reason(finished):
    assert [stage["stage"] for stage in finished.study["stages"]] == ["search", "verify", "confirm"]
    search, verify = finished.stage("search"), finished.stage("verify")
    assert sum(search["counts"].values()) == len(search["trials"]) == TRIALS
    assert set(search["counts"]) == {"complete", "pruned"}
    assert all("of the epoch" in t["reason"] for t in search["trials"] if t["state"] == "pruned")
    tried = Counter(t["label"].rpartition(" ")[2] for t in verify["trials"])
    assert {name: tried[name] for name in ("0.5", "1", "2", "default")} == {"0.5": 3, "1": 3, "2": 3, "default": 1}
    assert len(verify["trials"]) <= 10 + 3, "beyond the edge of a bracket it goes three times at most"


def test_winner_and_default_are_confirmed_with_three_new_seeds_each(finished):
    trials = finished.stage("confirm")["trials"]
    assert {trial["state"] for trial in trials} == {"complete"}
    seeds: dict[str, set[int]] = {}
    for trial in trials:
        seeds.setdefault(trial["label"], set()).add(trial["seed"])
    assert {label: len(several) for label, several in seeds.items()} == {"winner 1": 3, "default": 3}
    assert {t["seed"] for t in finished.stage("search")["trials"]}.isdisjoint(set.union(*seeds.values()))


def test_the_same_command_on_a_finished_study_changes_nothing(finished, again):
    shown = json.loads(finished.home.run("study", "show", "mine", "--json").stdout)
    assert again.returncode == 0
    assert {**shown, "now": 0} == {**finished.study, "now": 0}


def test_with_json_one_document_has_the_numbers_of_the_table(finished, again):
    document = json.loads(again.stdout)
    assert again.stderr == ""
    assert document["sentence"].removesuffix(".") in " ".join(finished.run.stdout.lower().split())
    assert {stage: sum(counts.values()) for stage, counts in document["trials"].items()} == {
        "search": TRIALS,
        "verify": len(finished.stage("verify")["trials"]),
        "confirm": 6,
    }
    for side in document["configurations"]:
        assert f"{side['test']:.4f}" in finished.run.stdout
        assert f"{side['validation']:.4f}" in finished.run.stdout
        assert side["test"] == pytest.approx(sum(run["test"] for run in side["runs"]) / 3)


def test_report_and_best_config_say_what_the_command_said(finished, again):
    document = json.loads(again.stdout)
    assert document["report"] == str(finished.folder / "report.html")
    assert document["best"] == str(finished.folder / "best")
    assert document["sentence"].removeprefix("the winner") in (finished.folder / "report.html").read_text()
    config = (finished.folder / "best" / "config.yaml").read_text()
    assert f"recommended: {document['recommended']}" in config


def nll_by_plain_peft(adapter: Path, spec: dict[str, Any]) -> float:
    """Mean NLL per token on the test rows, by transformers and PEFT alone."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from hpo_service.domain.study.sections.data import DataSpec
    from hpo_service.training.data.rows import prepare_rows

    name = spec["model"]["target"]
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(name), adapter).eval()
    rows = prepare_rows(DataSpec.model_validate(spec["data"]), AutoTokenizer.from_pretrained(name)).test
    total, tokens = 0.0, 0
    for row in rows:
        ids, labels = torch.tensor(row.ids).long()[None], torch.tensor(row.labels).long()[None]
        learned = int((labels[:, 1:] != -100).sum())
        with torch.no_grad():
            total += float(model(input_ids=ids, labels=labels).loss) * learned
        tokens += learned
    return total / tokens


def test_plain_peft_loads_best_and_reproduces_the_reported_test_loss(finished, again):
    exported = json.loads(again.stdout)["exported"]
    assert abs(nll_by_plain_peft(finished.folder / "best", finished.study["spec"]) - exported["test"]) < 1e-4


def test_nothing_of_a_finished_run_is_left_running(finished):
    assert finished.home.processes() == []


def test_no_checkpoint_of_a_trial_that_has_ended_stays_on_the_disk(finished):
    assert list(finished.folder.glob("trials/*/*/checkpoint")) == []
    assert len(list(finished.folder.glob("trials/*/*/adapter"))) == 6


# a study that is interrupted


HOW_TO_GO_ON = "are done and kept. Run the same command again to go on.\n"


def counts(home: Home, study: str) -> dict[str, int]:
    """How many trials each stage has; each must have ended, and be there once."""
    stages = home.snapshot(study).stages
    for stage in stages:
        assert stage.ended == len(stage.trials) == len({trial.number for trial in stage.trials})
    return {str(stage.stage): len(stage.trials) for stage in stages}


def run_until(home: Home, study: str, stage: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """Start `run` and return while a trial of this stage is being trained."""

    def training() -> bool:
        assert process.poll() is None, process.communicate()
        view = home.snapshot(study).stage(stage)
        return view is not None and any(t.state is TrialState.RUNNING and t.curve for t in view.trials)

    process = home.start("run", "mine.yaml", *arguments, **variables)
    wait_until(lambda: process.poll() is not None or _created(home, study), f"{study} is created")
    wait_until(training, f"a trial of {stage} reports")
    return process


def _created(home: Home, study: str) -> bool:
    try:
        return bool(home.snapshot(study))
    except HpoServiceError:
        return False


def test_ctrl_c_in_verify_costs_no_trial(lora_home, postgres_database):
    home = lora_home("cut", trials=5, top=1, HPO_SERVICE_STORAGE=postgres_database)
    process = run_until(home, "cut", "verify", "--workers", "1", "--quick")
    process.send_signal(signal.SIGINT)
    done = ended(process)
    assert done.returncode == 130
    assert done.stderr.startswith("Interrupted: ")
    assert done.stderr.endswith(f" trials of verify {HOW_TO_GO_ON}")
    assert done.stderr.count("\n") == 1
    assert home.processes() == []
    assert home.snapshot("cut").state is StudyState.ACTIVE
    assert home.snapshot("cut").current.count(TrialState.RUNNING) == 0

    done = home.run("run", "mine.yaml", "--workers", "1", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["exported"]["test"] > 0
    found = counts(home, "cut")
    assert (found["search"], found["confirm"]) == (5, 4)
    assert 4 <= found["verify"] <= 7, "three rates, the control, and up to three beyond the edge"
    resumed = [t for view in home.snapshot("cut").stages for t in view.trials if t.attempt > 1]
    assert {(t.errors, t.losses) for t in resumed} == {(0, 0)}


def test_a_run_that_is_interrupted_or_killed_at_any_moment_goes_on_to_the_same_number_of_trials(own_home):
    moment = random.Random(4)
    for number, status in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        process = own_home.start("run", "mine.yaml", "--workers", "1", STEP_SECONDS="0.2")
        wait_until(lambda: len(own_home.processes()) > 1, "a worker is there")
        time.sleep(moment.uniform(0.0, 3.0))
        process.send_signal(number)
        done = ended(process)
        assert (done.returncode, "Traceback" in done.stderr) == (status, False)
        if number is signal.SIGINT:
            assert done.stderr.endswith(HOW_TO_GO_ON)
            assert own_home.processes() == []
    done = own_home.run("run", "mine.yaml", "--workers", "2", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert counts(own_home, "mine") == {"search": 6, "confirm": 4}
    wait_until(lambda: own_home.processes() == [], "the worker of the run that was killed has left")


def test_a_closed_terminal_stops_a_run_as_ctrl_c_does_and_a_second_signal_stops_it_at_once(own_home):
    (own_home.folder / "objective_of_the_test.py").write_text(
        "import time\ndef bowl(trial):\n    trial.report(1, 1.0)\n    time.sleep(300)\n"
    )
    process = run_until(own_home, "mine", "search", "--workers", "1")
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1.5)
    process.send_signal(signal.SIGINT)
    process.wait(20)
    done = ended(process)
    assert done.returncode == 130
    assert "stopping: running trials save a checkpoint (Ctrl-C again to stop at once)" in done.stdout
    assert "stopping at once" in done.stdout
    assert own_home.processes() == []
    [trial] = own_home.snapshot("mine").current.trials
    assert trial.state is TrialState.WAITING
    assert "aborted before it could save" in trial.reason


def test_a_run_whose_study_is_held_from_outside_ends_and_says_why(own_home):
    process = run_until(own_home, "mine", "search", "--workers", "1", STEP_SECONDS="0.3")
    own_home.run("study", "pause", "mine", "--reason", "the node is needed")
    for refused in (ended(process), own_home.run("run", "mine.yaml")):
        assert refused.returncode == 4
        assert refused.stderr == (
            "error: study mine is paused (the node is needed): "
            "`hpo-service study resume mine`, then run the same command again\n"
        )


# a study with wrong inputs


def test_a_model_or_data_that_cannot_be_used_is_one_line_and_mended_by_resume(lora_home):
    home = lora_home("wrong", trials=4, top=1)
    config, rows = home.folder / "small" / "config.json", home.folder / "rows.jsonl"
    right_config, right_rows = config.read_text(), rows.read_text()
    config.write_text(right_config.replace("LlamaForCausalLM", "BertModel").replace('"llama"', '"bert"'))
    rows.write_text(right_rows + '{"prompt": "say", "completion": \n')

    for wrong, right in ((config, right_config), (rows, right_rows)):
        done = home.run("run", "mine.yaml", "--workers", "1", "--quick")
        assert done.returncode == 1
        error = done.stderr.splitlines()[-1]
        assert error.startswith("error: study wrong failed: 3 trials failed and none succeeded, the last with: ")
        assert str(wrong if wrong is rows else wrong.parent) in error
        assert "; mend the cause, then `hpo-service study resume wrong` and run again; " in error
        assert "Traceback" not in done.stdout + done.stderr
        wrong.write_text(right)
        refused = home.run("run", "mine.yaml")
        assert refused.returncode == 1
        assert refused.stderr.splitlines()[-1].startswith("error: study wrong failed before: 3 trials failed")
        assert home.run("study", "resume", "wrong").returncode == 0

    done = home.run("run", "mine.yaml", "--workers", "1")
    assert (done.returncode, done.stderr) == (0, "")
    found = counts(home, "wrong")
    assert (found["search"], found["confirm"]) == (4, 4)
    assert 4 <= found["verify"] <= 7
    assert not any(t.state is TrialState.FAILED for view in home.snapshot("wrong").stages for t in view.trials)


def test_all_that_is_wrong_is_told_before_the_first_trial_and_the_mended_study_runs(lora_home):
    home = lora_home("looked", trials=2, top=1)
    config, rows = home.folder / "large" / "config.json", home.folder / "rows.jsonl"
    right_config, right_rows = config.read_text(), rows.read_text()
    config.write_text(right_config.replace("LlamaForCausalLM", "BertModel").replace('"llama"', '"bert"'))
    rows.write_text(right_rows + '{"prompt": "say", "completion": \n{"prompt": 1, "completion": "x"}\n')
    for command in (("study", "validate"), ("study", "create"), ("run",)):
        refused = home.run(*command, "mine.yaml")
        assert refused.returncode == 2
        told = [line for line in refused.stderr.splitlines() if line.startswith("error: ")]
        assert len(told) == 3
        for place in (f"{rows}, line 161", f"{rows}, line 162", str(config.parent)):
            assert sum(place in line for line in told) == 1
    assert json.loads(home.run("study", "list", "--json").stdout) == []
    config.write_text(right_config)
    rows.write_text(right_rows)
    assert home.run("study", "validate", "mine.yaml").stderr == ""
    assert DISK.fullmatch(home.run("study", "create", "mine.yaml").stderr)
    assert home.snapshot("looked").current.budget == 2
