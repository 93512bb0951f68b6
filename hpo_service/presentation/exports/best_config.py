"""The text of `best/config.yaml`: complete, readable, and honest about where each value is from."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from hpo_service.domain.decide.measure import Unit
from hpo_service.domain.study.protocol import STAGES
from hpo_service.domain.study.spec import StudySpec
from hpo_service.presentation.cost import study_cost
from hpo_service.presentation.study_text import yaml_text
from hpo_service.service.studies.findings.configuration import Configuration
from hpo_service.service.studies.findings.evidence import Evidence, resolved
from hpo_service.service.studies.snapshot import StudySnapshot

UNITS: dict[Unit, str] = {"%": "percent", "points": "points", "": "difference"}
"""What keys of figures in a unit end in."""


def best_config(snapshot: StudySnapshot, evidence: Evidence, no_adapter: str | None) -> str:
    """Return the YAML text.

    Args:
        snapshot: the study.
        evidence: what was found in it.
        no_adapter: why there is no adapter beside it, or None where there is.
    """
    document = CommentedMap()
    version = importlib.metadata.version("hpo-service")
    document.yaml_set_start_comment(f"The configuration that study {snapshot.name} recommends (hpo-service {version}).")
    document["study"] = snapshot.name
    document["verdict"] = evidence.sentence
    if evidence.remarks:
        document["remarks"] = list(evidence.remarks)
    recommended, run = evidence.recommended, evidence.exported
    if recommended is None or run is None or evidence.stage is None:
        return yaml_text(document)
    document["recommended"] = recommended.label
    document.yaml_add_eol_comment(
        f"the one with the best mean {evidence.selected_on}"
        if evidence.metric
        else "the one with the best mean validation value",
        "recommended",
    )
    document.update(_model(snapshot.spec, evidence.stage))
    document["hyperparameters"] = _hyperparameters(snapshot.spec, recommended)
    document["seed"] = run.seed
    document["measured"] = _measured(evidence)
    document["found"] = _found(snapshot, evidence)
    document["adapter"] = "." if no_adapter is None else None
    document.yaml_add_eol_comment(no_adapter or "this folder, in PEFT format", "adapter")
    for section in ("model", "hyperparameters", "measured", "found"):
        if section in document:
            document.yaml_set_comment_before_after_key(section, before="\n")
    return yaml_text(document)


def found_run(path: Path) -> str | None:
    """Return the run that a configuration was found in, such as `confirm #3`; None where the file does not say."""
    try:
        document = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
        return str(document["found"]["run"])
    except (OSError, ValueError, YAMLError, KeyError, TypeError):
        return None


def _model(spec: StudySpec, stage: str) -> CommentedMap:
    sections = CommentedMap()
    if spec.objective is not None:
        sections["objective"] = spec.objective.model_dump(mode="json", exclude_none=True)
    if spec.model is not None:
        model = CommentedMap({"name": STAGES[stage].model_of(spec)})
        model["quantisation"] = spec.model.quantisation
        model["dtype"] = spec.model.dtype
        sections["model"] = model
    if spec.data is not None:
        sections["data"] = spec.data.model_dump(mode="json", exclude_none=True)
    return sections


def _hyperparameters(spec: StudySpec, chosen: Configuration) -> CommentedMap:
    """What the run read, each with where its value is from; for an objective of the user's own just the values."""
    settings = resolved(spec, chosen.parameters)
    if settings is None:
        return CommentedMap(chosen.parameters)
    dumped = settings.model_dump(mode="json", exclude_none=True)
    values: dict[str, Any] = {name: value for name, value in dumped.items() if settings.reads(name)}
    if settings.reads("lora_alpha"):
        values.setdefault("lora_alpha", settings.alpha)
    origin = chosen.label.split()[0]
    written = CommentedMap()
    for name, value in values.items():
        written[name] = value
        if name in chosen.parameters:
            written.yaml_add_eol_comment("searched" if origin == "winner" else "the default's", name)
        elif name == "lora_alpha" and settings.lora_alpha is None:
            written.yaml_add_eol_comment("= lora_alpha_multiplier x lora_rank", name)
        else:
            given = name in spec.training.model_fields_set
            written.yaml_add_eol_comment("fixed in the study file" if given else "not searched, the default", name)
    for name in ("epochs", "evaluations_per_epoch", "patience", "min_improvement", "micro_batch"):
        if getattr(spec.training, name) is not None:
            written[name] = getattr(spec.training, name)
    return written


def _measured(evidence: Evidence) -> CommentedMap:
    written = CommentedMap()
    written["measure"] = evidence.measure
    written["direction"] = f"{evidence.direction.comparative} is better"
    for side in evidence.configurations:
        written[side.label] = CommentedMap(
            {
                "validation_mean": side.validation,
                "test_mean": side.test,
                "runs": [{"seed": r.seed, "validation": r.validation, "test": r.test} for r in side.runs],
            }
        )
    comparison = evidence.comparison
    if comparison is not None:
        unit = UNITS[comparison.unit]
        written[f"improvement_{unit}"] = comparison.improvement
        written[f"interval_{unit}"] = None if comparison.low is None else [comparison.low, comparison.high]
        written["confidence"] = comparison.confidence
    return written


def _found(snapshot: StudySnapshot, evidence: Evidence) -> CommentedMap:
    run = evidence.exported
    spent = study_cost(snapshot)
    return CommentedMap(
        {
            "run": f"{evidence.stage} #{run.number}" if run else None,
            "configuration": evidence.choice,
            "seed": evidence.export,
            "trials": {str(view.stage): view.ended for view in snapshot.stages},
            "device_hours": round(spent.seconds / 3600, 4),
            "device_hours_saved_by_pruning_estimate": round(spent.saved / 3600, 4),
        }
    )
