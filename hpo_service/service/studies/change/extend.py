"""A study is extended: more trials, more seeds, a wider range, and everything measured is kept."""

from __future__ import annotations

from dataclasses import dataclass

from hpo_service.domain.decide.planning.shares import stage_hours
from hpo_service.domain.events import EventKind
from hpo_service.domain.study.protocol import current_of
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.studyfile.extension import Extension, extended
from hpo_service.domain.trial.states import StudyState
from hpo_service.errors import ConflictError
from hpo_service.service.stages.advance import Stages
from hpo_service.service.studies.lifecycle import Studies
from hpo_service.service.trials.budget import admission
from hpo_service.storage.database import Database
from hpo_service.storage.extensions import EARLIER, ExtensionStore
from hpo_service.storage.studies import STOPPED, StageRow, StudyRow, StudyStore
from hpo_service.storage.trial.trials import TrialStore


@dataclass(frozen=True)
class Extended:
    """A study after it was extended, and what was done in words."""

    study: StudyRow
    reason: str


@dataclass(frozen=True)
class Extensions:
    """Extends studies, each in one transaction."""

    db: Database
    rows: StudyStore
    trials: TrialStore
    studies: Studies
    stages: Stages

    def extend(self, name: str, extension: Extension, by: str = "") -> Extended:
        """Let a study have more: it goes on where the new trials belong, also after it has finished or failed.

        More search trials open the search again. Stages behind it wait, and are planned again when it has ended:
        what they measured stays, what a new choice asks for besides is added, and what waited in vain is cancelled.
        More seeds are confirmation runs that are added. What failed is tried again where the study had failed for it.

        Raises:
            NotFoundError: there is no study of this name.
            UsageError: nothing would be more, or something would be less.
            ConflictError: the study was cancelled, or nothing would run for all that.
        """
        with self.db.transaction():
            row = self.rows.lock(self.rows.get(name).id)
            if row.state is StudyState.CANCELLED:
                raise ConflictError(f"study {name} is cancelled: `hpo-service study resume {name}` first")
            spec = row.specification()
            wider, said = extended(spec, extension)
            reason = f"extended: {', '.join(said)}"
            if row.state is StudyState.FAILED:
                self.studies.steer(name, StudyState.ACTIVE, reason, by)
            self.rows.events.of_study(EventKind.STUDY_EXTENDED, row.id, reason, by=by)
            self._specify(row, wider)
            self._reopen(self.rows.get(name), spec, wider, reason)
            return Extended(self.rows.get(name), reason)

    def _specify(self, row: StudyRow, wider: StudySpec) -> None:
        """Write the new study file and what the search may have; the old file stays known for the same study's."""
        store, stages = ExtensionStore(self.db), self.rows.stages(row.id)
        store.respecify(row.id, wider)
        earlier = {EARLIER: [*stages[0].plan.get(EARLIER, []), row.spec]}
        for stage in stages:
            going_on = {key: value for key, value in stage.plan.items() if key != STOPPED}
            store.remember(stage.id, {**going_on, **(earlier if stage is stages[0] else {})})
            if stage.rule.proposes:
                store.widen(
                    stage.id,
                    trials=stage.rule.trials(wider),
                    gpu_hours=stage_hours(wider, stage.rule),
                    space=stage.space if stage.rule.plan else wider.space.resolve(),
                )

    def _reopen(self, study: StudyRow, before: StudySpec, wider: StudySpec, reason: str) -> None:
        stages = self.rows.stages(study.id)
        current = current_of(stages)
        if (before.search, before.space) != (wider.search, wider.space):
            self._search_again(study, stages, wider, reason)
        elif current.rule.compares or (current.rule.plan and before.budget != wider.budget):
            self.stages.plan_again(study, current.rule)
        elif before.budget != wider.budget and self._admits(stages):
            self._search_again(study, stages, wider, reason)
        elif study.state is StudyState.FINISHED:
            raise ConflictError(
                f"study {study.name} has finished, and would run nothing more by that: give --trials too"
            )
        else:
            return  # its confirm stage is still to come, and will have the seeds
        if study.state is StudyState.FINISHED:
            self.rows.set_state(study.id, StudyState.ACTIVE, reason)

    def _admits(self, stages: list[StageRow]) -> bool:
        """Whether a search would have another trial."""
        searches = [stage for stage in stages if stage.rule.proposes]
        return any(admission(stage, self.trials.tallies.total(stage.id), self.trials).open for stage in searches)

    def _search_again(self, study: StudyRow, stages: list[StageRow], wider: StudySpec, reason: str) -> None:
        """Open the search again, and have the stages behind it wait.

        Raises:
            ConflictError: it would admit no trial all the same.
        """
        searches = [stage for stage in stages if stage.rule.proposes]
        if not searches:
            raise ConflictError(
                f"study {study.name} has no search, so more trials or values are of no use: more seeds are"
            )
        verdicts = [admission(stage, self.trials.tallies.total(stage.id), self.trials) for stage in searches]
        search = next((each for each, verdict in zip(searches, verdicts, strict=True) if verdict.open), None)
        if search is None:
            last = searches[-1]
            more = f"--trials above {last.trials}" if last.gpu_hours is None else "more --trials and --gpu-hours"
            if wider.budget.trials is not None:
                raise ConflictError(
                    f"study {study.name} would run nothing more: budget.trials, {wider.budget.trials} of all stages, "
                    f"leaves its search {last.trials}; a new study may have search.warm_start: {study.name}"
                )
            raise ConflictError(f"study {study.name} would run nothing more ({verdicts[-1].reason}): give {more} too")
        if any(stage.open for stage in stages[: stages.index(search)]):
            return  # an earlier search is at work, and this stage is planned again when that has ended
        for stage in stages[stages.index(search) + 1 :]:
            if stage.open:
                self.rows.close_stage(stage.id, f"waits for {search.stage}, which was {reason}")
        self.rows.reopen_stage(search.id, f"opened again: {reason}")
