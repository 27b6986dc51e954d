"""What the images' health check asks, and what it makes of the answers."""

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import find_spec

import pytest

from images.health import PORTS, answers, port_of
from ninefold.settings import Ports


@pytest.mark.parametrize("program", PORTS)
def test_programs_and_their_ports_are_those_of_the_settings(program: str) -> None:
    name, default = PORTS[program]
    assert find_spec(f"{program}.__main__") is not None
    assert Ports.model_fields[name.lower()].default == default


@pytest.mark.parametrize(
    ("arguments", "environment", "port"),
    [
        (["-m", "serving.front_end", "--use-case", "arrivals"], {}, 8080),
        (["-m", "serving.front_end"], {"NINEFOLD_PORTS__FRONT_END": "9000"}, 9000),
        (["-m", "serving.front_end", "--port", "7000"], {"NINEFOLD_PORTS__FRONT_END": "9000"}, 7000),
        (["-m", "serving.model_server", "--port=8080", "--name=arrivals"], {}, 8080),
        (["-m", "serving.collector"], {"NINEFOLD_PORTS__FRONT_END": "9000"}, 8081),
        (["-m", "ninefold", "run", "training", "arrivals"], {}, None),
        (["-c", "print()"], {}, None),
        (["-m"], {}, None),
    ],
)
def test_the_port_is_the_one_that_the_program_listens_on(
    arguments: list[str], environment: dict[str, str], port: int | None
) -> None:
    assert port_of(["python", *arguments], environment) == port


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    class Answer(BaseHTTPRequestHandler):
        status = 200

        def do_GET(self) -> None:
            self.send_response(self.status if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def test_success_is_healthy_and_anything_else_is_not(server: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert answers(server.server_port)
    monkeypatch.setattr(server.RequestHandlerClass, "status", 503)
    assert not answers(server.server_port)


def test_nobody_there_and_one_that_hangs_are_not_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("images.health.SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert not answers(port)
    assert not answers(port)
