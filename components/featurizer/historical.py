"""From requests to a data set: features by Feast's point-in-time join, inputs by ``derive``, the baseline, the truth.

What the model will be asked in production is made here for the past, by the same declarations and the same ``derive``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from components.featurizer.entity_keys import entity_keys
from feature_repo.files import source_path
from ninefold.atomic import replacing
from ninefold.dataset import FEATURE, INPUT, REQUEST, DatasetCard, columns_of
from ninefold.errors import DataError
from ninefold.features import FeatureView, window_feature_view, with_lengths
from ninefold.fields import NUMERIC, Columns, Kind
from ninefold.settings import Settings
from ninefold.signature import Signature
from ninefold.truths import SOURCE, standing_rows
from ninefold.usecase import UseCase
from ninefold.windows.batch import changelog
from ninefold.windows.declaration import KNOWN_AT

_AT = "event_timestamp"
_FINGERPRINT = "ninefold.fingerprint"


def featurize(
    use_case: UseCase,
    requests: pl.DataFrame,
    truths: pl.DataFrame,
    lengths: Mapping[str, str] | None,
    settings: Settings,
    *,
    reference: str | None = None,
) -> tuple[pl.DataFrame, DatasetCard]:
    """Makes a data set of requests; rows keep their order, and one without truth has a null there.

    Args:
        use_case: Whose.
        requests: The request's fields; other columns are ignored.
        truths: The key's fields, ``truth`` and ``known_at``, and where it is known ``source``; of several for a key
            one counts by ``ninefold.truths``.
        lengths: Window name → length; a window that is not named keeps its own.
        settings: Say where history and the feature store lie.
        reference: What ``load_use_case`` finds the use case by, for the signature; None for its name.

    Returns:
        The frame in the layout of ``ninefold.dataset``, and its card.

    Raises:
        DataError: A column or a file is missing, or ``derive``, the baseline or the block break their contract.
        ConfigurationError: A length or a view that can't be.
    """
    write_changelogs(use_case, lengths, settings)
    features = historical_features(use_case, requests, lengths, settings)
    return dataset(use_case, requests, features, truths, lengths, reference=reference)


def dataset(
    use_case: UseCase,
    requests: pl.DataFrame,
    features: pl.DataFrame,
    truths: pl.DataFrame,
    lengths: Mapping[str, str] | None,
    *,
    reference: str | None = None,
) -> tuple[pl.DataFrame, DatasetCard]:
    """Makes a data set of requests whose features are known already; arguments and errors as ``featurize``.

    Args:
        use_case: Whose.
        requests: The request's fields.
        features: A column ``feature.<logical name>`` each, one row a request.
        truths: The key's fields, ``truth`` and ``known_at``.
        lengths: The lengths that the windows' features have.
        reference: What ``load_use_case`` finds the use case by.
    """
    views = use_case.feature_views(lengths)
    asked = _request_columns(use_case, requests)
    base = pl.concat([asked, features], how="horizontal")
    columns = {**columns_of(base, REQUEST), **columns_of(base, FEATURE)}
    inputs = _inputs(use_case, columns, len(base))
    key = entity_keys(requests, use_case.key)
    told = _standing_truths(use_case, truths, key)
    truth = told["truth"]
    frame = pl.DataFrame(
        {
            "key": key,
            "decided_at": _decided_at(use_case, requests),
            "block": _blocks(use_case, columns_of(base, REQUEST), len(base)),
            "truth": truth,
            SOURCE: told[SOURCE],
            "baseline": _baseline(use_case, inputs),
            "weight": pl.repeat(1.0, len(base), eager=True),
        }
    )
    card = DatasetCard(
        signature=Signature(
            use_case=reference or use_case.name,
            problem=use_case.problem,
            inputs=use_case.inputs,
            views=views,
            derive_digest=use_case.derive_digest,
            target=use_case.target.name,
            unit=use_case.target.unit,
            interval=use_case.interval,
        ),
        metric=use_case.metric,
        offset=use_case.offset,
        model_format=use_case.model_format,
        notes={"rows": len(base), "rows without truth": truth.null_count()},
    )
    return pl.concat([frame, base, inputs], how="horizontal"), card


def historical_features(
    use_case: UseCase, requests: pl.DataFrame, lengths: Mapping[str, str] | None, settings: Settings
) -> pl.DataFrame:
    """The features of requests at their decision moments, through Feast: one column ``feature.<logical name>`` each.

    Where the use case has no decision moment, the features are those of the newest instant that a view knows.
    """
    # A data set of features that are known already is made without Feast, whose import takes seconds.
    from feature_repo.definitions import apply

    views = use_case.feature_views(lengths)
    if not views:
        return pl.DataFrame(height=len(requests))
    store = apply(use_case, settings, lengths)
    keys = list(dict.fromkeys(name for view in views for name in view.key))
    _check_columns(requests, keys)
    at = _decided_at(use_case, requests)
    if use_case.decided_at is None:
        newest = max(_newest(source_path(use_case, settings, view)) for view in views)
        at = pl.repeat(newest, len(requests), dtype=pl.Datetime("us", "UTC"), eager=True)
    job = store.get_historical_features(
        entity_df=requests.select(*keys, at.alias(_AT)),
        features=[f"{view.view}:{column}" for view in views for column in view.columns],
        full_feature_names=True,
    )
    joined = pl.DataFrame(pl.from_arrow(job.to_arrow()))
    return joined.select(column for view in views for column in _logical(view))


def write_changelogs(use_case: UseCase, lengths: Mapping[str, str] | None, settings: Settings) -> None:
    """Writes the changelogs of the windows at the chosen lengths, where they are missing or their stream has changed.

    Raises:
        DataError: A stream is missing or broken.
    """
    for window in with_lengths(use_case.windows, dict(lengths or {})):
        stream = settings.folder("data") / use_case.name / "streams" / f"{window.stream}.parquet"
        if not stream.exists():
            raise DataError(
                f"{use_case.name}: the events of {window.stream} are missing: {stream}.",
                remedy=f"Make them with: ninefold run training {use_case.name}",
            )
        fingerprint = hashlib.sha256(stream.read_bytes() + repr(window).encode()).hexdigest()
        path = source_path(use_case, settings, window_feature_view(window))
        if path.exists() and pl.read_parquet_metadata(path).get(_FINGERPRINT) == fingerprint:
            continue
        rows = changelog(pl.read_parquet(stream), window).sort(KNOWN_AT)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            rows.write_parquet(temporary, metadata={_FINGERPRINT: fingerprint})


def _newest(path: Path) -> datetime:
    newest: datetime | None = pl.scan_parquet(path).select(pl.col(KNOWN_AT).max()).collect().item()
    if newest is None:
        raise DataError(f"{path} has no rows.")
    return newest


def _logical(view: FeatureView) -> list[pl.Expr]:
    """The view's columns under their logical names, of the types that their kinds say even where all are null."""
    return [
        _typed(f"{view.view}__{column}", kind).alias(FEATURE + feature)
        for column, kind, feature in zip(view.columns, view.kinds, view.features, strict=True)
    ]


def _check_columns(requests: pl.DataFrame, names: list[str]) -> None:
    missing = [name for name in names if name not in requests.columns]
    if missing:
        raise DataError(
            f"The requests have no column {', '.join(missing)}.", remedy=f"They have {', '.join(requests.columns)}."
        )


def _request_columns(use_case: UseCase, requests: pl.DataFrame) -> pl.DataFrame:
    _check_columns(requests, [field.name for field in use_case.request])
    return requests.select(_typed(field.name, field.kind).alias(REQUEST + field.name) for field in use_case.request)


def _typed(column: str, kind: Kind) -> pl.Expr:
    """A column of its kind's type; not a number is a null that came through numpy."""
    if kind in NUMERIC:
        return pl.col(column).cast(pl.Float64).fill_nan(None)
    return pl.col(column).cast(pl.Datetime("us", "UTC") if kind == "time" else pl.String)


def _decided_at(use_case: UseCase, requests: pl.DataFrame) -> pl.Series:
    if use_case.decided_at is None:
        return pl.repeat(None, len(requests), dtype=pl.Datetime("us", "UTC"), eager=True)
    at = requests[use_case.decided_at].cast(pl.Datetime("us", "UTC"))
    if at.null_count():
        raise DataError(f"{use_case.decided_at} is null in {at.null_count():,} requests: they have no decision moment.")
    return at


def _inputs(use_case: UseCase, columns: Columns, rows: int) -> pl.DataFrame:
    derived = use_case.inputs_of(columns)
    missing = [i.name for i in use_case.inputs if i.name not in derived]
    if missing:
        raise DataError(f"{use_case.name}: derive returned no {', '.join(missing)}, which it declares as inputs.")
    made = []
    for declared in use_case.inputs:
        values = np.asarray(derived[declared.name])
        _check_length(f"{use_case.name}: derive's {declared.name}", values, rows)
        name = INPUT + declared.name
        if declared.kind == "number":
            made.append(pl.Series(name, values.astype(np.float64)).fill_nan(None))
        else:
            made.append(pl.Series(name, values.tolist(), dtype=pl.String))
    return pl.DataFrame(made)


def _baseline(use_case: UseCase, inputs: pl.DataFrame) -> pl.Series:
    predicted = np.asarray(use_case.baseline(columns_of(inputs, INPUT)), dtype=np.float64)
    _check_length(f"{use_case.name}: the baseline", predicted, len(inputs))
    unanswered = int((~np.isfinite(predicted)).sum())
    if unanswered:
        raise DataError(
            f"{use_case.name}: the baseline has no finite answer for {unanswered:,} of {len(inputs):,} rows.",
            remedy="It has to answer when every feature is missing.",
        )
    return pl.Series(predicted)


def _blocks(use_case: UseCase, columns: Columns, rows: int) -> pl.Series:
    blocks = np.asarray(use_case.block(columns))
    _check_length(f"{use_case.name}: block", blocks, rows)
    return pl.Series(blocks.tolist()).cast(pl.String)


def _check_length(what: str, values: np.ndarray[Any, Any], rows: int) -> None:
    if values.shape != (rows,):
        raise DataError(f"{what} has shape {values.shape} for {rows:,} rows.", remedy="Return one value a row.")


def _standing_truths(use_case: UseCase, truths: pl.DataFrame, key: pl.Series) -> pl.DataFrame:
    """Of each key the truth that counts, and who told it."""
    told = truths.select(pl.col("truth").cast(pl.Float64), KNOWN_AT, *(c for c in ("source",) if c in truths.columns))
    standing = standing_rows(told.with_columns(entity_keys(truths, use_case.key)), ["key"])
    joined = key.to_frame().join(standing, on="key", how="left", maintain_order="left")
    return joined.select("truth", pl.col("source").alias(SOURCE))
