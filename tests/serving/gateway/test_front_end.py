"""A real front end that reaches its model through a real Envoy: what breaks between them never breaks a prediction."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

import pytest
from gateway_house import Running, eventually, free_port
from parcel_house import INSTANCE, House, load, toy_model
from parcel_house import running as front_end

from ninefold.routes import RouteTable, Variant, write_routes
from ninefold.settings import Gateway as GatewaySettings
from ninefold.settings import Ports
from serving.gateway.process import Gateway, find_envoy

BASELINE = 10 + 20 + 3


@pytest.fixture
def house() -> Iterator[House]:
    built = House()
    yield built
    built.online.close()


@pytest.fixture
def gateway(house: House) -> Iterator[Running]:
    """Not yet given a route."""
    program, reason = find_envoy()
    assert program is not None, reason
    ports = Ports(gateway=free_port(), gateway_inner=free_port())
    settings = house.settings.model_copy(update={"ports": ports, "gateway": GatewaySettings()})
    up = Running(Gateway(settings, program), settings)
    up.gateway.begin(RouteTable(use_case="parcels", revision=0, live=None))
    up.start()
    yield up
    up.kill()


def route(house: House, up: Running, url: str) -> None:
    house.revision += 1
    served = Variant(version=3, url=url, package=house.package, digest=house.digest)
    table = RouteTable(
        use_case="parcels", revision=house.revision, live=3, variants={3: served}, gateway=up.gateway.inner
    )
    assert up.gateway.publish(table)
    write_routes(house.routes, table)


def test_a_gateway_or_model_killed_under_load_fails_no_prediction_and_both_are_taken_back(
    house: House, gateway: Running
) -> None:
    port = free_port()
    with toy_model(port) as model:
        route(house, gateway, model.url)
        with front_end(house) as up, load(up) as seen:
            eventually(lambda: len(seen.answers) > 50)
            headers = model.mode("good")[0]
            gateway.kill()
            eventually(lambda: seen.answers[-1]["fallback"] == "model_unreachable")
            gateway.start()
            eventually(lambda: seen.answers[-1]["fallback"] is None)
            model.kill()
            eventually(lambda: seen.answers[-1]["fallback"] == "model_unreachable")
            with toy_model(port) as again:
                eventually(lambda: seen.answers[-1]["fallback"] is None)
                again.mode("slow")
                eventually(lambda: seen.answers[-1]["fallback"] == "model_slow")
                again.mode("error")
                eventually(lambda: seen.answers[-1]["fallback"] == "model_error")
                time.sleep(0.1)
    assert seen.refused == []
    assert (headers["x-ninefold-version"], headers["x-ninefold-cohort"]) == ("3", "live")
    assert "x-ninefold-inner" not in headers
    reasons = Counter(answer["fallback"] for answer in seen.answers)
    assert set(reasons) == {None, "model_unreachable", "model_slow", "model_error"}
    assert all(a["prediction"] == BASELINE and a["version"] == 0 for a in seen.answers if a["fallback"])


def test_a_table_that_drops_the_gateway_leads_to_the_model_directly(house: House, gateway: Running) -> None:
    with toy_model() as model:
        route(house, gateway, model.url)
        with front_end(house) as up:
            assert up.predict(INSTANCE)["predictions"][0]["fallback"] is None
            gateway.kill()
            house.route(model.url)
            eventually(lambda: up.predict(INSTANCE)["predictions"][0]["fallback"] is None)
            assert "x-ninefold-version" not in model.mode("good")[0]
