"""The story of one stage: why it was opened, what became of its trials, who was stopped and who went on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpo_service.domain.advise.edge import widened
from hpo_service.domain.decide.planning.bracket import factor_of
from hpo_service.domain.study.protocol import STAGES, StageRule
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.states import TrialState
from hpo_service.presentation.formatting import configuration, duration, measured
from hpo_service.presentation.study_summary import asked_for
from hpo_service.service.studies.findings.data_consistency import mixed_rows
from hpo_service.service.studies.findings.transfer import transfer_of
from hpo_service.service.studies.snapshot import StageView, StudySnapshot, TrialView

_MOST_NUMBERS = 20


@dataclass(frozen=True)
class Line:
    """A trial and what is to be said of it."""

    trial: str
    text: str


@dataclass(frozen=True)
class StageSummary:
    """What is told of a stage.

    Attributes:
        stage: which one.
        model: the model trained in it; empty for an objective of the user's own.
        counts: e.g. `16 trials: 10 complete, 4 pruned, 1 infeasible, 1 failed`.
        opened: why it was opened, and what was chosen for it.
        closed: why it ended, or that it is still open.
        planned: why each planned trial is what it is.
        promoted: what was carried on to the next stage.
        stopped: trials that did not run to the end, each with its reason.
        endings: reasons why complete trials ended, with the trials they hold for.
        found: what carrying over showed, sentence by sentence.
        warnings: where the best value lies at the edge of what was tried, and which trials saw other rows.
    """

    stage: str
    model: str
    counts: str
    opened: str
    closed: str
    planned: list[Line]
    promoted: str
    stopped: list[Line]
    endings: list[Line]
    found: list[str]
    warnings: list[str]

    @property
    def rule(self) -> StageRule:
        """How the stage works."""
        return STAGES[self.stage]


def stage_summary(snapshot: StudySnapshot, view: StageView) -> StageSummary:
    """Tell the story of a stage of this study."""
    return StageSummary(
        stage=view.stage,
        model=view.rule.model_of(snapshot.spec) or "",
        counts=counts(view),
        opened=_opened(snapshot.spec, view),
        closed="still open" if view.open else view.reason,
        planned=_planned(view),
        promoted=_promoted(snapshot, view),
        stopped=[
            Line(f"#{trial.number}", f"{trial.state}: {trial.reason}")
            for trial in view.trials
            if trial.state.final and trial.state is not TrialState.COMPLETE
        ],
        endings=_endings(view),
        found=_found(snapshot, view),
        warnings=_warnings(snapshot.spec, view),
    )


def reasons(told: StageSummary, view: StageView) -> list[str]:
    """Say line by line why the trials of a stage are what they are, what they scored, and who went on."""
    lines = [f"{line.trial}: {line.text}" for line in (*told.planned, *told.stopped, *told.endings)]
    lines += [f"#{trial.number}: {configuration(trial.metrics)}" for trial in view.trials if trial.metrics]
    return [*lines, *told.found, *([told.promoted] if told.promoted else []), *told.warnings]


def counts(view: StageView) -> str:
    """Count a stage's trials by state, in words."""
    states = [f"{n} {state}" for state in TrialState if (n := view.count(state))]
    return (
        f"{view.tally.total} of {view.budget} trials: {', '.join(states)}"
        if states
        else f"{view.budget} trials to come"
    )


def _opened(spec: StudySpec, view: StageView) -> str:
    if view.rule.proposes:
        search = view.rule.search(spec)
        rungs = " and ".join(f"{rung:.0%}" for rung in search.rungs)
        halving = f" (the better half goes on at {rungs} of the run)" if search.pruner == "halving" else ""
        asked = "".join(f"; {label} {text}" for label, text in asked_for(spec))
        if search.pruner == "none":
            return f"sampler {search.sampler} proposes, nobody is stopped early{asked}"
        return f"sampler {search.sampler} proposes, pruner {search.pruner} stops losers early{halving}{asked}"
    return str(view.plan.get("why") or view.reason)


def _planned(view: StageView) -> list[Line]:
    if not view.rule.compares:
        return [Line(label, reason) for label, reason in view.plan.get("trials", {}).items()]
    seeds: dict[str, list[str]] = {}
    for trial in view.trials:
        seeds.setdefault(trial.label, []).append(str(trial.seed))
    return [Line(label, f"in full with new seeds {', '.join(several)}") for label, several in seeds.items()]


def _promoted(snapshot: StudySnapshot, view: StageView) -> str:
    place = snapshot.stages.index(view) + 1
    if place == len(snapshot.stages):
        return ""
    following = snapshot.stages[place]
    chosen = set(following.plan.get("chosen", []))
    names = [f"#{t.number} ({measured(t.value)})" for t in view.trials if t.number in chosen]
    return f"{', '.join(names)} went on to {following.stage}" if names else ""


def _endings(view: StageView) -> list[Line]:
    reasons: dict[str, list[TrialView]] = {}
    for trial in view.trials:
        if trial.state is TrialState.COMPLETE:
            beyond = f"; not chosen, since {trial.violated}" if trial.violated else ""
            reasons.setdefault(f"{trial.reason}{beyond}", []).append(trial)
    return [Line(_numbers(trials), reason) for reason, trials in reasons.items()]


def _found(snapshot: StudySnapshot, view: StageView) -> list[str]:
    """Say what carrying over to the target showed, as soon as anything was measured there."""
    transfer = transfer_of(snapshot) if view.rule.carries_over else None
    if transfer is None:
        return []
    found = transfer.found
    origin = f"{transfer.from_stage} #{found.origin.number}"
    best = f"#{found.best.number} ({measured(found.best.value)})"
    lines = [f"best on the target: {best}, at {found.factor:.3g} times the learning rate of {origin}"]
    if found.correlation is not None:
        lines.append(f"both models rank the {found.ranked} configurations alike to {found.correlation:+.2f} (Spearman)")
    if found.control is not None:
        better = snapshot.spec.search.direction.improvement(found.control, found.best.value) > 0
        ended = "worse" if better else "no worse"
        lines.append(f"the default, run beside them as it is, ended {ended}: {measured(found.control)}")
    if transfer.direct_seconds is not None:
        spent, direct = duration(transfer.spent_seconds), duration(transfer.direct_seconds)
        lines.append(f"as many trials on the target itself: about {direct} of device time; so far it took {spent}")
    return lines


def _numbers(trials: Sequence[TrialView]) -> str:
    names = ", ".join(f"#{trial.number}" for trial in trials[:_MOST_NUMBERS])
    return names if len(trials) <= _MOST_NUMBERS else f"{names} and {len(trials) - _MOST_NUMBERS} more"


def lr_factor(trial: TrialView) -> float | None:
    """Return the multiple of the carried-over learning rate that a verify trial ran at, which its label says."""
    return factor_of(trial.label)


def _warnings(spec: StudySpec, view: StageView) -> list[str]:
    mixed = mixed_rows(view.trials)
    return [*([view.unserved] if view.unserved else []), *([mixed] if mixed else []), *_edges(spec, view)]


def _edges(spec: StudySpec, view: StageView) -> list[str]:
    best = view.best(spec.search.direction)
    if best is None:
        return []
    if view.rule.carries_over:
        factor = lr_factor(best)
        tried = sorted({f for t in view.trials if t.origin_id == best.origin_id and (f := lr_factor(t)) is not None})
        if view.open or factor is None or len(tried) == 1 or factor not in (tried[0], tried[-1]):
            return []
        remedy = "a larger transfer.extend or a wider transfer.bracket may find better"
        return [f"the best trial lies at the edge of the bracket (x {factor:g}): {remedy}"]
    if view.rule.proposes:
        edges = widened(spec.space.resolve(), best.parameters)
        return [f"the best trial's {name} {text}, where there may be a better one" for name, text in edges]
    return []
