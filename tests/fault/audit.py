"""What must be true after an attack: of every trial in both books, of the broken nodes, and of what is left."""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterator

import optuna
from attack import Attack
from objectives import STEPS, expected

from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.errors import DatabaseUnavailableError, UnfitWorkerError
from hpo_service.service.studies.snapshot import TrialView
from hpo_service.storage.trial.attempts import AttemptRow
from hpo_service.worker.streak import IN_A_ROW

LEFT = (UnfitWorkerError.exit_code, DatabaseUnavailableError.exit_code, 0)
"""Exit statuses of a node that could not work: it says so, or it found no database, or nothing left to do."""


def audit(hit: Attack, trials: int) -> tuple[dict[str, object], list[str]]:
    """Check everything; return what was counted and what is wrong."""
    views = hit.service.reader.snapshot(hit.fleet.study).stages[0].trials
    with hit.service.db.transaction():
        attempts = {view.id: list(hit.service.trial_rows.attempts.of(view.id)) for view in views}
    wrong = [*_of_study(hit, trials), *_of_trials(hit, attempts), *_of_nodes(hit, attempts), *_left(hit)]
    states = Counter(view.state for view in views)
    counted: dict[str, object] = {
        "trials": len(views),
        "complete": states[TrialState.COMPLETE],
        "pruned": states[TrialState.PRUNED],
        "failed": states[TrialState.FAILED],
        "still open": sum(not view.state.final for view in views),
        "attempts": sum(len(rows) for rows in attempts.values()),
        "taken back from silent workers": sum(view.losses for view in views),
        "attempts that ended in an error": sum(view.errors for view in views),
        "damaged checkpoints set aside": sum("damaged" in _refused(view) for view in views),
    }
    return counted, wrong


def _refused(view: TrialView) -> str:
    return (view.facts.warnings.checkpoint_refused if view.facts.warnings else None) or ""


def _of_study(hit: Attack, trials: int) -> Iterator[str]:
    snapshot = hit.service.reader.snapshot(hit.fleet.study)
    views = snapshot.stages[0].trials
    if snapshot.state is not StudyState.FINISHED:
        yield f"the study is {snapshot.state}: {snapshot.reason}"
    if len(views) != trials or sorted(_told(hit)) != list(range(trials)):
        yield f"{len(views)} trials here and {len(_told(hit))} in Optuna, {trials} were asked for"
    if len({json.dumps(view.parameters, sort_keys=True) for view in views}) != len(views):
        yield "two trials have the same parameters"


def _told(hit: Attack) -> dict[int, optuna.trial.FrozenTrial]:
    storage = optuna.storages.RDBStorage(hit.service.db.url)
    told = optuna.load_study(study_name=f"{hit.fleet.study}/search", storage=storage).trials
    storage.engine.dispose()
    return {trial.number: trial for trial in told}


def _of_trials(hit: Attack, attempts: dict[int, list[AttemptRow]]) -> Iterator[str]:
    told = _told(hit)
    for view in hit.service.reader.snapshot(hit.fleet.study).stages[0].trials:
        twin = told.get(view.number if view.number is not None else -1)
        for what, fine in _checks(view, twin, attempts[view.id]).items():
            if not fine:
                yield f"trial #{view.number} ({view.state}): {what}"


def _checks(view: TrialView, twin: optuna.trial.FrozenTrial | None, attempts: list[AttemptRow]) -> dict[str, bool]:
    steps = STEPS if view.state is TrialState.COMPLETE else len(view.curve)
    return {
        "falsely failed": view.state in (TrialState.COMPLETE, TrialState.PRUNED),
        "not ended exactly once": sum(a.outcome in ("complete", "pruned") for a in attempts) == 1,
        "another end in Optuna": twin is not None and twin.state.name.lower() == view.state.value,
        "reports missing": [row.step for row in view.curve] == list(range(1, steps + 1)) and steps > 0,
        "a wrong report": all(row.value == expected(view.parameters, row.step) for row in view.curve),
        "reports differ in Optuna": twin is not None
        and twin.intermediate_values == {row.step: row.value for row in view.curve},
        "a wrong value": view.value == expected(view.parameters, steps) if steps else False,
    }


def _of_nodes(hit: Attack, attempts: dict[int, list[AttemptRow]]) -> Iterator[str]:
    """Broken nodes leave with the status that says so, unless study or database went first, and cost little."""
    ended: dict[str, list[AttemptRow]] = defaultdict(list)
    for row in sorted(itertools.chain(*attempts.values()), key=lambda row: row.ended_at or 0.0):
        ended[row.worker_id.split("-")[-2]].append(row)
    for worker in hit.broken:
        if worker.poll() not in LEFT:
            yield f"the worker whose trials fail, {worker.pid}, ended with {worker.poll()}"
        if (cost := _failed_in_a_row(ended[str(worker.pid)])) > IN_A_ROW:
            yield f"the worker whose trials fail, {worker.pid}, failed {cost} trials in a row"
    for worker in hit.unfit:
        if worker.poll() not in LEFT or ended[str(worker.pid)]:
            yield f"the worker that cannot start, {worker.pid}, ended with {worker.poll()}"


def _failed_in_a_row(attempts: list[AttemptRow]) -> int:
    """The most trials that ended in an error one after the other; what was saved before may let one succeed."""
    most, failed = 0, set[int]()
    for row in attempts:
        failed = set() if row.outcome in ("complete", "pruned") else failed
        failed |= {row.trial_id} if row.outcome == "error" else set()
        most = max(most, len(failed))
    return most


def _left(hit: Attack) -> Iterator[str]:
    """Nothing outlives the fleet, and no trial that has ended keeps a checkpoint."""
    for worker in hit.fleet.alive:
        yield f"worker {worker.pid} did not end"
    for process in hit.fleet.orphans():
        yield f"process {process.pid} outlived its worker"
    for name in ("checkpoint", "checkpoint.partial", "checkpoint.refused"):
        for path in hit.trials.glob(f"*/attempt-*/{name}"):
            yield f"{path.relative_to(hit.trials)} was left behind"
