"""``python -m bench.search``: every cell that is asked for, one after another, then the table of docs/search.md.

A cell is a problem, a system and a seed. Its result is one line of ``reports/search.jsonl`` in ``NINEFOLD_HOME``,
written as soon as it is there; a line is one look at a test set, and ``--inside`` takes none.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bench.load import load, run
from bench.model_server import free_port, served
from bench.search.peers import SYSTEMS
from bench.search.problems import PROBLEMS, Parts, one_row, write_job
from bench.search.table import write_table
from ninefold.keys import create_key
from ninefold.settings import settings

OURS = "ninefold"
SECONDS = {"arrivals": 300.0}
DEFAULT_SECONDS = 60.0
_HERE = frozenset({OURS, "sklearn-boosting", "sklearn-linear"})
"""Systems that our own environment holds; the others need ``--peers``, an interpreter that has them."""


def cell(
    problem: str, system: str, seed: int, *, seconds: float, threads: int, inside: bool, peers: str
) -> dict[str, Any]:
    """Searches in a process of its own, and judges what it predicted."""
    parts = PROBLEMS[problem](problem, seed, inside)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_job(parts, folder, system=system, seconds=seconds, seed=seed, threads=threads)
        script = [str(Path(__file__).with_name("peers.py")), system] if system != OURS else ["-m", "bench.search.ours"]
        python = sys.executable if system in _HERE else peers
        limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
        environment = {**os.environ, **limits, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        done = subprocess.run(
            [python, *script, str(folder)], env=environment, capture_output=True, text=True, check=False
        )
        known = {
            "problem": problem,
            "system": system,
            "seed": seed,
            "seconds": seconds,
            "threads": threads,
            "inside": inside,
        }
        if done.returncode:
            return {**known, "error": (done.stderr.strip().splitlines() or ["it said nothing"])[-1][:300]}
        told = json.loads((folder / "told.json").read_text())
        if system == OURS:
            told |= {"p50_ms": _served_ms(told.pop("uri"), told.pop("digest"), one_row(parts), folder)}
        return {**known, "metric": parts.card.metric.name, "value": _score(parts, folder), **told}


def _score(parts: Parts, folder: Path) -> float:
    return parts.score(np.load(folder / "predictions.npy").astype(float))


def _served_ms(package: str, digest: str, row: list[Any], folder: Path) -> float:
    """Median milliseconds of one row through the model server, over HTTP, one request at a time."""
    key, port = create_key(folder / "keys.json", "bench"), free_port()
    command = [
        "-m", "serving.model_server", "--package", package, "--digest", digest, "--name", "bench",
        "--port", str(port), "--keys", str(folder / "keys.json"),
    ]  # fmt: skip
    body = json.dumps({"instances": [row]}).encode()
    url = f"http://127.0.0.1:{port}/v1/models/bench:predict"
    with served(command, port):
        run(load(url, body, {"X-ApiKey": key}, connections=1, seconds=0.3))
        return run(load(url, body, {"X-ApiKey": key}, connections=1, seconds=2.0)).p50_ms


def main() -> None:
    """Measures what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.search", description=__doc__)
    parser.add_argument("--problems", nargs="+", choices=list(PROBLEMS), default=list(PROBLEMS))
    parser.add_argument("--systems", nargs="+", choices=[OURS, *SYSTEMS], default=[OURS, *SYSTEMS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--seconds", type=float, help="instead of 60, and 300 for arrivals")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peers", default=".venv-search/bin/python", help="interpreter that has FLAML and AutoGluon")
    parser.add_argument("--inside", action="store_true", help="a part of the training set stands for the test set")
    parser.add_argument("--results", type=Path, help="file of results")
    parser.add_argument("--write", type=Path, help="page whose table is renewed")
    parser.add_argument("--only-write", action="store_true", help="measure nothing")
    asked = parser.parse_args()
    results = asked.results or settings().home / "reports" / "search.jsonl"
    results.parent.mkdir(parents=True, exist_ok=True)
    for problem in [] if asked.only_write else asked.problems:
        for seed in asked.seeds:
            for system in asked.systems:
                found = cell(
                    problem, system, seed, seconds=asked.seconds or SECONDS.get(problem, DEFAULT_SECONDS),
                    threads=asked.threads, inside=asked.inside, peers=asked.peers,
                )  # fmt: skip
                with results.open("a") as file:
                    file.write(json.dumps(found) + "\n")
                print(json.dumps(found), flush=True)
    if asked.write is not None:
        write_table(results, asked.write)


if __name__ == "__main__":
    main()
