"""Who works on a run: one whose worker was killed is told from one that goes on.

A worker holds a lease on its run and renews it while it works. One that is killed says nothing, and renews nothing
either. Whether a process lives goes by the wall clock, whatever clock the records go by.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import sqlalchemy as sa
import structlog

from ninefold.clock import WallClock
from ninefold.errors import StoreError
from ninefold.store import tables
from ninefold.store.leases import Lease
from ninefold.store.rows import Run, to_micros
from ninefold.store.store import Store

log = structlog.get_logger()

LASTING = timedelta(seconds=60)
"""A worker that has not been heard of for so long is gone."""

RUN_LEASE = "run/"
"""What the name of a run's lease begins with; then comes its id."""

_PER_LEASE = 6
"""A lease is renewed so many times before it would end."""


@contextmanager
def at_work(store: Store, run_id: str) -> Iterator[bool]:
    """Holds a run's lease while it is worked on; whether it could be had.

    Args:
        store: Keeps the lease.
        run_id: The run.
    """
    leases = Store(store.engine, WallClock())
    lease = leases.take_lease(_name(run_id), f"{socket.gethostname()}, process {os.getpid()}", LASTING)
    if lease is None:
        yield False
        return
    stop = threading.Event()
    beat = threading.Thread(target=_renew, args=(leases, lease, stop), name=f"lease of {run_id}", daemon=True)
    beat.start()
    try:
        yield True
    finally:
        stop.set()
        beat.join()
        try:
            # Nobody works on a run twice.
            leases.drop_lease(lease)
        except StoreError as error:
            # It ends by itself, and how the run ended matters more.
            log.warning("a run's lease was not given back", run=run_id, error=str(error))


def end_abandoned(store: Store) -> list[Run]:
    """Records runs that nobody works on any more as failed, and returns them."""
    leases, ended = Store(store.engine, WallClock()), []
    for run in store.runs(state="running"):
        lease = leases.take_lease(_name(run.run_id), "who looks for abandoned runs", LASTING)
        if lease is None:
            continue
        during = f" during the step {run.step!r}" if run.step else ""
        words = f"Whoever worked on it went away{during}: the process was killed, or the machine stopped."
        if store.update_run(run.run_id, state="failed", error=words, expected="running"):
            log.error("run abandoned", run=run.run_id, step=run.step)
            ended.append(replace(run, state="failed", error=words))
        leases.drop_lease(lease)
    _drop_leases_of_ended_runs(leases)
    return ended


def _drop_leases_of_ended_runs(store: Store) -> None:
    """Forgets the leases of workers that were killed after their run had ended."""
    going = sa.exists().where(
        RUN_LEASE + tables.runs.c.run_id == tables.leases.c.name, tables.runs.c.state.in_(("requested", "running"))
    )
    with store.writing() as connection:
        connection.execute(
            tables.leases.delete().where(
                tables.leases.c.name.startswith(RUN_LEASE, autoescape=True),
                tables.leases.c.until_us <= to_micros(store.clock.now()),
                ~going,
            )
        )


def _name(run_id: str) -> str:
    return RUN_LEASE + run_id


def _renew(leases: Store, lease: Lease, stop: threading.Event) -> None:
    while not stop.wait(LASTING.total_seconds() / _PER_LEASE):
        try:
            if leases.renew_lease(lease, LASTING) is None:
                log.error("somebody else has a run's lease", lease=lease.name)
                return
        except StoreError as error:
            log.warning("a run's lease was not renewed; it is tried again", lease=lease.name, error=str(error))
