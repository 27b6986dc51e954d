"""Leases: one holder at a time, whatever the clocks do."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test

from ninefold.errors import Outdated
from ninefold.store import Lease, Store, open_store
from ninefold.store.leases import require_lease

NOW = datetime(2013, 7, 1, tzinfo=UTC)
LASTING = timedelta(seconds=30)


class JumpingClock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at


@pytest.fixture
def clock(store: Store) -> JumpingClock:
    clock = JumpingClock()
    store.clock = clock
    return clock


def test_a_lease_is_taken_kept_and_given_back(store: Store, clock: JumpingClock) -> None:
    mine = store.take_lease("rollout/arrivals", "a", LASTING)
    assert mine == Lease(name="rollout/arrivals", holder="a", until=NOW + LASTING, token=1)
    assert store.take_lease("rollout/arrivals", "b", LASTING) is None
    # A second process under the same name is another holder.
    assert store.take_lease("rollout/arrivals", "a", LASTING) is None
    assert store.take_lease("rollout/churn", "b", LASTING) is not None
    clock.at += timedelta(seconds=20)
    kept = store.renew_lease(mine, LASTING)
    assert kept is not None
    assert (kept.until, kept.token) == (clock.at + LASTING, 1)
    clock.at += timedelta(seconds=20)
    assert store.holds_lease(kept)
    assert store.release_lease(kept)
    assert not store.holds_lease(kept)
    assert store.renew_lease(kept, LASTING) is None
    assert not store.release_lease(kept)
    theirs = store.take_lease("rollout/arrivals", "b", LASTING)
    assert theirs is not None
    assert theirs.token == 2


def test_a_lease_whose_time_is_over_is_taken_and_its_holder_shut_out(store: Store, clock: JumpingClock) -> None:
    mine = store.take_lease("x", "a", LASTING)
    assert mine is not None
    clock.at += LASTING - timedelta(microseconds=1)
    assert store.take_lease("x", "b", LASTING) is None
    clock.at += timedelta(microseconds=1)
    assert not store.holds_lease(mine)
    theirs = store.take_lease("x", "b", LASTING)
    assert theirs is not None
    assert store.renew_lease(mine, LASTING) is None
    assert not store.release_lease(mine)
    # A clock that jumps back makes the old holder believe that it has time.
    clock.at = NOW
    assert not store.holds_lease(mine)
    assert store.holds_lease(theirs)
    with store.writing() as connection, pytest.raises(Outdated, match="b has it"):
        require_lease(connection, mine)


def test_of_many_that_take_it_at_once_one_gets_it(url: str) -> None:
    stores = [open_store(url) for _ in range(4)]
    tokens: list[int] = []
    for number in range(5):
        barrier, got = threading.Barrier(4), []

        def taking(store: Store, barrier: threading.Barrier, got: list[Lease]) -> None:
            barrier.wait()
            if (lease := store.take_lease("x", "same", LASTING)) is not None:
                got.append(lease)

        threads = [threading.Thread(target=taking, args=(store, barrier, got)) for store in stores]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        [lease] = got
        tokens.append(lease.token)
        assert stores[number % 4].release_lease(lease)
    assert tokens == [1, 2, 3, 4, 5]
    for store in stores:
        store.close()


class Exclusive(RuleBasedStateMachine):
    """Two controllers, each with a clock of its own that jumps either way."""

    store: Store
    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        with self.store.writing() as connection:
            connection.exec_driver_sql("DELETE FROM leases")
        self.clocks = [JumpingClock(), JumpingClock()]
        self.all: list[Lease] = []
        self.newest = 0

    @rule(who=st.integers(0, 1), seconds=st.integers(-100, 100))
    def jump(self, who: int, seconds: int) -> None:
        self.clocks[who].at += timedelta(seconds=seconds)

    @rule(target=leases, who=st.integers(0, 1), seconds=st.integers(1, 60))
    def take(self, who: int, seconds: int) -> Lease | None:
        self.store.clock = self.clocks[who]
        lease = self.store.take_lease("x", f"controller {who}", timedelta(seconds=seconds))
        if lease is not None:
            assert lease.token == self.newest + 1
            self.newest = lease.token
            self.all.append(lease)
        return lease

    @rule(target=leases, who=st.integers(0, 1), lease=leases)
    def renew(self, who: int, lease: Lease | None) -> Lease | None:
        self.store.clock = self.clocks[who]
        kept = None if lease is None else self.store.renew_lease(lease, LASTING)
        assert kept is None or kept.token == self.newest
        return kept

    @rule(who=st.integers(0, 1), lease=consumes(leases))
    def release(self, who: int, lease: Lease | None) -> None:
        self.store.clock = self.clocks[who]
        if lease is not None and self.store.release_lease(lease):
            assert lease.token == self.newest

    @invariant()
    def one_acts(self) -> None:
        allowed = []
        for lease in self.all:
            with self.store.writing() as connection:
                try:
                    require_lease(connection, lease)
                    allowed.append(lease.token)
                except Outdated:
                    continue
        assert allowed in ([], [self.newest])
        for clock in self.clocks:
            self.store.clock = clock
            assert {lease.token for lease in self.all if self.store.holds_lease(lease)} <= {self.newest}


def test_whatever_clocks_do_only_the_newest_holder_can_act(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path / 'store.db'}") as store:
        machine = type("ExclusiveHere", (Exclusive,), {"store": store})
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=40, stateful_step_count=25, deadline=None, derandomize=True,
                suppress_health_check=list(HealthCheck), database=None,
            ),
        )  # fmt: skip
