"""A study is extended: more trials, more seeds, a wider range, and everything measured is kept."""

from __future__ import annotations

from dataclasses import dataclass

from hpo_service.domain.decide.planning.shares import search_hours
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
from hpo_service.storage.studies import StageRow, StudyRow, StudyStore
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
        store, search = ExtensionStore(self.db), self.rows.stages(row.id)[0]
        store.respecify(row.id, wider)
        store.replan(
            search.id,
            trials=search.rule.trials(wider),
            gpu_hours=search_hours(wider),
            space=wider.space.resolve(),
            plan={**search.plan, EARLIER: [*search.plan.get(EARLIER, []), row.spec]},
        )

    def _reopen(self, study: StudyRow, before: StudySpec, wider: StudySpec, reason: str) -> None:
        stages = self.rows.stages(study.id)
        current = current_of(stages)
        if (before.search, before.space) != (wider.search, wider.space):
            self._search_again(study, stages, reason)
        elif current.rule.compares or (current.rule.plan and before.budget != wider.budget):
            self.stages.plan_again(study, current.rule)
        else:
            return  # its confirm stage is still to come, and will have the seeds
        if study.state is StudyState.FINISHED:
            self.rows.set_state(study.id, StudyState.ACTIVE, reason)

    def _search_again(self, study: StudyRow, stages: list[StageRow], reason: str) -> None:
        """Open the search again, and have the stages behind it wait.

        Raises:
            ConflictError: it would admit no trial all the same.
        """
        search = stages[0]
        verdict = admission(search, self.trials.tallies.total(search.id), self.trials)
        if not verdict.open:
            more = f"--trials above {search.trials}" if search.gpu_hours is None else "more --trials and --gpu-hours"
            raise ConflictError(f"study {study.name} would run nothing more ({verdict.reason}): give {more} too")
        for stage in stages[1:]:
            if stage.open:
                self.rows.close_stage(stage.id, f"waits for the search, which was {reason}")
        self.rows.reopen_stage(search.id, f"opened again: {reason}")
