"""One worker meets study after study that cannot be trained: each ends with one clear line, and the good one runs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForSequenceClassification, AutoTokenizer, LlamaConfig

from hpo_service.bootstrap import Service
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.settings import Settings
from tests.acceptance.home import PATIENCE
from tests.training.tiny import byte_tokenizer, pairs, save_tiny_llama, write_rows

DEAF_TEMPLATE = (
    "{% for message in messages %}{% if message.role == 'user' %}{{ message.content }}\n{% endif %}{% endfor %}"
)


@pytest.fixture
def service(migrated_sqlite: str, tmp_path: Path) -> Iterator[Service]:
    made = Service(Settings(storage=migrated_sqlite, output=tmp_path / "out", cache=tmp_path / "cache"))
    yield made
    made.db.dispose()


def without_tokenizer(llama: str, folder: Path) -> str:
    shutil.copytree(llama, folder, ignore=shutil.ignore_patterns("tokenizer*", "special_tokens*", "chat_template*"))
    return str(folder)


def deaf_to_assistants(llama: str, folder: Path) -> str:
    shutil.copytree(llama, folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(llama)
    tokenizer.chat_template = DEAF_TEMPLATE
    tokenizer.save_pretrained(folder)
    return str(folder)


def classifier(folder: Path) -> str:
    config = LlamaConfig(
        vocab_size=300, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2
    )
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return str(folder)


def conversation(number: int) -> dict[str, Any]:
    turns = [("user", f"say {number}"), ("assistant", f"number {number}")]
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def bad_studies(folder: Path, llama: str, rows: str) -> dict[str, tuple[dict[str, Any], str]]:
    """By name, what differs from a good study and the line that it is to end with."""
    corrupt = folder / "corrupt.jsonl"
    corrupt.write_text(Path(rows).read_text() + '{"prompt": "say", "completion\n')
    few = write_rows(folder / "few.jsonl", pairs(3))
    chats = write_rows(folder / "chats.jsonl", [conversation(number) for number in range(60)])
    deaf = deaf_to_assistants(llama, folder / "deaf")
    nameless = without_tokenizer(llama, folder / "nameless")
    judge = classifier(folder / "judge")
    return {
        "corrupt-row": ({"data": {"source": str(corrupt)}}, f"{corrupt}, line 71 is not valid JSON: "),
        "empty-split": ({"data": {"source": few}}, "part is empty: 3 rows were cut into "),
        "no-assistant-turns": (
            {"model": {"base": deaf}, "data": {"source": chats}},
            ": the model's chat template shows no turn of the assistant as it was written; ",
        ),
        "no-tokenizer": ({"model": {"base": nameless}}, f"model {nameless} has no usable tokenizer: "),
        "no-causal-lm": (
            {"model": {"base": judge}},
            f"model {judge} is not a causal language model (it is a LlamaForSequenceClassification); ",
        ),
    }


def spec(name: str, llama: str, rows: str, changes: dict[str, Any]) -> StudySpec:
    sections = {
        "name": name,
        "model": {"base": llama},
        "data": {"source": rows},
        "space": {"preset": "none", "parameters": {"learning_rate": {"low": 4e-3, "high": 5e-3}}},
        "search": {"budget": {"trials": 3}, "sampler": "random"},
        "training": {"effective_batch": 16, "evaluations_per_epoch": 2, "patience": 0},
        "confirm": {"enabled": False},
        **changes,
    }
    sections["data"] = {"max_length": 64, **sections["data"]}
    return StudySpec.model_validate(sections)


@pytest.mark.slow
def test_studies_that_cannot_be_trained_end_with_one_clear_line_and_the_good_one_runs(
    service: Service, tmp_path: Path, fleet_of: Any
) -> None:
    llama = save_tiny_llama(tmp_path / "llama")
    rows = write_rows(tmp_path / "rows.jsonl", pairs(70))
    bad = bad_studies(tmp_path, llama, rows)
    # the oldest study is served first, so that all but the good one's trials come before it
    for name, (changes, _) in bad.items():
        service.studies.create(spec(name, llama, rows, changes))
    service.studies.create(spec("good", llama, rows, {}))
    fleet = fleet_of(service, "", HPO_SERVICE_CACHE=str(tmp_path / "cache"))
    fleet.start(1)
    assert fleet.wait(PATIENCE), (fleet.output / "workers.log").read_text()[-3000:]
    for name, (_, line) in bad.items():
        snapshot = service.reader.snapshot(name)
        trials = snapshot.stages[0].trials
        assert snapshot.state is StudyState.FAILED, name
        assert snapshot.reason.startswith("3 trials failed and none succeeded, the last with: "), name
        for trial in trials:
            assert trial.state is TrialState.FAILED, name
            assert line in trial.reason, name
            assert "\n" not in trial.reason, name
            # it can only fail the same way again
            assert trial.attempt == 1, name
    good = service.reader.snapshot("good")
    assert good.state is StudyState.FINISHED
    assert [trial.state for trial in good.stages[0].trials] == [TrialState.COMPLETE] * 3
