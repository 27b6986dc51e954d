"""The model builder as a service: ``POST /v1/builds`` asks for a build, ``GET /v1/builds/{id}`` says how it goes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from components.model_builder import GREATEST_SEED
from components.model_builder.builds import Builds, Specification
from ninefold.clock import Clock
from ninefold.dataset import local_path
from ninefold.errors import DataError, InvalidInput
from ninefold.keys import Keys
from ninefold.metrics import DEFINITIONS
from ninefold.service import JSON, authenticated, read_json, service_app

MAX_BODY_BYTES = 64 * 2**10
MAX_SECONDS = 86_400.0
_FIELDS = ("train", "validation", "metric", "max_training_time", "seed")


def app(*, keys: Keys, clock: Clock, roots: Sequence[Path], models_url: str) -> Starlette:
    """The service.

    Args:
        keys: Who may ask.
        clock: The time.
        roots: Folders whose data sets may be read; nothing outside of them is touched.
        models_url: Where packages go.
    """
    builds = Builds(clock)
    worker: list[asyncio.Task[None]] = []

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        worker.append(asyncio.create_task(builds.work()))
        yield
        for task in worker:
            task.cancel()
        await asyncio.gather(*worker, return_exceptions=True)

    async def create(request: Request) -> Response:
        authenticated(keys, request)
        body = await read_json(request, max_bytes=MAX_BODY_BYTES)
        build = builds.submit(specification(body, roots=roots, models_url=models_url))
        return JSON(build.to_json(), status_code=202, headers={"Location": f"/v1/builds/{build.build_id}"})

    async def show(request: Request) -> Response:
        authenticated(keys, request)
        return JSON(builds.get(request.path_params["build_id"]).to_json())

    def ready() -> str | None:
        return None if worker and not worker[0].done() else "the worker does not run"

    return service_app(
        routes=[
            Route("/v1/builds", create, methods=["POST"]),
            Route("/v1/builds/{build_id}", show, methods=["GET"]),
        ],
        ready=ready,
        openapi=_OPENAPI,
        lifespan=lifespan,
    )


def specification(body: Any, *, roots: Sequence[Path], models_url: str) -> Specification:
    """Checks the body of ``POST /v1/builds``.

    Raises:
        InvalidInput: A field is unknown, missing, or wrong; or a data set does not lie under a root.
    """
    if not isinstance(body, dict):
        raise InvalidInput("body", "is not an object.", remedy=f"Send {', '.join(_FIELDS)}.")
    for name in body:
        if name not in _FIELDS:
            raise InvalidInput(str(name)[:64], "is not known.", remedy=f"The fields are {', '.join(_FIELDS)}.")
    seconds = body.get("max_training_time")
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 1 <= seconds <= MAX_SECONDS:
        raise InvalidInput(
            "max_training_time", f"{seconds!r:.60} is not a time.", remedy=f"Send seconds, 1 to {MAX_SECONDS:g}."
        )
    metric = body.get("metric")
    if metric is not None and (not isinstance(metric, str) or metric not in DEFINITIONS):
        raise InvalidInput(
            "metric", f"{metric!r:.60} is not a metric.", remedy=f"Send one of {', '.join(DEFINITIONS)}."
        )
    seed = body.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= GREATEST_SEED:
        raise InvalidInput(
            "seed", f"{seed!r:.60} is not a seed.", remedy=f"Send a whole number from 0 to {GREATEST_SEED}."
        )
    return Specification(
        train=_under(roots, body.get("train"), "train"),
        validation=_under(roots, body.get("validation"), "validation"),
        metric=metric,
        max_training_time=float(seconds),
        models_url=models_url,
        seed=seed,
    )


def _under(roots: Sequence[Path], uri: Any, name: str) -> str:
    """The real path behind a URI, links resolved, when it is a file under a root.

    Whatever else it is, the answer is the same: whether a file outside exists is nobody's business.
    """
    refused = InvalidInput(
        name, f"{uri!r:.200} is not a data set that this service may read.", remedy="Send the URI that a run wrote."
    )
    if not isinstance(uri, str) or not uri or "\x00" in uri:
        raise refused
    try:
        path = local_path(uri).resolve(strict=True)
    except (DataError, OSError, RuntimeError):
        raise refused from None
    if not path.is_file() or not any(path.is_relative_to(root.resolve()) for root in roots):
        raise refused
    return str(path)


_BUILD = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "status": {"enum": ["queued", "running", "done", "failed"]},
        "submitted_at": {"type": "string", "format": "date-time"},
        "train": {"type": "string"},
        "validation": {"type": "string"},
        "metric": {"type": ["string", "null"]},
        "max_training_time": {"type": "number"},
        "progress": {"type": "object", "description": "stage, elapsed and budget in seconds"},
        "leaderboard": {
            "type": "array",
            "description": "Every trial and the baseline; best first once the build is done.",
            "items": {
                "type": "object",
                "properties": {
                    "family": {"type": "string"},
                    "params": {"type": "object"},
                    "value": {"type": ["number", "null"], "description": "The metric on the validation set."},
                    "seconds": {"type": "number"},
                    "outcome": {"enum": ["finished", "stopped", "pruned"]},
                },
            },
        },
        "result": {
            "type": ["object", "null"],
            "description": "digest, uri, chosen, metric, baseline_metric, beats_baseline, parity_error, seconds",
        },
        "error": {"type": ["string", "null"], "description": "Why the build failed."},
    },
}
_ERROR = {
    "description": "What is wrong, and with which field.",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {"error": {"type": "string"}, "field": {"type": "string"}},
                "required": ["error"],
            }
        }
    },
}
_ANSWER = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Build"}}}}
_OPENAPI: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Ninefold model builder", "version": "1"},
    "security": [{"key": []}, {"bearer": []}],
    "components": {
        "schemas": {"Build": _BUILD},
        "securitySchemes": {
            "key": {"type": "apiKey", "in": "header", "name": "X-ApiKey"},
            "bearer": {"type": "http", "scheme": "bearer"},
        },
    },
    "paths": {
        "/v1/builds": {
            "post": {
                "summary": "Ask for the best model of a training set.",
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {
                            "schema": {
                                "type": "object",
                                "additionalProperties": False,
                                "required": ["train", "validation", "max_training_time"],
                                "properties": {
                                    "train": {"type": "string", "description": "URI of the training set."},
                                    "validation": {"type": "string", "description": "URI of the validation set."},
                                    "metric": {"enum": [*DEFINITIONS, None], "description": "Default: the set's own."},
                                    "max_training_time": {
                                        "type": "number", "minimum": 1, "maximum": MAX_SECONDS,
                                        "description": "Seconds for everything.",
                                    },
                                    "seed": {"type": "integer", "minimum": 0, "default": 0},
                                },
                            }
                        }
                    },
                },
                "responses": {
                    "202": {"description": "Queued; the Location header says where to look.", **_ANSWER},
                    "400": _ERROR, "401": _ERROR, "413": _ERROR, "503": _ERROR,
                },
            }
        },
        "/v1/builds/{id}": {
            "get": {
                "summary": "How a build goes, and what came of it.",
                "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}],
                "responses": {"200": {"description": "The build.", **_ANSWER}, "401": _ERROR, "404": _ERROR},
            }
        },
    },
}  # fmt: skip
