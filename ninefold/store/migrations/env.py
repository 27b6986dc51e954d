"""Alembic's environment: migrates over the connection that ``ninefold.store.migrate`` hands it."""

from __future__ import annotations

from alembic import context

from ninefold.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
