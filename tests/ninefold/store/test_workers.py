"""A run goes on while somebody holds its lease; a killed one holds nothing up, and ended ones leave nothing behind."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from types import ModuleType

import pytest
import sqlalchemy as sa

from ninefold.clock import WallClock
from ninefold.store import Run, Store
from ninefold.store.leftovers import GOES_ON, going_run
from ninefold.store.tables import leases
from ninefold.store.workers import LASTING, RUN_LEASE, at_work, end_abandoned

NOW = datetime.now(UTC)


def running(store: Store, name: str, *, use_case: str = "rides", started_at: datetime = NOW) -> None:
    store.write_run(Run(run_id=name, pipeline="training", use_case=use_case, state="running", started_at=started_at))


def kill(store: Store, name: str, *, ago: timedelta = LASTING * 2) -> None:
    """A worker that took the run some time ago and was not heard of since."""
    then = Store(store.engine, type("Then", (WallClock,), {"now": lambda _: datetime.now(UTC) - ago})())
    assert then.take_lease(RUN_LEASE + name, "killed", LASTING) is not None


def names(store: Store) -> list[str]:
    with store.reading() as connection:
        return sorted(connection.execute(sa.select(leases.c.name)).scalars())


def test_a_run_goes_on_while_its_lease_is_held_and_no_longer(store: Store) -> None:
    running(store, "r", started_at=NOW - 2 * GOES_ON)
    with at_work(store, "r") as mine:
        assert mine
        assert going_run(store, NOW) == going_run(store, NOW, "rides") == "r"
        assert going_run(store, NOW, "flights") is None
        assert going_run(store, NOW, beside="r") is None
    running(store, "killed")
    kill(store, "killed")
    assert going_run(store, datetime.now(UTC), "rides") is None


def test_a_run_without_a_lease_is_believed_for_some_days(store: Store) -> None:
    running(store, "on a cluster")
    assert going_run(store, NOW, "rides") == "on a cluster"
    assert going_run(store, NOW + GOES_ON * 1.1, "rides") is None


def test_a_run_by_import_path_is_its_use_cases(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from usecases.arrivals import USE_CASE

    module = ModuleType("team_of_somebody")
    module.PROBLEM = USE_CASE  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "team_of_somebody", module)
    running(store, "r", use_case="team_of_somebody:PROBLEM")
    assert going_run(store, NOW, "arrivals") == "r"
    assert going_run(store, NOW, "rides") is None
    running(store, "s", use_case="nobody.knows:IT")
    assert going_run(store, NOW, "rides") == "s"


def test_ended_runs_leave_no_lease(store: Store) -> None:
    for name in "abc":
        running(store, name)
    with at_work(store, "a"):
        assert store.update_run("a", state="succeeded", expected="running")
        kill(store, "b")
        kill(store, "c")
        # Its worker was killed between the end of the run and the end of its lease.
        assert store.update_run("c", state="succeeded", expected="running")
        other = store.take_lease("rollout/rides", "me", timedelta(0))
        assert other is not None
        assert [run.run_id for run in end_abandoned(store)] == ["b"]
        assert names(store) == ["rollout/rides", "run/a"]
    assert names(store) == ["rollout/rides"]
    assert end_abandoned(store) == []
