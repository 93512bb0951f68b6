"""The report's figures on pages: drawn once for as long as what they show stays the same."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TypeVar

from hpo_service.domain.trial.endings import FINAL
from hpo_service.presentation.cost import StudyCost, study_cost
from hpo_service.service.studies.findings.evidence import Evidence
from hpo_service.service.studies.overview import Overview
from hpo_service.service.studies.reader import StudyReader
from hpo_service.service.studies.snapshot import StudySnapshot

MOST_DRAWN = 300
"""Search trials in a picture: the latest, and the best."""
KEPT_FINDINGS, KEPT_FIGURES = 2000, 64
"""Answers that are remembered: those of a few hundred bytes, and pictures."""

T = TypeVar("T")


@dataclass
class Remembered:
    """What takes long to make, kept while its key stays the same; may be used by many threads."""

    most: int
    _kept: OrderedDict[str, tuple[Hashable, object]] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, name: str, key: Hashable, make: Callable[[], T]) -> T:
        """Return what was made for the name under this key; made now where that is not known."""
        with self._lock:
            kept = self._kept.get(name)
        if kept is not None and kept[0] == key:
            return kept[1]  # type: ignore[return-value] # what `make` of this name made
        made = make()
        with self._lock:
            self._kept[name] = (key, made)
            self._kept.move_to_end(name)
            while len(self._kept) > self.most:
                self._kept.popitem(last=False)
        return made

    def peek(self, name: str, key: Hashable) -> object | None:
        """Return what is kept for the name under this key, None where nothing is."""
        with self._lock:
            kept = self._kept.get(name)
        return kept[1] if kept is not None and kept[0] == key else None


@dataclass
class Findings:
    """What studies found, and its pictures; read again when something has ended since."""

    overview: Overview
    reader: StudyReader
    _kept: Remembered = field(default_factory=lambda: Remembered(KEPT_FINDINGS))
    _drawn: Remembered = field(default_factory=lambda: Remembered(KEPT_FIGURES))

    def evidence(self, snapshot: StudySnapshot) -> Evidence:
        """Say what a study found, given any snapshot of it."""

        def find() -> Evidence:
            return self.reader.evidence(self.overview.partial(snapshot.name, 0))

        return self._kept.get(f"evidence {snapshot.name}", standing(snapshot), find)

    def known(self, snapshot: StudySnapshot) -> Evidence | None:
        """What a study found where that was asked for before; None where it would have to be read."""
        found = self._kept.peek(f"evidence {snapshot.name}", standing(snapshot))
        return found if isinstance(found, Evidence) else None

    def figures(self, snapshot: StudySnapshot) -> dict[str, str]:
        """Return the pictures of a study as SVG by name; without those that have nothing to show."""

        def draw() -> dict[str, str]:
            from hpo_service.presentation.report import figures, search_figures

            part, evidence = self.overview.partial(snapshot.name, MOST_DRAWN), self.evidence(snapshot)
            measure = evidence.selected_on
            drawn = {
                "interval": figures.interval(evidence),
                "seeds": figures.seeds(evidence),
                "bracket": figures.bracket(part, measure),
                "curves": search_figures.curves(part),
                "rates": search_figures.learning_rates(part, measure),
            }
            return {name: svg for name, svg in drawn.items() if svg is not None}

        return self._drawn.get(f"figures {snapshot.name}", standing(snapshot), draw)

    def cost(self, snapshot: StudySnapshot) -> StudyCost:
        """Add up what trials that have ended cost."""

        def add_up() -> StudyCost:
            return study_cost(snapshot, self.overview.own_seconds(snapshot.name))

        return self._kept.get(f"cost {snapshot.name}", standing(snapshot), add_up)

    def drawn(self, name: str, key: Hashable, draw: Callable[[], str | None]) -> str | None:
        """Return another picture, kept under its own key."""
        return self._drawn.get(f"drawn {name}", key, draw)


def standing(snapshot: StudySnapshot) -> Hashable:
    """What changes whenever something has ended: a value once measured stays."""
    stages = tuple(
        (view.stage, view.open, view.budget, *(view.count(state) for state in FINAL)) for view in snapshot.stages
    )
    return snapshot.created_at, snapshot.state, snapshot.reason, stages
