"""Webhooks, and what they are still to be told."""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "hpo_webhook",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("secret", sa.String(length=64), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=True),
        sa.Column("allow_link_local", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("sent_at", sa.Double(), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_id"], ["hpo_study.id"], name=op.f("fk_hpo_webhook_study_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hpo_webhook")),
    )
    op.create_index(op.f("ix_hpo_webhook_study_id"), "hpo_webhook", ["study_id"], unique=False)
    op.create_table(
        "hpo_webhook_message",
        sa.Column("webhook_id", sa.String(length=16), nullable=False),
        sa.Column("event_id", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["webhook_id"], ["hpo_webhook.id"], name=op.f("fk_hpo_webhook_message_webhook_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("webhook_id", "event_id", name=op.f("pk_hpo_webhook_message")),
    )
    op.create_index(op.f("ix_hpo_webhook_message_due_at"), "hpo_webhook_message", ["due_at"], unique=False)


def downgrade() -> None:
    op.drop_table("hpo_webhook_message")
    op.drop_table("hpo_webhook")
