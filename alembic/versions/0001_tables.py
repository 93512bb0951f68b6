"""Our tables."""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = ("hpo_score", "hpo_report", "hpo_attempt", "hpo_trial", "hpo_stage", "hpo_study", "hpo_worker")


def upgrade() -> None:
    op.create_table(
        "hpo_study",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("spec", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("facts", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hpo_study")),
        sa.UniqueConstraint("name", name=op.f("uq_hpo_study_name")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "hpo_worker",
        sa.Column("id", sa.String(length=200), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("devices", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hpo_worker")),
    )
    op.create_table(
        "hpo_stage",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("stage", sa.String(length=16), nullable=False),
        sa.Column("optuna_name", sa.String(length=200), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("trials", sa.Integer(), nullable=False),
        sa.Column("gpu_hours", sa.Double(), nullable=True),
        sa.Column("space", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("plan", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.Double(), nullable=False),
        sa.Column("closed_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["study_id"], ["hpo_study.id"], name=op.f("fk_hpo_stage_study_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hpo_stage")),
        sa.UniqueConstraint("study_id", "stage", name=op.f("uq_hpo_stage_study_id_stage")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "hpo_trial",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("stage_id", sa.Integer(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=True),
        sa.Column("optuna_id", sa.Integer(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("role", sa.String(length=32), nullable=False),
        sa.Column("label", sa.String(length=200), nullable=False),
        sa.Column("parameters", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("dedupe_key", sa.Text(), nullable=True),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("origin_id", sa.Integer(), nullable=True),
        sa.Column("copied_from", sa.Integer(), nullable=True),
        sa.Column("score_test", sa.Boolean(), nullable=False),
        sa.Column("keep_adapter", sa.Boolean(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("worker_id", sa.String(length=200), nullable=True),
        sa.Column("lease_until", sa.Double(), nullable=True),
        sa.Column("errors", sa.Integer(), nullable=False),
        sa.Column("losses", sa.Integer(), nullable=False),
        sa.Column("progress", sa.Double(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("cancel_reason", sa.Text(), nullable=True),
        sa.Column("adapter", sa.Text(), nullable=True),
        sa.Column("facts", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("device_seconds", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["copied_from"], ["hpo_trial.id"], name=op.f("fk_hpo_trial_copied_from"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["origin_id"], ["hpo_trial.id"], name=op.f("fk_hpo_trial_origin_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["stage_id"], ["hpo_stage.id"], name=op.f("fk_hpo_trial_stage_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["study_id"], ["hpo_study.id"], name=op.f("fk_hpo_trial_study_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hpo_trial")),
        sa.UniqueConstraint("stage_id", "dedupe_key", name=op.f("uq_hpo_trial_stage_id_dedupe_key")),
        sa.UniqueConstraint("stage_id", "ordinal", name=op.f("uq_hpo_trial_stage_id_ordinal")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_hpo_trial_copied_from"), "hpo_trial", ["copied_from"], unique=False)
    op.create_index(op.f("ix_hpo_trial_optuna_id"), "hpo_trial", ["optuna_id"], unique=False)
    op.create_index(op.f("ix_hpo_trial_origin_id"), "hpo_trial", ["origin_id"], unique=False)
    op.create_index(op.f("ix_hpo_trial_stage_id_number"), "hpo_trial", ["stage_id", "number"], unique=False)
    op.create_index(
        op.f("ix_hpo_trial_stage_id_state_ordinal"),
        "hpo_trial",
        ["stage_id", "state", "ordinal"],
        unique=False,
    )
    op.create_index(op.f("ix_hpo_trial_state_lease_until"), "hpo_trial", ["state", "lease_until"], unique=False)
    op.create_index(op.f("ix_hpo_trial_study_id"), "hpo_trial", ["study_id"], unique=False)
    op.create_table(
        "hpo_attempt",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("trial_id", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("worker_id", sa.String(length=200), nullable=False),
        sa.Column("devices", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("outcome", sa.String(length=16), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("device_seconds", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["trial_id"], ["hpo_trial.id"], name=op.f("fk_hpo_attempt_trial_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hpo_attempt")),
        sa.UniqueConstraint("trial_id", "attempt", name=op.f("uq_hpo_attempt_trial_id_attempt")),
    )
    op.create_table(
        "hpo_report",
        sa.Column("trial_id", sa.Integer(), nullable=False),
        sa.Column("step", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("fraction", sa.Double(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("metrics", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("reported_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["trial_id"], ["hpo_trial.id"], name=op.f("fk_hpo_report_trial_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("trial_id", "step", name=op.f("pk_hpo_report")),
    )
    op.create_table(
        "hpo_score",
        sa.Column("trial_id", sa.Integer(), nullable=False),
        sa.Column("split", sa.String(length=16), nullable=False),
        sa.Column("nll", sa.LargeBinary(), nullable=False),
        sa.Column("tokens", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["trial_id"], ["hpo_trial.id"], name=op.f("fk_hpo_score_trial_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("trial_id", "split", name=op.f("pk_hpo_score")),
    )


def downgrade() -> None:
    for table in TABLES:
        op.drop_table(table)
