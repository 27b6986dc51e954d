"""Brings a use case's one InferenceService to what the store wants, where Knative carries the traffic.

The same tick as ``serving.traffic.actuator``'s: the store leads, front ends follow what is published, a hand is told
and not fought. ``serving.traffic.knative`` says which move comes next.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Protocol

import structlog

from ninefold.cluster.inference_service import API_VERSION, KIND
from ninefold.errors import NinefoldError, ObjectChanged, StoreError
from ninefold.records import ModelVersion
from ninefold.rollout.stored import Routing
from ninefold.routes import RouteTable, Variant
from ninefold.settings import Settings
from ninefold.store import PublishedRoutes, Store
from serving.traffic.desired import Model
from serving.traffic.httproutes import client_name
from serving.traffic.knative import (
    Followed,
    Key,
    Move,
    host_url,
    knative_service,
    move,
    percent_of,
    require_two,
    revisions,
)
from serving.traffic.mirror import Mirror, read_mirror
from serving.traffic.tables import table_of
from serving.traffic.wanted import Wanted, read_wanted

log = structlog.get_logger()


FOLLOWED_AFTER = timedelta(seconds=10)
"""By then every front end that can reach the store has read what was published."""


class ServiceApi(Protocol):
    """What is asked of the API server (``ninefold.cluster.api.ClusterApi``)."""

    def apply(self, document: Mapping[str, Any]) -> dict[str, Any]: ...  # noqa: D102
    def get(self, api_version: str, kind: str, name: str) -> dict[str, Any] | None: ...  # noqa: D102


class KnativeActuator:
    """The InferenceService of one use case.

    Args:
        use_case: Name of the use case.
        store: The production database.
        api: The API server.
        settings: Say what a version's server is like.
    """

    def __init__(self, use_case: str, store: Store, api: ServiceApi, settings: Settings) -> None:
        self._use_case, self._store, self._api, self._settings = use_case, store, api, settings
        self._wanted = Wanted()
        self.table = RouteTable(use_case=use_case, revision=0, live=None)
        """What front ends go by."""
        self.problem = ""
        """Why what the store wants is not in force, in words; empty where it is."""

    def act(self, *, doubt: str = "") -> None:
        """One tick. Nothing is raised: what can't be done now is told in ``problem``, and tried again by the next.

        Args:
            doubt: Why it is not known who steers the traffic: all is left alone then.
        """
        try:
            self._wanted = read_wanted(self._store, self._use_case, self._wanted)
            published = self._store.published_routes(self._use_case)
            self.table = (published and published.table) or self.table
            problems = [self._wanted.problem, doubt]
            try:
                if not doubt:
                    problems.append(self._bring(read_mirror(self._store, self._use_case), published))
            except ObjectChanged as error:
                # Its controller writes to it as well: the next tick sees what stands.
                log.info("the InferenceService has changed meanwhile", error=str(error))
            except StoreError:
                raise
            except NinefoldError as error:
                problems.append(str(error))
            self.problem = " ".join(filter(None, problems))
            if published is None or published.problem != self.problem:
                self._store.note_routes(self._use_case, self.problem)
        except NinefoldError as error:
            if self.problem != str(error):
                log.error("traffic stays as it is", use_case=self._use_case, error=str(error))
            self.problem = str(error)

    def _bring(self, mirror: Mirror, published: PublishedRoutes | None) -> str:
        desired = self._wanted.desired
        if desired.live is None:
            return f"No version of {self._use_case} is registered."
        found = self._api.get(API_VERSION, KIND, client_name(self._use_case))
        at, live = revisions(found), _key(desired.live)
        tried = desired.candidate if desired.candidate != desired.live else None
        routing = self._routing(desired.live, tried)
        share = percent_of(routing.weights, routing.candidate)
        next_move = move(at, live, None if tried is None else _key(tried), share, self._followed(published))
        packages = {(v.version, v.digest): v for v in self._store.versions(self._use_case)}
        table = self._table(next_move, routing, packages)
        require_two(table)
        # What front ends are told holds before the move and after it, so a rollout that ends need not wait for it.
        if table.live is not None and table != self.table:
            self._store.publish_routes(table)
            self.table = table
        self._carry(found, next_move, table, mirror, packages)
        waiting = not at.ready and at.latest is not None
        name = client_name(self._use_case)
        look = f"kubectl describe inferenceservice {name} -n {self._settings.cluster.namespace}"
        return f"InferenceService {name}: its newest revision is not ready. Look with: {look}" if waiting else ""

    def _carry(
        self,
        found: Mapping[str, Any] | None,
        next_move: Move,
        table: RouteTable,
        mirror: Mirror,
        packages: Mapping[Key, ModelVersion],
    ) -> None:
        wanted = next_move.wanted
        if wanted.latest is None or wanted.latest not in packages:
            return
        document = knative_service(
            self._use_case, wanted, packages[wanted.latest], self._settings, mirror.annotations(table)
        )
        if found is not None:
            document["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"]
        self._api.apply(document)

    def _routing(self, live: Model, tried: Model | None) -> Routing:
        rollout = self._wanted.rollout
        return Routing() if rollout is None or tried is None else rollout.routing(live.version)

    def _followed(self, published: PublishedRoutes | None) -> Followed:
        tags = {host_url(self._use_case, tag, self._settings.cluster.namespace): tag for tag in ("", "prev", "latest")}
        since = None if published is None or not published.revision else published.published_at
        return Followed(
            tags={v.version: tags[v.url] for v in self.table.variants.values() if v.url in tags},
            settled=since is None or self._store.clock.now() - since >= FOLLOWED_AFTER,
        )

    def _table(self, next_move: Move, routing: Routing, packages: Mapping[Key, ModelVersion]) -> RouteTable:
        named = {version: found for (version, _), found in packages.items()}
        variants = {
            version: Variant(
                version=version,
                url=host_url(self._use_case, tag, self._settings.cluster.namespace),
                package=named[version].uri,
                digest=named[version].digest,
            )
            for version, tag in sorted(next_move.hosts.items())
            if version in named
        }
        live = next_move.live if next_move.live in variants else None
        return table_of(self.table, variants, live=live, routing=routing)


def _key(model: Model) -> Key:
    return model.version, model.digest
