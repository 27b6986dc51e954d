"""Feast's offline store over Parquet files and polars' as-of join: ``feature_repo.offline_store.AsofOfflineStore``.

Feast's own embedded stores either lose rows (``file`` collapses entity rows that share key and instant, and drops rows
past their time to live) or join by an inequality (``duckdb``). This one keeps every entity row, in its order. Beyond
what the interface asks, ``get_historical_features`` takes a polars frame as well as a pandas one.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
from feast import FeatureView, OnDemandFeatureView
from feast.data_source import DataSource
from feast.feature_logging import LoggingConfig, LoggingSource
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.offline_stores.file_source import FileSource, SavedDatasetFileStorage
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob, RetrievalMetadata
from feast.infra.offline_stores.offline_utils import DEFAULT_ENTITY_DF_EVENT_TIMESTAMP_COL
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from feast.saved_dataset import SavedDatasetStorage

from feature_repo.asof import AsofView, as_instant, asof_join, newest_last
from ninefold.errors import ConfigurationError, DataError, UsageError

TYPE: Final = "feature_repo.offline_store.AsofOfflineStore"
"""What ``feature_store.yaml`` names as its offline store."""


class AsofOfflineStoreConfig(FeastConfigBaseModel):
    """The store's part of ``feature_store.yaml``: it has nothing to configure."""

    type: Literal["feature_repo.offline_store.AsofOfflineStore"] = TYPE


class AsofRetrievalJob(RetrievalJob):
    """A result that is computed when it is asked for.

    Args:
        evaluate: Computes it.
        full_feature_names: Whether feature columns are called ``view__feature``.
        on_demand_feature_views: Feast computes these on top of the result.
        metadata: What was asked, and over which time.
    """

    def __init__(
        self,
        evaluate: Callable[[], pl.DataFrame],
        *,
        full_feature_names: bool = False,
        on_demand_feature_views: Sequence[OnDemandFeatureView] = (),
        metadata: RetrievalMetadata | None = None,
    ) -> None:
        self._evaluate = evaluate
        self._full_feature_names = full_feature_names
        self._on_demand_feature_views = list(on_demand_feature_views)
        self._metadata = metadata

    @property
    def full_feature_names(self) -> bool:
        """Whether feature columns are called ``view__feature``."""
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        """On-demand views that Feast computes on top of the result."""
        return self._on_demand_feature_views

    @property
    def metadata(self) -> RetrievalMetadata | None:
        """What was asked, and over which time."""
        return self._metadata

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        # Feast's conversion to protobuf reads the first chunk alone, and knows no string views.
        return self._evaluate().rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self._to_arrow_internal().to_pandas()

    def persist(self, storage: SavedDatasetStorage, allow_overwrite: bool = False, timeout: int | None = None) -> None:
        """Writes the result to the Parquet file of a saved data set.

        Raises:
            UsageError: The storage is no file, or the file is there and may not be overwritten.
        """
        if not isinstance(storage, SavedDatasetFileStorage):
            raise UsageError(f"A {type(storage).__name__} is no file.", remedy="Use SavedDatasetFileStorage.")
        path = Path(storage.file_options.uri)
        if path.exists() and not allow_overwrite:
            raise UsageError(f"{path} is there already.", remedy="Pass allow_overwrite=True.")
        _replace(path, self.to_arrow())


class AsofOfflineStore(OfflineStore):
    """Point-in-time joins over Parquet files."""

    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | pl.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
        **_: Any,
    ) -> RetrievalJob:
        """Adds to each entity row what the views knew of it at its instant; every row stays, in its order.

        Raises:
            UsageError: ``entity_df`` is missing or a query.
            DataError: A file or a column is missing, or keys can't be compared.
        """
        if not isinstance(entity_df, pd.DataFrame | pl.DataFrame):
            raise UsageError(
                f"This offline store joins entity rows, not {'a query' if entity_df else 'a range of time'}.",
                remedy="Pass entity_df as a pandas or polars frame.",
            )
        entities = entity_df if isinstance(entity_df, pl.DataFrame) else pl.from_pandas(entity_df)
        at = _instant_column(entities)
        instants = as_instant(entities[at])
        wanted = _wanted(feature_views, feature_refs)

        def evaluate() -> pl.DataFrame:
            views = [
                _view(config, view, wanted[view.projection.name_to_use()], full_feature_names) for view in feature_views
            ]
            return asof_join(entities, at, views, only_created_before=filter_by_created_timestamp)

        return AsofRetrievalJob(
            evaluate,
            full_feature_names=full_feature_names,
            on_demand_feature_views=OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry),
            metadata=RetrievalMetadata(
                features=feature_refs,
                keys=[column for column in entities.columns if column != at],
                min_event_timestamp=instants.min(),
                max_event_timestamp=instants.max(),
            ),
        )

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> RetrievalJob:
        """The newest row of each key within a range of time, both ends included."""
        path = _path(config, data_source)
        created_at = created_timestamp_column or None

        def evaluate() -> pl.DataFrame:
            rows = _between(
                path, join_key_columns, feature_name_columns, timestamp_field, created_at, start_date, end_date
            )
            rows = newest_last(rows, timestamp_field, created_at)
            if join_key_columns:
                return rows.unique(join_key_columns, keep="last", maintain_order=True)
            return rows.tail(1).with_columns(pl.lit(DUMMY_ENTITY_VAL).alias(DUMMY_ENTITY_ID))

        return AsofRetrievalJob(evaluate)

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """All rows within a range of time, both ends included, in the order of the file."""
        path = _path(config, data_source)
        created_at = created_timestamp_column or None
        return AsofRetrievalJob(
            lambda: _between(
                path, join_key_columns, feature_name_columns, timestamp_field, created_at, start_date, end_date
            )
        )

    @staticmethod
    def offline_write_batch(
        config: RepoConfig, feature_view: FeatureView, table: pa.Table, progress: Callable[[int], Any] | None
    ) -> None:
        """Adds rows to the view's file, whole or not at all. One writer a file.

        Raises:
            DataError: The rows don't have the file's columns and types.
        """
        path = _path(config, feature_view.batch_source)
        there = _parquet(path, None)
        added = pl.DataFrame(pl.from_arrow(table))
        if set(added.columns) != set(there.columns):
            raise DataError(
                f"The rows for {feature_view.name} have the columns {', '.join(added.columns)}.",
                remedy=f"Its file has {', '.join(there.columns)}.",
            )
        try:
            added = added.select(pl.col(name).cast(dtype) for name, dtype in there.schema.items())
        except pl.exceptions.PolarsError as error:
            raise DataError(f"The rows for {feature_view.name} don't fit its file: {error}.") from error
        _replace(Path(path), pl.concat([there, added]).to_arrow())
        if progress:
            progress(added.height)

    @staticmethod
    def write_logged_features(
        config: RepoConfig,
        data: pa.Table | Path,
        source: LoggingSource,
        logging_config: LoggingConfig,
        registry: BaseRegistry,
    ) -> None:
        """Refuses: the front end logs each prediction's features itself.

        Raises:
            UsageError: Always.
        """
        raise UsageError(
            "This offline store takes no feature logs.",
            remedy="The features behind each prediction are in the production database: ninefold store predictions.",
        )


def _instant_column(entities: pl.DataFrame) -> str:
    times = [name for name, dtype in entities.schema.items() if isinstance(dtype, pl.Datetime)]
    if DEFAULT_ENTITY_DF_EVENT_TIMESTAMP_COL in entities.columns:
        return DEFAULT_ENTITY_DF_EVENT_TIMESTAMP_COL
    if len(times) == 1:
        return times[0]
    raise DataError(
        f"The entity rows have no column {DEFAULT_ENTITY_DF_EVENT_TIMESTAMP_COL}, and {len(times)} columns of times.",
        remedy=f"Name the instant {DEFAULT_ENTITY_DF_EVENT_TIMESTAMP_COL}.",
    )


def _alias(view: FeatureView) -> str:
    return str(view.projection.name_to_use())


def _wanted(feature_views: list[FeatureView], feature_refs: list[str]) -> dict[str, list[str]]:
    wanted: dict[str, list[str]] = {_alias(view): [] for view in feature_views}
    for reference in feature_refs:
        view, _, feature = reference.partition(":")
        if view in wanted:
            wanted[view].append(feature)
    return wanted


def _view(config: RepoConfig, view: FeatureView, features: list[str], full_feature_names: bool) -> AsofView:
    source = view.batch_source
    if source is None:
        raise DataError(f"Feature view {view.name} has no file.")
    # Feast names columns as they are called after the source's field mapping.
    in_file = {new: old for old, new in source.field_mapping.items()}
    keys = {
        view.projection.join_key_map.get(column.name, column.name): in_file.get(column.name, column.name)
        for column in view.entity_columns
        if column.name != DUMMY_ENTITY_ID
    }
    prefix = f"{view.projection.name_alias or view.name}__" if full_feature_names else ""
    columns = {prefix + feature: in_file.get(feature, feature) for feature in features}
    created_at = source.created_timestamp_column or None
    needed = [*keys.values(), source.timestamp_field, *([created_at] if created_at else []), *columns.values()]
    return AsofView(
        name=view.name,
        rows=_numbers(_parquet(_path(config, source), needed), list(columns.values())),
        key=keys,
        known_at=source.timestamp_field,
        created_at=created_at,
        columns=columns,
        time_to_live=view.ttl if view.ttl else None,
    )


def _path(config: RepoConfig, source: DataSource | None) -> str:
    if not isinstance(source, FileSource):
        raise ConfigurationError(f"{type(source).__name__} is no file of Parquet.", remedy="Use feast.FileSource.")
    return FileSource.get_uri_for_file_path(config.repo_path, source.path)


def _parquet(path: str, columns: Sequence[str] | None) -> pl.DataFrame:
    try:
        return pl.read_parquet(path, columns=list(dict.fromkeys(columns)) if columns is not None else None)
    except FileNotFoundError as error:
        raise DataError(f"The rows in {path} are not there.", remedy="Make them with: ninefold run training") from error
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"The rows in {path} can't be read: {error}.") from error


def _between(
    path: str,
    keys: list[str],
    features: list[str],
    known_at: str,
    created_at: str | None,
    start: datetime | None,
    end: datetime | None,
) -> pl.DataFrame:
    rows = _parquet(path, [*keys, *features, known_at, *([created_at] if created_at else [])])
    rows = _numbers(rows, features)
    rows = rows.with_columns(as_instant(rows[known_at]))
    return rows.filter(
        pl.col(known_at) >= _aware(start) if start else True, pl.col(known_at) <= _aware(end) if end else True
    )


def _numbers(rows: pl.DataFrame, features: Sequence[str]) -> pl.DataFrame:
    # Whole numbers and booleans with nulls would become floats on the way through numpy anyway, or fail in Feast.
    numeric = [name for name in features if rows.schema[name].is_numeric() or rows.schema[name] == pl.Boolean]
    return rows.with_columns(pl.col(numeric).cast(pl.Float64))


def _aware(instant: datetime) -> datetime:
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def _replace(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}")
    os.close(handle)
    try:
        pyarrow.parquet.write_table(table, temporary)
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)
