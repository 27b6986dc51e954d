"""On a cluster: follows the routes that the store has published, and writes them where the front end watches.

The packages that the routes name are fetched first, so that what the file names is there. Whatever can't be had (the
store, a package) leaves the file as it is: the front end goes on by the last routes, also after a restart.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import structlog

from ninefold.errors import DataError, NinefoldError
from ninefold.routes import InnerGateway, RouteTable, Variant, read_routes, write_routes
from ninefold.store import Store

log = structlog.get_logger()

POLL_SECONDS = 1.0

Fetch = Callable[[str, str, Path], Path]
"""(URI, digest, folder) → the package's folder on this machine, verified."""


class RouteFollower:
    """Follows one use case's routes, in a thread of its own.

    Args:
        use_case: Name of the use case.
        path: The file that the front end watches.
        models: Folder of the packages on this machine.
        open_store: Opens the store, as soon as it can be reached.
        fetch: Fetches a package.
        gateway: Where the front end reaches variants; its secret is no matter of the store's. None where it asks them
            directly.
        poll_seconds: How often it looks.
    """

    def __init__(
        self,
        use_case: str,
        *,
        path: Path,
        models: Path,
        open_store: Callable[[], Store],
        fetch: Fetch,
        gateway: InnerGateway | None,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._use_case, self._path, self._models = use_case, path, models
        self._open, self._fetch, self._gateway = open_store, fetch, gateway
        self._poll_seconds = poll_seconds
        self._store: Store | None = None
        self._written = self._begin()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="routes", daemon=True)
        self.problem: str | None = None
        """Why the newest routes are not followed; None where they are."""

    def start(self) -> None:
        """Begins to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Ends; the file stays."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=10.0)
        if self._store is not None:
            self._store.close()
            self._store = None

    def follow(self) -> bool:
        """One look; whether the file changed. What can't be done is told in ``problem`` and tried again."""
        try:
            changed = self._follow()
        except (NinefoldError, OSError) as error:
            if self.problem != str(error):
                log.warning("the last routes stay", use_case=self._use_case, error=str(error))
            self.problem = str(error)
            return False
        self.problem = None
        return changed

    def _follow(self) -> bool:
        if self._store is None:
            self._store = self._open()
        published = self._store.published_routes(self._use_case)
        table = None if published is None else published.table
        if table is None:
            return False
        variants, trouble = dict(table.variants), ""
        # The front end makes inputs for these two alone.
        for version in dict.fromkeys(v for v in (table.live, table.candidate) if v is not None):
            try:
                variants[version] = self._here(table.variants[version])
            except NinefoldError as error:
                if version == table.live:
                    raise
                # Nobody is given to a candidate without its package, and all else is followed.
                trouble = str(error)
                variants[version] = replace(variants[version], package=str(self._models / variants[version].digest))
        found = replace(table, variants=variants, gateway=self._gateway)
        changed = found != self._written
        if changed:
            write_routes(self._path, found)
            self._written = found
            log.info("routes followed", use_case=self._use_case, revision=found.revision, live=found.live)
        if trouble:
            raise DataError(trouble)
        return changed

    def _here(self, variant: Variant) -> Variant:
        """The variant with its package on this machine."""
        before = None if self._written is None else self._written.variants.get(variant.version)
        if before is not None and before.digest == variant.digest and Path(before.package).is_dir():
            return replace(variant, package=before.package)
        return replace(variant, package=str(self._fetch(variant.package, variant.digest, self._models)))

    def _begin(self) -> RouteTable | None:
        try:
            return read_routes(self._path)
        except DataError as error:
            log.warning("the file of the last routes is damaged; it is written anew", error=str(error))
            return None

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.follow()
            except Exception:
                # Whatever a damaged table brings about, the next one has to be seen.
                log.exception("the last routes stay", use_case=self._use_case)
            self._stop.wait(self._poll_seconds)
