"""A first look finds all that is wrong with rows, tokenizer and configuration, and names each fault's first row."""

import shutil

import pytest

from hpo_service.domain.study.sections.data import DataSpec
from hpo_service.domain.study.sections.model import ModelSpec
from hpo_service.training.data.first_look import first_look
from tests.training.tiny import byte_tokenizer, pairs, write_rows


def looked(source, base, rows=200, target=None, from_scratch=False, **data):
    found = first_look(DataSpec(source=str(source), **data), ModelSpec(base=base, target=target), rows, from_scratch)
    return [(each.level, each.subject, str(each)) for each in found]


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Nothing is asked of the hub."""

    def nobody(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("datasets.load_dataset", nobody)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_good_rows_and_models_are_found_good(llama, data_file):
    assert looked(data_file, llama) == []


def test_every_fault_is_told_once_with_its_first_row(llama, tmp_path):
    path = tmp_path / "rows.jsonl"
    lines = ['{"prompt": "a", "completion": "b"}', '{"prompt": 1, "completion": "b"}', "{broken", '{"prompt": "a"}']
    path.write_text("\n".join([*lines, lines[1], lines[1], '{"prompt": "a", "completion": "b", "weight": 0.5}']))
    other = tmp_path / "other.csv"
    other.write_text('prompt,completion\na,"b\n')
    found = looked(tmp_path, llama)
    assert {level for level, _, _ in found} == {"error"}
    assert [text.replace(f"{tmp_path}/", "")[:62] for _, _, text in found] == [
        "other.csv, line 2: the row that begins here is not valid CSV (",
        "rows.jsonl, line 3: is not valid JSON: Expecting property name",
        "rows.jsonl, line 2: column 'prompt' must be text, not a int (a",
        "rows.jsonl, line 4: column 'completion' is missing",
        "rows.jsonl, line 7: column 'weight' is 0.5; a row counts (1) o",
    ]
    assert found[2][2].endswith("(and 2 more rows)")


def test_weights_are_looked_at_with_their_rows(llama, tmp_path):
    rows = [{**row, "w": weight} for row, weight in zip(pairs(5), [1, -1, 2.5, 0, "heavy"], strict=True)]
    found = looked(write_rows(tmp_path / "rows.jsonl", rows), llama, weight="w")
    assert [(level, text.replace(f"{tmp_path}/", "")[:72]) for level, _, text in found] == [
        ("error", "rows.jsonl, line 2: column 'w', which data.weight names, is -1; a weight"),
        ("error", "rows.jsonl, line 5: column 'w', which data.weight names, is 'heavy'; a w"),
    ]


def test_only_the_first_rows_of_each_file_are_looked_at(llama, tmp_path):
    for name in ("a", "b"):
        write_rows(tmp_path / f"{name}.jsonl", [*pairs(5), {"prompt": 1, "completion": "x"}])
    assert looked(tmp_path, llama, rows=10) == []
    assert len(looked(tmp_path, llama, rows=12)) == 1


def test_what_a_whole_report_would_warn_of_is_warned_of(llama, tmp_path):
    rows = [{**row, "prompt": "x" * 90, "system": "be kind"} for row in pairs(4)]
    found = looked(write_rows(tmp_path / "rows.jsonl", rows), llama, max_length=64)
    assert [(level, text[:46]) for level, _, text in found] == [
        ("warning", "column 'system' usually holds a system text, a"),
        ("warning", "4 of the first 4 rows have nothing to learn wi"),
    ]


def test_rows_that_no_format_fits_are_told_beside_a_model_that_is_not_there(tmp_path):
    source = write_rows(tmp_path / "rows.jsonl", [{"question": "a"}])
    found = looked(source, f"{tmp_path}/nowhere", target="./neither")
    assert [(level, subject) for level, subject, _ in found] == [("error", "model")] * 2 + [("error", "data")]
    assert found[0][2].startswith(f"model {tmp_path}/nowhere does not exist (looked in ")
    assert found[1][2].startswith("model ./neither does not exist (looked in ")
    assert found[2][2].startswith(f"{source}, line 1: the columns question fit no known format")


def test_a_conversation_that_the_template_refuses_is_told(tmp_path, llama):
    base = tmp_path / "base"
    shutil.copytree(llama, base)
    (base / "chat_template.jinja").unlink()
    byte_tokenizer("{{ raise_exception('roles must alternate') }}").save_pretrained(base)
    rows = [{"messages": [{"role": "assistant", "content": str(i)}]} for i in range(3)]
    ((level, subject, text),) = looked(write_rows(tmp_path / "rows.jsonl", rows), str(base))
    assert (level, subject) == ("error", "data")
    assert text.endswith("chat template refuses the conversation: roles must alternate (and 2 more rows)")


def test_a_folder_without_a_configuration_or_tokenizer_is_told(tmp_path, data_file):
    (tmp_path / "empty").mkdir()
    found = looked(data_file, str(tmp_path / "empty"))
    assert [(level, subject) for level, subject, _ in found] == [("error", "model"), ("error", "tokenizer")]


def test_a_base_that_is_only_a_tokenizer_needs_no_configuration_from_scratch(tmp_path, data_file):
    byte_tokenizer().save_pretrained(tmp_path / "only")
    assert looked(data_file, str(tmp_path / "only"), from_scratch=True) == []


def test_ids_and_lengths_that_the_model_has_no_place_for_are_told(tmp_path, llama):
    base = tmp_path / "base"
    shutil.copytree(llama, base)
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["<new>"])
    tokenizer.save_pretrained(base)
    rows = [{"prompt": "<new>", "completion": "b" * 200}]
    found = looked(write_rows(tmp_path / "rows.jsonl", rows), str(base))
    assert [text for _, _, text in found] == [
        f"model {base} knows no token 259: its tokenizer belongs to another",
        f"rows of up to 203 tokens do not fit the 128 positions of model {base}: set data.max_length to 128 or less",
    ]


def test_what_is_not_on_this_machine_is_unchecked(tmp_path):
    found = looked("somebody/rows", "somebody/small", target="somebody/large")
    assert [(level, subject) for level, subject, _ in found] == [
        ("unchecked", "model"),
        ("unchecked", "model"),
        ("unchecked", "tokenizer"),
        ("unchecked", "data"),
    ]
    assert all(text.endswith("is not on this machine, so only a trial will tell") for _, _, text in found)


def test_builtin_models_and_data_are_looked_at_without_being_made(tmp_path, monkeypatch):
    monkeypatch.setattr("hpo_service.training.data.reading.source.library_pairs", lambda: pairs(9))
    assert looked("builtin:stdlib-docstrings", "builtin:llama-tiny", max_length=8) == []
    ((_, _, text),) = looked("builtin:stdlib-docstrings", "builtin:llama-huge")
    assert text.startswith("there is no builtin model builtin:llama-huge; the builtin models are builtin:llama-tiny")
    ((_, _, text),) = looked("builtin:poems", "builtin:llama-tiny")
    assert text.startswith("there is no builtin data builtin:poems")


def test_a_source_without_rows_is_told(tmp_path, llama):
    (tmp_path / "rows.jsonl").write_text("\n")
    assert looked(tmp_path / "rows.jsonl", llama) == [("error", "data", f"{tmp_path}/rows.jsonl holds no rows")]
    ((_, _, text),) = looked(tmp_path / "missing.jsonl", llama)
    assert text.startswith(f"{tmp_path}/missing.jsonl does not exist")


def test_files_for_training_and_for_tests_in_one_folder_are_warned_of(llama, tmp_path):
    write_rows(tmp_path / "train-00000.jsonl", pairs(40))
    write_rows(tmp_path / "train-00001.jsonl", pairs(40))
    assert looked(tmp_path, llama) == []
    write_rows(tmp_path / "test.jsonl", pairs(20))
    ((level, subject, what),) = looked(tmp_path, llama)
    assert (level, subject) == ("warning", "data")
    assert "holds files for training and for tests (train-00000.jsonl, test.jsonl), and all are read" in what


def test_files_that_no_reader_knows_are_counted_where_others_are_read(llama, tmp_path):
    write_rows(tmp_path / "rows.jsonl", pairs(40))
    for name in ("more.jsonl.gz", "README.md", ".hidden.gz", "old.tsv"):
        (tmp_path / name).write_bytes(b"x")
    ((level, _, what),) = looked(tmp_path, llama)
    assert (level, f"{tmp_path} also holds 2 files that are not read (more.jsonl.gz)" in what) == ("warning", True)


def test_rows_without_prompts_are_refused_where_trials_are_judged_by_answers(llama, tmp_path):
    text = write_rows(tmp_path / "text.jsonl", [{"text": f"some text, number {i}"} for i in range(20)])
    [found] = [
        each
        for each in first_look(DataSpec(source=str(text)), ModelSpec(base=llama), asks=True)
        if each.level == "error"
    ]
    assert "its rows have no prompts to answer" in str(found)
    assert all(each.level != "error" for each in first_look(DataSpec(source=str(text)), ModelSpec(base=llama)))
    asked = write_rows(tmp_path / "pairs.jsonl", pairs(20))
    assert first_look(DataSpec(source=str(asked)), ModelSpec(base=llama), asks=True) == []
