"""What stays behind of a run, grouped by what it tells of; sent and stored as one flat object of names and values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self, get_args, get_type_hints

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_serializer

from hpo_service.domain.study.data_report import DataReport
from hpo_service.domain.study.sections.evaluation import METRIC_FACT
from hpo_service.domain.trial.reason import Reason

# A whole number stays one, so that what was stored is given out as it was.
Number = int | float


class _Group(BaseModel):
    """Facts of one kind; None is not known, and is not written. A field is stored under its serialisation alias."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class TimingFacts(_Group):
    """Seconds of wall clock; those of the device are times the number of ranks, or the share of a shared device."""

    train: Number | None = Field(default=None, serialization_alias="seconds_train")
    evaluate: Number | None = Field(default=None, serialization_alias="seconds_evaluate")
    wait: Number | None = Field(default=None, serialization_alias="seconds_wait")
    checkpoint: Number | None = Field(default=None, serialization_alias="seconds_checkpoint")
    metrics: Number | None = Field(default=None, serialization_alias="seconds_metrics")
    setup: Number | None = Field(default=None, serialization_alias="seconds_setup")
    device: Number | None = Field(default=None, serialization_alias="device_seconds")


class TrainingFacts(_Group):
    """How far the run went, on how many rows, in which steps, and how well.

    `adapter_mb` is the size of the trained weights as they are saved, in MB (1e6 bytes).
    `best_value` is the lowest validation loss, in nats, of the `watched` rows: of the evaluations before the last.
    `validation_loss` is that of all validation rows, where the trial's value is a metric of answers.
    """

    tokens: int | None = None
    steps: int | None = None
    steps_planned: int | None = None
    micro_batch: int | None = None
    accumulation: int | None = None
    ranks: int | None = None
    evaluations: int | None = None
    seed: int | None = None
    trainable_parameters: int | None = None
    adapter_mb: Number | None = None
    resumed_at_step: int | None = None
    best_value: Number | None = None
    validation_loss: Number | None = None
    metric_rows: int | None = None
    rows: int | None = Field(default=None, serialization_alias="rows_trained")
    watched: int | None = Field(default=None, serialization_alias="rows_watched")
    watched_reason: Reason | None = Field(default=None, serialization_alias="rows_watched_because")


class FingerprintFacts(_Group):
    """SHA-256 of what a run was made from: the base's configuration and weights, and all token ids and labels."""

    base: str | None = Field(default=None, serialization_alias="base_fingerprint")
    data: str | None = Field(default=None, serialization_alias="data_fingerprint")


class EnvironmentFacts(_Group):
    """Where and by what the run was made; `engine` is named by engines other than the solo one."""

    compute: str | None = None
    device: str | None = None
    versions: str | None = None
    engine: str | None = None


VRAM_OVER = "vram_over_gb"
"""Name of the fact, and of the constraint in Optuna's books, that says how far a trial was over its device's memory."""


class MemoryFacts(_Group):
    """Gigabytes (1e9 bytes) measured and estimated, and what was given up for lack of them.

    Attributes:
        peak_gb: most memory held, of the GPU where there is one, else of the process.
        estimate_gb: what its tensors were thought to need.
        case: name under which peak and estimate are compared; None where the peak is not this trial's alone.
        over_gb: by how much it was too large for its device; below 0 by how much it was not.
        oom_halvings: how often the micro-batch was halved.
        evaluation_tokens: padded tokens of an evaluation batch, where it had to be cut.
        base_share_held: part of a sharded base's weights that lies on this rank.
    """

    peak_gb: Number | None = Field(default=None, serialization_alias="peak_memory_gb")
    estimate_gb: Number | None = Field(default=None, serialization_alias="memory_estimate_gb")
    case: str | None = Field(default=None, serialization_alias="memory_of")
    over_gb: Number | None = Field(default=None, serialization_alias="vram_over_gb")
    oom_halvings: int | None = None
    evaluation_tokens: int | None = None
    base_share_held: Number | None = None


class DataFacts(_Group):
    """The rows the run saw: their format, how many are in each part, what was dropped, and their lengths in tokens."""

    format: str | None = Field(default=None, serialization_alias="data_format")
    train: int | None = Field(default=None, serialization_alias="rows_train")
    validation: int | None = Field(default=None, serialization_alias="rows_validation")
    test: int | None = Field(default=None, serialization_alias="rows_test")
    truncated: int | None = Field(default=None, serialization_alias="rows_truncated")
    unsupervised: int | None = Field(default=None, serialization_alias="rows_unsupervised")
    leaked: int | None = Field(default=None, serialization_alias="rows_leaked")
    repeated: int | None = Field(default=None, serialization_alias="rows_repeated")
    duplicated: int | None = Field(default=None, serialization_alias="rows_duplicated")
    p50: int | None = Field(default=None, serialization_alias="row_tokens_p50")
    p90: int | None = Field(default=None, serialization_alias="row_tokens_p90")
    p99: int | None = Field(default=None, serialization_alias="row_tokens_p99")
    longest: int | None = Field(default=None, serialization_alias="row_tokens_longest")
    groups: int | None = Field(default=None, serialization_alias="row_groups")
    padding_share: Number | None = None
    packing_saved_share: Number | None = None

    @classmethod
    def of(cls, report: DataReport) -> Self:
        """The short form of a data report, which stands with every trial."""
        whole = report.whole
        return cls(
            format=report.format,
            **{name: part.rows for name, part in report.parts.items()},
            truncated=whole.truncated,
            unsupervised=whole.unsupervised,
            leaked=report.leaked,
            repeated=report.repeated,
            duplicated=report.duplicates,
            p50=whole.p50,
            p90=whole.p90,
            p99=whole.p99,
            longest=whole.longest,
            groups=whole.groups,
        )


class WarningFacts(_Group):
    """What went wrong without costing the trial its result, each in a sentence."""

    checkpoint: Reason | None = Field(default=None, serialization_alias="checkpoint_warning")
    checkpoint_refused: Reason | None = None
    adapter: Reason | None = Field(default=None, serialization_alias="adapter_warning")
    metrics: Reason | None = Field(default=None, serialization_alias="metrics_warning")
    tracking: Reason | None = Field(default=None, serialization_alias="tracking_warning")


class ConstraintFacts(_Group):
    """Which of the study's limits the trial broke, in a sentence; such a trial is never chosen."""

    violated: Reason | None = Field(default=None, serialization_alias="constraint_violated")


class RunFacts(BaseModel):
    """Everything measured of a run beside its value and scores.

    `extra` holds what no group has a field for, by its stored name: task metrics (`metric:<name>`), facts of other
    versions, and values of another type than the field of that name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    timing: TimingFacts = TimingFacts()
    training: TrainingFacts = TrainingFacts()
    fingerprints: FingerprintFacts = FingerprintFacts()
    environment: EnvironmentFacts = EnvironmentFacts()
    memory: MemoryFacts = MemoryFacts()
    data: DataFacts = DataFacts()
    warnings: WarningFacts = WarningFacts()
    constraints: ConstraintFacts = ConstraintFacts()
    extra: dict[str, object] = Field(default_factory=dict)

    @classmethod
    def of(cls, flat: Mapping[str, object]) -> RunFacts:
        """Read facts as they are stored; nothing in them is refused."""
        groups: dict[str, dict[str, Any]] = {}
        extra: dict[str, object] = {}
        for key, value in flat.items():
            group, name, types = _PLACES.get(key, ("", "", ()))
            if isinstance(value, types) and not isinstance(value, bool):
                groups.setdefault(group, {})[name] = value
            else:
                extra[key] = value
        # without another validation, which might yet refuse: text that is no Unicode, say
        known: dict[str, Any] = {group: _GROUPS[group].model_construct(**values) for group, values in groups.items()}
        return cls.model_construct(**known, extra=extra)

    @model_serializer(mode="plain")
    def flat(self) -> dict[str, object]:
        """The facts as they are sent, stored and shown: by name, without those that are not known."""
        known: dict[str, object] = {}
        for group in _GROUPS:
            known |= getattr(self, group).model_dump(by_alias=True, exclude_none=True)
        return known | self.extra

    def __or__(self, other: RunFacts) -> RunFacts:
        """Both together; where both know a fact, the other's stands."""
        return RunFacts.of({**self.flat(), **other.flat()})

    @property
    def metrics(self) -> dict[str, float]:
        """Task metrics that were measured, by the name the study file gives them."""
        measured = {k.removeprefix(METRIC_FACT): v for k, v in self.extra.items() if k.startswith(METRIC_FACT)}
        return {name: float(value) for name, value in measured.items() if isinstance(value, int | float)}


_GROUPS: dict[str, type[_Group]] = {
    name: kind for name, kind in get_type_hints(RunFacts).items() if isinstance(kind, type) and issubclass(kind, _Group)
}


def _places() -> dict[str, tuple[str, str, tuple[type, ...]]]:
    """Group, field and types of every stored name; null is no type of a field, but kept as it was found."""
    places = {}
    for group, kind in _GROUPS.items():
        hints = get_type_hints(kind)
        for name, field in kind.model_fields.items():
            types = tuple(each for each in get_args(hints[name]) if each is not type(None))
            places[field.serialization_alias or name] = (group, name, types)
    return places


_PLACES = _places()


def _read(value: object) -> object:
    return RunFacts.of(value) if isinstance(value, Mapping) else value


FlatFacts = Annotated[RunFacts, BeforeValidator(_read)]
"""The field of a message in which facts travel flat."""
