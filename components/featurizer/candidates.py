"""Features at every window length that tuning may choose, computed once; any choice of them is then a data set.

What tuning tries becomes known to nobody: changelogs and the join live in a scratch folder, so no feature view is
registered for a length that is not released.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import polars as pl

from components.featurizer.historical import dataset, historical_features, write_changelogs
from ninefold.clock import format_duration
from ninefold.dataset import FEATURE, DatasetCard
from ninefold.errors import DataError
from ninefold.features import with_lengths
from ninefold.settings import Settings
from ninefold.usecase import UseCase
from ninefold.windows.batch import changelog, values_at
from ninefold.windows.declaration import Window

_AT = "@"
# No name of a feature holds it.


def features_at_lengths(
    use_case: UseCase, requests: pl.DataFrame, choices: Iterable[Mapping[str, str]], settings: Settings
) -> pl.DataFrame:
    """The features of requests, those of windows once for each length that some choice has.

    Args:
        use_case: Whose; it has a decision moment.
        requests: The request's fields.
        choices: Window name → length, each; a window that is not named has its own.
        settings: Say where history and the (scratch) feature store lie.

    Returns:
        One row a request, in their order: ``feature.<name>`` of batch views, ``feature.<name>@<length>`` of windows.

    Raises:
        DataError: A file is missing, or the use case has no decision moment.
    """
    if use_case.decided_at is None:
        raise DataError(f"{use_case.name} has no decision moment: there is no time to look back from.")
    write_changelogs(use_case, None, settings)
    joined = historical_features(use_case, requests, None, settings)
    renamed = {
        FEATURE + feature: _column(feature, window) for window in use_case.windows for feature in window.features
    }
    columns = [joined.rename(renamed)]
    wanted = dict.fromkeys(window for choice in choices for window in with_lengths(use_case.windows, dict(choice)))
    for window in wanted:
        if window not in use_case.windows:
            columns.append(_values(use_case, requests, window, settings))
    return pl.concat(columns, how="horizontal")


def dataset_at_lengths(
    use_case: UseCase,
    requests: pl.DataFrame,
    features: pl.DataFrame,
    truths: pl.DataFrame,
    lengths: Mapping[str, str],
    *,
    reference: str | None = None,
) -> tuple[pl.DataFrame, DatasetCard]:
    """The data set of one choice of lengths: the same as ``featurize`` makes at these lengths.

    Args:
        use_case: Whose.
        requests: The request's fields.
        features: What ``features_at_lengths`` made of them.
        truths: The key's fields, ``truth`` and ``known_at``.
        lengths: Window name → length.
        reference: What ``load_use_case`` finds the use case by.

    Raises:
        DataError: A length was not computed.
    """
    chosen = {
        FEATURE + feature: _column(feature, window)
        for window in with_lengths(use_case.windows, dict(lengths))
        for feature in window.features
    }
    missing = [column for column in chosen.values() if column not in features.columns]
    if missing:
        raise DataError(f"Not computed at the wanted length: {', '.join(missing)}.")
    names = [FEATURE + feature for view in use_case.feature_views(lengths) for feature in view.features]
    selected = features.select(pl.col(chosen.get(name, name)).alias(name) for name in names)
    return dataset(use_case, requests, selected, truths, lengths, reference=reference)


def _column(feature: str, window: Window) -> str:
    return f"{FEATURE}{feature}{_AT}{format_duration(window.length)}"


def _values(use_case: UseCase, requests: pl.DataFrame, window: Window, settings: Settings) -> pl.DataFrame:
    stream: Path = settings.folder("data") / use_case.name / "streams" / f"{window.stream}.parquet"
    rows = changelog(pl.read_parquet(stream), window)
    values = values_at(rows, requests, window, at=str(use_case.decided_at))
    return values.select(
        pl.col(feature).cast(pl.Float64).fill_nan(None).alias(_column(feature, window)) for feature in window.features
    )
