"""A study goes on after its end: `study extend`, and `--replace` where it failed without a result."""

from __future__ import annotations

import json

from tests.acceptance.home import Home


def test_a_finished_study_takes_more_trials_and_seeds_and_the_same_file_goes_on(own_home: Home) -> None:
    assert own_home.run("run", "mine.yaml", "--workers", "1").returncode == 0
    before = own_home.snapshot("mine")
    done = own_home.run("study", "extend", "mine", "--trials", "8", "--seeds", "3", "--range", "x=-1:1")
    assert done.returncode == 0, done.stderr
    assert "study mine is active, extended: " in done.stdout
    again = own_home.run("run", "mine.yaml", "--workers", "1", "--json")
    assert again.returncode == 0, again.stderr
    after = own_home.snapshot("mine")
    assert json.loads(again.stdout)["trials"]["search"]["complete"] == 8
    old = {(view.stage, t.number): t.value for view in before.stages for t in view.trials}
    assert old.items() <= {(view.stage, t.number): t.value for view in after.stages for t in view.trials}.items()
    assert len({t.seed for t in after.stages[-1].trials if t.label == "default"}) == 3
    shown = own_home.run("study", "show", "mine").stdout
    assert "planned again" in shown
    nothing = own_home.run("study", "extend", "mine", "--trials", "8")
    assert (nothing.returncode, nothing.stderr.startswith("error: the study has all of that already")) == (2, True)


def test_a_study_that_failed_without_a_result_gives_way_to_the_corrected_file(own_home: Home) -> None:
    right = (own_home.folder / "mine.yaml").read_text()
    wrong = right.replace("objective_of_the_test:bowl", "objective_of_the_test:bowel")
    (own_home.folder / "mine.yaml").write_text(wrong)
    assert own_home.run("run", "mine.yaml", "--workers", "1").returncode == 1
    (own_home.folder / "mine.yaml").write_text(right)
    assert own_home.run("run", "mine.yaml", "--workers", "1").returncode == 4, "its name is taken"
    done = own_home.run("run", "mine.yaml", "--workers", "1", "--replace")
    assert done.returncode == 0, done.stderr
    (own_home.folder / "mine.yaml").write_text(wrong)
    refused = own_home.run("study", "create", "mine.yaml", "--replace")
    assert refused.returncode == 4
    assert "only one that failed can be replaced" in refused.stderr


def test_a_quiet_run_prints_its_verdict_alone_and_a_verbose_one_what_its_workers_log(own_home: Home) -> None:
    quiet = own_home.run("run", "mine.yaml", "--workers", "1", "--quiet")
    assert (quiet.returncode, quiet.stderr) == (0, "")
    assert quiet.stdout.startswith("The winner is ")
    assert quiet.stdout.rstrip().endswith("2 seeds each)."), "nothing comes after the verdict"
    assert own_home.run("study", "show", "mine").stdout.startswith(quiet.stdout)
    own_home.run("study", "extend", "mine", "--trials", "8")
    verbose = own_home.run("run", "mine.yaml", "--workers", "1", "--verbose")
    assert verbose.returncode == 0, verbose.stderr
    assert " INFO " in next(line for line in verbose.stdout.splitlines() if line.startswith("cpu0: "))
    assert "\nThe winner is " in verbose.stdout
