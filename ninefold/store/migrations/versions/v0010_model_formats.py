"""A version says what its package is: a pod of another format needs another image."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Brings the tables to this revision."""
    op.add_column("models", sa.Column("format", sa.Text))
