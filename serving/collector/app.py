"""The collector's HTTP: truths, events and feedback, answered when they are kept."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import structlog
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ninefold.clock import WallClock
from ninefold.errors import ConfigurationError, InvalidInput, NinefoldError, TooLarge
from ninefold.json_input import read_json_body
from ninefold.keys import KeysFile
from ninefold.service import JSON, authenticated, error_response, read_json, service_app
from ninefold.settings import Settings
from ninefold.store import Store
from ninefold.usecase import UseCase
from serving.collector import metrics
from serving.collector.elsewhere import KeepingSession
from serving.collector.elsewhere import wait_for_windows as windows_reach
from serving.collector.feedback import FeedbackDesk
from serving.collector.inputs import InvalidBatch
from serving.collector.intake import Intake
from serving.collector.keeper import Batch, Outcome
from serving.collector.labels import PATH as LABELS
from serving.collector.labels import LabelsDesk
from serving.collector.limits import FeedbackLimits
from serving.collector.openapi import document
from serving.collector.session import CollectorSession, make_durable
from serving.collector.short_way import ShortWay
from serving.collector.writer import Writer

log = structlog.get_logger()

MAX_LISTED = 20
"""Errors of a batch that an answer lists."""

MAX_FEEDBACK_BYTES = 2**20
"""Longest body with feedback."""

_WORTH_A_THREAD = 500
_T = TypeVar("_T")


class Collector:
    """The collector of one use case.

    Args:
        use_case: The use case.
        settings: Bounds, clock, and where rows lie.
        store: The production database, open.
        keys: Who is admitted.
    """

    def __init__(self, use_case: UseCase, settings: Settings, store: Store, keys: KeysFile) -> None:
        self._use_case = use_case
        self._store = store
        self._keys = keys
        self._mode = settings.clock
        self._clock = WallClock()
        self._max_bytes = settings.serving.max_body_bytes
        self._intake = Intake(use_case, clock=settings.clock, max_items=settings.serving.max_instances)
        limits = FeedbackLimits(of_key=settings.serving.feedback_of_key, of_user=settings.serving.feedback_of_user)
        self._desk = FeedbackDesk(use_case.name, store, keys, limits, time.monotonic)
        self._online_url = settings.online_url
        elsewhere = settings.serving.windows == "service"
        if elsewhere and settings.clock == "event":
            raise ConfigurationError(
                "A replay (NINEFOLD_CLOCK=event) moves the windows itself, so no featurizer can keep them.",
                remedy="Set NINEFOLD_SERVING__WINDOWS=in_process.",
            )
        self._writer = Writer(
            lambda: (
                KeepingSession(use_case, store)
                if elsewhere
                else CollectorSession(use_case, store, settings.online_url, settings.clock)
            ),
            max_waiting=10 * settings.serving.max_instances,
            # Elsewhere, the featurizer measures it.
            on_windows=(lambda _: None) if elsewhere else metrics.LAG.observe,
        )
        if settings.clock == "wall":
            # A replay's history can be sent again, so it does not wait for the disk.
            make_durable(store)
        self._labels = (
            LabelsDesk(use_case, use_case.labelling, settings, store, self._clock) if use_case.labelling else None
        )
        self._openapi = document(use_case, clock=settings.clock, max_items=settings.serving.max_instances)

    def app(self) -> Starlette:
        """The ASGI application."""
        metrics.watch(
            lambda: self._writer.waiting,
            lambda: math.nan if self._writer.watermark is None else self._writer.watermark.timestamp(),
            self._watermark_age,
        )
        handlers = {"truths": self._truths, "events": self._events, "feedback": self._feedback}
        return service_app(
            routes=[
                Route(f"/v1/{kind}", self._endpoint(kind, handler), methods=["POST"])
                for kind, handler in handlers.items()
            ]
            + ([Route(LABELS, self._labels.endpoint, methods=["POST"])] if self._labels is not None else []),
            ready=lambda: self._writer.problem,
            openapi=self._openapi,
            lifespan=self._lifespan,
        )

    def served(self) -> ShortWay:
        """The same for ``LeanProtocol``: with a short way for truths and events."""
        ways: dict[str, tuple[str, Callable[[Any], Future[Outcome]]]] = {
            "/v1/truths": ("truths", self._begin_truths),
            "/v1/events": ("events", self._begin_events),
        }
        if self._mode == "event":
            # Only a replay waits often.
            ways["/v1/events?wait=windows"] = ("events", partial(self._begin_events, wait_for_windows=True))
        return ShortWay(
            self.app(),
            {
                path.encode(): (
                    partial(self._begin, kind, begin),
                    partial(metrics.count, kind),
                    partial(_refusal, kind),
                )
                for path, (kind, begin) in ways.items()
            },
        )

    def _begin(
        self, kind: str, begin: Callable[[Any], Future[Outcome]], body: bytes, headers: list[tuple[bytes, bytes]]
    ) -> Future[Outcome]:
        self._keys.keys.authenticate(headers, what=kind)
        if len(body) > self._max_bytes:
            raise TooLarge(f"The body is over {self._max_bytes:,} bytes.", remedy="Send smaller batches.")
        return begin(read_json_body(body, remedy="Send a JSON object."))

    def _begin_truths(self, body: Any) -> Future[Outcome]:
        return self._submit(Batch(truths=self._intake.truths(body, self._clock.now())))

    def _begin_events(self, body: Any, *, wait_for_windows: bool = False) -> Future[Outcome]:
        events, advance_to = self._intake.events(body, self._clock.now())
        return self._submit(Batch(events=events, advance_to=advance_to), wait_for_windows=wait_for_windows)

    def _endpoint(
        self, kind: str, handler: Callable[[Request, Any], Awaitable[Outcome]]
    ) -> Callable[[Request], Awaitable[Response]]:
        most = min(self._max_bytes, MAX_FEEDBACK_BYTES) if kind == "feedback" else self._max_bytes

        async def endpoint(request: Request) -> Response:
            try:
                request.state.caller = authenticated(self._keys.keys, request, what=kind)
                outcome = await handler(request, await read_json(request, max_bytes=most))
            except NinefoldError as error:
                metrics.REFUSED.labels(kind, str(error.http_status)).inc()
                if isinstance(error, InvalidBatch):
                    return _refused(error)
                raise
            metrics.count(kind, outcome)
            # What waits is kept, and not what it is going to be yet.
            return JSON(outcome.to_json(), status_code=202 if outcome.waiting else 200)

        return endpoint

    async def _truths(self, _: Request, body: Any) -> Outcome:
        return await self._keep(Batch(truths=await self._read(self._intake.truths, body, "truths")))

    async def _events(self, request: Request, body: Any) -> Outcome:
        wait = request.query_params.get("wait")
        if wait not in (None, "windows"):
            raise InvalidInput(
                "wait", f"{wait!r:.60} can't be waited for.", remedy="Leave it out, or send wait=windows."
            )
        events, advance_to = await self._read(self._intake.events, body, "events")
        return await self._keep(Batch(events=events, advance_to=advance_to), wait_for_windows=wait is not None)

    async def _feedback(self, request: Request, body: Any) -> Outcome:
        given = await self._read(self._intake.feedback, body, "feedback")
        return await self._keep(await self._desk.batch(request.state.caller, given))

    async def _read(self, read: Callable[[Any, datetime], _T], body: Any, kind: str) -> _T:
        now = self._clock.now()
        items = body.get(kind) if isinstance(body, dict) else None
        if isinstance(items, list) and len(items) > _WORTH_A_THREAD:
            return await run_in_threadpool(read, body, now)
        return read(body, now)

    async def _keep(self, batch: Batch, *, wait_for_windows: bool = False) -> Outcome:
        outcome = await asyncio.wrap_future(self._submit(batch, wait_for_windows=wait_for_windows))
        if wait_for_windows and outcome.reach is not None:
            outcome.watermark = await run_in_threadpool(windows_reach, self._use_case, self._online_url, outcome.reach)
        return outcome

    def _submit(self, batch: Batch, *, wait_for_windows: bool = False) -> Future[Outcome]:
        return self._writer.submit(batch, wait_for_windows=wait_for_windows)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self._writer.start()
        try:
            yield
        finally:
            await run_in_threadpool(self._writer.stop)

    def _watermark_age(self) -> float:
        """Seconds that the windows lag behind the clock; in event time the watermark is the clock."""
        if self._writer.watermark is None:
            return math.nan
        if self._mode == "event":
            return 0.0
        return (self._clock.now() - self._writer.watermark).total_seconds()


def _refusal(kind: str, error: BaseException) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and body of an error that was met on the short way; told as the ordinary way tells it."""
    if not isinstance(error, NinefoldError):
        log.error("unexpected error", path=f"/v1/{kind}", exc_info=error)
        response = JSON({"error": "Internal error; the service's log has the details."}, status_code=500)
    else:
        metrics.REFUSED.labels(kind, str(error.http_status)).inc()
        if error.http_status >= 500:
            log.error("request failed", path=f"/v1/{kind}", error=str(error))
        response = _refused(error) if isinstance(error, InvalidBatch) else error_response(error)
    return response.status_code, [h for h in response.raw_headers if h[0] != b"content-length"], bytes(response.body)


def _refused(error: InvalidBatch) -> JSON:
    """The answer that lists what is wrong with a batch."""
    return JSON(
        {
            "error": str(error),
            "field": error.field,
            "wrong": len(error.errors),
            "total": error.total,
            "errors": [{"field": e.field, "error": str(e)} for e in error.errors[:MAX_LISTED]],
        },
        status_code=error.http_status,
    )
