"""Removing rows that nothing should be learned from or judged by, and values that are no numbers; all of it counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ninefold.dataset import FEATURE, INPUT, REQUEST
from ninefold.errors import DataError
from ninefold.fields import NUMERIC, Field
from ninefold.usecase import UseCase

if TYPE_CHECKING:
    import polars as pl

REPEATED = "key repeated: a newer request is kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sanitised:
    """A clean data set.

    Args:
        frame: The rows that are left, in their order.
        dropped: Reason → rows that were dropped for it; a row counts once, for the first reason that holds.
        nulled: Column → values that were no finite number and are null now.
    """

    frame: pl.DataFrame
    dropped: Mapping[str, int]
    nulled: Mapping[str, int]


def sanitise(frame: pl.DataFrame, use_case: UseCase, *, keys_may_repeat: bool = False) -> Sanitised:
    """Drops rows without a truth, with values that the use case declares impossible, or with a key that repeats.

    Requests with impossible values are answered by the fallback in production, so the model neither learns from them
    nor is judged by them. Of a repeated key the newest request stays, as in production, where the last prediction
    before the truth counts. Done twice, it changes nothing; nor does the order of the rows change what stays.

    Args:
        frame: Columns of ``ninefold.dataset``.
        use_case: Declares the request's fields and the target.
        keys_may_repeat: Keep the rows of a repeated key; for rows that were made up.

    Raises:
        DataError: A declared request column is missing.
    """
    import polars as pl

    missing = [REQUEST + f.name for f in use_case.request if REQUEST + f.name not in frame.columns]
    if missing or not {"key", "truth", "decided_at"} <= set(frame.columns):
        missing += [c for c in ("key", "truth", "decided_at") if c not in frame.columns]
        raise DataError(f"The data set has no column {', '.join(missing)}.", remedy="Featurize it first.")
    clean, nulled = _finite(frame)
    reason = pl.coalesce([pl.when(holds).then(pl.lit(name)) for name, holds in _impossible(use_case).items()])
    judged = clean.with_columns(_reason=reason).with_row_index("_row")
    if not keys_may_repeat:
        older = _older(judged.filter(pl.col("_reason").is_null()))
        judged = judged.with_columns(
            _reason=pl.when(pl.col("_row").is_in(older.implode())).then(pl.lit(REPEATED)).otherwise("_reason")
        )
    counts = judged["_reason"].drop_nulls().value_counts().sort("_reason")
    return Sanitised(
        frame=judged.filter(pl.col("_reason").is_null()).drop("_row", "_reason"),
        dropped=dict(counts.iter_rows()),
        nulled=nulled,
    )


def _finite(frame: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    import polars as pl

    columns = [
        name
        for name, kind in frame.schema.items()
        if kind.is_float() and (name == "truth" or name.startswith((REQUEST, FEATURE, INPUT)))
    ]
    if not columns:
        return frame, {}
    counts = frame.select(pl.col(name).is_finite().not_().sum() for name in columns).row(0, named=True)
    nulled = {name: int(count) for name, count in counts.items() if count}
    return frame.with_columns(pl.when(pl.col(name).is_finite()).then(name).alias(name) for name in nulled), nulled


def _impossible(use_case: UseCase) -> dict[str, pl.Expr]:
    """Reason → whether it holds for a row."""
    import polars as pl

    truth = pl.col("truth")
    reasons = {"key is null": pl.col("key").is_null(), "truth is unknown": truth.is_null()}
    if use_case.problem == "binary":
        reasons["truth is neither 0 nor 1"] = ~truth.is_in([0.0, 1.0])
    reasons |= _outside("truth", "truth", use_case.target)
    for field in use_case.request:
        column = pl.col(REQUEST + field.name)
        if not field.nullable:
            reasons[f"{field.name} is null"] = column.is_null()
        if field.kind in NUMERIC:
            reasons |= _outside(field.name, REQUEST + field.name, field)
        if field.categories is not None:
            reasons[f"{field.name} is none of its values"] = ~column.is_in(list(field.categories))
    return reasons


def _outside(name: str, column: str, field: Field) -> dict[str, pl.Expr]:
    import polars as pl

    value = pl.col(column)
    reasons: dict[str, pl.Expr] = {}
    if field.minimum is not None:
        reasons[f"{name} is below {field.minimum:g}"] = value < field.minimum
    if field.maximum is not None:
        reasons[f"{name} is above {field.maximum:g}"] = value > field.maximum
    return reasons


def _older(frame: pl.DataFrame) -> pl.Series:
    """Row indices of all but the newest row of each key."""
    import polars as pl

    again = frame.filter(pl.len().over("key") > 1)
    # Where the decision moment ties, content decides, never the order of the rows.
    others = sorted(c for c in again.columns if c not in ("key", "decided_at", "_row", "_reason"))
    ordered = again.sort(
        ["key", "decided_at", *others], descending=[False, True, *(False for _ in others)], nulls_last=True
    )
    return ordered.filter(pl.int_range(pl.len()).over("key") > 0)["_row"]
