"""The streaming featurizer as a service: it takes the lease, follows the store, and says how it stands.

Whatever goes wrong, the windows are computed anew from the log: nothing that was acknowledged is lost or counted twice.
"""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import structlog
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool

from ninefold.clock import Clock
from ninefold.errors import NinefoldError
from ninefold.service import service_app
from ninefold.settings import Settings
from ninefold.store import Store
from ninefold.store.leases import Lease
from ninefold.store.tailing import EventNotices
from ninefold.usecase import UseCase
from serving.featurizer import metrics
from serving.featurizer.follower import Follower, lease_name

TICK_SECONDS = 1.0
"""How often time passes in the windows when nothing happens."""

LEASE_SECONDS = 15.0
"""How long another one waits after this process was killed."""

log = structlog.get_logger()


class FeaturizerService:
    """Keeps the windows of one use case in a thread, for as long as nobody else does.

    Args:
        use_case: The use case.
        settings: Where online rows lie.
        store: The production database, open.
        clock: The wall clock.
        lease_seconds: How long the lease holds that it takes.
    """

    def __init__(
        self,
        use_case: UseCase,
        settings: Settings,
        store: Store,
        clock: Clock,
        *,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self._use_case = use_case
        self._online_url = settings.online_url
        self._store = store
        self._clock = clock
        self._lasting = timedelta(seconds=lease_seconds)
        self._lease: Lease | None = None
        self._renewed = 0.0
        self._follower: Follower | None = None
        self._watermark: datetime | None = None
        self._problem: str | None = "The windows are being restored."
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="featurizer", daemon=True)

    @property
    def problem(self) -> str | None:
        """Why the windows are not kept up to date by this process; None when they are."""
        return self._problem

    @property
    def watermark(self) -> datetime | None:
        """How far the windows reach; None before they do."""
        return self._watermark

    def app(self) -> Starlette:
        """The ASGI application: health, readiness and metrics."""
        metrics.watch(
            lambda: math.nan if self._watermark is None else self._watermark.timestamp(),
            lambda: math.nan if self._watermark is None else (self._clock.now() - self._watermark).total_seconds(),
        )
        return service_app(routes=[], ready=lambda: self._problem, lifespan=self._lifespan)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends after the turn that is going on, and gives the lease back."""
        self._ending.set()
        self._thread.join()

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self.start()
        try:
            yield
        finally:
            await run_in_threadpool(self.stop)

    def _run(self) -> None:
        notices = EventNotices(self._store, self._use_case.name)
        while not self._ending.is_set():
            more = False
            try:
                more = self._turn()
            except Exception as error:
                # The thread has to outlive any failure; readiness tells why.
                self._failed(error)
            if more:
                continue
            if self._follower is None:
                self._ending.wait(TICK_SECONDS)
            else:
                notices.wait(TICK_SECONDS, after_cursor=self._follower.cursor, ending=self._ending)
        notices.close()
        self._drop()
        self._give_back()

    def _turn(self) -> bool:
        lease = self._held()
        if lease is None:
            return False
        if self._follower is None:
            self._problem = "The windows are being restored."
            self._follower = Follower(
                self._use_case, self._store, self._online_url, self._clock, lease, metrics.LAG.observe
            )
            metrics.RESTORED.inc()
        more = self._follower.turn(lease)
        self._watermark = self._follower.watermark
        self._problem = None
        return more

    def _held(self) -> Lease | None:
        """The lease, renewed in time; None while somebody else has it."""
        if self._lease is None:
            self._lease = self._store.take_lease(lease_name(self._use_case.name), _holder(), self._lasting)
            self._renewed = time.monotonic()
            if self._lease is None:
                other = self._store.lease(lease_name(self._use_case.name))
                self._problem = (
                    f"Another featurizer keeps the windows of {self._use_case.name}"
                    f" ({'?' if other is None else other.holder}); this one stands by."
                )
            else:
                log.info("lease taken", name=self._lease.name, token=self._lease.token)
        elif time.monotonic() - self._renewed > self._lasting.total_seconds() / 3:
            self._lease = self._store.renew_lease(self._lease, self._lasting)
            self._renewed = time.monotonic()
            if self._lease is None:
                log.warning("lease lost", use_case=self._use_case.name)
                self._drop()
        metrics.HOLDS.set(self._lease is not None)
        return self._lease

    def _failed(self, error: Exception) -> None:
        metrics.FAILURES.inc()
        self._problem = str(error)
        if isinstance(error, NinefoldError):
            log.error("windows are not kept up to date", error=str(error))
        else:
            log.exception("windows are not kept up to date", exc_info=error)
        self._drop()
        # Whose lease is over finds out by asking for it anew; who holds it keeps it.
        if self._lease is not None:
            self._renewed = 0.0

    def _drop(self) -> None:
        follower, self._follower = self._follower, None
        if follower is not None:
            follower.close()

    def _give_back(self) -> None:
        if self._lease is None:
            return
        try:
            self._store.release_lease(self._lease)
        except NinefoldError as error:
            log.warning("the lease could not be given back; it ends by itself", error=str(error))


def _holder() -> str:
    return f"{socket.gethostname()}/{os.getpid()}"
