"""What was launched: workers that a scheduler was asked to run, and which job each worker is."""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "hpo_launch",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("launcher", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("workers", sa.Integer(), nullable=False),
        sa.Column("options", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("jobs", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("output", sa.Text(), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("by", sa.String(length=300), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=True),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["study_id"], ["hpo_study.id"], name=op.f("fk_hpo_launch_study_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hpo_launch")),
    )
    op.create_index(op.f("ix_hpo_launch_study_id"), "hpo_launch", ["study_id"], unique=False)
    op.add_column("hpo_worker", sa.Column("job", sa.String(length=200), nullable=True))
    op.add_column("hpo_worker", sa.Column("launch", sa.String(length=16), nullable=True))


def downgrade() -> None:
    op.drop_column("hpo_worker", "launch")
    op.drop_column("hpo_worker", "job")
    op.drop_table("hpo_launch")
