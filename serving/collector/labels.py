"""``POST /v1/labels/<use case>``: what Label Studio's webhook says, kept as a collection of the labeller keeps it.

The webhook is the quick way and the pull the sure one: Label Studio calls once and does not call again, so whatever is
missed here comes with the next ``ninefold label collect``, and what came twice is kept once.
"""

from __future__ import annotations

from typing import Any

from prometheus_client import Counter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from ninefold.clock import Clock
from ninefold.errors import NinefoldError, NotFound
from ninefold.labelling.answers import UnknownAnnotator, annotation_from
from ninefold.labelling.keeping import keep_annotations
from ninefold.labelling.webhook import SECRET_HEADER, Told, admit, read_call, webhook_secret
from ninefold.labels import LabellingInterface
from ninefold.service import JSON, read_json
from ninefold.settings import Settings
from ninefold.store import Store
from ninefold.usecase import UseCase

PATH = "/v1/labels/{use_case}"

CALLS = Counter(
    "ninefold_collector_label_calls", "Calls of Label Studio's webhook, by what became of them.", ["outcome"]
)


_OUTCOMES = ("unknown", "later", "annotations")

SECURITY = {"webhook": {"type": "apiKey", "in": "header", "name": SECRET_HEADER}}
"""How the webhook shows that it is one, in the collector's OpenAPI document."""


class LabelsDesk:
    """Takes the webhook's calls for one use case.

    Args:
        use_case: The use case.
        interface: What experts may answer.
        settings: The webhook's secret, and bounds.
        store: The production database, open.
        clock: Stamps what is kept.
    """

    def __init__(
        self, use_case: UseCase, interface: LabellingInterface, settings: Settings, store: Store, clock: Clock
    ) -> None:
        self._name = use_case.name
        self._interface = interface
        self._settings = settings
        self._store = store
        self._clock = clock

    async def endpoint(self, request: Request) -> Response:
        """Answers one call."""
        try:
            admit(webhook_secret(self._settings), request.scope["headers"])
            name = request.path_params["use_case"]
            if name != self._name:
                raise NotFound(f"This is the collector of {self._name}, not of {name!r:.60}.")
            told = read_call(await read_json(request, max_bytes=self._settings.serving.max_body_bytes))
            answer = {"annotations": 0, "truths": 0, "later": 0, "unknown": 0}
            if told is not None:
                answer |= await run_in_threadpool(self._keep, told)
        except NinefoldError as error:
            CALLS.labels(f"refused {error.http_status}").inc()
            raise
        CALLS.labels(next((name for name in _OUTCOMES if answer[name]), "no news")).inc()
        return JSON(answer)

    def _keep(self, told: Told) -> dict[str, int]:
        task = self._store.label_task(told.task_id) if told.task_id is not None else None
        if task is None or task.use_case != self._name:
            # Somebody imported it by hand, or its key was erased.
            return {"unknown": 1}
        now = self._clock.now()
        people = self._store.annotators()
        try:
            said = annotation_from(self._interface, task, told.annotation, people, received_at=now)
        except UnknownAnnotator:
            # The webhook tells a number alone. A collection learns who it is, and brings this one as well.
            return {"later": 1}
        kept = keep_annotations(self._store, self._interface, [task], [said], now=now)
        return {"annotations": kept.new, "truths": kept.truths}


def described(use_case: UseCase) -> dict[str, Any]:
    """The endpoint in the collector's OpenAPI document."""
    answer = {
        "type": "object",
        "properties": {
            "annotations": {"type": "integer", "description": "Annotations that were not kept yet."},
            "truths": {"type": "integer", "description": "Truths that they settled and that were not kept yet."},
            "later": {"type": "integer", "description": "1 where only a collection can tell who said it."},
            "unknown": {"type": "integer", "description": "1 where Ninefold did not send the task."},
        },
    }
    failures = {
        "400": "It is no call of Label Studio's webhook.",
        "401": "No secret, or a wrong one.",
        "404": "The collector is another use case's.",
        "413": "The body is too large.",
        "503": "Nothing can be kept now; the next collection brings it.",
    }
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {
        "post": {
            "operationId": "labels",
            "summary": "Called by Label Studio's webhook when an expert has answered or skipped a task.",
            "security": [{"webhook": []}],
            "parameters": [
                {
                    "name": "use_case",
                    "in": "path",
                    "required": True,
                    "schema": {"type": "string", "enum": [use_case.name]},
                }
            ],
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {
                            "type": "object",
                            "required": ["action"],
                            "properties": {
                                "action": {"type": "string"},
                                "annotation": {"type": "object"},
                                "task": {"type": "object"},
                            },
                        }
                    }
                },
            },
            "responses": {
                "200": {"description": "It is kept.", "content": {"application/json": {"schema": answer}}},
                **{status: {"description": words, "content": error} for status, words in failures.items()},
            },
        }
    }
