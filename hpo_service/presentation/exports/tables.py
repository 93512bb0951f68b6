"""A study as four flat tables for pandas and its kin: trials, curves, attempts, and the score of every row."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from hpo_service.domain.decide.measure import measure_of
from hpo_service.domain.trial.scores import Split
from hpo_service.presentation.exports.columns import columns_of, pyarrow_for
from hpo_service.presentation.perplexity import perplexity
from hpo_service.service.studies.findings.evidence import LoadScores
from hpo_service.service.studies.snapshot import StudySnapshot, TrialView
from hpo_service.storage.trial.attempts import AttemptRow

Kind = Literal["parquet", "csv"]
Record = dict[str, Any]
SPLITS: tuple[Split, ...] = ("validation", "test")
_APART = ("facts", "curve", "parameters")


def write_tables(
    snapshot: StudySnapshot, attempts: Iterable[AttemptRow], scores: LoadScores, folder: Path, kind: Kind
) -> list[Path]:
    """Write `trials`, `curves`, `attempts` and `scores` into a folder, which is created; older ones are replaced.

    Every table begins with study, stage and number, on which they are joined.

    Raises:
        UsageError: Parquet was asked for where pyarrow is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tables: dict[str, Iterable[Record]] = {
        "trials": _trials(snapshot),
        "curves": _curves(snapshot),
        "attempts": _attempts(snapshot, attempts),
        "scores": _scores(snapshot, scores),
    }
    return [WRITERS[kind](folder / f"{name}.{kind}", list(records)) for name, records in tables.items()]


def _each(snapshot: StudySnapshot) -> Iterator[tuple[Record, TrialView]]:
    for view in snapshot.stages:
        for trial in view.trials:
            yield {"study": snapshot.name, "stage": str(view.stage), "number": trial.number}, trial


def _trials(snapshot: StudySnapshot) -> Iterator[Record]:
    """One row per trial: what is known of it, then `param.*`, then `fact.*`."""
    for place, trial in _each(snapshot):
        fields = {f.name: getattr(trial, f.name) for f in dataclasses.fields(trial) if f.name not in _APART}
        loss = {"perplexity": perplexity(trial.value)} if measure_of(snapshot.spec).is_loss else {}
        values = {f"param.{name}": value for name, value in trial.parameters.items()}
        facts = {f"fact.{name}": value for name, value in trial.facts.flat().items()}
        yield {**place, **fields, "state": str(trial.state), **loss, **values, **facts}


def _curves(snapshot: StudySnapshot) -> Iterator[Record]:
    """One row per evaluation."""
    for place, trial in _each(snapshot):
        for report in trial.curve:
            fields = dataclasses.asdict(report)
            metrics = fields.pop("metrics")
            yield {**place, **fields, **metrics}


def _attempts(snapshot: StudySnapshot, attempts: Iterable[AttemptRow]) -> Iterator[Record]:
    """One row per attempt of a trial."""
    places = {trial.id: place for place, trial in _each(snapshot)}
    for attempt in attempts:
        if attempt.trial_id in places:  # a study that runs goes on after it was looked at
            yield {**places[attempt.trial_id], **dataclasses.asdict(attempt)}


def _scores(snapshot: StudySnapshot, scores: LoadScores) -> Iterator[Record]:
    """One row per scored data row; within a study the same split and row are the same text in every trial."""
    selects = bool(measure_of(snapshot.spec).metric)
    for place, trial in _each(snapshot):
        for split in SPLITS:
            found = scores(trial.id, split)
            for row, (nll, tokens) in enumerate(zip(found.nll, found.tokens, strict=True) if found else ()):
                about = {**place, "label": trial.label, "seed": trial.seed}
                yield {**about, "split": split, "row": row, "nll": nll, "tokens": tokens}
            answered = scores(trial.id, "test_answers") if selects else None
            for row, score in enumerate(answered.nll if answered else ()):
                yield {
                    **place,
                    "label": trial.label,
                    "seed": trial.seed,
                    "split": "test_answers",
                    "row": row,
                    "score": score,
                }


def _write_parquet(path: Path, records: Sequence[Record]) -> Path:
    parquet, table = pyarrow_for(path)
    parquet.write_table(table(columns_of(records)), path)
    return path


def _write_csv(path: Path, records: Sequence[Record]) -> Path:
    columns = columns_of(records)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


WRITERS = {"parquet": _write_parquet, "csv": _write_csv}
"""How a table is written, by the ending of its file."""
