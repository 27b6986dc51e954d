"""Envoy's clusters and routes from a route table: pure, values in and JSON objects out.

Two listeners. ``client`` is for direct clients of the models: weights between versions, a limit for each key, a bound
for bodies, and what a version fails to answer is asked of the live one, then of the baseline. ``inner`` is for the
front end alone: a header names the version, and that version answers or nobody does.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ninefold.errors import DataError
from ninefold.routes import COHORT_HEADER, SECRET_HEADER, VERSION_HEADER, RouteTable, Variant
from serving.gateway.listeners import ADMIN_CLUSTER, TYPE, Listening, cluster, header

_CONFIGURATION = f"{TYPE}config"
_RETRIES = 2
_EJECT_SECONDS, _LONGEST_EJECT_SECONDS = 2, 10

_CIRCUIT_BREAKERS = {
    "thresholds": [
        {
            "max_connections": 10_000,
            "max_pending_requests": 10_000,
            "max_requests": 10_000,
            # Without it Envoy allows three retries at a time, and a server's death fails a quarter of its requests.
            "retry_budget": {"budget_percent": {"value": 100}, "min_retry_concurrency": 100},
        }
    ]
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What changes while Envoy runs.

    Args:
        clusters: Where versions are.
        client: Routes of direct clients.
        inner: Routes of the front end.
    """

    clusters: list[dict[str, Any]]
    client: dict[str, Any]
    inner: dict[str, Any]


def resources(table: RouteTable, listening: Listening, also: Mapping[int, Variant] | None = None) -> Resources:
    """Envoy's clusters and routes.

    Args:
        table: The routes.
        listening: What the listeners are like.
        also: Versions that are no longer in the table and still run: the front end may have chosen them before.

    Raises:
        DataError: The address of a variant is not one of plain HTTP.
    """
    variants = {**(also or {}), **table.variants}
    found = [_inner_cluster(variant) for variant in variants.values()]
    for version in table.variants:
        found.append(_direct_cluster(table.variants[version]))
        found.append(_with_reserves(version, _reserves(table, version)))
    return Resources(
        clusters=found,
        client=_client_routes(table, listening),
        inner=_inner_routes(table.use_case, sorted(variants), listening),
    )


def _reserves(table: RouteTable, version: int) -> list[int]:
    """The version, and who answers in its place: the live one, then the baseline. Never a candidate for another."""
    order = dict.fromkeys((version, table.live, 0))
    return [v for v in order if v is not None and v in table.variants]


# Clusters


def _version_cluster(name: str, variant: Variant, **more: Any) -> dict[str, Any]:
    address = urlsplit(variant.url)
    if address.scheme != "http" or not address.hostname or address.path.strip("/"):
        raise DataError(
            f"Version {variant.version} is served at {variant.url!r}, which the gateway can't use.",
            remedy="Write it as http://host:port.",
        )
    endpoint = {
        "endpoint": {"address": {"socket_address": {"address": address.hostname, "port_value": address.port or 80}}},
        "metadata": {"filter_metadata": {"ninefold": {"version": str(variant.version)}}},
    }
    return {
        "@type": f"{_CONFIGURATION}.cluster.v3.Cluster",
        **cluster(name, [endpoint]),
        "type": "STATIC" if _is_ip(address.hostname) else "STRICT_DNS",
        "circuit_breakers": _CIRCUIT_BREAKERS,
        **more,
    }


def _inner_cluster(variant: Variant) -> dict[str, Any]:
    # Nobody stands in for it, so there is nothing to gain from putting it aside.
    return _version_cluster(f"inner-v{variant.version}", variant)


def _direct_cluster(variant: Variant) -> dict[str, Any]:
    return _version_cluster(
        f"direct-v{variant.version}",
        variant,
        outlier_detection={
            "consecutive_5xx": 5,
            "consecutive_gateway_failure": 3,
            "split_external_local_origin_errors": True,
            "consecutive_local_origin_failure": 2,
            "interval": "0.5s",
            "base_ejection_time": f"{_EJECT_SECONDS}s",
            "max_ejection_time": f"{_LONGEST_EJECT_SECONDS}s",
            "max_ejection_percent": 100,
            "enforcing_consecutive_gateway_failure": 100,
        },
    )


def _with_reserves(version: int, order: Sequence[int]) -> dict[str, Any]:
    return {
        "@type": f"{_CONFIGURATION}.cluster.v3.Cluster",
        "name": f"client-v{version}",
        "connect_timeout": "0.25s",
        "lb_policy": "CLUSTER_PROVIDED",
        "circuit_breakers": _CIRCUIT_BREAKERS,
        "cluster_type": {
            "name": "envoy.clusters.aggregate",
            "typed_config": {
                "@type": f"{TYPE}extensions.clusters.aggregate.v3.ClusterConfig",
                "clusters": [f"direct-v{member}" for member in order],
            },
        },
    }


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


# Routes


def _client_routes(table: RouteTable, listening: Listening) -> dict[str, Any]:
    shares = table.client_weights()
    answer: dict[str, Any] = _error(503, f"No version of {table.use_case} is live.")
    if shares:
        answer = {
            "route": {
                "weighted_clusters": {
                    "clusters": [{"name": f"client-v{v}", "weight": weight} for v, weight in shares.items()]
                },
                "timeout": _seconds(listening.timeout_seconds * (_RETRIES + 1)),
                "retry_policy": _retry_policy(listening, to_reserves=True),
            },
            "response_headers_to_add": [header(VERSION_HEADER, "%UPSTREAM_METADATA(ninefold:version)%")],
        }
    asked = [
        {"path": f"/v1/models/{table.use_case}:predict"},
        {"path": f"/v1/models/{table.use_case}"},
        {"path_separated_prefix": f"/v2/models/{table.use_case}"},
    ]
    alive = {
        "direct_response": {"status": 200, "body": {"inline_string": json.dumps({"status": "alive"})}},
        "response_headers_to_add": [header("content-type", "application/json")],
    }
    routes = [
        *({"match": match, **answer} for match in asked),
        *({"match": {"path": path}, **alive} for path in ("/healthz", "/readyz")),
        {"match": {"path": "/metrics"}, "route": {"cluster": ADMIN_CLUSTER, "prefix_rewrite": "/stats/prometheus"}},
        {"match": {"prefix": "/"}, **_error(404, "There is nothing here.")},
    ]
    return _route_configuration(
        "client",
        routes,
        listening,
        # A client's word for its cohort is worth nothing; nor may it look like the front end.
        request_headers_to_remove=[COHORT_HEADER, VERSION_HEADER, SECRET_HEADER],
    )


def _inner_routes(use_case: str, versions: Sequence[int], listening: Listening) -> dict[str, Any]:
    admitted = _exact(SECRET_HEADER, listening.secret)
    routes: list[dict[str, Any]] = [
        {
            "match": {
                "path": f"/v1/models/{use_case}:predict",
                "headers": [admitted, _exact(VERSION_HEADER, str(version))],
            },
            "route": {
                "cluster": f"inner-v{version}",
                "timeout": _seconds(listening.timeout_seconds),
                "retry_policy": _retry_policy(listening, to_reserves=False),
            },
        }
        for version in versions
    ]
    for path in ("/stats", "/drain_listeners"):
        routes.append(
            {"match": {"path": path, "headers": [admitted]}, "route": {"cluster": ADMIN_CLUSTER, "timeout": "2s"}}
        )
    routes += [
        {
            "match": {"prefix": "/", "headers": [admitted]},
            **_error(404, "No such version, or no such path."),
        },
        {"match": {"prefix": "/"}, **_error(403, "This is the front end's listener.")},
    ]
    return _route_configuration("inner", routes, listening, request_headers_to_remove=[SECRET_HEADER])


def _route_configuration(name: str, routes: list[dict[str, Any]], listening: Listening, **more: Any) -> dict[str, Any]:
    host = {"name": name, "domains": ["*"], "routes": routes, "request_body_buffer_limit": listening.max_body_bytes}
    return {
        "@type": f"{_CONFIGURATION}.route.v3.RouteConfiguration",
        "name": name,
        "virtual_hosts": [host],
        # Else a route to a cluster that is not there is taken, and answers 503.
        "validate_clusters": True,
        **more,
    }


def _retry_policy(listening: Listening, *, to_reserves: bool) -> dict[str, Any]:
    if not to_reserves:
        # A connection that its server closed while it was taken from the pool; predicting twice changes nothing.
        return {"retry_on": "connect-failure,refused-stream,reset-before-request", "num_retries": 1}
    return {
        "retry_on": "5xx,connect-failure,refused-stream,reset",
        "num_retries": _RETRIES,
        "per_try_timeout": _seconds(listening.timeout_seconds),
        "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.02s"},
        "retry_priority": {
            "name": "envoy.retry_priorities.previous_priorities",
            "typed_config": {
                "@type": f"{TYPE}extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
                "update_frequency": 1,
            },
        },
    }


def _exact(name: str, value: str) -> dict[str, Any]:
    return {"name": name, "string_match": {"exact": value}}


def _error(status: int, text: str) -> dict[str, Any]:
    # The listener wraps it in JSON, as every answer of Envoy's own.
    return {"direct_response": {"status": status, "body": {"inline_string": text}}}


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f}s"
