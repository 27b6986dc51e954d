"""The version that answers: loaded from the route table and its package's manifest, replaced while requests run.

Whoever starts model servers replaces the route table; the watcher sees it within a quarter of a second and loads the
new version in a thread. What can't be loaded is refused, counted and shown; the last good version goes on answering.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import structlog

from ninefold.errors import ConfigurationError, DataError, PackageError
from ninefold.features import FeatureView
from ninefold.online import OnlineStore
from ninefold.package import verify_package
from ninefold.routes import InnerGateway, RouteTable, Variant, read_routes
from ninefold.signature import PackageManifest
from ninefold.usecase import UseCase
from serving.front_end.feature_reader import FeatureReader
from serving.front_end.metrics import Metrics
from serving.front_end.model_client import ModelClient
from serving.front_end.training_range import TrainingRange

log = structlog.get_logger()

LIVE = "live"
"""The cohort of everybody, while no rollout is open."""

_POLL_SECONDS = 0.25
_RETRY_POLLS = 20


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A route table that was read, and the manifest of its live version."""

    table: RouteTable
    manifest: PackageManifest | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedVersion:
    """One version, ready to answer.

    Args:
        version: Its number; 0 is the baseline.
        digest: Digest of its package.
        manifest: What its package says of itself.
        features: Reads what its signature names.
        training: What its training set held.
        client: Asks its model server.
    """

    version: int
    digest: str
    manifest: PackageManifest
    features: FeatureReader
    training: TrainingRange
    client: ModelClient


class Versions:
    """Knows which version answers.

    Args:
        use_case: The use case.
        routes: Its route table.
        online: Where features are read.
        model_key: Key that model servers want.
        model_timeout: Seconds that a model may take.
        stale_after: Age of a watermark past which windows are stale.
        metrics: Where refusals are counted.
    """

    def __init__(
        self,
        use_case: UseCase,
        *,
        routes: Path,
        online: OnlineStore,
        model_key: str,
        model_timeout: float,
        stale_after: timedelta,
        metrics: Metrics,
    ) -> None:
        self._use_case = use_case
        # The code that runs is the code that was imported, whatever becomes of its file.
        self._derive_digest = use_case.derive_digest
        self._routes = routes
        self._online = online
        self._model_key = model_key
        self._model_timeout = model_timeout
        self._stale_after = stale_after
        self._metrics = metrics
        self._clients: dict[tuple[InnerGateway | None, Variant], ModelClient] = {}
        self._seen: tuple[int, int, int] | None = None
        self.live: ServedVersion | None = None
        self.table: RouteTable | None = None
        self.problem: str | None = None
        """Why the newest route table is not the one that is used; None when it is."""
        self.declared_features = self._reader(use_case.feature_views())
        """Reads the features as declared, for as long as there is no version."""
        if self._changed():
            self._adopt(self._load())

    async def watch(self) -> None:
        """Looks for new routes until it is cancelled."""
        polls_until_retry = 0
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            polls_until_retry -= 1
            if self._changed() or (self.problem is not None and polls_until_retry <= 0):
                self._adopt(await asyncio.to_thread(self._load))
                polls_until_retry = _RETRY_POLLS

    def close(self) -> None:
        """Closes the connections to model servers."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()

    def _changed(self) -> bool:
        try:
            status = self._routes.stat()
        except OSError:
            # Whoever takes the file away takes nothing back: the last good one stays.
            return False
        # Files are replaced, not written in place, so the inode changes even within one tick of the clock.
        mark = (status.st_mtime_ns, status.st_ino, status.st_size)
        if self._seen == mark:
            return False
        self._seen = mark
        return True

    def _load(self) -> _Loaded | Exception:
        """Reads the route table and verifies the live package; slow, and safe in any thread."""
        try:
            table = read_routes(self._routes)
            if table is None:
                return DataError(f"The routes in {self._routes} are gone.", remedy="Run: ninefold up")
            if table.use_case != self._use_case.name:
                return DataError(f"The routes in {self._routes} are those of {table.use_case!r}.")
            if table.live is None:
                return _Loaded(table, None)
            variant = table.variants[table.live]
            live = self.live
            if live is not None and live.digest == variant.digest:
                return _Loaded(table, live.manifest)
            manifest = verify_package(variant.package, variant.digest)
            self._check_fits(manifest, variant)
            return _Loaded(table, manifest)
        except Exception as error:
            # Whatever a damaged table or package brings about, the watcher has to go on.
            return error

    def _check_fits(self, manifest: PackageManifest, variant: Variant) -> None:
        signature = manifest.signature
        if signature.derive_digest != self._derive_digest:
            raise PackageError(
                f"Version {variant.version} of {self._use_case.name} was trained with another derive"
                f" ({signature.derive_digest[:12]}) than this front end has ({self._derive_digest[:12]}).",
                remedy="Train again, or start the front end from the code that trained it.",
            )
        known = {item.name for item in self._use_case.request}
        for view in signature.views:
            missing = sorted(set(view.key) - known)
            if missing:
                raise PackageError(f"View {view.view} has the key {', '.join(missing)}, which no request has.")

    def _adopt(self, loaded: _Loaded | Exception) -> None:
        if isinstance(loaded, Exception):
            self._refuse(loaded)
            return
        try:
            served = self._served(loaded)
        except ConfigurationError as error:
            self._refuse(error)
            return
        self.problem = None
        self.table = loaded.table
        if served is not self.live:
            log.info("serving", use_case=self._use_case.name, version=served.version if served else None)
        self.live = served
        self._metrics.live_version = served.version if served else None
        wanted = {(loaded.table.gateway, variant) for variant in loaded.table.variants.values()}
        for way in [way for way in self._clients if way not in wanted]:
            self._clients.pop(way).close()

    def _refuse(self, error: Exception) -> None:
        self._metrics.routes_refused += 1
        if self.problem != str(error):
            log.error("new routes are refused; the last good ones stay", error=str(error))
        self.problem = str(error)

    def _served(self, loaded: _Loaded) -> ServedVersion | None:
        table, manifest = loaded.table, loaded.manifest
        if table.live is None or manifest is None:
            return None
        variant = table.variants[table.live]
        client = self._client(table.gateway, variant)
        live = self.live
        if live is not None and (live.version, live.digest, live.client) == (variant.version, variant.digest, client):
            return live
        return ServedVersion(
            version=variant.version,
            digest=variant.digest,
            manifest=manifest,
            features=self._reader(manifest.signature.views),
            training=TrainingRange(manifest, self._use_case.request),
            client=client,
        )

    def _client(self, gateway: InnerGateway | None, variant: Variant) -> ModelClient:
        """Asks a version: through the gateway, where there is one."""
        client = self._clients.get((gateway, variant))
        if client is None:
            client = ModelClient(
                variant.url if gateway is None else gateway.url,
                name=self._use_case.name,
                key=self._model_key,
                timeout=self._model_timeout,
                headers={} if gateway is None else gateway.headers(variant.version, LIVE),
            )
            self._clients[gateway, variant] = client
        return client

    def _reader(self, views: Sequence[FeatureView]) -> FeatureReader:
        return FeatureReader(views, self._use_case.request, self._online, self._stale_after, self._metrics)
