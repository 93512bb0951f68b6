"""What a study goes through: a row per stage, and protocols, each a few such rows and why one would choose it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from hpo_service.domain.study.sections.budget import WholeBudgetSpec
from hpo_service.domain.study.sections.confirm import ConfirmSpec
from hpo_service.domain.study.sections.model import ModelSpec
from hpo_service.domain.study.sections.objective import ObjectiveSpec
from hpo_service.domain.study.sections.search import COMPARING, LOSS, SearchSpec
from hpo_service.domain.study.sections.transfer import TransferSpec


class Opened(Protocol):
    """A stage of a study that was opened once."""

    @property
    def open(self) -> bool:
        """Whether trials may be claimed in it."""


SomeStage = TypeVar("SomeStage", bound=Opened)


class Sections(Protocol):
    """What of a study decides on its stages; a study is one, and its other sections may read this table."""

    @property
    def protocol(self) -> str:
        """Which stages, by the name of the protocol."""

    @property
    def model(self) -> ModelSpec | None:
        """The models."""

    @property
    def objective(self) -> ObjectiveSpec | None:
        """An objective of the user's own."""

    @property
    def search(self) -> SearchSpec:
        """How it is searched."""

    @property
    def transfer(self) -> TransferSpec:
        """From small to large."""

    @property
    def confirm(self) -> ConfirmSpec:
        """The proof."""

    @property
    def budget(self) -> WholeBudgetSpec:
        """What all stages together may take."""


QUICK_RUNS = 6
QUICK_SHARE = 0.2
"""Share of the rows on which the quick protocol tries learning rates; practitioners judge after 20% of the steps."""


def _search_of(study: Sections) -> SearchSpec:
    """What the study file says of it, with the sampler that its protocol stands for.

    With several goals nobody is stopped for what others measure: who is worse in the loss may be better in another.
    """
    sampler = PROTOCOLS[study.protocol].sampler
    search = study.search.model_copy(update={"sampler": sampler}) if sampler else study.search
    return search.model_copy(update={"pruner": "none"}) if search.costs and search.pruner in COMPARING else search


@dataclass(frozen=True)
class StageRule:
    """How one stage works; each is one Optuna study named `<study>/<stage>`.

    Attributes:
        name: what it is called in study files, on the command line and in databases.
        runs: what its trials are called in sentences.
        model: which of the study's models is trained.
        applies: whether a study has this stage.
        trials: how many trials it has in a study, at most.
        outline: that number in words, and how its trials come about.
        plan: name of what plans its trials from the results of the stage before (`decide.planning.planners.PLANNERS`);
            empty where nothing is planned.
        proposes: whether a sampler proposes its trials while the budget lasts, beside those planned, and learns from
            those that have ended.
        share: the share of the training rows that what is proposed is trained on.
        search: how its trials are proposed and its losers stopped, where that is not just what the study file says.
        prunes: whether losers are stopped early.
        carries_over: whether it tries configurations of a smaller model around a scaled learning rate.
        compares: whether it runs winners and default with several seeds each, to tell which is better.
        scores_test: whether its trials are scored on the test rows.
        keeps_adapter: whether its trials keep their adapters.
    """

    name: str
    runs: str
    model: Literal["base", "target"]
    applies: Callable[[Sections], bool]
    trials: Callable[[Sections], int]
    outline: Callable[[Sections], str]
    plan: str = ""
    proposes: bool = False
    share: Callable[[Sections], float] = lambda _study: 1.0
    search: Callable[[Sections], SearchSpec] = _search_of
    prunes: bool = True
    carries_over: bool = False
    compares: bool = False
    scores_test: bool = False
    keeps_adapter: bool = False

    def model_of(self, study: Sections) -> str | None:
        """Name the model that this stage trains; None for an objective of the user's own."""
        if study.model is None:
            return None
        return (study.model.target if self.model == "target" else None) or study.model.base

    def goals_of(self, study: Sections) -> list[str]:
        """Name what Optuna is told of its trials: the study's goals where they are proposed, else the loss alone."""
        return list(study.search.goals) if self.proposes else [LOSS]


def proposed_trials(study: Sections) -> int:
    """Trials that samplers propose: the search's own limit, or what the study's leaves beside planned ones."""
    own, whole = study.search.budget.trials, study.budget.trials
    return own if whole is None else min(own, whole - planned_trials(study))


def planned_trials(study: Sections) -> int:
    """Count the trials that stages may have together for which no sampler proposes."""
    return sum(rule.trials(study) for rule in stages_of(study) if not rule.proposes)


def _search_outline(study: Sections, trials: int | None = None) -> str:
    search, budget = _search_of(study), study.search.budget
    hours = f" or {budget.gpu_hours:g} GPU-hours" if budget.gpu_hours and trials is None else ""
    return f"{trials or proposed_trials(study)} trials{hours}, sampler {search.sampler}, pruner {search.pruner}"


def _on_a_share(study: Sections) -> str:
    return f"on {study.search.share:.0%} of the training rows"


SEARCH = StageRule(
    name="search",
    runs="search runs",
    model="base",
    applies=lambda _study: True,
    trials=proposed_trials,
    outline=_search_outline,
    proposes=True,
)

PROXY = StageRule(
    name="proxy",
    runs="search runs on a share of the rows",
    model="base",
    applies=lambda _study: True,
    trials=proposed_trials,
    outline=lambda study: f"{_search_outline(study)}, {_on_a_share(study)}",
    proposes=True,
    share=lambda study: study.search.share,
)

RECHECK = StageRule(
    name="recheck",
    runs="runs on all rows",
    model="base",
    applies=lambda _study: True,
    trials=lambda study: study.transfer.top,
    outline=lambda study: f"the best {study.transfer.top} on all training rows, with the learning rate for as many",
    plan="recheck",
    prunes=False,
)


def _coarse_trials(study: Sections) -> int:
    return max(1, proposed_trials(study) // 2)


def _fine_trials(study: Sections) -> int:
    return max(1, proposed_trials(study) - _coarse_trials(study))


COARSE = StageRule(
    name="coarse",
    runs="coarse search runs",
    model="base",
    applies=lambda _study: True,
    trials=_coarse_trials,
    outline=lambda study: f"{_search_outline(study, _coarse_trials(study))}, {_on_a_share(study)}",
    proposes=True,
    share=lambda study: study.search.share,
)

FINE = StageRule(
    name="fine",
    runs="fine search runs",
    model="base",
    applies=lambda _study: True,
    trials=_fine_trials,
    outline=lambda study: f"{_search_outline(study, _fine_trials(study))}, on all rows, around the best so far",
    plan="narrow",
    proposes=True,
)

QUICK = StageRule(
    name="quick",
    runs="quick runs",
    model="target",
    applies=lambda _study: True,
    trials=lambda _study: QUICK_RUNS,
    outline=lambda _study: (
        f"5 to {QUICK_RUNS} runs: three learning rates on {QUICK_SHARE:.0%} of the rows, then rank and "
        "double rank on all, and a longer warm-up where a higher rate was lost"
    ),
    plan="quick",
    prunes=False,
)


def _verify_runs(study: Sections) -> int:
    transfer = study.transfer
    return transfer.top * len(transfer.bracket) + transfer.control + transfer.extend


def _verify_outline(study: Sections) -> str:
    transfer = study.transfer
    factors = ", ".join(f"{factor:g}" for factor in transfer.bracket)
    default = ", and the default" if transfer.control else ""
    beyond = f"; up to {transfer.extend} more while the best lies at an edge" if transfer.extend else ""
    planned = _verify_runs(study) - transfer.extend
    return f"up to {planned} runs: the best {transfer.top} x learning rate times {factors}{default}{beyond}"


def _verify_search(study: Sections) -> SearchSpec:
    """Halving at rungs of its own: all its trials are known from the start, and most of them lose."""
    if study.search.pruner == "none":
        return study.search
    return study.search.model_copy(update={"pruner": "halving", "rungs": study.transfer.rungs})


VERIFY = StageRule(
    name="verify",
    runs="verification runs",
    model="target",
    applies=lambda study: study.model is not None and study.model.target is not None,
    trials=_verify_runs,
    outline=_verify_outline,
    plan="carry over",
    search=_verify_search,
    carries_over=True,
)


def _confirm_runs(study: Sections) -> int:
    compares = study.objective is None or study.confirm.default is not None
    return (study.confirm.top + compares) * study.confirm.seeds


def _confirm_outline(study: Sections) -> str:
    seeds, top = study.confirm.seeds, study.confirm.top
    best = "the best" if top == 1 else f"the best {top}"
    return f"up to {(top + 1) * seeds} runs: {best} and the default, {seeds} seeds each"


CONFIRM = StageRule(
    name="confirm",
    runs="confirmation runs",
    model="target",
    applies=lambda study: study.confirm.enabled,
    trials=_confirm_runs,
    outline=_confirm_outline,
    plan="compare",
    prunes=False,
    compares=True,
    scores_test=True,
    keeps_adapter=True,
)


@dataclass(frozen=True)
class StudyProtocol:
    """Stages in their order.

    Attributes:
        stages: those that a study of this protocol may have.
        reason: when to choose it.
        sampler: which proposes, whatever the study file's default is; empty where the file says.
        built_in: whether it needs the built-in trainer, which can be asked for a share of the rows.
    """

    stages: tuple[StageRule, ...]
    reason: str
    sampler: str = ""
    built_in: bool = False


PROTOCOLS: dict[str, StudyProtocol] = {
    "full": StudyProtocol((SEARCH, VERIFY, CONFIRM), "a search by search.sampler, the best carried over and confirmed"),
    "tpe": StudyProtocol(
        (SEARCH, VERIFY, CONFIRM), "the same with Optuna's tree-structured Parzen estimator", sampler="tpe"
    ),
    "random": StudyProtocol((SEARCH, VERIFY, CONFIRM), "the baseline of every search", sampler="random"),
    "grid": StudyProtocol((SEARCH, VERIFY, CONFIRM), "every configuration of a small finite space", sampler="grid"),
    "quick": StudyProtocol(
        (QUICK, CONFIRM),
        "5 or 6 runs where a search is too dear: most of the gain is in the learning rate",
        built_in=True,
    ),
    "progressive": StudyProtocol(
        (COARSE, FINE, VERIFY, CONFIRM), "many short runs, then longer ones around the best of them", built_in=True
    ),
    "proxy": StudyProtocol(
        (PROXY, RECHECK, VERIFY, CONFIRM), "search on a share of the rows, then the best on all of them", built_in=True
    ),
}
"""What a study may go through, by the name that its file gives."""

STAGES: dict[str, StageRule] = {rule.name: rule for protocol in PROTOCOLS.values() for rule in protocol.stages}
"""Every stage there is, by its name; protocols share rows."""

PLANNED_STAGES = tuple(name for name, rule in STAGES.items() if not rule.proposes)
"""Stages whose trials are chosen from those of a stage before."""


def protocol_of(study: Sections) -> tuple[StageRule, ...]:
    """Return the rows of a study's protocol, also those that do not apply to it."""
    return PROTOCOLS[study.protocol].stages


def stages_of(study: Sections) -> list[StageRule]:
    """Return the stages that a study goes through, in order."""
    return [rule for rule in protocol_of(study) if rule.applies(study)]


def stage_after(study: Sections, rule: StageRule) -> StageRule | None:
    """Return the stage that follows on another one, or None where that is the study's last."""
    protocol = protocol_of(study)
    return next((each for each in protocol[protocol.index(rule) + 1 :] if each.applies(study)), None)


def current_of(stages: Sequence[SomeStage]) -> SomeStage:
    """Return the stage that a study is in: the open one, which may be an earlier one again, else the last."""
    return next((stage for stage in stages if stage.open), stages[-1])
