"""A session keeps its connection, asks again once where the server had closed it, and names what does not answer."""

import socket
import threading
from collections.abc import Iterator

import pytest

from ninefold.errors import DataError, Unavailable
from pipelines.http_session import HttpSession


class Server:
    """Answers connection by connection from a list: each entry is what one connection's requests get in turn."""

    def __init__(self, *connections: list[bytes]) -> None:
        self.requests: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.base = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, args=(connections,), daemon=True)
        self._thread.start()

    def _serve(self, connections: tuple[list[bytes], ...]) -> None:
        for answers in connections:
            connection, _ = self._listener.accept()
            with connection:
                for answer in answers:
                    self.requests.append(connection.recv(65536))
                    connection.sendall(answer)

    def close(self) -> None:
        self._listener.close()
        self._thread.join(5)


def _answer(body: bytes, status: bytes = b"200 OK", head: bytes = b"") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n%b\r\n%b" % (status, len(body), head, body)


@pytest.fixture
def served(request: pytest.FixtureRequest) -> Iterator[Server]:
    server = Server(*request.param)
    yield server
    server.close()


@pytest.mark.parametrize("served", [[[_answer(b'{"a":1}'), _answer(b'{"a":2}', b"400 Bad")]]], indirect=True)
def test_calls_go_over_one_connection_with_the_key(served: Server) -> None:
    session = HttpSession(served.base, "nf_key")
    assert session.post("/v1/x", {"b": 1}) == (200, {"a": 1})
    assert session.get("/v1/y") == (400, {"a": 2})
    session.close()
    assert b"X-ApiKey: nf_key\r\n" in served.requests[0]
    assert served.requests[0].startswith(b"POST /v1/x HTTP/1.1\r\n")
    assert served.requests[0].endswith(b'\r\n\r\n{"b":1}')


@pytest.mark.parametrize("served", [[[_answer(b"{}")], [_answer(b'{"again":true}')]]], indirect=True)
def test_a_connection_closed_between_calls_is_made_anew_once(served: Server) -> None:
    session = HttpSession(served.base, "k")
    assert session.get("/") == (200, {})
    assert session.get("/") == (200, {"again": True})
    session.close()


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n" + b'{"a":\r\n2\r\n1}\r\n0\r\n\r\n'


@pytest.mark.parametrize("served", [[[CHUNKED]]], indirect=True)
def test_a_chunked_answer_is_read(served: Server) -> None:
    session = HttpSession(served.base, "k")
    assert session.get("/") == (200, {"a": 1})
    session.close()


@pytest.mark.parametrize(
    ("served", "error", "word"),
    [
        ([[_answer(b"<html>")]], DataError, "no JSON"),
        ([[b"not http at all\r\n\r\n"]], DataError, "does not speak HTTP"),
        ([[b""]], Unavailable, "closed the connection"),
    ],
    indirect=["served"],
)
def test_what_is_no_answer_is_named(served: Server, error: type[Exception], word: str) -> None:
    session = HttpSession(served.base, "k")
    with pytest.raises(error, match=word):
        session.get("/")
    session.close()


def test_nobody_listening_is_named_with_the_next_step() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        base = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(Unavailable, match="ninefold status"):
        HttpSession(base, "k").get("/")
    with pytest.raises(DataError, match="http://"):
        HttpSession("https://127.0.0.1", "k")
