"""Online rows in one Redis, for front ends on many machines.

A view is one hash: entity's key → its row, which is eight bytes of ``known_at`` and the columns. So a view of one
entity is one field, a whole view goes in one step, and one command reads any number of a view's rows. Several views are
read by a script, in one trip and as one state. (A transaction would do as well, but a server whose memory is full
refuses those, reads too.) Guards run in a script as well: it finds out what is to be written first, and then writes,
so that it does all or nothing.

Names of hashes hold the version of this layout: another one would use others.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any, NamedTuple

import msgpack
import structlog

from ninefold.errors import StoreError
from ninefold.online.redis_connection import WRITE_SECONDS, Command, Connection, UnknownScript, parse_url
from ninefold.online.rows import OnlineRow, from_microseconds, moved, to_microseconds

log = structlog.get_logger()

PREFIX = "ninefold:1:"
"""What the names of all hashes begin with."""

_ROWS = f"{PREFIX}rows:"
_WATERMARKS = f"{PREFIX}watermarks"
# Microseconds can be below zero; shifted by this, eight bytes of them are in the order of time.
_SHIFT = 2**63
_INSTANT = 8


class _Script(NamedTuple):
    source: str
    sha: str


def _script(source: str) -> _Script:
    return _Script(source, hashlib.sha1(source.encode()).hexdigest())  # noqa: S324 - Redis's own name of a script


_READ = _script("""
-- KEYS: the rows of each view. ARGV: how many keys of each view there are; then the keys.
local found, first = {}, #KEYS + 1
for number, name in ipairs(KEYS) do
  local beyond = first + tonumber(ARGV[number])
  while first < beyond do
    -- Lua's stack holds so many arguments.
    local last = math.min(first + 4000, beyond) - 1
    for _, row in ipairs(redis.call('HMGET', name, unpack(ARGV, first, last))) do
      found[#found + 1] = row
    end
    first = last + 1
  end
end
return found
""")

_WRITE = _script("""
-- KEYS: the watermarks, then the rows of each view.
-- ARGV: the new watermark, or ''; then for each view its name, the watermark that it has to have ('' for any, '-' for
-- none), how many rows follow, and each row's key and value.
local function later(a, b)
  -- In two halves: a number of Lua's holds 53 bits.
  local high, low = struct.unpack('>I4I4', a)
  local other_high, other_low = struct.unpack('>I4I4', b)
  return high > other_high or (high == other_high and low > other_low)
end
local changed, place = 0, 2
local views, newest = {}, {}
for number = 2, #KEYS do
  local view, expected, count = ARGV[place], ARGV[place + 1], tonumber(ARGV[place + 2])
  place = place + 3
  local present = redis.call('HGET', KEYS[1], view)
  if expected ~= '' and (present or '-') ~= expected then
    return {view, present or ''}
  end
  views[number] = (ARGV[1] ~= '' and (not present or later(ARGV[1], present))) and view or false
  local rows = {}
  for _ = 1, count do
    local key, row = ARGV[place], ARGV[place + 1]
    place = place + 2
    local kept = rows[key] or redis.call('HGET', KEYS[number], key)
    if not kept or later(row, kept) or (row ~= kept and not later(kept, row)) then
      rows[key] = row
      changed = changed + 1
    end
  end
  newest[number] = rows
end
for number = 2, #KEYS do
  for key, row in pairs(newest[number]) do
    redis.call('HSET', KEYS[number], key, row)
  end
  if views[number] then
    redis.call('HSET', KEYS[1], views[number], ARGV[1])
  end
end
return changed
""")


class RedisOnlineStore:
    """Online rows in one Redis. It connects when it is first asked, and anew when the server was restarted.

    Every read sees one state of all rows that it asks for. Use an instance from the thread that opened it.

    Args:
        url: ``redis://[[user]:password@]host[:port][/database]``, or ``rediss://``.

    Raises:
        ConfigurationError: The URL can't be read.
    """

    def __init__(self, url: str) -> None:
        server = parse_url(url)
        self._where = str(server)
        self._reading = Connection(server, server.timeout)
        self._writing = Connection(server, max(server.timeout, WRITE_SECONDS))
        self._thread = threading.get_ident()

    def read_many(self, requests: Sequence[tuple[str, str]]) -> list[OnlineRow | None]:
        """The rows of (view, key) pairs, in their order, from one consistent state; None where there is none.

        Raises:
            StoreError: The server is out of reach, or a row is damaged.
        """
        self._of_one_thread()
        if not requests:
            return []
        keys: dict[str, list[str]] = {}
        for view, key in requests:
            if view in keys:
                keys[view].append(key)
            else:
                keys[view] = [key]
        if len(keys) == 1:
            ((view, mine),) = keys.items()
            (found,) = self._reading.ask([("HMGET", _ROWS + view, *mine)])
        else:
            counts = [len(mine) for mine in keys.values()]
            names = [_ROWS + view for view in keys]
            found = self._run(self._reading, _READ, len(names), *names, *counts, *chain.from_iterable(keys.values()))
        try:
            if len(keys) == len(requests):
                return [_row(key, raw) for (_, key), raw in zip(requests, found, strict=True)]
            rows = iter(found)
            of_view = {view: iter([_row(key, next(rows)) for key in mine]) for view, mine in keys.items()}
            return [next(of_view[view]) for view, _ in requests]
        except (msgpack.UnpackException, ValueError, OverflowError, TypeError) as error:
            raise self._damaged(error) from error

    def write(self, view: str, rows: Iterable[OnlineRow]) -> int:
        """Writes rows, all or none, and returns how many changed something.

        A row is written when it is newer than what is there, or differs at the same instant; an older one never is.
        The server answers nobody else meanwhile: some milliseconds for a thousand rows.

        Raises:
            StoreError: The server is out of reach, or refuses.
        """
        packed = _packed(rows)
        return self._write({view: packed}, b"", {}) if packed else 0

    def write_views(
        self,
        rows: Mapping[str, Iterable[OnlineRow]],
        watermark: datetime,
        *,
        after: Mapping[str, datetime | None] | None = None,
    ) -> int:
        """Writes rows of several views, as ``write`` does, and moves these views' watermarks: all or nothing.

        Raises:
            Outdated: A watermark is not the one that ``after`` names; nothing is written.
            StoreError: The server is out of reach, or refuses.
        """
        packed = {view: _packed(mine) for view, mine in rows.items()}
        return self._write(packed, _instant(watermark), after or {})

    def watermark(self, view: str) -> datetime | None:
        """The instant up to which everything known is in the view's rows; None before the first."""
        return self.watermarks((view,))[view]

    def watermarks(self, views: Iterable[str]) -> dict[str, datetime | None]:
        """The watermarks of several views."""
        names = list(dict.fromkeys(views))
        if not names:
            return {}
        self._of_one_thread()
        (found,) = self._reading.ask([("HMGET", _WATERMARKS, *names)])
        try:
            return {name: _read_instant(raw) for name, raw in zip(names, found, strict=True)}
        except (ValueError, OverflowError, TypeError) as error:
            raise self._damaged(error) from error

    def advance_watermark(self, view: str, to: datetime) -> None:
        """Moves a watermark forward; an earlier instant leaves it where it is."""
        self._write({view: []}, _instant(to), {})

    def forget(self, view: str) -> int:
        """Removes a view's rows and watermark, and returns the number of rows."""
        name = _ROWS + view
        # UNLINK takes the hash away at once and frees its memory behind.
        commands: list[Command] = [("HLEN", name), ("UNLINK", name), ("HDEL", _WATERMARKS, view)]
        return int(self._together(self._writing, commands)[0])

    def remove(self, pairs: Iterable[tuple[str, str]]) -> int:
        """Erases the rows of (view, key) pairs; how many there were.

        What the server wrote to its own disk of them goes with the next file that it writes, which is asked for.

        Raises:
            StoreError: The server is out of reach, or refuses.
        """
        keys: dict[str, list[str]] = {}
        for view, key in pairs:
            keys.setdefault(view, []).append(key)
        removed = sum(self._together(self._writing, [("HDEL", _ROWS + view, *mine) for view, mine in keys.items()]))
        if removed:
            self._write_files_anew()
        return int(removed)

    def close(self) -> None:
        """Ends the connections; the instance can't be used any more."""
        self._reading.close()
        self._writing.close()

    def _together(self, connection: Connection, commands: list[Command]) -> list[Any]:
        """The replies of commands that see, and make, one state."""
        self._of_one_thread()
        if len(commands) < 2:
            return connection.ask(commands) if commands else []
        replies: list[Any] = connection.ask([("MULTI",), *commands, ("EXEC",)])[-1]
        for reply in replies:
            if isinstance(reply, Exception):
                raise connection.refused(reply)
        return replies

    def _write(
        self,
        rows: Mapping[str, Sequence[tuple[str, bytes]]],
        watermark: bytes,
        after: Mapping[str, datetime | None],
    ) -> int:
        self._of_one_thread()
        if not rows:
            return 0
        parts: list[str | bytes | int] = []
        for view, mine in rows.items():
            parts += (view, _expected(after, view), len(mine))
            for key, packed in mine:
                parts += (key, packed)
        names = [_WATERMARKS, *(_ROWS + view for view in rows)]
        reply = self._run(self._writing, _WRITE, len(names), *names, watermark, *parts)
        if isinstance(reply, list):
            view = reply[0].decode()
            raise moved(self._where, view, _read_instant(reply[1] or None), after[view])
        return int(reply)

    def _run(self, connection: Connection, script: _Script, *arguments: str | bytes | int) -> Any:
        try:
            (reply,) = connection.ask([("EVALSHA", script.sha, *arguments)])
        except UnknownScript:
            # A server that was restarted knows no script; this one teaches it.
            (reply,) = connection.ask([("EVAL", script.source, *arguments)])
        return reply

    def _write_files_anew(self) -> None:
        """Asks the server to write its files without what was removed; a managed one may refuse, and does so itself."""
        try:
            (said,) = self._writing.ask([("INFO", "persistence")])
            if b"aof_enabled:1" in said:
                self._writing.ask([("BGREWRITEAOF",)])
            else:
                (save,) = self._writing.ask([("CONFIG", "GET", "save")])
                if save and save[1]:
                    self._writing.ask([("BGSAVE", "SCHEDULE")])
        except StoreError as error:
            log.warning("Redis did not write its files anew; it does so in time", error=str(error))

    def _of_one_thread(self) -> None:
        if threading.get_ident() != self._thread:
            raise StoreError(
                f"The online rows at {self._where} are used wrongly: an instance belongs to the thread that opened it."
            )

    def _damaged(self, error: Exception) -> StoreError:
        return StoreError(
            f"The online rows at {self._where} are damaged: {error}.",
            remedy="Empty that database and run: ninefold features materialize",
        )


def _row(key: str, raw: bytes | None) -> OnlineRow | None:
    if raw is None:
        return None
    known_at = int.from_bytes(raw[:_INSTANT], "big") - _SHIFT
    return OnlineRow(key, from_microseconds(known_at), msgpack.unpackb(raw[_INSTANT:], use_list=False))


def _packed(rows: Iterable[OnlineRow]) -> list[tuple[str, bytes]]:
    return [(row.key, _instant(row.known_at) + msgpack.packb(row.values)) for row in rows]


def _instant(instant: datetime) -> bytes:
    return (to_microseconds(instant) + _SHIFT).to_bytes(_INSTANT, "big")


def _read_instant(raw: bytes | None) -> datetime | None:
    return None if raw is None else from_microseconds(int.from_bytes(raw, "big") - _SHIFT)


def _expected(after: Mapping[str, datetime | None], view: str) -> bytes:
    if view not in after:
        return b""
    instant = after[view]
    return b"-" if instant is None else _instant(instant)
