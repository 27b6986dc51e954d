"""First tables: predictions, truths, events, conflicts, models, metrics, runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None


def _identity() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def _counter() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Brings the tables to this revision."""
    op.create_table(
        "predictions",
        sa.Column("prediction_id", _identity(), primary_key=True),
        sa.Column("use_case", _identity(), nullable=False),
        sa.Column("request_id", sa.Text),
        sa.Column("key", _identity(), nullable=False),
        sa.Column("decided_at_us", sa.BigInteger, nullable=False),
        sa.Column("received_at_us", sa.BigInteger, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("cohort", sa.Text, nullable=False),
        sa.Column("request", sa.JSON, nullable=False),
        sa.Column("features", sa.JSON, nullable=False),
        sa.Column("value", sa.Float(53), nullable=False),
        sa.Column("fallback", sa.Text),
        sa.Column("flags", sa.JSON, nullable=False),
        sa.Column("latency_ms", sa.Float(53), nullable=False),
    )
    op.create_index("predictions_by_time", "predictions", ["use_case", "decided_at_us"])
    op.create_index("predictions_by_key", "predictions", ["use_case", "key", "decided_at_us"])
    op.create_table(
        "truths",
        sa.Column("truth_id", _identity(), primary_key=True),
        sa.Column("use_case", _identity(), nullable=False),
        sa.Column("key", _identity(), nullable=False),
        sa.Column("value", sa.Float(53), nullable=False),
        sa.Column("known_at_us", sa.BigInteger, nullable=False),
        sa.Column("received_at_us", sa.BigInteger, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("annotator", sa.Text),
        sa.Column("note", sa.Text),
    )
    op.create_index("truths_by_key", "truths", ["use_case", "key", "known_at_us", "received_at_us", "truth_id"])
    op.create_index("truths_by_time", "truths", ["use_case", "known_at_us"])
    op.create_table(
        "events",
        sa.Column("cursor", _counter(), primary_key=True, autoincrement=True),
        sa.Column("event_id", _identity(), nullable=False, unique=True),
        sa.Column("use_case", _identity(), nullable=False),
        sa.Column("stream", _identity(), nullable=False),
        sa.Column("happened_at_us", sa.BigInteger, nullable=False),
        sa.Column("known_at_us", sa.BigInteger, nullable=False),
        sa.Column("received_at_us", sa.BigInteger, nullable=False),
        sa.Column("values", sa.JSON, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("events_by_cursor", "events", ["use_case", "cursor"])
    op.create_index("events_by_stream", "events", ["use_case", "stream", "cursor"])
    op.create_index("events_by_time", "events", ["use_case", "stream", "known_at_us"])
    op.create_table(
        "conflicts",
        sa.Column("conflict_id", _identity(), primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("use_case", _identity(), nullable=False),
        sa.Column("record_id", _identity(), nullable=False),
        sa.Column("content", sa.JSON, nullable=False),
        sa.Column("seen_at_us", sa.BigInteger, nullable=False),
    )
    op.create_index("conflicts_by_record", "conflicts", ["kind", "record_id"])
    op.create_table(
        "models",
        sa.Column("use_case", _identity(), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("digest", _identity(), nullable=False),
        sa.Column("uri", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("created_at_us", sa.BigInteger, nullable=False),
        sa.Column("metrics", sa.JSON, nullable=False),
        sa.Column("lengths", sa.JSON, nullable=False),
    )
    op.create_index("models_by_digest", "models", ["use_case", "digest"], unique=True)
    live = sa.text("state = 'live'")
    op.create_index("models_one_live", "models", ["use_case"], unique=True, sqlite_where=live, postgresql_where=live)
    op.create_table(
        "metrics",
        sa.Column("use_case", _identity(), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("name", _identity(), nullable=False),
        sa.Column("cohort", _identity(), nullable=False),
        sa.Column("slice", _identity(), nullable=False),
        sa.Column("window", _identity(), nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("value", sa.Float(53)),
        sa.PrimaryKeyConstraint("use_case", "name", "at_us", "version", "window", "cohort", "slice"),
    )
    op.create_table(
        "runs",
        sa.Column("run_id", _identity(), primary_key=True),
        sa.Column("pipeline", _identity(), nullable=False),
        sa.Column("use_case", _identity(), nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("parameters", sa.JSON, nullable=False),
        sa.Column("started_at_us", sa.BigInteger, nullable=False),
        sa.Column("ended_at_us", sa.BigInteger),
        sa.Column("step", sa.Text),
        sa.Column("error", sa.Text),
    )
    op.create_index("runs_by_time", "runs", ["use_case", "started_at_us"])
    op.create_index("runs_by_state", "runs", ["state", "started_at_us"])
