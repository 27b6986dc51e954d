"""A whole house for the front end: online rows, a package, routes, keys; a model server in a process of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import parcels
import pytest

from ninefold.cohorts import Audience, CohortRules
from ninefold.keys import local_key
from ninefold.online import OnlineRow, open_online_store
from ninefold.package import write_package
from ninefold.routes import RouteTable, Variant, write_routes
from ninefold.settings import settings
from ninefold.signature import InputStatistics, PackageManifest, Signature

HERE = Path(__file__).parent

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
"""Now, in these tests."""

INSTANCE = {
    "parcel": "P1",
    "shop": "books",
    "zone": "north",
    "vehicle": "bike",
    "distance": 20.0,
    "items": 2,
    "express": True,
    "ordered_at": "2026-03-01T12:00:00Z",
    "note": None,
}


def manifest(**changes: Any) -> PackageManifest:
    """A package's manifest.

    Args:
        changes: Of the manifest; ``derive_digest``, ``inputs`` and ``views`` of its signature, ``key`` of all views.
    """
    use_case = parcels.USE_CASE
    views = changes.pop("views", use_case.feature_views())
    if "key" in changes:
        key = changes.pop("key")
        views = tuple(replace(view, key=key) for view in views)
    signature = Signature(
        use_case="parcels:USE_CASE",
        problem="regression",
        inputs=changes.pop("inputs", use_case.inputs),
        views=views,
        derive_digest=changes.pop("derive_digest", use_case.derive_digest),
        target="minutes",
        unit="min",
    )
    number = {"null_share": 0.0, "mean": 1.0, "deviation": 1.0}
    statistics = {
        "distance": InputStatistics(minimum=0.0, maximum=50.0, reference=10.0, **number),
        "shop_minutes": InputStatistics(minimum=0.0, maximum=50.0, reference=2.0, **number),
        "zone_minutes": InputStatistics(minimum=0.0, maximum=50.0, reference=3.0, **number),
        "express": InputStatistics(minimum=0.0, maximum=1.0, reference=0.0, **number),
        "vehicle": InputStatistics(null_share=0.0, reference="bike", categories={"bike": 9, "van": 1}),
        "zone": InputStatistics(null_share=0.0, reference="north", categories={"north": 9, "south": 1}),
        "shop_kind": InputStatistics(null_share=0.0, reference="media", categories={"media": 10}),
    }
    statistics.update(changes.pop("statistics", {}))
    path = {"path": use_case.baseline_path, "digest": use_case.baseline_digest}
    return PackageManifest(format="baseline", signature=signature, statistics=statistics, baseline=path, **changes)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(url: str, process: subprocess.Popen[bytes], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            httpx.get(url, timeout=1.0)
            return
        except httpx.TransportError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{url} does not answer; exit code {process.poll()}") from None
            time.sleep(0.03)


@dataclass
class ToyModel:
    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def mode(self, mode: str) -> list[Any]:
        return httpx.post(f"{self.url}/mode", json={"mode": mode}).json()["seen"]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@contextmanager
def toy_model(port: int | None = None) -> Iterator[ToyModel]:
    port = port or free_port()
    process = subprocess.Popen([sys.executable, str(HERE / "toy_model.py"), str(port)])
    try:
        wait_for(f"http://127.0.0.1:{port}/mode", process)
        yield ToyModel(port, process)
    finally:
        process.kill()
        process.wait()


class House:
    """What the front end finds at its start, in this test's own home."""

    def __init__(self) -> None:
        self.settings = settings()
        self.key = local_key(self.settings.home, self.settings.home / "keys.json")
        self.routes = self.settings.home / "gateway" / "parcels.json"
        self.revision = 0
        self.online = open_online_store(self.settings.online_url)
        self.write_shop("books", NOON.replace(hour=6), 3.0, "media")
        self.write_shop("dusty", NOON.replace(day=1, month=2), 4.0, "media")
        self.write_zone("north", NOON.replace(hour=11), 4.0, 12)
        self.online.advance_watermark("zone_speed_1h", NOON)
        self.digest, self.package = self.write_package(manifest())

    def write_shop(self, shop: str, known_at: datetime, minutes: float, kind: str) -> None:
        self.online.write("shop", [OnlineRow(shop, known_at, (minutes, kind))])

    def write_zone(self, zone: str, known_at: datetime, mean: float, count: int) -> None:
        self.online.write("zone_speed_1h", [OnlineRow(zone, known_at, (mean, float(count)))])

    def write_package(self, content: PackageManifest) -> tuple[str, str]:
        return write_package(self.settings.models_url, content, {})

    def route(
        self, url: str | None, *, version: int = 3, digest: str | None = None, package: str | None = None
    ) -> None:
        self.revision += 1
        variants = {}
        if url is not None:
            variants[version] = Variant(
                version=version, url=url, package=package or self.package, digest=digest or self.digest
            )
        live = version if variants else None
        write_routes(self.routes, RouteTable(use_case="parcels", revision=self.revision, live=live, variants=variants))

    def roll_out(
        self,
        live: str,
        candidate: str,
        *,
        version: int = 3,
        tried: int = 4,
        package: tuple[str, str] | None = None,
        share: float = 0.0,
        audience: Audience | None = None,
        shadow: bool = False,
        rollout: str = "r1",
        rollout_revision: int = 1,
    ) -> CohortRules:
        """Routes with an open rollout.

        Args:
            live: Address of the live version.
            candidate: Address of the candidate.
            version: Number of the live version.
            tried: Number of the candidate.
            package: Digest and folder of the candidate's package; the live version's by default.
            share: Share of the candidate's cohort.
            audience: Whom it is drawn from.
            shadow: Whether the candidate is shadowed.
            rollout: Id of the rollout, and its salt.
            rollout_revision: Its revision.
        """
        self.revision += 1
        digest, folder = package or (self.digest, self.package)
        rules = CohortRules(salt=rollout, share=share, audience=audience or Audience())
        table = RouteTable(
            use_case="parcels",
            revision=self.revision,
            live=version,
            variants={
                version: Variant(version=version, url=live, package=self.package, digest=self.digest),
                tried: Variant(version=tried, url=candidate, package=folder, digest=digest),
            },
            candidate=tried,
            rollout=rollout,
            rollout_revision=rollout_revision,
            shadow=shadow,
            cohorts=rules.to_json() if share else {},
        )
        write_routes(self.routes, table)
        return rules


@contextmanager
def shared_house(home: Path) -> Iterator[House]:
    """A house that outlives a test: the fixture that gives every test a home of its own does not reach here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NINEFOLD_HOME", str(home))
        settings.cache_clear()
        house = House()
        try:
            yield house
        finally:
            house.online.close()
    settings.cache_clear()


@dataclass
class Running:
    """A front end in a process of its own."""

    port: int
    process: subprocess.Popen[bytes]
    client: httpx.Client

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def predict(self, *instances: dict[str, Any], wait: str = "", **headers: str) -> dict[str, Any]:
        response = self.client.post(
            "/v1/models/parcels:predict" + (f"?wait={wait}" if wait else ""),
            json={"instances": list(instances)},
            headers={k.replace("_", "-"): v for k, v in headers.items()},
        )
        assert response.status_code == 200, response.text
        document: dict[str, Any] = response.json()
        return document

    def described(self) -> dict[str, Any]:
        document: dict[str, Any] = self.client.get("/v1/models/parcels").json()
        return document

    def adopts(self, house: House, seconds: float = 10.0) -> dict[str, Any]:
        """Waits until it goes by the house's newest routes; the rollout that it describes then."""
        deadline = time.monotonic() + seconds
        while (described := self.described())["revision"] != house.revision:
            assert time.monotonic() < deadline, f"the routes are not taken: {described['problem']}"
            time.sleep(0.03)
        rollout: dict[str, Any] = described["rollout"]
        return rollout

    def metric(self, sample: str) -> float:
        for line in self.client.get("/metrics").text.splitlines():
            if line.startswith(sample):
                return float(line.rpartition(" ")[2])
        return 0.0


@contextmanager
def running(house: House, port: int | None = None, **environment: str) -> Iterator[Running]:
    """A front end; the tests' requests are of noon, so its clock is the requests' own."""
    port = port or free_port()
    process = start(port, **{"NINEFOLD_HOME": str(house.settings.home), **environment})
    try:
        wait_for(f"http://127.0.0.1:{port}/healthz", process)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"X-ApiKey": house.key}, timeout=10) as client:
            yield Running(port, process, client)
    finally:
        process.kill()
        process.communicate()


def start(
    port: int, *, use_case: str = "parcels:USE_CASE", limit: int = 0, **environment: str
) -> subprocess.Popen[bytes]:
    """Starts a front end's process.

    Args:
        port: Its port.
        use_case: What it serves.
        limit: Size in bytes past which no file of it can grow: a disk that is full; 0 for none.
        environment: More of its environment.
    """
    command = [sys.executable, "-m", "serving.front_end", "--use-case", use_case, "--port", str(port)]
    if limit:
        command = ["prlimit", f"--fsize={limit}", *command]
    return subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": str(HERE), "NINEFOLD_CLOCK": "event", **environment},
        stderr=subprocess.PIPE,
    )


@dataclass
class Load:
    """What clients saw who asked without a pause."""

    answers: list[dict[str, Any]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


@contextmanager
def load(up: Running, clients: int = 4) -> Iterator[Load]:
    """Asks until the block ends."""
    seen = Load()
    ending = threading.Event()

    def ask(number: int) -> None:
        with httpx.Client(base_url=up.url, headers=up.client.headers, timeout=10) as client:
            count = 0
            while not ending.is_set():
                count += 1
                instance = {**INSTANCE, "parcel": f"C{number}{count:06d}"}
                try:
                    response = client.post("/v1/models/parcels:predict", json={"instances": [instance]})
                except httpx.TransportError as error:
                    seen.refused.append(repr(error))
                    if up.process.poll() is not None:
                        return
                    continue
                if response.status_code == 200:
                    seen.answers.append(response.json()["predictions"][0])
                else:
                    seen.refused.append(response.text)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        ending.set()
        for thread in threads:
            thread.join()


def body(*instances: Any) -> bytes:
    return json.dumps({"instances": list(instances)}).encode()
