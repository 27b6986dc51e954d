"""The versions that answer: loaded from the route table and their packages' manifests, replaced while requests run.

Whoever starts model servers replaces the route table; the watcher sees it within a quarter of a second and loads what
is new in a thread. A table or a live version that can't be used is refused, counted and shown, and the last good table
stays whole. A candidate that can't be used is shown too, nobody is given to it, and the live version answers on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import structlog

from ninefold.cohorts import CohortRules
from ninefold.errors import ConfigurationError, DataError, NinefoldError, PackageError
from ninefold.features import FeatureView
from ninefold.online import OnlineStore
from ninefold.package import verify_package
from ninefold.routes import InnerGateway, RouteTable, Variant, read_routes
from ninefold.signature import PackageManifest
from ninefold.usecase import UseCase
from serving.front_end.directions import CANDIDATE, LIVE, SHADOW, Directions, Draw, OpenRollout, Route, ServedVersion
from serving.front_end.feature_reader import FeatureReader
from serving.front_end.metrics import Metrics
from serving.front_end.model_client import ModelClient
from serving.front_end.training_range import TrainingRange

log = structlog.get_logger()

_POLL_SECONDS = 0.25
_RETRY_POLLS = 20

_TRIED = (CANDIDATE, SHADOW)
"""Cohorts that the candidate answers."""

_Way = tuple[InnerGateway | None, Variant, str]
"""What tells clients apart: the gateway, the version, and the cohort in whose name it is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    """A route table that was read, and the manifests of its versions.

    Args:
        table: The table.
        live: Manifest of the live version; None without one.
        candidate: Manifest of the candidate; None where no rollout is open, or it can't be used.
        draw: Who is in the candidate's cohort; None for nobody.
        problem: Why the candidate can't be used.
        share: Share of its audience that is to be the candidate's.
    """

    table: RouteTable
    live: PackageManifest | None = None
    candidate: PackageManifest | None = None
    draw: Draw | None = None
    problem: str | None = None
    share: float = 0.0


class Versions:
    """Knows which versions answer.

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
        self._fields = [field.name for field in use_case.request]
        # The code that runs is the code that was imported, whatever becomes of its file.
        self._derive_digest = use_case.derive_digest
        self._routes = routes
        self._online = online
        self._model_key = model_key
        self._model_timeout = model_timeout
        self._stale_after = stale_after
        self._metrics = metrics
        self._clients: dict[_Way, ModelClient] = {}
        self._readers: dict[tuple[FeatureView, ...], FeatureReader] = {}
        self._used: dict[str, ServedVersion] = {}
        """Cohort → the version that is asked in its name."""
        self._seen: tuple[int, int, int] | None = None
        self.directions = Directions(live=Route(served=None))
        """Who answers, by the newest routes that can be used."""
        self.table: RouteTable | None = None
        self.problem: str | None = None
        """Why the newest route table is not the one that is used; None when it is."""
        self.declared_features = self._reader(use_case.feature_views())
        """Reads the features as declared, for as long as there is no version."""
        if self._changed():
            self._adopt(self._load())

    @property
    def live(self) -> ServedVersion | None:
        """The version that answers who is not drawn; None before the first."""
        return self.directions.live.served

    async def watch(self) -> None:
        """Looks for new routes until it is cancelled."""
        polls_until_retry = 0
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            polls_until_retry -= 1
            rollout = self.directions.rollout
            in_doubt = self.problem is not None or (rollout is not None and rollout.problem is not None)
            if self._changed() or (in_doubt and polls_until_retry <= 0):
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

    # Reading, in any thread.

    def _load(self) -> _Loaded | Exception:
        """Reads the route table and verifies the packages that it needs; slow, and safe in any thread."""
        try:
            table = read_routes(self._routes)
            if table is None:
                return DataError(f"The routes in {self._routes} are gone.", remedy="Run: ninefold up")
            if table.use_case != self._use_case.name:
                return DataError(f"The routes in {self._routes} are those of {table.use_case!r}.")
            rules = self._rules(table)
            loaded = _Loaded(table=table, share=rules.share if rules else 0.0)
            if table.live is not None:
                loaded = replace(loaded, live=self._manifest(table.variants[table.live]))
            if table.rollout is None or table.candidate is None:
                return loaded
            try:
                manifest = self._manifest(table.variants[table.candidate])
                draw = Draw(rules, self._fields, self._use_case.key) if rules and rules.share else None
            except (NinefoldError, OSError) as error:
                return replace(loaded, problem=str(error))
            return replace(loaded, candidate=manifest, draw=draw)
        except Exception as error:
            # Whatever a damaged table or package brings about, the watcher has to go on.
            return error

    def _rules(self, table: RouteTable) -> CohortRules | None:
        if not table.cohorts:
            return None
        try:
            return CohortRules.from_json(table.cohorts)
        except (NinefoldError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"The cohorts in {self._routes} are damaged: {error}.", remedy="Run: ninefold up"
            ) from error

    def _manifest(self, variant: Variant) -> PackageManifest:
        for used in self._used.values():
            if used.digest == variant.digest:
                return used.manifest
        manifest = verify_package(variant.package, variant.digest)
        self._check_fits(manifest, variant)
        return manifest

    def _check_fits(self, manifest: PackageManifest, variant: Variant) -> None:
        signature = manifest.signature
        if signature.derive_digest != self._derive_digest:
            raise PackageError(
                f"Version {variant.version} of {self._use_case.name} was trained with another derive"
                f" ({signature.derive_digest[:12]}) than this front end has ({self._derive_digest[:12]}).",
                remedy="Train again, or start the front end from the code that trained it.",
            )
        for view in signature.views:
            missing = sorted(set(view.key) - set(self._fields))
            if missing:
                raise PackageError(f"View {view.view} has the key {', '.join(missing)}, which no request has.")

    # Adopting, in the event loop.

    def _adopt(self, loaded: _Loaded | Exception) -> None:
        if isinstance(loaded, Exception):
            self._refuse(loaded)
            return
        table = loaded.table
        used: dict[str, ServedVersion] = {}
        try:
            if table.live is not None and loaded.live is not None:
                used[LIVE] = self._served(table, table.variants[table.live], loaded.live, LIVE)
        except ConfigurationError as error:
            self._refuse(error)
            return
        problem = loaded.problem
        if table.candidate is not None and loaded.candidate is not None:
            variant = table.variants[table.candidate]
            try:
                tried = {cohort: self._served(table, variant, loaded.candidate, cohort) for cohort in _TRIED}
            except ConfigurationError as error:
                problem = str(error)
            else:
                used.update(tried)
        self._use(used, self._rollout(loaded, problem), loaded)
        self.problem = None
        self.table = table

    def _use(self, used: dict[str, ServedVersion], rollout: OpenRollout | None, loaded: _Loaded) -> None:
        live = used.get(LIVE)
        shadow = candidate = None
        if rollout is not None and CANDIDATE in used:
            if rollout.shadow:
                tried = used[SHADOW]
                shadow = Route(served=tried, cohort=SHADOW, rollout=rollout, alike=_take_the_same(live, tried))
            if loaded.draw is not None:
                candidate = Route(served=used[CANDIDATE], cohort=CANDIDATE, rollout=rollout)
        before, version = self.live, live.version if live else None
        if live is not before:
            log.info("serving", use_case=self._use_case.name, version=version)
        self.directions = Directions(
            live=Route(served=live, rollout=rollout, shadow=shadow),
            candidate=candidate,
            draw=loaded.draw if candidate is not None else None,
        )
        self._used = used
        self._metrics.live_version = version
        self._metrics.rollout = rollout
        views = {served.manifest.signature.views for served in used.values()}
        for unused in self._readers.keys() - views:
            del self._readers[unused]
        clients = [served.client for served in used.values()]
        for way in [way for way, client in self._clients.items() if client not in clients]:
            self._clients.pop(way).close()

    def _rollout(self, loaded: _Loaded, problem: str | None) -> OpenRollout | None:
        """The rollout of a table; what was seen of it here stays for as long as its revision does."""
        table, before = loaded.table, self.directions.rollout
        if table.rollout is None or table.candidate is None:
            return None
        revision = table.rollout_revision or 0
        if problem is not None:
            self._metrics.candidates_refused += 1
            if before is None or before.problem != problem:
                log.error("the candidate can't be asked; the live version answers everybody", error=problem)
        rollout = OpenRollout(
            rollout_id=table.rollout,
            revision=revision,
            candidate=table.candidate,
            shadow=table.shadow,
            share=loaded.share,
            problem=problem,
        )
        if before is not None and (before.rollout_id, before.revision) == (table.rollout, revision):
            rollout.observed, rollout.shadowed = before.observed, before.shadowed
        return rollout

    def _refuse(self, error: Exception) -> None:
        self._metrics.routes_refused += 1
        if self.problem != str(error):
            log.error("new routes are refused; the last good ones stay", error=str(error))
        self.problem = str(error)

    def _served(self, table: RouteTable, variant: Variant, manifest: PackageManifest, cohort: str) -> ServedVersion:
        client = self._client(table.gateway, variant, cohort)
        before = self._used.get(cohort)
        if before is not None and (before.version, before.digest, before.client) == (
            variant.version, variant.digest, client,
        ):  # fmt: skip
            return before
        return ServedVersion(
            version=variant.version,
            digest=variant.digest,
            manifest=manifest,
            features=self._reader_of(manifest.signature.views),
            training=TrainingRange(manifest, self._use_case.request),
            client=client,
        )

    def _client(self, gateway: InnerGateway | None, variant: Variant, cohort: str) -> ModelClient:
        """Asks a version: through the gateway, where there is one."""
        client = self._clients.get((gateway, variant, cohort))
        if client is None:
            client = ModelClient(
                variant.url if gateway is None else gateway.url,
                name=self._use_case.name,
                key=self._model_key,
                timeout=self._model_timeout,
                headers={} if gateway is None else gateway.headers(variant.version, cohort),
            )
            self._clients[gateway, variant, cohort] = client
        return client

    def _reader_of(self, views: tuple[FeatureView, ...]) -> FeatureReader:
        """One reader for all versions of the same views, so that what one has read another need not."""
        reader = self._readers.get(views)
        if reader is None:
            reader = self._readers[views] = self._reader(views)
        return reader

    def _reader(self, views: Sequence[FeatureView]) -> FeatureReader:
        return FeatureReader(views, self._use_case.request, self._online, self._stale_after, self._metrics)


def _take_the_same(live: ServedVersion | None, other: ServedVersion) -> bool:
    """Whether two versions take the same instances: ``derive`` is one, so views and inputs say it."""
    return (
        live is not None
        and live.features is other.features
        and live.manifest.signature.inputs == other.manifest.signature.inputs
    )
