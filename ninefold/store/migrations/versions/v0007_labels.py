"""What experts were asked, and what they said."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"


def _identity() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Brings the tables to this revision."""
    op.create_table(
        "label_tasks",
        sa.Column("task_id", _identity(), primary_key=True),
        sa.Column("use_case", _identity(), nullable=False),
        sa.Column("key", _identity(), nullable=False),
        sa.Column("prediction_id", _identity()),
        sa.Column("batch", _identity(), nullable=False),
        sa.Column("sampler", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("score", sa.Float(53)),
        sa.Column("inclusion_probability", sa.Float(53)),
        sa.Column("sent_at_us", sa.BigInteger, nullable=False),
    )
    op.create_index("label_tasks_by_key", "label_tasks", ["use_case", "key"])
    op.create_index("label_tasks_by_time", "label_tasks", ["use_case", "sent_at_us"])
    op.create_table(
        "annotations",
        sa.Column("annotation_id", _identity(), primary_key=True),
        sa.Column("use_case", _identity(), nullable=False),
        sa.Column("task_id", _identity(), nullable=False),
        sa.Column("key", _identity(), nullable=False),
        sa.Column("annotator", sa.Text, nullable=False),
        sa.Column("value", sa.Float(53)),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("said_at_us", sa.BigInteger, nullable=False),
        sa.Column("received_at_us", sa.BigInteger, nullable=False),
        sa.Column("label", sa.Text),
    )
    op.create_index("annotations_by_key", "annotations", ["use_case", "key"])
    op.create_index("annotations_by_time", "annotations", ["use_case", "said_at_us"])
