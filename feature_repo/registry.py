"""Where Feast's registry lies: a file beside the rows on one machine, the store's PostgreSQL on a cluster.

In PostgreSQL it has a schema of its own, ``feast``, so that its tables and the store's never meet.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from feast.infra.registry.sql import SqlRegistryConfig
from feast.repo_config import RegistryConfig
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import NullPool

from ninefold.settings import Settings
from ninefold.store.database import clear_errors, describe, make_engine

SCHEMA = "feast"
"""The schema of Feast's tables in PostgreSQL."""

_LOCK = 0x9F01D_0F05


def registry_config(settings: Settings) -> RegistryConfig:
    """Feast's registry, as its configuration names it."""
    url = _postgresql(settings)
    if url is None:
        return RegistryConfig(path=str(settings.folder("feast") / "registry.db"), cache_ttl_seconds=0)
    return SqlRegistryConfig(
        registry_type="sql",
        path=url.render_as_string(hide_password=False),
        sqlalchemy_config_kwargs={
            "connect_args": {"options": f"-csearch_path={SCHEMA}"},
            # Nobody closes a registry, so no connection may outlive its use.
            "poolclass": NullPool,
        },
    )


@contextmanager
def making_tables(settings: Settings) -> Iterator[None]:
    """Within it one process at a time opens the registry: who opens it makes the tables that are missing.

    Raises:
        StoreError: PostgreSQL is out of reach, or its user may not make a schema.
    """
    url = _postgresql(settings)
    if url is None:
        yield
        return
    engine = make_engine(settings.store_url, busy_seconds=5.0)
    try:
        with clear_errors(describe(url)), engine.connect().execution_options(isolation_level="AUTOCOMMIT") as alone:
            alone.execute(sa.select(sa.func.pg_advisory_lock(_LOCK)))
            if SCHEMA not in sa.inspect(alone).get_schema_names():
                alone.execute(sa.schema.CreateSchema(SCHEMA, if_not_exists=True))
            try:
                yield
            finally:
                alone.execute(sa.select(sa.func.pg_advisory_unlock(_LOCK)))
    finally:
        engine.dispose()


def _postgresql(settings: Settings) -> URL | None:
    url = make_url(settings.store_url)
    return None if url.get_backend_name() == "sqlite" else url.set(drivername="postgresql+psycopg")
