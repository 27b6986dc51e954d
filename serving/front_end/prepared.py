"""From checked requests to what a model is asked: features, derived inputs, and reasons to ask the baseline instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ninefold.clock import Clock, EventClock
from ninefold.records import Fallback
from ninefold.usecase import UseCase
from serving.front_end.columns import to_model_rows
from serving.front_end.fallback import baseline_predictions
from serving.front_end.feature_reader import RowFeatures
from serving.front_end.validation import Row
from serving.front_end.versions import ServedVersion, Versions

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


@dataclass(slots=True)
class Prepared:
    """A batch on its way; one entry a row in every list.

    Args:
        rows: Checked values.
        received: When the request came.
        decided: Decision moments.
        served: The version that answers; None before the first.
        feature_names: Logical names of the features.
        features: What was read.
        inputs: Derived columns.
        model_rows: The model's instances; empty without a version.
        flags: What was odd so far.
        fallbacks: Why the baseline answers a row; None where the model does.
    """

    rows: list[Row]
    received: datetime
    decided: list[datetime]
    served: ServedVersion | None
    feature_names: tuple[str, ...]
    features: list[RowFeatures]
    inputs: dict[str, Array]
    model_rows: list[tuple[Any, ...]]
    flags: list[list[str]]
    fallbacks: list[Fallback | None]

    def fall_back(self, places: Sequence[int], reason: Fallback) -> None:
        """Gives rows to the baseline."""
        for place in places:
            self.fallbacks[place] = reason


class Preparer:
    """Prepares batches.

    Args:
        use_case: The use case.
        versions: Which version answers.
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

    def prepare(self, rows: list[Row]) -> Prepared:
        """Reads features, derives inputs, and marks the rows that the baseline has to answer."""
        received, decided = self.moments(rows)
        served = self._versions.live
        reader = served.features if served is not None else self._versions.declared_features
        features = reader.read(rows, decided, received)
        columns = reader.columns.make([row + read.values for row, read in zip(rows, features, strict=True)])
        inputs = self._use_case.inputs_of(columns)
        prepared = Prepared(
            rows=rows,
            received=received,
            decided=decided,
            served=served,
            feature_names=reader.names,
            features=features,
            inputs=inputs,
            model_rows=to_model_rows(served.manifest.signature.inputs, inputs, len(rows)) if served else [],
            flags=[read.flags for read in features],
            fallbacks=[read.fallback for read in features],
        )
        self._check_ranges(prepared)
        return prepared

    def baseline(self, prepared: Prepared, places: Sequence[int]) -> list[float]:
        """The baseline's predictions of some rows."""
        if len(places) == len(prepared.rows):
            return baseline_predictions(self._use_case, prepared.inputs)
        chosen = list(places)
        return baseline_predictions(self._use_case, {name: c[chosen] for name, c in prepared.inputs.items()})

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

    def _check_ranges(self, prepared: Prepared) -> None:
        served = prepared.served
        for place, row in enumerate(prepared.rows):
            flags = prepared.flags[place]
            reason = prepared.fallbacks[place]
            for column, in_range, flag in self._ranges:
                value = row[column]
                if value is not None and not in_range(value):
                    flags.append(flag)
                    reason = reason or "out_of_range"
            if served is not None:
                unseen = served.training.check(prepared.model_rows[place], flags)
                reason = reason or unseen
            else:
                reason = "no_model"
            prepared.fallbacks[place] = reason
