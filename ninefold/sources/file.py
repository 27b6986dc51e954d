"""A CSV or Parquet file: its header checked before a row is read, its rows read lazily.

Every column of a CSV file is read as text and then as what the contract declares, so that a value of another kind is
named with its row instead of changing what the whole column is.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from ninefold.errors import DataError
from ninefold.sources.values import INSTANT, NULLS, NUMBER

SEPARATORS = (",", ";", "\t", "|")
_HEAD_BYTES, _TAIL_BYTES = 2**20, 2**16
_MAGIC = b"PAR1"
_LOOK_FOR_QUOTE = "Look for a quotation mark without its other."


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file on this machine.

    Args:
        path: Where it is; ``.csv`` (also ``.tsv``, ``.txt``) or ``.parquet``.
        separator: What stands between a CSV file's fields.
        columns: The file's name of a column → the contract's, where they differ.
    """

    path: Path
    separator: str = ","
    columns: Mapping[str, str] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """The file's name."""
        return self.path.name

    @property
    def is_parquet(self) -> bool:
        """Whether it is Parquet, by its name."""
        return self.path.suffix.lower() in (".parquet", ".pq")

    @property
    def is_text(self) -> bool:
        """A CSV file's values are all texts."""
        return not self.is_parquet

    @property
    def first_row(self) -> int:
        """Row 1 of a CSV file is its header."""
        return 1 if self.is_parquet else 2

    def names(self) -> list[str]:
        """The columns as the file calls them.

        Raises:
            DataError: There is no file, it is empty, has no header, or one that can't be used.
        """
        self._require()
        if self.path.stat().st_size == 0:
            raise DataError(f"{self.where} is empty.", remedy="Give a file with a header and rows.")
        return self._parquet_names() if self.is_parquet else self._csv_names()

    def scan(self) -> pl.LazyFrame:
        """All rows, lazily; a CSV file's columns are texts.

        Raises:
            DataError: The header is wrong.
        """
        names = self.names()
        if self.is_parquet:
            lazy = pl.scan_parquet(self.path)
        else:
            lazy = pl.scan_csv(
                self.path, separator=self.separator, infer_schema=False, null_values=list(NULLS), encoding="utf8",
                new_columns=names,
            )  # fmt: skip
            if blank := self._blank_lines_at_end():
                # polars makes a row of nulls of each.
                lazy = lazy.filter(pl.int_range(pl.len()) < pl.len() - blank)
        return lazy.rename({old: new for old, new in self.columns.items() if old in names and old != new})

    def collect(self, lazy: pl.LazyFrame) -> pl.DataFrame:
        """Reads what ``scan`` promised.

        Raises:
            DataError: A row has more fields than the header, or the text is not UTF-8; the row is named.
        """
        try:
            return lazy.collect(engine="streaming")
        except (OSError, pl.exceptions.PolarsError) as error:
            if not self.is_parquet:
                self._find_broken_row(len(self.names()))
            raise DataError(f"{self.where} can't be read: {error}.") from error

    def state(self) -> str:
        """Its size and when it was written."""
        self._require()
        found = self.path.stat()
        return hashlib.sha256(f"{self.path.name}|{found.st_size}|{found.st_mtime_ns}".encode()).hexdigest()[:16]

    def _require(self) -> None:
        if not self.path.is_file():
            raise DataError(f"There is no file {self.path}.", remedy="Correct the path in the use case's etl.py.")

    def _parquet_names(self) -> list[str]:
        with self.path.open("rb") as file:
            if file.read(4) != _MAGIC:
                raise DataError(f"{self.where} is not Parquet.", remedy="Name a CSV file .csv.")
        try:
            return list(pl.read_parquet_schema(self.path))
        except (OSError, pl.exceptions.PolarsError) as error:
            raise DataError(f"{self.where} can't be read as Parquet: {error}.") from error

    def _csv_names(self) -> list[str]:
        with self.path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        if head.startswith(_MAGIC):
            raise DataError(f"{self.where} is Parquet.", remedy="Name it .parquet.")
        if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise DataError(f"{self.where} is UTF-16, not UTF-8.", remedy=_convert("UTF-16", self.path))
        if b"\r" in head and b"\n" not in head:
            raise DataError(
                f"{self.where} ends its lines with carriage returns alone.",
                remedy=f"Convert it: tr '\\r' '\\n' < {self.path.name} > lf-{self.path.name}",
            )
        text = io.StringIO(head.decode("utf-8-sig", errors="replace"), newline="")
        try:
            names = next((line for line in csv.reader(text, delimiter=self.separator) if line), [])
        except csv.Error as error:
            raise DataError(f"{self.where}: the header is no CSV: {error}.", remedy=_LOOK_FOR_QUOTE) from error
        # Not read as CSV: a first row may be longer than a field that Python's reader takes.
        self._check_header(names, has_rows=any(line.strip("\r\n") for line in text))
        self._check_end(len(names))
        return names

    def _check_header(self, names: list[str], *, has_rows: bool) -> None:
        if not names:
            raise DataError(f"{self.where} has nothing but blank lines.", remedy="Give a file with a header and rows.")
        if len(names) == 1:
            text = names[0]
            other = max(SEPARATORS, key=text.count)
            if other != self.separator and other in text:
                raise DataError(
                    f"{self.where} has one column, {text[:60]!r}: its fields are not separated by {self.separator!r}.",
                    remedy=f"Give --separator {'tab' if other == chr(9) else repr(other)}.",
                )
        empty = [str(place) for place, name in enumerate(names, start=1) if not name.strip()]
        if empty:
            raise DataError(
                f"{self.where}: column {', '.join(empty)} of {len(names)} has no name in the header.",
                remedy="Give each column a name in the first row; an index that was written along is best left out.",
            )
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise DataError(
                f"{self.where}: the header names {', '.join(map(repr, twice))} more than once.",
                remedy="Rename or remove one of them.",
            )
        data = pl.Series(names).str.contains(f"{NUMBER}|{INSTANT}")
        if data.any():
            raise DataError(
                f"{self.where} has no header: its first row holds {names[int(data.arg_true()[0])]!r}, which is a value "
                "and no name.",
                remedy="Add a first row with the columns' names.",
            )
        if not has_rows:
            raise DataError(f"{self.where} has a header and no rows.", remedy="Give a file with rows.")

    def _check_end(self, fields: int) -> None:
        """A last row with fewer fields than the header is where a copy broke off; polars would fill it with nulls."""
        lines = [line for line in self._last_lines() if line]
        last = lines[-1] if lines else ""
        if len(lines) < 2 or last.count('"') % 2:
            return
        found = len(next(csv.reader([last], delimiter=self.separator)))
        if found < fields:
            raise DataError(
                f"{self.where}: the last row, {last[:40]!r}, has {found} of {fields} fields.",
                remedy="The file seems to be cut off: copy it again.",
            )

    def _last_lines(self) -> list[str]:
        with self.path.open("rb") as file:
            file.seek(max(0, self.path.stat().st_size - _TAIL_BYTES))
            return [line.rstrip("\r") for line in file.read().decode(errors="replace").split("\n")]

    def _blank_lines_at_end(self) -> int:
        lines = self._last_lines()
        blank = next((place for place, line in enumerate(reversed(lines)) if line), len(lines))
        # What follows the last line's end is no line.
        return max(0, blank - 1)

    def _find_broken_row(self, fields: int) -> None:
        """Polars does not say where: the rows are read again by who does."""
        row = 0
        try:
            for row, line in enumerate(self._lines(), start=1):
                if len(line) > fields:
                    raise DataError(
                        f"{self.where}: row {row:,} has {len(line)} fields, and the header has {fields}.",
                        remedy=f"Put a text that holds {self.separator!r} in quotation marks.",
                    )
        except csv.Error as error:
            raise DataError(
                f"{self.where}: row {row + 1:,} is no CSV: {error}.",
                remedy=_LOOK_FOR_QUOTE,
            ) from error

    def _lines(self) -> Iterator[list[str]]:
        """The rows by Python's own reader: slow, and it knows where it is."""
        with self.path.open("rb") as file:
            row = 0

            def texts() -> Iterator[str]:
                nonlocal row
                for line in file:
                    row += 1
                    try:
                        yield line.decode("utf-8-sig" if row == 1 else "utf-8")
                    except UnicodeDecodeError as error:
                        raise DataError(
                            f"{self.where}: row {row:,} is not UTF-8 (byte 0x{line[error.start]:02x} after "
                            f"{line[: error.start][-20:].decode(errors='replace')!r}).",
                            remedy=_convert("latin1", self.path),
                        ) from error

            yield from csv.reader(texts(), delimiter=self.separator, strict=True)


def _convert(encoding: str, path: Path) -> str:
    return f"Convert it: iconv -f {encoding} -t utf-8 {path.name} > utf8-{path.name}"
