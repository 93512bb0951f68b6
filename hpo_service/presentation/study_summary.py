"""What a study will do, in a few lines for people: models, data, space, and the runs of each stage."""

from __future__ import annotations

from collections.abc import Sequence

from hpo_service.domain.decide.goals.costs import COSTS
from hpo_service.domain.decide.measure import measure_of
from hpo_service.domain.decide.planning.default import default_parameters
from hpo_service.domain.decide.planning.shares import shares
from hpo_service.domain.study.protocol import stages_of
from hpo_service.domain.study.search_space import CategoricalParameter, Parameter
from hpo_service.domain.study.spec import StudySpec
from hpo_service.service.studies.ahead.outlay import Outlay


def study_summary(spec: StudySpec) -> list[tuple[str, str]]:
    """Say what a resolved study will do, each line with what it is about."""
    return [*_subject(spec), *_space(spec), *asked_for(spec), *stage_lines(spec)]


def _subject(spec: StudySpec) -> list[tuple[str, str]]:
    rows = []
    if spec.model is not None:
        held = "" if spec.model.quantisation == "none" else f", held as {spec.model.quantisation}"
        rows.append(("model", spec.model.base + (f" -> {spec.model.target}" if spec.model.target else "") + held))
    if spec.data is not None:
        limit = f", at most {spec.data.max_rows} rows" if spec.data.max_rows else ""
        shares = {"validation": spec.data.split.validation, "test": spec.data.split.test}
        own = {part: " and ".join(names) for part, names in spec.data.held_out.items()}
        parts = [f"{part} from {own[part]}" if part in own else f"{share:.0%} {part}" for part, share in shares.items()]
        rows.append(("data", f"{spec.data.called}{limit}, {spec.data.max_length} tokens a row; {', '.join(parts)}"))
    if spec.objective is not None:
        rows.append(("objective", spec.objective.python or spec.objective.command or ""))
    measure = measure_of(spec)
    if measure.metric:
        answered = f"{measure.name} of the answers to {spec.evaluation.examples} validation rows"
        rows.append(("selects on", f"{answered}, {measure.direction.comparative} is better; pruning is by the loss"))
    return rows


def _space(spec: StudySpec) -> list[tuple[str, str]]:
    return [(f"  {name}", describe(p)) for name, p in spec.space.resolve().parameters.items()]


def describe(parameter: Parameter) -> str:
    """Say in one line what a parameter may be."""
    if isinstance(parameter, CategoricalParameter):
        text = "one of " + ", ".join(str(choice) for choice in parameter.choices)
    else:
        scale = ", log scale" if parameter.log else ""
        step = f", step {parameter.step:g}" if parameter.step is not None else ""
        text = f"{parameter.low:g} to {parameter.high:g}{scale}{step}"
    conditions = [f"{name} is {values}" for name, values in parameter.when.items()]
    return text + (f", where {' and '.join(conditions)}" if conditions else "")


def stage_lines(spec: StudySpec) -> list[tuple[str, str]]:
    """Say how many runs each stage asks for, and how they are chosen, and what all of them may take."""
    return [*((rule.name, rule.outline(spec)) for rule in stages_of(spec)), *_budget(spec)]


def _budget(spec: StudySpec) -> list[tuple[str, str]]:
    """Say how the budget of the whole study is split; nothing where it has none."""
    budget, parts = spec.budget, shares(spec)
    said = [f"at most {budget.trials} trials in all"] if budget.trials is not None else []
    if budget.hours is not None:
        money = f" ({budget.money:g} at {budget.price_per_hour:g} an hour)" if budget.money is not None else ""
        each = ", ".join(f"{part.stage} {part.hours:.3g}" for part in parts)
        said.append(f"at most {budget.hours:.4g} device hours in all{money}: {each}")
    return [("budget", "; ".join(said))] if said else []


def asked_for(spec: StudySpec) -> list[tuple[str, str]]:
    """Say what a trial may cost and what the search makes small, each with its label; nothing where not asked."""
    given, goals = spec.search.constraints.given(), spec.search.goals
    limits = ", ".join(f"{COSTS[name].label} {limit:g} {COSTS[name].unit}" for name, limit in given.items())
    rows = [("limits", f"at most {limits}")] if given else []
    return [*rows, ("goals", f"{', '.join(goals)}: pruners compare nobody")] if len(goals) > 1 else rows


def outside_remarks(spec: StudySpec) -> list[str]:
    """Say of each value of the default to beat that the search could not come upon it."""
    space = spec.space.resolve()
    # as like as can be: a condition that does not hold leaves a parameter out of the winner, and so out of the default
    searched = {name: p.choices[0] if isinstance(p, CategoricalParameter) else p.low for name, p in space.active({})}
    default = default_parameters(spec, searched) if spec.confirm.enabled else None
    return [f"the default's {one}: the search cannot find it again" for one in space.outside(default or {})]


def cost_ahead(outlays: Sequence[Outlay], price: float | None) -> str:
    """Say what a study is thought to cost, stage by stage, in device hours and by the price of one in money."""
    known = [outlay for outlay in outlays if outlay.hours is not None]
    if not known:
        why = outlays[0].why if outlays else "no earlier study here has run its models"
        return f"not known: {why}; its first trials will tell"
    each = [f"{o.stage} about {o.hours:.3g} device hours ({o.why})" for o in known]
    each += [f"{o.stage} not known ({o.why})" for o in outlays if o.hours is None]
    whole = sum(outlay.hours or 0.0 for outlay in known)
    money = "" if price is None else f", {whole * price:.4g} at {price:g} an hour"
    return f"{'; '.join(each)}; in all {whole:.3g}{money}"
