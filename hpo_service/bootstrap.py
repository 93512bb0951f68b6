"""The only wiring point: settings -> database -> stores -> use cases."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

from hpo_service.domain.memory.fit import MEMORY_SHARE
from hpo_service.domain.study.spec import StudySpec
from hpo_service.launch.devices import list_gpus, processes_on
from hpo_service.launch.dispatch import Dispatch
from hpo_service.launch.keeper import Keeper
from hpo_service.launch.pool import WorkerPool
from hpo_service.launch.readiness import Machine
from hpo_service.launch.study_run import StudyRun
from hpo_service.search.policy import SearchPolicy
from hpo_service.search.studies import OptunaStudies
from hpo_service.service.access import Access
from hpo_service.service.artifacts import Artifacts
from hpo_service.service.cleaning import Cleaning
from hpo_service.service.containment import Containment
from hpo_service.service.counting import Counting
from hpo_service.service.events import Events
from hpo_service.service.idempotency import Idempotency
from hpo_service.service.launches import Launches
from hpo_service.service.machine import require_fit
from hpo_service.service.notes import Notes
from hpo_service.service.query import Query
from hpo_service.service.stages.advance import Stages
from hpo_service.service.stages.calibrations import Calibrations
from hpo_service.service.studies.ahead.foresight import Foresight
from hpo_service.service.studies.change.extend import Extensions
from hpo_service.service.studies.change.replace import Replacements
from hpo_service.service.studies.checks import StudyChecks
from hpo_service.service.studies.lifecycle import Studies
from hpo_service.service.studies.overview import Overview
from hpo_service.service.studies.reader import StudyReader
from hpo_service.service.studies.trial_list import TrialList
from hpo_service.service.studies.watch import StudyWatch
from hpo_service.service.trials.adapters import KeptAdapters
from hpo_service.service.trials.demand import Demands
from hpo_service.service.trials.identity import EndedTrials
from hpo_service.service.trials.ledger import TrialLedger
from hpo_service.service.trials.placement import Placement
from hpo_service.service.trials.queue import TrialQueue
from hpo_service.service.trials.reaper import Reaper
from hpo_service.service.webhooks import Webhooks
from hpo_service.service.workers import Workers
from hpo_service.settings import Settings
from hpo_service.storage import migrations
from hpo_service.storage.access.requests import IdempotentRequestStore
from hpo_service.storage.access.tokens import AccessTokenStore
from hpo_service.storage.database import Database
from hpo_service.storage.launches import LaunchStore
from hpo_service.storage.overview.counts import CountStore
from hpo_service.storage.overview.stage_counts import StageCounts
from hpo_service.storage.overview.trial_pages import TrialPages
from hpo_service.storage.studies import StudyStore
from hpo_service.storage.trial.adapters import AdapterStore
from hpo_service.storage.trial.scores import ScoreStore
from hpo_service.storage.trial.trials import TrialStore
from hpo_service.storage.webhooks import WebhookStore
from hpo_service.storage.workers import WorkerStore
from hpo_service.worker.device.lock import DeviceLock
from hpo_service.worker.options import WorkerOptions
from hpo_service.worker.supervisor import Supervisor

if TYPE_CHECKING:
    from hpo_service.search.projection import Projection


@dataclass(frozen=True)
class Service:
    """Everything the command line and the web need, wired to one database.

    Attributes:
        settings: places on this machine, and the database's URL.
        connections: to the database at most; more than one is for threads side by side.
    """

    settings: Settings
    connections: int = 1

    @cached_property
    def db(self) -> Database:
        """The one database of this process; its file's folder is created where it is SQLite."""
        return Database(self.settings.storage, connections=self.connections)

    @cached_property
    def policy(self) -> SearchPolicy:
        """Samplers and pruners."""
        return SearchPolicy(self.db.url, self.db.session_source)

    @cached_property
    def ledger(self) -> TrialLedger:
        """Writes trials in our rows and in Optuna's study."""
        return TrialLedger(self.trial_rows, OptunaStudies(self.db.url, self.db.session_source))

    @cached_property
    def study_rows(self) -> StudyStore:
        """Rows of studies and stages."""
        return StudyStore(self.db)

    @cached_property
    def trial_rows(self) -> TrialStore:
        """Rows of trials, and of what hangs on them: attempts, reports, scores."""
        return TrialStore(self.db)

    @cached_property
    def worker_rows(self) -> WorkerStore:
        """Rows of workers."""
        return WorkerStore(self.db)

    @cached_property
    def score_rows(self) -> ScoreStore:
        """Per-example scores."""
        return self.trial_rows.scores

    @cached_property
    def containment(self) -> Containment:
        """What this process knows of studies that cannot be served."""
        return Containment()

    @cached_property
    def stages(self) -> Stages:
        """Advances studies from stage to stage."""
        calibrations = Calibrations(self.study_rows, self.trial_rows)
        return Stages(self.db, self.study_rows, self.trial_rows, self.ledger, calibrations, self.containment)

    @cached_property
    def studies(self) -> Studies:
        """Creates and steers studies."""
        return Studies(self.db, self.study_rows, self.trial_rows, self.ledger, self.stages)

    @property
    def extensions(self) -> Extensions:
        """Extends studies."""
        return Extensions(self.db, self.study_rows, self.trial_rows, self.studies, self.stages)

    @property
    def replacements(self) -> Replacements:
        """Replaces studies that measured nothing."""
        return Replacements(self.db, self.study_rows, self.trial_rows, self.studies)

    @cached_property
    def reader(self) -> StudyReader:
        """Reads studies, trials and what was measured."""
        return StudyReader(self.db, self.study_rows, self.trial_rows, self.score_rows)

    @property
    def foresight(self) -> Foresight:
        """Tells of a study before it runs what earlier ones measured."""
        return Foresight(self.db, self.study_rows, self.trial_rows)

    @property
    def watch(self) -> StudyWatch:
        """Reads one study again and again."""
        return StudyWatch(self.db, self.study_rows, self.trial_rows)

    @cached_property
    def checks(self) -> StudyChecks:
        """Tells whether a study is there, open to work, ended or failed."""
        return StudyChecks(self.db, self.study_rows)

    @cached_property
    def events(self) -> Events:
        """Lists and follows what happened."""
        return Events(self.db, self.study_rows, self.study_rows.events)

    @cached_property
    def query(self) -> Query:
        """Answers questions in SQL."""
        return Query(self.db)

    @cached_property
    def workers(self) -> Workers:
        """Registers, lists and drains workers."""
        return Workers(self.db, self.worker_rows)

    @cached_property
    def launches(self) -> Launches:
        """What was launched."""
        return Launches(self.db, self.study_rows, LaunchStore(self.db), self.worker_rows)

    @cached_property
    def dispatch(self) -> Dispatch:
        """Launches workers and steers launches."""
        return Dispatch(self.launches, self.settings)

    def keeper(self, id: str, note: Callable[[str], None]) -> Keeper:
        """Return whoever keeps a launch; `note` takes lines for people."""

        def tend() -> None:
            self.reaper.reap()
            self.stages.advance_all()

        return Keeper(id, self.dispatch, self.demands, tend, note)

    @cached_property
    def demands(self) -> Demands:
        """Tells what of studies is left to do."""
        return Demands(self.db, self.study_rows, self.trial_rows)

    @cached_property
    def queue(self) -> TrialQueue:
        """What workers call."""
        return TrialQueue(
            self.db, self.study_rows, self.trial_rows, self.worker_rows, self.ledger, self.policy, self.containment
        )

    @cached_property
    def reaper(self) -> Reaper:
        """Takes trials back from silent workers."""
        return Reaper(self.db, self.study_rows, self.trial_rows, self.worker_rows, self.ledger, self.containment)

    @cached_property
    def ended(self) -> EndedTrials:
        """Tells which trials have ended."""
        return EndedTrials(self.db, self.trial_rows)

    @cached_property
    def access(self) -> Access:
        """Issues, recognises and revokes access tokens."""
        return Access(self.db, AccessTokenStore(self.db))

    @cached_property
    def idempotency(self) -> Idempotency:
        """Does what a request asks for once."""
        return Idempotency(self.db, IdempotentRequestStore(self.db))

    @cached_property
    def counting(self) -> Counting:
        """Counts studies, trials and workers."""
        return Counting(self.db, CountStore(self.db))

    @cached_property
    def overview(self) -> Overview:
        """Reads across studies."""
        return Overview(self.db, self.study_rows, self.trial_rows, StageCounts(self.db))

    @cached_property
    def notes(self) -> Notes:
        """Writes notes and lists artifacts for optuna-dashboard."""
        return Notes(self.db, self.study_rows, self.ledger, self.artifacts)

    @cached_property
    def artifacts(self) -> Artifacts:
        """Finds what optuna-dashboard lists as artifacts."""
        return Artifacts(self.db, self.study_rows, self.trial_rows)

    @cached_property
    def trial_list(self) -> TrialList:
        """Lists trials a page at a time."""
        return TrialList(self.db, self.study_rows, TrialPages(self.db), self.trial_rows.reports)

    @cached_property
    def webhooks(self) -> Webhooks:
        """Tells others what happened."""
        return Webhooks(self.db, self.study_rows, WebhookStore(self.db))

    def projection(self, *, writes: bool) -> Projection:
        """Return Optuna's studies as optuna-dashboard reads them."""
        from hpo_service.search.projection import projection

        return projection(self.db.url, self.db.session_source, writes=writes)

    @property
    def cleaning(self) -> Cleaning:
        """Finds what trials have left that nobody needs."""
        return Cleaning(self.db, self.study_rows, self.trial_rows)

    @property
    def machine(self) -> Machine:
        """This machine, to be examined."""
        return Machine(self.db, self.settings)

    def upgrade(self) -> None:
        """Bring the database's schema up to this version; safe from any number of processes at once."""
        migrations.upgrade(self.db, lambda: OptunaStudies.create_tables(self.db.url))

    def revision(self) -> str | None:
        """Return the revision that the database's schema is at; None for an empty database."""
        return migrations.current(self.db)

    def require_current(self) -> None:
        """Check that the database is there and at the revision this version expects; quick.

        Raises:
            DatabaseUnavailableError: it is away.
            SchemaError: it is at another revision.
        """
        migrations.require_current(self.db)

    def check_schema(self) -> None:
        """Check that the schema is exactly the one this version expects.

        Raises:
            SchemaError: it is not.
        """
        migrations.check(self.db)

    def run(self, spec: StudySpec, workers: int | None = None, *, verbose: bool = False) -> StudyRun:
        """Plan workers for a study that was created, this many where a number is given; nothing is started yet.

        A verbose run tells its view what the workers log.

        Raises:
            HpoServiceError: its trials do not fit where the workers would run.
        """
        planned = WorkerPool.plan(spec, self.settings, workers)
        return StudyRun(spec.name, planned, self.watch, self.workers, self.reaper, verbose)

    def supervisor(self, options: WorkerOptions) -> Supervisor:
        """Register a worker and return its loop."""
        self.workers.register(options.id, options.has, options.job, options.launch)
        placement = Placement(self.db, self.study_rows, self.worker_rows, options.has)
        gpus = list_gpus() if options.has.gpus else []
        lock = DeviceLock(options.id, shared=bool(os.environ.get(MEMORY_SHARE)))

        def look_at_machine() -> None:
            require_fit(self.db, options.output, trains=options.trainer is not None)
            lock.take({gpu.uuid: f"GPU {gpu.index}" for gpu in gpus[: options.trainer or 0] if gpu.uuid})

        return Supervisor(
            replace(self.queue, placement=placement),
            self.stages,
            self.reaper,
            partial(self.checks.finished, options.study),
            options,
            look_at_machine=look_at_machine,
            device_users=lambda: processes_on(gpus),
            ended=self.ended.among,
            give_up_adapters=KeptAdapters(self.db, self.study_rows, self.trial_rows, AdapterStore(self.db)).give_up,
        )
