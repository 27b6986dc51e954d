"""Replay: history as live traffic, in event time. Departures are asked, landings reported, instant by instant.

At each instant of history at which something was asked (a minute, where its clock has minutes) the rows of batch views
that became known are materialized, the events since the last one are sent and waited for until their windows are
written, then the requests of that instant are asked. So a replay is deterministic, and the features that the front end
logs are those that the point-in-time join gives offline.
"""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.featurizer.materialize import BatchRowFeed
from ninefold.clock import format_instant
from ninefold.errors import DataError, UsageError
from ninefold.online import OnlineStore
from ninefold.usecase import UseCase
from ninefold.windows.declaration import KNOWN_AT
from pipelines.http_session import HttpSession

if TYPE_CHECKING:
    import polars as pl

SEED_BATCH = 5_000
TRUTHS_AT_ONCE = 500
SHOWN_EVERY_SECONDS = 0.5


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
    truths = (
        pl.read_parquet(snapshot / "truths.parquet")
        .join(requests.select(*use_case.key, decided), on=list(use_case.key), how="inner")
        .filter(pl.col(KNOWN_AT) >= pl.col(decided))
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
        requests=_by_instant(requests, decided, lambda row: _json(row)),
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
    found = [_json(row) for row in rows.iter_rows(named=True)]
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


def replay(
    use_case: UseCase,
    traffic: Traffic,
    *,
    since: datetime,
    front_end: HttpSession,
    collector: HttpSession,
    rows: BatchRowFeed,
    online: OnlineStore,
    on_progress: Callable[[int, datetime], None] = lambda *_: None,
) -> Replayed:
    """Drives the running services through a stretch of history.

    Args:
        use_case: Whose traffic.
        traffic: What happens.
        since: Where it starts: windows are seeded up to here.
        front_end: Session to the front end.
        collector: Session to the collector.
        rows: Rows of the batch views.
        online: Where they are materialized.
        on_progress: Told (requests answered, event time), twice a second.

    Raises:
        Unavailable: A service does not answer.
        DataError: A service refused what history holds.
    """
    rows.write(online, since)
    for batch in _batches(traffic.seed, SEED_BATCH):
        _post(collector, "/v1/events?wait=windows", {"events": batch})
    _post(collector, "/v1/events?wait=windows", {"events": [], "advance_to": format_instant(since)})
    predict = f"/v1/models/{use_case.name}:predict"
    answered = written = 0
    fallbacks: dict[str, int] = {}
    versions: dict[int, int] = {}
    latencies: list[float] = []
    events: list[dict[str, Any]] = []
    due: list[dict[str, Any]] = []
    started = shown = time.monotonic()
    for instant in traffic.instants:
        # What happened since the last request goes in one call: windows go by each event's own instant.
        events += traffic.events.get(instant, ())
        due += traffic.truths.get(instant, ())
        if len(due) >= TRUTHS_AT_ONCE:
            _post(collector, "/v1/truths", {"truths": due})
            due = []
        requests = traffic.requests.get(instant)
        if requests is None:
            continue
        written += rows.write(online, instant)
        _post(collector, "/v1/events?wait=windows", {"events": events, "advance_to": format_instant(instant)})
        events = []
        asked = time.perf_counter()
        predictions = _post(front_end, predict, {"instances": requests})["predictions"]
        bisect.insort(latencies, (time.perf_counter() - asked) * 1000)
        answered += len(predictions)
        for prediction in predictions:
            versions[prediction["version"]] = versions.get(prediction["version"], 0) + 1
            if prediction["fallback"] is not None:
                fallbacks[prediction["fallback"]] = fallbacks.get(prediction["fallback"], 0) + 1
        if time.monotonic() - shown > SHOWN_EVERY_SECONDS:
            shown = time.monotonic()
            on_progress(answered, instant)
    if events:
        # No further than the last event: truths come long after, and a request of the next minute may still follow.
        last = format_instant(max(traffic.events))
        _post(collector, "/v1/events?wait=windows", {"events": events, "advance_to": last})
    if due:
        _post(collector, "/v1/truths", {"truths": due})
    return Replayed(
        requests=answered,
        events=sum(map(len, traffic.events.values())),
        truths=sum(map(len, traffic.truths.values())),
        rows=written,
        fallbacks=fallbacks,
        versions=versions,
        seconds=time.monotonic() - started,
        latencies_ms=tuple(latencies),
    )


def _batches(items: list[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _post(session: HttpSession, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    status, answer = session.post(path, body)
    if status >= 400:
        raise DataError(f"{session.base}{path} answered {status}: {answer.get('error', answer)}")
    return answer
