"""Feast's online store over Ninefold's wide rows: ``feature_repo.online_store.WideRowOnlineStore``.

``feast materialize`` and ``push`` write the rows that the front end reads, and ``get_online_features`` reads those that
the streaming featurizer wrote: one row an entity and view, under ``entity_key`` of its values.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal

from feast import Entity, FeatureView
from feast.infra.online_stores.online_store import OnlineStore
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from feast.value_type import ValueType

from ninefold import online
from ninefold.errors import ConfigurationError, DataError
from ninefold.records import entity_key
from ninefold.settings import settings

TYPE: Final = "feature_repo.online_store.WideRowOnlineStore"
"""What ``feature_store.yaml`` names as its online store."""

_FIELDS = {
    ValueType.DOUBLE: "double_val",
    ValueType.FLOAT: "float_val",
    ValueType.INT64: "int64_val",
    ValueType.INT32: "int32_val",
    ValueType.BOOL: "bool_val",
    ValueType.STRING: "string_val",
}


class WideRowOnlineStoreConfig(FeastConfigBaseModel):
    """The store's part of ``feature_store.yaml``.

    Args:
        url: Where the rows lie; by default where the front end reads them (``NINEFOLD_ONLINE_URL``).
    """

    type: Literal["feature_repo.online_store.WideRowOnlineStore"] = TYPE
    url: str = ""


class WideRowOnlineStore(OnlineStore):
    """One wide row an entity and view; an older event never overwrites a newer row."""

    def __init__(self) -> None:
        # Feast's servers call from a pool of threads, and a connection belongs to one.
        self._opened = threading.local()

    def _rows(self, config: RepoConfig) -> online.OnlineStore:
        opened: online.OnlineStore | None = getattr(self._opened, "store", None)
        if opened is None:
            opened = self._opened.store = online.open_online_store(config.online_store.url or settings().online_url)
        return opened

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[tuple[EntityKey, dict[str, Value], datetime, datetime | None]],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Writes rows; those older than what is there change nothing.

        Raises:
            DataError: A row has no key, or a column of the view is missing.
            StoreError: The rows can't be written.
        """
        columns = [feature.name for feature in table.features]
        rows = []
        for key, values, known_at, _ in data:
            missing = [column for column in columns if column not in values]
            if missing:
                raise DataError(f"A row for {table.name} has no {', '.join(missing)}.", remedy="Send whole rows.")
            text = _key_of(table, key)
            if text is None:
                raise DataError(f"A row for {table.name} has no key: one of {', '.join(table.join_keys)} is null.")
            instant = known_at.replace(tzinfo=UTC) if known_at.tzinfo is None else known_at
            rows.append(online.OnlineRow(text, instant, tuple(_from_proto(values[column]) for column in columns)))
        self._rows(config).write(table.name, rows)
        if progress:
            progress(len(rows))

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[tuple[datetime | None, dict[str, Value] | None]]:
        """The rows of the keys, in their order; (None, None) where there is none.

        Raises:
            DataError: A row has not the view's columns: it was written under another declaration.
            StoreError: The rows can't be read.
        """
        keys = [_key_of(table, key) for key in entity_keys]
        known = [key for key in keys if key is not None]
        rows = dict(zip(known, self._rows(config).read_many([(table.name, key) for key in known]), strict=True))
        return [_answer(table, rows.get(key) if key is not None else None, requested_features) for key in keys]

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Entity],
        entities_to_keep: Sequence[Entity],
        partial: bool,
    ) -> None:
        """Forgets the rows of views that are gone, and refuses columns that a row can't hold.

        Raises:
            ConfigurationError: A column is of a type that is neither a number, nor a boolean, nor a string.
        """
        for table in tables_to_keep:
            for feature in table.features:
                if feature.dtype.to_value_type() not in _FIELDS:
                    raise ConfigurationError(f"{table.name}.{feature.name}: a row can't hold a {feature.dtype}.")
        for table in tables_to_delete:
            self._rows(config).forget(table.name)

    def teardown(self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Entity]) -> None:
        """Forgets the rows of all views."""
        for table in tables:
            self._rows(config).forget(table.name)


def _key_of(table: FeatureView, key: EntityKey) -> str | None:
    values = dict(zip(key.join_keys, (_from_proto(value) for value in key.entity_values), strict=True))
    ordered = [values.get(name) for name in table.join_keys]
    return None if None in ordered else entity_key(ordered)


def _from_proto(value: Value) -> online.Value:
    field = value.WhichOneof("val")
    if field is None:
        return None
    python = getattr(value, field)
    # Not a number is a null that came through numpy.
    return None if python != python else python


def _answer(
    table: FeatureView, row: online.OnlineRow | None, requested: list[str] | None
) -> tuple[datetime | None, dict[str, Value] | None]:
    if row is None:
        return None, None
    if len(row.values) != len(table.features):
        raise DataError(
            f"The online row {row.key!r} of {table.name} has {len(row.values)} values, the view {len(table.features)}"
            " columns: it was written under another declaration.",
            remedy="Run: ninefold features materialize",
        )
    answer: dict[str, Value] = {}
    for feature, value in zip(table.features, row.values, strict=True):
        if requested is None or feature.name in requested:
            answer[feature.name] = Value()
            if value is not None:
                setattr(answer[feature.name], _FIELDS[feature.dtype.to_value_type()], value)
    return row.known_at, answer
