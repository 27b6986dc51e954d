"""Envoy's resources from a route table: pure, values in and JSON objects out.

Two listeners. ``client`` is for direct clients of the models: weights between versions, a limit for each key, a bound
for bodies, and what a version fails to answer is asked of the live one, then of the baseline. ``inner`` is for the
front end alone: a header names the version, and that version answers or nobody does.

The names of fields are Envoy's v3 API. JSON, because in YAML a version named ``n`` would be a boolean.
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

CLUSTERS, CLIENT_ROUTES, INNER_ROUTES = "clusters.json", "client-routes.json", "inner-routes.json"
"""Files of Envoy's dynamic resources."""

ADMIN_SOCKET = "admin.sock"
"""Envoy's own interface, relative to its working directory: a socket's whole path may have 107 bytes at most."""

_TYPE = "type.googleapis.com/envoy."
_RESOURCE = f"{_TYPE}config"
_FILTER = f"{_TYPE}extensions.filters"
_ADMIN = "admin"
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
class Listening:
    """What the gateway's listeners are like, for as long as the process runs.

    Args:
        host: Address of the client listener; the inner one is always on the loopback.
        client_port, inner_port: Their ports.
        secret: What the inner listener admits the front end by.
        max_body_bytes: Longest body of a direct client.
        requests_per_second: What a direct client's key may ask on average, and at once after a pause.
        timeout_seconds: How long one version may take to answer.
    """

    host: str
    client_port: int
    inner_port: int
    secret: str
    max_body_bytes: int
    requests_per_second: int
    timeout_seconds: float


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


def bootstrap(listening: Listening, folder: str) -> dict[str, Any]:
    """What Envoy starts with: its listeners, and where it finds the rest.

    Args:
        listening: What the listeners are like.
        folder: Absolute path of the folder with the dynamic resources; a file renamed into it is read at once.
    """
    return {
        "node": {"id": "ninefold", "cluster": "ninefold"},
        "admin": {"address": {"pipe": {"path": ADMIN_SOCKET, "mode": 0o600}}},
        "dynamic_resources": {"cds_config": _source(folder, CLUSTERS)},
        "static_resources": {
            "clusters": [_cluster(_ADMIN, [{"endpoint": {"address": {"pipe": {"path": ADMIN_SOCKET}}}}])],
            "listeners": [_client_listener(listening, folder), _inner_listener(listening, folder)],
        },
    }


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
    clusters = [_inner_cluster(variant) for variant in variants.values()]
    for version in table.variants:
        clusters.append(_direct_cluster(table.variants[version]))
        clusters.append(_with_reserves(version, _reserves(table, version)))
    return Resources(
        clusters=clusters,
        client=_client_routes(table, listening),
        inner=_inner_routes(table.use_case, sorted(variants), listening),
    )


def weights(table: RouteTable) -> dict[int, int]:
    """Version → weight among direct clients, without the versions that get nothing."""
    if table.weights:
        return {version: weight for version, weight in sorted(table.weights.items()) if weight}
    return {} if table.live is None else {table.live: 1}


def _reserves(table: RouteTable, version: int) -> list[int]:
    """The version, and who answers in its place: the live one, then the baseline. Never a candidate for another."""
    order = dict.fromkeys((version, table.live, 0))
    return [v for v in order if v is not None and v in table.variants]


# Clusters


def _cluster(name: str, endpoints: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "connect_timeout": "0.25s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": list(endpoints)}]},
        **more,
    }


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
        "@type": f"{_RESOURCE}.cluster.v3.Cluster",
        **_cluster(name, [endpoint]),
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
        # A version of one server that is put aside must count as gone, or its reserves are never asked first.
        common_lb_config={"healthy_panic_threshold": {"value": 0}},
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
        "@type": f"{_RESOURCE}.cluster.v3.Cluster",
        "name": f"client-v{version}",
        "connect_timeout": "0.25s",
        "lb_policy": "CLUSTER_PROVIDED",
        "circuit_breakers": _CIRCUIT_BREAKERS,
        "cluster_type": {
            "name": "envoy.clusters.aggregate",
            "typed_config": {
                "@type": f"{_TYPE}extensions.clusters.aggregate.v3.ClusterConfig",
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
    shares = weights(table)
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
            "response_headers_to_add": [_header(VERSION_HEADER, "%UPSTREAM_METADATA(ninefold:version)%")],
        }
    asked = [
        {"path": f"/v1/models/{table.use_case}:predict"},
        {"path": f"/v1/models/{table.use_case}"},
        {"path_separated_prefix": f"/v2/models/{table.use_case}"},
    ]
    alive = {
        "direct_response": {"status": 200, "body": {"inline_string": json.dumps({"status": "alive"})}},
        "response_headers_to_add": [_header("content-type", "application/json")],
    }
    routes = [
        *({"match": match, **answer} for match in asked),
        *({"match": {"path": path}, **alive} for path in ("/healthz", "/readyz")),
        {"match": {"path": "/metrics"}, "route": {"cluster": _ADMIN, "prefix_rewrite": "/stats/prometheus"}},
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
        routes.append({"match": {"path": path, "headers": [admitted]}, "route": {"cluster": _ADMIN, "timeout": "2s"}})
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
        "@type": f"{_RESOURCE}.route.v3.RouteConfiguration",
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
                "@type": f"{_TYPE}extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
                "update_frequency": 1,
            },
        },
    }


def _exact(name: str, value: str) -> dict[str, Any]:
    return {"name": name, "string_match": {"exact": value}}


def _error(status: int, text: str) -> dict[str, Any]:
    # The listener wraps it in JSON, as every answer of Envoy's own.
    return {"direct_response": {"status": status, "body": {"inline_string": text}}}


def _header(name: str, value: str) -> dict[str, Any]:
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f}s"


# Listeners


def _client_listener(listening: Listening, folder: str) -> dict[str, Any]:
    bucket = {
        "max_tokens": listening.requests_per_second,
        "tokens_per_fill": listening.requests_per_second,
        "fill_interval": "1s",
    }
    keys = ("x-apikey", "authorization")
    limit = {
        "@type": f"{_FILTER}.http.local_ratelimit.v3.LocalRateLimit",
        "stat_prefix": "client_limit",
        "token_bucket": bucket,
        "filter_enabled": {"default_value": {"numerator": 100, "denominator": "HUNDRED"}},
        "filter_enforced": {"default_value": {"numerator": 100, "denominator": "HUNDRED"}},
        # A bucket for each value of a key header; requests without one share the listener's.
        "rate_limits": [{"actions": [{"request_headers": {"header_name": k, "descriptor_key": k}}]} for k in keys],
        "descriptors": [{"entries": [{"key": key}], "token_bucket": bucket} for key in keys],
        "max_dynamic_descriptors": 10_000,
        "always_consume_default_token_bucket": False,
        "response_headers_to_add": [_header("retry-after", "1")],
    }
    bound = {"@type": f"{_FILTER}.http.buffer.v3.Buffer", "max_request_bytes": listening.max_body_bytes}
    filters = [
        {"name": "envoy.filters.http.local_ratelimit", "typed_config": limit},
        {"name": "envoy.filters.http.buffer", "typed_config": bound},
    ]
    return _listener("client", listening.host, listening.client_port, filters, folder, CLIENT_ROUTES)


def _inner_listener(listening: Listening, folder: str) -> dict[str, Any]:
    return _listener("inner", "127.0.0.1", listening.inner_port, [], folder, INNER_ROUTES)


def _listener(
    name: str, host: str, port: int, filters: Sequence[Mapping[str, Any]], folder: str, routes: str
) -> dict[str, Any]:
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": f"{_FILTER}.http.router.v3.Router", "suppress_envoy_headers": True},
    }
    manager = {
        "@type": f"{_FILTER}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "rds": {"route_config_name": name, "config_source": _source(folder, routes)},
        "http_filters": [*filters, router],
        "use_remote_address": True,
        # Nobody counts as internal: a client's x-envoy-* headers would change retries and timeouts.
        "internal_address_config": {"cidr_ranges": [{"address_prefix": "255.255.255.255", "prefix_len": 32}]},
        "generate_request_id": False,
        "preserve_external_request_id": True,
        "normalize_path": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "server_header_transformation": "PASS_THROUGH",
        "stream_idle_timeout": "60s",
        "request_headers_timeout": "10s",
        "common_http_protocol_options": {"idle_timeout": "300s", "headers_with_underscores_action": "REJECT_REQUEST"},
        "local_reply_config": {
            "mappers": [
                {
                    "filter": {
                        "status_code_filter": {
                            "comparison": {"op": "GE", "value": {"default_value": 400, "runtime_key": "ninefold.none"}}
                        }
                    },
                    "body_format_override": {"json_format": {"error": "%LOCAL_REPLY_BODY%"}},
                }
            ]
        },
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    return {
        "name": name,
        "address": {"socket_address": {"address": host, "port_value": port}},
        "filter_chains": [chain],
        # Else another process of the same user could listen there too, and get every other request.
        "enable_reuse_port": False,
    }


def _source(folder: str, file: str) -> dict[str, Any]:
    return {
        "resource_api_version": "V3",
        "path_config_source": {"path": f"{folder}/{file}", "watched_directory": {"path": folder}},
    }
