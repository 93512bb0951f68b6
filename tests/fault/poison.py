"""Studies that cannot be served, as only a fault or another version can leave them in the database."""

from __future__ import annotations

from typing import Any

import psycopg
from fault_studies import spec_of

from hpo_service.bootstrap import Service
from hpo_service.domain.decide.placement import Resources

POISONS: dict[str, str] = {
    "a file that cannot be read": "UPDATE hpo_study SET spec = '{\"name\": 7}' WHERE id = {study}",
    "a space that cannot be read": "UPDATE hpo_stage SET space = '[]' WHERE study_id = {study}",
    "no study of Optuna's": "UPDATE hpo_stage SET optuna_name = 'nowhere/{study}' WHERE study_id = {study}",
    "facts that are no facts": "UPDATE hpo_study SET facts = '[]' WHERE id = {study}",
    "a state of a later version": "UPDATE hpo_study SET state = 'resting' WHERE id = {study}",
}
"""What is wrong with each, and the statement that makes it so."""
WORKER = "gone-1-poison"


def insert_poison(service: Service, connection: psycopg.Connection[Any], count: int) -> str:
    """Make a study with a silent holder's trial in it, spoil it, and return its name.

    Args:
        service: of the database.
        connection: to the same, for what no use case would do.
        count: how many there are already, which says what is wrong with this one.
    """
    name = f"poison-{count}"
    service.studies.create(spec_of(name, "objectives:instant", trials=5, lease=2.0))
    service.workers.register(WORKER, Resources())
    service.queue.claim(WORKER, name)
    study = connection.execute("SELECT id FROM hpo_study WHERE name = %s", (name,)).fetchone()
    assert study is not None
    statement = list(POISONS.values())[count % len(POISONS)]
    connection.execute(statement.replace("{study}", str(study[0])).encode())
    return name
