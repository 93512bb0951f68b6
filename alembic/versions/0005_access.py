"""Who may use the server: access tokens, sessions and login links; and requests that may be sent twice."""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "hpo_access_token",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("secret_hash", sa.String(length=64), nullable=False),
        sa.Column("parent_id", sa.String(length=16), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.Column("used_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["parent_id"], ["hpo_access_token.id"], name=op.f("fk_hpo_access_token_parent_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hpo_access_token")),
    )
    op.create_index(op.f("ix_hpo_access_token_parent_id"), "hpo_access_token", ["parent_id"], unique=False)
    op.create_table(
        "hpo_idempotent_request",
        sa.Column("owner_id", sa.String(length=16), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("answer", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["owner_id"],
            ["hpo_access_token.id"],
            name=op.f("fk_hpo_idempotent_request_owner_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("owner_id", "key", name=op.f("pk_hpo_idempotent_request")),
    )
    op.create_index(
        op.f("ix_hpo_idempotent_request_created_at"), "hpo_idempotent_request", ["created_at"], unique=False
    )


def downgrade() -> None:
    op.drop_table("hpo_idempotent_request")
    op.drop_table("hpo_access_token")
