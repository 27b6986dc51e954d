"""The service admits only who has a key, reads only data sets under its roots, and outlives every build."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from components.model_builder import builds as builds_module
from components.model_builder.service import app
from ninefold.clock import WallClock
from ninefold.keys import Keys, create_key
from ninefold.package import load_predictor


@pytest.fixture
def key(tmp_path: Path) -> str:
    return create_key(tmp_path / "keys.json", "test")


@pytest.fixture
async def client(tmp_path: Path, key: str, make: Callable[..., Any]) -> AsyncIterator[httpx.AsyncClient]:
    roots = (tmp_path / "root", tmp_path / "more")
    for root in roots:
        root.mkdir()
    service = app(
        keys=Keys.from_file(tmp_path / "keys.json"), clock=WallClock(), roots=roots, models_url=str(tmp_path / "models")
    )
    async with service.router.lifespan_context(service):
        transport = httpx.ASGITransport(app=service)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", headers={"X-ApiKey": key}) as client:
            yield client


@pytest.fixture
def sets(tmp_path: Path, make: Callable[..., Any]) -> dict[str, str]:
    """A training and a validation set under the first root."""
    data = make("binary", rows=400, validation_rows=300)
    (tmp_path / "root").mkdir(exist_ok=True)
    moved = {}
    for name in ("train", "validation"):
        path = tmp_path / "root" / f"{name}.parquet"
        path.write_bytes(Path(getattr(data, name)).read_bytes())
        moved[name] = str(path)
    return moved


async def ended(client: httpx.AsyncClient, location: str) -> dict[str, Any]:
    for _ in range(600):
        build: dict[str, Any] = (await client.get(location)).json()
        if build["status"] in ("done", "failed"):
            return build
        await asyncio.sleep(0.1)
    raise AssertionError(build)


async def test_a_build_fails_with_its_cause_and_the_next_one_succeeds(
    client: httpx.AsyncClient, tmp_path: Path, sets: dict[str, str]
) -> None:
    broken = tmp_path / "root" / "broken.parquet"
    broken.write_bytes(b"no parquet")
    first = await client.post("/v1/builds", json={**sets, "train": str(broken), "max_training_time": 5})
    second = await client.post("/v1/builds", json={**sets, "max_training_time": 3, "metric": "log_loss"})
    assert first.status_code == second.status_code == 202
    assert first.json()["status"] == "queued"
    failed = await ended(client, first.headers["location"])
    assert failed["status"] == "failed"
    assert "broken.parquet" in failed["error"]
    done = await ended(client, second.headers["location"])
    assert done["status"] == "done", done
    assert done["error"] is None
    assert done["progress"]["stage"] == "done"
    assert done["leaderboard"][0] == done["result"]["chosen"]
    assert "baseline" in {row["family"] for row in done["leaderboard"]}
    assert done["result"]["metric"] == "log_loss"
    predictor = load_predictor(done["result"]["uri"], done["result"]["digest"])
    assert 0 <= predictor.predict_rows([[30.0, "gold", 2.0]])[0] <= 1
    assert (await client.get("/readyz")).status_code == 200


async def test_a_worker_that_dies_is_a_failed_build(
    client: httpx.AsyncClient, sets: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dying = tmp_path / "python"
    dying.write_text("#!/bin/sh\ncat >/dev/null\necho 'out of memory' >&2\nkill -9 $$\n")
    dying.chmod(0o755)
    with monkeypatch.context() as patched:
        patched.setattr(builds_module.sys, "executable", str(dying))
        build = await ended(
            client, (await client.post("/v1/builds", json={**sets, "max_training_time": 5})).headers["location"]
        )
        assert build["status"] == "failed"
        assert "killed by signal 9" in build["error"]
        assert "out of memory" in build["error"]
        patched.setattr(builds_module.sys, "executable", str(tmp_path / "nowhere"))
        build = await ended(
            client, (await client.post("/v1/builds", json={**sets, "max_training_time": 5})).headers["location"]
        )
        assert "can't be started" in build["error"]
    assert (await client.get("/readyz")).status_code == 200


async def test_no_key_and_a_wrong_key_are_refused(client: httpx.AsyncClient, sets: dict[str, str]) -> None:
    for headers in ({"X-ApiKey": ""}, {"X-ApiKey": "nf_wrong"}):
        for answer in (
            await client.post("/v1/builds", json={**sets, "max_training_time": 5}, headers=headers),
            await client.get("/v1/builds/1", headers=headers),
        ):
            assert answer.status_code == 401
            assert "key" in answer.json()["error"].lower()


async def test_only_files_under_a_root_are_read(
    client: httpx.AsyncClient, tmp_path: Path, sets: dict[str, str], make: Callable[..., Any]
) -> None:
    outside = Path(make("binary", rows=50, validation_rows=50).train)
    link = tmp_path / "root" / "link.parquet"
    link.symlink_to(outside)
    uris = [
        str(outside), f"file://{outside}", str(link), str(tmp_path / "root" / ".." / outside.name), "/etc/passwd",
        "https://example.org/x", str(tmp_path / "root"), str(tmp_path / "root" / "missing"), "", "a\x00b", None, 5,
    ]  # fmt: skip
    for name in ("train", "validation"):
        for uri in uris:
            answer = await client.post("/v1/builds", json={**sets, name: uri, "max_training_time": 5})
            assert answer.status_code == 400, uri
            assert answer.json()["field"] == name
            assert "may read" in answer.json()["error"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"max_training_time": 0}, "max_training_time"),
        ({"max_training_time": "60"}, "max_training_time"),
        ({"max_training_time": None}, "max_training_time"),
        ({"max_training_time": True}, "max_training_time"),
        ({"max_training_time": 1e9}, "max_training_time"),
        ({"metric": "nonsense"}, "metric"),
        ({"metric": ["mae"]}, "metric"),
        ({"seed": 1.5}, "seed"),
        ({"seed": -1}, "seed"),
        ({"models_url": "/tmp"}, "models_url"),
    ],
)
async def test_a_wrong_field_is_named(
    client: httpx.AsyncClient, sets: dict[str, str], change: dict[str, Any], field: str
) -> None:
    answer = await client.post("/v1/builds", json={**sets, "max_training_time": 5, **change})
    assert answer.status_code == 400
    assert answer.json()["field"] == field


async def test_bodies_that_are_no_object_or_too_long_are_refused(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/builds", content=b"{broken")).status_code == 400
    assert (await client.post("/v1/builds", json=[1])).status_code == 400
    assert (await client.post("/v1/builds", content=b" " * 70_000)).status_code == 413
    assert (await client.get("/v1/builds/nowhere")).status_code == 404


async def test_the_queue_is_bounded(
    client: httpx.AsyncClient, sets: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slow = tmp_path / "python"
    slow.write_text("#!/bin/sh\nexec sleep 30\n")
    slow.chmod(0o755)
    monkeypatch.setattr(builds_module.sys, "executable", str(slow))
    codes = []
    for _ in range(builds_module.MAX_QUEUED + 3):
        codes.append((await client.post("/v1/builds", json={**sets, "max_training_time": 5})).status_code)
        await asyncio.sleep(0)
    assert codes[0] == 202
    assert codes[-1] == 503
    assert codes.count(202) in (builds_module.MAX_QUEUED, builds_module.MAX_QUEUED + 1)


async def test_its_openapi_document_names_what_it_takes(client: httpx.AsyncClient) -> None:
    from components.model_builder.service import _FIELDS

    document = (await client.get("/openapi.json")).json()
    schema = document["paths"]["/v1/builds"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert set(schema["properties"]) == set(_FIELDS)
    assert json.dumps(document)
