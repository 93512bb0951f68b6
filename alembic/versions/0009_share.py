"""The share of the training rows that a trial is trained on."""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("hpo_trial", sa.Column("share", sa.Double(), server_default="1", nullable=False))


def downgrade() -> None:
    op.drop_column("hpo_trial", "share")
