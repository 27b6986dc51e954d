"""Alerts: what the monitor raised, and when it cleared."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"


def _identity() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Brings the tables to this revision."""
    op.create_table(
        "alerts",
        sa.Column("alert_id", _identity(), primary_key=True),
        sa.Column("use_case", _identity(), nullable=False),
        sa.Column("check", _identity(), nullable=False),
        sa.Column("subject", _identity(), nullable=False),
        sa.Column("severity", sa.Text, nullable=False),
        sa.Column("window", sa.Text, nullable=False),
        sa.Column("value", sa.Float(53)),
        sa.Column("limit", sa.Float(53)),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("raised_at_us", sa.BigInteger, nullable=False),
        sa.Column("cleared_at_us", sa.BigInteger),
        sa.Column("told", sa.Text),
    )
    op.create_index("alerts_by_time", "alerts", ["use_case", "raised_at_us"])
