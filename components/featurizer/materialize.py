"""Batch views' rows into the online store: the newest up to an instant at once, or as event time passes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import islice, starmap

import numpy as np
import polars as pl

from components.featurizer.entity_keys import entity_keys
from components.featurizer.historical import write_changelogs
from feature_repo.files import source_path
from ninefold.errors import DataError
from ninefold.features import FeatureView, batch_feature_view
from ninefold.fields import NUMERIC
from ninefold.online import OnlineRow, OnlineStore, open_online_store, to_microseconds
from ninefold.settings import Settings
from ninefold.usecase import UseCase
from ninefold.windows.declaration import KNOWN_AT

_NEVER = np.iinfo(np.int64).max
_AT_ONCE = 5_000
"""Rows a write: a Redis answers nobody else meanwhile."""


class ViewRows:
    """A batch view's rows in the order in which they became known.

    Args:
        view: The view.
        frame: Its key, ``known_at`` and columns, in any order.

    Raises:
        DataError: A column is missing, or a key or an instant is null.
    """

    def __init__(self, view: FeatureView, frame: pl.DataFrame) -> None:
        missing = [name for name in (*view.key, KNOWN_AT, *view.columns) if name not in frame.columns]
        if missing:
            raise DataError(f"The rows of {view.view} have no column {', '.join(missing)}.")
        if frame[KNOWN_AT].null_count():
            raise DataError(f"{KNOWN_AT} is null in {frame[KNOWN_AT].null_count():,} rows of {view.view}.")
        self.view = view.view
        self._rows = frame.select(
            entity_keys(frame, view.key),
            pl.col(KNOWN_AT).cast(pl.Datetime("us", "UTC")),
            *(
                # Null is None in a row: not a number is a null that came through numpy.
                pl.col(name).cast(pl.Float64).fill_nan(None) if kind in NUMERIC else pl.col(name).cast(pl.String)
                for name, kind in zip(view.columns, view.kinds, strict=True)
            ),
        ).sort(KNOWN_AT, maintain_order=True)
        self._known_at = self._rows[KNOWN_AT].to_physical().to_numpy()

    def known_by(self, instant: datetime) -> int:
        """How many rows were known at an instant, those of that very instant included."""
        return int(np.searchsorted(self._known_at, to_microseconds(instant), side="right"))

    def known_before(self, instant: datetime) -> int:
        """How many rows were known before an instant."""
        return int(np.searchsorted(self._known_at, to_microseconds(instant), side="left"))

    def next_known_at(self, position: int) -> int:
        """When the row at a position becomes known, in microseconds; past the last, later than any instant."""
        return int(self._known_at[position]) if position < len(self._known_at) else _NEVER

    def between(self, start: int, stop: int) -> Iterator[OnlineRow]:
        """The newest row of each key within a range of positions."""
        newest = self._rows[start:stop].unique("key", keep="last", maintain_order=True)
        return starmap(_online_row, newest.iter_rows())


def _online_row(key: str, known_at: datetime, *values: float | str | None) -> OnlineRow:
    return OnlineRow(key, known_at, values)


def read_batch_views(use_case: UseCase, settings: Settings) -> list[ViewRows]:
    """The rows of the use case's batch views, from its history on disk.

    Raises:
        DataError: A file is missing or broken.
    """
    found = []
    for view in map(batch_feature_view, use_case.batch_views):
        path = source_path(use_case, settings, view)
        try:
            frame = pl.read_parquet(path)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise DataError(
                f"{use_case.name}: the rows of {view.view} can't be read from {path}: {error}.",
                remedy=f"Make them with: ninefold run training {use_case.name}",
            ) from error
        found.append(ViewRows(view, frame))
    return found


def materialize(
    use_case: UseCase, settings: Settings, until: datetime, since: datetime | None = None
) -> dict[str, int]:
    """Writes the newest row of every key of every batch view into the online store, as ``feast materialize`` would.

    Args:
        use_case: Whose views.
        settings: Say where history and online rows lie.
        until: Rows known at this instant or before; the views' watermarks move on to it.
        since: Rows known at this instant or after; None for all.

    Returns:
        View → rows that changed something.

    Raises:
        DataError: A view's file is missing or broken.
        StoreError: The rows can't be written.
    """
    written = {}
    store = open_online_store(settings.online_url)
    try:
        for rows in read_batch_views(use_case, settings):
            start = 0 if since is None else rows.known_before(since)
            written[rows.view] = _write(store, rows.view, rows.between(start, rows.known_by(until)))
            store.advance_watermark(rows.view, until)
    finally:
        store.close()
    return written


def materialize_windows(
    use_case: UseCase, settings: Settings, lengths: Mapping[str, str] | None, until: datetime
) -> dict[str, int]:
    """Writes the newest row of every key of every window into the online store, as its changelog has it.

    A stream that starts holds the events that are still in its windows; this brings the keys that fell silent before,
    whose row says that nothing is left. The stream's own rows are never overwritten by older ones, and its watermarks
    stay: they say how far the stream came.

    Args:
        use_case: Whose windows.
        settings: Say where history and online rows lie.
        lengths: Window name → length; a window that is not named keeps its own.
        until: Rows known at this instant or before.

    Returns:
        View → rows that changed something.
    """
    write_changelogs(use_case, lengths, settings)
    written = {}
    store = open_online_store(settings.online_url)
    try:
        for view in use_case.feature_views(lengths):
            if view.source == "window":
                rows = ViewRows(view, pl.read_parquet(source_path(use_case, settings, view)))
                written[view.view] = _write(store, view.view, rows.between(0, rows.known_by(until)))
    finally:
        store.close()
    return written


def _write(store: OnlineStore, view: str, rows: Iterator[OnlineRow]) -> int:
    written = 0
    while some := list(islice(rows, _AT_ONCE)):
        written += store.write(view, some)
    return written


class BatchRowFeed:
    """Batch views' rows as event time passes, for replays: what became known since the last call.

    A call when nothing became known costs less than a microsecond, and writes nothing.

    Args:
        use_case: Whose views.
        settings: Say where its history lies.
    """

    def __init__(self, use_case: UseCase, settings: Settings) -> None:
        self._views = read_batch_views(use_case, settings)
        self._positions = [0] * len(self._views)
        self._next = min((view.next_known_at(0) for view in self._views), default=_NEVER)

    def advance(self, to: datetime) -> dict[str, list[OnlineRow]]:
        """The newest rows that became known after the last call's instant, and at ``to`` or before: view → rows.

        The first call gives everything known by then. An earlier instant than the last gives nothing.
        """
        if to_microseconds(to) < self._next:
            return {}
        known = {}
        for number, view in enumerate(self._views):
            start, stop = self._positions[number], view.known_by(to)
            if stop > start:
                known[view.view] = list(view.between(start, stop))
                self._positions[number] = stop
        self._next = min(
            view.next_known_at(position) for view, position in zip(self._views, self._positions, strict=True)
        )
        return known

    def write(self, store: OnlineStore, to: datetime) -> int:
        """Writes what ``advance`` gives, moves the watermarks of the views that it touched, and counts the rows."""
        written = 0
        for view, rows in self.advance(to).items():
            written += store.write(view, rows)
            store.advance_watermark(view, to)
        return written
