"""The evaluator as a service: predictions in, metrics out; the test truths never leave it.

``POST /v1/evaluations`` judges predictions of a registered test set, ``GET /v1/evaluations/{id}`` tells the answer
again. What is told, and how often, is in ``components.evaluator.disclosure``.
"""

from __future__ import annotations

import functools
import json
import math
import re
import threading
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from components.evaluator.disclosure import Coin, disclosed, require_enough, secret_coin
from components.evaluator.evaluation import evaluate
from components.evaluator.ledger import Told
from components.evaluator.openapi import OPENAPI
from components.evaluator.testset import TestSet, find_test_set, read_test_set
from ninefold.clock import Clock, format_instant
from ninefold.errors import InvalidInput
from ninefold.keys import Keys
from ninefold.loading import load_use_case
from ninefold.records import derived_id
from ninefold.service import JSON, authenticated, read_json, service_app
from ninefold.settings import Settings

_FIELDS = {"use_case", "test_set", "version", "predictions"}
_USE_CASE = re.compile(r"[a-z][a-z0-9_]{0,40}")


def app(*, keys: Keys, clock: Clock, settings: Settings) -> Starlette:
    """The service.

    Args:
        keys: Who may ask.
        clock: Stamps evaluations.
        settings: Where test sets and evaluations lie, and how large a body may be.
    """
    told = Told(settings.folder("evaluations"))
    # Counting and telling are one step, or two requests at once would both have the last evaluation.
    one_at_a_time = threading.Lock()

    def judge(caller: str, body: Any) -> tuple[dict[str, Any], bool]:
        use_case, name, version, predictions = _checked(body)
        path = find_test_set(settings, use_case, name)
        test = _read(path, path.stat().st_mtime_ns)
        if test.weight is not None:
            raise InvalidInput(
                "test_set", f"{path.stem!r} has rows of unequal weight: rounding would not hide a heavy one's truth.",
                remedy="Have it judged by the organisation itself: ninefold run training",
            )  # fmt: skip
        _check_keys(predictions, test)
        require_enough(len(predictions), len(test))
        content = json.dumps(sorted(predictions.items()))
        evaluation_id = derived_id(caller, use_case, path.stem, str(path.stat().st_mtime_ns), str(version), content)
        with one_at_a_time:
            known = told.known(caller, use_case, path.stem, evaluation_id)
            if known is not None:
                return known, False
            left = told.require_left(caller, use_case, path.stem)
            answer = {
                "evaluation_id": evaluation_id,
                "test_set": path.stem,
                "evaluated_at": format_instant(clock.now()),
                **_evaluate(test, predictions, version, secret_coin(told.secret, content)),
                "evaluations_left": left - 1,
            }
            told.keep(caller, use_case, path.stem, evaluation_id, answer)
        return answer, True

    async def create(request: Request) -> Response:
        caller = authenticated(keys, request)
        body = await read_json(request, max_bytes=settings.serving.max_body_bytes)
        answer, new = await run_in_threadpool(judge, caller, body)
        location = f"/v1/evaluations/{answer['evaluation_id']}"
        return JSON(answer, status_code=201 if new else 200, headers={"Location": location})

    async def show(request: Request) -> Response:
        caller = authenticated(keys, request)
        return JSON(await run_in_threadpool(told.find, caller, request.path_params["evaluation_id"]))

    return service_app(
        routes=[
            Route("/v1/evaluations", create, methods=["POST"]),
            Route("/v1/evaluations/{evaluation_id}", show, methods=["GET"]),
        ],
        ready=lambda: None if len(keys) else "there are no API keys",
        openapi=OPENAPI,
    )


@functools.lru_cache(maxsize=4)
def _read(path: Path, _modified: int) -> TestSet:
    return read_test_set(str(path))


def _evaluate(test: TestSet, predictions: dict[str, float], version: int | None, coin: Coin) -> dict[str, Any]:
    use_case = load_use_case(test.card.signature.use_case)
    places, values = test.align(predictions)
    request = {name: column[places] for name, column in test.request.items()}
    truth, blocks = test.truth[places], test.blocks[places]
    evaluation = evaluate(use_case, request, truth, values, blocks=blocks, version=version, expected_rows=len(test))
    span = float(test.truth.min()), float(test.truth.max())
    return disclosed(use_case, evaluation, request, truth, values, span=span, coin=coin)


def _checked(body: Any) -> tuple[str, str | None, int | None, dict[str, float]]:
    """The body's use case, test set, version and predictions by key.

    Raises:
        InvalidInput: A field is unknown, missing or wrong; the message names it.
    """
    if not isinstance(body, dict):
        raise InvalidInput("body", "is not an object.", remedy=f"Send {', '.join(sorted(_FIELDS))}.")
    for name in sorted(set(body) - _FIELDS):
        raise InvalidInput(name[:60], "is not a field of this request.", remedy=f"Send {', '.join(sorted(_FIELDS))}.")
    use_case, test_set, version = body.get("use_case"), body.get("test_set"), body.get("version")
    if not isinstance(use_case, str) or not _USE_CASE.fullmatch(use_case):
        raise InvalidInput("use_case", "is not the name of a use case.", remedy="Send a name such as arrivals.")
    if test_set is not None and not isinstance(test_set, str):
        raise InvalidInput("test_set", "is not a name.", remedy="Send a name, or leave it out for the newest one.")
    if version is not None and (isinstance(version, bool) or not isinstance(version, int) or version < 0):
        raise InvalidInput("version", "is not a version.", remedy="Send a whole number from 0, or leave it out.")
    predictions = body.get("predictions")
    if not isinstance(predictions, list):
        raise InvalidInput("predictions", "is not a list.", remedy='Send [{"key": …, "prediction": …}, …].')
    found: dict[str, float] = {}
    for place, one in enumerate(predictions):
        where = f"predictions[{place}]"
        if not isinstance(one, dict) or set(one) != {"key", "prediction"}:
            raise InvalidInput(where, "is not a key with its prediction.", remedy='Send {"key": …, "prediction": …}.')
        key, value = one["key"], one["prediction"]
        if not isinstance(key, str):
            raise InvalidInput(
                f"{where}.key", "is not a string.", remedy="Send the values of its fields, joined by '|'."
            )
        if key in found:
            raise InvalidInput(f"{where}.key", f"{key[:60]!r} is there twice.", remedy="Send one prediction for a key.")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise InvalidInput(f"{where}.prediction", "is not a finite number.", remedy="Send a JSON number.")
        found[key] = float(value)
    return use_case, test_set, version, found


def _check_keys(predictions: dict[str, float], test: TestSet) -> None:
    known = set(test.keys)
    binary = test.card.signature.problem == "binary"
    for place, (key, value) in enumerate(predictions.items()):
        if key not in known:
            raise InvalidInput(f"predictions[{place}].key", f"{key[:60]!r} is not in the test set.")
        if binary and not 0 <= value <= 1:
            raise InvalidInput(
                f"predictions[{place}].prediction", f"{value:g} is no probability.", remedy="Send 0 to 1."
            )
