"""The follower of published routes: what the front end is given, and what it keeps when something is away."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from parcel_house import INSTANCE, free_port, running, start
from parcel_house import House as ParcelHouse

from ninefold.errors import PackageError, StoreError, Unavailable
from ninefold.routes import InnerGateway, RouteTable, Variant, read_routes
from ninefold.store import Store, open_store
from serving.front_end.route_follower import RouteFollower

GATEWAY = InnerGateway(url="http://models-inner", secret="s3cret")


def variant(version: int) -> Variant:
    return Variant(
        version=version, url=f"http://parcels-v{version}", package=f"s3://m/d{version}", digest=f"d{version}"
    )  # fmt: skip


def table(revision: int, live: int = 1, candidate: int | None = None) -> RouteTable:
    versions = {0, live} | ({candidate} if candidate is not None else set())
    rollout = "r" if candidate is not None else None
    return RouteTable(
        use_case="parcels", revision=revision, live=live, variants={n: variant(n) for n in sorted(versions)},
        candidate=candidate, rollout=rollout, rollout_revision=1 if rollout else None,
    )  # fmt: skip


class House:
    def __init__(self, folder: Path) -> None:
        self.folder, self.url = folder, f"sqlite:///{folder / 'store.db'}"
        self.store = open_store(self.url)
        self.path = folder / "gateway" / "parcels.json"
        self.fetched: list[str] = []
        self.missing: set[str] = set()
        self.away = False
        self.follower = self.another()

    def another(self) -> RouteFollower:
        return RouteFollower(
            "parcels", path=self.path, models=self.folder / "models", open_store=self.open, fetch=self.fetch,
            gateway=GATEWAY,
        )  # fmt: skip

    def open(self) -> Store:
        if self.away:
            raise StoreError("The store does not answer.")
        return open_store(self.url, migrating=False)

    def fetch(self, uri: str, digest: str, folder: Path) -> Path:
        if digest in self.missing:
            raise Unavailable(f"{uri} can't be fetched.")
        self.fetched.append(uri)
        (folder / digest).mkdir(parents=True, exist_ok=True)
        return folder / digest

    @property
    def followed(self) -> RouteTable:
        found = read_routes(self.path)
        assert found is not None
        return found


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.follower.stop()
    made.store.close()


@pytest.fixture
def parcels_house() -> Iterator[ParcelHouse]:
    built = ParcelHouse()
    yield built
    built.online.close()


def test_routes_are_followed_with_packages_here_and_the_gateways_secret(house: House) -> None:
    assert not house.follower.follow()
    assert not house.path.exists()
    house.store.publish_routes(table(1))
    assert house.follower.follow()
    found = house.followed
    assert (found.revision, found.live, found.gateway) == (1, 1, GATEWAY)
    assert found.variants[1].package == str(house.folder / "models" / "d1")
    # Whoever has no inputs made for it needs no package.
    assert house.fetched == ["s3://m/d1"]
    assert not house.follower.follow()
    house.store.publish_routes(table(2, candidate=2))
    assert house.follower.follow()
    assert house.followed.candidate == 2
    assert house.fetched == ["s3://m/d1", "s3://m/d2"]
    assert house.path.stat().st_mode & 0o077 == 0


def test_a_store_that_is_away_leaves_the_last_routes_also_after_a_restart(house: House) -> None:
    house.store.publish_routes(table(1))
    house.follower.follow()
    house.away = True
    restarted = house.another()
    assert not restarted.follow()
    assert restarted.problem == "The store does not answer."
    assert house.followed.revision == 1
    house.away = False
    assert not restarted.follow()
    assert restarted.problem is None
    house.store.publish_routes(table(2, live=2))
    assert restarted.follow()
    assert (house.followed.live, restarted.problem) == (2, None)
    restarted.stop()


def test_a_live_package_that_can_not_be_had_keeps_the_last_routes_and_is_tried_again(house: House) -> None:
    house.store.publish_routes(table(1))
    house.follower.follow()
    house.missing = {"d2"}
    house.store.publish_routes(table(2, live=2))
    for _ in range(2):
        assert not house.follower.follow()
        assert house.follower.problem == "s3://m/d2 can't be fetched."
        assert house.followed.live == 1
    house.missing = set()
    assert house.follower.follow()
    assert (house.followed.live, house.follower.problem) == (2, None)


def test_a_candidates_package_keeps_nothing_else_back(house: House) -> None:
    house.store.publish_routes(table(1))
    house.missing = {"d2"}
    house.store.publish_routes(table(2, candidate=2))
    assert not house.follower.follow()
    found = house.followed
    assert (found.revision, found.candidate) == (2, 2)
    assert not Path(found.variants[2].package).exists()
    assert house.follower.problem == "s3://m/d2 can't be fetched."
    house.missing = set()
    # The file names it already; the front end looks again by itself.
    assert not house.follower.follow()
    assert Path(found.variants[2].package).is_dir()
    assert house.follower.problem is None


def test_a_damaged_file_or_table_is_told_and_replaced(house: House) -> None:
    house.path.parent.mkdir(parents=True)
    house.path.write_text("{")
    follower = house.another()
    house.store.publish_routes(table(1))
    assert follower.follow()
    assert house.followed.revision == 1
    published = house.store.published_routes

    def damaged(use_case: str) -> Any:
        raise PackageError("no")

    store = follower._store
    assert store is not None
    store.published_routes = damaged  # type: ignore[method-assign]
    assert not follower.follow()
    assert follower.problem == "no"
    assert house.followed.revision == 1
    store.published_routes = published  # type: ignore[method-assign]
    follower.stop()


def test_it_follows_by_itself_until_it_is_stopped(house: House) -> None:
    follower = RouteFollower(
        "parcels", path=house.path, models=house.folder / "models", open_store=house.open, fetch=house.fetch,
        gateway=None, poll_seconds=0.01,
    )  # fmt: skip
    follower.start()
    house.store.publish_routes(table(1))
    deadline = time.monotonic() + 30
    while not house.path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    follower.stop()
    assert house.followed.gateway is None


def test_a_front_end_follows_the_store_and_says_what_it_can_not(parcels_house: ParcelHouse, model: Any) -> None:
    inside = {
        "NINEFOLD_CLUSTER__ROUTES": "httproute", "NINEFOLD_CLUSTER__INNER_SECRET": "s3cret",
        "NINEFOLD_CLUSTER__INNER_URL": model.url,
    }  # fmt: skip

    def published(revision: int, digest: str) -> RouteTable:
        found = Variant(version=3, url="http://parcels-v3", package=parcels_house.package, digest=digest)
        return RouteTable(use_case="parcels", revision=revision, live=3, variants={3: found})

    with open_store(parcels_house.settings.store_url) as store, running(parcels_house, **inside) as up:
        assert up.described()["version"] is None
        store.publish_routes(published(41, parcels_house.digest))
        parcels_house.revision = 41
        up.adopts(parcels_house)
        (answer,) = up.predict(INSTANCE)["predictions"]
        assert (answer["version"], answer["fallback"]) == (3, None)
        # Another package than the store says: the last routes stay, and it is told.
        store.publish_routes(published(42, "0" * 64))
        deadline = time.monotonic() + 20
        while not (problem := up.described()["problem"]):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert "0000" in problem
        assert up.described()["revision"] == 41
    Path(parcels_house.settings.store_url.removeprefix("sqlite:///")).unlink()
    with running(parcels_house, **inside, NINEFOLD_STORE_URL="postgresql://nobody@127.0.0.1:9/none") as up:
        # The store is away, and it starts by its own file.
        (answer,) = up.predict(INSTANCE)["predictions"]
        assert (answer["version"], answer["fallback"]) == (3, None)


def test_without_the_inner_secret_it_says_so_and_ends(parcels_house: ParcelHouse) -> None:
    process = start(
        free_port(), NINEFOLD_HOME=str(parcels_house.settings.home), NINEFOLD_CLUSTER__ROUTES="httproute"
    )  # fmt: skip
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert b"Set NINEFOLD_CLUSTER__INNER_SECRET." in said
