"""What a study file asks of the machine it is read on."""

from hpo_service.service.studies.study_file import read_study_file, surroundings


def test_a_pattern_is_there_where_a_file_fits_it(tmp_path):
    (tmp_path / "a.jsonl").write_text("{}")
    around = surroundings(tmp_path)
    assert around.exists(str(tmp_path / "*.jsonl"))
    assert around.exists(str(tmp_path / "**/*.jsonl"))
    assert not around.exists(str(tmp_path / "*.csv"))


def test_only_a_file_of_text_has_text(tmp_path):
    (tmp_path / "chat.jinja").write_text("{{ messages }}")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\xff")
    around = surroundings(tmp_path)
    assert around.text(str(tmp_path / "chat.jinja")) == "{{ messages }}"
    assert [around.text(str(tmp_path / name)) for name in ("bytes", "none", ".")] == [None, None, None]


def test_a_study_file_may_name_a_chat_template_beside_it(tmp_path):
    (tmp_path / "chat.jinja").write_text("{{ messages }}")
    (tmp_path / "rows.jsonl").write_text("{}")
    path = tmp_path / "mine.yaml"
    path.write_text("name: x\nmodel: {base: a/b}\ndata: {source: '*.jsonl', chat_template: chat.jinja}\n")
    data = read_study_file(path).spec.data
    assert data is not None
    assert (data.chat_template, data.source) == ("{{ messages }}", str(tmp_path / "*.jsonl"))
