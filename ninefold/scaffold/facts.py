"""What a table's columns are: kinds, nulls, how many values; and a sample of its rows, read as those kinds.

A file is looked at lazily, in one pass for all columns, so that its size does not matter.
"""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

import polars as pl

from ninefold.errors import DataError, UsageError
from ninefold.fields import Kind
from ninefold.sources.source import Source
from ninefold.sources.values import BOOLEAN, INSTANT, INTEGER, MOST_EXACT, NUMBER, ZONED, Reading, mixed, typed

Seen = Kind | Literal["empty", "other", "ignore"]
KINDS = (*get_args(Kind), "ignore")
"""What a column can be declared by hand."""
SAMPLE = 100_000
"""Rows that guesses, baseline and leaks are looked for in, evenly spread."""
_EXACT_ROWS = 2_000_000
_NEARLY = 0.9
"""Share of a column's values that make a kind its own, so that the others are mistakes and no category."""
_TEXT_WORDS, _TEXT_SHARE = 4.0, 0.5
_COMMA = r"^[+-]?\d+,\d+$"
_ROW, _RAW = "__row", "__raw"
# No field holds two underscores, so that these names are free.
_LEADING_ZERO = r"^[+-]?0\d"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """What one column is.

    Args:
        name: The contract's name for it.
        source: The source's.
        kind: Its kind; ``empty`` without a value, ``other`` where no field can hold it, ``ignore`` by choice.
        rows: Of the table.
        nulls: Rows without a value.
        distinct: Values that differ; of a very large table an estimate.
        naive: Whether it holds times without a zone.
    """

    name: str
    source: str
    kind: Seen
    rows: int
    nulls: int
    distinct: int
    naive: bool = False

    @property
    def known(self) -> int:
        """Rows with a value."""
        return self.rows - self.nulls

    @property
    def names_rows(self) -> bool:
        """Whether it has another value in every row."""
        return self.nulls == 0 and self.distinct == self.rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a table is.

    Args:
        rows: How many.
        columns: By the contract's names, in the table's order.
        sample: Rows, evenly spread, as values of the columns' kinds.
    """

    rows: int
    columns: Mapping[str, Column]
    sample: pl.DataFrame

    def column(self, name: str, option: str) -> Column:
        """A column by either of its names.

        Raises:
            UsageError: There is none; the message names the option and what there is.
        """
        for column in self.columns.values():
            if name in (column.name, column.source):
                return column
        import difflib

        known = [column.source for column in self.columns.values()]
        near = difflib.get_close_matches(name, known, n=1)
        raise UsageError(
            f"{option}: there is no column {name!r}{f'; did you mean {near[0]!r}?' if near else '.'}",
            remedy=f"There are {', '.join(known)}.",
        )


def field_names(names: Iterable[str]) -> dict[str, str]:
    """The source's names → names that fields can have: the same where it can be, else in lower case, none twice."""
    found: dict[str, str] = {}
    for name in names:
        plain = (
            name
            if _is_field_name(name)
            else re.sub(r"_+", "_", re.sub(r"\W+", "_", name.strip().lower())).strip("_") or "column"
        )
        if not _is_field_name(plain):
            plain = f"column_{plain}"
        number, free = 2, plain
        while free in found.values():
            free, number = f"{plain}_{number}", number + 1
        found[name] = free
    return found


def _is_field_name(name: str) -> bool:
    return name.isidentifier() and "__" not in name and not keyword.iskeyword(name)


def look(source: Source, names: Mapping[str, str], kinds: Mapping[str, Seen], reading: Reading) -> Facts:
    """Looks at every column.

    Args:
        source: The table, under the contract's names.
        names: The source's names → the contract's.
        kinds: Contract's name → kind that was declared by hand.
        reading: How times are read.

    Raises:
        DataError: There are no rows, or a column holds values of several kinds: the first that differs is shown.
    """
    scan = source.scan()
    schema = scan.collect_schema()
    counted = source.collect(scan.select(pl.len().alias("rows"), *_counts(schema, source.is_text))).row(0, named=True)
    rows = int(counted["rows"])
    if rows == 0:
        raise DataError(f"{source.where} has no rows.", remedy="Give a table with rows.")
    distinct = source.collect(
        scan.select(
            _known(n, schema[n]).n_unique() if rows <= _EXACT_ROWS else _known(n, schema[n]).approx_n_unique()
            for n in _plain(schema)
        )
    ).row(0, named=True)
    columns: dict[str, Column] = {}
    for original, name in names.items():
        counts = {what: counted.get(f"{name}|{what}", 0) for what in _LOOKED_FOR}
        nulls = int(counted[f"{name}|nulls"])
        known = rows - nulls
        kind: str | None = kinds.get(name)
        if kind is None:
            kind = _kind_of(schema[name], counts, known, distinct.get(name, 0), source.is_text)
            if kind in ("mixed number", "mixed boolean", "mixed time"):
                raise _first_other(source, scan, name, original, kind.removeprefix("mixed "), known)  # type: ignore[arg-type]
        columns[name] = Column(
            name=name, source=original, kind=kind, rows=rows, nulls=nulls,  # type: ignore[arg-type]
            distinct=_distinct(int(distinct.get(name, 0)) - (1 if nulls else 0), known, rows),
            naive=kind == "time" and _is_naive(schema[name], counts, known, reading),
        )  # fmt: skip
    return Facts(rows=rows, columns=columns, sample=_sample(source, scan, schema, columns, kinds, reading))


def _distinct(counted: int, known: int, rows: int) -> int:
    """Of a very large table an estimate, whose error of some percent must not tell a key from none."""
    return known if rows > _EXACT_ROWS and counted > _NEARLY * known else min(counted, known)


def refuse_future(source: Source, name: str, reading: Reading, now: datetime) -> None:
    """Refuses a table with a time that has not come yet: a slip, or a zone that is another.

    Args:
        source: The table.
        name: A column of times.
        reading: How they are read.
        now: The present.

    Raises:
        DataError: The message names the first such row.
    """
    scan = source.scan()
    read = typed(name, scan.collect_schema()[name], "time", reading)
    late = source.collect(scan.select(pl.col(name).alias(_RAW), read).with_row_index(_ROW).filter(pl.col(name) > now))
    if late.height:
        raise DataError(
            f"{source.where}: column {name!r}, row {source.first_row + int(late[_ROW][0]):,}: "
            f"{str(late[_RAW][0])!r} lies in the future ({late.height:,} rows do).",
            remedy="Correct the rows, or say which zone times without one are in: --zone Europe/Berlin",
        )


_LOOKED_FOR = ("integers", "numbers", "booleans", "instants", "zoned", "zeros", "commas", "words", "large")


def _plain(schema: pl.Schema) -> list[str]:
    return [name for name, dtype in schema.items() if not dtype.is_nested() and dtype != pl.Binary]


def _known(name: str, dtype: pl.DataType) -> pl.Expr:
    """A column in which not a number is a null that came through numpy."""
    return pl.col(name).fill_nan(None) if dtype.is_float() else pl.col(name)


def _counts(schema: pl.Schema, is_text: bool) -> list[pl.Expr]:
    found = []
    for name, dtype in schema.items():
        found.append(_known(name, dtype).null_count().alias(f"{name}|nulls"))
        if dtype.is_integer():
            found.append((pl.col(name).cast(pl.Float64).abs() > MOST_EXACT).sum().alias(f"{name}|large"))
        if dtype == pl.String:
            patterns = {"instants": INSTANT, "zoned": ZONED}
            if is_text:
                patterns |= {"integers": INTEGER, "numbers": NUMBER, "booleans": BOOLEAN}
                patterns |= {"zeros": _LEADING_ZERO, "commas": _COMMA}
            found += [pl.col(name).str.contains(p).sum().alias(f"{name}|{what}") for what, p in patterns.items()]
            found.append((pl.col(name).str.count_matches(r"\s+") + 1).mean().alias(f"{name}|words"))
    return found


def _kind_of(dtype: pl.DataType, counts: Mapping[str, Any], known: int, distinct: int, is_text: bool) -> str:
    if known == 0:
        return "empty"
    if dtype == pl.Boolean:
        return "boolean"
    if dtype.is_integer():
        # Past that neighbours are one number, and as a key one row.
        return "number" if counts["large"] else "integer"
    if dtype.is_numeric():
        return "number"
    if dtype.is_temporal():
        return "time" if isinstance(dtype, (pl.Datetime, pl.Date)) else "other"
    if dtype in (pl.Categorical, pl.Enum):
        return "category"
    if dtype != pl.String:
        return "other"
    if is_text:
        # 01234 is a postal code and no number.
        if counts["zeros"] == 0:
            if counts["integers"] == known:
                return "integer"
            if counts["numbers"] == known:
                return "number"
            if counts["numbers"] >= _NEARLY * known:
                return "mixed number"
        if counts["booleans"] == known:
            return "boolean"
        if counts["booleans"] >= _NEARLY * known:
            return "mixed boolean"
        if counts["commas"] == known:
            return "mixed number"
    if counts["instants"] == known:
        return "time"
    if counts["instants"] >= _NEARLY * known:
        return "mixed time"
    if counts["words"] >= _TEXT_WORDS and distinct > _TEXT_SHARE * known:
        return "text"
    return "category"


def _first_other(source: Source, scan: pl.LazyFrame, name: str, original: str, kind: Kind, known: int) -> DataError:
    pattern = {"number": NUMBER, "boolean": BOOLEAN, "time": INSTANT}[kind]
    other = pl.col(name).is_not_null() & ~pl.col(name).str.contains(pattern)
    found = source.collect(scan.select(name).with_row_index(_ROW).filter(other))
    error = mixed(
        source.where, original, kind, source.first_row + int(found[_ROW][0]), found[name][0],
        count=found.height, rows=known,
    )  # fmt: skip
    if re.match(_COMMA, found[name][0]):
        return DataError(error.message, remedy="Write numbers with a point, not a comma.")
    return DataError(
        error.message,
        remedy=f"Correct the values, or empty the cells; or say what the column is: --column {original}=category, or "
        f"--column {original}=ignore to leave it out.",
    )


def _is_naive(dtype: pl.DataType, counts: Mapping[str, Any], known: int, reading: Reading) -> bool:
    if dtype == pl.String:
        if reading.time_format is not None:
            return "%z" not in reading.time_format
        return bool(counts["zoned"] < known)
    return not (isinstance(dtype, pl.Datetime) and dtype.time_zone is not None)


def _sample(
    source: Source,
    scan: pl.LazyFrame,
    schema: pl.Schema,
    columns: Mapping[str, Column],
    declared: Collection[str],
    reading: Reading,
) -> pl.DataFrame:
    kept = {c.name: c.kind for c in columns.values() if c.kind not in ("empty", "other", "ignore")}
    rows = next(iter(columns.values())).rows
    every = max(1, math.ceil(rows / SAMPLE))
    raw = source.collect(scan.select(list(kept)).gather_every(every))
    sample = raw.select(typed(name, schema[name], kind, reading) for name, kind in kept.items())  # type: ignore[arg-type]
    for name in kept.keys() & set(declared):
        _check_declared(source, columns[name], raw.select(_known(name, schema[name]))[name], sample[name], every)
    return sample


def _check_declared(source: Source, column: Column, raw: pl.Series, read: pl.Series, every: int) -> None:
    """What somebody said of a column has to hold of its values; what was seen of them holds anyway."""
    wrong = read.is_null() & raw.is_not_null()
    if wrong.any():
        index = int(wrong.arg_true()[0])
        error = mixed(
            source.where, column.source, column.kind, source.first_row + index * every, raw[index],  # type: ignore[arg-type]
            count=int(wrong.sum()), rows=len(raw), like="you said",
        )  # fmt: skip
        raise DataError(error.message, remedy="Correct --column, or of times --time-format; or correct the values.")
