"""Knative: what is asked of KServe, and that no front end ever takes one version for another."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from on_cluster import why_none
from pretended import Pretended

from ninefold.clock import EventClock
from ninefold.cluster.api import ClusterApi
from ninefold.errors import DataError, FieldConflict
from ninefold.rollout.policy import RolloutPolicy
from ninefold.routes import RouteTable, Variant
from ninefold.settings import Settings
from ninefold.store import Store
from serving.traffic.knative import (
    Followed,
    Key,
    Revisions,
    host_url,
    knative_service,
    move,
    percent_of,
    require_two,
    revisions,
)
from serving.traffic.knative_actuator import KnativeActuator

SETTINGS = Settings()
START = datetime(2026, 1, 1, tzinfo=UTC)


class Knative:
    """As KServe moves traffic: a revision is rolled out once it is ready and nothing holds its share."""

    def __init__(self) -> None:
        self.at = Revisions()
        self.rolled_out: Key | None = None

    def apply(self, wanted: Revisions) -> None:
        ready = self.at.ready and wanted.latest == self.at.latest
        self.at = Revisions(wanted.latest, wanted.previous, wanted.percent, ready)
        self._roll()

    def get_ready(self) -> None:
        self.at = Revisions(self.at.latest, self.at.previous, self.at.percent, True)
        self._roll()

    def _roll(self) -> None:
        if self.at.ready and self.at.percent is None:
            self.rolled_out = self.at.latest

    def answers(self, tag: str) -> Key | None:
        """Who answers by a tag; None for nobody, or for one or the other."""
        if tag == "latest":
            return self.at.latest
        if tag == "prev":
            return self.rolled_out if self.at.percent is not None else None
        if self.at.percent is None:
            return self.at.latest if self.at.ready else self.rolled_out
        return self.rolled_out if self.at.percent == 0 else None


def key(version: int) -> Key:
    return version, f"d{version}"


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_what_front_ends_go_by_is_always_the_version_that_they_mean(data: st.DataObject) -> None:
    knative, live, candidate, newest, percent = Knative(), 1, None, 1, 0
    published: dict[int, str] = {}
    late: dict[int, str] = {}
    ticks_since = 9
    for _ in range(40):
        match data.draw(st.sampled_from(["tick"] * 5 + ["ready"] * 2 + ["decide"])):
            case "ready":
                if knative.at.latest is not None:
                    knative.get_ready()
            case "decide":
                what = data.draw(st.sampled_from(["open", "share", "promote", "roll back", "by hand"]))
                if what == "open" and candidate is None:
                    newest += 1
                    candidate, percent = newest, 0
                elif what == "share" and candidate is not None:
                    percent = data.draw(st.integers(0, 100))
                elif what == "promote" and candidate in published:
                    live, candidate, percent = candidate or live, None, 0
                elif what == "roll back":
                    candidate, percent = None, 0
                elif what == "by hand":
                    live, candidate, percent = data.draw(st.integers(1, newest)), None, 0
            case _:
                ticks_since += 1
                settled = ticks_since >= 2
                if settled:
                    late = dict(published)
                found = move(
                    knative.at, key(live), None if candidate is None else key(candidate), percent,
                    Followed(published, settled),
                )  # fmt: skip
                if found.live is not None and dict(found.hosts) != published:
                    published, ticks_since = dict(found.hosts), 0
                knative.apply(found.wanted)
        for table in (published, late):
            for version, tag in table.items():
                assert knative.answers(tag) == key(version), (table, tag, knative.at)
    # Left alone, it arrives.
    for _ in range(30):
        knative.get_ready()
        found = move(knative.at, key(live), None if candidate is None else key(candidate), percent,
                     Followed(published, True))  # fmt: skip
        published = dict(found.hosts)
        knative.apply(found.wanted)
    assert found.live == live
    if candidate is None:
        assert knative.answers(published[live]) == key(live)
        assert knative.answers("") == key(live)
    else:
        assert published == {live: "prev", candidate: "latest"}
        assert knative.at.percent == percent


def variant(version: int) -> Variant:
    return Variant(version=version, url=f"http://v{version}", package=f"s3://m/d{version}", digest=f"d{version}")


def test_more_than_two_versions_are_refused() -> None:
    table = RouteTable(
        use_case="parcels", revision=1, live=1, candidate=2, weights={1: 1, 2: 1, 3: 1}, rollout="r",
        variants={n: variant(n) for n in (1, 2, 3)},
    )  # fmt: skip
    with pytest.raises(DataError, match=r"two versions of parcels at once, and versions 1, 2, 3 .*ROUTES to ht"):
        require_two(table)
    require_two(RouteTable(use_case="parcels", revision=1, live=1, variants={n: variant(n) for n in (0, 1)}))


def test_shares_are_whole_percents() -> None:
    assert percent_of({1: 9_500, 2: 500}, 2) == 5
    assert percent_of({1: 9_960, 2: 40}, 2) == 0
    assert percent_of({}, None) == 0


POLICY = RolloutPolicy(steps=(0.05,))


@pytest.fixture
def parcels(store: Store) -> Store:
    for number in range(3):
        store.register_version("parcels", f"d{number}", f"s3://m/d{number}", version=number)
    store.set_state("parcels", 1, "live")
    store.clock = EventClock(START)
    return store


def test_a_rollout_by_one_service_and_two_revisions(parcels: Store) -> None:
    api, clock = Pretended(), parcels.clock
    actuator = KnativeActuator("parcels", parcels, api, SETTINGS)

    def tick(seconds: int = 11) -> dict[str, Any]:
        assert isinstance(clock, EventClock)
        actuator.act()
        clock.advance(clock.now() + timedelta(seconds=seconds))
        actuator.act()
        return api.objects["InferenceService", "parcels"]

    def ready() -> None:
        found = api.objects["InferenceService", "parcels"]
        found["status"] = {
            "observedGeneration": found["metadata"]["generation"], "conditions": [{"type": "Ready", "status": "True"}],
        }  # fmt: skip

    def step(state: Any, step: int | None = None, live: int | None = None) -> None:
        kept = parcels.rollouts("parcels", limit=1)[0]
        parcels.record_step(
            kept.rollout_id, revision=kept.revision, actor="c", action="go", state=state, step=step, live=live
        )

    made = tick()
    assert made["spec"]["predictor"]["model"]["storageUri"] == "s3://m/d1"
    assert "canaryTrafficPercent" not in made["spec"]["predictor"]
    assert "its newest revision is not ready" in actuator.problem
    ready()
    tick()
    assert actuator.problem == ""
    assert actuator.table.variants[1].url == host_url("parcels", "", "ninefold")
    assert host_url("parcels", "", "ninefold") == "http://parcels-predictor.ninefold.svc.cluster.local"
    parcels.open_rollout("parcels", incumbent=1, candidate=2, policy=POLICY.to_json(), actor="release")
    made = tick()
    assert made["spec"]["predictor"]["canaryTrafficPercent"] == 0
    assert made["spec"]["predictor"]["model"]["storageUri"] == "s3://m/d2"
    ready()
    step("shadow")
    step("canary", 0)
    made = tick()
    ready()
    made = tick()
    assert made["spec"]["predictor"]["canaryTrafficPercent"] == 5
    assert made["metadata"]["annotations"]["serving.kserve.io/enable-tag-routing"] == "true"
    assert made["metadata"]["annotations"]["ninefold.dev/share"] == "5.00%"
    assert {v: found.url for v, found in actuator.table.variants.items()} == {
        1: "http://prev-parcels-predictor.ninefold.svc.cluster.local",
        2: "http://latest-parcels-predictor.ninefold.svc.cluster.local",
    }
    ready()
    step("promoted", live=2)
    made = tick()
    ready()
    made = tick()
    assert "canaryTrafficPercent" not in made["spec"]["predictor"]
    ready()
    tick()
    assert (actuator.table.live, actuator.table.variants[2].url) == (2, host_url("parcels", "", "ninefold"))


def test_a_hand_is_told(parcels: Store) -> None:
    api = Pretended()
    actuator = KnativeActuator("parcels", parcels, api, SETTINGS)
    api.before = [None, FieldConflict("InferenceService parcels was changed by somebody else: kubectl.", managers={})]
    actuator.act()
    assert actuator.problem == "InferenceService parcels was changed by somebody else: kubectl."


@pytest.mark.parametrize("wanted", [Revisions(key(1)), Revisions(key(2), key(1), 0), Revisions(key(2), key(1), 5)])
def test_the_api_server_accepts_it(parcels: Store, wanted: Revisions) -> None:
    if reason := why_none():
        pytest.skip(reason)
    assert wanted.latest is not None
    version = parcels.version("parcels", wanted.latest[0])
    assert version is not None
    document = knative_service("parcels", wanted, version, SETTINGS, {"ninefold.dev/share": "5.00%"})
    document["metadata"]["namespace"] = "default"
    api = ClusterApi("default", field_manager="ninefold-rollout")
    found = api.apply(document, dry_run=True)
    api.close()
    assert revisions(found) == Revisions(wanted.latest, wanted.previous, wanted.percent)
