"""Monitoring 50,000 predictions of 20 features, against the bare Evidently report of a sample of 20,000 rows.

The bare report is what Evidently's documentation shows: its presets for drift, data and regression, with the reference
beside it. Ours reads the store, joins truths, judges every version and slice, calibrates, measures, writes what it
measured and makes Evidently's report of the same sample. Each runs in a process of its own, after its imports.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from ninefold.features import BatchView
from ninefold.fields import Columns, Field, Input, Metric
from ninefold.records import Prediction, Truth
from ninefold.splits import TimeSplit
from ninefold.usecase import UseCase

ROWS, SAMPLE, FEATURES, CATEGORIES = 50_000, 20_000, 18, 2
BEGAN = datetime(2024, 3, 1, tzinfo=UTC)
DAYS_BEFORE = 30
ROUNDS = 3
NUMBERS = tuple(f"x{i}" for i in range(FEATURES))
NAMES = tuple(f"c{i}" for i in range(CATEGORIES))
Array = np.ndarray[Any, Any]


def derive(columns: Columns) -> dict[str, Array]:
    """The features as they are."""
    return {name: columns[f"made__{name}"] for name in (*NUMBERS, *NAMES)}


def baseline(inputs: Columns) -> Array:
    """The first feature."""
    return inputs["x0"]


USE_CASE = UseCase(
    name="bench_monitor",
    title="Twenty features",
    problem="regression",
    request=(Field(name="key", kind="category"), Field(name="at", kind="time"), Field(name="place", kind="category")),
    key=("key",),
    decided_at="at",
    truth_delay=timedelta(hours=1),
    target=Field(name="target", kind="number"),
    metric=Metric(name="mae", direction="minimize"),
    extract="bench.monitor:USE_CASE",
    split=TimeSplit(),
    inputs=(*(Input(name=n) for n in NUMBERS), *(Input(name=n, kind="category") for n in NAMES)),
    derive=derive,
    baseline=baseline,
    decide=lambda request, prediction: None,
    block=lambda columns: columns["at"].astype("datetime64[h]").astype(str),
    batch_views=(
        BatchView(
            name="made",
            key=("key",),
            columns=(
                *(Field(name=n, kind="number") for n in NUMBERS),
                *(Field(name=n, kind="category") for n in NAMES),
            ),
        ),
    ),
    slices=("place",),
)


def columns(rows: int, seed: int) -> dict[str, Array]:
    """Made data: 18 numbers, two categories, a target and a prediction."""
    rng = np.random.default_rng(seed)
    made: dict[str, Array] = {name: rng.normal(size=rows) for name in NUMBERS}
    made |= {name: rng.choice(list("abcdefgh"), rows) for name in NAMES}
    made["target"] = made["x0"] + rng.normal(size=rows)
    made["prediction"] = made["x0"] * 0.9
    return made


def fill(home: Path) -> None:
    """Writes the judged day's predictions and truths, and a few hundred of each of the days before."""
    from ninefold.store import open_store

    with open_store(f"sqlite:///{home / 'store.db'}") as store:
        number = 0
        for day in range(-DAYS_BEFORE, 1):
            rows = ROWS if day == 0 else 400
            made = columns(rows, seed=day + 100)
            begin, step = BEGAN + timedelta(days=day), 86_400.0 / rows
            predictions, truths = [], []
            for row in range(rows):
                at = begin + timedelta(seconds=step * row)
                key, number = f"k{number}", number + 1
                features: dict[str, Any] = {f"made__{n}": float(made[n][row]) for n in NUMBERS}
                features |= {f"made__{n}": str(made[n][row]) for n in NAMES}
                predictions.append(
                    Prediction(
                        prediction_id=key, use_case=USE_CASE.name, request_id=None, key=key, decided_at=at,
                        received_at=at, version=1, cohort="live",
                        request={"key": key, "at": at.isoformat(), "place": "ab"[row % 2]}, features=features,
                        value=float(made["prediction"][row]), latency_ms=2.0,
                    )
                )  # fmt: skip
                truths.append(
                    Truth(
                        truth_id=key, use_case=USE_CASE.name, key=key, value=float(made["target"][row]),
                        known_at=at + timedelta(minutes=30), received_at=at + timedelta(minutes=30),
                    )
                )  # fmt: skip
            store.write_predictions(predictions)
            store.write_truths(truths)


_CHILD = """
import json, os, resource, sys, time, warnings
warnings.simplefilter("ignore")
os.environ["DO_NOT_TRACK"] = "1"
import evidently, bench.monitor as bench
from evidently import metrics, presets
from components.monitor import evidently_report, run, workspace
work = getattr(bench, sys.argv[1])(sys.argv[2])
start = time.process_time()
work()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
json.dump({"cpu": time.process_time() - start, "peak": peak}, open(sys.argv[3], "w"))
"""


def bare(_: str) -> Any:
    """Evidently's presets on a sample; the data are made before the clock starts."""
    import evidently
    import pandas as pd
    from evidently import presets

    frames = [pd.DataFrame(columns(SAMPLE, seed)) for seed in (1, 2)]
    definition = evidently.DataDefinition(
        numerical_columns=list(NUMBERS),
        categorical_columns=list(NAMES),
        regression=[evidently.Regression(target="target", prediction="prediction")],
    )

    def work() -> None:
        current, reference = (evidently.Dataset.from_pandas(f, data_definition=definition) for f in frames)
        report = evidently.Report([presets.DataDriftPreset(), presets.DataSummaryPreset(), presets.RegressionPreset()])
        report.run(current, reference).dict()

    return work


def ours(home: str) -> Any:
    """One whole run of the monitor, Evidently's report of the sample in it."""
    from components.monitor.run import watch
    from components.monitor.workspace import Workspace
    from ninefold.clock import WallClock
    from ninefold.settings import Settings
    from ninefold.store import open_store

    here = Settings(home=Path(home))
    with Workspace.open(here):  # Its tables are made once.
        pass

    def work() -> None:
        with open_store(here.store_url) as store:
            end = BEGAN + timedelta(days=1)
            watched = watch("bench.monitor:USE_CASE", store, here, BEGAN, end, clock=WallClock())
        if [f.outcome for f in watched.findings if f.check == "report"] != ["within"]:
            raise RuntimeError("the report failed")
        if watched.judged[0].known != ROWS:
            raise RuntimeError(f"{watched.judged[0].known} of {ROWS} were judged")

    return work


def _child(what: str, home: str) -> dict[str, float]:
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        environment = {**os.environ, "NINEFOLD_HOME": home, "OMP_NUM_THREADS": "2"}
        subprocess.run([sys.executable, "-c", _CHILD, what, home, file.name], env=environment, check=True)
        figures: dict[str, float] = json.loads(Path(file.name).read_text())
        return figures


def main() -> list[dict[str, Any]]:
    """Runs both in turns, and compares the medians."""
    found: dict[str, list[dict[str, float]]] = {"bare": [], "ours": []}
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder))
        for _ in range(ROUNDS):
            for what, figures in found.items():
                figures.append(_child(what, folder))
    cpu = {what: float(np.median([f["cpu"] for f in figures])) for what, figures in found.items()}
    peak = max(f["peak"] for f in found["ours"])
    ratio = cpu["ours"] / cpu["bare"]
    return [
        _row("monitor: CPU against the bare Evidently report of 20,000 rows", ratio, "≤ 1.5", "×", ratio <= 1.5),
        _row("monitor: 50,000 predictions × 20 features, peak memory", peak, "≤ 1", "GB", peak <= 1.0),
        _row("monitor: CPU of the run", cpu["ours"], None, "s", None),
        _row("monitor: CPU of the bare report", cpu["bare"], None, "s", None),
    ]


def _row(name: str, value: float, bound: str | None, unit: str, ok: bool | None) -> dict[str, Any]:
    return {"name": name, "value": value, "bound": bound, "unit": unit, "ok": ok}
