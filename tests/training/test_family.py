"""The builtin family: made once, whole or not at all, loadable by the ordinary classes."""

import json
import multiprocessing
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from transformers import AutoModelForCausalLM, AutoTokenizer

from hpo_service.errors import ModelError
from hpo_service.training.builtin.architecture import Architecture
from hpo_service.training.builtin.corpus import source_documents
from hpo_service.training.builtin.family import FAMILY, Recipe, is_builtin, resolve_model, token_stream, train_tokenizer
from hpo_service.training.builtin.pretraining import PretrainingPlan
from hpo_service.training.files import node_cache as cache_module

NAME = "builtin:llama-mini"
MINI = Recipe(
    Architecture(hidden_size=32, intermediate_size=64, layers=1, heads=2, positions=64),
    PretrainingPlan(steps=3, batch_size=2, length=16, learning_rate=1e-2),
    vocabulary=300,
    corpus_chars=20_000,
)
MEMBERS = {"llama-mini": MINI}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def built(cache: Path) -> Path:
    return Path(resolve_model(NAME, cache, family=MEMBERS))


def _resolve(cache: Path, answers: "multiprocessing.Queue[str]") -> None:
    told: list[str] = []
    answers.put(resolve_model(NAME, cache, lambda message, _fraction: told.append(message), MEMBERS))


def test_a_name_without_the_prefix_comes_back_unchanged(tmp_path: Path) -> None:
    assert resolve_model("HuggingFaceTB/SmolLM2-135M", tmp_path) == "HuggingFaceTB/SmolLM2-135M"
    assert not is_builtin("HuggingFaceTB/SmolLM2-135M")
    assert not list(tmp_path.iterdir())


def test_an_unknown_builtin_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"no builtin model builtin:llama-huge.*builtin:llama-tiny, builtin:llama-small"
    ):
        resolve_model("builtin:llama-huge", tmp_path)


def test_the_ordinary_classes_load_model_and_tokenizer(built: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(built)
    model = AutoModelForCausalLM.from_pretrained(built)
    text = "def spam(eggs):\n    return 'ä' + eggs  # 日本\n"
    ids = tokenizer(text).input_ids
    assert model(input_ids=torch.tensor([ids])).logits.shape == (1, len(ids), len(tokenizer))
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert len({tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}) == 3


def test_the_loaded_tokenizer_encodes_as_the_trained_one_did(built: Path) -> None:
    documents = source_documents(MINI.corpus_chars)
    trained = train_tokenizer(documents, MINI.vocabulary)
    loaded = AutoTokenizer.from_pretrained(built)
    assert len(loaded) == len(trained) == MINI.vocabulary
    assert torch.equal(token_stream(loaded, documents), token_stream(trained, documents))


def test_the_recipe_lies_beside_the_weights(built: Path) -> None:
    record = json.loads((built / "pretraining.json").read_text())
    assert record["recipe"]["plan"]["steps"] == MINI.plan.steps
    assert record["outcome"]["tokens"] == 3 * 2 * 16
    assert (built / "model.safetensors").exists()


def test_a_built_model_is_not_built_again(built: Path, cache: Path) -> None:
    before = (built / "model.safetensors").stat().st_mtime_ns
    told: list[str] = []
    assert resolve_model(NAME, cache, lambda message, _fraction: told.append(message), MEMBERS) == str(built)
    assert (built / "model.safetensors").stat().st_mtime_ns == before
    assert told == []


def test_one_that_need_not_wait_does_no_other_work_first(built: Path, tmp_path: Path) -> None:
    did: list[str] = []
    path = resolve_model(NAME, tmp_path, family=MEMBERS, meanwhile=lambda: did.append("other work"))
    assert Path(path).name == built.name
    assert did == []


def test_the_same_recipe_gives_the_same_weights_elsewhere(built: Path, tmp_path: Path) -> None:
    again = Path(resolve_model(NAME, tmp_path, family=MEMBERS))
    assert again.name == built.name
    assert (again / "model.safetensors").read_bytes() == (built / "model.safetensors").read_bytes()
    assert (again / "tokenizer.json").read_bytes() == (built / "tokenizer.json").read_bytes()


@pytest.mark.parametrize("changed", [{"seed": 1}, {"vocabulary": 301}, {"corpus_chars": 30_000}])
def test_another_recipe_is_another_model(built: Path, cache: Path, changed: dict[str, int]) -> None:
    other = {
        "llama-mini": Recipe(MINI.architecture, MINI.plan, **{"vocabulary": 300, "corpus_chars": 20_000, **changed})
    }
    assert resolve_model(NAME, cache, family=other) != str(built)


def test_processes_that_ask_at_once_build_once_and_get_the_same_path(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    answers: multiprocessing.Queue[str] = spawn.Queue()
    processes = [spawn.Process(target=_resolve, args=(tmp_path, answers)) for _ in range(2)]
    for process in processes:
        process.start()
    paths = {answers.get(timeout=120) for _ in processes}
    for process in processes:
        process.join(timeout=60)
    assert len(paths) == 1
    assert sorted(each.name for each in (tmp_path / "models").iterdir() if each.is_dir()) == [Path(paths.pop()).name]


def test_one_that_waits_says_so_and_then_takes_what_the_other_built(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "LOCK_POLL_SECONDS", 0.01)
    target = tmp_path / "models" / built.name
    target.parent.mkdir()
    other = FileLock(f"{target}.lock", is_singleton=False)
    other.acquire()
    told: list[str] = []

    def finish_the_others_work(message: str, _fraction: float) -> None:
        told.append(message)
        if len(told) == 3:
            target.mkdir()
            other.release()

    did: list[str] = []
    path = resolve_model(NAME, tmp_path, finish_the_others_work, MEMBERS, meanwhile=lambda: did.append("other work"))
    assert path == str(target)
    assert did == ["other work"]
    assert len(told) >= 3
    assert all(message.startswith("waiting for another process") for message in told)


def test_what_an_interrupted_build_left_is_swept_away(built: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    left = models / f"{built.name}.unfinished"
    left.mkdir(parents=True)
    (left / "model.safetensors").write_bytes(b"half")

    def interrupt(_message: str, _fraction: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resolve_model(NAME, tmp_path, interrupt, MEMBERS)
    assert not (models / built.name).exists()
    path = Path(resolve_model(NAME, tmp_path, family=MEMBERS))
    assert (path / "model.safetensors").read_bytes() == (built / "model.safetensors").read_bytes()
    assert not left.exists()


def test_a_cache_that_cannot_be_written_names_the_variable_to_set(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("not a folder")
    with pytest.raises(ModelError, match=f"cannot build {NAME} under {tmp_path}.*HPO_SERVICE_CACHE"):
        resolve_model(NAME, tmp_path, family=MEMBERS)


def test_the_family_is_one_shape_at_two_widths() -> None:
    tiny, small = FAMILY["llama-tiny"], FAMILY["llama-small"]
    assert small.architecture.hidden_size == 2 * tiny.architecture.hidden_size
    assert small.architecture.layers == tiny.architecture.layers
    assert (small.vocabulary, small.corpus_chars) == (tiny.vocabulary, tiny.corpus_chars)


@pytest.mark.parametrize("member, millions", [("llama-tiny", (0.8, 1.3)), ("llama-small", (3.5, 4.5))])
def test_the_members_have_about_one_and_four_million_parameters(member: str, millions: tuple[float, float]) -> None:
    recipe = FAMILY[member]
    tokenizer = train_tokenizer(["def spam():\n"], 300)
    model = recipe.architecture.build(tokenizer, 0)
    count = sum(parameter.numel() for parameter in model.parameters())
    count += (recipe.vocabulary - len(tokenizer)) * recipe.architecture.hidden_size
    assert millions[0] < count / 1e6 < millions[1]
