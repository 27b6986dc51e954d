"""What shadowing costs the live answer: its latency with a candidate asked behind it, against the same without.

Real model servers, a front end with its journal and store, online rows that change each second. An open loop of one-row
requests at a tenth of what a closed loop of eight connections gets through. In turns: nobody shadowed, a candidate that
takes what the live version takes, one whose windows have other lengths, one whose process is stopped and so hangs; and
between any two of them nobody again, so that a ratio is to what was measured just before and just after. The median of
the rounds counts.
Run on its own: ``python -m bench.shadow``.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from bench.front_end import NOW, arrivals_package, fill_online, flights, front_end, must_answer, written_each_second
from bench.load import Result, load, open_loop, run
from bench.model_server import free_port, served, tree_package
from ninefold.keys import create_key, local_key
from ninefold.online import OnlineRow, open_online_store
from ninefold.package import read_package, write_package
from ninefold.records import entity_key
from ninefold.routes import RouteTable, Variant, write_routes
from usecases.arrivals import USE_CASE

ROUNDS = 7
SECONDS = 5.0
LOAD = 0.1
"""Share of the capacity, which is a closed loop's: its requests share calls, as those of the open loop seldom do."""

P50_BOUND, P99_BOUND = 1.10, 1.25
LIVE, SAME, OTHER, HUNG = 1, 2, 3, 4
CASES = {SAME: "as the live version", OTHER: "of other windows", HUNG: "that hangs"}


@dataclass(slots=True)
class _Site:
    """A front end, and who can be put behind it."""

    home: Path
    url: str
    key: str
    variants: Mapping[int, Variant]
    revision: int = 0

    def shadow(self, candidate: int | None) -> None:
        """Puts a candidate in shadow, or none, and waits until the front end goes by it and nothing is under way."""
        self.revision += 1
        chosen = {v: variant for v, variant in self.variants.items() if v in (LIVE, candidate)}
        table = RouteTable(use_case="arrivals", revision=self.revision, live=LIVE, variants=chosen)
        if candidate is not None:
            table = replace(
                table, candidate=candidate, rollout=f"r{candidate}", rollout_revision=self.revision, shadow=True
            )
        write_routes(self.home / "gateway" / "arrivals.json", table)
        deadline = time.monotonic() + 20
        while (seen := self.described())["revision"] != self.revision or _waiting(seen):
            if time.monotonic() > deadline:
                raise RuntimeError(f"The front end does not go by the routes: {seen}.")
            time.sleep(0.05)

    def described(self) -> dict[str, Any]:
        """What the front end says of its versions."""
        request = urllib.request.Request(f"{self.url}/v1/models/arrivals", headers={"X-ApiKey": self.key})
        with urllib.request.urlopen(request, timeout=5) as response:
            document: dict[str, Any] = json.load(response)
        return document


def _waiting(described: Mapping[str, Any]) -> int:
    rollout = described["rollout"]
    return rollout["shadowed"]["waiting"] if rollout is not None else 0


def _of_other_windows(models: Path, package: str, digest: str) -> tuple[str, str]:
    manifest, files = read_package(package, digest)
    lengths = {window.name: f"{int(2 * window.length / timedelta(hours=1))}h" for window in USE_CASE.windows}
    signature = replace(manifest.signature, views=USE_CASE.feature_views(lengths))
    return write_package(str(models), replace(manifest, signature=signature, files={}), files)


def _fill_other_windows(url: str, package: str, digest: str, instances: list[dict[str, Any]]) -> None:
    online = open_online_store(url)
    for view in read_package(package, digest)[0].signature.views:
        keys = {entity_key([instance[name] for name in view.key]) for instance in instances}
        values = tuple(1.5 for _ in view.columns)
        online.write(view.view, [OnlineRow(key, NOW - timedelta(minutes=10), values) for key in sorted(keys)])
        online.advance_watermark(view.view, NOW)
    online.close()


def main() -> list[dict[str, Any]]:
    """Measures, and returns the rows of the report."""
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        home = Path(temporary) / "home"
        _, trees = tree_package(Path(temporary) / "trees")
        instances = flights()
        digest, package = arrivals_package(home / "models", Path(trees), instances)
        other = _of_other_windows(home / "models", package, digest)
        online_url = f"sqlite:///{home / 'feast' / 'online.db'}"
        fill_online(online_url, instances)
        _fill_other_windows(online_url, other[1], other[0], instances)
        local_key(home, home / "keys.json")
        key = create_key(home / "keys.json", "bench")
        variants = {}
        for version in (LIVE, *CASES):
            its_digest, its_package = other if version == OTHER else (digest, package)
            port = free_port()
            command = [
                "-m", "serving.model_server", "--package", its_package, "--digest", its_digest, "--name", "arrivals",
                "--port", str(port), "--keys", str(home / "keys.json"),
            ]  # fmt: skip
            process = stack.enter_context(served(command, port))
            if version == HUNG:
                os.kill(process.pid, signal.SIGSTOP)
                # Who is stopped hears no other signal.
                stack.callback(os.kill, process.pid, signal.SIGCONT)
            variants[version] = Variant(
                version=version, url=f"http://127.0.0.1:{port}", package=its_package, digest=its_digest
            )
        write_routes(
            home / "gateway" / "arrivals.json",
            RouteTable(use_case="arrivals", revision=0, live=LIVE, variants={LIVE: variants[LIVE]}),
        )
        front_port = free_port()
        stack.enter_context(front_end(home, front_port))
        site = _Site(home, f"http://127.0.0.1:{front_port}", key, variants)
        url = f"{site.url}/v1/models/arrivals:predict"
        bodies = [json.dumps({"instances": [instance]}).encode() for instance in instances]
        must_answer(url, bodies[0], key)
        stack.enter_context(written_each_second(online_url))
        headers = {"X-ApiKey": key}
        run(load(url, bodies, headers, seconds=1.5))
        capacity = run(load(url, bodies, headers, seconds=SECONDS)).per_second
        rate = LOAD * capacity
        rounds: list[list[tuple[int, Result]]] = []
        outcomes: dict[int, dict[str, int]] = {case: {"answered": 0, "failed": 0, "dropped": 0} for case in CASES}
        for number in range(ROUNDS):
            # There and back, so that no case has a place of its own.
            cases = tuple(CASES) if number % 2 == 0 else tuple(reversed(CASES))
            slices: list[tuple[int, Result]] = []
            for case in (0, *(c for tried in cases for c in (tried, 0))):
                site.shadow(case or None)
                slices.append((case, run(open_loop(url, bodies, headers, per_second=rate, seconds=SECONDS))))
                if case:
                    _count(site, outcomes[case])
            rounds.append(slices)
    return _report(rounds, outcomes, capacity, rate)


def _count(site: _Site, outcomes: dict[str, int]) -> None:
    deadline = time.monotonic() + 20
    while _waiting(seen := site.described()) and time.monotonic() < deadline:
        time.sleep(0.05)
    for outcome in outcomes:
        outcomes[outcome] += seen["rollout"]["shadowed"][outcome]


def _report(
    rounds: list[list[tuple[int, Result]]], outcomes: Mapping[int, Mapping[str, int]], capacity: float, rate: float
) -> list[dict[str, Any]]:
    without = [result for slices in rounds for case, result in slices if case == 0]
    rows = [
        _row("shadow: requests a second that a closed loop gets through", capacity, "/s"),
        _row(f"shadow: requests a second of the open loop, {LOAD:.0%} of that", rate, "/s"),
        _row("shadow: live p50 without", statistics.median(r.p50_ms for r in without), "ms"),
        _row("shadow: live p99 without", statistics.median(r.p99_ms for r in without), "ms"),
    ]
    for case, words in CASES.items():
        for name, bound in (("p50_ms", P50_BOUND), ("p99_ms", P99_BOUND)):
            ratio = statistics.median(_ratio(slices, case, name) for slices in rounds)
            rows.append(_row(f"shadow, a candidate {words}: live {name[:3]}, with / without", ratio, "x", bound))
    errors = sum(result.errors for slices in rounds for _, result in slices)
    rows.append(_row("shadow: failed live requests", errors, "", 0))
    for case in (SAME, OTHER):
        share = outcomes[case]["answered"] / sum(outcomes[case].values())
        row = _row(f"shadow, a candidate {CASES[case]}: share that it answered", share, "")
        rows.append({**row, "bound": ">= 0.999", "ok": share >= 0.999})
    rows.append(_row("shadow, a candidate that hangs: kept as failed", outcomes[HUNG]["failed"], ""))
    rows.append(_row("shadow, a candidate that hangs: dropped", outcomes[HUNG]["dropped"], ""))
    return rows


def _ratio(slices: list[tuple[int, Result]], case: int, name: str) -> float:
    """A quantile with a candidate, to the mean of those without just before and just after."""
    (place,) = [place for place, (tried, _) in enumerate(slices) if tried == case]
    beside = [getattr(slices[near][1], name) for near in (place - 1, place + 1)]
    ratio: float = getattr(slices[place][1], name) / statistics.mean(beside)
    return ratio


def _row(name: str, value: float, unit: str, bound: float | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "value": value,
        "bound": "" if bound is None else f"<= {bound:g}",
        "unit": unit,
        "ok": bound is None or value <= bound,
    }


if __name__ == "__main__":
    for row in main():
        print(row)
