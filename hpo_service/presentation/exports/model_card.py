"""`best/README.md`: a model card as the hub shows it, filled from what the study measured."""

from __future__ import annotations

from typing import Any

from ruamel.yaml.comments import CommentedMap

from hpo_service.domain.study.methods import METHODS
from hpo_service.domain.study.protocol import STAGES
from hpo_service.domain.study.sources import BUILTIN, looks_local
from hpo_service.domain.study.spec import StudySpec
from hpo_service.presentation.study_text import yaml_text
from hpo_service.service.studies.findings.configuration import Configuration
from hpo_service.service.studies.findings.evidence import Evidence, resolved
from hpo_service.service.studies.snapshot import StudySnapshot

NAME = "README.md"

ADAPTER = """\
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

model = AutoPeftModelForCausalLM.from_pretrained("{here}")
tokenizer = AutoTokenizer.from_pretrained("{here}")
inputs = tokenizer("...", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=64)[0], skip_special_tokens=True))
"""
WHOLE = ADAPTER.replace(
    "peft import AutoPeftModelForCausalLM\nfrom transformers import", "transformers import AutoModelForCausalLM,"
).replace("AutoPeftModelForCausalLM", "AutoModelForCausalLM")


def model_card(snapshot: StudySnapshot, evidence: Evidence) -> str | None:
    """Return the card as Markdown below its YAML head; None where no run of the built-in trainer is handed over."""
    spec, chosen, run = snapshot.spec, evidence.recommended, evidence.exported
    settings = resolved(spec, chosen.parameters) if chosen is not None else None
    if spec.model is None or spec.data is None or chosen is None or run is None or settings is None:
        return None
    base = STAGES[str(evidence.stage)].model_of(spec) or spec.model.base
    frozen = METHODS[settings.method].base == "frozen"
    trial = next((t for view in snapshot.stages for t in view.trials if t.id == run.trial_id), None)
    versions = trial.facts.environment.versions if trial else None
    values = {n: v for n, v in settings.model_dump(mode="json", exclude_none=True).items() if settings.reads(n)}
    parts = [
        f"---\n{yaml_text(_head(spec, base, frozen=frozen))}---",
        f"# {snapshot.name}",
        spec.description or "",
        f"{'An adapter for' if frozen else 'Trained from'} `{base}`: {METHODS[settings.method].summary}. "
        f"It is run {evidence.stage} #{run.number} (seed {run.seed}) of study `{snapshot.name}`; {evidence.export}.",
        "## What was measured",
        f"{evidence.sentence[:1].upper()}{evidence.sentence[1:]}.",
        _scores(evidence),
        "".join(f"* {remark}\n" for remark in evidence.remarks),
        "## Data",
        _data(spec, trial.facts.data.model_dump(exclude_none=True) if trial else {}),
        "## Use",
        f"```python\n{(ADAPTER if frozen else WHOLE).format(here='.')}```",
        "## Hyper-parameters",
        "".join(f"* `{name}`: {value}\n" for name, value in values.items()) + f"* `epochs`: {spec.training.epochs}\n",
        "## Train it again",
        f"```console\n$ hpo-service train {snapshot.name} --epochs {spec.training.epochs}\n"
        f"$ hpo-service export {snapshot.name} --to script\n```",
        f"Made with: {versions}." if versions else "",
    ]
    return "\n\n".join(part.rstrip("\n") for part in parts if part) + "\n"


def _head(spec: StudySpec, base: str, *, frozen: bool) -> CommentedMap:
    head = CommentedMap({"library_name": "peft" if frozen else "transformers", "pipeline_tag": "text-generation"})
    if _on_hub(base):
        head["base_model"] = base
    if spec.data is not None and (shared := [name for name in spec.data.sources if _on_hub(name)]):
        head["datasets"] = shared
    head["tags"] = ["hpo-service", spec.training.method]
    return head


def _on_hub(name: str) -> bool:
    return not name.startswith(BUILTIN) and not looks_local(name)


def _scores(evidence: Evidence) -> str:
    """One row for each configuration: means over seeds with the range of the seeds."""
    rows = [f"| configuration | seeds | {evidence.selected_on} | test {evidence.measure} |", "|---|---|---|---|"]
    for side in evidence.configurations:
        mark = " (this one)" if evidence.recommended is not None and side.label == evidence.recommended.label else ""
        rows.append(
            f"| {side.label}{mark} | {len(side.runs)} | {_spread(side, 'validation')} | {_spread(side, 'test')} |"
        )
    comparison = evidence.comparison
    if comparison is not None and comparison.low is not None:
        unit = comparison.unit or ""
        found = f"{comparison.improvement:+.2f}{unit} ({comparison.low:+.2f}{unit} to {comparison.high:+.2f}{unit})"
        rows.append(f"\nWinner against default: {found} at {100 * comparison.confidence:g}% confidence.")
    return "\n".join(rows)


def _spread(side: Configuration, split: str) -> str:
    values = [value for run in side.runs if (value := getattr(run, split)) is not None]
    mean = getattr(side, split)
    if mean is None:
        return "not measured"
    return f"{mean:.4f}" + (f" ({min(values):.4f} to {max(values):.4f})" if len(values) > 1 else "")


def _data(spec: StudySpec, facts: dict[str, Any]) -> str:
    assert spec.data is not None
    named = [name for name in spec.data.sources if _on_hub(name) or name.startswith(BUILTIN)]
    source = ", ".join([*named, *(["local rows"] if len(named) < len(spec.data.sources) else [])])
    counted = ", ".join(f"{facts[part]} for {part}" for part in ("train", "validation", "test") if part in facts)
    learned = "the completions" if spec.data.learn == "completions" else "all tokens"
    said = f"`{source}`" + (f" ({facts['format']})" if "format" in facts else "")
    return f"{said}: {counted or 'rows not counted'}; cut to {spec.data.max_length} tokens, the loss is of {learned}."
