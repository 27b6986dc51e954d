"""Measurements can be read by how their names begin, and from a window on."""

from __future__ import annotations

from datetime import UTC, datetime

from ninefold.store import Measurement, Store

NOW = datetime(2013, 7, 9, tzinfo=UTC)


def _one(name: str, window: str) -> Measurement:
    return Measurement(use_case="arrivals", version=1, name=name, value=1.0, at=NOW, window=window)


def test_a_prefix_is_taken_literally_and_windows_by_their_names(store: Store) -> None:
    names = [_one(n, w) for n in ("check.drift", "checks", "mae") for w in ("2013-07-01/2013-07-02", "2013-07-03/…")]
    store.write_metrics(names)
    found = store.metrics("arrivals", prefix="check.", windows_from="2013-07-02")
    assert [(m.name, m.window[:10]) for m in found] == [("check.drift", "2013-07-03")]
    assert store.metrics("arrivals", prefix="check_") == []
