"""Leadership: one leads, a silent one is replaced, and clocks of two machines are never compared."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pretended import Pretended

from ninefold.clock import EventClock
from ninefold.errors import ObjectChanged, Unavailable
from serving.traffic.leadership import Leadership, Seen, next_move

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LASTING = timedelta(seconds=15)


def one(api: Pretended, holder: str, clock: EventClock | None = None) -> Leadership:
    return Leadership(
        api, name="ninefold-rollout-parcels", namespace="ninefold", holder=holder, clock=clock or EventClock(NOW),
        lasting=LASTING,
    )  # fmt: skip


def spec(api: Pretended) -> dict[str, Any]:
    return api.objects["Lease", "ninefold-rollout-parcels"]["spec"]


def test_one_leads_and_the_other_when_it_gives_it_back() -> None:
    api = Pretended()
    a, b = one(api, "a"), one(api, "b")
    assert (a.ask(0.0), b.ask(0.0)) == (True, False)
    assert (a.ask(10.0), b.ask(24.0), a.ask(24.0), b.ask(30.0)) == (True, False, True, False)
    assert spec(api) == {
        "holderIdentity": "a", "leaseDurationSeconds": 15, "acquireTime": "2026-01-01T00:00:00.000000Z",
        "renewTime": "2026-01-01T00:00:00.000000Z", "leaseTransitions": 0,
    }  # fmt: skip
    a.give_back()
    assert b.ask(31.0)
    assert not a.ask(31.0)
    assert (spec(api)["holderIdentity"], spec(api)["leaseTransitions"]) == ("b", 1)


def test_a_silent_one_is_replaced_by_who_has_watched_it_be_silent() -> None:
    api = Pretended()
    a, b = one(api, "a"), one(api, "b", EventClock(NOW + timedelta(days=900)))
    assert a.ask(0.0)
    # The other machine's clock is years ahead, and its seconds began elsewhere.
    assert not b.ask(1e6)
    assert not b.ask(1e6 + 14.9)
    assert b.ask(1e6 + 15.0)
    assert not a.ask(16.0)
    assert not a.leads


def test_of_two_who_take_it_at_once_one_does() -> None:
    api = Pretended()
    assert one(api, "dead").ask(0.0)
    a, b = one(api, "a"), one(Pretended(objects=api.objects), "b")
    assert not a.ask(0.0)
    assert not b.ask(0.0)
    quick: list[bool] = []

    def meanwhile() -> None:
        api.meanwhile = lambda: None
        quick.append(b.ask(15.0))

    api.meanwhile = meanwhile
    assert not a.ask(15.0)
    assert quick == [True]
    assert (b.ask(16.0), a.ask(16.0)) == (True, False)


def test_what_fails_leads_nobody_astray() -> None:
    api = Pretended()
    a = one(api, "a")
    api.after = [Unavailable("It timed out, and was carried out.")]
    with pytest.raises(Unavailable):
        a.ask(0.0)
    assert not a.leads
    assert a.ask(1.0)
    api.before = [None, ObjectChanged("409")]
    assert not a.ask(2.0)
    assert a.ask(3.0)


@given(
    holder=st.sampled_from(["", "me", "other"]), same=st.booleans(), waited=st.floats(0, 40), lasting=st.integers(1, 30)
)
def test_nobody_takes_what_changed_since_it_looked_or_is_not_over(
    holder: str, same: bool, waited: float, lasting: int
) -> None:
    lease = {
        "metadata": {"resourceVersion": "7"}, "spec": {"holderIdentity": holder, "leaseDurationSeconds": lasting},
    }  # fmt: skip
    move = next_move(lease, "me", Seen("7" if same else "6", 100.0), 100.0 + waited)
    expected = {"": "take", "me": "renew"}.get(holder, "take" if same and waited >= lasting else "wait")
    assert move == expected
    assert next_move(None, "me", None, 0.0) == "create"
    assert next_move(lease, "third", None, 0.0) == ("take" if not holder else "wait")
