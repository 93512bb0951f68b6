"""What happened and why, and the views that answer questions: stages, events, leaderboard, transfer and costs."""

from __future__ import annotations

import sqlalchemy as sa

from alembic import context, op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

WORDS: dict[str, dict[str, str]] = {
    "postgresql": {
        "create": "CREATE OR REPLACE VIEW",  # keeps grants, and other people's views of ours
        "time": "to_timestamp({0})",
        "text": "({0} ->> '{1}')",
        "inner": "({0} -> '{1}' ->> '{2}')",
        "number": "CASE WHEN json_typeof({0} -> '{1}') = 'number' THEN cast({0} ->> '{1}' AS double precision) END",
        "inner_number": "CASE WHEN json_typeof({0} -> '{1}' -> '{2}') = 'number'"
        " THEN cast({0} -> '{1}' ->> '{2}' AS double precision) END",
    },
    "sqlite": {
        "create": "CREATE VIEW",
        "time": "strftime('%Y-%m-%d %H:%M:%f', {0}, 'unixepoch')",
        "text": "cast(json_extract({0}, '$.{1}') AS text)",
        "inner": "cast(json_extract({0}, '$.{1}.{2}') AS text)",
        "number": "CASE WHEN json_type({0}, '$.{1}') IN ('integer', 'real')"
        " THEN cast(json_extract({0}, '$.{1}') AS double precision) END",
        "inner_number": "CASE WHEN json_type({0}, '$.{1}.{2}') IN ('integer', 'real')"
        " THEN cast(json_extract({0}, '$.{1}.{2}') AS double precision) END",
    },
}
"""What the dialects say differently. A parameter of an own objective may be a text where ours is a number."""

NUMBERS = (
    "learning_rate",
    "lora_rank",
    "lora_alpha",
    "lora_alpha_multiplier",
    "lora_dropout",
    "lora_plus_ratio",
    "warmup_ratio",
    "weight_decay",
    "effective_batch",
    "max_grad_norm",
)
NAMES = ("method", "init_lora_weights", "target_modules", "optimizer", "scheduler")
"""Hyper-parameters with a column of their own: what the trial was given, else what the study file fixes."""
ALPHA = {"lora_alpha": "lora_alpha_multiplier", "lora_alpha_multiplier": "lora_alpha"}
"""Two ways to say one thing: a trial that was given one of them does not have the file's other one."""

PLACE = "s.name AS study, g.stage AS stage, t.number AS number"
JOINS = "hpo_trial t JOIN hpo_stage g ON g.id = t.stage_id JOIN hpo_study s ON s.id = t.study_id"
STATES = ("waiting", "running", "complete", "pruned", "infeasible", "failed", "cancelled")
COUNTS = ", ".join(f"count(CASE WHEN t.state = '{state}' THEN 1 END) AS {state}" for state in STATES)
SECONDS = "coalesce(sum(t.device_seconds), 0.0)"

STUDIES = """
    SELECT s.name AS study, s.state AS state, s.reason AS reason,
           (SELECT g.stage FROM hpo_stage g WHERE g.study_id = s.id ORDER BY g.id DESC LIMIT 1) AS stage,
           count(t.id) AS trials, {counts}, {seconds} AS device_seconds,
           {s_created_at} AS created_at, {s_updated_at} AS updated_at, {s_ended_at} AS ended_at,
           {seconds} / 3600.0 AS device_hours, {direction} AS direction, {base} AS base_model, {target} AS target_model,
           (SELECT b.value FROM hpo_trial b JOIN hpo_study o ON o.id = b.study_id
            WHERE b.study_id = s.id AND b.state = 'complete' AND b.value IS NOT NULL
            ORDER BY b.stage_id DESC, CASE WHEN {own_direction} = 'maximize' THEN -b.value ELSE b.value END LIMIT 1)
           AS best_value, s.id AS study_id
    FROM hpo_study s LEFT JOIN hpo_trial t ON t.study_id = s.id
    GROUP BY s.id"""
STAGES = """
    SELECT s.name AS study, g.stage AS stage, g.state AS state, g.reason AS reason, {why} AS why,
           CASE WHEN g.stage = 'search' THEN {base} ELSE coalesce({target}, {base}) END AS model,
           g.trials AS budget, g.gpu_hours AS budget_hours, count(t.id) AS trials, {counts},
           {seconds} AS device_seconds, {seconds} / 3600.0 AS device_hours,
           CASE WHEN {direction} = 'maximize' THEN max(CASE WHEN t.state = 'complete' THEN t.value END)
                ELSE min(CASE WHEN t.state = 'complete' THEN t.value END) END AS best_value,
           {g_opened_at} AS opened_at, {g_closed_at} AS closed_at, g.closed_at - g.opened_at AS seconds,
           g.optuna_name AS optuna_name, g.space AS space, g.plan AS plan, g.id AS stage_id, s.id AS study_id
    FROM hpo_stage g JOIN hpo_study s ON s.id = g.study_id LEFT JOIN hpo_trial t ON t.stage_id = g.id
    GROUP BY g.id, s.id"""
TRIALS = """
    SELECT {place}, t.state AS state, t.role AS role, t.label AS label, t.value AS value,
           t.reason AS reason, t.attempt AS attempt, t.errors AS errors, t.losses AS losses,
           t.progress AS progress, t.worker_id AS worker, t.device_seconds AS device_seconds,
           {t_created_at} AS created_at, {t_started_at} AS started_at,
           {t_ended_at} AS ended_at, {t_lease_until} AS lease_until,
           t.seed AS seed, t.ordinal AS ordinal, t.id AS trial_id, t.optuna_id AS optuna_id,
           t.adapter AS adapter, t.facts AS facts,
           t.parameters AS parameters, {hyperparameters}, t.ended_at - t.started_at AS seconds,
           t.device_seconds / 3600.0 AS device_hours, t.origin_id AS origin_id, t.copied_from AS copied_from,
           t.stage_id AS stage_id, t.study_id AS study_id
    FROM {joins}"""
ATTEMPTS = """
    SELECT {place}, a.attempt AS attempt, a.outcome AS outcome, a.reason AS reason,
           a.worker_id AS worker, {a_started_at} AS started_at, {a_ended_at} AS ended_at,
           a.device_seconds AS device_seconds, a.devices AS devices, t.id AS trial_id,
           w.host AS host, a.ended_at - a.started_at AS seconds
    FROM {joins} JOIN hpo_attempt a ON a.trial_id = t.id LEFT JOIN hpo_worker w ON w.id = a.worker_id"""
WORKERS = """
    SELECT w.id AS worker, w.host AS host, w.pid AS pid, w.state AS state, w.reason AS reason,
           (SELECT count(*) FROM hpo_trial t WHERE t.state = 'running' AND t.worker_id = w.id) AS running,
           w.devices AS devices, w.version AS version,
           {w_started_at} AS started_at, {w_seen_at} AS seen_at,
           coalesce(a.attempts, 0) AS attempts, coalesce(a.device_seconds, 0.0) AS device_seconds
    FROM hpo_worker w LEFT JOIN (
        SELECT worker_id, count(*) AS attempts, sum(device_seconds) AS device_seconds
        FROM hpo_attempt GROUP BY worker_id
    ) a ON a.worker_id = w.id"""
EVENTS = """
    SELECT e.id AS event, {e_at} AS at, s.name AS study, g.stage AS stage, e.number AS number, e.worker AS worker,
           e.kind AS kind, e.reason AS reason, {by} AS by_whom, e.details AS details,
           e.trial_id AS trial_id, e.study_id AS study_id
    FROM hpo_event e LEFT JOIN hpo_study s ON s.id = e.study_id LEFT JOIN hpo_stage g ON g.id = e.stage_id"""
# a configuration is the trials of one label (the seeds of a confirm stage), or one trial; copies measured nothing
LEADERBOARD = """
    SELECT r.study AS study, r.stage AS stage,
           row_number() OVER (PARTITION BY r.stage_id ORDER BY r.direction * r.mean, r.number) AS place,
           r.configuration AS configuration, r.number AS number, r.mean AS value, r.lowest AS lowest,
           r.highest AS highest, r.trials AS trials, r.device_seconds AS device_seconds, r.parameters AS parameters,
           r.trial_id AS trial_id
    FROM (
        SELECT m.*, count(*) OVER (PARTITION BY m.stage_id, m.configuration) AS trials,
               avg(m.value) OVER (PARTITION BY m.stage_id, m.configuration) AS mean,
               min(m.value) OVER (PARTITION BY m.stage_id, m.configuration) AS lowest,
               max(m.value) OVER (PARTITION BY m.stage_id, m.configuration) AS highest,
               sum(m.seconds) OVER (PARTITION BY m.stage_id, m.configuration) AS device_seconds,
               row_number() OVER (
                   PARTITION BY m.stage_id, m.configuration ORDER BY m.direction * m.value, m.number
               ) AS nth
        FROM (
            SELECT {place}, t.stage_id AS stage_id, t.id AS trial_id, t.value AS value, t.parameters AS parameters,
                   t.device_seconds AS seconds, CASE WHEN {direction} = 'maximize' THEN -1 ELSE 1 END AS direction,
                   coalesce(nullif(t.label, ''), '#' || cast(t.number AS text)) AS configuration
            FROM {joins} WHERE t.state = 'complete' AND t.value IS NOT NULL AND t.copied_from IS NULL
        ) m
    ) r
    WHERE r.nth = 1"""
TRANSFER = """
    SELECT t.study AS study, t.stage AS stage, t.number AS number, t.label AS label, t.state AS state, t.value AS value,
           t.learning_rate AS learning_rate, t.lora_rank AS lora_rank,
           o.stage AS origin_stage, o.number AS origin_number,
           o.value AS origin_value, o.learning_rate AS origin_learning_rate, o.lora_rank AS origin_lora_rank,
           t.learning_rate / o.learning_rate AS learning_rate_factor, t.value - o.value AS value_change,
           t.trial_id AS trial_id, o.trial_id AS origin_id
    FROM v_trials t JOIN v_trials o ON o.trial_id = t.origin_id"""
# a pruned trial is taken to have saved what the stage's median complete trial took, less what it took itself
COSTS = """
    SELECT s.name AS study, g.stage AS stage, count(t.id) AS trials,
           count(CASE WHEN t.state = 'pruned' THEN 1 END) AS pruned,
           {seconds} AS device_seconds, {seconds} / 3600.0 AS device_hours, {by_state},
           coalesce(max(a.seconds), 0.0) AS interrupted_seconds, max(m.seconds) AS median_seconds,
           coalesce(sum(CASE WHEN t.state = 'pruned' AND m.seconds > t.device_seconds
                             THEN m.seconds - t.device_seconds END), 0.0) AS saved_seconds,
           g.id AS stage_id, s.id AS study_id
    FROM hpo_stage g JOIN hpo_study s ON s.id = g.study_id LEFT JOIN hpo_trial t ON t.stage_id = g.id
    LEFT JOIN (
        SELECT c.stage_id AS stage_id, avg(c.device_seconds) AS seconds
        FROM (
            SELECT stage_id, device_seconds, count(*) OVER (PARTITION BY stage_id) AS many,
                   row_number() OVER (PARTITION BY stage_id ORDER BY device_seconds) AS nth
            FROM hpo_trial WHERE state = 'complete' AND device_seconds > 0
        ) c
        WHERE c.nth IN ((c.many + 1) / 2, (c.many + 2) / 2) GROUP BY c.stage_id
    ) m ON m.stage_id = g.id
    LEFT JOIN (
        SELECT b.stage_id AS stage_id, sum(i.device_seconds) AS seconds
        FROM hpo_attempt i JOIN hpo_trial b ON b.id = i.trial_id
        WHERE i.outcome IN ('error', 'loss', 'release') GROUP BY b.stage_id
    ) a ON a.stage_id = g.id
    GROUP BY g.id, s.id"""

VIEWS = {
    "v_studies": STUDIES,
    "v_stages": STAGES,
    "v_trials": TRIALS,
    "v_attempts": ATTEMPTS,
    "v_workers": WORKERS,
    "v_events": EVENTS,
    "v_leaderboard": LEADERBOARD,
    "v_transfer": TRANSFER,
    "v_costs": COSTS,
}
REPLACED = ("v_studies", "v_trials", "v_attempts", "v_workers")
"""Views that there were before: their columns come first, and new ones follow."""
UNCHANGED = ("v_params", "v_curves", "v_facts")
TIMES = {
    "s": ("created_at", "updated_at", "ended_at"),
    "g": ("opened_at", "closed_at"),
    "t": ("created_at", "started_at", "ended_at", "lease_until"),
    "a": ("started_at", "ended_at"),
    "w": ("started_at", "seen_at"),
    "e": ("at",),
}


def upgrade() -> None:
    op.create_table(
        "hpo_event",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=True),
        sa.Column("stage_id", sa.Integer(), nullable=True),
        sa.Column("trial_id", sa.Integer(), nullable=True),
        sa.Column("number", sa.Integer(), nullable=True),
        sa.Column("worker", sa.String(length=200), nullable=True),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("details", sa.JSON(none_as_null=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hpo_event")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_hpo_event_study_id_id"), "hpo_event", ["study_id", "id"], unique=False)
    op.create_index(op.f("ix_hpo_event_worker_id"), "hpo_event", ["worker", "id"], unique=False)
    dialect = op.get_bind().dialect.name
    if dialect == "sqlite":
        for name in REPLACED:
            op.execute(f"DROP VIEW {name}")
    words = _words(dialect)
    for name, query in VIEWS.items():
        # past SQLAlchemy's text(), which would take a cast's colons for a parameter
        op.get_bind().exec_driver_sql(f"{WORDS[dialect]['create']} {name} AS {query.format(**words)}")


def downgrade() -> None:
    for name in [*reversed(VIEWS), *UNCHANGED]:
        op.execute(f"DROP VIEW {name}")
    op.drop_table("hpo_event")
    for before in ("0002", "0003"):
        context.script.get_revision(before).module.upgrade()


def _words(dialect: str) -> dict[str, str]:
    say = WORDS[dialect]
    columns = [*(_column(say, name, "number") for name in NUMBERS), *(_column(say, name, "text") for name in NAMES)]
    return {
        **{
            f"{table}_{time}": say["time"].format(f"{table}.{time}") for table, times in TIMES.items() for time in times
        },
        "place": PLACE,
        "joins": JOINS,
        "counts": COUNTS,
        "seconds": SECONDS,
        "hyperparameters": ", ".join(columns),
        "direction": f"coalesce({say['inner'].format('s.spec', 'search', 'direction')}, 'minimize')",
        # SQLite's subqueries in a grouped query see no ungrouped column of it
        "own_direction": f"coalesce({say['inner'].format('o.spec', 'search', 'direction')}, 'minimize')",
        "base": say["inner"].format("s.spec", "model", "base"),
        "target": say["inner"].format("s.spec", "model", "target"),
        "why": say["text"].format("g.plan", "why"),
        "by": say["text"].format("e.details", "by"),
        "by_state": ", ".join(
            f"coalesce(sum(CASE WHEN t.state = '{state}' THEN t.device_seconds END), 0.0) AS {state}_seconds"
            for state in STATES
            if state not in ("waiting", "running")
        ),
    }


def _column(say: dict[str, str], name: str, kind: str) -> str:
    given, inner = say[kind].format("t.parameters", name), {"number": "inner_number", "text": "inner"}[kind]
    fixed = say[inner].format("s.spec", "training", name)
    if name in ALPHA:
        other = say[kind].format("t.parameters", ALPHA[name])
        fixed = f"CASE WHEN {other} IS NULL THEN {fixed} END"
    return f"coalesce({given}, {fixed}) AS {name}"
