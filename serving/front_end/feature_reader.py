"""Reads the features of requests from the online store: one read a request, freshness judged view by view.

A batch row counts while it is no older than its view's time to live at the decision moment. A window's row has no age;
its view is fresh while the watermark of its stream is. What is missing is null and flagged, never zero; when the view
is required, the request is answered by the fallback.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any

from ninefold.errors import StoreError
from ninefold.features import FeatureView
from ninefold.fields import Field
from ninefold.online import OnlineRow, OnlineStore
from ninefold.records import Fallback, entity_key
from serving.front_end.columns import ColumnMaker
from serving.front_end.metrics import Metrics
from serving.front_end.validation import Row

_MOST_KEYS = 20_000
"""Entities of one key whose text is kept; one takes about a quarter of a kilobyte."""

UNREADABLE = "unreadable:online"
"""Flag of a request whose features could not be read at all."""


@dataclass(slots=True)
class RowFeatures:
    """What was read for one request.

    Args:
        values: The features, in the order of ``FeatureReader.names``; null is None.
        flags: What was odd: ``missing:<view>``, ``stale:<view>``, ``newer:<view>``, ``unreadable:online``.
        fallback: Why the baseline has to answer; None when it need not.
    """

    values: list[Any]
    flags: list[str] = field(default_factory=list)
    fallback: Fallback | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewState:
    """How one view stood for one request.

    Args:
        view: Exact name of the view.
        features: Logical names of its features.
        asked: Whether the row names the view's entity: no field of its key is null.
        key: ``entity_key`` that was read.
        known_at: When its values became known; None when there is no row.
        watermark: Instant up to which everything known is in the view; None before the first.
        state: ``fresh``, ``missing``, ``stale``, or ``newer`` (known after the decision moment).
    """

    view: str
    features: tuple[str, ...]
    asked: bool
    key: str
    known_at: datetime | None
    watermark: datetime | None
    state: str


class _Pairs(dict[Any, tuple[tuple[str, str], ...]]):
    """Values of an entity's key → what is asked for of it: each of its views, with the key's text.

    Flights share planes, routes and airports, so most of it is there already. A key of one field is its bare value.

    Args:
        views: The views of this key.
    """

    def __init__(self, views: Iterable[str]) -> None:
        super().__init__()
        self._views = tuple(views)

    def __missing__(self, values: Any) -> tuple[tuple[str, str], ...]:
        if len(self) >= _MOST_KEYS:
            self.clear()
        key = entity_key(values if type(values) is tuple else (values,))
        pairs = self[values] = tuple((view, key) for view in self._views)
        return pairs


@dataclass(frozen=True, slots=True)
class _View:
    """A feature view, compiled: flags ready, places instead of names.

    ``group`` are the places of its key in a request's row, ``at`` is its place among the rows that are read for it.
    """

    view: str
    features: tuple[str, ...]
    group: tuple[int, ...]
    at: int
    width: int
    nulls: tuple[None, ...]
    time_to_live: timedelta | None
    window: bool
    required: bool
    missing: str
    stale: str
    newer: str


class FeatureReader:
    """Reads the views of one signature.

    Args:
        views: The exact views, lengths included.
        fields: The fields of a request, in the order of a row.
        store: Where online rows lie.
        stale_after: Age of a stream's watermark past which its windows are stale.
        metrics: Where failed reads are counted.
    """

    def __init__(
        self,
        views: Sequence[FeatureView],
        fields: Sequence[Field],
        store: OnlineStore,
        stale_after: timedelta,
        metrics: Metrics,
    ) -> None:
        places = {item.name: place for place, item in enumerate(fields)}
        # Views of one key share its text, so their rows are asked for side by side.
        self._groups = {key: tuple(places[name] for name in key) for key in dict.fromkeys(view.key for view in views)}
        by_group = [view.view for key in self._groups for view in views if view.key == key]
        self._views = [_compiled(view, self._groups[view.key], by_group.index(view.view)) for view in views]
        self._pairs = [
            (itemgetter(*group), _Pairs(view.view for view in views if view.key == key).__getitem__)
            for key, group in self._groups.items()
        ]
        self._windows = [view for view in self._views if view.window]
        self._store = store
        self._stale_after = stale_after
        self._metrics = metrics
        self._watermarks: Mapping[str, datetime | None] = {}
        self._fresh_until: datetime | None = None
        self.names: tuple[str, ...] = tuple(name for view in views for name in view.features)
        kinds = [kind for view in views for kind in view.kinds]
        self.columns = ColumnMaker([*((item.name, item.kind) for item in fields), *zip(self.names, kinds, strict=True)])
        """Makes the columns of rows followed by their features' values."""

    def read(self, rows: Sequence[Row], decided: Sequence[datetime], now: datetime) -> list[RowFeatures]:
        """The features of rows, as known online at this moment.

        Args:
            rows: Checked values of the requests.
            decided: Their decision moments.
            now: The clock, which the watermarks are held against.
        """
        if not self._views:
            return [RowFeatures([]) for _ in rows]
        try:
            found = self._store.read_many(self._wanted(rows))
            stale_windows = self._stale_windows(now)
        except StoreError as error:
            self._metrics.online_failed(error)
            return [self._unread() for _ in rows]
        step = len(self._views)
        return [
            self._judge(found[place * step : place * step + step], at, stale_windows)
            for place, at in enumerate(decided)
        ]

    def describe(self, rows: Sequence[Row], decided: Sequence[datetime], now: datetime) -> Iterator[list[ViewState]]:
        """How each view stands for each row, in the order of the views, for people who ask.

        Raises:
            StoreError: The online store can't be read.
        """
        wanted = self._wanted(rows)
        found = self._store.read_many(wanted)
        self._watermarks = self._store.watermarks(view.view for view in self._views)
        step = len(self._views)
        for place, at in enumerate(decided):
            states = []
            for view in self._views:
                row = found[place * step + view.at]
                watermark = self._watermarks[view.view]
                stale = view.window and self._is_stale(watermark, now)
                states.append(
                    ViewState(
                        view=view.view,
                        features=view.features,
                        asked=all(rows[place][column] is not None for column in view.group),
                        key=wanted[place * step + view.at][1],
                        known_at=row.known_at if row else None,
                        watermark=watermark,
                        state=_state(view, row, at, stale),
                    )
                )
            yield states

    def _wanted(self, rows: Sequence[Row]) -> list[tuple[str, str]]:
        wanted: list[tuple[str, str]] = []
        for row in rows:
            for values_of, pairs_of in self._pairs:
                wanted += pairs_of(values_of(row))
        return wanted

    def _stale_windows(self, now: datetime) -> frozenset[str]:
        """The windows whose watermark is too old.

        A watermark never goes back, so one that was read once is good until its age passes the bound: it is read
        again only then.
        """
        if not self._windows or (self._fresh_until is not None and now <= self._fresh_until):
            return frozenset()
        self._watermarks = self._store.watermarks(view.view for view in self._windows)
        stale = frozenset(v.view for v in self._windows if self._is_stale(self._watermarks[v.view], now))
        known = [instant for instant in self._watermarks.values() if instant is not None]
        self._fresh_until = None if stale else min(known) + self._stale_after
        return stale

    def _is_stale(self, watermark: datetime | None, now: datetime) -> bool:
        return watermark is None or now - watermark > self._stale_after

    def _judge(self, found: Sequence[OnlineRow | None], at: datetime, stale_windows: frozenset[str]) -> RowFeatures:
        values: list[Any] = []
        flags: list[str] = []
        fallback: Fallback | None = None
        for view in self._views:
            row = found[view.at]
            if row is None or len(row.values) != view.width:
                # A row of another width belongs to a view that was declared anew under the same name.
                values += view.nulls
                flags.append(view.missing)
                if view.required and fallback is None:
                    fallback = "feature_missing"
                continue
            known_at = row.known_at
            if known_at > at:
                flags.append(view.newer)
            elif view.time_to_live is not None and at - known_at > view.time_to_live:
                values += view.nulls
                flags.append(view.stale)
                if view.required and fallback is None:
                    fallback = "feature_stale"
                continue
            values += row.values
            if stale_windows and view.view in stale_windows:
                flags.append(view.stale)
                if view.required and fallback is None:
                    fallback = "feature_stale"
        return RowFeatures(values, flags, fallback)

    def _unread(self) -> RowFeatures:
        return RowFeatures(
            [None] * len(self.names), [UNREADABLE, *(view.missing for view in self._views)], "feature_missing"
        )


def _compiled(view: FeatureView, group: tuple[int, ...], at: int) -> _View:
    logical = view.window[0] if view.window is not None else view.view
    return _View(
        view=view.view,
        features=view.features,
        group=group,
        at=at,
        width=len(view.columns),
        nulls=(None,) * len(view.columns),
        time_to_live=timedelta(seconds=view.time_to_live) if view.time_to_live is not None else None,
        window=view.source == "window",
        required=view.required,
        missing=f"missing:{logical}",
        stale=f"stale:{logical}",
        newer=f"newer:{logical}",
    )


def _state(view: _View, row: OnlineRow | None, at: datetime, stale: bool) -> str:
    if row is None:
        return "missing"
    if stale:
        return "stale"
    if row.known_at > at:
        return "newer"
    expired = view.time_to_live is not None and at - row.known_at > view.time_to_live
    return "stale" if expired else "fresh"
