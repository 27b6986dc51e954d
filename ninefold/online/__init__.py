"""Online rows: the newest known values of every entity, one wide row a view and key, read in microseconds.

No Feast in here: Feast's online store, the streaming featurizer and the front end all stand on this package. What a row
is stands in ``rows``; where rows lie, in ``sqlite`` and ``redis``.
"""

from __future__ import annotations

from pathlib import Path

from ninefold.errors import ConfigurationError
from ninefold.online.rows import OnlineRow, OnlineStore, Value, from_microseconds, to_microseconds
from ninefold.online.sqlite import SQLiteOnlineStore

__all__ = [
    "OnlineRow",
    "OnlineStore",
    "SQLiteOnlineStore",
    "Value",
    "from_microseconds",
    "open_online_store",
    "to_microseconds",
]

_REDIS = ("redis", "rediss", "unix")


def open_online_store(url: str) -> OnlineStore:
    """Opens the store behind a URL (``Settings.online_url``) and makes it when it is missing.

    Args:
        url: ``sqlite:////absolute/online.db``, or ``redis://[[user]:password@]host[:port][/database]``; ``rediss://``
            is Redis over TLS. A Redis is connected to when it is first asked, so that it may be down at first.

    Raises:
        ConfigurationError: No store of that scheme, or a URL that can't be read.
        StoreError: The file is damaged, locked, of another version, or can't be written.
    """
    scheme = url.partition(":")[0]
    if url.startswith("sqlite:///"):
        return SQLiteOnlineStore(Path(url.removeprefix("sqlite:///")))
    if scheme in _REDIS:
        # Its driver is not everywhere.
        from ninefold.online.redis import RedisOnlineStore

        return RedisOnlineStore(url)
    raise ConfigurationError(
        f"There is no online store for {scheme!r}.",
        remedy="Set NINEFOLD_ONLINE_URL=sqlite:///PATH or redis://HOST:PORT/DATABASE.",
    )
