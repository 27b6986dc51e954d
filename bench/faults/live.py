"""Flights asked live, in process: the real streaming featurizer, materialization, validation and feature reader.

As in a replay, in event time: at each instant rows of batch views that became known are written and the windows moved
on, then what was asked is validated and its features are read as the front end reads them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from bench.faults.flights import Array, Flights, Model
from components.collector.extract import frame_of
from components.featurizer.materialize import BatchRowFeed, materialize_windows
from components.featurizer.parity import logged_features
from ninefold.clock import parse_instant
from ninefold.dataset import FEATURE, columns_of
from ninefold.online import open_online_store
from ninefold.records import Event, Prediction, entity_key
from ninefold.usecase import UseCase
from pipelines.replay import read_traffic
from serving.featurizer.engine import StreamingFeaturizer
from serving.featurizer.windows import open_windows
from serving.front_end.feature_reader import FeatureReader
from serving.front_end.metrics import Metrics
from serving.front_end.validation import RequestParser

Sent = Callable[[dict[str, Any]], dict[str, Any]]


def asked_live(
    flights: Flights, since: datetime, until: datetime, *, name: str, stream_stops: datetime | None = None,
    without_windows: bool = False, sent: Sent = lambda request: request,
) -> list[Prediction]:  # fmt: skip
    """Predictions without a value of all flights of a stretch, with the features that the front end reads.

    Args:
        flights: The flights.
        since: First decision moment.
        until: Just past the last one.
        name: Of the online store.
        stream_stops: From here on no event comes and no watermark moves; None for never.
        without_windows: Whether no window is ever written.
        sent: What a client makes of a request.
    """
    use_case, settings = flights.use_case, flights.settings
    here = settings.model_copy(update={"online_url": f"sqlite:///{settings.home / name}-online.db"})
    # Flights go by whole minutes: between two of them, what is in a window and what is not is plain.
    begun = since - timedelta(seconds=30)
    traffic = read_traffic(use_case, flights.data, begun, until)
    parser = RequestParser(use_case.request, name=use_case.name, max_instances=10_000)
    feed = BatchRowFeed(use_case, here)
    found: list[Prediction] = []
    if not without_windows:
        materialize_windows(use_case, here, None, begun)
    with closing(open_online_store(here.online_url)) as online:
        windows = StreamingFeaturizer({} if without_windows else open_windows(use_case, ()), online, _no_log)
        reader = FeatureReader(
            use_case.feature_views(), use_case.request, online,
            timedelta(seconds=settings.serving.stale_after_seconds), Metrics(use_case.name),
        )  # fmt: skip
        windows.apply(map(_event, traffic.seed))
        windows.advance(begun)
        for instant in traffic.instants:
            if stream_stops is None or instant < stream_stops:
                windows.apply(map(_event, traffic.events.get(instant, ())))
            requests = traffic.requests.get(instant)
            if requests is None:
                continue
            feed.write(online, instant)
            if stream_stops is None or instant < stream_stops:
                windows.advance(instant)
                windows.flush()
            # What the machinery learned of time is the moment of asking, whatever the request says.
            instances = [sent(_integers(use_case, request)) for request in requests]
            batch = parser.parse(json.dumps({"instances": instances}).encode())
            found += _kept(use_case, reader, batch.rows, batch.instances, instant)
    return found


def _no_log(stream: str, *, since: datetime | None) -> Sequence[Event]:
    return ()


def _integers(use_case: UseCase, request: dict[str, Any]) -> dict[str, Any]:
    whole = {f.name for f in use_case.request if f.kind == "integer"}
    return {name: int(value) if name in whole else value for name, value in request.items()}


def _event(sent: dict[str, Any]) -> Event:
    known = parse_instant(sent["known_at"])
    return Event(
        event_id=sent["id"], use_case="arrivals", stream=sent["stream"], happened_at=parse_instant(sent["happened_at"]),
        known_at=known, received_at=known, values=sent["values"],
    )  # fmt: skip


def _kept(
    use_case: UseCase, reader: FeatureReader, rows: list[list[Any]], instances: list[dict[str, Any]], now: datetime
) -> list[Prediction]:
    names = [field.name for field in use_case.request]
    at = names.index(str(use_case.decided_at))
    places = [names.index(name) for name in use_case.key]
    decided = [row[at] for row in rows]
    return [
        Prediction(
            prediction_id=f"live-{key}", use_case=use_case.name, request_id=None, key=key, decided_at=moment,
            received_at=now, version=1, cohort="live", request=instance,
            features=dict(zip(reader.names, read.values, strict=True)), value=0.0, flags=tuple(read.flags),
            latency_ms=3.0,
        )
        for row, instance, moment, read in zip(rows, instances, decided, reader.read(rows, decided, now), strict=True)
        for key in [entity_key([row[place] for place in places])]
    ]  # fmt: skip


def answered(use_case: UseCase, model: Model, asked: Sequence[Prediction]) -> list[Prediction]:
    """The same with the model's values, made of what was logged."""
    request = columns_of(frame_of(use_case.request, (p.request for p in asked)), "")
    inputs = use_case.inputs_of({**request, **columns_of(logged_features(use_case, asked), FEATURE)})
    values: Array = np.asarray(model.predictor.predict_columns(inputs), dtype=np.float64)
    return [replace(one, value=value) for one, value in zip(asked, values.tolist(), strict=True)]


def loss(answers: Sequence[Prediction], frame: pl.DataFrame) -> float:
    """Mean absolute error of answers whose truth is known, in minutes."""
    truth = dict(frame.filter(pl.col("truth").is_not_null()).select("key", "truth").iter_rows())
    return float(np.mean([abs(one.value - truth[one.key]) for one in answers if one.key in truth]))
