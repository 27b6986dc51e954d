"""Documents of HTTPRoutes: laws of what a route table becomes."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ninefold.errors import DataError
from ninefold.routes import RouteTable, Variant
from serving.traffic.httproutes import MOST_RULES, RouteTerms, client_route, inner_route
from serving.traffic.mirror import REVISION, Mirror

TERMS = RouteTerms(namespace="ninefold", timeout_seconds=0.5, annotations={"ninefold.dev/share": "5.00%"})


def variant(version: int) -> Variant:
    return Variant(
        version=version, url=f"http://parcels-v{version}-predictor.ninefold:80", package=f"s3://m/d{version}",
        digest=f"d{version}",
    )  # fmt: skip


def table(*versions: int, live: int | None = None, **more: Any) -> RouteTable:
    return RouteTable(
        use_case="parcels", revision=3, live=versions[0] if live is None else live,
        variants={n: variant(n) for n in versions}, **more,
    )  # fmt: skip


VERSIONS = st.lists(st.integers(0, 40), min_size=1, max_size=MOST_RULES, unique=True)


def asked_for(route: dict[str, Any], version: str) -> list[str]:
    """Services that a request of the front end for a version reaches."""
    found = []
    for rule in route["spec"]["rules"]:
        for match in rule["matches"]:
            headers = {h["name"]: h["value"] for h in match["headers"]}
            if headers == {"x-ninefold-version": version} and match["path"]["value"] == "/v1/models/parcels:predict":
                found += [backend["name"] for backend in rule["backendRefs"]]
    return found


@given(versions=VERSIONS, others=st.lists(st.integers(0, 60), max_size=20, unique=True))
def test_every_variant_is_reached_by_its_number_exactly_once(versions: list[int], others: list[int]) -> None:
    route = inner_route(table(*versions), {n: variant(n) for n in others}, TERMS)
    for version in versions:
        assert asked_for(route, str(version)) == [f"parcels-v{version}-predictor"]
    reached = [rule["backendRefs"][0]["name"] for rule in route["spec"]["rules"]]
    assert len(reached) == len(set(reached)) == min(MOST_RULES, len({*versions, *others}))
    # The newest of those that left are kept where there is no room for all.
    left = sorted(set(others) - set(versions), reverse=True)[: MOST_RULES - len(versions)]
    assert all(asked_for(route, str(version)) for version in left)
    assert asked_for(route, "99") == []


@given(versions=VERSIONS, data=st.data())
def test_weights_are_those_of_the_table_and_sum_to_theirs(versions: list[int], data: st.DataObject) -> None:
    weights = {v: data.draw(st.integers(0, 10_000)) for v in versions}
    weights[versions[0]] += 1
    route = client_route(table(*versions, weights=weights), TERMS)
    backends = route["spec"]["rules"][0]["backendRefs"]
    given_out = {backend["name"]: backend["weight"] for backend in backends}
    assert given_out == {f"parcels-v{v}-predictor": weight for v, weight in weights.items() if weight}
    assert len(backends) == len(given_out)
    assert sum(given_out.values()) == sum(weights.values())
    # Each answer says whose it is.
    for backend in backends:
        told = backend["filters"][0]["responseHeaderModifier"]["set"]
        assert told == [{"name": "x-ninefold-version", "value": re.findall(r"v(\d+)-", backend["name"])[0]}]


def test_without_a_rollout_the_live_version_gets_all_and_what_clients_say_of_cohorts_is_dropped() -> None:
    route = client_route(table(4, 0), TERMS)
    assert route["metadata"]["name"] == "parcels"
    assert route["metadata"]["annotations"] == {"ninefold.dev/share": "5.00%"}
    assert route["spec"]["parentRefs"] == [{"name": "models", "sectionName": "clients"}]
    (rule,) = route["spec"]["rules"]
    assert [(b["name"], b["port"], b["weight"]) for b in rule["backendRefs"]] == [("parcels-v4-predictor", 80, 1)]
    removed = rule["filters"][0]["requestHeaderModifier"]["remove"]
    assert set(removed) == {"x-ninefold-version", "x-ninefold-cohort", "x-ninefold-inner"}
    assert rule["timeouts"] == {"request": "1500ms", "backendRequest": "500ms"}


def test_the_secret_goes_no_further_than_the_gateway() -> None:
    route = inner_route(table(4, 0), {}, TERMS)
    assert route["metadata"]["name"] == "parcels-inner"
    assert route["spec"]["parentRefs"] == [{"name": "models-inner"}]
    for rule in route["spec"]["rules"]:
        assert rule["filters"] == [
            {"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["x-ninefold-inner"]}}
        ]


def test_what_can_be_no_route_is_refused() -> None:
    with pytest.raises(DataError, match="No version of parcels is live"):
        client_route(RouteTable(use_case="parcels", revision=1, live=None), TERMS)
    with pytest.raises(DataError, match="17 versions of parcels are served at once; a route holds 16"):
        inner_route(table(*range(17)), {}, TERMS)
    elsewhere = Variant(version=1, url="http://parcels.other:80", package="p", digest="d")
    lost = RouteTable(use_case="parcels", revision=1, live=1, variants={1: elsewhere})
    with pytest.raises(DataError, match=r"served at 'http://parcels.other:80', which is no Service in namespace nine"):
        client_route(lost, TERMS)


def test_annotations_tell_the_rollout_the_share_and_the_revision() -> None:
    mirror = Mirror(rollout="r2", state="canary", candidate=2, share=0.05, reasons=("It is better.", "By 2 min."))
    assert mirror.annotations(table(1, 2)) == {
        "ninefold.dev/rollout": "r2",
        "ninefold.dev/state": "canary",
        REVISION: "3",
        "ninefold.dev/share": "5.00%",
        "ninefold.dev/reasons": "It is better. By 2 min.",
    }
    assert mirror.words == "Rollout r2 of version 2 is canary, 5.00%: It is better. By 2 min."
    assert Mirror().annotations(table(1))["ninefold.dev/rollout"] == "none"
    assert len(Mirror(rollout="r", reasons=("x" * 9_999,)).annotations(table(1))["ninefold.dev/reasons"]) == 2_000
