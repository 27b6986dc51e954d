"""Cohorts are sticky, monotone in the share, independent between rollouts, and exact."""

import hashlib
import json
import timeit
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ninefold.cohorts import Area, Audience, CohortRules, cohort_of
from ninefold.errors import ConfigurationError

UNITS = [f"customer-{n}" for n in range(20_000)]
shares = st.floats(0.0, 1.0)
salts = st.text(min_size=1, max_size=16)
units = st.text(max_size=40)
HERE = Area(latitude="lat", longitude="lon", south=40.0, north=41.0, west=-75.0, east=-73.0)


def rules(share: float, salt: str = "rollout-1", **audience: Any) -> CohortRules:
    return CohortRules(salt=salt, share=share, audience=Audience(**audience))


def chosen(r: CohortRules) -> set[str]:
    return {unit for unit in UNITS if cohort_of(r, {}, unit) == "candidate"}


@given(salts, units, shares)
def test_a_unit_stays_in_its_cohort(salt: str, unit: str, share: float) -> None:
    first = cohort_of(rules(share, salt), {}, unit)
    assert cohort_of(rules(share, salt), {"other": 1}, unit) == first
    assert cohort_of(CohortRules.from_json(json.loads(json.dumps(rules(share, salt).to_json()))), {}, unit) == first


@given(salts, units, shares, shares)
def test_who_is_in_stays_in_when_the_share_grows(salt: str, unit: str, a: float, b: float) -> None:
    if cohort_of(rules(min(a, b), salt), {}, unit) == "candidate":
        assert cohort_of(rules(max(a, b), salt), {}, unit) == "candidate"


@given(salts, units, shares)
def test_the_hash_lies_below_the_share_of_its_range(salt: str, unit: str, share: float) -> None:
    """The definition, counted exactly, by another route."""
    digest = hashlib.blake2b(unit.encode(), digest_size=8, key=salt.encode()).digest()
    inside = int.from_bytes(digest, "big") < Fraction(share) * 2**64 // 1
    assert (cohort_of(rules(share, salt), {}, unit) == "candidate") == inside


@given(salts, units)
def test_nobody_is_in_at_0_and_everybody_at_1(salt: str, unit: str) -> None:
    assert cohort_of(rules(0.0, salt), {}, unit) == "live"
    assert cohort_of(rules(1.0, salt), {}, unit) == "candidate"


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_the_observed_share_is_that_of_a_fair_draw(share: float) -> None:
    found = len(chosen(rules(share)))
    expected = share * len(UNITS)
    # χ² with one degree of freedom; 15.1 is passed by one fair draw in ten thousand.
    assert (found - expected) ** 2 * (1 / expected + 1 / (len(UNITS) - expected)) < 15.1


def test_two_rollouts_draw_independently() -> None:
    a, b = chosen(rules(0.3, "one")), chosen(rules(0.3, "two"))
    total = len(UNITS)
    table = [[len(a & b), len(a - b)], [len(b - a), total - len(a | b)]]
    rows, columns = [sum(r) for r in table], [sum(c) for c in zip(*table, strict=True)]
    squared = sum(
        (table[i][j] - rows[i] * columns[j] / total) ** 2 / (rows[i] * columns[j] / total)
        for i in range(2)
        for j in range(2)
    )
    assert squared < 15.1


def test_who_is_listed_is_in_and_who_is_never_in_is_not() -> None:
    r = rules(1.0, listed=frozenset({"tester"}), never=frozenset({"ministry"}), attributes={"country": {"DE"}})
    assert cohort_of(r, {"country": "US"}, "tester") == "candidate"
    assert cohort_of(r, {"country": "DE"}, "ministry") == "live"
    assert cohort_of(rules(0.0, listed=frozenset({"tester"})), {}, "tester") == "live"


def test_the_share_is_drawn_from_who_has_the_attribute() -> None:
    r = rules(1.0, attributes={"carrier": frozenset({"UA", "B6"})})
    assert cohort_of(r, {"carrier": "B6"}, "x") == "candidate"
    assert cohort_of(r, {"carrier": "AA"}, "x") == "live"
    assert cohort_of(r, {"carrier": None}, "x") == "live"
    assert cohort_of(r, {}, "x") == "live"


@pytest.mark.parametrize(
    ("place", "inside"),
    [
        ((40.7, -74.0), True),
        ((40.0, -75.0), True),
        ((39.9, -74.0), False),
        ((40.5, -72.9), False),
        ((None, -74), False),
    ],
)
def test_the_share_is_drawn_from_who_is_there(place: tuple[float | None, float], inside: bool) -> None:
    request = dict(zip(("lat", "lon"), place, strict=True))
    assert (cohort_of(rules(1.0, area=HERE), request, "x") == "candidate") == inside


def test_an_area_can_cross_the_date_line() -> None:
    fiji = Area(latitude="lat", longitude="lon", south=-21.0, north=-12.0, west=176.0, east=-178.0)
    assert fiji.holds({"lat": -17.0, "lon": 179.9})
    assert fiji.holds({"lat": -17.0, "lon": -179.9})
    assert not fiji.holds({"lat": -17.0, "lon": 0.0})


def test_rules_are_read_back_as_they_were_written() -> None:
    r = rules(
        0.25, unit=("user",), listed=frozenset({"a"}), never=frozenset({"b"}), attributes={"c": frozenset({"x", "y"})},
        area=HERE,
    )  # fmt: skip
    assert CohortRules.from_json(json.loads(json.dumps(r.to_json()))) == r
    assert r.audience.fields == {"user", "c", "lat", "lon"}


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ConfigurationError, match="share"):
        rules(share)


def test_an_audience_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="never"):
        Audience(listed=frozenset({"a"}), never=frozenset({"a"}))
    with pytest.raises(ConfigurationError, match="no value"):
        Audience(attributes={"carrier": frozenset()})
    with pytest.raises(ConfigurationError, match="salt"):
        rules(0.5, "")
    with pytest.raises(ConfigurationError, match="map"):
        Area(latitude="lat", longitude="lon", south=50.0, north=40.0, west=0.0, east=1.0)


def test_it_costs_two_microseconds_at_most() -> None:
    """Three of a bare hash, measured in turns: the machine may be slow, the ratio is not."""
    r, rounds = rules(0.2), 5_000
    ours, bare = [], []
    for _ in range(9):
        ours.append(timeit.timeit(lambda: cohort_of(r, {}, "customer-1"), number=rounds))
        bare.append(
            timeit.timeit(lambda: hashlib.blake2b(b"customer-1", digest_size=8, key=b"salt").digest(), number=rounds)
        )
    assert min(ours) <= 3 * min(bare)
