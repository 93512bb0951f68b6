"""A list of nothing says so, and what would make a first one."""

from __future__ import annotations

import json

import pytest

from hpo_service.cli import main

LISTS = {
    ("study", "list"): "no studies: `hpo-service tune MODEL DATA` and `hpo-service run FILE` make one",
    ("worker", "list"): "no workers: `hpo-service worker` starts one, `hpo-service launch` several",
    ("token", "list"): "no access tokens: `hpo-service token create` makes one",
    ("webhook", "list"): "no webhooks: `hpo-service webhook add` makes one",
    ("launch", "status"): "no launches: `hpo-service launch -h` says how workers are launched",
}


@pytest.mark.parametrize("command", LISTS, ids=" ".join)
def test_a_list_of_nothing_says_so(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HPO_SERVICE_STORAGE", f"sqlite:///{tmp_path}/s.db")

    def said(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert not ended.value.code
        return capsys.readouterr().out

    said("db", "upgrade")
    assert said(*command) == LISTS[command] + "\n"
    assert json.loads(said(*command, "--json")) == []
