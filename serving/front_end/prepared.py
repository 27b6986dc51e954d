"""From checked requests to what a model is asked: features, derived inputs, and reasons to ask the baseline instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ninefold.clock import Clock, EventClock
from ninefold.interval import Bounds
from ninefold.records import Fallback
from ninefold.usecase import UseCase
from serving.front_end.columns import to_model_rows
from serving.front_end.directions import Route, ServedVersion
from serving.front_end.fallback import baseline_predictions
from serving.front_end.feature_reader import FeatureReader, RowFeatures
from serving.front_end.validation import Row
from serving.front_end.versions import Versions

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


@dataclass(slots=True)
class Prepared:
    """A batch on its way; one entry a row in every list.

    Args:
        route: Where it goes.
        rows: Checked values.
        received: When the requests came.
        decided: Decision moments.
        reader: What read the features.
        features: What was read.
        inputs: Derived columns; None where nothing had to be derived.
        model_rows: The model's instances; empty without a version.
        flags: What was odd so far.
        fallbacks: Why the baseline answers a row; None where the model does.
        shadow_features: What the candidate needs of the same rows, as of the same moment; None where nobody asks it.
        to_read: What has yet to read them.
        unread: Why they could not be read; None where they could.
        intervals: Place of a row → its interval, as the model answered it; none of a row that the baseline answers.
    """

    route: Route
    rows: list[Row]
    received: list[datetime]
    decided: list[datetime]
    reader: FeatureReader
    features: list[RowFeatures]
    inputs: dict[str, Array] | None
    model_rows: list[tuple[Any, ...]]
    flags: list[list[str]]
    fallbacks: list[Fallback | None]
    shadow_features: list[RowFeatures] | None = None
    to_read: FeatureReader | None = None
    unread: Exception | None = None
    intervals: dict[int, Bounds] = field(default_factory=dict)

    @property
    def served(self) -> ServedVersion | None:
        """The version that answers; None before the first."""
        return self.route.served

    def fall_back(self, places: Sequence[int], reason: Fallback) -> None:
        """Gives rows to the baseline."""
        for place in places:
            self.fallbacks[place] = reason

    def read_on(self) -> None:
        """Reads what the candidate alone needs, if that is still to be done; it raises nothing."""
        reader, self.to_read = self.to_read, None
        if reader is not None:
            try:
                self.shadow_features = reader.read(self.rows, self.decided, self.received[0])
            except Exception as error:
                # Nobody waits for it, and whose answer is under way must not hear of it.
                self.unread = error


class Preparer:
    """Prepares batches.

    Args:
        use_case: The use case.
        versions: Knows what reads features where there is no version.
        clock: Wall time; in a replay the requests' own times.
    """

    def __init__(self, use_case: UseCase, versions: Versions, clock: Clock) -> None:
        names = [field.name for field in use_case.request]
        self._use_case = use_case
        self._versions = versions
        self._clock = clock
        self._decided_at = names.index(use_case.decided_at) if use_case.decided_at is not None else None
        self._ranges = [
            (place, field.in_range, f"out_of_range:{field.name}")
            for place, field in enumerate(use_case.request)
            if field.minimum is not None or field.maximum is not None
        ]

    def prepare(self, rows: list[Row], route: Route) -> Prepared:
        """Reads features, derives inputs, and marks the rows that the baseline has to answer."""
        received, decided = self.moments(rows)
        served, shadow = route.served, route.shadow
        reader = served.features if served is not None else self._versions.declared_features
        features = reader.read(rows, decided, received)
        inputs = self._derive(reader, rows, features)
        prepared = Prepared(
            route=route,
            rows=rows,
            received=[received] * len(rows),
            decided=decided,
            reader=reader,
            features=features,
            inputs=inputs,
            model_rows=to_model_rows(served.manifest.signature.inputs, inputs, len(rows)) if served else [],
            flags=[read.flags.copy() for read in features],
            fallbacks=[read.fallback for read in features],
        )
        if shadow is not None and shadow.served is not None:
            if shadow.served.features is reader:
                prepared.shadow_features = features
            else:
                prepared.to_read = shadow.served.features
        self._check_ranges(prepared)
        self._check_training(prepared)
        return prepared

    def prepare_shadow(self, asked: Sequence[tuple[Prepared, int]], shadow: Route) -> Prepared:
        """Prepares rows that the live version has answered for the candidate, from what was read for it by then.

        Args:
            asked: Batches of the live version, and the place of a row in each.
            shadow: Where the rows go.
        """
        served = shadow.served
        if served is None:
            raise ValueError("there is no candidate to ask")
        reader, signature = served.features, served.manifest.signature
        rows = [batch.rows[place] for batch, place in asked]
        features = [batch.shadow_features[place] for batch, place in asked if batch.shadow_features is not None]
        inputs = None
        if shadow.alike:
            model_rows = [batch.model_rows[place] for batch, place in asked]
        else:
            inputs = self._derive(reader, rows, features)
            model_rows = to_model_rows(signature.inputs, inputs, len(rows))
        prepared = Prepared(
            route=shadow,
            rows=rows,
            received=[batch.received[place] for batch, place in asked],
            decided=[batch.decided[place] for batch, place in asked],
            reader=reader,
            features=features,
            inputs=inputs,
            model_rows=model_rows,
            flags=[read.flags.copy() for read in features],
            fallbacks=[read.fallback for read in features],
        )
        self._check_training(prepared)
        return prepared

    def baseline(self, prepared: Prepared, places: Sequence[int]) -> list[float]:
        """The baseline's predictions of some rows."""
        inputs = prepared.inputs
        if inputs is None:
            inputs = prepared.inputs = self._derive(prepared.reader, prepared.rows, prepared.features)
        if len(places) == len(prepared.rows):
            return baseline_predictions(self._use_case, inputs)
        chosen = list(places)
        return baseline_predictions(self._use_case, {name: c[chosen] for name, c in inputs.items()})

    def moments(self, rows: Sequence[Row]) -> tuple[datetime, list[datetime]]:
        """When the request came, and its rows' decision moments; a clock of events moves on by them."""
        place = self._decided_at
        if place is None:
            received = self._clock.now()
            return received, [received] * len(rows)
        received = self._clock.now()
        decided = [row[place] if row[place] is not None else received for row in rows]
        if isinstance(self._clock, EventClock):
            self._clock.advance(max(decided))
            received = self._clock.now()
        return received, decided

    def is_in_range(self, row: Row) -> bool:
        """Whether every field is within the range that the use case declares: no model is asked for any other."""
        return all(row[column] is None or in_range(row[column]) for column, in_range, _ in self._ranges)

    def _derive(self, reader: FeatureReader, rows: Sequence[Row], features: Sequence[RowFeatures]) -> dict[str, Array]:
        return self._use_case.inputs_of(
            reader.columns.make([row + read.values for row, read in zip(rows, features, strict=True)])
        )

    def _check_ranges(self, prepared: Prepared) -> None:
        for place, row in enumerate(prepared.rows):
            for column, in_range, flag in self._ranges:
                value = row[column]
                if value is not None and not in_range(value):
                    prepared.flags[place].append(flag)
                    prepared.fallbacks[place] = prepared.fallbacks[place] or "out_of_range"

    def _check_training(self, prepared: Prepared) -> None:
        served, fallbacks = prepared.served, prepared.fallbacks
        if served is None:
            prepared.fall_back(range(len(fallbacks)), "no_model")
            return
        check = served.training.check
        for place, (row, flags) in enumerate(zip(prepared.model_rows, prepared.flags, strict=True)):
            unseen = check(row, flags)
            fallbacks[place] = fallbacks[place] or unseen
