"""Up to which instant a use case's events are closed, where a service of its own keeps the windows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Brings the tables to this revision."""
    op.create_table(
        "closings",
        sa.Column("use_case", sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql"), primary_key=True),
        sa.Column("closed_until_us", sa.BigInteger, nullable=False),
    )
