"""What workers have, and which stages no worker that is there can serve."""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("hpo_worker", sa.Column("resources", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("hpo_stage", sa.Column("unserved", sa.Text(), server_default="", nullable=False))


def downgrade() -> None:
    op.drop_column("hpo_stage", "unserved")
    op.drop_column("hpo_worker", "resources")
