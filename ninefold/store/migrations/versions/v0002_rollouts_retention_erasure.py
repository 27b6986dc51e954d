"""Versions' history, rollouts with their steps, leases, and what was pruned and erased."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"


def _identity() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def _counter() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Brings the tables to this revision."""
    op.create_table(
        "version_changes",
        sa.Column("number", _counter(), primary_key=True, autoincrement=True),
        sa.Column("use_case", _identity(), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("from_state", sa.Text, nullable=False),
        sa.Column("to_state", sa.Text, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("version_changes_by_use_case", "version_changes", ["use_case", "number"])
    # An older release of a better version retired the baseline, which goes on standing by.
    op.execute("UPDATE models SET state = 'registered' WHERE version = 0 AND state = 'retired'")
    op.create_table(
        "rollouts",
        sa.Column("rollout_id", _identity(), primary_key=True),
        sa.Column("use_case", _identity(), nullable=False),
        sa.Column("incumbent", sa.Integer, nullable=False),
        sa.Column("candidate", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("salt", sa.Text, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("policy", sa.JSON, nullable=False),
        sa.Column("opened_at_us", sa.BigInteger, nullable=False),
        sa.Column("updated_at_us", sa.BigInteger, nullable=False),
        sa.Column("ended_at_us", sa.BigInteger),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_index("rollouts_by_time", "rollouts", ["use_case", "opened_at_us"])
    for name, states in (
        ("rollouts_one_queued", "state = 'pending'"),
        ("rollouts_one_going_on", "state IN ('shadow', 'canary', 'ab', 'paused')"),
    ):
        where = sa.text(states)
        op.create_index(name, "rollouts", ["use_case"], unique=True, sqlite_where=where, postgresql_where=where)
    op.create_table(
        "rollout_steps",
        sa.Column("rollout_id", _identity(), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("reasons", sa.JSON, nullable=False),
        sa.Column("numbers", sa.JSON, nullable=False),
        sa.Column("from_state", sa.Text),
        sa.Column("to_state", sa.Text, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("rollout_id", "number"),
    )
    op.create_table(
        "leases",
        sa.Column("name", _identity(), primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("until_us", sa.BigInteger, nullable=False),
        sa.Column("token", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "prunings",
        sa.Column("pruning_id", _identity(), primary_key=True),
        sa.Column("kind", _identity(), nullable=False),
        sa.Column("use_case", _identity(), nullable=False),
        sa.Column("removed", sa.BigInteger, nullable=False),
        sa.Column("cutoff_us", sa.BigInteger),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
    )
    op.create_index("prunings_by_time", "prunings", ["at_us"])
    op.create_table(
        "erasures",
        sa.Column("number", _counter(), primary_key=True, autoincrement=True),
        sa.Column("use_case", _identity(), nullable=False),
        sa.Column("salt", sa.Text, nullable=False),
        sa.Column("key_hash", _identity(), nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("removed", sa.JSON, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("erasures_by_key", "erasures", ["use_case", "key_hash"])
