"""What earlier studies of the database tell of one that is to come: which effect its confirm stage can see."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from hpo_service.domain.decide.detection import Spread
from hpo_service.domain.decide.measure import measure_of
from hpo_service.domain.study.protocol import StageRule, stages_of
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.states import StudyState
from hpo_service.errors import UnreadableStudyError
from hpo_service.service.studies.ahead.outlay import Outlay
from hpo_service.service.studies.ahead.sensitivity import Sensitivity, assumed, compares
from hpo_service.service.studies.findings.evidence import gather_evidence
from hpo_service.service.studies.snapshot import take_snapshot
from hpo_service.storage.database import Database
from hpo_service.storage.studies import StudyRow, StudyStore
from hpo_service.storage.trial.trials import TrialStore

EARLIER = 3
"""Earlier studies that are asked, the latest first: their evidence is worked out anew each time."""


@dataclass(frozen=True)
class Foresight:
    """Asks the database what is to be expected of a study; changes nothing."""

    db: Database
    studies: StudyStore
    trials: TrialStore

    def sensitivity(self, spec: StudySpec) -> Sensitivity | None:
        """Tell what the study's confirm stage can see; None where it compares with nothing, or nothing is known.

        Raises:
            DatabaseUnavailableError: the database is away.
            SchemaError: it was never set up.
        """
        if not compares(spec):
            return None
        with self.db.transaction(read_only=True):
            found = dict(islice(self._spreads(spec), EARLIER))
        unit = measure_of(spec).unit
        if not found:
            return assumed(spec)
        level, seeds = spec.confirm.confidence, spec.confirm.seeds
        smallest = statistics.median(spread.smallest(level, seeds) for spread in found.values())
        why = f"as the runs of {', '.join(found)} differed, which confirmed with the same {_kind(spec)}"
        return Sensitivity(smallest, seeds, why, measured=True, unit=unit)

    def outlays(self, spec: StudySpec) -> list[Outlay]:
        """Estimate what each stage takes, from the latest earlier study that ran it on the same model.

        Raises:
            DatabaseUnavailableError: the database is away.
            SchemaError: it was never set up.
        """
        with self.db.transaction(read_only=True):
            rows = self.studies.list(StudyState.FINISHED)[::-1]
            return [self._outlay(spec, rule, rows) for rule in stages_of(spec)]

    def _outlay(self, spec: StudySpec, rule: StageRule, rows: Sequence[StudyRow]) -> Outlay:
        for row in rows:
            with suppress(UnreadableStudyError):
                other = row.specification()
                alike = other.objective == spec.objective and rule.model_of(other) == rule.model_of(spec)
                stages = [each for each in self.studies.stages(row.id) if alike and each.stage == rule.name]
                total = sum(self.trials.tallies.total(each.id) for each in stages)
                if total:
                    hours = sum(self.trials.attempts.device_seconds(each.id) for each in stages) / 3600
                    return Outlay(
                        rule.name, hours / total * rule.trials(spec), f"{row.name} took {hours / total:.3g} a trial"
                    )
        return Outlay(rule.name, None, "no earlier study here has run its model")

    def _spreads(self, spec: StudySpec) -> Iterator[tuple[str, Spread]]:
        """Go through earlier studies of the same model, the latest first, by what their comparisons varied by."""
        unit = measure_of(spec).unit
        for row in reversed(self.studies.list(StudyState.FINISHED)):
            with suppress(UnreadableStudyError):
                if _alike(row, spec):
                    snapshot = take_snapshot(self.db.clock(), self.studies, self.trials, row.name)
                    comparison = gather_evidence(snapshot, self.trials.scores.load).comparison
                    if comparison is not None and comparison.spread is not None and comparison.unit == unit:
                        yield row.name, comparison.spread


def _alike(row: StudyRow, spec: StudySpec) -> bool:
    other = row.specification()
    alike = other.objective == spec.objective and other.evaluation.select == spec.evaluation.select
    return alike and _confirmed_on(other) == _confirmed_on(spec)


def _confirmed_on(spec: StudySpec) -> str | None:
    return next((rule.model_of(spec) for rule in stages_of(spec) if rule.compares), None)


def _kind(spec: StudySpec) -> str:
    return "objective" if spec.objective is not None else f"model {_confirmed_on(spec)}"
