"""Feast's objects, generated from a use case's declarations: nothing about a feature is written down twice.

An entity is one field of a key; a feature view is a batch view, or a window at one length, over its Parquet file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta

from feast import Entity, FeatureStore, FeatureView, FileSource, PushSource, ValueType
from feast import Field as FeastField
from feast.repo_config import RepoConfig
from feast.types import Float64, Int64, PrimitiveFeastType, String

from feature_repo import offline_store, online_store
from feature_repo.files import source_path
from feature_repo.registry import making_tables, registry_config
from ninefold import features
from ninefold.errors import ConfigurationError, DataError
from ninefold.fields import NUMERIC, Kind
from ninefold.settings import Settings
from ninefold.usecase import UseCase
from ninefold.windows.declaration import KNOWN_AT

_KEY_TYPES: Mapping[Kind, tuple[ValueType, PrimitiveFeastType]] = {
    "category": (ValueType.STRING, String),
    "integer": (ValueType.INT64, Int64),
}


def objects(
    use_case: UseCase, settings: Settings, views: Iterable[features.FeatureView]
) -> tuple[list[Entity], list[FeatureView]]:
    """Entities and feature views for Feast.

    Args:
        use_case: Whose.
        settings: Say where the files lie.
        views: Exact views, lengths included (``UseCase.feature_views``).

    Raises:
        ConfigurationError: A key holds a field that Feast and the online rows can't both name.
    """
    entities: dict[str, Entity] = {}
    made = []
    descriptions = {view.name: view.description for view in use_case.batch_views}
    for view in views:
        for name in view.key:
            if name not in entities:
                entities[name] = Entity(
                    name=name,
                    join_keys=[name],
                    value_type=_key_type(use_case, view.view, name)[0],
                    description=use_case.fields[name].description,
                )
        schema = [FeastField(name=name, dtype=_key_type(use_case, view.view, name)[1]) for name in view.key]
        schema += [
            # A number is a float64 everywhere, whole ones and booleans too: nulls would make them that anyway.
            FeastField(name=column, dtype=Float64 if kind in NUMERIC else String)
            for column, kind in zip(view.columns, view.kinds, strict=True)
        ]
        file = FileSource(name=view.view, path=str(source_path(use_case, settings, view)), timestamp_field=KNOWN_AT)
        made.append(
            FeatureView(
                name=view.view,
                entities=[entities[name] for name in view.key],
                ttl=timedelta(seconds=view.time_to_live or 0),
                schema=schema,
                source=PushSource(name=f"{view.view}_push", batch_source=file),
                description=descriptions.get(view.view, ""),
                tags={"use_case": use_case.name, "source": view.source},
            )
        )
    return list(entities.values()), made


def _key_type(use_case: UseCase, view: str, name: str) -> tuple[ValueType, PrimitiveFeastType]:
    kind = use_case.fields[name].kind
    if kind not in _KEY_TYPES:
        raise ConfigurationError(
            f"{use_case.name}: the key of {view} holds {name!r}, a {kind}.", remedy="Use a category or an integer."
        )
    return _KEY_TYPES[kind]


def feature_store(use_case: UseCase, settings: Settings) -> FeatureStore:
    """The use case's Feast project, over the registry and the rows that the settings name.

    Raises:
        StoreError: The registry lies in a PostgreSQL that is out of reach.
    """
    config = RepoConfig(
        project=use_case.name,
        provider="local",
        registry=registry_config(settings),
        offline_store={"type": offline_store.TYPE},
        online_store={"type": online_store.TYPE, "url": settings.online_url},
        materialization={"pull_latest_features": True},
        entity_key_serialization_version=3,
        repo_path=settings.folder("feast"),
    )
    with making_tables(settings):
        return FeatureStore(config=config)


def apply(use_case: UseCase, settings: Settings, lengths: Mapping[str, str] | None = None) -> FeatureStore:
    """Registers the use case's views, its windows at the chosen lengths, and returns the store.

    Views of other lengths stay registered: an older version may still need them.

    Raises:
        ConfigurationError: A view of that name belongs to another use case: online rows go by the view's name.
        DataError: A view's file is missing.
    """
    views = use_case.feature_views(lengths)
    for view in views:
        path = source_path(use_case, settings, view)
        if not path.exists():
            raise DataError(
                f"{use_case.name}: the rows of {view.view} are missing: {path}.",
                remedy=f"Make them with: ninefold run training {use_case.name}",
            )
    store = feature_store(use_case, settings)
    _refuse_foreign_names(store, use_case, {view.view for view in views})
    entities, feature_views = objects(use_case, settings, views)
    store.apply([*entities, *feature_views])
    return store


def _refuse_foreign_names(store: FeatureStore, use_case: UseCase, names: set[str]) -> None:
    for project in store.registry.list_projects():
        if project.name == use_case.name:
            continue
        taken = names & {view.name for view in store.registry.list_feature_views(project.name)}
        if taken:
            raise ConfigurationError(
                f"{use_case.name}: the use case {project.name} has views called {', '.join(sorted(taken))} too.",
                remedy="Rename them, or give each use case an online store of its own (NINEFOLD_ONLINE_URL).",
            )


def views_on_disk(use_case: UseCase, settings: Settings) -> tuple[features.FeatureView, ...]:
    """Batch views, and windows at every length that has a changelog on disk: what ``feast apply`` registers."""
    found = [features.batch_feature_view(view) for view in use_case.batch_views]
    folder = settings.folder("data") / use_case.name / "windows"
    for path in sorted(folder.glob("*.parquet")):
        name, _, length = path.stem.rpartition("_")
        if name in {window.name for window in use_case.windows}:
            (window,) = (w for w in features.with_lengths(use_case.windows, {name: length}) if w.name == name)
            found.append(features.window_feature_view(window))
    return tuple(found)
