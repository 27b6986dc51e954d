"""The process's side of routes on a cluster: asks whether it leads, ticks, and tells how it does."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

import prometheus_client
import structlog

from ninefold.clock import WallClock
from ninefold.errors import NinefoldError
from ninefold.routes import RouteTable
from ninefold.settings import Settings
from ninefold.store import Store
from serving.traffic.actuator import Actuator
from serving.traffic.carrier import FIELD_MANAGER, HttpRoutes
from serving.traffic.httproutes import client_name
from serving.traffic.knative_actuator import KnativeActuator
from serving.traffic.leadership import Leadership
from serving.traffic.servers import RELEASE_MANAGER, Servers

log = structlog.get_logger()

TICK_SECONDS = 1.0
LEASE = timedelta(seconds=15)
_PATIENCE, _TIMEOUT = 5.0, (2.0, 4.0)
"""A request that takes longer is left to the next tick."""
_STALLED_SECONDS = 60.0

LEADS = prometheus_client.Gauge("ninefold_routes_leads", "Whether this controller steers the gateway.", ["use_case"])
REVISION = prometheus_client.Gauge("ninefold_routes_revision", "Revision of the routes in force.", ["use_case"])
HELD = prometheus_client.Gauge(
    "ninefold_routes_held", "Whether what the store wants is not in force; the log and status say why.", ["use_case"]
)
TICKS = prometheus_client.Counter("ninefold_routes_ticks", "Looks at the routes.", ["use_case", "outcome"])


class Acts(Protocol):
    """Brings routes to what the store wants, a tick a call."""

    table: RouteTable
    problem: str

    def act(self, *, doubt: str = "") -> None: ...  # noqa: D102


class Steering:
    """Keeps one use case's routes, in a thread of its own.

    Args:
        actuator: Brings the routes to what the store wants.
        leadership: Says whether this one may.
        use_case: Name of the use case, for metrics.
        monotonic: Seconds that never go back.
        tick_seconds: How often it looks.
    """

    def __init__(
        self,
        actuator: Acts,
        leadership: Leadership,
        use_case: str,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        tick_seconds: float = TICK_SECONDS,
    ) -> None:
        self._actuator, self._leadership, self._use_case = actuator, leadership, use_case
        self._monotonic, self._tick_seconds = monotonic, tick_seconds
        self._stop = threading.Event()
        self._ticked = self._asked = monotonic()
        self._doubt, self._led = "", False
        self._thread = threading.Thread(target=self._run, name="routes", daemon=True)

    def start(self) -> None:
        """Begins to tick."""
        self._thread.start()

    def stop(self) -> None:
        """Ends, and lets another one lead at once."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        try:
            self._leadership.give_back()
        except NinefoldError as error:
            log.warning("the lease is not given back; it ends by itself", error=str(error))

    def unready(self) -> str | None:
        """Why it does not work; None where it does. Who waits for its turn works."""
        silent = self._monotonic() - self._ticked
        return f"No look at the routes for {silent:.0f} seconds." if silent > _STALLED_SECONDS else None

    def tick(self) -> None:
        """One look: what can't be done now is tried again by the next."""
        doubt = ""
        try:
            leads = self._leadership.ask(self._monotonic())
        except NinefoldError as error:
            doubt = str(error)
            if doubt != self._doubt:
                log.error("the lease can't be asked", error=doubt)
            # A rollout that has to end must not wait for the API server. Who did not lead waits until nobody can.
            leads = self._led or self._monotonic() - self._asked > LEASE.total_seconds()
        else:
            self._led, self._asked = leads, self._monotonic()
        self._doubt = doubt
        LEADS.labels(self._use_case).set(self._leadership.leads)
        if leads:
            self._actuator.act(doubt=doubt)
            REVISION.labels(self._use_case).set(self._actuator.table.revision)
            HELD.labels(self._use_case).set(bool(self._actuator.problem))
        TICKS.labels(self._use_case, "acted" if leads else "waited").inc()
        self._ticked = self._monotonic()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.tick()
            except Exception:
                # A fault in one tick must not end what keeps the routes.
                log.exception("routes stay as they are", use_case=self._use_case)
                TICKS.labels(self._use_case, "failed").inc()
            self._stop.wait(self._tick_seconds)


def steering(settings: Settings, use_case: str, store: Store) -> Steering:
    """Steers what carries routes on the cluster that this runs in, or that KUBECONFIG names.

    Raises:
        ConfigurationError: No cluster is named.
    """
    from ninefold.cluster.api import ClusterApi

    namespace = settings.cluster.namespace
    api = ClusterApi(namespace, field_manager=FIELD_MANAGER, patience=_PATIENCE, timeout=_TIMEOUT)
    leadership = Leadership(
        api,
        name=f"ninefold-rollout-{client_name(use_case)}",
        namespace=namespace,
        # A pod's name is its host's, and two processes of one machine are told apart.
        holder=f"{socket.gethostname()}_{os.getpid()}",
        clock=WallClock(),
        lasting=LEASE,
    )
    if settings.cluster.routes == "knative":
        return Steering(KnativeActuator(use_case, store, api, settings), leadership, use_case)
    carrier = HttpRoutes(
        api,
        use_case,
        namespace=namespace,
        timeout_seconds=settings.serving.model_timeout_seconds,
        monotonic=time.monotonic,
    )
    releasing = ClusterApi(namespace, field_manager=RELEASE_MANAGER, patience=_PATIENCE, timeout=_TIMEOUT)
    servers = Servers(releasing, use_case, settings)
    return Steering(Actuator(use_case, store, servers, carrier, api), leadership, use_case)
