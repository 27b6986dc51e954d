"""What every source of rows offers, whatever it is."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from ninefold.errors import DataError

if TYPE_CHECKING:
    import polars as pl


class Source(Protocol):
    """A table of rows, with columns under the names that the contract knows them by."""

    @property
    def where(self) -> str:
        """What it is, for messages; no secret in it."""
        ...

    @property
    def first_row(self) -> int:
        """Number of its first row, as a person counts."""
        ...

    @property
    def is_text(self) -> bool:
        """Whether numbers and times come as texts, so that what they are has to be seen from them."""
        ...

    def names(self) -> list[str]:
        """The columns under its own names."""
        ...

    def scan(self) -> pl.LazyFrame:
        """All its rows, not yet read.

        Raises:
            DataError: What can be seen before the rows are read is wrong.
        """
        ...

    def collect(self, lazy: pl.LazyFrame) -> pl.DataFrame:
        """Reads what ``scan`` promised, or a part of it.

        Raises:
            DataError: It can't be read; the message names the row where that is known.
        """
        ...

    def state(self) -> str:
        """A text that changes whenever it holds something else."""
        ...


def missing_columns(where: str, wanted: Iterable[str], there: Iterable[str]) -> DataError | None:
    """An error that names the columns that are not there, and what they may be called; None where none is missing."""
    known = list(there)
    missing = [name for name in wanted if name not in known]
    if not missing:
        return None
    near = {name: difflib.get_close_matches(name, known, n=1) for name in missing}
    listed = ", ".join(f"{name!r}{f' (did you mean {near[name][0]!r}?)' if near[name] else ''}" for name in missing)
    return DataError(
        f"{where}: there is no column {listed}. It has {', '.join(known)}.",
        remedy="Correct the header, or name the column as it is called there.",
    )
