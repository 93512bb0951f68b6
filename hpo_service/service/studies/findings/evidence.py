"""What a study found: the winner against the default, the configuration to use and why, however far it got."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from hpo_service.domain.decide.measure import LOSS, OF_OWN_OBJECTIVE, StudyMeasure, measure_of
from hpo_service.domain.decide.selection import Measured, choose_group
from hpo_service.domain.decide.statistics import Comparison
from hpo_service.domain.study.direction import Direction
from hpo_service.domain.study.hyperparameters import Hyperparameters
from hpo_service.domain.study.protocol import STAGES
from hpo_service.domain.study.search_space import ParameterValue, canonical_key
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.scores import Scores, Split
from hpo_service.domain.trial.states import TrialState
from hpo_service.service.studies.findings.comparison import DEFAULT, compare_with_default
from hpo_service.service.studies.findings.configuration import Configuration, Run
from hpo_service.service.studies.findings.data_consistency import mixed_rows
from hpo_service.service.studies.findings.remarks import beyond_limits, handed_over, outside, why_unconfirmed
from hpo_service.service.studies.snapshot import StageView, StudySnapshot, TrialView

LoadScores = Callable[[int, Split], Scores | None]


class Verdict(StrEnum):
    """What may be said about the winner."""

    BETTER = "better"
    WORSE = "worse"
    UNCLEAR = "not distinguishable"
    UNTESTED = "not compared"


@dataclass(frozen=True)
class Evidence:
    """What is known, in numbers and in words.

    Attributes:
        stage: where the configurations below were measured; None where nothing ran to the end.
        measure: what the values are, in words.
        direction: which of them are better.
        configurations: `winner 1`, ..., `default`; without a confirm stage the best of the last one.
        comparisons: by label, each winner against the default.
        winner: the winner with the best mean validation value.
        recommended: the configuration to use: winner or default, by mean validation value.
        exported: the run of it whose adapter is handed over.
        verdict: what may be said about the winner.
        sentence: the verdict in words, complete.
        choice: why this configuration is recommended.
        export: why this run is handed over.
        remarks: what a reader must know besides: what failed, is missing or was not confirmed.
    """

    stage: str | None
    measure: str
    direction: Direction
    configurations: list[Configuration] = field(default_factory=list)
    comparisons: dict[str, Comparison] = field(default_factory=dict)
    winner: Configuration | None = None
    recommended: Configuration | None = None
    exported: Run | None = None
    verdict: Verdict = Verdict.UNTESTED
    sentence: str = "nothing was measured yet"
    choice: str = ""
    export: str = ""
    remarks: list[str] = field(default_factory=list)

    @property
    def selected_on(self) -> str:
        """What the values that selection looked at are called; an objective of the user's own has only those."""
        return self.measure if self.measure == OF_OWN_OBJECTIVE else f"validation {self.measure}"

    @property
    def metric(self) -> bool:
        """Whether the values are a metric of answers, which sentences name."""
        return self.measure not in (LOSS, OF_OWN_OBJECTIVE)

    @property
    def confirmed(self) -> bool:
        """Whether configurations were run with several seeds each, winners beside the default."""
        return self.stage is not None and STAGES[self.stage].compares

    @property
    def is_loss(self) -> bool:
        """Whether the values are mean NLLs per token, which have a perplexity."""
        return self.measure == LOSS

    @property
    def default(self) -> Configuration | None:
        """The configuration to beat, where it was run."""
        return next((c for c in self.configurations if c.label == DEFAULT), None)

    @property
    def comparison(self) -> Comparison | None:
        """The winner against the default."""
        return None if self.winner is None else self.comparisons.get(self.winner.label)


def gather_evidence(snapshot: StudySnapshot, scores: LoadScores) -> Evidence:
    """Say what a study found, from complete or partial results.

    Args:
        snapshot: the study.
        scores: per-example scores of a trial and a split (`validation` or `test`), or None.
    """
    confirm = snapshot.where(lambda rule: rule.compares)
    if confirm is not None and any(_ended_well(trial) for trial in confirm.trials):
        return _confirmed(snapshot, confirm, scores)
    return _unconfirmed(snapshot)


def resolved(spec: StudySpec, parameters: dict[str, ParameterValue]) -> Hyperparameters | None:
    """Return the complete hyper-parameters a configuration stands for; None for an objective of the user's own."""
    return None if spec.objective is not None else spec.training.hyperparameters().with_values(parameters)


def _confirmed(snapshot: StudySnapshot, stage: StageView, scores: LoadScores) -> Evidence:
    measure = measure_of(snapshot.spec)
    direction = measure.direction
    split: Split = "test_answers" if measure.metric else "test"
    tests = {t.id: s for t in stage.trials if _ended_well(t) and (s := scores(t.id, split)) is not None}
    configurations = [_configuration(trials, tests, measure) for trials in _by_label(stage.trials)]
    default = next((c for c in configurations if c.label == DEFAULT), None)
    within = [c for c in configurations if not c.violated]
    # a configuration that diverges in a third of its seeds is not recommended while another does not
    steady = [c for c in within if not c.unreliable and c.validation is not None] or within
    measured = [m for c in steady for m in _measured(c)]
    choice = choose_group(measured, direction)
    others = [m for c in within if c is not default for m in _measured(c)]
    winners = choose_group([m for m in measured if m.group != DEFAULT] or others, direction)
    named = {c.label: c for c in configurations}
    best = choice.chosen[0] if choice.chosen else None
    recommended = named[best.group] if best else None
    winner = named[winners.chosen[0].group] if winners.chosen else None
    exported = next((run for c in steady for run in c.runs if best and run.trial_id == best.trial_id), None)
    remarks = _remarks(snapshot, stage, recommended, [c for c in within if c not in steady and c.lost])
    remarks += beyond_limits({c.label: c.violated for c in configurations if c.violated})
    mixed = mixed_rows(trial for trial in stage.trials if _ended_well(trial))
    compared, notes = compare_with_default(snapshot.spec, configurations, tests)
    comparisons = {} if mixed else compared
    comparison = comparisons.get(winner.label) if winner else None
    return Evidence(
        stage=stage.stage,
        measure=measure.name,
        direction=direction,
        configurations=configurations,
        comparisons=comparisons,
        winner=winner,
        recommended=recommended,
        exported=exported,
        verdict=_verdict(comparison, winner),
        sentence=f"not compared: {mixed}" if mixed else _sentence(comparison, configurations, winner, stage),
        choice=choice.reason,
        export=handed_over(exported.seed, choice, direction) if exported else "",
        remarks=[*remarks, *notes, *outside(snapshot.spec, default.parameters if default else {})],
    )


def _unconfirmed(snapshot: StudySnapshot) -> Evidence:
    """Fall back on the best complete trial of the last stage that has one."""
    measure = measure_of(snapshot.spec)
    direction, named = measure.direction, f"validation {measure.name}" if measure.metric else "validation value"
    for stage in reversed(snapshot.stages):
        best = stage.best(direction)
        if best is None:
            continue
        winner = _configuration([best], {}, measure, label="winner 1")
        number = f"{stage.stage} #{best.number}"
        return Evidence(
            stage=stage.stage,
            measure=measure.name,
            direction=direction,
            configurations=[winner],
            winner=winner,
            recommended=winner,
            exported=winner.runs[0],
            sentence=f"not confirmed: {number} has the best {named} so far, measured once, "
            "and was not compared with the default",
            choice=f"{number} has the {direction.superlative} {named} "
            f"of {stage.count(TrialState.COMPLETE)} complete trials: {best.value:.4f}",
            export=f"{number} is the only run of this configuration",
            remarks=[why_unconfirmed(snapshot)],
        )
    return Evidence(None, measure.name, direction, remarks=[why_unconfirmed(snapshot)])


def _remarks(
    snapshot: StudySnapshot, stage: StageView, recommended: Configuration | None, passed_over: Sequence[Configuration]
) -> list[str]:
    remarks = []
    waiting = len(stage.trials) - stage.ended
    if waiting:
        remarks.append(f"preliminary: {waiting} of {len(stage.trials)} confirm runs have not ended")
    remarks += [
        f"{trial.label} with seed {trial.seed} is {trial.state} and not counted: {trial.reason}"
        for trial in stage.trials
        if trial.state.final and not _ended_well(trial)
    ]
    broken = any(trial.violated for trial in stage.trials)
    if recommended is not None and recommended.label == DEFAULT and not passed_over and not broken:
        remarks.append("the default has the best mean validation value itself, and is what is recommended")
    remarks += [f"{c.label} is not recommended: it failed in {len(c.lost)} of {len(c.runs)} seeds" for c in passed_over]
    if snapshot.spec.model is not None and snapshot.where(lambda rule: rule.carries_over) is None:
        remarks.append(f"searched and confirmed on the same model, {snapshot.spec.model.base}")
    return remarks


def _verdict(comparison: Comparison | None, winner: Configuration | None) -> Verdict:
    if comparison is None:
        return Verdict.UNTESTED
    if not comparison.distinguishable or (comparison.improvement > 0 and winner is not None and winner.unreliable):
        return Verdict.UNCLEAR
    return Verdict.BETTER if comparison.improvement > 0 else Verdict.WORSE


def _sentence(
    comparison: Comparison | None,
    configurations: Sequence[Configuration],
    winner: Configuration | None,
    stage: StageView,
) -> str:
    if comparison is not None:
        lost, found = _lost(configurations, winner), comparison.sentence(stage.run_hours)
        if winner is not None and winner.unreliable:
            return f"not called better, {lost}; by the other seeds the winner is {found}"
        return f"{lost}; the winner is {found}" if lost else f"the winner is {found}"
    if winner is None:
        broken = any(c.violated for c in configurations)
        return f"not compared: no run of the winner {'kept all limits' if broken else 'has ended with a finite value'}"
    if any(c.label == DEFAULT for c in configurations):
        ended = "has ended" if stage.open else "ended"
        return f"not compared: no run of the default {ended} with a finite value"
    return "not compared: there is no default to beat; name one under confirm.default"


def _lost(configurations: Sequence[Configuration], winner: Configuration | None) -> str:
    """Say which sides lost seeds, or nothing."""
    sides = [("winner", winner), ("default", next((c for c in configurations if c.label == DEFAULT), None))]
    return " and ".join(
        f"{len(side.lost)} of {len(side.runs)} seeds of the {name} ended without a finite value"
        for name, side in sides
        if side is not None and side.lost
    )


def _configuration(
    trials: Sequence[TrialView], tests: dict[int, Scores], measure: StudyMeasure, label: str = ""
) -> Configuration:
    first = trials[0]
    runs = [
        Run(
            trial_id=trial.id,
            number=trial.number,
            seed=trial.seed,
            state=trial.state,
            validation=trial.value if _ended_well(trial) else None,
            # a metric of the user's own may give one number for all rows
            test=tests[trial.id].mean if trial.id in tests else trial.metrics.get(measure.metric),
            adapter=trial.adapter,
            reason=trial.reason,
            metrics=trial.metrics,
            violated=trial.violated,
        )
        for trial in sorted(trials, key=lambda trial: trial.seed)
    ]
    return Configuration(label or first.label, first.parameters, runs, first.origin_id)


def _by_label(trials: Iterable[TrialView]) -> list[list[TrialView]]:
    groups: dict[str, list[TrialView]] = {}
    for trial in trials:
        groups.setdefault(trial.label or canonical_key(trial.parameters), []).append(trial)
    return list(groups.values())


def _measured(configuration: Configuration) -> list[Measured]:
    return [
        Measured(run.trial_id, run.number or 0, configuration.parameters, run.validation, group=configuration.label)
        for run in configuration.runs
        if run.validation is not None
    ]


def _ended_well(trial: TrialView) -> bool:
    return trial.state is TrialState.COMPLETE and trial.value is not None
