"""The study file as data: one model per section, every field with a default worth having, a description and bounds."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from hpo_service.domain.hyperparameters import SEARCHABLE, Hyperparameters
from hpo_service.domain.presets import PRESETS
from hpo_service.domain.space import Parameter, ParameterValue, SearchSpace

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSpec(_Section):
    """Which model is searched on (`base`, small) and which one the config is for (`target`, large)."""

    base: str = Field(min_length=1, description="Hub name, local folder, or `builtin:` name of the small model.")
    target: str | None = Field(
        default=None, min_length=1, description="The larger model the best configs are carried over to."
    )
    quantisation: Literal["none", "nf4", "int8"] = Field(
        default="none", description="How frozen base weights are held; nf4 uses double quantisation."
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        default="auto", description="Compute type; auto is bfloat16 where the GPU has it, float32 on a CPU."
    )
    trust_remote_code: bool = Field(default=False, description="Run Python code that comes with the model. Off.")


class SplitSpec(_Section):
    """Shares of the rows held out, decided by a hash of each row's content before the study starts."""

    validation: float = Field(default=0.1, gt=0, lt=0.5, description="Share that pruning and selection look at.")
    test: float = Field(default=0.1, gt=0, lt=0.5, description="Share scored once, in the confirm stage.")
    seed: int = Field(default=42, ge=0, description="Salt of the hash.")


class DataSpec(_Section):
    """Where the rows come from and how they are cut."""

    source: str = Field(min_length=1, description="Local file or folder, hub dataset name, or `builtin:` name.")
    format: Literal["auto", "prompt-completion", "alpaca", "messages", "text"] = Field(
        default="auto", description="Shape of a row; auto looks at the column names."
    )
    split: SplitSpec = Field(default_factory=SplitSpec, description="Held-out shares.")
    max_length: int = Field(default=512, ge=8, le=131072, description="Tokens per row; longer rows are cut.")
    max_rows: int | None = Field(default=None, ge=10, description="Use at most this many rows, chosen by hash.")


class SpaceSpec(_Section):
    """What is searched: a preset plus overrides; null removes a parameter of the preset."""

    preset: Literal["lora", "qlora", "lora-schedules", "minimal", "full", "none"] = Field(
        default="lora", description="Named starting point; `none` starts empty."
    )
    parameters: dict[str, Parameter | None] = Field(
        default_factory=dict, description="Parameters added to or replacing those of the preset."
    )

    def resolve(self) -> SearchSpace:
        """Merge preset and overrides into the space that is searched."""
        merged: dict[str, Parameter | None] = {**PRESETS[self.preset].parameters, **self.parameters}
        return SearchSpace(parameters={name: p for name, p in merged.items() if p is not None})


class BudgetSpec(_Section):
    """When the search stage stops admitting trials: whichever limit is met first."""

    trials: int = Field(default=20, ge=1, le=100_000, description="Search trials, exactly.")
    gpu_hours: float | None = Field(default=None, gt=0, description="Device hours of the search stage.")


class SearchSpec(_Section):
    """How configurations are proposed and losers are stopped."""

    sampler: Literal["tpe", "random", "grid", "qmc"] = Field(default="tpe", description="Who proposes.")
    pruner: Literal["halving", "percentile", "median", "none"] = Field(
        default="halving", description="Who stops losers early; halving keeps the better half at each rung."
    )
    rungs: list[float] = Field(
        default=[0.25, 0.5], description="Fractions of the epoch at which halving compares trials."
    )
    startup_trials: int = Field(default=5, ge=0, description="Random trials before the model-based sampler.")
    seed: int = Field(default=42, ge=0, description="Seed of the sampler and of every search trial.")
    direction: Literal["minimize", "maximize"] = Field(
        default="minimize", description="maximize is for objectives of your own; losses are minimised."
    )
    budget: BudgetSpec = Field(default_factory=BudgetSpec, description="When to stop.")

    @field_validator("rungs")
    @classmethod
    def _rungs_rise(cls, rungs: list[float]) -> list[float]:
        if any(not 0 < rung < 1 for rung in rungs) or sorted(set(rungs)) != rungs:
            raise ValueError("rungs must be rising fractions between 0 and 1")
        return rungs


class TrainingSpec(Hyperparameters):
    """One run: fixed hyper-parameters (anything not searched) and how it is watched."""

    epochs: int = Field(default=1, ge=1, le=100, description="Passes over the training rows.")
    evaluations_per_epoch: int = Field(
        default=8, ge=1, le=1000, description="Evaluations at equal fractions, the same for every trial."
    )
    patience: int = Field(default=3, ge=0, description="Evaluations without improvement before stopping; 0 is never.")
    min_improvement: float = Field(default=0.001, ge=0, description="What counts as an improvement of the loss.")
    micro_batch: int | None = Field(
        default=None, ge=1, description="Rows per forward pass; left out, up to 8 that divide the effective batch."
    )

    def hyperparameters(self) -> Hyperparameters:
        """Return only the hyper-parameters, keeping which of them were given."""
        given = {k: v for k, v in self.model_dump(exclude_unset=True).items() if k in SEARCHABLE}
        return Hyperparameters.model_validate(given)


class TransferSpec(_Section):
    """How search winners are carried to the target model.

    lr x (h_small/h_large)^0.5 lost least on public LoRA sweeps (35 pairs, 0.13% NLL on average); no rule beats
    a short bracket around it.
    """

    top: int = Field(default=3, ge=1, le=20, description="Search configs carried over.")
    rank_factor: float = Field(default=2.0, ge=1, le=16, description="Rank grows by this factor.")
    rank_cap: int = Field(default=64, ge=1, le=1024, description="Largest rank after growing.")
    width_exponent: float = Field(default=0.5, ge=0, le=2, description="lr x (h_small/h_large)^this.")
    bracket: list[float] = Field(
        default=[0.5, 1.0, 2.0], min_length=1, description="Multiples of the scaled lr that are tried."
    )

    @field_validator("bracket")
    @classmethod
    def _bracket_is_positive(cls, bracket: list[float]) -> list[float]:
        if any(factor <= 0 for factor in bracket) or len(set(bracket)) != len(bracket):
            raise ValueError("bracket must hold distinct factors above 0")
        return bracket


class ConfirmSpec(_Section):
    """The last stage: is the winner really better than the default?"""

    enabled: bool = Field(default=True, description="Run the confirm stage.")
    seeds: int = Field(default=3, ge=2, le=100, description="New seeds per config.")
    top: int = Field(default=1, ge=1, le=10, description="Best configs confirmed beside the default.")
    default: dict[str, ParameterValue] | None = Field(
        default=None, description="The config to beat; left out, the practitioners' default."
    )
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Level of the interval.")


class ObjectiveSpec(_Section):
    """An objective of your own instead of the built-in trainer: exactly one of the two."""

    python: str | None = Field(
        default=None, pattern=r"^[\w.]+:[\w.]+$", description="package.module:function, called with a trial context."
    )
    command: str | None = Field(
        default=None, min_length=1, description="Command line with {parameter} placeholders that prints JSON lines."
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.python is None) == (self.command is None):
            raise ValueError("give exactly one of python and command")
        return self


class ExecutionSpec(_Section):
    """How trials are held by workers."""

    max_attempts: int = Field(default=3, ge=1, le=100, description="Attempts that may end in an error.")
    max_losses: int = Field(default=20, ge=1, description="Attempts that may be lost with their worker or preempted.")
    lease_seconds: float = Field(default=60.0, gt=0, le=86400, description="How long a silent worker keeps a trial.")
    hang_seconds: float = Field(
        default=600.0, gt=0, description="A trainer child silent for this long is killed and restarted."
    )
    trials_per_worker: int = Field(default=1, ge=1, le=64, description="Trials one trainer child serves at once.")


class StudySpec(_Section):
    """Everything a study file says."""

    name: str = Field(pattern=NAME_PATTERN, description="Name of the study, unique in its database.")
    description: str = Field(default="", max_length=2000, description="Free text for people.")
    model: ModelSpec | None = Field(default=None, description="The models.")
    data: DataSpec | None = Field(default=None, description="The rows.")
    objective: ObjectiveSpec | None = Field(default=None, description="Your own objective instead.")
    space: SpaceSpec = Field(default_factory=SpaceSpec, description="What is searched.")
    search: SearchSpec = Field(default_factory=SearchSpec, description="How it is searched.")
    training: TrainingSpec = Field(default_factory=TrainingSpec, description="How one run is trained.")
    transfer: TransferSpec = Field(default_factory=TransferSpec, description="From small to large.")
    confirm: ConfirmSpec = Field(default_factory=ConfirmSpec, description="The proof.")
    execution: ExecutionSpec = Field(default_factory=ExecutionSpec, description="Leases and attempts.")

    @model_validator(mode="before")
    @classmethod
    def _own_objectives_start_from_an_empty_space(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("objective") is not None:
            space = data.get("space")
            if isinstance(space, dict) and "preset" not in space:
                return {**data, "space": {**space, "preset": "none"}}
        return data

    @model_validator(mode="after")
    def _sections_fit_together(self) -> Self:
        if self.objective is None:
            self._check_builtin_trainer()
        elif self.model is not None or self.data is not None:
            raise ValueError("objective replaces the built-in trainer: drop model and data, or drop objective")
        space = self.space.resolve()
        if not space.parameters:
            raise ValueError("space is empty: list at least one parameter or choose a preset")
        if self.search.sampler == "grid" and space.size() is None:
            raise ValueError("sampler grid needs a finite space: give every float a step, or use tpe")
        return self

    def _check_builtin_trainer(self) -> None:
        if self.model is None:
            raise ValueError("model is missing: name model.base, or give an objective of your own")
        if self.data is None:
            raise ValueError("data is missing: name data.source")
        if self.search.direction != "minimize":
            raise ValueError("direction maximize is for objectives of your own: a loss is minimised")
        searched = self.space.resolve().parameters
        fixed = self.training.model_fields_set & SEARCHABLE
        if ("lora_alpha" in searched or "lora_alpha" in fixed) and (
            "lora_alpha_multiplier" in searched or "lora_alpha_multiplier" in fixed
        ):
            raise ValueError("lora_alpha and lora_alpha_multiplier both set alpha: give one of them")

    @property
    def verifies(self) -> bool:
        """Whether there is a larger target model, and so a verify stage."""
        return self.model is not None and self.model.target is not None
