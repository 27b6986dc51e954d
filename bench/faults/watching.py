"""Faults of what production is asked with: the real monitor watches a week whose last three days have one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bench.faults.flights import Flights, mae
from bench.faults.live import answered, asked_live
from bench.faults.production import BEGAN, DAY, FAULTY_FROM, WATCHED_UNTIL, Production
from bench.faults.row import Fault
from components.featurizer.historical import historical_features
from components.monitor.alerts import QUALITY
from components.monitor.run import Watched
from ninefold.dataset import FEATURE, INPUT, REQUEST, columns_of
from ninefold.records import Prediction
from ninefold.store import Alert
from usecases.arrivals.etl import PUERTO_RICO

TEXTBOOK = 0.25
"""The usual bound of the population stability index."""


def faults(flights: Flights, folder: Path, asked: Sequence[Prediction]) -> Iterator[Fault]:
    """Each of them.

    Args:
        flights: The flights.
        folder: Where another history may lie.
        asked: The last three days' flights as they were asked live, without a fault.
    """
    production = Production(flights, flights.honest)
    use_case, model, july = flights.use_case, flights.honest, flights.july
    quiet = production.watched("quiet", answered(use_case, model, asked))
    offline = mae(july["truth"], model.predict(july))
    hot = [i.name for i in use_case.inputs if i.group == "hot"]
    rows = len(july)

    def row(name: str, check: str, subject: str, watched: Watched, online: float) -> Fault:
        alerts = [a for a in _raised(watched) if (a.check, a.subject) == (check, subject)]
        return Fault(
            name=name, kind="monitor", check=check, caught=bool(alerts),
            words=alerts[0].message + _others(watched, alerts[0]) if alerts else _stood(watched),
            twin_passes=not _raised(quiet), twin=_stood(quiet), offline=offline, online=online,
        )  # fmt: skip

    nothing = asked_live(flights, FAULTY_FROM, WATCHED_UNTIL, name="nothing", without_windows=True)
    watched = production.watched("nothing", answered(use_case, model, nothing))
    yield row(
        "hot features missing", "null_share", "feature destination_gain__mean", watched,
        mae(july["truth"], model.predict(july, **{name: np.full(rows, np.nan) for name in hot})),
    )  # fmt: skip
    filled = [replace(one, features={**one.features, **dict.fromkeys(_hot_features(flights), 0.0)}) for one in asked]
    watched = production.watched("zero", answered(use_case, model, filled))
    yield row(
        "hot features filled with zero", "drift", "input destination_gain", watched,
        mae(july["truth"], model.predict(july, **{name: np.zeros(rows) for name in hot})),
    )  # fmt: skip
    still = asked_live(flights, FAULTY_FROM, WATCHED_UNTIL, name="still", stream_stops=FAULTY_FROM)
    watched = production.watched("still", answered(use_case, model, still))
    yield row(
        "hot features stale: the stream stands still", "stale", "window destination_gain", watched,
        mae(july["truth"], model.predict(july, **_of_a_day_before(flights, hot))),
    )  # fmt: skip
    yield _lost_destinations(flights, folder, production)
    yield _loss_and_drift(flights, production, asked, quiet)


def _hot_features(flights: Flights) -> list[str]:
    return [feature for window in flights.use_case.windows for feature in window.features]


def _of_a_day_before(flights: Flights, names: Sequence[str]) -> dict[str, Any]:
    """What a day's first flight would have been asked with, for all of the day: rows as they stood at midnight, UTC."""
    july = flights.july
    requests = july.select(pl.col(c).alias(c.removeprefix(REQUEST)) for c in july.columns if c.startswith(REQUEST))
    midnight = requests.with_columns(departed_at=pl.col("departed_at").dt.truncate("1d"))
    found = historical_features(flights.use_case, midnight, None, flights.settings)
    inputs = flights.use_case.inputs_of({**columns_of(july, REQUEST), **columns_of(found, FEATURE)})
    return {name: inputs[name] for name in names}


def _lost_destinations(flights: Flights, folder: Path, production: Production) -> Fault:
    """History joined to a list of airports that lacks four; production is asked for them from its first day on."""
    there = ~pl.col("destination").is_in(list(PUERTO_RICO))
    keys = list(flights.use_case.key)
    requests = pl.read_parquet(flights.data / "requests.parquet")
    gone = requests.filter(~there).select(keys)
    kept = {
        "requests": requests.filter(there),
        "truths": pl.read_parquet(flights.data / "truths.parquet").join(gone, on=keys, how="anti"),
        "streams/landings": pl.read_parquet(flights.data / "streams" / "landings.parquet").filter(there),
        **{
            f"views/{name}": pl.read_parquet(flights.data / "views" / f"{name}.parquet").filter(there)
            for name in ("route", "route_gain")
        },
    }
    joined = Flights(folder / "joined", like=flights, instead=kept)
    model = joined.learn("joined", joined.parts, joined.card)
    blank = [name for name in flights.frame.columns if name.startswith((FEATURE + "route__", FEATURE + "route_gain__"))]
    served = ~pl.col(REQUEST + "destination").is_in(list(PUERTO_RICO))
    frame = flights.frame.with_columns(pl.when(served).then(pl.col(name)).alias(name) for name in blank)
    until = BEGAN + 4 * DAY
    found = Production(flights, model, name="joined", frame=frame).watched(
        "joined", [], settings=joined.settings, since=BEGAN, until=until
    )
    honest = production.watched("first_days", [], since=BEGAN, until=until)
    alerts = [a for a in _raised(found) if a.subject == "input destination"]
    july = flights.july
    away = july[REQUEST + "destination"].is_in(list(PUERTO_RICO)).to_numpy()
    without = {
        name: np.where(away, np.nan, july[INPUT + name].to_numpy())
        for name in ("latitude", "longitude", "distance", "route_gain", "route_flights", "route_gain_week")
    }
    return Fault(
        name="an inner join with the airports loses SJU, BQN, STT and PSE: 2.3 % of the flights", kind="monitor",
        check=alerts[0].check if alerts else "drift, unseen", caught=bool(alerts),
        words=alerts[0].message + _others(found, alerts[0]) if alerts else _stood(found),
        twin_passes=not _raised(honest), twin=_stood(honest),
        offline=mae(joined.july["truth"], model.predict(joined.july)),
        online=mae(july["truth"], model.predict(july, **without)),
    )  # fmt: skip


def _loss_and_drift(flights: Flights, production: Production, asked: Sequence[Prediction], quiet: Watched) -> Fault:
    """What moves the inputs and costs nothing warns; an alert that asks for training is one about the loss."""
    drifted = _in_kilometres(flights, asked)
    watched = production.watched("drifted", drifted)
    alerts = _raised(watched)
    drifts = [a for a in alerts if a.check == "drift"]
    heat = [c.psi for columns in quiet.columns.values() for c in columns if c.name == INPUT + "temperature"]
    over = sum(psi > TEXTBOOK for psi in heat)
    worse = production.watched("worse", [replace(one, value=one.value + 25.0) for one in production.honest()])
    losses = [a for a in _raised(worse) if a.check in QUALITY]
    july, model = flights.july, flights.honest
    distance = 1.609344 * july[INPUT + "distance"].to_numpy()
    return Fault(
        name="drift without loss (distances in kilometres online): must warn, and not ask for training",
        kind="monitor", check="drift, and no training run",
        caught=bool(drifts) and watched.requested_run is None and not [a for a in alerts if a.check in QUALITY],
        words=f"{drifts[0].message if drifts else _stood(watched)} "
        f"{'No' if watched.requested_run is None else 'A'} training run is asked for.",
        twin_passes=not _raised(quiet) and worse.requested_run is not None and bool(losses),
        twin=f"July's heat: PSI of the temperature up to {max(heat):.2f}, above the textbook's {TEXTBOOK} on {over} of "
        f"{len(heat)} days, and no alert. Answers 25 min too high do ask for training: "
        f"{losses[0].message if losses else 'no'}",
        offline=mae(july["truth"], model.predict(july)),
        online=mae(july["truth"], model.predict(july, distance=distance)),
    )  # fmt: skip


def _in_kilometres(flights: Flights, asked: Sequence[Prediction]) -> list[Prediction]:
    far = [
        replace(one, features={**one.features, "route__distance": None if miles is None else 1.609344 * miles})
        for one in asked
        for miles in [one.features["route__distance"]]
    ]
    return answered(flights.use_case, flights.honest, far)


def _raised(watched: Watched) -> list[Alert]:
    return list(watched.changes.raised)


def _others(watched: Watched, first: Alert) -> str:
    others = [f"{a.check} of {a.subject}" if a.subject else a.check for a in _raised(watched) if a is not first]
    more = f" and {len(others) - 3} more" if len(others) > 3 else ""
    return f" Also: {', '.join(others[:3])}{more}." if others else ""


def _stood(watched: Watched) -> str:
    if alerts := _raised(watched):
        return f"{len(alerts)} alerts: {' '.join(a.message for a in alerts[:3])}"
    seen = sum(f.outcome == "within" for f in watched.findings)
    return f"No alert in {len(watched.windows)} days; {seen:,} checks found nothing."
