"""What was launched: workers that a scheduler was asked to run, and which job each worker is."""

from __future__ import annotations

import sqlalchemy as sa

from alembic import context, op

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
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP VIEW v_workers")
    _show_workers(", w.job AS job, w.launch AS launch")


def downgrade() -> None:
    op.execute("DROP VIEW v_workers")
    op.drop_column("hpo_worker", "launch")
    op.drop_column("hpo_worker", "job")
    op.drop_table("hpo_launch")
    _show_workers("")


def _show_workers(more: str) -> None:
    """Make the view of workers as it was, with more columns behind the others."""
    before, dialect = context.script.get_revision("0004").module, op.get_bind().dialect.name
    query = before.WORKERS.format(**before._words(dialect))
    place = query.index("FROM hpo_worker w")
    text = f"{before.WORDS[dialect]['create']} v_workers AS {query[:place].rstrip()}{more} {query[place:]}"
    op.get_bind().exec_driver_sql(text)
