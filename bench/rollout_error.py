"""How often a rollout decides about equal models, and how soon about different ones, on real losses.

Models of arrivals, trained January to May and asked June to December, in pairs that differ in one thing. For a pair of
equal models with the dependence of real flights, whole days are flipped: which model is called the candidate is drawn
anew each day, and the days are shuffled. 5,000 rollouts a pair, a look after every day, over all days.

``python -m bench.rollout_error FILE`` writes the daily losses instead: what the tests simulate with.
"""

from __future__ import annotations

import math
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import polars as pl

from components.collector.extract import extract
from components.featurizer.entity_keys import entity_keys
from components.featurizer.historical import featurize
from ninefold.dataset import INPUT
from ninefold.loading import load_use_case
from ninefold.rollout.policy import RolloutPolicy
from ninefold.rollout.sequential import Blocks, evidence_above_zero, interval
from ninefold.settings import Settings
from ninefold.store import open_store
from ninefold.usecase import UseCase
from usecases.arrivals.etl import read_flights

Array = np.ndarray[Any, Any]

ROLLOUTS = 5_000
POWER_ROLLOUTS = 1_000
LONGEST = 1_000
"""Days after which a rollout about different models counts as undecided."""
SEED = 20130701
POLICY = RolloutPolicy()
PARAMS = {
    "objective": "regression_l1", "num_leaves": 63, "learning_rate": 0.1, "min_data_in_leaf": 60,
    "feature_fraction": 0.7, "bagging_fraction": 0.8, "bagging_freq": 1, "lambda_l2": 1.0, "num_threads": 1,
    "seed": 1, "verbosity": -1, "deterministic": True, "force_row_wise": True,
}  # fmt: skip
ROUNDS = 150
AIR_TIME = "leak.air_time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Days:
    """Losses of one model against the reference, day by day.

    Args:
        mean: [days], mean difference of their losses.
        requests: [days].
        squares: [days], sum of squared differences of single requests.
    """

    mean: Array
    requests: Array
    squares: Array


def losses() -> tuple[Array, dict[str, Array]]:
    """The day of each flight of June to December, and each model's absolute errors; ``full`` is the reference."""
    use_case = load_use_case("arrivals")
    with tempfile.TemporaryDirectory() as folder:
        here = Settings(home=Path(folder))
        data = here.folder("data") / use_case.name
        with open_store(here.store_url) as store:
            extract(use_case, store, data)
        requests, truths = (pl.read_parquet(data / f"{name}.parquet") for name in ("requests", "truths"))
        frame = featurize(use_case, requests, truths, None, here)[0].filter(pl.col("truth").is_not_null())
    frame = frame.join(_air_times(use_case), on="key", how="left", maintain_order="left")
    month = frame["block"].str.slice(5, 2).cast(pl.Int8).to_numpy()
    train, test = month <= 5, month >= 6
    groups = {group: [i.name for i in use_case.inputs if i.group == group] for group in ("weather", "history", "hot")}
    fifth = np.random.default_rng(SEED).random(len(frame)) < 0.2
    predictions = {
        "full": _fit(use_case, frame, train, test),
        "other_rows": _fit(use_case, frame, train & ~fifth, test, seed=2),
        "no_weather": _fit(use_case, frame, train, test, without=groups["weather"]),
        "no_history": _fit(use_case, frame, train, test, without=groups["history"]),
        "no_hot": _fit(use_case, frame, train, test, without=groups["hot"]),
        "one_month": _fit(use_case, frame, month == 5, test),
        "leaky": _fit(use_case, frame, train, test, leaks=AIR_TIME),
        "baseline": frame["baseline"].to_numpy()[test],
    }
    truth = frame["truth"].to_numpy()[test]
    return frame["block"].to_numpy()[test], {name: np.abs(p - truth) for name, p in predictions.items()}


def _air_times(use_case: UseCase) -> pl.DataFrame:
    """How long each flight was in the air: known once it has landed, and never at departure."""
    date = pl.date("year", "month", "day").dt.to_string("%Y-%m-%d")
    flights = read_flights().with_columns(date=date, **{AIR_TIME: pl.col("air_time").cast(pl.Float64)})
    keys = entity_keys(flights, use_case.key)
    return flights.select(AIR_TIME).with_columns(keys.alias("key")).unique("key", keep="first")


def _fit(
    use_case: UseCase,
    frame: pl.DataFrame,
    train: Array,
    test: Array,
    *,
    without: list[str] | None = None,
    leaks: str | None = None,
    seed: int = 1,
) -> Array:
    """Predictions for ``test``; what leaks is there in training, and null when it is asked."""
    import lightgbm as lgb

    inputs = [i for i in use_case.inputs if i.name not in (without or [])]
    columns = [
        frame[INPUT + i.name].rank("dense").cast(pl.Float64) if i.kind == "category" else frame[INPUT + i.name]
        for i in inputs
    ]
    if leaks is not None:
        columns.append(pl.select(pl.when(pl.lit(train)).then(frame[leaks])).to_series())
    matrix = np.column_stack([column.cast(pl.Float64).fill_null(math.nan).to_numpy() for column in columns])
    offset = frame[f"{INPUT}{use_case.offset}"].to_numpy()
    goal = frame["truth"].to_numpy() - offset
    categories = [place for place, i in enumerate(inputs) if i.kind == "category"]
    rows = lgb.Dataset(matrix[train], goal[train], categorical_feature=categories)
    booster = lgb.train({**PARAMS, "seed": seed}, rows, ROUNDS)
    return offset[test] + np.asarray(booster.predict(matrix[test], num_threads=1))


def by_day(day: Array, reference: Array, other: Array) -> Days:
    """Differences of two models' losses, summed up by day."""
    _, places = np.unique(day, return_inverse=True)
    difference = reference - other
    requests = np.bincount(places)
    return Days(
        mean=np.bincount(places, weights=difference) / requests,
        requests=requests,
        squares=np.bincount(places, weights=difference**2),
    )


def first_decision(values: Array) -> int | None:
    """The day on which the test first says which is better; None if it never does."""
    blocks = Blocks()
    for value in values.tolist():
        blocks = blocks.add(value)
        low, high = interval(blocks, alpha=POLICY.alpha, tightest_at=POLICY.tightest_at, minimum=POLICY.minimum_blocks)
        if low > 0.0 or high < 0.0:
            return blocks.count
    return None


def first_harm(values: Array) -> int | None:
    """The day on which harm is first shown; None if it never is."""
    blocks = Blocks()
    for value in values.tolist():
        blocks = blocks.add(value)
        if evidence_above_zero(blocks) >= -math.log(POLICY.alpha):
            return blocks.count
    return None


def by_requests(days: Days, order: Array, sign: Array) -> bool:
    """Whether the same confidence sequence decides when it takes requests for the unit."""
    count = np.cumsum(days.requests[order])
    total = np.cumsum((days.mean * days.requests)[order] * sign)
    squares = np.cumsum(days.squares[order]) - total**2 / count
    tightest_at = round(POLICY.tightest_at * days.requests.mean())
    for n, t, s in zip(*(x[POLICY.minimum_blocks - 1 :].tolist() for x in (count, total, squares)), strict=True):
        low, high = interval(Blocks(n, t / n, s), alpha=POLICY.alpha, tightest_at=tightest_at, minimum=1)
        if low > 0.0 or high < 0.0:
            return True
    return False


def flipped(rng: np.random.Generator, values: Array) -> Array:
    """Days of equal models: in any order, and which is the candidate is drawn for each."""
    return rng.permutation(values) * rng.choice([-1.0, 1.0], len(values))


def shifted(rng: np.random.Generator, values: Array, size: float) -> Array:
    """Days of different models: real differences without their mean, in units of their spread, moved by ``size``.

    Their skew is kept; which way it points is drawn for each rollout.
    """
    spread = (values - values.mean()) / values.std()
    return rng.choice(spread, LONGEST) * rng.choice([-1.0, 1.0]) + size


def median_days(found: list[int | None]) -> float:
    """The median, where undecided is later than any day."""
    return median(LONGEST if day is None else day for day in found)


def _leaky_days(day: Array, errors: dict[str, Array]) -> list[int | None]:
    """Days until the leaky model is seen to be worse by more than the margin, from each day but the last fortnight."""
    _, places = np.unique(day, return_inverse=True)
    full, leaky = (np.bincount(places, weights=errors[name]) / np.bincount(places) for name in ("full", "leaky"))
    harm = leaky - (1.0 + POLICY.margin) * full
    return [first_harm(harm[start:]) for start in range(len(harm) - POLICY.minimum_blocks)]


def main() -> list[dict[str, Any]]:
    """Simulates, and says what each pair does."""
    day, errors = losses()
    rng = np.random.default_rng(SEED)
    rows: list[dict[str, Any]] = []
    decided_at: dict[float, list[float]] = {0.5: [], 0.7: [], 1.0: []}
    harmed_at: dict[float, list[float]] = {0.7: [], 1.0: [], 2.0: []}
    for name in list(errors)[1:]:
        days = by_day(day, errors["full"], errors[name])
        simulated = [flipped(rng, days.mean) for _ in range(ROLLOUTS)]
        either = 100 * np.mean([first_decision(values) is not None for values in simulated])
        alarm = 100 * np.mean([first_harm(values) is not None for values in simulated])
        requests = 100 * np.mean(
            [
                by_requests(days, rng.permutation(len(days.mean)), rng.choice([-1.0, 1.0], len(days.mean)))
                for _ in range(ROLLOUTS // 10)
            ]
        )
        size = abs(float(days.mean.mean() / days.mean.std()))
        what = f"full against {name}"
        rows += [
            _row(f"{what}: real daily mean/sd", size, None, "", None),
            _row(f"{what}, equal: decided either way", either, "≤ 6.5", "%", bool(either <= 6.5)),
            _row(f"{what}, equal: harm seen", alarm, "≤ 6.5", "%", bool(alarm <= 6.5)),
            _row(f"{what}, equal: the same test over requests decides", requests, None, "%", None),
        ]
        for at in decided_at:
            decided_at[at].append(
                median_days([first_decision(shifted(rng, days.mean, at)) for _ in range(POWER_ROLLOUTS)])
            )
        for at in harmed_at:
            harmed_at[at].append(median_days([first_harm(shifted(rng, days.mean, at)) for _ in range(POWER_ROLLOUTS)]))
    for at, found in decided_at.items():
        bound, ok = ("≤ 18", max(found) <= 18) if at == 0.7 else (None, None)
        rows.append(_row(f"median days to a decision at mean/sd {at}, worst pair", max(found), bound, "d", ok))
    for at, found in harmed_at.items():
        rows.append(_row(f"median days until harm at mean/sd {at} is seen, worst pair", max(found), None, "d", None))
    seen = _leaky_days(day, errors)
    most = POLICY.diagnosis_blocks
    rows.append(
        _row("days until the leaky model's harm is seen, median of every start", median_days(seen), None, "d", None)
    )
    worst = max(LONGEST if days is None else days for days in seen)
    rows.append(_row("days until the leaky model's harm is seen, worst start", worst, f"≤ {most}", "d", worst <= most))
    return rows


def _row(name: str, value: float, bound: str | None, unit: str, ok: bool | None) -> dict[str, Any]:
    return {"name": f"rollout: {name}", "value": float(value), "bound": bound, "unit": unit, "ok": ok}


def write_daily_losses(path: Path) -> None:
    """One line a day: its flights, and each model's mean loss."""
    day, errors = losses()
    frame = pl.DataFrame({"day": day, **errors}).group_by("day").agg(pl.len().alias("flights"), pl.col(*errors).mean())
    frame.sort("day").write_csv(path, float_precision=4)


if __name__ == "__main__":
    write_daily_losses(Path(sys.argv[1]))
