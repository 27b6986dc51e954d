"""A prediction names the rollout that was open when it was made, and its revision."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Brings the tables to this revision."""
    identity = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
    op.add_column("predictions", sa.Column("rollout_id", identity))
    op.add_column("predictions", sa.Column("rollout_revision", sa.Integer))
