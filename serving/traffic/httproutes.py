"""The HTTPRoutes of a route table: pure, values in and documents out.

``<use case>`` hangs on the clients' listener: weights between versions, and no word of a client about its cohort.
``<use case>-inner`` hangs on the front end's Gateway: one rule a version, told by a header, and that version answers
or nobody does. The list of rules is atomic in the Gateway API, so whoever owns a rule owns them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ninefold.errors import DataError
from ninefold.routes import COHORT_HEADER, SECRET_HEADER, VERSION_HEADER, RouteTable, Variant

API, KIND = "gateway.networking.k8s.io/v1", "HTTPRoute"
CLIENTS_GATEWAY, CLIENTS_LISTENER, INNER_GATEWAY = "models", "clients", "models-inner"
MOST_RULES = 16
"""The Gateway API's own bound."""

_TRIES = 3
"""The clients' Gateway may ask again twice: a BackendTrafficPolicy says when."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTerms:
    """What all routes of a use case have in common.

    Args:
        namespace: Where they lie, with the Gateways and the versions' Services.
        timeout_seconds: How long one version may take to answer.
        annotations: What people are to see of the rollout.
    """

    namespace: str
    timeout_seconds: float
    annotations: Mapping[str, str]


def client_name(use_case: str) -> str:
    """Name of the route of direct clients."""
    return use_case.replace("_", "-")


def inner_name(use_case: str) -> str:
    """Name of the route of the front end."""
    return f"{client_name(use_case)}-inner"


def client_route(table: RouteTable, terms: RouteTerms) -> dict[str, Any]:
    """The route of direct clients of the models.

    Args:
        table: The routes; a version of them is live, or has a weight.
        terms: What all routes have in common.

    Raises:
        DataError: Nobody answers, or a variant is not served by a Service of the namespace.
    """
    shares = table.client_weights()
    if not shares:
        raise DataError(f"No version of {table.use_case} is live.", remedy="Register one: ninefold submit training")
    backends = [
        {
            **_service(table.variants[version], terms.namespace),
            "weight": weight,
            # Whoever reads an answer knows by whom it is.
            "filters": [_set_response_header(VERSION_HEADER, str(version))],
        }
        for version, weight in shares.items()
    ]
    rule = {
        "matches": [
            {"path": {"type": "Exact", "value": f"/v1/models/{table.use_case}:predict"}, "method": "POST"},
            {"path": {"type": "Exact", "value": f"/v1/models/{table.use_case}"}},
            {"path": {"type": "PathPrefix", "value": f"/v2/models/{table.use_case}"}},
        ],
        # A client's word for its cohort is worth nothing; nor may it look like the front end.
        "filters": [_remove_headers(COHORT_HEADER, VERSION_HEADER, SECRET_HEADER)],
        "backendRefs": backends,
        "timeouts": {
            "request": _duration(terms.timeout_seconds * _TRIES),
            "backendRequest": _duration(terms.timeout_seconds),
        },
    }
    parent = {"name": CLIENTS_GATEWAY, "sectionName": CLIENTS_LISTENER}
    return _route(client_name(table.use_case), table, terms, parent, [rule])


def inner_route(table: RouteTable, also: Mapping[int, Variant], terms: RouteTerms) -> dict[str, Any]:
    """The route of the front end.

    Args:
        table: The routes.
        also: Versions that are no longer in the table and still run: a front end may have chosen them before.
        terms: What all routes have in common.

    Raises:
        DataError: A variant is not served by a Service of the namespace, or there are too many of them.
    """
    if len(table.variants) > MOST_RULES:
        raise DataError(
            f"{len(table.variants)} versions of {table.use_case} are served at once; a route holds {MOST_RULES}.",
            remedy="Retire some: ninefold release retire",
        )
    # Those that left go first when there is no room, the oldest before the others.
    left = sorted(set(also) - set(table.variants), reverse=True)[: MOST_RULES - len(table.variants)]
    variants = {version: also[version] for version in left} | dict(table.variants)
    rules = [
        {
            "matches": [
                {
                    "path": {"type": "Exact", "value": f"/v1/models/{table.use_case}:predict"},
                    "headers": [{"type": "Exact", "name": VERSION_HEADER, "value": str(version)}],
                    "method": "POST",
                }
            ],
            "filters": [_remove_headers(SECRET_HEADER)],
            "backendRefs": [_service(variants[version], terms.namespace)],
            "timeouts": {"request": _duration(terms.timeout_seconds)},
        }
        for version in sorted(variants)
    ]
    return _route(inner_name(table.use_case), table, terms, {"name": INNER_GATEWAY}, rules)


def _route(
    name: str, table: RouteTable, terms: RouteTerms, parent: dict[str, Any], rules: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "apiVersion": API,
        "kind": KIND,
        "metadata": {
            "name": name,
            "namespace": terms.namespace,
            "labels": {"app.kubernetes.io/part-of": "ninefold", "ninefold.dev/use-case": table.use_case},
            "annotations": dict(terms.annotations),
        },
        "spec": {"parentRefs": [parent], "rules": rules},
    }


def _service(variant: Variant, namespace: str) -> dict[str, Any]:
    address = urlsplit(variant.url)
    name, _, rest = (address.hostname or "").partition(".")
    if address.scheme != "http" or not name or rest.partition(".")[0] not in ("", namespace):
        raise DataError(
            f"Version {variant.version} is served at {variant.url!r}, which is no Service in namespace {namespace}.",
            remedy=f"Write it as http://service.{namespace}:80.",
        )
    return {"name": name, "port": address.port or 80}


def _remove_headers(*names: str) -> dict[str, Any]:
    return {"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": list(names)}}


def _set_response_header(name: str, value: str) -> dict[str, Any]:
    return {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [{"name": name, "value": value}]}}


def _duration(seconds: float) -> str:
    # The Gateway API knows no fractions.
    return f"{max(1, round(seconds * 1000))}ms"
