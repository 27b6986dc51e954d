"""The short way past ASGI: what it answers over a socket, and what takes the ordinary way instead."""

import asyncio
from contextlib import asynccontextmanager

import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from serving import lean_http
from serving.lean_http import LeanProtocol


class Application:
    """Answers with the way that a request took and its body; a body of ``later`` is answered when it is told."""

    def __init__(self):
        self.waiting = []

    def lean(self, path, headers):
        return self.answer if path == b"/fast" and (b"x-slow", b"1") not in headers else None

    def answer(self, exchange):
        if exchange.body == b"later":
            self.waiting.append(exchange)
        else:
            exchange.answer(200, [(b"x-way", b"short")], b"short:" + exchange.body)

    async def __call__(self, scope, receive, send):
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        text = b"asgi:" + body
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(text))]})
        await send({"type": "http.response.body", "body": text})


@asynccontextmanager
async def serving(application=None, **options):
    application = application or Application()
    server = uvicorn.Server(
        uvicorn.Config(
            application, http=LeanProtocol, lifespan="off", log_level="critical", port=0, proxy_headers=False, **options
        )
    )
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield application, server, server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await running


def post(body=b"hi", path="/fast", version="1.1", headers=""):
    return f"POST {path} HTTP/{version}\r\nHost: a\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def answers(port, *pieces, count=1):
    """Sends pieces apart and reads so many answers; their heads and bodies."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0.01)
    found = []
    async with asyncio.timeout(5):
        for _ in range(count):
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            while head.startswith(b"http/1.1 100"):
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            found.append((head, await reader.readexactly(length)))
    closed = b"connection: close" in found[-1][0] and await reader.read() == b""
    writer.close()
    return found, closed


async def test_a_small_post_takes_the_short_way_again_and_again_on_one_connection():
    async with serving() as (_, _, port):
        first, closed = await answers(port, post(b"a"), post(b""), post(b"c" * 3000), count=3)
    assert [body for _, body in first] == [b"short:a", b"short:", b"short:" + b"c" * 3000]
    assert all(b"x-way: short\r\n" in head and b"\r\ndate: " in head for head, _ in first)
    assert not closed


class Echo(Application):
    """Answers a short request with its headers, as it saw them first, and its body."""

    def answer(self, exchange):
        head = exchange.head
        if head.noted is None:
            head.noted = b"|".join(b"%b=%b" % header for header in sorted(head.headers))
        exchange.answer(200, (), b"%b#%b" % (head.noted, exchange.body))


BODIES = st.sampled_from([b"", b"a", b"b" * 9, b"c" * 10, b"Content-Length: 3\r\n\r\nabc", b"\r\n\r\n", b"d" * 1234])
LINES = st.sampled_from(["X-Id: 1", "X-Id: 2", "X-Id: content-length: 3", "Y:  z ", "X-Slow: 1"])
HEADS = st.tuples(
    st.sampled_from(["/fast", "/other"]),
    st.lists(LINES, max_size=2),
    st.sampled_from(["Content-Length: ", "content-length:", "CONTENT-LENGTH:  "]),
    st.lists(LINES, max_size=2),
)


@st.composite
def conversations(draw):
    """Requests on one connection that share their heads, and what each has to be answered."""
    heads = draw(st.lists(HEADS, min_size=1, max_size=2))
    requests, expected = [], []
    for _ in range(draw(st.integers(1, 6))):
        path, before, name, behind = draw(st.sampled_from(heads))
        body = draw(BODIES)
        lines = [f"POST {path} HTTP/1.1", *before, f"{name}{len(body)}", *behind, "", ""]
        requests.append("\r\n".join(lines).encode() + body)
        if path == "/other" or "X-Slow: 1" in lines:
            expected.append(b"asgi:" + body)
        else:
            split = (line.split(":", 1) for line in lines[1:-2])
            told = sorted((key.lower().encode(), value.lstrip().encode()) for key, value in split)
            told = [(key, value) for key, value in told if key != b"content-length"]
            expected.append(b"|".join(b"%b=%b" % pair for pair in told) + b"#" + body)
    return requests, draw(st.integers(1, 60)), expected


class Wire(asyncio.Transport):
    """A connection without a network: what is written to it can be read."""

    def __init__(self):
        super().__init__()
        self.written = b""

    def write(self, data):
        self.written += data

    def is_closing(self):
        return False

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass


def connected(application):
    config = uvicorn.Config(application, log_level="critical", proxy_headers=False)
    config.load()
    protocol, wire = LeanProtocol(config=config, server_state=ServerState(), app_state={}), Wire()
    protocol.connection_made(wire)
    return protocol, wire


async def bodies_said(requests, cut):
    """The bodies of the answers to requests that come one after the other, every third of them in two pieces."""
    protocol, wire = connected(Echo())
    found = []
    for number, request in enumerate(requests):
        for piece in (request[:cut], request[cut:]) if number % 3 == 2 else (request,):
            protocol.data_received(piece)
        async with asyncio.timeout(5):
            while b"\r\n\r\n" not in wire.written:
                await asyncio.sleep(0)
        found.append(wire.written.partition(b"\r\n\r\n")[2])
        wire.written = b""
    protocol.connection_lost(ConnectionResetError())
    return found


@settings(deadline=None)
@given(conversations())
def test_a_request_means_the_same_whatever_came_before_it_on_its_connection(conversation):
    requests, cut, expected = conversation
    assert asyncio.run(bodies_said(requests, cut)) == expected


async def test_a_head_that_is_known_is_not_parsed_again(monkeypatch):
    parsed = []
    on_url = LeanProtocol.on_url
    monkeypatch.setattr(LeanProtocol, "on_url", lambda self, url: (parsed.append(url), on_url(self, url)))
    async with serving() as (_, _, port):
        found, _ = await answers(
            port, post(b"a"), post(b"bb"), post(b"c" * 1000), post(b"d", headers="A: b\r\n"), count=4
        )
    assert [body for _, body in found] == [b"short:a", b"short:bb", b"short:" + b"c" * 1000, b"short:d"]
    assert len(parsed) == 2


async def test_headers_of_an_answer_are_its_own():
    """What is written for a tuple is kept, and given again with that tuple alone."""
    once, twice = ((b"x-answer", b"1"),), ((b"x-answer", b"2"),)
    told = iter((once, once, twice, list(once), list(twice)))
    application = Application()
    application.answer = lambda exchange: exchange.answer(200, next(told), b"")
    async with serving(application) as (_, _, port):
        found, _ = await answers(port, *[post(b"a")] * 5, count=5)
    assert [head.partition(b"x-answer: ")[2][:1] for head, _ in found] == [b"1", b"1", b"2", b"1", b"2"]


async def test_a_known_head_waits_for_the_answer_before_it():
    application = Application()
    protocol, wire = connected(application)
    for request in (post(b"a"), post(b"later"), post(b"b")):
        protocol.data_received(request)
    assert wire.written.endswith(b"short:a")
    application.waiting[0].answer(200, [], b"now")
    async with asyncio.timeout(5):
        while not wire.written.endswith(b"asgi:b"):
            await asyncio.sleep(0)
    assert wire.written.count(b"HTTP/1.1 200 OK") == 3
    assert wire.written.index(b"now") < wire.written.index(b"asgi:b")


async def test_a_request_in_pieces_is_whole():
    request = post(b"piecemeal")
    async with serving() as (_, _, port):
        found, _ = await answers(port, *(request[place : place + 11] for place in range(0, len(request), 11)))
    assert found[0][1] == b"short:piecemeal"


@pytest.mark.parametrize(
    "request_",
    [
        post(path="/other"),
        post(path="/fast?x=1"),
        post(version="1.0"),
        post(headers="Expect: 100-continue\r\n"),
        post(headers="X-Slow: 1\r\n"),
        post(b"x" * (lean_http.MAX_BODY_BYTES + 1)),
        b"POST /fast HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        b"PUT /fast HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
    ],
    ids=["path", "query", "http 1.0", "expect", "headers", "large", "chunked", "method"],
)
async def test_everything_else_takes_the_ordinary_way(request_):
    async with serving() as (_, _, port):
        found, _ = await answers(port, request_)
    assert found[0][1][:5] == b"asgi:"


async def test_pipelined_requests_are_answered_in_their_order():
    async with serving() as (application, _, port):
        asked = asyncio.create_task(answers(port, post(b"later") + post(b"b") + post(b"c"), count=3))
        while not application.waiting:
            await asyncio.sleep(0.01)
        application.waiting[0].answer(200, [], b"now")
        found, _ = await asked
    assert [body for _, body in found] == [b"now", b"asgi:b", b"asgi:c"]


async def test_who_wants_the_connection_closed_has_it_closed():
    async with serving() as (_, _, port):
        found, closed = await answers(port, post(headers="Connection: close\r\n"))
    assert found[0][1] == b"short:hi"
    assert closed


async def test_an_answer_is_given_once_and_not_to_who_went_away():
    async with serving() as (application, _, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post(b"later"))
        while not application.waiting:
            await asyncio.sleep(0.01)
        writer.close()
        await asyncio.sleep(0.05)
        application.waiting[0].answer(200, [], b"nobody listens")
        asked = asyncio.create_task(answers(port, post(b"later")))
        while len(application.waiting) < 2:
            await asyncio.sleep(0.01)
        application.waiting[1].answer(200, [], b"once")
        application.waiting[1].answer(200, [], b"twice")
        assert (await asked)[0][0][1] == b"once"


async def test_a_drain_waits_for_the_answer_and_closes_the_connection():
    async with serving() as (application, server, port):
        asked = asyncio.create_task(answers(port, post(b"later")))
        while not application.waiting:
            await asyncio.sleep(0.01)
        server.should_exit = True
        await asyncio.sleep(0.3)
        application.waiting[0].answer(200, [], b"at last")
        found, closed = await asked
    assert found[0][1] == b"at last"
    assert closed


async def test_a_connection_that_is_used_stays_and_ends_its_time_after_the_last_answer():
    async with serving(timeout_keep_alive=1) as (_, _, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        loop = asyncio.get_running_loop()
        for _ in range(4):
            writer.write(post())
            await reader.readuntil(b"short:hi")
            last = loop.time()
            await asyncio.sleep(0.4)
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        assert loop.time() - last > 0.9
        writer.close()


async def test_an_idle_connection_is_closed_after_its_time():
    async with serving(timeout_keep_alive=1) as (_, _, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post())
        async with asyncio.timeout(5):
            assert (await reader.read()).endswith(b"short:hi")
        writer.close()
