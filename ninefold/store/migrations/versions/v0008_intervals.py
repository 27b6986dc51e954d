"""A prediction keeps the interval that was answered with it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Brings the tables to this revision."""
    op.add_column("predictions", sa.Column("lower", sa.Float(53)))
    op.add_column("predictions", sa.Column("upper", sa.Float(53)))
