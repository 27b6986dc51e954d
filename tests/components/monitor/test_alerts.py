"""Alerts need windows in a row, clear by windows in a row, are kept once, and no webhook can hold a run up."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.monitor.alerts import Finding, Outcome, apply_findings, episodes, tell_webhook
from ninefold.store import Store

NOW = datetime(2024, 3, 9, tzinfo=UTC)
OVER, WITHIN, BLIND = "over", "within", "blind"


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([OVER, WITHIN, OVER, WITHIN], []),
        ([OVER, OVER], [(1, None)]),
        ([OVER, BLIND, OVER], [(2, None)]),
        ([OVER, OVER, WITHIN, OVER, WITHIN], [(1, None)]),
        ([OVER, OVER, WITHIN, WITHIN], [(1, 3)]),
        ([OVER, OVER, BLIND, BLIND, BLIND], [(1, None)]),
        ([OVER, OVER, WITHIN, WITHIN, OVER, OVER], [(1, 3), (5, None)]),
    ],
)
def test_episodes(outcomes: list[Outcome], expected: list[tuple[int, int | None]]) -> None:
    assert [(e.raised, e.cleared) for e in episodes(outcomes, 2, 2)] == expected


@given(st.lists(st.sampled_from([OVER, WITHIN, BLIND]), max_size=30), st.integers(1, 4), st.integers(1, 4))
def test_an_alert_is_preceded_by_enough_windows_over_and_followed_by_enough_within(
    outcomes: list[Outcome], raise_after: int, clear_after: int
) -> None:
    for episode in episodes(outcomes, raise_after, clear_after):
        before = [o for o in outcomes[: episode.raised + 1] if o != BLIND]
        assert before[-raise_after:] == [OVER] * raise_after
        if episode.cleared is not None:
            after = [o for o in outcomes[: episode.cleared + 1] if o != BLIND]
            assert after[-clear_after:] == [WITHIN] * clear_after


def _findings(outcomes: list[Any], check: str = "drift") -> list[Finding]:
    return [
        Finding(
            check=check, subject="input visits", window=f"2024-03-{day:02d}/2024-03-{day + 1:02d}", outcome=outcome,
            value=1.0, limit=0.5, message=f"day {day}",
        )
        for day, outcome in enumerate(outcomes, start=1)
    ]  # fmt: skip


def _apply(store: Store, outcomes: list[Any], check: str = "drift") -> tuple[int, int]:
    changes = apply_findings(store, "stalls", _findings(outcomes, check), raise_after=2, clear_after=2, now=NOW)
    return len(changes.raised), len(changes.cleared)


def test_an_alert_is_raised_once_and_cleared_once_however_often_it_is_looked_at(store: Store) -> None:
    assert _apply(store, [OVER]) == (0, 0)
    assert _apply(store, [OVER, OVER]) == (1, 0)
    assert _apply(store, [OVER, OVER]) == (0, 0)
    assert _apply(store, [OVER, OVER, OVER, WITHIN]) == (0, 0)
    assert _apply(store, [OVER, OVER, OVER, WITHIN, WITHIN]) == (0, 1)
    assert _apply(store, [OVER, OVER, OVER, WITHIN, WITHIN]) == (0, 0)
    (alert,) = store.alerts("stalls")
    assert alert.message == "day 2"
    assert alert.cleared_at == NOW


def test_what_is_gone_is_said_at_once(store: Store) -> None:
    assert _apply(store, [OVER], "no_predictions") == (1, 0)
    assert store.alerts("stalls")[0].severity == "critical"


def test_blindness_clears_nothing(store: Store) -> None:
    _apply(store, [OVER, OVER])
    assert _apply(store, [OVER, OVER, BLIND, BLIND, BLIND, BLIND]) == (0, 0)
    assert len(store.alerts("stalls", standing=True)) == 1


def test_an_alert_whose_windows_are_forgotten_stays_until_enough_are_within(store: Store) -> None:
    _apply(store, [OVER, OVER])
    later = _findings([BLIND, BLIND, OVER, WITHIN])
    for finding, cleared in ((later[2:], 0), ([*later[2:], *_findings([BLIND] * 4 + [WITHIN])[4:]], 1)):
        changes = apply_findings(store, "stalls", finding, raise_after=2, clear_after=2, now=NOW + timedelta(days=1))
        assert (len(changes.raised), len(changes.cleared)) == (0, cleared)


class _Hook(BaseHTTPRequestHandler):
    taken: list[dict[str, Any]]
    answers: list[int]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = self.answers.pop(0) if self.answers else 200
        if status == 200:
            self.taken.append(json.loads(body))
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Nothing: tests are quiet."""


@pytest.fixture
def hook() -> Iterator[tuple[str, type[_Hook]]]:
    handler = type("Hook", (_Hook,), {"taken": [], "answers": []})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/token", handler
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_webhook_gets_each_state_once_and_is_asked_again_when_it_fails(
    store: Store, hook: tuple[str, type[_Hook]]
) -> None:
    url, handler = hook
    _apply(store, [OVER, OVER])
    handler.answers = [503, 502]
    assert tell_webhook(store, "stalls", url, seconds=2) == 1
    assert tell_webhook(store, "stalls", url, seconds=2) == 0
    _apply(store, [OVER, OVER, WITHIN, WITHIN])
    assert tell_webhook(store, "stalls", url, seconds=2) == 1
    assert [(d["state"], d["check"], d["message"]) for d in handler.taken] == [
        ("raised", "drift", "day 2"),
        ("cleared", "drift", "day 2"),
    ]


def test_a_webhook_that_is_not_there_stops_nothing_and_is_told_later(
    store: Store, hook: tuple[str, type[_Hook]]
) -> None:
    url, handler = hook
    _apply(store, [OVER, OVER])
    assert tell_webhook(store, "stalls", "http://127.0.0.1:1/nobody", seconds=1) == 0
    assert tell_webhook(store, "stalls", "no address", seconds=1) == 0
    handler.answers = [400]
    assert tell_webhook(store, "stalls", url, seconds=2) == 0
    assert tell_webhook(store, "stalls", url, seconds=2) == 1
    assert len(handler.taken) == 1
