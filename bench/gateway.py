"""The gateway: changes under load, shares, and what the whole request costs with Envoy between front end and model.

Two real model servers behind a real Envoy. 500 requests a second of an open loop while the weights change 100 times;
then 20,000 requests against weights of 90 to 10; then the front end, through Envoy, against a stock KServe transformer
before a stock predictor, as in ``bench.front_end``. Run on its own: ``python -m bench.gateway``.
"""

from __future__ import annotations

import asyncio
import json
import math
import statistics
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.front_end import (
    FEATURES,
    MODEL,
    arrivals_package,
    fill_online,
    flights,
    front_end,
    measure,
    must_answer,
    must_ship,
)
from bench.load import Result, load, open_loop, run
from bench.model_server import free_port, served, tree_package
from ninefold.keys import create_key, local_key
from ninefold.routes import RouteTable, Variant, write_routes
from ninefold.settings import Gateway as GatewaySettings
from ninefold.settings import Ports, Settings
from serving.gateway.process import Gateway, find_envoy

CHANGES, PER_SECOND = 100, 500.0
REQUESTS = 20_000
WEIGHTS = {1: 90, 2: 10}
LEAST_P = 1e-4
ROUNDS = 3
BOUND = 10.0


@contextmanager
def envoy(gateway: Gateway, port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Envoy, from when it is ready until it is stopped."""
    with log.open("wb") as output:
        process = subprocess.Popen(gateway.command, cwd=gateway.folder, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1).close()
                break
            except (urllib.error.URLError, OSError):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"Envoy did not get ready: {log.read_text()}") from None
                time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait(30)


def changes_under_load(gateway: Gateway, table: RouteTable, url: str, body: bytes, key: str) -> tuple[Result, int]:
    """The load, and how many changes of weights it lasted for."""

    async def both() -> tuple[Result, int]:
        asking = asyncio.create_task(open_loop(url, body, {"X-ApiKey": key}, PER_SECOND, seconds=8.0))
        await asyncio.sleep(0.3)
        made = 0
        for change in range(CHANGES):
            changed = replace(table, revision=change + 2, weights={1: CHANGES - change, 2: change + 1})
            made += await asyncio.to_thread(gateway.publish, changed)
            await asyncio.sleep(0.02)
        if asking.done():
            raise RuntimeError("The load ended before the changes did.")
        return await asking, made

    import uvloop

    return uvloop.run(both())


def share_p(gateway: Gateway, table: RouteTable, url: str, body: bytes, key: str) -> tuple[float, int]:
    """The p-value of the shares of two versions under their weights (χ², one degree of freedom), and the requests."""
    gateway.publish(replace(table, revision=1000, weights=WEIGHTS))
    shares = gateway.shares()
    while sum(share.requests for share in shares) < REQUESTS:
        run(load(url, body, {"X-ApiKey": key}, seconds=1.0))
        shares = gateway.shares()
    total = sum(share.requests for share in shares)
    chi2 = sum((s.requests - total * s.configured) ** 2 / (total * s.configured) for s in shares)
    return math.erfc(math.sqrt(chi2 / 2)), total


def main() -> list[dict[str, Any]]:
    """Measures, and returns the rows of the report."""
    program, reason = find_envoy()
    if program is None:
        raise RuntimeError(f"There is no Envoy: {reason}.")
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        home = folder / "home"
        _, trees = tree_package(folder / "trees")
        instances = flights()
        digest, package = arrivals_package(home / "models", Path(trees), instances)
        fill_online(f"sqlite:///{home / 'feast' / 'online.db'}", instances)
        local_key(home, home / "keys.json")
        key = create_key(home / "keys.json", "bench")
        model_ports = {version: free_port() for version in (1, 2)}
        client_port, inner_port, front_port, predictor_port, transformer_port = (free_port() for _ in range(5))
        settings = Settings(
            home=home,
            ports=Ports(gateway=client_port, gateway_inner=inner_port),
            gateway=GatewaySettings(requests_per_second=1_000_000),
        )
        gateway = Gateway(settings, program)
        variants = {
            version: Variant(version=version, url=f"http://127.0.0.1:{port}", package=package, digest=digest)
            for version, port in model_ports.items()
        }
        table = RouteTable(use_case="arrivals", revision=1, live=1, variants=variants, gateway=gateway.inner)
        write_routes(home / "gateway" / "arrivals.json", table)
        models = {
            version: stack.enter_context(
                served(
                    [
                        "-m", "serving.model_server", "--package", package, "--digest", digest, "--name", "arrivals",
                        "--port", str(port), "--keys", str(home / "keys.json"),
                    ],
                    port,
                )
            )
            for version, port in model_ports.items()
        }  # fmt: skip
        gateway.begin(table)
        pids = {"envoy": stack.enter_context(envoy(gateway, client_port, folder / "envoy.log")).pid}
        inputs = json.dumps({"instances": [_inputs(package)]}).encode()
        direct = f"http://127.0.0.1:{client_port}/v1/models/arrivals:predict"
        changed, made = changes_under_load(gateway, table, direct, inputs, key)
        p, asked = share_p(gateway, table, direct, inputs, key)
        gateway.publish(replace(table, revision=2000))

        stock = ["-m", "bench.model_server", "stock", f"{trees}/{MODEL}", str(predictor_port)]
        before = ["-m", "bench.front_end", "transformer", str(transformer_port), str(predictor_port)]
        ours = {
            "model server": models[1].pid,
            **pids,
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
        rounds = [
            (measure(ours, our_url, our_bodies, {"X-ApiKey": key}), measure(theirs, their_url, their_body, {}))
            for _ in range(ROUNDS)
        ]
    ratio = statistics.median(_sum(stock) / _sum(own) for (_, own), (_, stock) in rounds)
    result, own = rounds[-1][0]
    errors = sum(result.errors for pair in rounds for result, _ in pair)
    return [
        _at_most(f"{CHANGES} changes of weights under {PER_SECOND:g} requests/s: failed", changed.errors, 0),
        _at_least("changes of weights that Envoy took", made, CHANGES),
        _at_least("requests answered meanwhile", changed.requests, int(PER_SECOND * 8.0)),
        _row("changes of weights: p99 of the requests", changed.p99_ms, "ms"),
        _at_least(f"observed shares under weights of {WEIGHTS[1]} to {WEIGHTS[2]}: p", p, LEAST_P),
        _row("observed shares: requests", asked, ""),
        {
            **_at_least("front end → Envoy → model: CPU a request, stock transformer → predictor / ours", ratio, BOUND),
            "unit": "x",
        },
        *(_row(f"{name}, Envoy between: CPU a request", seconds * 1e6, "us") for name, seconds in own.items()),
        _row("front end → Envoy → model: requests a second", result.per_second, "/s"),
        _row("front end → Envoy → model: p99", result.p99_ms, "ms"),
        _at_most("front end → Envoy → model: failed requests", errors, 0),
    ]


def _inputs(package: str) -> dict[str, Any]:
    """What a direct client sends: objects by input name."""
    document = json.loads((Path(package) / "package.json").read_text())
    return {i["name"]: 1.0 if i["kind"] == "number" else "a" for i in document["signature"]["inputs"]}


def _sum(spent: Mapping[str, float]) -> float:
    return sum(spent.values())


def _row(name: str, value: float, unit: str) -> dict[str, Any]:
    return {"name": name, "value": value, "bound": "", "unit": unit, "ok": None}


def _at_least(name: str, value: float, bound: float) -> dict[str, Any]:
    return {"name": name, "value": value, "bound": f">= {bound:g}", "unit": "", "ok": value >= bound}


def _at_most(name: str, value: float, bound: float) -> dict[str, Any]:
    return {"name": name, "value": value, "bound": f"<= {bound:g}", "unit": "", "ok": value <= bound}


if __name__ == "__main__":
    for row in main():
        print(row)
