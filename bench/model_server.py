"""The model server against a stock ``kserve.Model`` with the same ONNX Runtime session: one row, 8 connections.

Both run in one process each and are loaded in turn, so that both see the same machine. Ours checks an API key and
counts; stock does neither. Run on its own: ``python -m bench.model_server``.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.load import Result, cpu_seconds, load, run
from ninefold.fields import Input
from ninefold.keys import create_key
from ninefold.package import write_package
from ninefold.service import bound_socket
from ninefold.signature import PackageManifest, Signature

FEATURES = 20
TREES = 200
ROUNDS = 4
SECONDS = 2.5


def tree_package(models: Path) -> tuple[str, str]:
    """Trains a small boosting model, exports it and packages it; returns digest and folder."""
    import lightgbm
    import numpy as np
    import onnx
    from onnxmltools.convert import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    random = np.random.default_rng(7)
    x = random.normal(size=(5_000, FEATURES))
    y = x[:, 0] * x[:, 1] + np.abs(x[:, 2]) + random.normal(size=len(x))
    booster = lightgbm.train(
        {"objective": "regression", "num_leaves": 31, "verbose": -1, "num_threads": 1, "seed": 7},
        lightgbm.Dataset(x, y),
        num_boost_round=TREES,
    )
    graph = convert_lightgbm(booster, initial_types=[("numbers", FloatTensorType([None, FEATURES]))], target_opset=15)
    raw = graph.graph.output[0].name
    axes = onnx.helper.make_tensor("flat", onnx.TensorProto.INT64, [1], [-1])
    graph.graph.initializer.append(axes)
    graph.graph.node.append(onnx.helper.make_node("Reshape", [raw, "flat"], ["prediction"]))
    del graph.graph.output[:]
    graph.graph.output.append(onnx.helper.make_tensor_value_info("prediction", onnx.TensorProto.FLOAT, [None]))
    signature = Signature(
        use_case="bench",
        problem="regression",
        inputs=tuple(Input(name=f"x{i}") for i in range(FEATURES)),
        views=(),
        derive_digest="",
        target="y",
    )
    manifest = PackageManifest(format="onnx", signature=signature, statistics={})
    return write_package(str(models), manifest, {"model.onnx": graph.SerializeToString()})


def _stock(model: str, port: int) -> None:
    import kserve
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    class Stock(kserve.Model):
        def __init__(self) -> None:
            super().__init__("bench")
            self.ready = True

        async def predict(self, payload: Any, headers: Any = None) -> Any:
            rows = np.asarray(payload["instances"], dtype=np.float32)
            return {"predictions": session.run(["prediction"], {"numbers": rows})[0].tolist()}

    kserve.ModelServer(http_port=port, enable_grpc=False, workers=1).start([Stock()])


@contextmanager
def served(command: list[str], port: int, *, seconds: float = 60.0) -> Iterator[subprocess.Popen[bytes]]:
    """A server process, from when it is ready until it is stopped.

    Args:
        command: After the interpreter.
        port: Where ``/v2/health/ready`` answers.
        seconds: How long it may take to be ready.
    """
    environment = {**os.environ, "PYTHONSAFEPATH": "", "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    # Logs go to a file, as a container's do: what a server writes for every request is part of its cost.
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen([sys.executable, *command], stdout=output, stderr=output, env=environment)
    try:
        deadline = time.monotonic() + seconds
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=1).close()
                break
            except (urllib.error.URLError, OSError):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{' '.join(command)} did not get ready.") from None
                time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait(30)


def free_port() -> int:
    """A port that is free just now."""
    with bound_socket("127.0.0.1", 0, name="bench") as listener:
        port: int = listener.getsockname()[1]
        return port


def main() -> list[dict[str, Any]]:
    """Measures, and returns the rows of the report."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        digest, package = tree_package(folder / "models")
        key = create_key(folder / "keys.json", "bench")
        ours_port, stock_port = free_port(), free_port()
        ours = [
            "-m", "serving.model_server", "--package", package, "--digest", digest, "--name", "bench",
            "--port", str(ours_port), "--keys", str(folder / "keys.json"),
        ]  # fmt: skip
        stock = ["-m", "bench.model_server", "stock", f"{package}/model.onnx", str(stock_port)]
        body = json.dumps({"instances": [[round(0.1 * i, 2) for i in range(FEATURES)]]}).encode()
        with served(ours, ours_port) as our_process:
            start_seconds = cpu_seconds(our_process.pid)
            with served(stock, stock_port) as stock_process:
                rounds = [
                    (
                        _measure(our_process.pid, ours_port, body, {"X-ApiKey": key}),
                        _measure(stock_process.pid, stock_port, body, {}),
                    )
                    for _ in range(ROUNDS)
                ]
    throughput = statistics.median(ours.per_second / stock.per_second for (ours, _), (stock, _) in rounds)
    cpu = statistics.median(stock / ours for (_, ours), (_, stock) in rounds)
    errors = sum(ours.errors + stock.errors for (ours, _), (stock, _) in rounds)
    ours_result, ours_cpu = rounds[-1][0]
    return [
        # A client on the same two cores takes part of both; CPU a request is what a machine of one's own would show.
        {
            "name": "model server: CPU a request, stock KServe / ours",
            "value": cpu,
            "bound": ">= 5",
            "unit": "x",
            "ok": cpu >= 5,
        },
        {
            "name": "model server: requests a second, ours / stock KServe",
            "value": throughput,
            "bound": ">= 5 (or CPU)",
            "unit": "x",
            "ok": max(cpu, throughput) >= 5,
        },
        {"name": "model server: CPU a request", "value": ours_cpu * 1e6, "bound": "", "unit": "us", "ok": True},
        {"name": "model server: p99", "value": ours_result.p99_ms, "bound": "", "unit": "ms", "ok": True},
        {"name": "model server: failed requests", "value": errors, "bound": "= 0", "unit": "", "ok": errors == 0},
        {
            "name": "model server: CPU until ready",
            "value": start_seconds,
            "bound": "<= 6",
            "unit": "s",
            "ok": start_seconds <= 6.0,
        },
    ]


def _measure(pid: int, port: int, body: bytes, headers: dict[str, str]) -> tuple[Result, float]:
    url = f"http://127.0.0.1:{port}/v1/models/bench:predict"
    run(load(url, body, headers, connections=8, seconds=0.3))
    before = cpu_seconds(pid)
    result = run(load(url, body, headers, connections=8, seconds=SECONDS))
    return result, (cpu_seconds(pid) - before) / max(1, result.requests)


if __name__ == "__main__":
    if sys.argv[1:2] == ["stock"]:
        model, port = sys.argv[2], int(sys.argv[3])
        sys.argv = sys.argv[:1]
        _stock(model, port)
    else:
        for row in main():
            print(row)
