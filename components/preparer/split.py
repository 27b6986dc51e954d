"""Dividing history into training, validation and test, with nothing crossing.

By time: the last stretch before ``until`` is the test set, the one before it validates, what is older trains. A row
belongs to training only if its truth was *known* when validation began, or the model would have been trained on what
nobody knew yet; likewise for validation and the test. Where there is no time: by a salted hash of the key, stratified
by the truth. Either way a key is in one part only, and a row is in a part or counted by the reason why it is in none.
Rows that a user alone told the truth of train, with little weight, and are shown beside the test; they choose nothing.
"""

from __future__ import annotations

import calendar
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from ninefold.clock import format_instant
from ninefold.dataset import PARTS
from ninefold.errors import ConfigurationError, DataError, UsageError
from ninefold.splits import HashSplit, TimeSplit
from ninefold.truths import SOURCE
from ninefold.usecase import UseCase

if TYPE_CHECKING:
    import polars as pl

KNOWN_AT = "truth_known_at"
"""Column with the instant at which a row's truth became known; where it is missing, that can't be checked, and the
notes say so."""

_FIRST = datetime.min.replace(tzinfo=UTC)

USER_ALONE = "told by a user alone: chooses no model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A divided data set.

    Args:
        training: What models are fitted on.
        validation: What they are chosen on.
        test: What the chosen one is judged on.
        notes: How it was divided, rows of each part, and what was dropped and why, for the report.
    """

    training: pl.DataFrame
    validation: pl.DataFrame
    test: pl.DataFrame
    notes: Mapping[str, Any]


def split(frame: pl.DataFrame, use_case: UseCase, until: datetime | None) -> Parts:
    """Divides a data set as the use case declares.

    Args:
        frame: Columns of ``ninefold.dataset``; optionally ``truth_known_at``.
        use_case: Declares the split.
        until: Rows decided at or after it are left out; not used where there is no time.

    Raises:
        UsageError: A split by time without ``until``.
        DataError: A column that the split needs is missing.
        ConfigurationError: A length is neither months nor days, or shares leave nothing to train on.
    """
    _require(frame, "key", "truth")
    if isinstance(use_case.split, HashSplit):
        return _by_hash(frame, use_case.split, binary=use_case.problem == "binary")
    if until is None:
        raise UsageError(f"{use_case.name} is divided by time, and no end was given.", remedy="Add --until 2013-07-01.")
    return _by_time(frame, use_case.split, until)


def back(instant: datetime, length: str) -> datetime:
    """The instant ``1mo`` (calendar months, clamped to the month's last day) or ``30d`` earlier.

    Raises:
        ConfigurationError: The length is neither.
        UsageError: There is no such instant: it would lie before the year 1.
    """
    match = re.fullmatch(r"([1-9]\d{0,3})(mo|d)", length)
    if match is None:
        raise ConfigurationError(f"{length!r} is no length of a split.", remedy="Write it as 1mo or 30d.")
    number, unit = int(match[1]), match[2]
    months = instant.year * 12 + instant.month - 1 - number
    year, month = divmod(months, 12)
    if (instant - _FIRST < timedelta(days=number)) if unit == "d" else year < _FIRST.year:
        raise UsageError(f"There is no time {length} before {format_instant(instant)}.", remedy="Give a later --until.")
    if unit == "d":
        return instant - timedelta(days=number)
    return instant.replace(year=year, month=month + 1, day=min(instant.day, calendar.monthrange(year, month + 1)[1]))


def _require(frame: pl.DataFrame, *columns: str) -> None:
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise DataError(f"The data set has no column {', '.join(missing)}.", remedy="Featurize it first.")


def _by_time(frame: pl.DataFrame, declared: TimeSplit, until: datetime) -> Parts:
    import polars as pl

    _require(frame, "decided_at")
    test_from = back(until, declared.test)
    validation_from = back(test_from, declared.validation)
    decided = pl.col("decided_at")
    part = pl.when(decided >= test_from).then(2).when(decided >= validation_from).then(1).otherwise(0)
    reason: dict[str, pl.Expr] = {
        "key is null": pl.col("key").is_null(),
        "no decision moment": decided.is_null(),
        "decided at the end or after it": decided >= until,
    }
    placed = frame.with_columns(_part=part, _reason=_first(reason))
    # A key that was asked again in a later part would carry its truth there.
    newest = pl.col("_part").filter(pl.col("_reason").is_null()).max().over("key")
    placed = placed.with_columns(
        _reason=pl.coalesce("_reason", _first({"key is in a later part": pl.col("_part") < newest}))
    )
    crossing_checked = KNOWN_AT in frame.columns
    if crossing_checked:
        ends = (
            pl.when(pl.col("_part") == 0)
            .then(pl.lit(validation_from))
            .when(pl.col("_part") == 1)
            .then(pl.lit(test_from))
        )
        in_time = pl.col(KNOWN_AT).is_not_null() & (pl.col(KNOWN_AT) < ends)
        crossing = (pl.col("_part") < 2) & pl.col("truth").is_not_null() & ~in_time
        placed = placed.with_columns(_reason=pl.coalesce("_reason", _first({"truth not known in time": crossing})))
    notes = {
        "by": "time",
        "validation_from": format_instant(validation_from),
        "test_from": format_instant(test_from),
        "until": format_instant(until),
        "crossing_checked": crossing_checked,
    }
    return _parts(placed, notes)


def _by_hash(frame: pl.DataFrame, declared: HashSplit, *, binary: bool) -> Parts:
    import polars as pl

    if declared.validation <= 0 or declared.test <= 0 or declared.validation + declared.test >= 1:
        raise ConfigurationError(
            f"Shares of {declared.validation:g} for validation and {declared.test:g} for the test divide nothing.",
            remedy="Give two positive shares whose sum is below 1.",
        )
    # By key, not by row: a key's rows stay together. Sorted, so that the order of the rows means nothing.
    truth = pl.col("truth").cast(pl.Float64)
    keys = (
        frame.filter(pl.col("key").is_not_null())
        .group_by("key")
        .agg(truth.filter(truth.is_finite()).max(), told=_told_by_user(frame).any())
        .sort("key")
    )
    names = keys["key"].to_list()
    # What users say moves no other key from one part to another.
    trusted = pl.when(~pl.col("told")).then("truth").fill_null(float("nan"))
    strata = _strata(keys.select(trusted).to_series().to_numpy(), binary=binary)
    strata = np.where(keys["told"].to_numpy(), -2, strata)
    hashes = np.array([stable_hash(declared.salt, key) for key in names], dtype=np.uint64)
    part = np.zeros(len(names), dtype=np.int32)
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        share = np.empty(len(rows))
        share[np.argsort(hashes[rows], kind="stable")] = (np.arange(len(rows)) + 0.5) / len(rows)
        part[rows] = np.where(share < declared.test, 2, np.where(share < declared.test + declared.validation, 1, 0))
    places = pl.DataFrame({"key": names, "_part": part}, schema={"key": frame.schema["key"], "_part": pl.Int32})
    placed = frame.join(places, on="key", how="left", maintain_order="left").with_columns(
        _reason=_first({"key is null": pl.col("key").is_null()})
    )
    return _parts(placed, {"by": "hash", "strata": len(np.unique(strata)), "salt": declared.salt})


def _strata(truth: Any, *, binary: bool) -> Any:
    """Each key's stratum: its class, or its tenth of the truths; keys without a truth are a stratum of their own."""
    known = np.isfinite(truth)
    if binary:
        return np.where(known, truth, -1.0)
    # A stratum has to be large enough to be divided.
    count = max(1, min(10, int(known.sum()) // 20))
    edges = np.quantile(truth[known], np.arange(1, count) / count) if known.any() else np.empty(0)
    return np.where(known, np.searchsorted(edges, np.nan_to_num(truth)), -1)


def stable_hash(salt: str, key: str) -> int:
    """64 bits that depend on salt and key alone: the same on every machine and in every version."""
    return int.from_bytes(hashlib.blake2b(f"{len(salt)}|{salt}{key}".encode(), digest_size=8).digest(), "big")


def _first(reasons: Mapping[str, pl.Expr]) -> pl.Expr:
    """The first reason that holds for a row; null where none does."""
    import polars as pl

    return pl.coalesce([pl.when(holds).then(pl.lit(reason)) for reason, holds in reasons.items()])


def _told_by_user(frame: pl.DataFrame) -> pl.Expr:
    """Whether nobody but a user told a row's truth; of a data set that doesn't say, false."""
    import polars as pl

    if SOURCE not in frame.columns:
        return pl.lit(value=False)
    return (pl.col(SOURCE) == "user").fill_null(value=False)


def _parts(placed: pl.DataFrame, notes: Mapping[str, Any]) -> Parts:
    import polars as pl

    chooses = _first({USER_ALONE: (pl.col("_part") == 1) & _told_by_user(placed)})
    placed = placed.with_columns(_reason=pl.coalesce("_reason", chooses))
    kept = placed.filter(pl.col("_reason").is_null())
    frames = [kept.filter(pl.col("_part") == place).drop("_part", "_reason") for place in range(len(PARTS))]
    dropped = placed["_reason"].drop_nulls().value_counts().sort("_reason")
    return Parts(
        training=frames[0],
        validation=frames[1],
        test=frames[2],
        notes={
            **notes,
            "rows": {name: len(part) for name, part in zip(PARTS, frames, strict=True)},
            "dropped": dict(dropped.iter_rows()),
        },
    )
