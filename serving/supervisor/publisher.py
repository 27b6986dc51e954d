"""The route table, given to the gateway first and then to the front end, whenever it changes.

The gateway knows a version before the front end reads of it, and goes on knowing one that left until its server ends.
So whichever table the front end goes by, what it asks for is there: when a rollout grows, ends, or goes back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import structlog

from ninefold.errors import DataError
from ninefold.rollout.stored import Routing
from ninefold.routes import RouteTable, Variant, read_routes, write_routes
from serving.supervisor.gateway import KeptGateway
from serving.traffic.desired import Model
from serving.traffic.tables import summary, table_of

log = structlog.get_logger()


class Publisher:
    """The routes of one use case. One instance writes them.

    Args:
        use_case: Name of the use case.
        path: The table's file.
    """

    def __init__(self, use_case: str, path: Path) -> None:
        self._use_case = use_case
        self._path = path
        self._gateway: KeptGateway | None = None
        self._also: Mapping[int, Variant] = {}
        self._written = False
        self.table = RouteTable(use_case=use_case, revision=0, live=None)
        """What the front end goes by, or is about to read."""
        self.problem = ""
        """Why the newest routes are not written; empty where they are."""

    def begin(self, gateway: KeptGateway | None) -> None:
        """Replaces what an earlier run left: it points at servers that are gone. Revisions go on from there.

        Args:
            gateway: The gateway; None where the front end asks the model servers directly.

        Raises:
            OSError: The gateway's files can't be written.
        """
        self._gateway = gateway
        self.table = RouteTable(use_case=self._use_case, revision=self._last_revision(), live=None)
        if self._gateway is not None:
            self._gateway.begin(self.table)
        self.publish({}, {}, live=None, routing=Routing())

    def publish(
        self, variants: Mapping[int, Variant], also: Mapping[int, Variant], *, live: int | None, routing: Routing
    ) -> bool:
        """Makes these the routes; does nothing where they are. What can't be written is tried again by the next call.

        Args:
            variants: Where versions are served, by version.
            also: Versions that left and still run, which the front end may have chosen before it reads of it.
            live: The version that answers.
            routing: What a rollout asks for; left out while its candidate is not among the variants.

        Returns:
            Whether the front end's table changed.
        """
        gateway = None if self._gateway is None else self._gateway.gateway.inner
        table = table_of(self.table, variants, live=live, routing=routing, gateway=gateway)
        if not self._written and table == self.table:
            # What lies there is an earlier run's.
            table = replace(table, revision=table.revision + 1)
        changed = table != self.table
        if not changed and also == self._also:
            return False
        try:
            # The gateway first: the front end asks for what it reads.
            if self._gateway is not None and not self._gateway.gateway.publish(table, also):
                return False
            if changed:
                write_routes(self._path, table)
        except OSError as error:
            # A full disk must not end what still serves.
            if not self.problem:
                log.warning("the routes can't be written", error=str(error))
            self.problem = f"The routes can't be written: {error}."
            return False
        self._also, self.problem = also, ""
        if changed:
            self.table, self._written = table, True
            log.info("routes changed", **summary(table))
        return changed

    def names(self, model: Model) -> bool:
        """Whether the front end's table names this version, with this package."""
        variant = self.table.variants.get(model.version)
        return variant is not None and variant.digest == model.digest

    def _last_revision(self) -> int:
        try:
            before = read_routes(self._path)
        except DataError:
            # It is replaced at once.
            return 0
        return 0 if before is None else before.revision
