"""The child process that runs objectives of the user's own: `python -m hpo_service.objective`."""

from __future__ import annotations

import logging
import sys
import time

from hpo_service.domain.study.sections.objective import ObjectiveSpec
from hpo_service.domain.trial.facts import RunFacts, TimingFacts, WarningFacts
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.errors import TrialError
from hpo_service.filestore.attempts import restore
from hpo_service.objective.checkpoint import break_seal, seal
from hpo_service.objective.command import run_command
from hpo_service.objective.function import run_function
from hpo_service.wire.child import Channel, Dispatcher, TrialLink, in_turn
from hpo_service.wire.orphans import adopt_orphans


def run_objective(link: TrialLink) -> Outcome:
    """Run one trial of the kind its study names; what it saved is sealed where another attempt may take it up."""
    objective = link.config.objective
    if objective is None:
        raise TrialError(f"trial {link.trial} has no objective of its own: it belongs to the built-in trainer")
    refused = break_seal(link)
    try:
        outcome = _run(objective, link)
    except BaseException:
        seal(link)
        raise
    if outcome.kind is OutcomeKind.RELEASED:
        seal(link)
    if not refused:
        return outcome
    facts = outcome.facts | RunFacts(warnings=WarningFacts(checkpoint_refused=refused))
    return outcome.model_copy(update={"facts": facts})


def _run(objective: ObjectiveSpec, link: TrialLink) -> Outcome:
    began = time.monotonic()
    run = run_function if objective.python is not None else run_command
    outcome = run(objective.python or objective.command or "", link)
    spent = RunFacts(timing=TimingFacts(train=time.monotonic() - began))
    return outcome.model_copy(update={"facts": outcome.facts | spent})


def main() -> int:
    """Serve trials until the supervisor is gone."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    adopt_orphans()
    return Dispatcher(Channel.over_stdio(), in_turn(run_objective), prepare=restore).serve()


if __name__ == "__main__":
    sys.exit(main())
