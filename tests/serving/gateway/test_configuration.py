"""Clusters and routes as values: who stands in for whom, and what is named before it is there."""

from __future__ import annotations

import json
from typing import Any

import pytest
from gateway_house import table, variant
from hypothesis import given
from hypothesis import strategies as st

from ninefold.errors import DataError
from ninefold.routes import RouteTable
from serving.gateway.configuration import Resources, resources
from serving.gateway.listeners import Listening, bootstrap

LISTENING = Listening(
    host="127.0.0.1", client_port=1, inner_port=2, secret="s3cret", max_body_bytes=10, requests_per_second=5,
    timeout_seconds=0.5,
)  # fmt: skip


def reserves(made: Resources) -> dict[str, list[str]]:
    found = {}
    for cluster in made.clusters:
        if "cluster_type" in cluster:
            found[cluster["name"]] = cluster["cluster_type"]["typed_config"]["clusters"]
    return found


def named_clusters(routes: dict[str, Any]) -> set[str]:
    names = set()
    for route in routes["virtual_hosts"][0]["routes"]:
        action = route.get("route", {})
        names |= {action["cluster"]} if "cluster" in action else set()
        names |= {one["name"] for one in action.get("weighted_clusters", {}).get("clusters", [])}
    return names - {"admin"}


@st.composite
def tables(draw: st.DrawFn) -> RouteTable:
    versions = draw(st.sets(st.integers(0, 9), max_size=5))
    chosen = st.none() | st.sampled_from(sorted(versions)) if versions else st.none()
    some = draw(st.dictionaries(st.sampled_from(sorted(versions)), st.integers(0, 1000))) if versions else {}
    return table(
        {v: f"http://127.0.0.1:{8090 + v}" for v in versions},
        live=draw(chosen),
        candidate=draw(chosen),
        weights=some if any(some.values()) else {},
    )


@given(tables())
def test_every_cluster_that_a_route_names_is_there_and_only_the_live_one_and_the_baseline_stand_in(
    routes: RouteTable,
) -> None:
    made = resources(routes, LISTENING)
    names = {cluster["name"] for cluster in made.clusters}
    assert len(names) == len(made.clusters)
    assert named_clusters(made.client) | named_clusters(made.inner) <= names
    for name, members in reserves(made).items():
        assert members[0] == name.replace("client", "direct")
        assert set(members) <= names
        assert set(members[1:]) <= {f"direct-v{routes.live}", "direct-v0"}
    assert {name for name in names if name.startswith("inner-")} == named_clusters(made.inner)
    given_out = {f"client-v{v}" for v, weight in routes.client_weights().items() if weight}
    assert named_clusters(made.client) == given_out
    json.dumps([made.clusters, made.client, made.inner])


def test_the_baseline_has_nobody_behind_it_but_the_live_version() -> None:
    urls = {version: f"http://127.0.0.1:{8090 + version}" for version in range(3)}
    assert reserves(resources(table(urls, candidate=2), LISTENING)) == {
        "client-v0": ["direct-v0", "direct-v1"],
        "client-v1": ["direct-v1", "direct-v0"],
        "client-v2": ["direct-v2", "direct-v1", "direct-v0"],
    }


def test_a_version_that_left_is_known_on_the_inner_side_alone_and_a_routed_one_wins_over_it() -> None:
    routes = table({1: "http://127.0.0.1:8091"})
    left = {1: variant(1, "http://127.0.0.1:9"), 5: variant(5, "http://127.0.0.1:8095")}
    made = resources(routes, LISTENING, left)
    assert {cluster["name"] for cluster in made.clusters} == {"inner-v1", "inner-v5", "direct-v1", "client-v1"}
    inner = next(cluster for cluster in made.clusters if cluster["name"] == "inner-v1")
    endpoint = inner["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    assert endpoint["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 8091}


@pytest.mark.parametrize(("host", "kind"), [("127.0.0.1", "STATIC"), ("[::1]", "STATIC"), ("models", "STRICT_DNS")])
def test_a_name_is_looked_up_and_an_address_is_not(host: str, kind: str) -> None:
    made = resources(table({1: f"http://{host}:8091"}), LISTENING)
    assert {cluster["type"] for cluster in made.clusters if "type" in cluster} == {kind}


@pytest.mark.parametrize("url", ["https://127.0.0.1:1", "127.0.0.1:8090", "http://:80", "http://127.0.0.1/models"])
def test_an_address_that_can_not_be_used_is_named(url: str) -> None:
    with pytest.raises(DataError, match="Version 1 is served at"):
        resources(table({1: url}), LISTENING)


def test_the_inner_listener_stays_on_the_loopback_whatever_the_host() -> None:
    everywhere = Listening(
        host="0.0.0.0", client_port=1, inner_port=2, secret="s", max_body_bytes=10, requests_per_second=5,
        timeout_seconds=0.5,
    )  # fmt: skip
    listeners = bootstrap(everywhere, "/home/x")["static_resources"]["listeners"]
    addresses = {one["name"]: one["address"]["socket_address"]["address"] for one in listeners}
    assert addresses == {"client": "0.0.0.0", "inner": "127.0.0.1"}
