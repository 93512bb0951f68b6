"""What a run leaves, in the views: facts by name, where the adapter is, and the measures of an evaluation."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

WORDS: dict[str, dict[str, str]] = {
    "postgresql": {
        "measure": "cast(r.metrics ->> '{0}' AS double precision)",
        "facts": "json_each_text(t.facts) AS f(key, value)",
        "number": "CASE WHEN json_typeof(t.facts -> f.key) = 'number' THEN cast(f.value AS double precision) END",
        "time": "to_timestamp({0})",
    },
    "sqlite": {
        "measure": "json_extract(r.metrics, '$.{0}')",
        "facts": "json_each(t.facts) AS f",
        "number": "CASE WHEN f.type IN ('integer', 'real') THEN cast(f.value AS double precision) END",
        "time": "strftime('%Y-%m-%d %H:%M:%f', {0}, 'unixepoch')",
    },
}
MEASURES = ("train_loss", "learning_rate", "grad_norm", "tokens_per_second", "memory_gb", "seconds")
"""What the built-in trainer reports beside the value; an own objective's measures are in `metrics`."""

PLACE = "s.name AS study, g.stage AS stage, t.number AS number"
JOINS = "hpo_trial t JOIN hpo_stage g ON g.id = t.stage_id JOIN hpo_study s ON s.id = t.study_id"

TRIALS = """
    SELECT {place}, t.state AS state, t.role AS role, t.label AS label, t.value AS value,
           t.reason AS reason, t.attempt AS attempt, t.errors AS errors, t.losses AS losses,
           t.progress AS progress, t.worker_id AS worker, t.device_seconds AS device_seconds,
           {created_at} AS created_at, {started_at} AS started_at,
           {ended_at} AS ended_at, {lease_until} AS lease_until,
           t.seed AS seed, t.ordinal AS ordinal, t.id AS trial_id, t.optuna_id AS optuna_id{more}
    FROM {joins}"""
CURVES = """
    SELECT {place}, r.step AS step, r.fraction AS fraction, r.value AS value, r.note AS note,
           r.attempt AS attempt, r.metrics AS metrics, {reported_at} AS reported_at,
           t.id AS trial_id{more}
    FROM {joins} JOIN hpo_report r ON r.trial_id = t.id"""
FACTS = """
    SELECT {place}, f.key AS name, cast(f.value AS text) AS value, {number} AS number_value, t.id AS trial_id
    FROM {joins} CROSS JOIN {facts}"""


def upgrade() -> None:
    words = WORDS[op.get_bind().dialect.name]
    measures = "".join(f", {words['measure'].format(name)} AS {name}" for name in MEASURES)
    _replace("v_trials", TRIALS, ", t.adapter AS adapter, t.facts AS facts")
    _replace("v_curves", CURVES, measures)
    _create("v_facts", FACTS)


def downgrade() -> None:
    op.execute("DROP VIEW v_facts")
    _replace("v_curves", CURVES)
    _replace("v_trials", TRIALS)


def _replace(name: str, query: str, more: str = "") -> None:
    op.execute(f"DROP VIEW {name}")
    _create(name, query, more)


def _create(name: str, query: str, more: str = "") -> None:
    words = WORDS[op.get_bind().dialect.name]
    times = ["created_at", "started_at", "ended_at", "lease_until"]
    shown = {time: words["time"].format(f"t.{time}") for time in times}
    shown["reported_at"] = words["time"].format("r.reported_at")
    text = query.format(place=PLACE, joins=JOINS, more=more, number=words["number"], facts=words["facts"], **shown)
    # past SQLAlchemy's text(), which would take a cast's colons for a parameter
    op.get_bind().exec_driver_sql(f"CREATE VIEW {name} AS {text}")
