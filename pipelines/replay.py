"""Replay: history as live traffic, in event time. Departures are asked, landings reported, instant by instant.

At each instant of history at which something was asked (a minute, where its clock has minutes) the rows of batch views
that became known are materialized, the events since the last one are sent and waited for until their windows are
written, then the requests of that instant are asked. So a replay is deterministic, and the features that the front end
logs are those that the point-in-time join gives offline.
"""

from __future__ import annotations

import bisect
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.featurizer.materialize import BatchRowFeed
from ninefold.clock import format_instant
from ninefold.errors import DataError, Unavailable, UsageError
from ninefold.online import OnlineStore
from ninefold.usecase import UseCase
from ninefold.windows.declaration import KNOWN_AT
from pipelines.http_session import HttpSession

if TYPE_CHECKING:
    import polars as pl

SEED_BATCH = 5_000
_EVENTS = "/v1/events?wait=windows"
TRUTHS_AT_ONCE = 500
SHOWN_EVERY_SECONDS = 0.5
PATIENCE_SECONDS = 30.0
"""How long a service that is gone is waited for."""
_RETRY_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What a replay did.

    Args:
        requests: Requests asked and answered.
        events: Events sent.
        truths: Truths sent.
        rows: Rows of batch views written.
        fallbacks: Reason → answers of the baseline.
        versions: Version → answers.
        seconds: Wall time of the replay, seeding left out.
        latencies_ms: Round trip of every predict call, sorted.
    """

    requests: int
    events: int
    truths: int
    rows: int
    fallbacks: Mapping[str, int] = field(default_factory=dict)
    versions: Mapping[int, int] = field(default_factory=dict)
    seconds: float = 0.0
    latencies_ms: tuple[float, ...] = ()

    def __add__(self, other: Replayed) -> Replayed:
        """Both, one after the other."""
        return Replayed(
            requests=self.requests + other.requests,
            events=self.events + other.events,
            truths=self.truths + other.truths,
            rows=self.rows + other.rows,
            fallbacks=Counter(self.fallbacks) + Counter(other.fallbacks),
            versions=Counter(self.versions) + Counter(other.versions),
            seconds=self.seconds + other.seconds,
            latencies_ms=tuple(sorted(self.latencies_ms + other.latencies_ms)),
        )

    def latency(self, share: float) -> float:
        """A quantile of the predict calls' round trips, in ms."""
        if not self.latencies_ms:
            raise UsageError("The replay asked nothing, so it has no latency.")
        return self.latencies_ms[min(int(share * len(self.latencies_ms)), len(self.latencies_ms) - 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What happens in a stretch of history, by instant.

    Args:
        requests: Instant → requests decided then, as JSON.
        events: Instant → events known then, as the collector takes them.
        truths: Instant → truths known then, as the collector takes them.
        seed: Events known before the stretch that its windows still hold.
    """

    requests: Mapping[datetime, list[dict[str, Any]]]
    events: Mapping[datetime, list[dict[str, Any]]]
    truths: Mapping[datetime, list[dict[str, Any]]]
    seed: list[dict[str, Any]]

    @property
    def instants(self) -> list[datetime]:
        """Every instant at which something happens, in order."""
        return sorted({*self.requests, *self.events, *self.truths})


def read_traffic(use_case: UseCase, snapshot: Path, since: datetime, until: datetime) -> Traffic:
    """Reads a stretch of history from a snapshot.

    Args:
        use_case: Whose traffic.
        snapshot: Folder written by ``extract``.
        since: First decision moment.
        until: Decision moments end before it; truths of the requests that were asked go on until they are known.

    Raises:
        UsageError: The use case has no time, or nothing was asked in the stretch.
    """
    import polars as pl

    if use_case.decided_at is None:
        raise UsageError(f"{use_case.name} has no decision moments, so there is no traffic to replay.")
    decided = use_case.decided_at
    requests = pl.read_parquet(snapshot / "requests.parquet").filter(
        (pl.col(decided) >= since) & (pl.col(decided) < until)
    )
    if requests.is_empty():
        raise UsageError(
            f"Nothing was asked of {use_case.name} from {format_instant(since)} to {format_instant(until)}."
        )
    known = pl.read_parquet(snapshot / "truths.parquet")
    if "source" in known.columns:
        # What users and labellers said must not come back as the organisation's own word.
        known = known.filter(pl.col("source") == "system").drop("source")
    truths = known.join(requests.select(*use_case.key, decided), on=list(use_case.key), how="inner").filter(
        pl.col(KNOWN_AT) >= pl.col(decided)
    )
    longest = max((window.length for window in use_case.windows), default=timedelta(0))
    events: dict[datetime, list[dict[str, Any]]] = {}
    seed: list[dict[str, Any]] = []
    for stream in use_case.streams:
        frame = pl.read_parquet(snapshot / "streams" / f"{stream.name}.parquet").filter(
            (pl.col(KNOWN_AT) > since - longest) & (pl.col(KNOWN_AT) < until)
        )
        names = [f.name for f in stream.fields]
        for row in frame.sort(KNOWN_AT, "event_id").iter_rows(named=True):
            event = {
                "id": row["event_id"],
                "stream": stream.name,
                "happened_at": format_instant(row["happened_at"]),
                KNOWN_AT: format_instant(row[KNOWN_AT]),
                "values": _json({name: row[name] for name in names}),
            }
            if row[KNOWN_AT] < since:
                seed.append(event)
            else:
                events.setdefault(row[KNOWN_AT], []).append(event)
    return Traffic(
        # History may hold what no client knows when it asks.
        requests=_by_instant(requests.select(f.name for f in use_case.request), decided, _json),
        events=events,
        truths=_by_instant(
            truths,
            KNOWN_AT,
            lambda row: {
                "key": _json({name: row[name] for name in use_case.key}),
                "value": row["truth"],
                KNOWN_AT: format_instant(row[KNOWN_AT]),
            },
        ),
        seed=seed,
    )


def next_request(use_case: UseCase, snapshot: Path, after: datetime) -> dict[str, Any] | None:
    """The first request decided at an instant or after it, as JSON; None where history ends before.

    Raises:
        UsageError: The use case has no time.
    """
    import polars as pl

    if use_case.decided_at is None:
        raise UsageError(f"{use_case.name} has no decision moments.")
    decided = pl.col(use_case.decided_at)
    rows = pl.read_parquet(snapshot / "requests.parquet").filter(decided >= after).sort(decided).head(1)
    found = [_json(row) for row in rows.select(f.name for f in use_case.request).iter_rows(named=True)]
    if not found:
        return None
    return {
        name: int(value) if use_case.fields[name].kind == "integer" else value
        for name, value in found[0].items()
        if value is not None
    }


def _by_instant(
    frame: pl.DataFrame, at: str, convert: Callable[[dict[str, Any]], dict[str, Any]]
) -> dict[datetime, list[dict[str, Any]]]:
    found: dict[datetime, list[dict[str, Any]]] = {}
    for row in frame.sort(at, maintain_order=True).iter_rows(named=True):
        found.setdefault(row[at], []).append(convert(row))
    return found


def _json(row: Mapping[str, Any]) -> dict[str, Any]:
    return {k: format_instant(v) if isinstance(v, datetime) else v for k, v in row.items()}


class Replayer:
    """Drives the running services through history, one stretch after the other.

    Args:
        use_case: Whose traffic.
        traffic: What happens.
        front_end: Session to the front end.
        collector: Session to the collector.
        rows: Rows of the batch views.
        online: Where they are materialized.
    """

    def __init__(
        self,
        use_case: UseCase,
        traffic: Traffic,
        *,
        front_end: HttpSession,
        collector: HttpSession,
        rows: BatchRowFeed,
        online: OnlineStore,
    ) -> None:
        self._predict = f"/v1/models/{use_case.name}:predict"
        self._traffic = traffic
        self._instants = traffic.instants
        self._place = 0
        self._front_end = front_end
        self._collector = collector
        self._rows = rows
        self._online = online

    @property
    def requests(self) -> int:
        """Requests that history holds, from begin to end."""
        return sum(map(len, self._traffic.requests.values()))

    def seed(self, since: datetime) -> None:
        """Brings rows and windows to where they stood when history's traffic begins.

        Raises:
            Unavailable: A service does not answer.
            DataError: A service refused what history holds.
        """
        self._rows.write(self._online, since)
        for batch in _batches(self._traffic.seed, SEED_BATCH):
            _post(self._collector, _EVENTS, {"events": batch})
        _post(self._collector, _EVENTS, {"events": [], "advance_to": format_instant(since)})

    def run(
        self, until: datetime | None = None, on_progress: Callable[[int, datetime], None] = lambda *_: None
    ) -> Replayed:
        """Replays what happens next, as one stretch: all of it is sent when this returns.

        Args:
            until: The stretch ends before it; None to go to the end.
            on_progress: Told (requests answered in this stretch, event time), twice a second.

        Raises:
            Unavailable: A service does not answer.
            DataError: A service refused what history holds.
        """
        traffic, done = self._traffic, _Counts()
        end = len(self._instants) if until is None else bisect.bisect_left(self._instants, until)
        events: list[dict[str, Any]] = []
        due: list[dict[str, Any]] = []
        newest: datetime | None = None
        started = shown = time.monotonic()
        while self._place < end:
            instant = self._instants[self._place]
            self._place += 1
            # What happened since the last request goes in one call: windows go by each event's own instant.
            if happened := traffic.events.get(instant):
                events += happened
                newest = instant
            due += traffic.truths.get(instant, ())
            if len(due) >= TRUTHS_AT_ONCE:
                due = self._tell(due, done)
            requests = traffic.requests.get(instant)
            if requests is None:
                continue
            done.rows += self._rows.write(self._online, instant)
            events = self._move(events, instant, done)
            self._ask(requests, done)
            if time.monotonic() - shown > SHOWN_EVERY_SECONDS:
                shown = time.monotonic()
                on_progress(done.requests, instant)
        if newest is not None and events:
            # No further than the last event: a request of the next minute may still follow.
            self._move(events, newest, done)
        self._tell(due, done)
        return done.replayed(time.monotonic() - started)

    def _move(self, events: list[dict[str, Any]], to: datetime, done: _Counts) -> list[dict[str, Any]]:
        _post(self._collector, _EVENTS, {"events": events, "advance_to": format_instant(to)})
        done.events += len(events)
        return []

    def _tell(self, truths: list[dict[str, Any]], done: _Counts) -> list[dict[str, Any]]:
        if truths:
            _post(self._collector, "/v1/truths", {"truths": truths})
            done.truths += len(truths)
        return []

    def _ask(self, requests: list[dict[str, Any]], done: _Counts) -> None:
        asked = time.perf_counter()
        predictions = _post(self._front_end, self._predict, {"instances": requests})["predictions"]
        done.latencies_ms.append((time.perf_counter() - asked) * 1000)
        done.requests += len(predictions)
        for prediction in predictions:
            done.versions[prediction["version"]] += 1
            if prediction["fallback"] is not None:
                done.fallbacks[prediction["fallback"]] += 1


@dataclass(slots=True)
class _Counts:
    """``Replayed`` as it grows."""

    requests: int = 0
    events: int = 0
    truths: int = 0
    rows: int = 0
    fallbacks: Counter[str] = field(default_factory=Counter)
    versions: Counter[int] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)

    def replayed(self, seconds: float) -> Replayed:
        return Replayed(
            requests=self.requests, events=self.events, truths=self.truths, rows=self.rows,
            fallbacks=self.fallbacks, versions=self.versions, seconds=seconds,
            latencies_ms=tuple(sorted(self.latencies_ms)),
        )  # fmt: skip


def _batches(items: list[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _post(session: HttpSession, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Posts, again and again while the service is not there: one that died is started anew by its supervisor.

    What was taken twice is kept once, or counts once.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            status, answer = session.post(path, body)
        except Unavailable:
            if time.monotonic() > deadline:
                raise
        else:
            if status < 400:
                return answer
            if status != 503 or time.monotonic() > deadline:
                raise DataError(f"{session.base}{path} answered {status}: {answer.get('error', answer)}")
        time.sleep(_RETRY_SECONDS)
