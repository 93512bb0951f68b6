"""A database that earlier code wrote goes on: its rows stay, and the views of this version show them."""

from __future__ import annotations

import pytest
from alembic.config import Config
from sqlalchemy import text

from alembic import command
from hpo_service.bootstrap import Service
from hpo_service.domain.decide.placement import Resources
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.search.studies import OptunaStudies
from hpo_service.settings import Settings
from hpo_service.storage import migrations

OLD = "0003"
BEFORE = ("v_studies", "v_trials", "v_params", "v_curves", "v_attempts", "v_workers", "v_facts")


@pytest.fixture
def service(migrated_url, tmp_path):
    service = Service(Settings(storage=migrated_url, output=tmp_path / "out", cache=tmp_path / "cache"))
    yield service
    service.db.dispose()


def downgrade(service):
    with service.db.transaction():
        config = Config()
        config.set_main_option("script_location", str(migrations.script_folder()))
        config.set_main_option("path_separator", "os")
        config.attributes["database"] = service.db
        command.downgrade(config, OLD)


def rows(service, view):
    with service.db.transaction(read_only=True):
        return [dict(row._mapping) for row in service.db.connection.execute(text(f"SELECT * FROM {view}"))]


def study_with_trials(service):
    service.studies.create(
        StudySpec.model_validate(
            {
                "name": "old",
                "objective": {"python": "nobody:calls_it"},
                "space": {"parameters": {"x": {"low": 0.0, "high": 1.0}, "lora_rank": {"choices": ["small", "large"]}}},
                "search": {"budget": {"trials": 4}, "pruner": "none"},
            }
        )
    )
    service.workers.register("w1", Resources())
    trial = service.queue.claim("w1")
    service.queue.finish(trial.lease, Outcome(kind=OutcomeKind.COMPLETE, reason="measured", value=1.5))
    service.queue.claim("w1")


def test_an_upgrade_keeps_rows_and_columns_and_shows_what_was_there_before_it(service):
    study_with_trials(service)
    downgrade(service)
    before = {view: rows(service, view) for view in BEFORE}
    assert all(before[view] for view in ("v_studies", "v_trials", "v_params", "v_attempts", "v_workers"))
    migrations.upgrade(service.db, lambda: OptunaStudies.create_tables(service.db.url))
    migrations.check(service.db)
    for view, old in before.items():
        now = rows(service, view)
        assert [{name: row[name] for name in list(row)[: len(was)]} for row, was in zip(now, old, strict=True)] == old
    (leader,) = rows(service, "v_leaderboard")
    assert (leader["study"], leader["place"], leader["configuration"], leader["value"]) == ("old", 1, "#0", 1.5)
    assert rows(service, "v_events") == []
    # a parameter of an own objective that is named like ours, but is a text, is no number
    assert [row["lora_rank"] for row in rows(service, "v_trials")] == [None, None]
    again = service.queue.claim("w1")
    assert [(row["kind"], row["number"]) for row in rows(service, "v_events")] == [("trial_claimed", again.number)]


@pytest.mark.parametrize("dialect", ["postgresql"])
def test_grants_and_other_peoples_views_of_ours_survive_an_upgrade(service):
    downgrade(service)
    with service.db.transaction():
        service.db.connection.exec_driver_sql("CREATE VIEW theirs AS SELECT study, value FROM v_trials")
        service.db.connection.exec_driver_sql("GRANT SELECT ON v_trials TO PUBLIC")
    migrations.upgrade(service.db, lambda: OptunaStudies.create_tables(service.db.url))
    assert rows(service, "theirs") == []
    with service.db.transaction():
        grants = "SELECT count(*) FROM information_schema.role_table_grants"
        granted = f"{grants} WHERE table_name = 'v_trials' AND grantee = 'PUBLIC'"
        assert service.db.connection.exec_driver_sql(granted).scalar() == 1


def test_a_study_that_exists_keeps_the_sampler_and_the_pruner_that_were_usual_when_it_was_made(service):
    space = {"parameters": {"x": {"low": 0.0, "high": 1.0}}}
    for name, search in (("named", {"sampler": "random"}), ("usual", None)):
        given = {"name": name, "objective": {"python": "nobody:calls_it"}, "space": space}
        service.studies.create(StudySpec.model_validate({**given, **({"search": search} if search else {})}))
    downgrade(service)
    migrations.upgrade(service.db, lambda: OptunaStudies.create_tables(service.db.url))
    service.studies.create(StudySpec.model_validate({**given, "name": "new"}))
    found = {row.name: row.specification().search for row in studies(service)}
    assert {name: (search.sampler, search.pruner) for name, search in found.items()} == {
        "named": ("random", "halving"),
        "usual": ("tpe", "halving"),
        "new": ("gp", "early_exit"),
    }


def test_the_file_of_a_study_that_exists_goes_on_being_it_and_its_trials_are_evaluated_as_before(service):
    given = {"name": "mine", "model": {"base": "a/small"}, "data": {"source": "c/rows"}}
    spec = StudySpec.model_validate(given)
    service.studies.create(spec)
    downgrade(service)
    migrations.upgrade(service.db, lambda: OptunaStudies.create_tables(service.db.url))
    (row,) = studies(service)
    assert row.specification() != spec
    assert row.specification().training.evaluation_rows == "all"
    assert service.studies.create(spec).id == row.id


def studies(service):
    with service.db.transaction(read_only=True):
        return service.study_rows.list()
