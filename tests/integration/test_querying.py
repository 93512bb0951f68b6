"""The page on asking the database: every question on it runs on every database, and says what the service says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from hpo_service.domain.decide.selection import Measured, choose_top
from hpo_service.domain.events import TEXTS
from hpo_service.domain.trial.facts import RunFacts
from hpo_service.domain.trial.outcome import OutcomeKind
from hpo_service.domain.trial.report import Report
from hpo_service.domain.trial.scores import Scores
from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.presentation.cost import study_cost
from hpo_service.presentation.documents.study import study_lines_document

PAGE = (Path(__file__).parents[2] / "docs" / "querying.md").read_text()
EVERYWHERE = re.DOTALL | re.MULTILINE
QUESTIONS = re.findall(r"^### (\d+)\. (.+?)\n.*?```sql\n(.*?)```\n\n```python\n(.*?)```", PAGE, EVERYWHERE)
SQL = {int(number): sql for number, _, sql, _ in QUESTIONS}
EVERYONE = range(1, 21)


def test_there_are_twenty_questions():
    assert [int(number) for number, *_ in QUESTIONS] == list(EVERYONE)


@pytest.fixture
def mine(bench, trained):
    """A study that went through its stages with pruned, failed, lost and repeated trials, and one that runs."""
    told = bench.service
    trained["space"] = {"preset": "minimal", "parameters": {"scheduler": {"choices": ["cosine", "linear"]}}}
    bench.create(**trained, name="mine", search={"budget": {"trials": 8}, "pruner": "none"})
    told.queue.describe("mine", trained.facts)
    steps = [_complete, _complete, _prune, _lose_and_complete, _complete, _infeasible, _prune, _fail]
    for act in steps:
        act(bench, bench.must_claim("w1"))
    told.studies.steer("mine", StudyState.PAUSED, "night", by="ann@desk")
    told.studies.steer("mine", StudyState.ACTIVE, "morning", by="ann@desk")
    while True:
        trial = bench.claim("w2")
        if trial is not None:
            _complete(bench, trial)
        elif not told.stages.advance_all():
            break
    bench.create(name="other", search={"budget": {"trials": 8}, "pruner": "none", "direction": "maximize"})
    bench.complete(bench.must_claim(), 1.0)
    bench.complete(bench.must_claim(), 2.0)
    bench.must_claim("w2")
    assert bench.state("mine") is StudyState.FINISHED
    return bench


def _value(trial):
    return 1.0 + abs(trial.config.training.learning_rate - 2e-4) * 1000 + trial.config.seed / 1000


def _evaluate(bench, trial, steps):
    for step in range(1, steps + 1):
        metrics = {"train_loss": 2.0 / step, "tokens_per_second": 100.0 * trial.lease.trial_id}
        report = Report(step=step, fraction=step / 4, value=_value(trial) + 1 / step, metrics=metrics)
        bench.service.queue.report(trial.lease, report)


def _complete(bench, trial):
    _evaluate(bench, trial, 4)
    seconds = 100.0 + trial.lease.trial_id
    # the engine that measures a trial's share of a device, so that the account does not depend on the test's own pace
    facts = RunFacts.of({"peak_memory_gb": 1.5, "engine": "packed", "device_seconds": seconds})
    scores = Scores(nll=[1.0, 2.0], tokens=[1, 1])
    bench.complete(trial, _value(trial), facts=facts, validation=scores, test=scores)


def _prune(bench, trial):
    _evaluate(bench, trial, 2)
    bench.end(trial, OutcomeKind.PRUNED)


def _infeasible(bench, trial):
    bench.end(trial, OutcomeKind.INFEASIBLE)


def _lose_and_complete(bench, trial):
    bench.run_out(trial)
    bench.service.reaper.reap()
    _complete(bench, bench.must_claim("w1"))


def _fail(bench, trial):
    bench.end(trial, OutcomeKind.ERROR, retryable=False)


@pytest.fixture
def answers(mine):
    def answers(number: int) -> list[dict[str, object]]:
        with mine.service.query.ask(SQL[number]) as answer:
            return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]

    return answers


def test_every_question_has_an_answer_and_pandas_has_one_of_the_same_size(mine, answers):
    pandas = pytest.importorskip("pandas")
    names: dict[str, object] = {}
    setup = next(code for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "def view" in code)
    exec(setup.replace("sqlite:///hpo-output/hpo-service.db", mine.service.db.url), names)
    for number, question, _, code in QUESTIONS:
        found = answers(int(number))
        assert found, question
        *before, last = ast.parse(code).body
        exec(compile(ast.Module(before, []), "page", "exec"), names)
        frame = eval(compile(ast.Expression(last.value), "page", "eval"), names)
        assert isinstance(frame, pandas.DataFrame | pandas.Series), question
        assert len(frame) == len(found), question
    names["engine"].dispose()


def test_the_answers_are_what_the_service_says(mine, answers):
    reader = mine.service.reader
    snapshot = reader.snapshot("mine")
    search = snapshot.stage("search")
    complete = [t for t in search.trials if t.state is TrialState.COMPLETE]

    regions = answers(1)
    assert sum(row["trials"] for row in regions) == len(complete)
    assert regions[0]["best"] == min(t.value for t in complete) == search.best().value

    leaders = answers(2)
    for view in snapshot.stages:
        first = next(row for row in leaders if (row["stage"], row["place"]) == (view.stage, 1))
        if not view.rule.compares:
            assert first["value"] == view.best().value
    everyone = [
        Measured(t.id, t.number, t.parameters, t.value, t.state is TrialState.COMPLETE)
        for t in search.trials
        if t.value
    ]
    chosen = choose_top(everyone, 10).chosen
    in_search = [row["configuration"] for row in leaders if row["stage"] == "search"]
    assert in_search == [f"#{choice.number}" for choice in chosen]

    evidence = reader.evidence(snapshot)
    sides = {side.label: side.validation for side in evidence.configurations}
    for row in answers(3):
        assert row["value"] == pytest.approx(sides[row["configuration"]])
        assert row["default_value"] == pytest.approx(sides["default"])
        assert row["seeds"] == 2
    assert answers(3)[0]["configuration"] == evidence.winner.label

    cost = study_cost(snapshot)
    assert [(row["stage"], row["trials"]) for row in answers(4)] == [(c.stage, c.trials) for c in cost.stages]
    assert [row["device_hours"] * 3600 for row in answers(4)] == pytest.approx([c.seconds for c in cost.stages])
    assert [row["pruned"] for row in answers(5)] == [c.pruned for c in cost.stages]
    pruned = [sum(t.device_seconds for t in v.trials if t.state is TrialState.PRUNED) for v in snapshot.stages]
    assert [row["device_hours"] * 3600 for row in answers(5)] == pytest.approx(pruned)
    assert answers(6)[0]["device_hours"] * 3600 == pytest.approx(cost.saved)
    assert answers(6)[0]["spent"] * 3600 == pytest.approx(cost.seconds)

    attempts = reader.attempts("mine")
    assert {row["outcome"]: row["attempts"] for row in answers(7)} == {
        outcome: sum(a.outcome == outcome for a in attempts)
        for outcome in ("error", "loss", "release")
        if any(a.outcome == outcome for a in attempts)
    }
    assert sum(row["evaluations"] for row in answers(8)) == sum(len(t.curve) for v in snapshot.stages for t in v.trials)
    assert sum(row["attempts"] for row in answers(9)) == len(attempts)
    failed = [t for v in snapshot.stages for t in v.trials if t.state in (TrialState.FAILED, TrialState.INFEASIBLE)]
    assert {row["reason"] for row in answers(10)} == {t.reason for t in failed}
    (running,) = answers(11)
    assert (running["study"], running["worker"], running["host"]) == ("other", "w2", "host")

    verify = snapshot.stage("verify")
    origins = {t.origin_id for t in verify.trials}
    assert len(answers(12)) == len(origins)
    assert sum(row["trials"] for row in answers(13)) == len(verify.trials)
    ratios = sorted(row["factor"] / min(row["factor"] for row in answers(13)) for row in answers(13))
    bracket = sorted(snapshot.spec.transfer.bracket)
    assert ratios == pytest.approx([factor / bracket[0] for factor in bracket], rel=1e-3)
    assert sum(row["trials"] for row in answers(14)) == sum("peak_memory_gb" in t.facts.flat() for t in _all(snapshot))
    curve = [(r.step, r.value) for r in search.trials[0].curve]
    assert [(row["step"], row["value"]) for row in answers(16)] == curve
    assert sum(row["trials"] for row in answers(17)) == sum(v.count(TrialState.PRUNED) for v in snapshot.stages)
    events = mine.service.events.list("mine", last=20)
    assert [(row["kind"], row["reason"]) for row in answers(18)] == [(e.kind, e.reason) for e in reversed(events)]
    assert [(row["kind"], row["by_whom"], row["reason"]) for row in answers(19)] == [
        ("study_paused", "ann@desk", "night"),
        ("study_resumed", "ann@desk", "morning"),
    ]
    listed = {row["name"]: row for row in study_lines_document(mine.service.overview.lines())}
    for row in answers(20):
        assert (row["state"], row["stage"]) == (listed[row["study"]]["state"], listed[row["study"]]["stage"])
    best = {row["study"]: row["best_value"] for row in answers(20)}
    assert best == {"mine": snapshot.current.best().value, "other": 2.0}


def _all(snapshot):
    return [trial for view in snapshot.stages for trial in view.trials]


def test_the_page_names_every_view_and_each_of_its_columns_in_order(mine):
    described = re.findall(r"^### `(v_\w+)`\n(.*?)(?=^##)", PAGE, EVERYWHERE)
    assert len(described) == 12
    for view, text in described:
        columns = re.findall(r"^\| `(\w+)` \| .+ \| .+ \|$", text, re.MULTILINE)
        with mine.service.query.ask(f"SELECT * FROM {view}") as answer:
            assert answer.columns == columns, view
            assert next(answer.rows, None) is not None, view


def test_the_page_names_every_kind_of_event():
    table = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|$", PAGE.partition("## What happens")[2], re.MULTILINE))
    assert table == {kind.value: text for kind, text in TEXTS.items()}


def test_a_study_that_maximizes_has_its_highest_value_in_the_first_place(mine):
    with mine.service.query.ask(
        "SELECT place, value FROM v_leaderboard WHERE study = 'other' ORDER BY place"
    ) as answer:
        assert list(answer.rows) == [(1, 2.0), (2, 1.0)]
    with mine.service.query.ask("SELECT best_value, direction FROM v_studies s WHERE study = 'other'") as answer:
        assert list(answer.rows) == [(2.0, "maximize")]
