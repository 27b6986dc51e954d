"""Alerts are raised once, cleared once, and told until a webhook took their newest state."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from ninefold.store import Alert, Store

NOW = datetime(2013, 7, 1, tzinfo=UTC)
ALERT = Alert(
    alert_id="a", use_case="arrivals", check="loss", subject="version 1", severity="critical",
    window="2013-07-01/2013-07-02", value=20.0, limit=15.0, message="worse", raised_at=NOW,
)  # fmt: skip


def test_an_alert_is_raised_once_and_read_back_whole(store: Store) -> None:
    assert store.raise_alert(ALERT)
    assert not store.raise_alert(replace(ALERT, message="again"))
    assert store.alerts("arrivals") == [ALERT]
    assert store.alerts("churn") == []


def test_an_alert_is_cleared_once_and_stands_no_more(store: Store) -> None:
    store.raise_alert(ALERT)
    store.raise_alert(replace(ALERT, alert_id="b", value=None, limit=None, raised_at=NOW + timedelta(days=1)))
    assert [a.alert_id for a in store.alerts("arrivals")] == ["b", "a"]
    cleared = NOW + timedelta(days=2)
    assert store.clear_alert("a", cleared)
    assert not store.clear_alert("a", cleared + timedelta(days=1))
    assert not store.clear_alert("nobody", cleared)
    assert [a.alert_id for a in store.alerts("arrivals", standing=True)] == ["b"]
    assert store.alerts("arrivals")[1].cleared_at == cleared


def test_what_no_webhook_took_is_untold_in_each_of_its_states(store: Store) -> None:
    store.raise_alert(ALERT)
    assert [a.alert_id for a in store.alerts("arrivals", untold=True)] == ["a"]
    store.mark_told("a", "raised")
    assert store.alerts("arrivals", untold=True) == []
    store.clear_alert("a", NOW)
    assert [a.alert_id for a in store.alerts("arrivals", untold=True)] == ["a"]
    store.mark_told("a", "cleared")
    assert store.alerts("arrivals", untold=True) == []
