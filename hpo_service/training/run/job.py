"""One trial with everything it needs at hand, whichever engine runs it."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from hpo_service.domain.decide.watched_rows import watched_rows
from hpo_service.domain.study.combinations import conflict
from hpo_service.domain.study.methods import METHODS
from hpo_service.domain.trial.config import TrialConfig
from hpo_service.errors import DataError, ModelError, UnfitError
from hpo_service.filestore.attempts import mirror
from hpo_service.training.data.batches import check_rows_stay_apart
from hpo_service.training.data.fingerprint import unasked
from hpo_service.training.data.pieces import pieces
from hpo_service.training.data.rows import StudyRows
from hpo_service.training.data.tokens import TokenRows
from hpo_service.training.models.base import Base
from hpo_service.training.run.checkpoint import CheckpointStore, Identity
from hpo_service.training.run.device_memory import Need
from hpo_service.training.run.loaded_models import LoadedModels
from hpo_service.training.run.oom import MemoryPressure
from hpo_service.training.run.steps import StepPlan
from hpo_service.wire.child import TrialLink

# Fields of a configuration that change no number of a run, and may differ between its attempts; all others decide.
UNDECISIVE = {
    "study": "the same run, whoever asks for it",
    "stage": "the same run, whatever it is for",
    "parameters": "they are in `training` already",
    "objective": "None in every trial of the built-in trainer",
    "score_test": "the test rows are scored once training is over",
    "keep_adapter": "weights are saved once training is over",
    "evaluation": "answers are generated once training is over",
    "tracking": "trackers only listen",
    "sharding": "says where the weights lie, not what they are",
    "memory_correction": "decides micro-batches, which change no step",
}
# Fields that came later, with what stood for them before: there they are left out, and old checkpoints still fit.
BEFORE = {"share": 1.0}
TRAINING_BEFORE = {"order": "shuffled"}

# A share of the rows that is whole but for rounding asks for no further row.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Job:
    """A trial's link, base, rows, plan and checkpoints; what it needs of memory, and what it had to give up.

    `rows` are those of its study, whose training part may be cut into pieces; `train` are those of that part that it
    is trained on, the first of all; `watched` are those of the validation part that it is evaluated on before its last
    evaluation, the first of all too, and `watched_reason` says why so many.
    """

    link: TrialLink
    base: Base
    rows: StudyRows
    train: TokenRows
    watched: TokenRows
    watched_reason: str
    plan: StepPlan
    store: CheckpointStore
    need: Need
    pressure: MemoryPressure

    @classmethod
    def of(
        cls, link: TrialLink, loaded: LoadedModels, engine: str, ranks: int = 1, pressure: MemoryPressure | None = None
    ) -> Job:
        """Load what a trial needs.

        Args:
            link: of the trial.
            loaded: what is loaded already.
            engine: name of the engine; checkpoints of another one do not fit.
            ranks: processes that share the trial.
            pressure: what limits its micro-batch; without it nothing does.

        Raises:
            ModelError, DataError: the inputs cannot be used, or not together.
            UnfitError: the hyper-parameters do not go together.
            DoesNotFitError: the device has too little memory for a single row.
            Stopped: the trial was told to stop meanwhile.
        """
        config = link.config
        reason = conflict(config.training, config.model.quantisation if config.model else "none")
        if reason:
            raise UnfitError(reason)
        base = loaded.base(link)
        rows = loaded.rows(link, base)
        train = rows.train.first(rows_of_share(config.share, len(rows.train)))
        decided = watched_rows(config.training, len(train), len(rows.validation))
        watched = rows.validation.first(decided.rows)
        if config.training.scratch_length and METHODS[config.training.method].base == "new":
            train = TokenRows.of(pieces(train, config.training.scratch_length))
            rows = replace(rows, train=train)
        _check_fit(base, rows, config.training.prefix_tokens if config.training.reads("prefix_tokens") else 0)
        if config.data is not None and config.data.pack_rows:
            check_rows_stay_apart(base)
        link.check()
        identity = Identity(
            base.facts.fingerprint,
            _digest(config, watched=len(watched), of=len(rows.validation)),
            rows.fingerprint,
            engine,
        )
        earlier = [each.checkpoint for each in link.folder.earlier]
        store = CheckpointStore(
            link.folder.checkpoint, identity, link.assignment.identity, earlier, partial(mirror, link)
        )
        pressure = pressure or MemoryPressure()
        need = Need.of(config, base, rows.longest, ranks, pressure.capacity_gb, pressure.limit)
        plan = StepPlan.of(config.training, len(train), ranks, need.limit)
        return cls(link, base, rows, train, watched, decided.reason, plan, store, need, pressure)

    @property
    def config(self) -> TrialConfig:
        """The trial's configuration."""
        return self.link.config

    @property
    def watched_rows(self) -> int | None:
        """How many of the validation rows are watched; None where all are."""
        return None if self.watched is self.rows.validation else len(self.watched)

    def part(self, name: str) -> TokenRows:
        """Return the rows that are scored under a name: "watched", "validation" or "test"."""
        return {"watched": self.watched, "validation": self.rows.validation, "test": self.rows.test}[name]


def _check_fit(base: Base, rows: StudyRows, before: int) -> None:
    """Refuse rows that would read past the model's tables: on a GPU that ends the process."""
    config = base.model.config.get_text_config()
    if rows.largest_id >= config.vocab_size:
        raise ModelError(f"model {base.key.name} knows no token {rows.largest_id}: its tokenizer belongs to another")
    positions = getattr(config, "max_position_embeddings", None)
    if positions and rows.longest + before > positions:
        behind = f" behind a prefix of {before}" if before else ""
        raise DataError(
            f"rows of up to {rows.longest} tokens{behind} do not fit the {positions} positions of model "
            f"{base.key.name}: set data.max_length to {max(1, positions - before)} or less"
        )


def rows_of_share(share: float, rows: int) -> int:
    """Rows that are trained on: the first of all, at least one.

    Their order follows from what is in them and the seed of the split, which no trial decides. So trials of one share
    are trained on the same rows, and the rows of a smaller share are among those of a larger one.

    Args:
        share: above 0, up to 1.
        rows: of the training part.
    """
    return min(rows, max(1, math.ceil(share * rows - ROUNDING)))


def _digest(config: TrialConfig, watched: int = 0, of: int = 0) -> str:
    """Digest of what decides the numbers of a run that is watched on so many validation rows of all there are."""
    left_out = set(UNDECISIVE) | {name for name, value in BEFORE.items() if getattr(config, name) == value}
    # what counts of evaluation_rows is the number that comes of it
    unread = {"evaluation_rows"} | {n for n, value in TRAINING_BEFORE.items() if getattr(config.training, n) == value}
    exclude: dict[str, Any] = {**dict.fromkeys(left_out, True), "training": unread}
    if config.data is not None:
        exclude["data"] = unasked(config.data)
    text = config.model_dump_json(exclude=exclude)
    return hashlib.sha256((text if watched == of else f"{text} {watched}").encode()).hexdigest()
