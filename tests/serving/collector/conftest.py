"""A small use case, and its collector asked in process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import pytest

from ninefold.features import Stream
from ninefold.fields import Field, Input, Metric
from ninefold.keys import KeysFile, create_key
from ninefold.online import OnlineRow, open_online_store
from ninefold.settings import Settings
from ninefold.splits import HashSplit
from ninefold.store import Store, open_store
from ninefold.usecase import UseCase
from ninefold.windows import Window
from serving.collector.app import Collector

MINUTE = timedelta(minutes=1)

RIDES = UseCase(
    name="rides",
    title="How long will this ride take?",
    problem="regression",
    request=(Field(name="ride", kind="integer"), Field(name="city", kind="category")),
    key=("ride", "city"),
    target=Field(name="minutes", kind="number", unit="min", minimum=0, maximum=600),
    metric=Metric(name="mae", direction="minimize"),
    extract="x:y",
    split=HashSplit(),
    inputs=(Input(name="a"),),
    derive=dict,
    baseline=lambda columns: columns["a"],
    decide=lambda request, prediction: None,
    block=lambda columns: columns["city"],
    streams=(
        Stream(
            name="arrived",
            fields=(Field(name="city", kind="category"), Field(name="late", kind="number", nullable=True)),
        ),
    ),
    windows=(
        Window(name="late", stream="arrived", key=("city",), value="late", length=60 * MINUTE, resolution=0.5),
        Window(name="busy", stream="arrived", key=("city",), value="late", length=10 * MINUTE, aggregates=("count",)),
    ),
)


@dataclass
class Running:
    """A collector that runs in this process."""

    use_case: UseCase
    http: httpx.AsyncClient
    store: Store
    settings: Settings
    key: str

    async def post(self, path: str, body: Any, *, status: int = 200, **options: Any) -> dict[str, Any]:
        content = {"content": body} if isinstance(body, bytes) else {"json": body}
        answer = await self.http.post(path, **content, **options)
        assert answer.status_code == status, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def row(self, view: str, city: str = "Rome") -> OnlineRow | None:
        online = open_online_store(self.settings.online_url)
        (row,) = online.read_many([(view, city)])
        online.close()
        return row


Start = Callable[..., Any]


@pytest.fixture
def rides() -> UseCase:
    """The use case."""
    return RIDES


@pytest.fixture
def collector() -> Start:
    """Starts a collector: ``async with collector(clock="event") as running``."""

    @asynccontextmanager
    async def start(use_case: UseCase = RIDES, busy_seconds: float = 5.0, **options: Any) -> AsyncIterator[Running]:
        settings = Settings(**options)
        assert settings.keys_file is not None
        key = create_key(settings.keys_file, "test")
        store = open_store(settings.store_url, busy_seconds=busy_seconds)
        service = Collector(use_case, settings, store, KeysFile(settings.keys_file)).app()
        async with (
            service.router.lifespan_context(service),
            httpx.AsyncClient(
                transport=httpx.ASGITransport(service, raise_app_exceptions=False),
                base_url="http://collector",
                headers={"X-ApiKey": key},
            ) as http,
        ):
            yield Running(use_case, http, store, settings, key)
        store.close()

    return start
