"""Where things are kept: arguments, then the environment, then defaults."""

from __future__ import annotations

from pathlib import Path

from platformdirs import user_cache_path

from hpo_service.settings import Settings


def test_the_environment_names_all_three():
    settings = Settings.read(
        {
            "HPO_SERVICE_STORAGE": "postgresql://h/n",
            "HPO_SERVICE_OUTPUT": "/out",
            "HPO_SERVICE_CACHE": "/cache",
        }
    )
    assert settings == Settings("postgresql://h/n", Path("/out"), Path("/cache"))


def test_what_is_given_as_an_argument_wins():
    environment = {"HPO_SERVICE_STORAGE": "a", "HPO_SERVICE_OUTPUT": "/b", "HPO_SERVICE_CACHE": "/c"}
    settings = Settings.read(environment, storage="sqlite:///x", output=Path("/y"), cache=Path("/z"))
    assert settings == Settings("sqlite:///x", Path("/y"), Path("/z"))


def test_defaults_lie_in_the_working_folder_and_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    settings = Settings.read({})
    assert settings.output == tmp_path / "hpo-output"
    assert settings.storage == f"sqlite:///{tmp_path}/hpo-output/hpo-service.db"
    assert settings.cache == user_cache_path("hpo-service")


def test_empty_variables_count_as_unset(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    empty = dict.fromkeys(["HPO_SERVICE_STORAGE", "HPO_SERVICE_OUTPUT", "HPO_SERVICE_CACHE"], "")
    assert Settings.read(empty) == Settings.read({})


def test_a_tilde_is_the_home_folder():
    settings = Settings.read({"HPO_SERVICE_OUTPUT": "~/out", "HPO_SERVICE_CACHE": "~/cache"})
    assert settings.output == Path.home() / "out"
    assert settings.cache == Path.home() / "cache"


def test_the_processs_own_environment_is_the_default(monkeypatch):
    monkeypatch.setenv("HPO_SERVICE_STORAGE", "postgresql://h/n")
    assert Settings.read().storage == "postgresql://h/n"
