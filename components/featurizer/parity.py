"""Parity: whether the features that the front end logged are those of the point-in-time join, to the last bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from components.collector.extract import frame_of
from components.featurizer.historical import historical_features, write_changelogs
from ninefold.dataset import FEATURE
from ninefold.records import Prediction
from ninefold.settings import Settings
from ninefold.usecase import UseCase

SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One value that differs.

    Args:
        prediction_id: Of the prediction that logged it.
        feature: Logical name.
        online: What the front end read; None where it found nothing.
        offline: What the join gives.
    """

    prediction_id: str
    feature: str
    online: Any
    offline: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """Logged features against offline ones.

    Args:
        rows: Predictions compared.
        values: Values compared.
        nulls: Of these, values that are null on both sides.
        different: Feature → values that differ.
        examples: The first few differences.
    """

    rows: int
    values: int
    nulls: int
    different: Mapping[str, int] = field(default_factory=dict)
    examples: tuple[Difference, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether there was something to compare, and all of it is equal."""
        return self.values > 0 and not self.different


def offline_features(
    use_case: UseCase, predictions: Sequence[Prediction], lengths: Mapping[str, str] | None, settings: Settings
) -> pl.DataFrame:
    """The features that the point-in-time join gives for logged requests: one column ``feature.<logical name>`` each.

    Args:
        use_case: Whose.
        predictions: What was logged.
        lengths: Window lengths of the version that answered.
        settings: Say where history lies.
    """
    write_changelogs(use_case, lengths, settings)
    requests = frame_of(use_case.request, (p.request for p in predictions))
    return historical_features(use_case, requests, lengths, settings)


def feature_parity(predictions: Sequence[Prediction], offline: pl.DataFrame) -> Parity:
    """Compares every logged value with the offline one, exactly.

    Args:
        predictions: What was logged.
        offline: ``offline_features`` of the same predictions, in their order.
    """
    different: dict[str, int] = {}
    examples: list[Difference] = []
    values = nulls = 0
    for column in offline.columns:
        name = column.removeprefix(FEATURE)
        for prediction, expected in zip(predictions, offline[column].to_list(), strict=True):
            # A feature that the front end did not log at all is different from every value, null included.
            logged = prediction.features.get(name, _NOT_LOGGED)
            values += 1
            if logged == expected and type(logged) is type(expected):
                nulls += expected is None
                continue
            if isinstance(logged, int) and isinstance(expected, float) and logged == expected:
                continue  # JSON writes a whole float as it likes
            different[name] = different.get(name, 0) + 1
            if len(examples) < SHOWN:
                examples.append(
                    Difference(prediction_id=prediction.prediction_id, feature=name, online=logged, offline=expected)
                )
    return Parity(rows=len(predictions), values=values, nulls=nulls, different=different, examples=tuple(examples))


_NOT_LOGGED = "not logged"


def logged_features(use_case: UseCase, predictions: Sequence[Prediction]) -> pl.DataFrame:
    """The features that were logged, one column ``feature.<logical name>`` each."""
    kinds = {
        feature: kind
        for view in use_case.feature_views()
        for feature, kind in zip(view.features, view.kinds, strict=True)
    }
    return pl.DataFrame(
        {
            FEATURE + name: pl.Series(
                [p.features.get(name) for p in predictions],
                dtype=pl.String if kind == "category" else pl.Float64,
                strict=False,
            )
            for name, kind in kinds.items()
        }
    )
