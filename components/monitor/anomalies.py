"""Anomalies of traffic: each hour against the same hour of the days before, by robust distances.

Median and median absolute deviation, because a bad day must not hide the next one. Counts are compared as square roots
(their spread is then one whatever their size), shares with the spread that their number allows at least, latencies as
logarithms. What is at most ``robust_z`` away is what days do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl

from components.monitor.windows import Window
from ninefold.monitoring import MonitorPolicy

Array = np.ndarray[Any, Any]

ERRORS = ("model_unreachable", "model_slow", "model_error")
"""Fallbacks in which a model was asked and gave no good answer."""
DAYS_BEFORE = 28
LEAST_DAYS = 7
"""With fewer days before, an hour is not judged."""
LEAST_REQUESTS = 10
"""Shares and latencies of fewer requests in an hour say nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """One kind of number about a window's traffic.

    Args:
        name: ``requests``, ``fallback_share``, ``error_share`` or ``latency_p99_ms``.
        hours: Hours that could be judged.
        anomalous: Of these, hours that are too far from what is usual.
        worst: The farthest of them: its hour, value, usual value and distance; None where no hour is anomalous.
    """

    name: str
    hours: int
    anomalous: int
    worst: tuple[str, float, float, float] | None


def by_hour(answers: pl.DataFrame) -> pl.DataFrame:
    """What clients got, hour by hour: ``hour, requests, fallback_share, error_share, latency_p99_ms``."""
    return (
        answers.group_by(hour=pl.col("received_at").dt.truncate("1h"))
        .agg(
            requests=pl.len().cast(pl.Float64),
            fallback_share=pl.col("fallback").is_not_null().mean(),
            error_share=pl.col("fallback").is_in(ERRORS).fill_null(value=False).mean(),
            latency_p99_ms=pl.col("latency_ms").quantile(0.99),
        )
        .sort("hour")
    )


def judge_traffic(hours: pl.DataFrame, window: Window, policy: MonitorPolicy) -> list[Traffic]:
    """The four numbers of a window's hours against the same hours of the days before.

    Args:
        hours: From ``by_hour``, with the days before.
        window: Which.
        policy: Says how far is too far.
    """
    known = {row["hour"]: row for row in hours.iter_rows(named=True)}
    first = min(known, default=window.end)
    found: dict[str, list[tuple[str, float, float, float]]] = {name: [] for name in _DISTANCES}
    judged = dict.fromkeys(_DISTANCES, 0)
    hour = window.start
    while hour < window.end:
        before = [hour - timedelta(days=day) for day in range(1, DAYS_BEFORE + 1)]
        # A day that is before the first answer is no day without answers.
        days = [known.get(h, _NOTHING) for h in before if h.date() > first.date()]
        now = known.get(hour, _NOTHING)
        if len(days) >= LEAST_DAYS:
            for name, distance in _DISTANCES.items():
                found_here = distance(now, days)
                if found_here is None:
                    continue
                usual, z = found_here
                judged[name] += 1
                if (abs(z) if name == "requests" else z) > policy.robust_z:
                    found[name].append((f"{hour:%Y-%m-%d %H:00}", float(now[name]), usual, z))
        hour += timedelta(hours=1)
    return [
        Traffic(
            name=name, hours=judged[name], anomalous=len(found[name]),
            worst=max(found[name], key=lambda anomaly: abs(anomaly[3]), default=None),
        )
        for name in _DISTANCES
    ]  # fmt: skip


_Hour = Mapping[str, Any]
_NOTHING: _Hour = {"requests": 0.0}


def _requests(now: _Hour, days: list[_Hour]) -> tuple[float, float] | None:
    usual, z = _robust(2.0 * math.sqrt(now["requests"]), 2.0 * np.sqrt([d["requests"] for d in days]), 1.0)
    return (usual / 2.0) ** 2, z


def _share(name: str) -> Callable[[_Hour, list[_Hour]], tuple[float, float] | None]:
    def distance(now: _Hour, days: list[_Hour]) -> tuple[float, float] | None:
        before = [d[name] for d in days if d["requests"] >= LEAST_REQUESTS]
        if now["requests"] < LEAST_REQUESTS or len(before) < LEAST_DAYS:
            return None
        share = min(max(float(np.median(before)), 1.0 / now["requests"]), 0.5)
        return _robust(now[name], np.array(before), math.sqrt(share * (1.0 - share) / now["requests"]))

    return distance


def _latency(now: _Hour, days: list[_Hour]) -> tuple[float, float] | None:
    before = [d["latency_p99_ms"] for d in days if d["requests"] >= LEAST_REQUESTS and d["latency_p99_ms"] > 0]
    if now["requests"] < LEAST_REQUESTS or now["latency_p99_ms"] <= 0 or len(before) < LEAST_DAYS:
        return None
    usual, z = _robust(math.log(now["latency_p99_ms"]), np.log(before), 0.1)
    return math.exp(usual), z


def _robust(value: float, before: Array, least: float) -> tuple[float, float]:
    """The median of the values before, and how many robust standard deviations the value is from it."""
    middle = float(np.median(before))
    # 1.4826: what makes the median absolute deviation of a normal distribution its standard deviation.
    spread = max(1.4826 * float(np.median(np.abs(before - middle))), least)
    return middle, (value - middle) / spread


_DISTANCES: dict[str, Callable[[_Hour, list[_Hour]], tuple[float, float] | None]] = {
    "requests": _requests,
    "fallback_share": _share("fallback_share"),
    "error_share": _share("error_share"),
    "latency_p99_ms": _latency,
}
