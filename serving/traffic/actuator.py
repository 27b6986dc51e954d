"""Brings a cluster's routes to what the store wants, and tells front ends once the gateway has them: one tick a call.

The store leads. A tick reads it, lists the versions that could answer, plans as the supervisor of one machine does,
has the routes carried, and publishes the table. Killed between any two of its steps it leaves routes that hold what
front ends go by, and the next tick goes on from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import structlog

from ninefold.errors import NinefoldError, Outdated, StoreError
from ninefold.records import ModelVersion
from ninefold.rollout.stored import Routing
from ninefold.routes import RouteTable, Variant
from ninefold.store import Store
from serving.traffic.carrier import Carried
from serving.traffic.desired import Desired, Model, Running, plan
from serving.traffic.mirror import Mirror, read_mirror
from serving.traffic.services import running, served, server_troubles
from serving.traffic.tables import summary, table_of, variants_of
from serving.traffic.wanted import Wanted, read_wanted

log = structlog.get_logger()


class Events(Protocol):
    """Where people are told (``ninefold.cluster.api.ClusterApi``)."""

    def event(  # noqa: D102
        self, regarding: Mapping[str, Any], *, reason: str, message: str, warning: bool = False
    ) -> None: ...


class ModelServers(Protocol):
    """The model servers of a use case (``serving.traffic.servers.Servers``)."""

    def documents(self) -> Sequence[Mapping[str, Any]]: ...  # noqa: D102
    def start(self, version: ModelVersion) -> None: ...  # noqa: D102
    def retire(self, store: Store, keep: Callable[[int], bool]) -> list[int]: ...  # noqa: D102


class Carrier(Protocol):
    """What carries a route table on a cluster."""

    def look(self) -> int: ...  # noqa: D102
    def carry(self, table: RouteTable, also: Mapping[int, Variant], mirror: Mirror) -> Carried: ...  # noqa: D102
    def route(self) -> Mapping[str, Any] | None: ...  # noqa: D102


class Actuator:
    """The routes of one use case on a cluster.

    Args:
        use_case: Name of the use case.
        store: The production database.
        servers: The versions' model servers.
        carrier: Carries the routes.
        events: Where people are told.
        monotonic: Seconds that never go back.
    """

    def __init__(
        self,
        use_case: str,
        store: Store,
        servers: ModelServers,
        carrier: Carrier,
        events: Events,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._use_case, self._store, self._servers = use_case, store, servers
        self._carrier, self._events = carrier, events
        self._monotonic = monotonic
        self._wanted = Wanted()
        self._carried: RouteTable | None = None
        self._shown: tuple[Mirror, str] | None = None
        self.table = RouteTable(use_case=use_case, revision=0, live=None)
        """What front ends go by."""
        self.problem = ""
        """Why what the store wants is not in force, in words; empty where it is."""

    def act(self, *, doubt: str = "") -> None:
        """One tick. Nothing is raised: what can't be done now is told in ``problem``, and tried again by the next.

        Args:
            doubt: Why it is not known who steers the gateway: it is left alone then, and front ends are told only of
                what asks nothing new of it.
        """
        problems: list[str] = []
        try:
            self._wanted = read_wanted(self._store, self._use_case, self._wanted)
            published = self._store.published_routes(self._use_case)
            self.table = (published and published.table) or RouteTable(use_case=self._use_case, revision=0, live=None)
            mirror = read_mirror(self._store, self._use_case)
            problems.append(self._wanted.problem)
            try:
                if doubt:
                    problems.append(doubt)
                    self._fall_back()
                else:
                    problems += self._bring(mirror)
            except Outdated as error:
                log.info("routes have moved on", use_case=self._use_case, error=str(error))
            except StoreError:
                raise
            except NinefoldError as error:
                problems.append(str(error))
                self._fall_back()
            self.problem = " ".join(filter(None, problems))
            if published is None or published.problem != self.problem:
                self._store.note_routes(self._use_case, self.problem)
            self._show(mirror)
        except NinefoldError as error:
            # Routes stay as they are while the store is away.
            if self.problem != str(error):
                log.error("routes stay as they are", use_case=self._use_case, error=str(error))
            self.problem = str(error)

    def _bring(self, mirror: Mirror) -> list[str]:
        desired = self._wanted.desired
        fence = self._carrier.look()
        versions = {(v.version, v.digest): v for v in self._store.versions(self._use_case)}
        packages = {key: version.uri for key, version in versions.items()}
        found = served(self._use_case, self._servers.documents(), packages)
        runs = running(found, self.table)
        troubles = server_troubles(desired, found)
        for model in sorted(desired.models - set(runs)):
            if (version := versions.get((model.version, model.digest))) is not None:
                troubles += self._start(version)
        table = self._table(desired, runs, {model: server.url for model, server in found.items()})
        if table.live is None:
            return troubles or [f"No version of {self._use_case} is registered."]
        table = self._numbered(table, fence)
        also = variants_of((m, found[m].url) for m, state in runs.items() if state.ready)
        # Before it is tried: what was half written must not count as another's.
        self._carried = table
        carried = self._carrier.carry(table, also, mirror)
        if carried.inner or table.asks_nothing_new_of(self.table):
            self._publish(table)
        if not carried.problem:
            self._servers.retire(self._store, lambda version: version in self.table.variants)
        return [*troubles, carried.problem]

    def _start(self, version: ModelVersion) -> list[str]:
        """Makes a server that is missing; what is in the way of one must not keep the others' routes as they are."""
        try:
            self._servers.start(version)
        except NinefoldError as error:
            return [f"Version {version.version}: {error}"]
        return [f"Version {version.version}: its InferenceService was missing and is made."]

    def _fall_back(self) -> None:
        """Without the cluster: what asks nothing new of the gateway, as going back, must not wait for it."""
        standing = {
            Model(variant.version, variant.digest, variant.package): variant.url
            for variant in self.table.variants.values()
        }
        table = self._table(self._wanted.desired, {model: Running(True) for model in standing}, standing)
        if table.live is not None and table.asks_nothing_new_of(self.table):
            self._publish(table)

    def _table(self, desired: Desired, runs: Mapping[Model, Running], urls: Mapping[Model, str]) -> RouteTable:
        variant = None if self.table.live is None else self.table.variants[self.table.live]
        live = None if variant is None else Model(variant.version, variant.digest, variant.package)
        steps = plan(desired, runs, live, self._monotonic())
        version = None if steps.live is None else steps.live.version
        rollout = self._wanted.rollout
        routing = Routing() if rollout is None else rollout.routing(version)
        return table_of(
            self.table, variants_of((model, urls[model]) for model in steps.routed), live=version, routing=routing
        )

    def _numbered(self, table: RouteTable, fence: int) -> RouteTable:
        """The table under a revision past all that were ever written; its own where it is carried already."""
        if fence <= self.table.revision:
            return table
        before = self._carried
        if before is not None and before.revision == fence and replace(table, revision=fence) == before:
            return before
        return replace(table, revision=fence + 1)

    def _publish(self, table: RouteTable) -> None:
        if table == self.table:
            return
        self._store.publish_routes(table)
        self.table = table
        log.info("routes changed", **summary(table))

    def _show(self, mirror: Mirror) -> None:
        """Tells of changes in Events; who misses one finds the newest in the annotations."""
        route, now = self._carrier.route(), (mirror, self.problem)
        before, self._shown = self._shown, now
        if route is None or before == now:
            return
        try:
            if before is None or before[0] != mirror:
                self._events.event(route, reason="Rollout", message=mirror.words)
            if self.problem and (before is None or before[1] != self.problem):
                self._events.event(route, reason="RoutesHeld", message=self.problem, warning=True)
            elif before is not None and before[1] and not self.problem:
                self._events.event(route, reason="RoutesFollow", message="What was in the way is gone.")
        except NinefoldError as error:
            log.warning("an event is not told", error=str(error))
