"""The front end before its model server, against a stock KServe transformer before a stock predictor: CPU a request.

Ours: key, validation, nine feature views from the online store, derive, the model, the decision, the journal, and the
journal's way into the store. Stock: a transformer that changes nothing before a ``kserve.Model`` with the same trees.
One row, 8 connections, loaded in turn. Run on its own: ``python -m bench.front_end``.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import string
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench.load import Result, cpu_seconds, load, run
from bench.model_server import FEATURES, free_port, served, tree_package
from ninefold.keys import create_key, local_key
from ninefold.online import OnlineRow, open_online_store
from ninefold.package import write_package
from ninefold.package.files import MODEL
from ninefold.records import entity_key
from ninefold.routes import RouteTable, Variant, write_routes
from ninefold.signature import InputStatistics, PackageManifest, Signature
from usecases.arrivals import USE_CASE

ROUNDS = 5
SECONDS = 3.0
CONNECTIONS = 8
BOUND = 20.0
INSTANCE = {field.name: field.example for field in USE_CASE.request}
FLIGHTS = 500
NOW = datetime(2013, 7, 1, 9, 17, tzinfo=UTC)


def arrivals_package(models: Path, trees: Path, instances: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """A package with the signature of arrivals, whose trees see the first numbers."""
    import onnx

    graph = onnx.load(str(trees / MODEL))
    numbers = [item for item in USE_CASE.inputs if item.kind == "number"]
    categories = [item for item in USE_CASE.inputs if item.kind == "category"]
    for node in graph.graph.node:
        node.input[:] = ["chosen" if name == "numbers" else name for name in node.input]
    places = onnx.helper.make_tensor("places", onnx.TensorProto.INT64, [FEATURES], list(range(FEATURES)))
    graph.graph.initializer.append(places)
    graph.graph.node.insert(0, onnx.helper.make_node("Gather", ["numbers", "places"], ["chosen"], axis=1))
    del graph.graph.input[:]
    for name, kind, items in (("numbers", "FLOAT", numbers), ("categories", "STRING", categories)):
        shape = [None, len(items)]
        graph.graph.input.append(onnx.helper.make_tensor_value_info(name, getattr(onnx.TensorProto, kind), shape))
    signature = Signature(
        use_case="arrivals",
        problem="regression",
        inputs=USE_CASE.inputs,
        views=USE_CASE.feature_views(),
        derive_digest=USE_CASE.derive_digest,
        target="arrival_delay",
        unit="min",
    )
    known = {name: {i[name]: 1 for i in instances} for name in ("carrier", "origin", "destination")}
    statistics_of = {
        item.name: InputStatistics(null_share=0.0, categories=known[item.name], reference=INSTANCE[item.name])
        if item.kind == "category"
        else InputStatistics(null_share=0.0, minimum=-1e6, maximum=1e6, reference=0.0)
        for item in USE_CASE.inputs
    }
    manifest = PackageManifest(format="onnx", signature=signature, statistics=statistics_of)
    return write_package(str(models), manifest, {MODEL: graph.SerializeToString()})


def flights() -> list[dict[str, Any]]:
    """Requests of many airlines, planes and destinations: what is shared between them is what flights share."""
    generator = random.Random(7)
    letters = string.ascii_uppercase
    carriers = [f"{letters[i]}{i % 10}" for i in range(16)]
    destinations = [f"{letters[i % 26]}{letters[i // 26]}X" for i in range(100)]
    return [
        {
            **INSTANCE,
            "carrier": generator.choice(carriers),
            "flight": generator.randint(1, 9999),
            "origin": generator.choice(("EWR", "JFK", "LGA")),
            "destination": generator.choice(destinations),
            "tail_number": f"N{generator.randint(10_000, 13_000)}",
        }
        for _ in range(FLIGHTS)
    ]


def fill_online(url: str, instances: Sequence[Mapping[str, Any]]) -> None:
    """The rows of every entity in every view, and fresh watermarks."""
    online = open_online_store(url)
    for view in USE_CASE.feature_views():
        keys = {entity_key([instance[name] for name in view.key]) for instance in instances}
        values = tuple(1.5 for _ in view.columns)
        online.write(view.view, [OnlineRow(key, NOW - timedelta(minutes=10), values) for key in sorted(keys)])
        online.advance_watermark(view.view, NOW)
    online.close()


@contextmanager
def written_each_second(url: str) -> Iterator[None]:
    """Online rows change meanwhile, as where flights land: what a reader keeps in memory ends with each write."""
    ending = threading.Event()

    def write() -> None:
        online = open_online_store(url)
        moment = NOW - timedelta(minutes=9)
        while not ending.wait(1.0):
            moment += timedelta(milliseconds=1)
            view = next(view for view in USE_CASE.feature_views() if view.key == ("origin",))
            online.write(view.view, [OnlineRow("JFK", moment, tuple(1.5 for _ in view.columns))])
        online.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        ending.set()
        writer.join()


@contextmanager
def front_end(home: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A front end of arrivals, from when it answers until it is stopped."""
    environment = {**os.environ, "NINEFOLD_HOME": str(home), "NINEFOLD_CLOCK": "event", "PYTHONSAFEPATH": "1"}
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "serving.front_end", "--use-case", "arrivals", "--port", str(port)],
            stdout=output, stderr=output, env=environment,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1).close()
                break
            except (urllib.error.URLError, OSError):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("The front end did not get ready.") from None
                time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait(30)


def _transformer(port: int, predictor: int) -> None:
    import kserve
    from kserve.predictor_config import PredictorConfig

    class Transformer(kserve.Model):
        def __init__(self) -> None:
            super().__init__("bench")
            self.ready = True

    config = PredictorConfig(predictor_host=f"127.0.0.1:{predictor}", predictor_protocol="v1")
    kserve.ModelServer(http_port=port, enable_grpc=False, workers=1, predictor_config=config).start([Transformer()])


def measure(
    pids: Mapping[str, int], url: str, body: bytes | Sequence[bytes], headers: dict[str, str]
) -> tuple[Result, dict[str, float]]:
    """A load, and the CPU seconds that each process spent a request."""
    run(load(url, body, headers, connections=CONNECTIONS, seconds=1.5))
    before = {name: cpu_seconds(pid) for name, pid in pids.items()}
    result = run(load(url, body, headers, connections=CONNECTIONS, seconds=SECONDS))
    # What was answered at the end is shipped half a second later, and is part of its cost.
    time.sleep(1.2)
    spent = {name: (cpu_seconds(pid) - before[name]) / max(1, result.requests) for name, pid in pids.items()}
    return result, spent


def main() -> list[dict[str, Any]]:
    """Measures, and returns the rows of the report."""
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        home = folder / "home"
        _, trees = tree_package(folder / "trees")
        instances = flights()
        digest, package = arrivals_package(home / "models", Path(trees), instances)
        fill_online(f"sqlite:///{home / 'feast' / 'online.db'}", instances)
        local_key(home, home / "keys.json")
        key = create_key(home / "keys.json", "bench")
        model_port, front_port, predictor_port, transformer_port = (free_port() for _ in range(4))
        write_routes(
            home / "gateway" / "arrivals.json",
            RouteTable(
                use_case="arrivals", revision=1, live=1,
                variants={
                    1: Variant(version=1, url=f"http://127.0.0.1:{model_port}", package=package, digest=digest)
                },
            ),
        )  # fmt: skip
        model = [
            "-m", "serving.model_server", "--package", package, "--digest", digest, "--name", "arrivals",
            "--port", str(model_port), "--keys", str(home / "keys.json"),
        ]  # fmt: skip
        stock = ["-m", "bench.model_server", "stock", f"{trees}/{MODEL}", str(predictor_port)]
        before = ["-m", "bench.front_end", "transformer", str(transformer_port), str(predictor_port)]
        ours = {
            "model server": stack.enter_context(served(model, model_port)).pid,
            "front end": stack.enter_context(front_end(home, front_port)).pid,
        }
        theirs = {
            "predictor": stack.enter_context(served(stock, predictor_port)).pid,
            "transformer": stack.enter_context(served(before, transformer_port)).pid,
        }
        our_url = f"http://127.0.0.1:{front_port}/v1/models/arrivals:predict"
        their_url = f"http://127.0.0.1:{transformer_port}/v1/models/bench:predict"
        our_bodies = [json.dumps({"instances": [instance]}).encode() for instance in instances]
        their_body = json.dumps({"instances": [[round(0.1 * i, 2) for i in range(FEATURES)]]}).encode()
        must_answer(our_url, our_bodies[0], key)
        must_ship(front_port)
        stack.enter_context(written_each_second(f"sqlite:///{home / 'feast' / 'online.db'}"))
        rounds = [
            (measure(ours, our_url, our_bodies, {"X-ApiKey": key}), measure(theirs, their_url, their_body, {}))
            for _ in range(ROUNDS)
        ]
    ratio = statistics.median(sum(stock.values()) / sum(own.values()) for (_, own), (_, stock) in rounds)
    errors = sum(result.errors for pair in rounds for result, _ in pair)
    result, own = rounds[-1][0]
    stock_cpu = sum(rounds[-1][1][1].values())
    return [
        _row("front end → model server: CPU a request, stock transformer → predictor / ours", ratio, "x", BOUND),
        _row("front end: CPU a request, its journal shipped", own["front end"] * 1e6, "us"),
        _row("model server behind it: CPU a request", own["model server"] * 1e6, "us"),
        _row("stock transformer → predictor: CPU a request", stock_cpu * 1e6, "us"),
        _row("front end → model server: requests a second", result.per_second, "/s"),
        _row("front end → model server: p99", result.p99_ms, "ms"),
        {"name": "front end: failed requests", "value": errors, "bound": "= 0", "unit": "", "ok": errors == 0},
    ]


def must_answer(url: str, body: bytes, key: str) -> None:
    """What is measured has to be the model's answer, with every feature there."""
    request = urllib.request.Request(url, data=body, headers={"X-ApiKey": key})
    with urllib.request.urlopen(request, timeout=5) as response:
        answer = json.load(response)["predictions"][0]
    if answer["fallback"] is not None or answer["flags"]:
        raise RuntimeError(f"The front end answered {answer}.")


def must_ship(port: int, *, seconds: float = 60.0) -> None:
    """The first shipment loads the store's drivers and makes its tables: a cost of the start, not of a request."""
    deadline = time.monotonic() + seconds
    while True:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
            lines = response.read().decode().splitlines()
        (lag,) = (line for line in lines if line.startswith("ninefold_front_end_journal_lag_bytes{"))
        if float(lag.split()[-1]) == 0.0:
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"The front end shipped nothing in {seconds:g} s.")
        time.sleep(0.1)


def _row(name: str, value: float, unit: str, bound: float | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "value": value,
        "bound": f">= {bound:g}" if bound is not None else "",
        "unit": unit,
        "ok": bound is None or value >= bound,
    }


if __name__ == "__main__":
    if sys.argv[1:2] == ["transformer"]:
        ports = [int(port) for port in sys.argv[2:]]
        sys.argv = sys.argv[:1]
        _transformer(*ports)
    else:
        for row in main():
            print(row)
