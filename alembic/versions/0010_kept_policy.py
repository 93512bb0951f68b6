"""A study that exists keeps the sampler and the pruner that were usual when it was made."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

USUAL = {"sampler": "tpe", "pruner": "halving"}
"""What a study file that named neither meant before this revision."""
TRAINING = {"evaluation_rows": "all"}
"""Likewise: trials are compared with those that were evaluated on all validation rows."""
EARLIER = "earlier"
"""Where the first stage's plan keeps the study files that a study is known by as well: its own goes on being it."""

study = sa.table("hpo_study", sa.column("id", sa.Integer), sa.column("spec", sa.JSON))
stage = sa.table(
    "hpo_stage", sa.column("id", sa.Integer), sa.column("study_id", sa.Integer), sa.column("plan", sa.JSON)
)


def upgrade() -> None:
    connection = op.get_bind()
    for row in connection.execute(sa.select(study.c.id, study.c.spec)).all():
        spec = dict(row.spec)
        search = spec.get("search")
        if search is None or isinstance(search, dict):
            spec["search"] = {**USUAL, **(search or {})}
            if spec.get("objective") is None:
                spec["training"] = {**TRAINING, **(spec.get("training") or {})}
            connection.execute(sa.update(study).where(study.c.id == row.id).values(spec=spec))
            _remember(connection, row.id, row.spec)


def _remember(connection: sa.Connection, study_id: int, spec: dict[str, Any]) -> None:
    """Have the file that a study was made of be taken for it still."""
    of_study = sa.select(stage.c.id, stage.c.plan).where(stage.c.study_id == study_id).order_by(stage.c.id).limit(1)
    first = connection.execute(of_study).one_or_none()
    if first is not None:
        plan = dict(first.plan or {})
        plan[EARLIER] = [*plan.get(EARLIER, []), spec]
        connection.execute(sa.update(stage).where(stage.c.id == first.id).values(plan=plan))


def downgrade() -> None:
    """Nothing: what a study says outright is as true for the version before."""
