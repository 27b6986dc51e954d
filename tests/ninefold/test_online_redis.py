"""What only a Redis can do to its readers: be restarted, be silent, want a password, be full."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ninefold.errors import ConfigurationError, Outdated, StoreError
from ninefold.online import OnlineRow, OnlineStore, open_online_store
from ninefold.online.redis_connection import PAUSE_SECONDS, parse_url

NOON = datetime(2013, 7, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.fixture
def own(redis_module: Any) -> Any:
    """A Redis that a test may stop."""
    with redis_module.running() as server:
        yield server


@pytest.fixture
def store(redis_url: str):
    with closing(open_online_store(redis_url)) as opened:
        yield opened


def row(key: str, known_at: datetime, *columns: object) -> OnlineRow:
    return OnlineRow(key, known_at, columns)  # type: ignore[arg-type]


def wait_for_the_pause() -> None:
    time.sleep(PAUSE_SECONDS * 1.2)


def test_a_restarted_server_is_read_and_written_at_once(own: Any) -> None:
    with closing(open_online_store(own.url)) as store:
        assert store.write_views({"v": [row("k", NOON, 1.0)]}, NOON) == 1
        for number in (1, 2):
            own.stop()
            own.start()
            assert store.read_many([("v", "k")]) == [row("k", NOON + (number - 1) * SECOND, 1.0)]
            assert store.write_views({"v": [row("k", NOON + number * SECOND, 1.0)]}, NOON + number * SECOND) == 1
        assert store.watermark("v") == NOON + 2 * SECOND


def test_a_server_that_forgot_the_script_learns_it_again(store: OnlineStore, redis_server: Any) -> None:
    store.write("v", [row("k", NOON, 1.0)])
    redis_server.ask("SCRIPT", "FLUSH")
    assert store.write("v", [row("k", NOON - SECOND, 0.0), row("k", NOON + SECOND, 2.0)]) == 1


def test_a_server_that_is_down_is_named_fails_fast_and_comes_back(own: Any) -> None:
    with closing(open_online_store(own.url)) as store:
        store.write("v", [row("k", NOON, 1.0)])
        own.stop()
        for _ in range(3):
            with pytest.raises(StoreError, match=rf"127\.0\.0\.1:{own.port}/0 does not answer: .*Check that it runs"):
                store.read_many([("v", "k")])
        with pytest.raises(StoreError, match="does not answer"):
            store.write("v", [row("k", NOON, 1.0)])
        own.start()
        wait_for_the_pause()
        assert store.read_many([("v", "k")]) == [row("k", NOON, 1.0)]


def test_it_need_not_run_when_the_store_is_opened(redis_module: Any, tmp_path: Path) -> None:
    server = redis_module.RedisServer(tmp_path)
    with closing(open_online_store(server.url)) as store:
        with pytest.raises(StoreError, match="refused"):
            store.watermarks(["v"])
        server.start()
        try:
            wait_for_the_pause()
            assert store.watermarks(["v"]) == {"v": None}
        finally:
            server.stop()


def test_a_silent_server_costs_one_time_out_and_then_nothing_for_a_moment() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(0.05)
        store = open_online_store(f"redis://127.0.0.1:{silent.getsockname()[1]}?timeout=0.05")
        for _ in range(50):
            with pytest.raises(StoreError, match="takes too long"):
                store.read_many([("v", "k")])
        silent.accept()[0].close()
        with pytest.raises(TimeoutError):
            silent.accept()


def test_something_else_that_answers_is_no_redis() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        store = open_online_store(f"redis://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(StoreError, match="does not answer: Protocol error"):
            store.read_many([("v", "k")])
        thread.join()


def test_rows_of_several_views_are_of_one_state(store: OnlineStore, redis_url: str) -> None:
    ending = threading.Event()

    def write() -> None:
        with closing(open_online_store(redis_url)) as other:
            number = 0
            while not ending.is_set():
                number += 1
                at = NOON + number * SECOND
                other.write_views({view: [row("k", at, float(number))] for view in "abc"}, at)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(500):
            assert len({found and found.values for found in store.read_many([(view, "k") for view in "abc"])}) == 1
    finally:
        ending.set()
        writer.join()


def test_rows_that_a_server_lost_are_noticed_by_who_writes_on(own: Any) -> None:
    with closing(open_online_store(own.url)) as store:
        store.write_views({"v": [row("k", NOON, 1.0)]}, NOON, after={"v": None})
        own.stop(losing_all=True)
        own.start()
        with pytest.raises(Outdated, match="no watermark"):
            store.write_views({"v": [row("l", NOON + SECOND, 1.0)]}, NOON + SECOND, after={"v": NOON})
        assert store.read_many([("v", "l")]) == [None]


def test_a_password_lets_in_and_is_never_shown(redis_module: Any) -> None:
    with redis_module.running("--requirepass", "Sesam/Öffne dich") as server:
        quoted = "Sesam%2F%C3%96ffne%20dich"
        base = server.url.removeprefix("redis://")
        for url in (f"redis://:{quoted}@{base}", f"redis://default:{quoted}@{base}"):
            with closing(open_online_store(url)) as store:
                store.write("v", [row("k", NOON, 1.0)])
                assert store.read_many([("v", "k")]) == [row("k", NOON, 1.0)]
        with closing(open_online_store(server.url)) as store, pytest.raises(StoreError, match="wants a password"):
            store.read_many([("v", "k")])
        store = open_online_store(f"redis://:Simsalabim@{base}")
        with pytest.raises(StoreError, match="does not know this user or password") as refused:
            store.watermark("v")
        assert "Simsalabim" not in str(refused.value)
        assert quoted not in repr(parse_url(f"redis://:{quoted}@{base}"))
        assert "Sesam" not in repr(parse_url(f"redis://:{quoted}@{base}"))


def test_a_user_that_may_too_little_is_told_what_it_needs(store: OnlineStore, redis_server: Any) -> None:
    redis_server.ask("ACL", "SETUSER", "guest", "on", ">guest", "~ninefold:*", "+hget")
    url = redis_server.url.replace("//", "//guest:guest@")
    with closing(open_online_store(url)) as guest, pytest.raises(StoreError, match="does not let this user"):
        guest.read_many([("v", "k")])
    redis_server.ask("ACL", "SETUSER", "guest", "+@hash", "+@scripting", "+@transaction", "+unlink")
    with closing(open_online_store(url)) as guest:
        guest.write_views({"v": [row("k", NOON, 1.0)], "w": []}, NOON)
        assert guest.read_many([("v", "k"), ("w", "k")]) == [row("k", NOON, 1.0), None]
        assert guest.remove([("v", "k")]) == 1
        assert guest.forget("v") == 0


def test_tls_is_spoken_and_a_stranger_is_not_trusted(redis_module: Any, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on the path: it makes the test's certificate")
    certificate, key = tmp_path / "crt.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ("--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key))
    with redis_module.running(*options, "--tls-auth-clients", "no", "--tls-ca-cert-file", str(certificate)):
        with closing(open_online_store(f"rediss://localhost:{port}/2?ssl_ca_certs={certificate}")) as store:
            store.write("v", [row("k", NOON, "x" * 100_000)])
            assert store.read_many([("v", "k")]) == [row("k", NOON, "x" * 100_000)]
        stranger = open_online_store(f"rediss://localhost:{port}/2")
        with pytest.raises(StoreError, match="certificate verify failed"):
            stranger.read_many([("v", "k")])


def test_a_server_without_memory_left_takes_nothing_and_reads_go_on(redis_module: Any) -> None:
    with (
        redis_module.running("--maxmemory", "3mb", "--maxmemory-policy", "noeviction") as server,
        closing(open_online_store(server.url)) as store,
    ):
        last = 0

        def fill() -> None:
            nonlocal last
            for number in range(10_000):
                at = NOON + number * SECOND
                many = [row(f"{number}-{n}", at, "x" * 5_000) for n in range(10)]
                store.write_views({"v": [row("k", at, number)], "w": many}, at)
                last = number

        with pytest.raises(StoreError, match=r"no memory left.*nothing was written"):
            fill()
        assert store.read_many([("v", "k"), ("w", f"{last + 1}-0")]) == [row("k", NOON + last * SECOND, last), None]
        assert store.watermark("w") == NOON + last * SECOND


def test_a_replica_is_read_and_names_itself_to_who_writes(store: OnlineStore, redis_server: Any) -> None:
    store.write("v", [row("k", NOON, 1.0)])
    redis_server.ask("REPLICAOF", "127.0.0.1", "1")
    try:
        assert store.read_many([("v", "k")]) == [row("k", NOON, 1.0)]
        with pytest.raises(StoreError, match=r"replica.*Name the primary"):
            store.write("v", [row("k", NOON + SECOND, 1.0)])
    finally:
        redis_server.ask("REPLICAOF", "NO", "ONE")


def test_a_redis_cluster_is_refused_by_name(redis_module: Any) -> None:
    # Its second port is ten thousand above the first, which is often no port.
    alone = ("--cluster-enabled", "yes", "--cluster-port", str(redis_module.free_port()))
    with redis_module.running(*alone) as server, closing(open_online_store(server.url)) as store:
        server.ask("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        for refused in (
            lambda: store.write_views({"a": [], "b": []}, NOON),
            lambda: store.read_many([("a", "k"), ("b", "k")]),
        ):
            with pytest.raises(StoreError, match=r"is a Redis Cluster.*Use one Redis"):
                refused()


def test_what_is_damaged_or_somebody_elses_is_named_and_nothing_of_the_rest_is_written(
    store: OnlineStore, redis_server: Any
) -> None:
    redis_server.ask("HSET", "ninefold:1:rows:v", "k", "broken")
    redis_server.ask("HSET", "ninefold:1:rows:v", "l", "12345678\x01\x02")
    for key in "kl":
        with pytest.raises(StoreError, match=r"damaged.*ninefold features materialize"):
            store.read_many([("v", key)])
    redis_server.ask("SET", "ninefold:1:rows:w", "text")
    with pytest.raises(StoreError, match="something else under the names"):
        store.read_many([("a", "k"), ("w", "k")])
    with pytest.raises(StoreError, match="something else under the names"):
        store.write_views({"a": [row("k", NOON, 1.0)], "w": [row("k", NOON, 1.0)]}, NOON)
    assert store.read_many([("a", "k")]) == [None]
    assert store.watermark("a") is None


def test_a_removed_row_leaves_the_servers_file_too(own: Any) -> None:
    with closing(open_online_store(own.url)) as store:
        store.write("v", [row("k", NOON, "a secret of somebody")])
        store.write("v", [row("l", NOON, "another's")])
        store.remove([("v", "k")])
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            files = b"".join(path.read_bytes() for path in (own.folder / "appendonlydir").iterdir())
            if b"a secret of somebody" not in files:
                break
            time.sleep(0.05)
        assert b"a secret of somebody" not in files
        assert b"another's" in files


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://host:port", "can't be read"),
        ("redis://:secret@host/first", "can't be read"),
        ("redis://host/0?socket_timeout=1", "options socket_timeout"),
        ("redis://host/-1", "wrong database"),
        ("redis://host/0?timeout=0", "timeout"),
    ],
)
def test_a_url_that_says_nothing_is_refused_without_its_password(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as refused:
        open_online_store(url)
    assert "secret" not in str(refused.value)


def test_a_url_names_the_server() -> None:
    assert str(parse_url("redis://")) == "localhost:6379/0"
    assert str(parse_url("rediss://u:p@redis.example:7000/3")) == "redis.example:7000/3"
    assert str(parse_url("unix:///run/redis.sock?db=2")) == "/run/redis.sock/2"


def test_a_socket_in_the_file_system_does_as_well(redis_module: Any, tmp_path: Path) -> None:
    url = f"unix://{tmp_path / 's'}?db=1"
    with redis_module.running("--unixsocket", str(tmp_path / "s")), closing(open_online_store(url)) as store:
        store.write("v", [row("k", NOON, 1.0)])
        assert store.read_many([("v", "k")]) == [row("k", NOON, 1.0)]
