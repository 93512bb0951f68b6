"""Default and winner side by side: what they measured, and the parameters they ran with."""

from __future__ import annotations

from hpo_service.presentation.formatting import measured, number, perplexed
from hpo_service.presentation.text_table import TextTable
from hpo_service.service.studies.findings.configuration import Configuration
from hpo_service.service.studies.findings.evidence import Evidence


def comparison_tables(evidence: Evidence) -> tuple[TextTable, TextTable]:
    """Lay out the values and the parameters of default and winner, each in a column; where one is missing, the other.

    Returns:
        Two tables of the same columns, one below the other.
    """
    sides = [side for side in (evidence.default, evidence.winner) if side is not None]
    heads = [f"{evidence.measure}, {evidence.direction.comparative} is better", *(side.label for side in sides)]
    return TextTable(heads, _measured(evidence, sides)), TextTable(heads, _parameters(sides))


def _measured(evidence: Evidence, sides: list[Configuration]) -> list[list[str]]:
    rows = []
    if any(side.test is not None for side in sides):
        rows.append(["test, mean of seeds", *(measured(side.test) for side in sides)])
    validation = "mean of seeds" if evidence.selected_on == evidence.measure else "validation, mean of seeds"
    rows.append([validation, *(measured(side.validation) for side in sides)])
    if evidence.is_loss:
        on_test = all(side.test is not None for side in sides)
        losses = [side.test if on_test else side.validation for side in sides]
        rows.append(["perplexity, test" if on_test else "perplexity, validation", *map(perplexed, losses)])
    for name in dict.fromkeys(name for side in sides for name in side.metrics):
        rows.append([f"{name}, test", *(number(side.metrics.get(name, "–")) for side in sides)])
    rows.append(["seeds", *(_seeds(side) for side in sides)])
    comparison = evidence.comparison
    if comparison is not None:
        blank = [""] * (len(sides) - 1)
        rows.append(["improvement", *blank, comparison.signed(comparison.improvement)])
        rows.append([comparison.level, *blank, comparison.interval])
        if comparison.smallest:
            rows.append(["seen 4 times in 5 from", *blank, comparison.written(f"{comparison.smallest:.2f}")])
    return rows


def _parameters(sides: list[Configuration]) -> list[list[str]]:
    names = dict.fromkeys(name for side in sides for name in side.parameters)
    return [[name, *(number(side.parameters.get(name, "–")) for side in sides)] for name in names]


def _seeds(side: Configuration) -> str:
    ended = sum(run.validation is not None for run in side.runs)
    return str(ended) if ended == len(side.runs) else f"{ended} of {len(side.runs)}"
