"""A study that exists keeps the sampler and the pruner that were usual when it was made."""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

USUAL = {"sampler": "tpe", "pruner": "halving"}
"""What a study file that named neither meant before this revision."""

study = sa.table("hpo_study", sa.column("id", sa.Integer), sa.column("spec", sa.JSON))


def upgrade() -> None:
    connection = op.get_bind()
    for row in connection.execute(sa.select(study.c.id, study.c.spec)).all():
        spec = dict(row.spec)
        search = spec.get("search")
        if search is None or isinstance(search, dict):
            spec["search"] = {**USUAL, **(search or {})}
            connection.execute(sa.update(study).where(study.c.id == row.id).values(spec=spec))


def downgrade() -> None:
    """Nothing: what a study says outright is as true for the version before."""
