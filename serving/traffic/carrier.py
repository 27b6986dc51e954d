"""Carries a route table to the cluster's gateway: writes its HTTPRoutes, and reads back whether they are taken.

Only fields of this controller's own manager are written, and never by force. A write names the version of the object
that it rests on, and a revision that only grows, so that one who slept past its lease puts nothing older back. What
somebody else changed by hand is left as it is, and told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from ninefold.errors import DataError, FieldConflict, ObjectChanged, Outdated
from ninefold.routes import RouteTable, Variant
from serving.traffic.conditions import edited, gateway_trouble, holds, taken
from serving.traffic.httproutes import (
    API,
    CLIENTS_GATEWAY,
    INNER_GATEWAY,
    KIND,
    RouteTerms,
    client_name,
    client_route,
    inner_name,
    inner_route,
)
from serving.traffic.mirror import REVISION, Mirror

log = structlog.get_logger()

FIELD_MANAGER = "ninefold-rollout"
PATIENCE_SECONDS = 10.0
"""How long a gateway may take to look at a route before people are told."""

_TRIES = 4


class RoutesApi(Protocol):
    """What is asked of the API server (``ninefold.cluster.api.ClusterApi``)."""

    def apply(self, document: Mapping[str, Any]) -> dict[str, Any]: ...  # noqa: D102
    def get(self, api_version: str, kind: str, name: str) -> dict[str, Any] | None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Carried:
    """What became of a route table.

    Args:
        inner: Whether the front end reaches every version of it.
        problem: What is wrong with its routes, in words; empty where nothing is.
    """

    inner: bool
    problem: str = ""


class HttpRoutes:
    """The HTTPRoutes of one use case.

    Args:
        api: The API server.
        use_case: Name of the use case.
        namespace: Where they lie.
        timeout_seconds: How long one version may take to answer.
        monotonic: Seconds that never go back.
    """

    def __init__(
        self, api: RoutesApi, use_case: str, *, namespace: str, timeout_seconds: float, monotonic: Callable[[], float]
    ) -> None:
        self._api, self._use_case, self._namespace = api, use_case, namespace
        self._timeout, self._monotonic = timeout_seconds, monotonic
        self._waiting: dict[str, float] = {}
        self._found: dict[str, dict[str, Any] | None] = {}

    def look(self) -> int:
        """Reads the routes; the highest revision that they name, 0 where there are none.

        Raises:
            ClusterError: The cluster knows no HTTPRoutes, or forbids to read them.
            Unavailable: The API server does not answer.
        """
        names = client_name(self._use_case), inner_name(self._use_case)
        self._found = {name: self._api.get(API, KIND, name) for name in names}
        return max(_revision(found) for found in self._found.values())

    def carry(self, table: RouteTable, also: Mapping[int, Variant], mirror: Mirror) -> Carried:
        """Makes the routes those of a table, where they are not, on the ground of the last ``look``.

        Args:
            table: The table.
            also: Versions that left and still run.
            mirror: What people are to see of the rollout.

        Raises:
            Outdated: Another controller wrote later routes meanwhile.
            ClusterError: The API server refuses.
            Unavailable: It does not answer.
        """
        terms = RouteTerms(
            namespace=self._namespace, timeout_seconds=self._timeout, annotations=mirror.annotations(table)
        )
        try:
            # The front end's first: it asks for what it reads of.
            inner = self._carried(inner_route(table, also, terms), INNER_GATEWAY)
            client = self._carried(client_route(table, terms), CLIENTS_GATEWAY)
        except DataError as error:
            return Carried(inner=False, problem=str(error))
        return Carried(inner=inner == "", problem=" ".join(filter(None, (inner.strip(), client.strip()))))

    def route(self) -> dict[str, Any] | None:
        """The clients' route as it was last seen, for Events to refer to."""
        return self._found.get(client_name(self._use_case))

    def _carried(self, document: dict[str, Any], gateway: str) -> str:
        """Why a route is not in force: empty where it is, blank where it is too soon to say."""
        name = document["metadata"]["name"]
        found = self._found[name]
        for _ in range(_TRIES):
            if found is not None:
                _require_older(found, document)
                if words := edited(found, FIELD_MANAGER):
                    return words
                if _is_carried(document, found):
                    break
                metadata = {**document["metadata"], "resourceVersion": found["metadata"]["resourceVersion"]}
            else:
                metadata = document["metadata"]
            try:
                found = self._found[name] = self._api.apply({**document, "metadata": metadata})
            except FieldConflict as error:
                return str(error)
            except ObjectChanged:
                # A gateway wrote its status, another controller its rules, or this very call timed out and was
                # carried out: what is there now tells.
                found = self._found[name] = self._api.get(API, KIND, name)
            else:
                self._waiting.pop(name, None)
                log.info("route written", route=name, revision=document["metadata"]["annotations"][REVISION])
                break
        else:
            return f"HTTPRoute {name} in namespace {self._namespace} changes faster than it can be written."
        return "" if found is None else self._standing(found, gateway)

    def _standing(self, found: Mapping[str, Any], gateway: str) -> str:
        name, state = found["metadata"]["name"], taken(found)
        if state.standing == "taken":
            self._waiting.pop(name, None)
            return ""
        since = self._waiting.setdefault(name, self._monotonic())
        if state.standing == "waiting" and self._monotonic() - since < PATIENCE_SECONDS:
            return " "
        trouble = gateway_trouble(self._api.get(API, "Gateway", gateway), gateway, self._namespace)
        return f"{state.words} {trouble}".strip()


def _revision(route: Mapping[str, Any] | None) -> int:
    text = ((route or {}).get("metadata", {}).get("annotations") or {}).get(REVISION, "0")
    return int(text) if text.isdigit() else 0


def _require_older(found: Mapping[str, Any], document: Mapping[str, Any]) -> None:
    there, mine = _revision(found), _revision(document)
    if there > mine:
        raise Outdated(
            f"HTTPRoute {document['metadata']['name']} is at revision {there}: revision {mine} comes too late.",
            remedy="Look again and decide anew.",
        )


def _is_carried(document: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    return all(holds(found["spec"].get(part), wanted) for part, wanted in document["spec"].items()) and holds(
        found["metadata"].get("annotations") or {}, document["metadata"]["annotations"]
    )
