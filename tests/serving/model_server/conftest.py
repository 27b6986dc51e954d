"""A small real package, and a real server process that serves it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ninefold.fields import Input
from ninefold.keys import create_key
from ninefold.package import write_package
from ninefold.signature import PackageManifest, Signature

INPUTS = (Input(name="delay"), Input(name="distance"), Input(name="carrier", kind="category"))


def linear_graph(offset: float) -> bytes:
    """prediction = delay + distance + offset: NaN in, NaN out."""
    graph = helper.make_graph(
        [
            helper.make_node("ReduceSum", ["numbers", "axes"], ["sum"], keepdims=0),
            helper.make_node("Add", ["sum", "offset"], ["prediction"]),
        ],
        "linear",
        [
            helper.make_tensor_value_info("numbers", TensorProto.FLOAT, [None, 2]),
            helper.make_tensor_value_info("categories", TensorProto.STRING, [None, 1]),
        ],
        [helper.make_tensor_value_info("prediction", TensorProto.FLOAT, [None])],
        [
            numpy_helper.from_array(np.array([1]), "axes"),
            numpy_helper.from_array(np.array(offset, dtype=np.float32), "offset"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def signature() -> Signature:
    return Signature(
        use_case="arrivals", problem="regression", inputs=INPUTS, views=(), derive_digest="", target="arrival_delay"
    )


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Callable[[float], tuple[str, str]]:
    """Offset → (digest, folder) of a package that adds it."""
    models = tmp_path_factory.mktemp("models")

    def make(offset: float) -> tuple[str, str]:
        manifest = PackageManifest(format="onnx", signature=signature(), statistics={})
        return write_package(str(models), manifest, {"model.onnx": linear_graph(offset)})

    return make


@dataclass
class Server:
    url: str
    grpc: str
    key: str
    process: subprocess.Popen[bytes]
    models: Path

    def client(self, **headers: str) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"X-ApiKey": self.key, **headers}, timeout=10)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def start(folder: Path, arguments: list[str], home: Path, **options: Any) -> Server:
    key = create_key(folder / "keys.json", "test")
    port, rpc = free_port(), free_port()
    command = [
        sys.executable, "-m", "serving.model_server", *arguments, "--port", str(port), "--grpc-port", str(rpc),
        "--keys", str(folder / "keys.json"), *(f"--{name.replace('_', '-')}={v}" for name, v in options.items()),
    ]  # fmt: skip
    with (folder / "server.log").open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, "NINEFOLD_HOME": str(home), "PYTHONSAFEPATH": "1"}
        )
    server = Server(f"http://127.0.0.1:{port}", f"127.0.0.1:{rpc}", key, process, folder / "models.json")
    deadline = time.monotonic() + 60
    while True:
        try:
            if httpx.get(f"{server.url}/readyz").status_code == 200:
                return server
        except httpx.TransportError:
            pass
        assert process.poll() is None, (folder / "server.log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="session")
def server(packages: Callable[[float], tuple[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serves ``arrivals`` (adds 1) and ``other`` (adds 100) from a models file."""
    folder = tmp_path_factory.mktemp("server")
    catalogue = {
        name: dict(zip(("digest", "package"), packages(offset), strict=True))
        for name, offset in (("arrivals", 1.0), ("other", 100.0))
    }
    (folder / "models.json").write_text(json.dumps(catalogue))
    running = start(
        folder, ["--models", str(folder / "models.json")], folder, max_body_bytes=100_000, max_instances=1000
    )
    yield running
    running.process.kill()
    running.process.wait()
