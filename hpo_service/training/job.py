"""One trial with everything it needs at hand, whichever engine runs it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from hpo_service.channel import TrialLink
from hpo_service.domain.trial import TrialConfig
from hpo_service.errors import DataError, ModelError
from hpo_service.training.base import Base
from hpo_service.training.checkpoint import CheckpointStore, Identity
from hpo_service.training.plan import Plan
from hpo_service.training.residents import Residents
from hpo_service.training.rows import StudyRows

# What decides the numbers of a run; the rest of a configuration may change between attempts.
DECISIVE = {"model", "model_name", "data", "training", "seed"}


@dataclass(frozen=True)
class Job:
    """A trial's link, base, rows, plan and checkpoints."""

    link: TrialLink
    base: Base
    rows: StudyRows
    plan: Plan
    store: CheckpointStore

    @classmethod
    def of(cls, link: TrialLink, residents: Residents, engine: str, ranks: int = 1) -> Job:
        """Load what a trial needs.

        Args:
            link: of the trial.
            residents: what is loaded already.
            engine: name of the engine; checkpoints of another one do not fit.
            ranks: processes that share the trial.

        Raises:
            ModelError, DataError: the inputs cannot be used, or not together.
            Stopped: the trial was told to stop meanwhile.
        """
        base = residents.base(link)
        rows = residents.rows(link, base)
        _check_fit(base, rows)
        link.check()
        identity = Identity(base.facts.fingerprint, _digest(link.config), rows.fingerprint, engine)
        store = CheckpointStore(link.folder / "checkpoint", identity)
        return cls(link, base, rows, Plan.of(link.config.training, len(rows.train), ranks), store)

    @property
    def config(self) -> TrialConfig:
        """The trial's configuration."""
        return self.link.config


def _check_fit(base: Base, rows: StudyRows) -> None:
    """Refuse rows that would read past the model's tables: on a GPU that ends the process."""
    config = base.model.config.get_text_config()
    if rows.largest_id >= config.vocab_size:
        raise ModelError(f"model {base.key.name} knows no token {rows.largest_id}: its tokenizer belongs to another")
    positions = getattr(config, "max_position_embeddings", None)
    if positions and rows.longest > positions:
        raise DataError(
            f"rows of up to {rows.longest} tokens do not fit the {positions} positions of model {base.key.name}: "
            f"set data.max_length to {positions} or less"
        )


def _digest(config: TrialConfig) -> str:
    return hashlib.sha256(config.model_dump_json(include=DECISIVE).encode()).hexdigest()
