"""The client against servers of raw bytes, so that every odd answer is really on the wire."""

import asyncio
import functools
import socket
from contextlib import asynccontextmanager

import pytest

from ninefold.errors import ConfigurationError
from serving.front_end.model_client import Bounded, ModelClient, ModelFailure

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n" + b'{"predictions":[1.5]}'


class RawServer:
    """Answers each request by what a function of (connection, request on it) gives; None closes."""

    def __init__(self, answer):
        self.answer = answer
        self.connections = 0
        self.requests = []

    async def handle(self, reader, writer):
        connection = self.connections
        self.connections += 1
        try:
            for order in range(100):
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                self.requests.append((head, await reader.readexactly(length)))
                pieces = self.answer(connection, order)
                if pieces is None:
                    break
                for piece in [pieces] if isinstance(pieces, bytes) else pieces:
                    if isinstance(piece, float):
                        await asyncio.sleep(piece)
                    else:
                        writer.write(piece)
                        await writer.drain()
                if isinstance(pieces, list) and pieces[-1] == b"":
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def asked(answer, timeout=1.0):
    raw = RawServer(answer)
    server = await asyncio.start_server(raw.handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = ModelClient(f"http://127.0.0.1:{port}", name="m", key="nf_secret", timeout=timeout)
    try:
        yield client, raw
    finally:
        client.close()
        server.close()
        await asyncio.sleep(0.01)


async def test_one_connection_serves_request_after_request():
    async with asked(lambda connection, order: GOOD) as (client, raw):
        for _ in range(5):
            assert await client.predict([[1, None, "a"]], b"x-request-id: r1\r\n") == [1.5]
        assert raw.connections == 1
        head, body = raw.requests[0]
        assert head.startswith(b"POST /v1/models/m:predict HTTP/1.1\r\n")
        assert b"X-ApiKey: nf_secret\r\n" in head
        assert b"x-request-id: r1\r\n" in head
        assert body == b'{"instances":[[1,null,"a"]]}'


async def test_requests_at_the_same_time_have_a_connection_each():
    async with asked(lambda connection, order: [0.05, GOOD]) as (client, raw):
        assert await asyncio.gather(*(client.predict([[1]]) for _ in range(4))) == [[1.5]] * 4
        assert raw.connections == 4
        await asyncio.gather(*(client.predict([[1]]) for _ in range(4)))
        assert raw.connections == 4


@pytest.mark.parametrize(
    "answer",
    [
        [
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b'5\r\n{"pre\r\n',
            0.01,
            b'10\r\ndictions":[1.5]}\r\n0\r\n\r\n',
        ],
        [b"HTTP/1.1 200 OK\r\nContent-Le", 0.01, b"ngth: 21\r\n\r\n{", 0.01, b'"predictions":[1.5]}'],
        [b"HTTP/1.1 100 Continue\r\n\r\n", 0.01, GOOD],
        [b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n" + GOOD],
        [b'HTTP/1.0 200 OK\r\n\r\n{"predictions"', 0.01, b":[1.5]}", b""],
        [b'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 21\r\n\r\n{"predictions":[1.5]}', b""],
    ],
    ids=["chunked", "in pieces", "continue", "early hints", "until the end", "close"],
)
async def test_any_correct_http_is_understood(answer):
    async with asked(lambda connection, order: answer) as (client, _):
        assert await client.predict([[1]]) == [1.5]
        assert await client.predict([[1]]) == [1.5]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops", "status 500: oops"),
        (b"HTTP/1.1 204 None\r\n\r\n", "status 204"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "not HTTP"),
        (b"HTTP/1.1 101 Switch\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", "no predictions"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "no predictions"),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 23\r\n\r\n{"predictions":[1,2.5]}', "2 predictions for 1"),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\n{"predictions":1.5}', "no list of predictions"),
    ],
)
async def test_a_wrong_answer_is_an_error_of_the_model(answer, words):
    async with asked(lambda connection, order: answer) as (client, _):
        with pytest.raises(ModelFailure, match=words) as caught:
            await client.predict([[1]])
        assert caught.value.reason == "model_error"


@pytest.mark.parametrize(
    ("status", "reason"), [(502, "model_unreachable"), (503, "model_unreachable"), (504, "model_slow")]
)
async def test_what_a_gateway_says_of_a_server_is_not_the_model_s_own_error(status, reason):
    answer = b"HTTP/1.1 %d Away\r\nContent-Length: 4\r\n\r\naway" % status
    async with asked(lambda connection, order: answer) as (client, _):
        with pytest.raises(ModelFailure, match=f"status {status}: away") as caught:
            await client.predict([[1]])
        assert caught.value.reason == reason


async def test_a_version_with_an_interval_answers_three_numbers():
    body = b'{"predictions":[{"prediction":2,"lower":1.5,"upper":2.0}]}'
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    async with asked(lambda connection, order: answer) as (client, _):
        assert await client.predict([[1]]) == [Bounded(2.0, 1.5, 2.0)]


@pytest.mark.parametrize(
    "value",
    [
        b"null",
        b'"1"',
        b"true",
        b"[1]",
        b"{}",
        b'{"prediction":1.0}',
        b'{"prediction":1.0,"lower":0.5,"upper":null}',
        b'{"prediction":1.0,"lower":1.5,"upper":2.0}',
        b'{"prediction":3.0,"lower":1.5,"upper":2.0}',
    ],
)
async def test_a_value_that_is_no_number_is_none(value):
    body = b'{"predictions":[%b,2]}' % value
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    async with asked(lambda connection, order: answer) as (client, _):
        assert await client.predict([[1], [2]]) == [None, 2.0]


async def test_a_slow_answer_is_given_up_and_never_taken_for_the_next_one():
    late = b'HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n{"predictions":[9.9]}'
    async with asked(lambda connection, order: [0.3, late] if connection == 0 else GOOD, timeout=0.1) as (client, raw):
        with pytest.raises(ModelFailure) as caught:
            await client.predict([[1]])
        assert caught.value.reason == "model_slow"
        for _ in range(5):
            assert await client.predict([[1]]) == [1.5]
            await asyncio.sleep(0.06)
        assert raw.connections == 2


async def test_a_connection_that_died_while_idle_is_replaced_without_a_failure():
    async with asked(lambda connection, order: GOOD if order == 0 else None) as (client, raw):
        for _ in range(4):
            assert await client.predict([[1]]) == [1.5]
        assert raw.connections == 4


async def test_a_server_that_keeps_breaking_connections_is_unreachable_after_the_second():
    async with asked(lambda connection, order: None) as (client, raw):
        with pytest.raises(ModelFailure) as caught:
            await client.predict([[1]])
        assert caught.value.reason == "model_unreachable"
        assert raw.connections == 2


@pytest.mark.parametrize(
    "cut",
    [
        b'HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n{"predic',
        b"HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n",
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"pre\r\n',
        b'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 21\r\n\r\n{"predic',
        b'HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"pre\r\n',
        b'HTTP/1.0 200 OK\r\nContent-Length: 21\r\n\r\n{"predic',
    ],
    ids=["in the body", "before the body", "between chunks", "the last", "chunks of the last", "of an old server"],
)
async def test_an_answer_that_is_cut_off_is_a_broken_connection(cut):
    async with asked(lambda connection, order: GOOD if connection == 1 else [cut, b""]) as (client, raw):
        assert await client.predict([[1]]) == [1.5]
        assert raw.connections == 2
    async with asked(lambda connection, order: [cut, b""]) as (client, raw):
        with pytest.raises(ModelFailure) as caught:
            await client.predict([[1]])
        assert caught.value.reason == "model_unreachable"


async def test_nobody_listening_is_unreachable():
    client = ModelClient("http://127.0.0.1:1", name="m", key="k", timeout=1.0)
    with pytest.raises(ModelFailure) as caught:
        await client.predict([[1]])
    assert caught.value.reason == "model_unreachable"


async def test_a_connection_to_itself_is_nobody_listening(monkeypatch):
    loop = asyncio.get_running_loop()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        here = taken.getsockname()
    # What the system does by chance once in some ten thousand attempts.
    connect = functools.partial(loop.create_connection, local_addr=here)
    monkeypatch.setattr(loop, "create_connection", connect)
    client = ModelClient(f"http://{here[0]}:{here[1]}", name="m", key="k", timeout=1.0)
    with pytest.raises(ModelFailure, match="nobody listens") as caught:
        await client.predict([[1]])
    assert caught.value.reason == "model_unreachable"
    await asyncio.sleep(0.01)


async def test_bytes_that_nobody_asked_for_end_the_connection():
    async with asked(lambda connection, order: [GOOD, 0.02, b"HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n"]) as (
        client,
        raw,
    ):
        assert await client.predict([[1]]) == [1.5]
        await asyncio.sleep(0.05)
        assert await client.predict([[1]]) == [1.5]
        assert raw.connections == 2


@pytest.mark.parametrize("more", [GOOD, GOOD[:30]], ids=["whole", "begun"])
async def test_a_second_answer_in_one_piece_with_the_first_ends_the_connection(more):
    async with asked(lambda connection, order: GOOD + (more if connection == 0 else b"")) as (client, raw):
        assert await client.predict([[1]]) == [1.5]
        async with asyncio.timeout(5):
            assert await asyncio.gather(client.predict([[1]]), client.predict([[1]])) == [[1.5], [1.5]]
        assert raw.connections == 3


async def test_who_stops_waiting_takes_the_connection_along():
    async with asked(lambda connection, order: [0.1, GOOD]) as (client, raw):
        task = asyncio.create_task(client.predict([[1]]))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await client.predict([[1]]) == [1.5]
        assert raw.connections == 2


@pytest.mark.parametrize("url", ["https://model:8090", "model:8090", "unix:///socket", ""])
def test_an_address_that_is_not_plain_http_is_refused(url):
    with pytest.raises(ConfigurationError, match="no address"):
        ModelClient(url, name="m", key="k", timeout=1.0)
