"""Comparisons of winners with the default: on the same test rows where that can be, else by the values of the seeds."""

from __future__ import annotations

from collections.abc import Sequence

from hpo_service.domain.decide.measure import measure_of
from hpo_service.domain.decide.statistics import Comparison, compare, compare_values
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.scores import Scores
from hpo_service.service.studies.findings.configuration import Configuration

DEFAULT = "default"
"""Label of the configuration to beat."""
_FEWEST_ROWS = 30


def compare_with_default(
    spec: StudySpec, configurations: Sequence[Configuration], tests: dict[int, Scores]
) -> tuple[dict[str, Comparison], list[str]]:
    """Compare each winner with the default: on test rows where both were scored there, else by their values.

    Args:
        spec: of the study.
        configurations: the winners and the default.
        tests: scores of test rows by trial, in the measure that the study selects on.

    Returns:
        The comparisons by the winner's label, and in words what weakens them.
    """
    default = next((c for c in configurations if c.label == DEFAULT and c.validation is not None), None)
    comparisons: dict[str, Comparison] = {}
    notes: list[str] = []
    for candidate in configurations:
        if default is None or candidate is default or candidate.validation is None:
            continue
        comparison, note = _compare(spec, default, candidate, tests)
        comparisons[candidate.label] = comparison
        notes += [note] if note and note not in notes else []
    return comparisons, notes


def _compare(
    spec: StudySpec,
    default: Configuration,
    candidate: Configuration,
    tests: dict[int, Scores],
) -> tuple[Comparison, str]:
    """Compare a configuration with the default; also say what weakens the comparison, if anything."""
    confidence, measure = spec.confirm.confidence, measure_of(spec)
    named = measure.name if measure.metric else ""
    sides = [[tests[run.trial_id] for run in c.runs if run.trial_id in tests] for c in (default, candidate)]
    values, of = [[run.validation for run in c.runs] for c in (default, candidate)], "validation"
    note = ""
    if all(sides):
        try:
            comparison = compare(
                sides[0],
                sides[1],
                confidence=confidence,
                direction=measure.direction,
                unit=measure.unit,
                measure=named,
            )
        except ValueError as error:
            note = f"compared by the validation values of the seeds, since {error}"
        else:
            return comparison, _weakness(comparison)
    elif measure.metric and _all_tested(default, candidate):
        values, of = [[run.test for run in c.runs] for c in (default, candidate)], "test"
        note = f"compared by the test values of the seeds, since {named} gives one number and none for each row"
    elif spec.objective is None:
        note = "compared by the validation values of the seeds, since test rows were not scored for both"
    ended = [[value for value in side if value is not None] for side in values]
    comparison = compare_values(
        ended[0],
        ended[1],
        confidence=confidence,
        direction=measure.direction,
        unit=measure.unit,
        measure=named and f"{of} {named}",
    )
    return comparison, note


def _all_tested(*sides: Configuration) -> bool:
    """Whether every run that has a value has one of test rows too."""
    return all((run.test is not None) == (run.validation is not None) for side in sides for run in side.runs)


def _weakness(comparison: Comparison) -> str:
    if comparison.left_out:
        return f"{comparison.left_out} test rows were left out on both sides: a run has no finite loss there"
    if comparison.examples < _FEWEST_ROWS:
        return f"only {comparison.examples} test rows: an interval from so few is a rough guide"
    return ""
