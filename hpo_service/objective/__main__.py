"""The child process that runs objectives of the user's own: `python -m hpo_service.objective`."""

from __future__ import annotations

import logging
import sys

from hpo_service.domain.study.sections.objective import ObjectiveSpec
from hpo_service.domain.trial.facts import RunFacts, WarningFacts
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
    if objective.python is not None:
        return run_function(objective.python, link)
    return run_command(objective.command or "", link)


def main() -> int:
    """Serve trials until the supervisor is gone."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    adopt_orphans()
    return Dispatcher(Channel.over_stdio(), in_turn(run_objective), prepare=restore).serve()


if __name__ == "__main__":
    sys.exit(main())
