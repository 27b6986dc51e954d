"""The actuator against an API server in memory: what is written when, in which order, and what faults leave."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pretended import Pretended, conditions, inference_service

from ninefold.clock import EventClock
from ninefold.errors import ClusterError, NinefoldError, ObjectChanged, StoreError, Unavailable
from ninefold.rollout.policy import RolloutPolicy
from ninefold.routes import RouteTable
from ninefold.settings import Settings
from ninefold.store import Store, StoredRollout, open_store
from serving.traffic.actuator import Actuator
from serving.traffic.carrier import HttpRoutes
from serving.traffic.mirror import REVISION
from serving.traffic.servers import Servers

SETTINGS = Settings()
POLICY = RolloutPolicy(steps=(0.05, 0.5))
AWAY = Unavailable("The API server gave no answer.")


class Seconds:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class House:
    """A store with versions 0 and 1, both ready, and 1 live; two actuators that share the API server's objects."""

    def __init__(self, store: Store) -> None:
        self.store, self.seconds = store, Seconds()
        for number in range(4):
            store.register_version("parcels", f"d{number}", f"s3://m/d{number}", version=number)
        store.set_state("parcels", 1, "live")
        self.api = Pretended()
        self.serve(0)
        self.serve(1)
        self.actuator = self.another(self.api)

    def another(self, api: Pretended | None = None) -> Actuator:
        api = api or self.api.as_manager("ninefold-rollout")
        routes = HttpRoutes(api, "parcels", namespace="ninefold", timeout_seconds=0.5, monotonic=self.seconds)
        servers = Servers(api, "parcels", SETTINGS)  # type: ignore[arg-type]
        return Actuator("parcels", self.store, servers, routes, api, monotonic=self.seconds)

    def serve(self, version: int, **more: Any) -> None:
        made = inference_service("parcels", version, f"d{version}", **more)
        self.api.objects["InferenceService", f"parcels-v{version}"] = made

    def open(self, candidate: int = 2) -> StoredRollout:
        return self.store.open_rollout(
            "parcels", incumbent=1, candidate=candidate, policy=POLICY.to_json(), actor="release", reason="gate",
            salt=f"r{candidate}",
        )  # fmt: skip

    def step(self, state: Any, step: int | None = None, why: str = "so") -> None:
        kept = self.store.rollouts("parcels", limit=1)[0]
        self.store.record_step(
            kept.rollout_id, revision=kept.revision, actor="controller", action="go", state=state, step=step,
            reasons=(why,), live=kept.candidate if state == "promoted" else None,
        )  # fmt: skip

    @property
    def published(self) -> RouteTable:
        found = self.store.published_routes("parcels")
        assert found is not None
        assert found.table is not None
        return found.table

    @property
    def problem(self) -> str:
        found = self.store.published_routes("parcels")
        return "" if found is None else found.problem

    def route(self, name: str = "parcels") -> dict[str, Any]:
        return self.api.objects["HTTPRoute", name]

    @property
    def shares(self) -> dict[str, int]:
        return {b["name"]: b["weight"] for b in self.route()["spec"]["rules"][0]["backendRefs"]}

    @property
    def known(self) -> list[str]:
        rules = self.route("parcels-inner")["spec"]["rules"]
        return [rule["matches"][0]["headers"][0]["value"] for rule in rules]


@pytest.fixture
def house(store: Store) -> House:
    return House(store)


def test_a_rollout_goes_through_the_gateway_and_the_front_end_follows(house: House) -> None:
    house.actuator.act()
    assert (house.published.live, sorted(house.published.variants), house.problem) == (1, [0, 1], "")
    assert house.shares == {"parcels-v1-predictor": 1}
    assert house.route()["metadata"]["annotations"]["ninefold.dev/rollout"] == "none"
    assert house.published.variants[1].url == "http://parcels-v1-predictor.ninefold.svc.cluster.local"
    assert house.published.variants[1].package == "s3://m/d1"

    rollout = house.open()
    house.actuator.act()
    assert house.published.candidate is None
    assert house.problem == "Version 2: its InferenceService was missing and is made."
    made = house.api.objects["InferenceService", "parcels-v2"]
    assert made["spec"]["predictor"]["model"]["storageUri"] == "s3://m/d2"
    house.serve(2, ready=False, why="0 of 1 pods are ready")
    house.actuator.act()
    assert "Version 2: InferenceService parcels-v2: PredictorReady is False: MinimumReplicas" in house.problem
    house.serve(2)
    house.actuator.act()
    assert (house.published.candidate, house.published.shadow, house.problem) == (2, False, "")
    house.step("shadow")
    house.actuator.act()
    assert (house.published.shadow, house.known) == (True, ["0", "1", "2"])
    assert house.shares == {"parcels-v1-predictor": 1}
    house.step("canary", 0, "Better by 2 min.")
    house.actuator.act()
    assert house.shares == {"parcels-v1-predictor": 9_500, "parcels-v2-predictor": 500}
    annotations = house.route()["metadata"]["annotations"]
    assert annotations["ninefold.dev/rollout"] == rollout.rollout_id
    assert annotations["ninefold.dev/state"] == "canary"
    assert annotations["ninefold.dev/share"] == "5.00%"
    assert annotations["ninefold.dev/reasons"] == "Better by 2 min."
    assert annotations[REVISION] == str(house.published.revision)
    house.step("promoted")
    house.actuator.act()
    assert (house.published.live, house.published.candidate) == (2, None)
    assert house.shares == {"parcels-v2-predictor": 1}
    # It left the table, and who has not read that yet still reaches it.
    assert sorted(house.published.variants) == [0, 2]
    assert house.known == ["0", "1", "2"]
    told = [message for _, message, _ in house.api.events]
    assert any("is canary, 5.00%: Better by 2 min." in words for words in told)
    assert any("is promoted, 100.00%" in words for words in told)


def test_where_nothing_changes_nothing_is_written(house: House) -> None:
    house.open()
    house.serve(2)
    house.actuator.act()
    revision, writes, events = house.published.revision, len(house.api.writes), len(house.api.events)
    for _ in range(3):
        house.api.touch("parcels")
        house.actuator.act()
    assert (house.published.revision, len(house.api.writes), len(house.api.events)) == (revision, writes, events)
    # Nor by one that starts anew.
    house.another(house.api).act()
    assert (house.published.revision, len(house.api.writes)) == (revision, writes)


def test_one_that_was_ready_stays_routed_while_its_pod_comes_back(house: House) -> None:
    house.actuator.act()
    before = house.published
    house.serve(1, ready=False, why="0 of 1 pods are ready")
    house.actuator.act()
    assert house.published == before
    assert "Version 1: InferenceService parcels-v1" in house.problem


def test_the_front_end_is_not_sent_where_the_gateway_has_not_looked(house: House) -> None:
    house.actuator.act()
    house.api.takes = False
    house.open()
    house.serve(2)
    house.actuator.act()
    # Generation 2, and the gateway has looked at 1.
    assert (house.published.candidate, house.problem) == (None, "")
    house.seconds.now += 11
    house.actuator.act()
    assert house.published.candidate is None
    assert "HTTPRoute parcels-inner in namespace ninefold: the Gateway models-inner has not looked" in house.problem
    assert "There is no Gateway models-inner in namespace ninefold" in house.problem
    assert ("RoutesHeld", house.problem, True) in house.api.events
    revision = house.route("parcels-inner")["metadata"]["annotations"][REVISION]
    for parent in (route := house.route("parcels-inner"))["status"]["parents"]:
        parent["conditions"] = conditions(route["metadata"]["generation"], ResolvedRefs="BackendNotFound")
    house.actuator.act()
    assert "is not taken by the Gateway models-inner: BackendNotFound: About ResolvedRefs (KServe" in house.problem
    for name in ("parcels", "parcels-inner"):
        route = house.route(name)
        route["status"]["parents"][0]["conditions"] = conditions(route["metadata"]["generation"])
    house.actuator.act()
    assert (house.published.candidate, house.problem) == (2, "")
    assert str(house.published.revision) == revision
    assert house.api.events[-1][0] == "RoutesFollow"


def test_a_hand_is_told_and_not_fought(house: House) -> None:
    house.open()
    house.serve(2)
    house.step("shadow")
    house.actuator.act()

    def all_to_two(document: dict[str, Any]) -> None:
        document["spec"]["rules"][0]["backendRefs"] = [{"name": "parcels-v2-predictor", "port": 80, "weight": 1}]

    house.api.edit("parcels", all_to_two)
    house.actuator.act()
    assert "HTTPRoute parcels in namespace ninefold was changed by hand: kubectl-edit set spec.rules" in house.problem
    assert "kubectl delete httproute parcels -n ninefold" in house.problem
    writes = len(house.api.writes)
    house.step("rolled_back", why="It is worse.")
    house.actuator.act()
    # The front end's half goes back at once; the edited half stays as somebody wanted it.
    assert house.published.candidate is None
    assert house.shares == {"parcels-v2-predictor": 1}
    assert [w["metadata"]["name"] for w in house.api.writes[writes:]] == ["parcels-inner"]
    assert "was changed by hand" in house.problem
    house.api.delete("v1", "HTTPRoute", "parcels")
    house.actuator.act()
    assert (house.shares, house.problem) == ({"parcels-v1-predictor": 1}, "")


def test_a_changed_annotation_is_a_hand_too(house: House) -> None:
    house.actuator.act()
    house.api.edit("parcels", lambda d: d["metadata"]["annotations"].update({"ninefold.dev/share": "50.00%"}))
    house.actuator.act()
    assert "kubectl-edit set annotation ninefold.dev/share" in house.problem


def test_one_that_wakes_up_late_puts_nothing_older_back(house: House) -> None:
    house.actuator.act()
    old, house.api.meanwhile = house.actuator, lambda: None
    slow = Pretended(objects=house.api.objects)
    sleeper = house.another(slow)
    sleeper.act()
    house.open()
    house.serve(2)
    house.step("shadow")
    house.step("canary", 0)

    def sleep() -> None:
        slow.meanwhile = lambda: None
        house.step("canary", 1)
        old.act()
        house.step("rolled_back")
        old.act()

    # It read, decided for 5 %, and slept while another went on to 50 % and back to none.
    slow.meanwhile = sleep
    sleeper.act()
    assert house.shares == {"parcels-v1-predictor": 1}
    assert house.published.candidate is None
    revision = house.published.revision
    assert house.route()["metadata"]["annotations"][REVISION] == str(revision)
    sleeper.act()
    assert (house.published.revision, house.problem) == (revision, "")


def test_killed_between_the_route_and_the_store_the_next_goes_on_past_it(house: House) -> None:
    house.actuator.act()
    house.open()
    house.serve(2)
    house.step("shadow")
    publish = house.store.publish_routes

    def die(_: RouteTable) -> Any:
        raise StoreError("killed")

    house.store.publish_routes = die  # type: ignore[method-assign, assignment]
    house.actuator.act()
    assert (house.published.candidate, house.known) == (None, ["0", "1", "2"])
    written = int(house.route()["metadata"]["annotations"][REVISION])
    house.store.publish_routes = publish  # type: ignore[method-assign]
    house.step("canary", 0)
    house.another().act()
    assert house.published.revision > written
    assert (house.published.candidate, house.problem) == (2, "")
    assert house.route()["metadata"]["annotations"][REVISION] == str(house.published.revision)


def test_without_the_api_server_a_rollout_still_goes_back(house: House) -> None:
    house.open()
    house.serve(2)
    house.step("shadow")
    house.step("canary", 0)
    house.actuator.act()
    house.step("rolled_back", why="It fails.")
    house.api.before = [AWAY]
    house.actuator.act()
    # Clients of the front end are with the live version at once; the weights follow when they can.
    assert house.published.candidate is None
    assert house.problem == str(AWAY)
    assert "parcels-v2-predictor" in house.shares
    house.actuator.act()
    assert (house.shares, house.problem) == ({"parcels-v1-predictor": 1}, "")


def test_who_does_not_know_whether_it_leads_leaves_the_gateway_alone(house: House) -> None:
    house.open()
    house.serve(2)
    house.step("shadow")
    house.step("canary", 0)
    house.actuator.act()
    writes = len(house.api.writes)
    house.step("rolled_back", why="It fails.")
    house.another(house.api).act(doubt="The lease can't be asked.")
    assert (len(house.api.writes), house.published.candidate) == (writes, None)
    assert house.problem == "The lease can't be asked."
    house.store.set_state("parcels", 3, "live")
    house.actuator.act(doubt="The lease can't be asked.")
    assert (house.published.live, sorted(house.published.variants)) == (1, [0, 1])


def test_without_the_api_server_nothing_new_is_promised(house: House) -> None:
    house.actuator.act()
    house.open()
    house.serve(2)
    house.api.before = [AWAY]
    house.actuator.act()
    assert house.published.candidate is None
    house.actuator.act()
    assert house.published.candidate == 2


def test_missing_definitions_are_told(house: House) -> None:
    missing = ClusterError(
        "The cluster knows no HTTPRoute: its CustomResourceDefinition is missing.", remedy="Install."
    )
    house.api.before = [missing]
    house.actuator.act()
    assert house.problem == str(missing)
    house.actuator.act()
    assert house.problem == ""


def test_without_the_store_routes_stay(house: House) -> None:
    house.actuator.act()
    writes = len(house.api.writes)
    versions = house.store.versions

    def away(_: str) -> Any:
        raise StoreError("The store does not answer.")

    house.store.versions = away  # type: ignore[method-assign, assignment]
    house.actuator.act()
    assert house.actuator.problem == "The store does not answer."
    assert len(house.api.writes) == writes
    house.store.versions = versions  # type: ignore[method-assign]
    house.actuator.act()
    assert house.actuator.problem == ""


_FAULTS: list[Callable[[], NinefoldError | None]] = [
    lambda: None, lambda: ObjectChanged("409"), lambda: Unavailable("429"), lambda: ClusterError("500"),
]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_fails_in_between_revisions_grow_and_all_is_in_force_in_the_end(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    clock = EventClock(datetime(2024, 1, 1, tzinfo=UTC))
    with open_store(f"sqlite:///{tmp_path_factory.mktemp('s') / 'store.db'}", clock=clock) as store:
        house = House(store)
        house.open()
        house.serve(2)
        both = [house.actuator, house.another()]
        apis: list[Pretended] = [actuator._events for actuator in both]  # type: ignore[misc]
        moves: list[tuple[Any, int | None]] = [("shadow", None), ("canary", 0), ("canary", 1)]
        moves.append(data.draw(st.sampled_from([("promoted", None), ("rolled_back", None)])))
        newest = {"route": 0, "store": 0}
        for move in moves:
            house.step(*move)
            for _ in range(data.draw(st.integers(0, 3))):
                which = data.draw(st.integers(0, 1))
                faults = st.lists(st.sampled_from(range(len(_FAULTS))), max_size=4)
                apis[which].before = [_FAULTS[n]() for n in data.draw(faults)]
                apis[which].after = [_FAULTS[n]() for n in data.draw(faults)]
                if data.draw(st.booleans()):
                    both[which] = house.another(apis[which])
                both[which].act()
                route = house.api.objects.get(("HTTPRoute", "parcels-inner"))
                now = {
                    "route": 0 if route is None else int(route["metadata"]["annotations"][REVISION]),
                    "store": 0 if (found := store.published_routes("parcels")) is None else found.revision,
                }
                assert all(now[name] >= newest[name] for name in now)
                newest = now
                if newest["store"]:
                    # What front ends ask for is there.
                    assert {str(v) for v in house.published.variants} <= set(house.known)
        for api in apis:
            api.before, api.after = [], []
        both[0].act()
        live = 2 if moves[-1][0] == "promoted" else 1
        assert (house.published.live, house.published.candidate, house.problem) == (live, None, "")
        assert house.shares == {f"parcels-v{live}-predictor": 1}
        assert house.route()["metadata"]["annotations"][REVISION] == str(house.published.revision)


def test_servers_that_nobody_needs_go_and_those_in_the_routes_stay(house: House) -> None:
    clock = EventClock(datetime.now(UTC))
    house.store.clock = clock
    for candidate in (2, 3):
        house.store.open_rollout(
            "parcels", incumbent=candidate - 1, candidate=candidate, policy=POLICY.to_json(), actor="release"
        )
        house.serve(candidate)
        house.step("shadow")
        house.actuator.act()
        house.step("promoted")
        house.actuator.act()
        clock.advance(clock.now() + timedelta(minutes=1))
    there = {name for kind, name in house.api.objects if kind == "InferenceService"}
    assert there == {"parcels-v0", "parcels-v1", "parcels-v2", "parcels-v3"}
    clock.advance(clock.now() + timedelta(minutes=10))
    house.actuator.act()
    # The last one that was live stays warm.
    there = {name for kind, name in house.api.objects if kind == "InferenceService"}
    assert there == {"parcels-v0", "parcels-v2", "parcels-v3"}
    house.actuator.act()
    assert house.known == ["0", "2", "3"]
    # Gone back to by hand, to one that is gone: it is made anew, and answers when it is ready.
    house.store.set_state("parcels", 1, "live")
    house.actuator.act()
    assert (house.published.live, "made" in house.problem) == (3, True)
    house.serve(1)
    house.actuator.act()
    assert (house.published.live, house.problem) == (1, "")
