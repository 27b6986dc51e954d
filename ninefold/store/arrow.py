"""Bulk reads as Arrow: typed columns straight from rows, no record objects between."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy import JSON, BigInteger, Column, Float, Integer, Select, Table

_MICROS = "_us"


def arrow_query(table: Table) -> Select[Any]:
    """Selects a table's columns with documents as the text that they are kept as."""
    return sa.select(*(sa.cast(c, sa.Text).label(c.name) if isinstance(c.type, JSON) else c for c in table.columns))


def to_arrow(table: Table, chunks: Iterable[Sequence[Sequence[Any]]]) -> pa.Table:
    """Rows of ``arrow_query`` as an Arrow table.

    Args:
        table: Where the rows come from.
        chunks: Rows, piece by piece.

    Returns:
        One column for each of the table's; ``decided_at_us`` becomes ``decided_at``, a timestamp in UTC.
    """
    schema = pa.schema([_field(column) for column in table.columns])
    batches = [
        pa.record_batch(
            [pa.array(c, type=f.type) for c, f in zip(zip(*rows, strict=True), schema, strict=True)], schema
        )
        for rows in chunks
    ]
    return pa.Table.from_batches(batches, schema)


def _field(column: Column[Any]) -> pa.Field:
    if column.name.endswith(_MICROS):
        kind = pa.timestamp("us", tz="UTC")
    elif isinstance(column.type, (BigInteger, Integer)):
        kind = pa.int64()
    elif isinstance(column.type, Float):
        kind = pa.float64()
    else:
        kind = pa.string()
    return pa.field(column.name.removesuffix(_MICROS), kind, nullable=bool(column.nullable))
