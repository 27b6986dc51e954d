"""The runs API: what a CI system or another program starts runs by. One run at a time, in the order they came."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from typing import Any

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ninefold.clock import Clock, format_instant
from ninefold.errors import InvalidInput, NotFound, StoreError, Unavailable
from ninefold.keys import Keys
from ninefold.service import JSON, authenticated, read_json, service_app
from ninefold.settings import Settings
from ninefold.store import Run, Store
from ninefold.store.workers import end_abandoned
from pipelines.compile import PIPELINES
from pipelines.launch import execute_run, read_result, request_run
from pipelines.run import Step

log = structlog.get_logger()

MAX_BODY = 64 * 1024
MAX_WAITING = 20
"""Runs that may wait; past it the answer is 503."""

IDLE_SECONDS = 1.0


def runs_app(store: Store, settings: Settings, keys: Keys, clock: Clock) -> Starlette:
    """The application: ``POST /v1/runs``, ``GET /v1/runs``, ``GET /v1/runs/{id}``."""
    stop, wake = threading.Event(), threading.Event()
    going: set[str] = set()

    async def create(request: Request) -> Response:
        authenticated(keys, request)
        body = await read_json(request, max_bytes=MAX_BODY)
        if not isinstance(body, dict):
            raise InvalidInput("body", "is not an object.", remedy='Send {"pipeline": "training", "use_case": …}.')
        unknown = sorted(set(body) - {"pipeline", "use_case", "parameters"})
        if unknown:
            raise InvalidInput(unknown[0], "is not known.", remedy="Send pipeline, use_case and parameters.")
        parameters = body.get("parameters", {})
        if not isinstance(parameters, dict):
            raise InvalidInput("parameters", "is not an object.")
        for name in ("pipeline", "use_case"):
            if not isinstance(body.get(name), str):
                raise InvalidInput(name, f"{body.get(name)!r} is not a name.", remedy=f"Send the {name}.")
        if ":" in body["use_case"]:
            # An import path loads code: that is for who owns the machine, not for who holds a key.
            raise InvalidInput("use_case", "is an import path.", remedy="Send the name of an installed use case.")
        if len(await asyncio.to_thread(store.runs, state="requested", limit=MAX_WAITING)) >= MAX_WAITING:
            raise Unavailable(f"{MAX_WAITING} runs are waiting.", remedy="Try again when some have ended.")
        run = await asyncio.to_thread(
            request_run, body["pipeline"], body["use_case"], parameters, store=store, clock=clock
        )
        wake.set()
        return JSON(_shown(run), status_code=202, headers={"Location": f"/v1/runs/{run.run_id}"})

    async def listed(request: Request) -> Response:
        authenticated(keys, request)
        found = await asyncio.to_thread(store.runs, request.query_params.get("use_case"))
        return JSON({"runs": [_shown(run) for run in found]})

    async def one(request: Request) -> Response:
        authenticated(keys, request)
        run = await asyncio.to_thread(store.run, request.path_params["run_id"])
        if run is None:
            raise NotFound(f"There is no run {request.path_params['run_id']!r}.")
        shown = _shown(run)
        if run.state == "succeeded":
            shown["result"] = await asyncio.to_thread(read_result, run, settings)
        return JSON(shown)

    def taken(run: Run) -> Callable[[Step], None]:
        # Only a run that this process took tells it of its steps.
        return lambda _: going.add(run.run_id)

    def work() -> None:
        while not stop.is_set():
            # Another process's request does not wake this one, so it also looks by itself.
            wake.wait(IDLE_SECONDS)
            wake.clear()
            try:
                end_abandoned(store)
                waiting = store.runs(state="requested")
            except StoreError as error:
                log.warning("the store was not asked for runs; it is tried again", error=str(error))
                continue
            for run in reversed(waiting):
                if stop.is_set():
                    return
                try:
                    execute_run(run, store=store, settings=settings, on_step=taken(run))
                except Exception as error:
                    # The use case's own code may raise anything, and the next run has to have its turn.
                    log.error("run failed", run=run.run_id, error=str(error), kind=type(error).__name__)
                finally:
                    going.clear()

    def end_what_goes() -> None:
        # The run's process ends with this one.
        for run_id in list(going):
            words = "The orchestrator was stopped meanwhile. Ask for it again: finished steps are cached."
            store.update_run(run_id, state="failed", error=words, expected="running")

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        worker = threading.Thread(target=work, name="runs", daemon=True)
        worker.start()
        yield
        stop.set()
        wake.set()
        await asyncio.to_thread(end_what_goes)

    return service_app(
        routes=[
            Route("/v1/runs", create, methods=["POST"]),
            Route("/v1/runs", listed, methods=["GET"]),
            Route("/v1/runs/{run_id}", one, methods=["GET"]),
        ],
        ready=lambda: None,
        openapi=OPENAPI,
        lifespan=lifespan,
    )


def _shown(run: Run) -> dict[str, Any]:
    document = asdict(run)
    document["started_at"] = format_instant(run.started_at)
    document["ended_at"] = format_instant(run.ended_at) if run.ended_at else None
    return document


_ERRORS = {"400": {"description": "A field is wrong; `error` and `field` say which"}, "401": {"description": "No key"}}
_RUN = {"application/json": {"schema": {"$ref": "#/components/schemas/Run"}}}

OPENAPI: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Ninefold runs", "version": "1"},
    "components": {
        "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-ApiKey"}},
        "schemas": {
            "Run": {
                "type": "object",
                "required": ["run_id", "pipeline", "use_case", "state", "started_at", "parameters"],
                "properties": {
                    "run_id": {"type": "string"},
                    "pipeline": {"type": "string"},
                    "use_case": {"type": "string"},
                    "state": {"enum": ["requested", "running", "succeeded", "failed"]},
                    "started_at": {"type": "string", "format": "date-time"},
                    "ended_at": {"type": ["string", "null"], "format": "date-time"},
                    "parameters": {"type": "object"},
                    "step": {"type": ["string", "null"], "description": "The step that it is in, or ended in"},
                    "error": {"type": ["string", "null"]},
                    "result": {"type": "object", "description": "Decision, metrics and report; once it succeeded"},
                },
            }
        },
    },
    "security": [{"key": []}],
    "paths": {
        "/v1/runs": {
            "post": {
                "summary": "Ask for a run",
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {
                            "schema": {
                                "type": "object",
                                "required": ["pipeline", "use_case"],
                                "additionalProperties": False,
                                "properties": {
                                    "pipeline": {"enum": list(PIPELINES)},
                                    "use_case": {"type": "string", "example": "arrivals"},
                                    "parameters": {
                                        "type": "object",
                                        "additionalProperties": False,
                                        "properties": {
                                            "since": {"type": "string", "example": "2013-06-24"},
                                            "until": {"type": "string", "example": "2013-07-01"},
                                            "max_training_time": {"type": "number", "minimum": 1, "maximum": 86400},
                                            "max_trials": {"type": "integer", "minimum": 0},
                                            "windows": {"type": "object", "additionalProperties": {"type": "string"}},
                                            "branches": {"type": "integer", "minimum": 2},
                                            "seed": {"type": "integer", "minimum": 0},
                                        },
                                    },
                                },
                            }
                        }
                    },
                },
                "responses": {"202": {"description": "Recorded; it runs in its turn", "content": _RUN}, **_ERRORS},
            },
            "get": {"summary": "Newest runs first", "responses": {"200": {"description": "Runs"}, **_ERRORS}},
        },
        "/v1/runs/{run_id}": {
            "get": {
                "summary": "How a run stands",
                "responses": {
                    "200": {"description": "The run", "content": _RUN},
                    "404": {"description": "No such run"},
                },
            }
        },
    },
}
