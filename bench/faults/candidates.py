"""Faults of a candidate that is asked: a server that answers NaN, nothing, too late or in another shape.

A server of a few lines answers over HTTP; the front end's own client asks it and says what came of it. What came is
written as the front end writes it, and the real controller looks.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from bench.faults.flights import Array, Flights, Model, mae
from bench.faults.production import Shadow, rolled_out, stood, told_of
from bench.faults.row import Fault
from ninefold.records import Fallback
from ninefold.rollout.decide import RolloutDecision
from serving.front_end.model_client import ModelClient, ModelFailure

Behaviour = Literal["well", "nan", "shape", "silent", "slow"]

ASKED = 400
ONE_IN = 20
"""Every so manieth answer is bad."""
AT_ONCE = 8
TIMEOUT = 0.4
"""Seconds; past it the front end gives up."""
WORK, SLOW_WORK = 0.02, 0.2
"""Seconds that an answer takes."""
DAYS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What came of a request: a value or a reason, and how long it took."""

    value: float | None
    reason: Fallback | None
    latency_ms: float


def faults(flights: Flights, twin: Model) -> Iterator[Fault]:
    """Each of them; the candidate is a good one whose server has the fault."""
    well, _ = _shadowed(flights, twin, "well")
    planted: tuple[tuple[str, Behaviour, str], ...] = (
        ("a candidate answers NaN, once in 20", "nan", "errors"),
        ("a candidate answers in the wrong shape, once in 20", "shape", "errors"),
        ("a candidate gives no answer in time, once in 20", "silent", "errors"),
        ("a candidate is ten times as slow, and in time", "slow", "latency"),
    )
    for name, behaviour, check in planted:
        looks, online = _shadowed(flights, twin, behaviour)
        yield _judged(
            name, check, looks, well, offline=mae(flights.july["truth"], twin.predict(flights.july)), online=online
        )
    yield _hidden_behind_fallbacks(flights, twin, well)


def _judged(
    name: str, check: str, looks: list[RolloutDecision], well: list[RolloutDecision], *, offline: float, online: float
) -> Fault:
    last = looks[-1]
    failed = {reason.name for reason in last.reasons if reason.finding == "failed"}
    return Fault(
        name=name, kind="rollout", check=check, caught=last.action == "rollback" and check in failed,
        words=f"{last.words}", twin_passes=stood(well), twin=told_of(well[-1], check), offline=offline, online=online,
    )  # fmt: skip


def _shadowed(flights: Flights, twin: Model, behaviour: Behaviour) -> tuple[list[RolloutDecision], float]:
    """The looks at a candidate whose server behaves so, and the loss of what its users would get."""
    values = twin.predict(flights.july)
    came = asyncio.run(_asked(values[:ASKED], behaviour))
    rows = len(flights.july)
    reasons: list[Fallback | None] = [came[n % ASKED].reason for n in range(rows)]
    latency = np.array([came[n % ASKED].latency_ms for n in range(rows)])
    shadow = Shadow(value=values, fallback=reasons, latency_ms=latency)
    baseline = flights.july["baseline"].to_numpy()
    got = np.where([reason is None for reason in reasons], values, baseline)
    looks, _ = rolled_out(
        flights, flights.use_case, flights.honest, twin, shadow, name=f"server-{behaviour}", most_days=DAYS,
        live_latency_ms=1000.0 * WORK,
    )  # fmt: skip
    return looks, mae(flights.july["truth"], got)


async def _asked(values: Array, behaviour: Behaviour) -> list[Answered]:
    """Asks a server of that behaviour for each value, as the front end would."""
    server = await asyncio.start_server(lambda r, w: _serve(r, w, behaviour), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = ModelClient(f"http://127.0.0.1:{port}", name="arrivals", key="", timeout=TIMEOUT)
    turn = asyncio.Semaphore(AT_ONCE)

    async def ask(place: int, value: float) -> Answered:
        async with turn:
            began = time.perf_counter()
            answer, reason = None, None
            try:
                (answer,) = await client.predict([[place, value]])
                reason = "model_error" if answer is None else None
            except ModelFailure as failure:
                reason = failure.reason
            took = 1000.0 * (time.perf_counter() - began)
            return Answered(value=answer, reason=reason, latency_ms=took)  # type: ignore[arg-type]

    try:
        return list(await asyncio.gather(*(ask(n, v) for n, v in enumerate(values.tolist()))))
    finally:
        client.close()
        server.close()


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, behaviour: Behaviour) -> None:
    """Answers with the value that was sent, but for the fault."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
            ((place, value),) = json.loads(await reader.readexactly(length))["instances"]
            bad = place % ONE_IN == 0
            await asyncio.sleep(
                SLOW_WORK if behaviour == "slow" else 2 * TIMEOUT if bad and behaviour == "silent" else WORK
            )
            predictions: list[Any] = [value]
            if bad and behaviour in ("nan", "shape"):
                predictions = [float("nan")] if behaviour == "nan" else [value, value]
            body = json.dumps({"predictions": predictions}).encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )
            await writer.drain()
    except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
        # The client has gone, or the loop ends.
        writer.close()


def _hidden_behind_fallbacks(flights: Flights, twin: Model, well: list[RolloutDecision]) -> Fault:
    """A candidate that falls back where it errs most: the truths of those keys come, and must not be its own."""
    july = flights.july
    values, baseline = twin.predict(july), july["baseline"].to_numpy()
    errors = np.abs(values - july["truth"].to_numpy())
    worst = errors >= np.quantile(errors, 0.96)
    reasons: list[Fallback | None] = ["feature_missing" if bad else None for bad in worst.tolist()]
    shadow = Shadow(value=values, fallback=reasons)
    looks, _ = rolled_out(
        flights, flights.use_case, flights.honest, twin, shadow, name="fallbacks", most_days=DAYS
    )  # fmt: skip
    fault = _judged(
        "truths of answers by the fallback, which takes the 4 % where a candidate errs most", "fallbacks", looks, well,
        offline=mae(july["truth"], values), online=mae(july["truth"], np.where(worst, baseline, values)),
    )  # fmt: skip
    gap = next((reason.words for reason in looks[-1].reasons if reason.name == "coverage"), "")
    return replace(fault, words=f"{fault.words} {gap}")
