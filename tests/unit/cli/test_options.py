"""Options win over the environment, and the environment over defaults."""

from __future__ import annotations

from pathlib import Path

from hpo_service.cli.options import open_service, study_names
from hpo_service.domain.study.spec import StudySpec


def test_what_is_given_on_the_command_line_wins(monkeypatch, tmp_path):
    monkeypatch.setenv("HPO_SERVICE_STORAGE", "sqlite:///named/in/the/environment.db")
    settings = open_service("sqlite:///given.db", tmp_path / "given").settings
    assert settings.storage == "sqlite:///given.db"
    assert settings.output == tmp_path / "given"


def test_what_the_environment_names_is_used_where_nothing_is_given(monkeypatch, tmp_path):
    monkeypatch.setenv("HPO_SERVICE_STORAGE", "sqlite:///named.db")
    monkeypatch.setenv("HPO_SERVICE_OUTPUT", str(tmp_path / "named"))
    settings = open_service().settings
    assert (settings.storage, settings.output) == ("sqlite:///named.db", tmp_path / "named")


def test_by_default_the_database_lies_in_the_output_folder(tmp_path):
    settings = open_service(output=Path("here")).settings
    assert settings.output == Path.cwd() / "here"
    assert settings.storage == f"sqlite:///{settings.output}/hpo-service.db"


def test_a_shell_completes_the_names_of_studies(monkeypatch, tmp_path):
    monkeypatch.setenv("HPO_SERVICE_STORAGE", f"sqlite:///{tmp_path / 'hpo.db'}")
    assert study_names("m") == [], "there is no database yet"
    service = open_service()
    service.upgrade()
    for name in ("mine", "more", "other"):
        space = {"parameters": {"x": {"low": 0.0, "high": 1.0}}}
        service.studies.create(StudySpec(name=name, objective={"python": "m:f"}, space=space), by="me")
    service.db.dispose()
    assert study_names("m") == ["mine", "more"]
