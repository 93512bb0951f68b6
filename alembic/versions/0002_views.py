"""Views for people: names before ids, times as times, Optuna's internal parameter values decoded."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

WORDS: dict[str, dict[str, str]] = {
    "postgresql": {
        "whole": "bigint",
        "kind": "(p.distribution_json::json ->> 'name')",
        "choice": "(p.distribution_json::json -> 'attributes' -> 'choices' ->> p.param_value::integer)",
        "choice_type": "json_typeof(p.distribution_json::json -> 'attributes' -> 'choices' -> p.param_value::integer)",
    },
    "sqlite": {
        "whole": "integer",
        "kind": "json_extract(p.distribution_json, '$.name')",
        "choice": "json_extract(p.distribution_json, '$.attributes.choices[' || cast(p.param_value AS integer) || ']')",
        "choice_type": "json_type("
        "p.distribution_json, '$.attributes.choices[' || cast(p.param_value AS integer) || ']')",
    },
}
"""What the dialects say differently: a categorical parameter is stored as the index of its choice."""

TIME = {
    "postgresql": "to_timestamp({0})",
    "sqlite": "strftime('%Y-%m-%d %H:%M:%f', {0}, 'unixepoch')",
}
"""Seconds since 1970 as a time; text in UTC on SQLite, which has no such type."""

PLACE = "s.name AS study, g.stage AS stage, t.number AS number"
JOINS = "hpo_trial t JOIN hpo_stage g ON g.id = t.stage_id JOIN hpo_study s ON s.id = t.study_id"

VIEWS = {
    "v_studies": """
        SELECT s.name AS study, s.state AS state, s.reason AS reason,
               (SELECT g.stage FROM hpo_stage g WHERE g.study_id = s.id ORDER BY g.id DESC LIMIT 1) AS stage,
               count(t.id) AS trials,
               count(CASE WHEN t.state = 'waiting' THEN 1 END) AS waiting,
               count(CASE WHEN t.state = 'running' THEN 1 END) AS running,
               count(CASE WHEN t.state = 'complete' THEN 1 END) AS complete,
               count(CASE WHEN t.state = 'pruned' THEN 1 END) AS pruned,
               count(CASE WHEN t.state = 'infeasible' THEN 1 END) AS infeasible,
               count(CASE WHEN t.state = 'failed' THEN 1 END) AS failed,
               count(CASE WHEN t.state = 'cancelled' THEN 1 END) AS cancelled,
               coalesce(sum(t.device_seconds), 0.0) AS device_seconds,
               {time[s.created_at]} AS created_at, {time[s.updated_at]} AS updated_at,
               {time[s.ended_at]} AS ended_at
        FROM hpo_study s LEFT JOIN hpo_trial t ON t.study_id = s.id
        GROUP BY s.id, s.name, s.state, s.reason, s.created_at, s.updated_at, s.ended_at""",
    "v_trials": """
        SELECT {place}, t.state AS state, t.role AS role, t.label AS label, t.value AS value,
               t.reason AS reason, t.attempt AS attempt, t.errors AS errors, t.losses AS losses,
               t.progress AS progress, t.worker_id AS worker, t.device_seconds AS device_seconds,
               {time[t.created_at]} AS created_at, {time[t.started_at]} AS started_at,
               {time[t.ended_at]} AS ended_at, {time[t.lease_until]} AS lease_until,
               t.seed AS seed, t.ordinal AS ordinal, t.id AS trial_id, t.optuna_id AS optuna_id
        FROM {joins}""",
    # true and false are 1 and 0 to SQLite's json_extract, so its json_type says their names
    "v_params": """
        SELECT {place}, p.param_name AS name,
               CASE WHEN {kind} = 'IntDistribution' THEN cast(cast(p.param_value AS {whole}) AS text)
                    WHEN {kind} <> 'CategoricalDistribution' THEN cast(p.param_value AS text)
                    WHEN {choice_type} IN ('true', 'false') THEN {choice_type}
                    ELSE cast({choice} AS text) END AS value,
               CASE WHEN {kind} <> 'CategoricalDistribution' THEN p.param_value
                    WHEN {choice_type} IN ('number', 'integer', 'real')
                    THEN cast({choice} AS double precision) END AS number_value,
               t.id AS trial_id
        FROM {joins} JOIN trial_params p ON p.trial_id = t.optuna_id""",
    "v_curves": """
        SELECT {place}, r.step AS step, r.fraction AS fraction, r.value AS value, r.note AS note,
               r.attempt AS attempt, r.metrics AS metrics, {time[r.reported_at]} AS reported_at,
               t.id AS trial_id
        FROM {joins} JOIN hpo_report r ON r.trial_id = t.id""",
    "v_attempts": """
        SELECT {place}, a.attempt AS attempt, a.outcome AS outcome, a.reason AS reason,
               a.worker_id AS worker, {time[a.started_at]} AS started_at, {time[a.ended_at]} AS ended_at,
               a.device_seconds AS device_seconds, a.devices AS devices, t.id AS trial_id
        FROM {joins} JOIN hpo_attempt a ON a.trial_id = t.id""",
    "v_workers": """
        SELECT w.id AS worker, w.host AS host, w.pid AS pid, w.state AS state, w.reason AS reason,
               (SELECT count(*) FROM hpo_trial t WHERE t.state = 'running' AND t.worker_id = w.id) AS running,
               w.devices AS devices, w.version AS version,
               {time[w.started_at]} AS started_at, {time[w.seen_at]} AS seen_at
        FROM hpo_worker w""",
}


class _Times(dict[str, str]):
    """Looks a column up as the expression that shows it as a time."""

    def __init__(self, dialect: str) -> None:
        super().__init__()
        self._dialect = dialect

    def __missing__(self, column: str) -> str:
        return TIME[self._dialect].format(column)


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    for name, query in VIEWS.items():
        words = {"time": _Times(dialect), "place": PLACE, "joins": JOINS, **WORDS[dialect]}
        # past SQLAlchemy's text(), which would take a cast's colons for a parameter
        op.get_bind().exec_driver_sql(f"CREATE VIEW {name} AS {query.format(**words)}")


def downgrade() -> None:
    for name in VIEWS:
        op.execute(f"DROP VIEW {name}")
