"""Tables of the production database, the same on SQLite and PostgreSQL.

Instants are whole microseconds since 1970 in UTC, in columns that end in ``_us``: exact, ordered and equal on both
databases (``to_timestamp(known_at_us / 1e6)`` shows one in PostgreSQL). Identities compare byte by byte on both, so
that "the newest" never depends on a locale.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects import postgresql

SCHEMA = "0010"
"""Revision of the newest migration. Revisions are four digits, so that their order is their age."""

_IDENTITY = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
# SQLite numbers rows by itself only in a column whose type is exactly INTEGER.
_COUNTER = BigInteger().with_variant(Integer(), "sqlite")

metadata = MetaData()

predictions = Table(
    "predictions",
    metadata,
    Column("prediction_id", _IDENTITY, primary_key=True),
    Column("use_case", _IDENTITY, nullable=False),
    Column("request_id", Text),
    Column("key", _IDENTITY, nullable=False),
    Column("decided_at_us", BigInteger, nullable=False),
    Column("received_at_us", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
    Column("cohort", Text, nullable=False),
    Column("request", JSON, nullable=False),
    Column("features", JSON, nullable=False),
    Column("value", Float(53), nullable=False),
    Column("fallback", Text),
    Column("flags", JSON, nullable=False),
    Column("latency_ms", Float(53), nullable=False),
    Column("rollout_id", _IDENTITY),
    Column("rollout_revision", Integer),
    Column("lower", Float(53)),
    Column("upper", Float(53)),
    Index("predictions_by_time", "use_case", "decided_at_us"),
    Index("predictions_by_key", "use_case", "key", "decided_at_us"),
)

truths = Table(
    "truths",
    metadata,
    Column("truth_id", _IDENTITY, primary_key=True),
    Column("use_case", _IDENTITY, nullable=False),
    Column("key", _IDENTITY, nullable=False),
    Column("value", Float(53), nullable=False),
    Column("known_at_us", BigInteger, nullable=False),
    Column("received_at_us", BigInteger, nullable=False),
    Column("source", Text, nullable=False),
    Column("annotator", Text),
    Column("note", Text),
    Index("truths_by_key", "use_case", "key", "known_at_us", "received_at_us", "truth_id"),
    Index("truths_by_time", "use_case", "known_at_us"),
)

label_tasks = Table(
    "label_tasks",
    metadata,
    Column("task_id", _IDENTITY, primary_key=True),
    Column("use_case", _IDENTITY, nullable=False),
    Column("key", _IDENTITY, nullable=False),
    Column("prediction_id", _IDENTITY),
    Column("batch", _IDENTITY, nullable=False),
    Column("sampler", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("score", Float(53)),
    Column("inclusion_probability", Float(53)),
    Column("sent_at_us", BigInteger, nullable=False),
    Index("label_tasks_by_key", "use_case", "key"),
    Index("label_tasks_by_time", "use_case", "sent_at_us"),
)

# The name that the module has from __future__ is taken.
label_annotations = Table(
    "annotations",
    metadata,
    Column("annotation_id", _IDENTITY, primary_key=True),
    Column("use_case", _IDENTITY, nullable=False),
    Column("task_id", _IDENTITY, nullable=False),
    Column("key", _IDENTITY, nullable=False),
    Column("annotator", Text, nullable=False),
    Column("value", Float(53)),
    Column("outcome", Text, nullable=False),
    Column("said_at_us", BigInteger, nullable=False),
    Column("received_at_us", BigInteger, nullable=False),
    Column("label", Text),
    Index("annotations_by_key", "use_case", "key"),
    Index("annotations_by_time", "use_case", "said_at_us"),
)

annotators = Table(
    "annotators",
    metadata,
    # Label Studio's number of a person, which is all that its webhook says.
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
)

events = Table(
    "events",
    metadata,
    # Grows in the order in which transactions commit, so whoever tails it misses nothing (writing.py).
    Column("cursor", _COUNTER, primary_key=True, autoincrement=True),
    Column("event_id", _IDENTITY, nullable=False, unique=True),
    Column("use_case", _IDENTITY, nullable=False),
    Column("stream", _IDENTITY, nullable=False),
    Column("happened_at_us", BigInteger, nullable=False),
    Column("known_at_us", BigInteger, nullable=False),
    Column("received_at_us", BigInteger, nullable=False),
    Column("values", JSON, nullable=False),
    Index("events_by_cursor", "use_case", "cursor"),
    Index("events_by_stream", "use_case", "stream", "cursor"),
    Index("events_by_time", "use_case", "stream", "known_at_us"),
    # Without it SQLite gives the number of a deleted newest row to the next one, behind the back of who tails.
    sqlite_autoincrement=True,
)

conflicts = Table(
    "conflicts",
    metadata,
    Column("conflict_id", _IDENTITY, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("use_case", _IDENTITY, nullable=False),
    Column("record_id", _IDENTITY, nullable=False),
    Column("content", JSON, nullable=False),
    Column("seen_at_us", BigInteger, nullable=False),
    Index("conflicts_by_record", "kind", "record_id"),
)

models = Table(
    "models",
    metadata,
    Column("use_case", _IDENTITY, nullable=False),
    Column("version", Integer, nullable=False),
    Column("digest", _IDENTITY, nullable=False),
    Column("uri", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("lengths", JSON, nullable=False),
    # Null in rows of before there was a choice: ONNX, or the baseline.
    Column("format", Text),
    PrimaryKeyConstraint("use_case", "version"),
    Index("models_by_digest", "use_case", "digest", unique=True),
    Index(
        "models_one_live", "use_case", unique=True,
        sqlite_where=text("state = 'live'"), postgresql_where=text("state = 'live'"),
    ),
)  # fmt: skip

metrics = Table(
    "metrics",
    metadata,
    Column("use_case", _IDENTITY, nullable=False),
    Column("version", Integer, nullable=False),
    Column("name", _IDENTITY, nullable=False),
    Column("cohort", _IDENTITY, nullable=False),
    Column("slice", _IDENTITY, nullable=False),
    Column("window", _IDENTITY, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("value", Float(53)),
    PrimaryKeyConstraint("use_case", "name", "at_us", "version", "window", "cohort", "slice"),
)

runs = Table(
    "runs",
    metadata,
    Column("run_id", _IDENTITY, primary_key=True),
    Column("pipeline", _IDENTITY, nullable=False),
    Column("use_case", _IDENTITY, nullable=False),
    Column("state", Text, nullable=False),
    Column("parameters", JSON, nullable=False),
    Column("started_at_us", BigInteger, nullable=False),
    Column("ended_at_us", BigInteger),
    Column("step", Text),
    Column("error", Text),
    Index("runs_by_time", "use_case", "started_at_us"),
    Index("runs_by_state", "state", "started_at_us"),
)

alerts = Table(
    "alerts",
    metadata,
    Column("alert_id", _IDENTITY, primary_key=True),
    Column("use_case", _IDENTITY, nullable=False),
    Column("check", _IDENTITY, nullable=False),
    Column("subject", _IDENTITY, nullable=False),
    Column("severity", Text, nullable=False),
    Column("window", Text, nullable=False),
    Column("value", Float(53)),
    Column("limit", Float(53)),
    Column("message", Text, nullable=False),
    Column("raised_at_us", BigInteger, nullable=False),
    Column("cleared_at_us", BigInteger),
    # "raised" or "cleared": the newest that a webhook took; null while it took none.
    Column("told", Text),
    Index("alerts_by_time", "use_case", "raised_at_us"),
)

version_changes = Table(
    "version_changes",
    metadata,
    Column("number", _COUNTER, primary_key=True, autoincrement=True),
    Column("use_case", _IDENTITY, nullable=False),
    Column("version", Integer, nullable=False),
    Column("from_state", Text, nullable=False),
    Column("to_state", Text, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Index("version_changes_by_use_case", "use_case", "number"),
    sqlite_autoincrement=True,
)

_QUEUED = text("state = 'pending'")
_GOING_ON = text("state IN ('shadow', 'canary', 'ab', 'paused')")

rollouts = Table(
    "rollouts",
    metadata,
    Column("rollout_id", _IDENTITY, primary_key=True),
    Column("use_case", _IDENTITY, nullable=False),
    Column("incumbent", Integer, nullable=False),
    Column("candidate", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("step", Integer, nullable=False),
    Column("salt", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("policy", JSON, nullable=False),
    Column("opened_at_us", BigInteger, nullable=False),
    Column("updated_at_us", BigInteger, nullable=False),
    Column("ended_at_us", BigInteger),
    Column("reason", Text, nullable=False),
    Index("rollouts_by_time", "use_case", "opened_at_us"),
    Index("rollouts_one_queued", "use_case", unique=True, sqlite_where=_QUEUED, postgresql_where=_QUEUED),
    Index("rollouts_one_going_on", "use_case", unique=True, sqlite_where=_GOING_ON, postgresql_where=_GOING_ON),
)

rollout_steps = Table(
    "rollout_steps",
    metadata,
    Column("rollout_id", _IDENTITY, nullable=False),
    Column("number", Integer, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("reasons", JSON, nullable=False),
    Column("numbers", JSON, nullable=False),
    Column("from_state", Text),
    Column("to_state", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    PrimaryKeyConstraint("rollout_id", "number"),
)

leases = Table(
    "leases",
    metadata,
    Column("name", _IDENTITY, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("until_us", BigInteger, nullable=False),
    # Grows with every holder and is never given twice, so an older holder is known by it.
    Column("token", BigInteger, nullable=False),
)

route_tables = Table(
    "route_tables",
    metadata,
    Column("use_case", _IDENTITY, primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("document", JSON, nullable=False),
    Column("published_at_us", BigInteger, nullable=False),
    Column("problem", Text, nullable=False),
)

closings = Table(
    "closings",
    metadata,
    Column("use_case", _IDENTITY, primary_key=True),
    # No event becomes known at this instant or before any more.
    Column("closed_until_us", BigInteger, nullable=False),
)

prunings = Table(
    "prunings",
    metadata,
    Column("pruning_id", _IDENTITY, primary_key=True),
    Column("kind", _IDENTITY, nullable=False),
    Column("use_case", _IDENTITY, nullable=False),
    Column("removed", BigInteger, nullable=False),
    Column("cutoff_us", BigInteger),
    Column("at_us", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Index("prunings_by_time", "at_us"),
)

erasures = Table(
    "erasures",
    metadata,
    Column("number", _COUNTER, primary_key=True, autoincrement=True),
    Column("use_case", _IDENTITY, nullable=False),
    Column("salt", Text, nullable=False),
    Column("key_hash", _IDENTITY, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("removed", JSON, nullable=False),
    Column("actor", Text, nullable=False),
    Index("erasures_by_key", "use_case", "key_hash"),
    sqlite_autoincrement=True,
)
