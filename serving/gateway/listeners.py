"""What Envoy starts with: its listeners, its own interface, and where it finds the rest. Pure.

The names of fields are Envoy's v3 API. JSON, because in YAML a version named ``n`` would be a boolean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CLUSTERS, CLIENT_ROUTES, INNER_ROUTES = "clusters.json", "client-routes.json", "inner-routes.json"
"""Files of Envoy's dynamic resources."""

ADMIN_SOCKET = "admin.sock"
"""Envoy's own interface, relative to its working directory: a socket's whole path may have 107 bytes at most."""

ADMIN_CLUSTER = "admin"
TYPE = "type.googleapis.com/envoy."
_FILTER = f"{TYPE}extensions.filters"


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
            "clusters": [cluster(ADMIN_CLUSTER, [{"endpoint": {"address": {"pipe": {"path": ADMIN_SOCKET}}}}])],
            "listeners": [_client_listener(listening, folder), _inner_listener(listening, folder)],
        },
    }


def cluster(name: str, endpoints: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A cluster of fixed endpoints."""
    return {
        "name": name,
        "connect_timeout": "0.25s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": list(endpoints)}]},
    }


def header(name: str, value: str) -> dict[str, Any]:
    """A header that an answer carries, in place of any of that name."""
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


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
        "response_headers_to_add": [header("retry-after", "1")],
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
