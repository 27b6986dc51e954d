"""The routes that front ends on a cluster go by."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Brings the tables to this revision."""
    op.create_table(
        "route_tables",
        sa.Column("use_case", sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql"), primary_key=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("document", sa.JSON, nullable=False),
        sa.Column("published_at_us", sa.BigInteger, nullable=False),
        sa.Column("problem", sa.Text, nullable=False),
    )
