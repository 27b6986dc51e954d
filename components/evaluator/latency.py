"""How fast a model predicts: one row at a time, and many.

Measured in the processor's time: whether a model is quick must not hang on what else the machine does meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ninefold.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Measured in this process, without a network.

    Args:
        p50_ms: Median of predicting one row.
        p99_ms: 99th percentile of it.
        rows_per_second: Throughput of one call with many rows.
        calls: One-row calls that were measured.
    """

    p50_ms: float
    p99_ms: float
    rows_per_second: float
    calls: int

    def to_json(self) -> dict[str, Any]:
        """A JSON object that ``from_json`` reads back."""
        return {
            "p50_ms": self.p50_ms,
            "p99_ms": self.p99_ms,
            "rows_per_second": self.rows_per_second,
            "calls": self.calls,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Latency:
        """Reads what ``to_json`` wrote."""
        return cls(**document)


def measure_latency(
    predict_rows: Callable[[Sequence[Sequence[Any]]], Any],
    rows: Sequence[Sequence[Any]],
    *,
    calls: int = 1000,
    seconds: float = 5.0,
    stopwatch: Callable[[], float] = time.process_time,
) -> Latency:
    """Measures a model on real rows: one by one until ``calls`` or ``seconds`` are reached, then all at once.

    Args:
        predict_rows: As ``Predictor.predict_rows``: rows of values in the order of the signature → predictions.
        rows: Real rows; taken in turn.
        calls: One-row calls at most; at least 20 are made.
        seconds: Time for the one-row calls.
        stopwatch: Seconds since some fixed moment; by default those that this process was at work, on any processor.

    Raises:
        DataError: There are no rows.
    """
    if not rows:
        raise DataError("There are no rows to measure the latency with.")
    for row in rows[:20]:
        predict_rows([row])
    taken: list[float] = []
    begin = stopwatch()
    while len(taken) < calls and (len(taken) < 20 or stopwatch() - begin < seconds):
        row = rows[len(taken) % len(rows)]
        start = stopwatch()
        predict_rows([row])
        taken.append(stopwatch() - start)
    start = stopwatch()
    predict_rows(rows)
    many = stopwatch() - start
    p50, p99 = np.quantile(taken, [0.5, 0.99]) * 1000.0
    return Latency(p50_ms=float(p50), p99_ms=float(p99), rows_per_second=len(rows) / max(many, 1e-9), calls=len(taken))
