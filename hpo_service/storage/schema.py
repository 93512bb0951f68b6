"""Our tables, beside Optuna's in the same database. Times are seconds since 1970 by the database's clock."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

PREFIX = "hpo_"
"""Every table of ours starts with this; Optuna's do not."""

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


def _refers(column: str, *, on_delete: str = "CASCADE") -> ForeignKey:
    return ForeignKey(column, ondelete=on_delete)


def _json(name: str) -> Column[Any]:
    # PostgreSQL's json keeps the text as written (order of keys, 1 and 1.0 apart); jsonb does not
    return Column(name, JSON(none_as_null=True), nullable=False)


study = Table(
    "hpo_study",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(100), nullable=False, unique=True),
    _json("spec"),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    _json("facts"),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("ended_at", Double),
    sqlite_autoincrement=True,
)

stage = Table(
    "hpo_stage",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", _refers("hpo_study.id"), nullable=False),
    Column("stage", String(16), nullable=False),
    Column("optuna_name", String(200), nullable=False),
    Column("state", String(16), nullable=False),
    Column("trials", Integer, nullable=False),
    Column("gpu_hours", Double),
    _json("space"),
    _json("plan"),
    Column("reason", Text, nullable=False),
    Column("opened_at", Double, nullable=False),
    Column("closed_at", Double),
    # why no worker that is there can run its trials; empty where one can, or nobody has asked
    Column("unserved", Text, nullable=False, server_default=""),
    UniqueConstraint("study_id", "stage"),
    sqlite_autoincrement=True,
)

trial = Table(
    "hpo_trial",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", _refers("hpo_study.id"), nullable=False, index=True),
    Column("stage_id", _refers("hpo_stage.id"), nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("number", Integer),
    Column("optuna_id", Integer, index=True),
    Column("state", String(16), nullable=False),
    Column("role", String(32), nullable=False),
    Column("label", String(200), nullable=False),
    _json("parameters"),
    Column("dedupe_key", Text),
    Column("seed", BigInteger, nullable=False),
    Column("origin_id", _refers("hpo_trial.id", on_delete="SET NULL"), index=True),
    Column("copied_from", _refers("hpo_trial.id", on_delete="SET NULL"), index=True),
    Column("score_test", Boolean, nullable=False),
    Column("keep_adapter", Boolean, nullable=False),
    # of the training rows; workers of earlier versions write none
    Column("share", Double, nullable=False, server_default="1"),
    Column("attempt", Integer, nullable=False),
    Column("token", Integer, nullable=False),
    Column("worker_id", String(200)),
    Column("lease_until", Double),
    Column("errors", Integer, nullable=False),
    Column("losses", Integer, nullable=False),
    Column("progress", Double, nullable=False),
    Column("value", Double),
    Column("reason", Text, nullable=False),
    Column("cancel_reason", Text),
    Column("adapter", Text),
    _json("facts"),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("ended_at", Double),
    Column("device_seconds", Double, nullable=False),
    UniqueConstraint("stage_id", "ordinal"),
    UniqueConstraint("stage_id", "dedupe_key"),
    Index(None, "stage_id", "state", "ordinal"),
    Index(None, "stage_id", "number"),
    Index(None, "state", "lease_until"),
    # an id must never come back: a stale holder's lease names it
    sqlite_autoincrement=True,
)

attempt = Table(
    "hpo_attempt",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("trial_id", _refers("hpo_trial.id"), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("token", Integer, nullable=False),
    Column("worker_id", String(200), nullable=False),
    Column("devices", Double, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("ended_at", Double),
    Column("outcome", String(16)),
    Column("reason", Text, nullable=False),
    Column("device_seconds", Double),
    UniqueConstraint("trial_id", "attempt"),
)

report = Table(
    "hpo_report",
    metadata,
    Column("trial_id", _refers("hpo_trial.id"), primary_key=True),
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("attempt", Integer, nullable=False),
    Column("fraction", Double, nullable=False),
    Column("value", Double),
    Column("note", Text, nullable=False),
    _json("metrics"),
    Column("reported_at", Double, nullable=False),
)

score = Table(
    "hpo_score",
    metadata,
    Column("trial_id", _refers("hpo_trial.id"), primary_key=True),
    Column("split", String(16), primary_key=True),
    Column("nll", LargeBinary, nullable=False),
    Column("tokens", LargeBinary, nullable=False),
)

worker = Table(
    "hpo_worker",
    metadata,
    Column("id", String(200), primary_key=True),
    Column("host", String(255), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("version", String(64), nullable=False),
    Column("devices", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
    # null where nothing launched it, and in what earlier versions write
    Column("job", String(200)),
    Column("launch", String(16)),
    # null: a worker of a version that did not say
    Column("resources", JSON(none_as_null=True)),
)

launch = Table(
    "hpo_launch",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("study_id", _refers("hpo_study.id"), nullable=False, index=True),
    Column("launcher", String(32), nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("workers", Integer, nullable=False),
    _json("options"),
    _json("jobs"),
    Column("output", Text, nullable=False),
    Column("host", String(255), nullable=False),
    Column("by", String(300), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("seen_at", Double),
    Column("ended_at", Double),
)

event = Table(
    "hpo_event",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Double, nullable=False),
    # no foreign keys: whoever writes an event of a trial holds the trial, and studies are locked before trials
    Column("study_id", Integer),
    Column("stage_id", Integer),
    Column("trial_id", Integer),
    Column("number", Integer),
    Column("worker", String(200)),
    Column("kind", String(32), nullable=False),
    Column("reason", Text, nullable=False),
    _json("details"),
    Index(None, "study_id", "id"),
    Index(None, "worker", "id"),
    # followers read by increasing id
    sqlite_autoincrement=True,
)

access_token = Table(
    "hpo_access_token",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("name", String(100), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("role", String(16), nullable=False),
    Column("secret_hash", String(64), nullable=False),
    Column("parent_id", _refers("hpo_access_token.id"), index=True),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),
    Column("used_at", Double),
)

idempotent_request = Table(
    "hpo_idempotent_request",
    metadata,
    Column("owner_id", _refers("hpo_access_token.id"), primary_key=True),
    Column("key", String(200), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    _json("answer"),
    Column("created_at", Double, nullable=False, index=True),
)

webhook = Table(
    "hpo_webhook",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("url", Text, nullable=False),
    # not a hash: messages are signed with it
    Column("secret", String(64), nullable=False),
    Column("study_id", _refers("hpo_study.id"), index=True),
    Column("allow_link_local", Boolean, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("sent_at", Double),
    Column("error", Text, nullable=False),
)

webhook_message = Table(
    "hpo_webhook_message",
    metadata,
    Column("webhook_id", _refers("hpo_webhook.id"), primary_key=True),
    Column("event_id", Integer, primary_key=True, autoincrement=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", Double, nullable=False, index=True),
)
