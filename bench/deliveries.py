"""One delivery through the model server: a searched model with its interval, one connection, one row after another.

Beside it, in turns, the same graph without the interval's outputs: the ratio is what an interval costs. The model is
what ``ninefold run training deliveries`` makes in 60 seconds, on the same split; what its intervals hold on the test
rows is told, too. Run on its own: ``python -m bench.deliveries``, or with the folder and the digest of a package.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.load import Result, load, run
from bench.model_server import free_port, served
from ninefold.keys import create_key
from ninefold.package import MODEL, predict_bounded, read_package, write_package
from ninefold.package.predictors import load_predictor

SECONDS = 60.0
ROUNDS = 5
LOADED = 2.0
BOUND_MS = 1.0


def parts() -> dict[str, Any]:
    """The use case's own training, validation and test set, and their card."""
    import polars as pl

    from components.featurizer.historical import dataset
    from components.preparer.split import split
    from ninefold.loading import load_use_case
    from usecases.deliveries.etl import extract

    use_case, history = load_use_case("deliveries"), extract()
    frame, card = dataset(use_case, history.requests, pl.DataFrame(), history.truths, None)
    divided = split(frame, use_case, None)
    return {"training": divided.training, "validation": divided.validation, "test": divided.test, "card": card}


def trained(sets: dict[str, Any], folder: Path) -> tuple[str, str]:
    """Searches for a minute; returns folder and digest of the package."""
    from components.model_builder.build import build
    from ninefold.dataset import write_dataset

    for name in ("training", "validation"):
        write_dataset(str(folder / f"{name}.parquet"), sets[name], sets["card"])
    result = build(
        str(folder / "training.parquet"), str(folder / "validation.parquet"), max_training_time=SECONDS,
        models_url=str(folder / "models"),
    )  # fmt: skip
    return result.uri, result.digest


def without_interval(package: str, digest: str, folder: Path) -> tuple[str, str]:
    """The same package with the prediction as its only output: ONNX Runtime leaves out what nobody asks for."""
    import onnx

    manifest, files = read_package(package, digest)
    graph = onnx.load_from_string(files[MODEL])
    kept = [output for output in graph.graph.output if output.name == "prediction"]
    del graph.graph.output[:]
    graph.graph.output.extend(kept)
    bare = replace(manifest, signature=replace(manifest.signature, interval=None), files={})
    found, uri = write_package(str(folder / "bare"), bare, {MODEL: graph.SerializeToString()})
    return uri, found


def covered(package: str, digest: str, test: Any) -> dict[str, float]:
    """What the package is worth on test rows: mean absolute error, coverage, mean width."""
    import numpy as np

    from ninefold.dataset import INPUT, columns_of

    prediction, interval = predict_bounded(load_predictor(package, digest), columns_of(test, INPUT))
    truth = test["truth"].to_numpy()
    if interval is None:
        raise ValueError("The package has no interval.")
    inside = (interval[:, 0] <= truth) & (truth <= interval[:, 1])
    return {
        "mae": float(np.abs(prediction - truth).mean()),
        "coverage": float(inside.mean()),
        "width": float((interval[:, 1] - interval[:, 0]).mean()),
    }


def bodies(test: Any, inputs: Any) -> list[bytes]:
    """Requests of one row each."""
    from ninefold.dataset import INPUT

    rows = test.select([INPUT + declared.name for declared in inputs]).head(500).rows()
    return [json.dumps({"instances": [row]}).encode() for row in rows]


def main(package: str | None = None, digest: str | None = None) -> list[dict[str, Any]]:
    """Measures, and returns the rows of the report."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sets = parts()
        if package is None or digest is None:
            package, digest = trained(sets, folder)
        bare, bare_digest = without_interval(package, digest, folder)
        worth = covered(package, digest, sets["test"])
        key = create_key(folder / "keys.json", "bench")
        ports = free_port(), free_port()
        commands = [
            [
                "-m", "serving.model_server", "--package", where, "--digest", what, "--name", "deliveries",
                "--port", str(port), "--keys", str(folder / "keys.json"),
            ]
            for where, what, port in ((package, digest, ports[0]), (bare, bare_digest, ports[1]))
        ]  # fmt: skip
        asked = bodies(sets["test"], sets["card"].signature.inputs)

        def measured(port: int) -> Result:
            url = f"http://127.0.0.1:{port}/v1/models/deliveries:predict"
            return run(load(url, asked, {"X-ApiKey": key}, connections=1, seconds=LOADED))

        with served(commands[0], ports[0]), served(commands[1], ports[1]):
            for port in ports:
                measured(port)
            rounds = [(measured(ports[0]), measured(ports[1])) for _ in range(ROUNDS)]
    p50 = statistics.median(ours.p50_ms for ours, _ in rounds)
    ratio = statistics.median(ours.p50_ms / plain.p50_ms for ours, plain in rounds)
    errors = sum(ours.errors + plain.errors for ours, plain in rounds)
    return [
        _figure("deliveries: one row through the model server, p50", p50, f"<= {BOUND_MS:g}", "ms", p50 <= BOUND_MS),
        _figure("deliveries: p50 with its interval / without", ratio, "", "x", None),
        _figure("deliveries: failed requests", errors, "= 0", "", errors == 0),
        _figure("deliveries: mean absolute error on the test rows", worth["mae"], "", "min", None),
        _figure("deliveries: truths inside of intervals that promise 80 %", worth["coverage"], "", "", None),
        _figure("deliveries: mean width of the intervals", worth["width"], "", "min", None),
    ]


def _figure(name: str, value: float, bound: str, unit: str, ok: bool | None) -> dict[str, Any]:
    return {"name": name, "value": value, "bound": bound, "unit": unit, "ok": ok}


if __name__ == "__main__":
    for row in main(*sys.argv[1:3]):
        print(row)
