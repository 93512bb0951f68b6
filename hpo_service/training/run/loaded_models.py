"""What stays loaded between trials: the base model, tokenised rows, and what is known of other models."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from hpo_service.domain.study.methods import METHODS
from hpo_service.domain.trial.config import TrialConfig
from hpo_service.domain.trial.model_facts import ModelFacts
from hpo_service.errors import TrialError
from hpo_service.training.builtin.architecture import Architecture, Blueprint
from hpo_service.training.data.row_cache import RowCache
from hpo_service.training.data.rows import StudyRows
from hpo_service.training.distributed.process_group import ProcessGroup
from hpo_service.training.distributed.sharding import shard
from hpo_service.training.files.node_cache import Progress
from hpo_service.training.models.base import Base, BaseKey, describe_model, load_base
from hpo_service.training.run.device_memory import capacity_gb, check_before_loading, release_memory
from hpo_service.training.run.oom import too_large, until_out_of_memory
from hpo_service.wire.child import TrialLink

# Seconds a model may take to come over the network, or a data set, before silence counts as a hang.
LOADING_SECONDS = 3600.0


@dataclass
class LoadedModels:
    """One base at a time, for two may not fit; the rows of a few studies."""

    cache: Path
    ranks: ProcessGroup = field(default_factory=ProcessGroup)
    _base: Base | None = None
    _rows: RowCache = field(init=False)
    _described: dict[str, ModelFacts] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._rows = RowCache(self.cache / "rows")

    def base(self, link: TrialLink) -> Base:
        """The base that a trial trains on, loaded if another one is resident.

        Raises:
            TrialError: the trial names no model.
            ModelError: it cannot be loaded.
            DoesNotFitError: the device has too little memory for it.
            Stopped: the trial was told to stop meanwhile.
        """
        config = link.config
        if config.model is None or config.model_name is None:
            raise TrialError(f"trial {link.trial} names no model for the built-in trainer")
        key = BaseKey.of(config.model_name, config.model, config.training.method, _blueprint(config))
        key = replace(key, sharded=config.sharding == "fsdp")
        if self._base is None or self._base.key != key:
            self.release()
            check_before_loading(config, key, self.ranks.size, capacity_gb())
            what = "building a model" if key.blueprint else f"loading {key.name}"
            with link.busy(what, LOADING_SECONDS):
                loading = partial(load_base, key, self.cache, _progress(link), wanted_later=config.model.target)
                base, error = until_out_of_memory(loading)
                if base is None:
                    raise too_large(None, capacity_gb(), f"{what} ({' '.join(str(error).split())})")
                if key.sharded:
                    shard(base.model, self.ranks)
                self._base = base
        return self._base

    def rows(self, link: TrialLink, base: Base) -> StudyRows:
        """The rows of a trial's study as this base's tokenizer sees them.

        Raises:
            TrialError: the trial names no data.
            DataError: the data cannot be used.
        """
        spec = link.config.data
        if spec is None:
            raise TrialError(f"trial {link.trial} names no data for the built-in trainer")
        with link.busy(f"reading {spec.called}", LOADING_SECONDS):
            return self._rows.rows(spec, base.tokenizer, base.tokenizer_fingerprint, _progress(link))

    def describe(self, link: TrialLink, base: Base) -> dict[str, ModelFacts]:
        """What is known of the base and of the other models of its study."""
        self._described[base.key.name] = base.facts
        for name in link.config.models:
            if name not in self._described:
                with link.busy(f"looking at {name}", LOADING_SECONDS):
                    self._described[name] = describe_model(name, base.key.trust_remote_code)
        return {name: self._described[name] for name in {base.key.name, *link.config.models}}

    def release(self) -> None:
        """Forget the base and give its memory back."""
        self._base = None
        release_memory()


def _blueprint(config: TrialConfig) -> Blueprint | None:
    """What to build where the method starts from nothing: a shape for the study's rows, and the trial's seed."""
    if METHODS[config.training.method].base != "new" or config.data is None:
        return None
    return Blueprint(Architecture.of(config.training, config.data.max_length), config.seed)


def _progress(link: TrialLink) -> Progress:
    """Say what is being done, and leave it where the trial is to stop."""

    def tell(message: str, fraction: float) -> None:
        link.touch(activity=f"{message} ({fraction:.0%})")
        link.check()

    return tell
